"""The leanest client in Python: prepared requests over some connections, one thread, no parsing but of lengths.

Its rate is nearly what the server itself can do.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from urllib.parse import urlsplit

CONNECTIONS = 16
READ_BYTES = 262_144
HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"\r\n0\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def request_bytes(method: str, url: str, headers: Mapping[str, str]) -> bytes:
    """Return a request without a body."""
    parts = urlsplit(url)
    length = {} if method == "GET" else {"Content-Length": "0"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, **length}.items())
    return f"{method} {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n{lines}\r\n".encode()


def is_complete(response: bytes | bytearray) -> bool:
    """Return True for a whole response, which has a length or is chunked."""
    head, separator, body = response.partition(HEAD_END)
    if not separator:
        return False
    length = LENGTH.search(head)
    return len(body) >= int(length[1]) if length else (b"\r\n" + body).endswith(LAST_CHUNK)


class Exchange:
    """One connection, which sends the next request as soon as the last one is answered."""

    def __init__(self, address: tuple[str, int], requests: Iterator[bytes]):
        self.socket, self.requests = socket.create_connection(address), requests
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.response = bytearray()

    def send_next(self) -> bool:
        """Send the next request; return False where none is left."""
        self.response.clear()
        request = next(self.requests, None)
        if request is not None:
            self.socket.sendall(request)
        return request is not None

    def receive(self) -> bool:
        """Read what has arrived; return True for a complete response. Raises RuntimeError for any status but 2xx."""
        data = self.socket.recv(READ_BYTES)
        self.response += data
        if not data or (len(self.response) > 9 and self.response[9:10] != b"2"):
            raise RuntimeError(bytes(self.response[:500]).decode(errors="replace"))
        return is_complete(self.response)


def send_all(url: str, requests: Sequence[bytes], connections: int = CONNECTIONS) -> float:
    """Send prepared requests to the host of `url`; return the seconds until all are answered.

    Raises RuntimeError for any status but 2xx.
    """
    parts = urlsplit(url)
    address, queue = (parts.hostname or "", parts.port or 80), iter(requests)
    start = time.perf_counter()
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for exchange in [Exchange(address, queue) for _ in range(connections)]:
            stack.callback(exchange.socket.close)
            if exchange.send_next():
                selector.register(exchange.socket, selectors.EVENT_READ, exchange)
        while selector.get_map():
            for key, _ in selector.select():
                if key.data.receive() and not key.data.send_next():
                    selector.unregister(key.fileobj)
    return time.perf_counter() - start
