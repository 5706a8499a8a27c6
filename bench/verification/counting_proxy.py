"""A TCP proxy that counts the requests in flight, each of which it delays as a network does."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

READ_BYTES = 262_144


class CountingProxy:
    """A proxy on a free port, for the length of a `with` block.

    A request is in flight from its first bytes to the first bytes of its response. `peak` is the greatest number, and
    `mean` the average over the time in which there was any.
    """

    def __init__(self, target: str, delay: float):
        """Forward to the host of the URL `target`; each request is held up for `delay` seconds."""
        parts = urlsplit(target)
        self.target, self.delay = (parts.hostname or "", parts.port or 80), delay
        self.lock = threading.Lock()
        self.reset()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def reset(self) -> None:
        """Begin to count."""
        with self.lock:
            self.requests = self.in_flight = self.peak = 0
            self.busy_seconds = self.weighted = 0.0
            self.changed = time.monotonic()

    @property
    def mean(self) -> float:
        """The average number of requests in flight while there was any."""
        return self.weighted / self.busy_seconds if self.busy_seconds else 0.0

    def __enter__(self) -> CountingProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _count(self, change: int) -> None:
        with self.lock:
            now = time.monotonic()
            if self.in_flight:
                self.busy_seconds += now - self.changed
                self.weighted += (now - self.changed) * self.in_flight
            self.changed, self.in_flight = now, self.in_flight + change
            self.requests += change > 0
            self.peak = max(self.peak, self.in_flight)

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.target) as server, selectors.DefaultSelector() as selector:
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(side, selectors.EVENT_READ)
            waiting = False
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(READ_BYTES)  # type: ignore[union-attr]
                    if not data:
                        if waiting:
                            self._count(-1)
                        return
                    if key.fileobj is client and not waiting:
                        self._count(1)
                        waiting = True
                        time.sleep(self.delay)
                    elif key.fileobj is server and waiting:
                        self._count(-1)
                        waiting = False
                    (server if key.fileobj is client else client).sendall(data)
