"""A TCP proxy in front of the store that limits how fast it receives, for browsers that cannot do so themselves."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

CHUNK = 16_384


class SlowProxy:
    """Forwards connections to `endpoint`; all of them together send at most `rate` bytes per second (0: no limit)."""

    def __init__(self, endpoint: str) -> None:
        url = urlsplit(endpoint)
        self.target = (url.hostname, url.port)
        self.rate = 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self) -> SlowProxy:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self) -> None:
        """Forward each connection in both directions, until the listener is closed."""
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            # Small, so that the client does not believe that all has been sent.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * CHUNK)
            store = socket.create_connection(self.target)
            threading.Thread(target=self.forward, args=(client, store, True), daemon=True).start()
            threading.Thread(target=self.forward, args=(store, client, False), daemon=True).start()

    def forward(self, source: socket.socket, target: socket.socket, limited: bool) -> None:
        """Send what is received until one side closes."""
        try:
            while data := source.recv(CHUNK):
                if limited:
                    self.delay(len(data))
                target.sendall(data)
        except OSError:
            pass
        # Closed by whichever direction ends first: neither is of use without the other.
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def delay(self, size: int) -> None:
        """Wait for as long as `size` bytes take."""
        with self.lock:
            if self.rate:
                time.sleep(size / self.rate)
