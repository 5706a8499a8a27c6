"""HTTP/1.1 over persistent connections, for requests without a body whose responses are small.

Verification sends one or two of them for each track. Measured by `python -m bench --only verify` on 2026-11-27
(2 cores, shared with other work): a read takes 0.48 ms of CPU time with it and 1.04 with urllib3, a saving of 55%
(49-57%).

Every part of a response is bounded here. Leans on no private names.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httptools
import urllib3
from urllib3.exceptions import ProtocolError, ReadTimeoutError
from urllib3.util import wait_for_read

from storage.http.tls import tls_context

MAX_IDLE = 64
"""Connections that are kept for later requests, as many as storage/s3/parallel.py uses at once."""

MAX_HEAD_BYTES = MAX_DOCUMENT_BYTES = 65_536
"""Bytes of a response's headers, and of the document that describes an error."""
RECEIVED_BYTES = 73_728
"""Bytes that are received at once: the first 64 KiB of a file, as they are inspected, with the headers before them."""

MIN_BYTES_PER_SECOND = 8192
"""Pace of the slowest store that is waited for. The read timeout is that of each wait for the next bytes."""

COMMON_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "Loadbay"}
Connections = defaultdict[tuple[int, str], deque[socket.socket]]
"""Connections that are not in use, by process and origin of URLs."""

FRAMING = ("content-length", "transfer-encoding")


class Headers(dict[str, str]):
    """Headers by name in lower case, which `get` and `in` accept in any case."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a header."""
        return super().get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())


class Response(NamedTuple):
    """A response, with the part of `urllib3.BaseHTTPResponse` that its readers use."""

    status: int
    headers: Headers
    data: bytes

    def read(self, count: int) -> bytes:
        """Return the first `count` bytes of the body."""
        return self.data[:count]

    @property
    def closed(self) -> bool:
        """True: nothing is left to be received."""
        return True

    def close(self) -> None:
        """Do nothing: the connection is closed, or kept, already."""

    def release_conn(self) -> None:
        """Do nothing."""


class NoAnswer(Exception):
    """The connection ended before the response did, or the response is not HTTP."""


def _close_all(idle: Connections) -> None:
    for connections in idle.values():
        while connections:
            connections.pop().close()


class Exchanges:
    """Sends requests to the store, and keeps connections to it. Safe to share between threads."""

    def __init__(self) -> None:
        self._idle: Connections = defaultdict(deque)
        weakref.finalize(self, _close_all, self._idle)

    def send(self, method: str, url: str, headers: Mapping[str, str], timeout: urllib3.Timeout, limit: int) -> Response:
        """Send a request without a body; return the response, with the first `limit` bytes of its body.

        Raises OSError where no connection is made, ReadTimeoutError and ProtocolError where no answer arrives, and
        ValueError for one that HTTP does not allow.
        """
        start = url.index("/", len("https://"))
        origin, target = url[:start], url[start:]
        connection = self._take(origin) or _connect(origin, timeout)
        try:
            # Setting a timeout is a system call.
            if connection.gettimeout() != timeout.read_timeout:
                connection.settimeout(timeout.read_timeout)
            connection.sendall(_request(method, origin, target, headers))
            answer = _receive(connection, method, limit, float(timeout.read_timeout or 0))
        except TimeoutError as e:
            connection.close()
            raise ReadTimeoutError(None, "", "the store did not answer in time") from e  # type: ignore[arg-type]
        except (OSError, NoAnswer) as e:
            connection.close()
            raise ProtocolError("the connection ended, or the response is not HTTP") from e
        except BaseException:
            connection.close()
            raise
        self._keep(origin, connection, answer)
        return answer.response()

    def clear(self) -> None:
        """Close the idle connections."""
        _close_all(self._idle)

    def _take(self, origin: str) -> socket.socket | None:
        """Return the idle connection that was used last, if it is still open; None if there is none."""
        connections = self._idle_connections(origin)
        while True:
            try:
                connection = connections.pop()
            except IndexError:
                return None
            # If there is something to read, the store has closed it, or has sent what nobody asked for.
            if not wait_for_read(connection, 0):
                return connection
            connection.close()

    def _idle_connections(self, origin: str) -> deque[socket.socket]:
        """Return the idle connections of this process: a forked process must not use those of its parent."""
        return self._idle[os.getpid(), origin]

    def _keep(self, origin: str, connection: socket.socket, answer: _Answer) -> None:
        # What OpenSSL has received already is not seen on the socket.
        has_rest = isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
        idle = self._idle_connections(origin)
        if answer.allows_reuse and not has_rest and len(idle) < MAX_IDLE:
            idle.append(connection)
        else:
            connection.close()


class _Answer:
    """A response as httptools reports it, call by call. Of several, as after `103 Early Hints`, the last one counts."""

    def __init__(self, has_body: bool, limit: int):
        self.limit = limit
        self.parser = httptools.HttpResponseParser(self)
        self.has_body = has_body
        self.headers: list[tuple[str, str]] = []
        self.chunks: list[bytes] = []
        self.received = self.size = self.status = 0
        self.is_framed = self.is_complete = self.is_at_end = self.is_last = self.has_rest = False

    def on_message_begin(self) -> None:
        """Start a response."""
        self.has_rest = self.is_complete
        self.headers, self.status = [], 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header."""
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Note the status, and how the end of the body is told."""
        self.status = self.parser.get_status_code()
        self.is_framed = any(name in FRAMING for name, _ in self.headers)
        if not self.has_body:
            self.on_message_complete()

    def on_body(self, chunk: bytes) -> None:
        """Add a part of the body."""
        self.has_rest = self.has_rest or not self.has_body
        self.chunks.append(chunk)
        self.size += len(chunk)

    def on_message_complete(self) -> None:
        """End a response."""
        self.is_complete, self.is_last = self.status >= 200, not self.parser.should_keep_alive()

    @property
    def bound(self) -> int:
        """The bytes of the body that are of use: those that were asked for, or an error's document."""
        return self.limit if self.status < 300 else MAX_DOCUMENT_BYTES

    @property
    def is_enough(self) -> bool:
        """True once all bytes of use have arrived, or no more will."""
        return self.is_complete or self.is_at_end or (self.status >= 200 and self.size >= self.bound)

    @property
    def allows_reuse(self) -> bool:
        """True if nothing of the answer is left on the connection, and the store keeps it open."""
        return self.is_complete and not self.has_rest and not self.is_last

    def response(self) -> Response:
        """Return the response, with as much of its body as is of use."""
        headers: dict[str, str] = {}
        for name, value in self.headers:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Response(self.status, Headers(headers), b"".join(self.chunks)[: self.bound] if self.has_body else b"")


def _receive_more(connection: socket.socket, answer: _Answer) -> None:
    data = connection.recv(RECEIVED_BYTES)
    answer.received += len(data)
    if data:
        answer.parser.feed_data(data)
        if answer.status < 200 and answer.received > MAX_HEAD_BYTES:
            raise ValueError("the headers are too long")
    elif answer.status < 200 or answer.is_framed:
        raise NoAnswer
    else:
        answer.is_at_end = True


def _receive(connection: socket.socket, method: str, limit: int, timeout: float) -> _Answer:
    """Return the answer, complete or with `limit` bytes. Raises OSError, TimeoutError, NoAnswer, ValueError."""
    answer, deadline = _Answer(method != "HEAD", limit), time.monotonic() + timeout + limit / MIN_BYTES_PER_SECOND
    try:
        while not answer.is_enough:
            if time.monotonic() > deadline:
                raise TimeoutError
            _receive_more(connection, answer)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as e:
        # Without a status it may be anything that listens on the port.
        raise ValueError("the answer is not HTTP") if answer.parser.get_status_code() else NoAnswer from e
    finally:
        # The parser refers to the answer: without a reference cycle its memory is freed at once.
        del answer.parser
    return answer


def _request(method: str, origin: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Return a request without a body (RFC 9112). Raises ValueError for a header that would end its line."""
    lines = {"Host": origin.partition("://")[2], **COMMON_HEADERS, **headers}
    if method in ("PUT", "POST"):
        lines["Content-Length"] = "0"
    text = "\r\n".join([f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())])
    if max(text.count("\r"), text.count("\n")) > len(lines):
        raise ValueError("a header has a line break")
    return f"{text}\r\n\r\n".encode("latin-1")


def _connect(origin: str, timeout: urllib3.Timeout) -> socket.socket:
    """Return a new connection to `origin`, such as `https://s3.example.com`. Raises OSError."""
    is_tls, host, port = _address(origin)
    connection = socket.create_connection((host, port), timeout.connect_timeout)  # type: ignore[arg-type]
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tls_context().wrap_socket(connection, server_hostname=host) if is_tls else connection
    except BaseException:
        connection.close()
        raise


@lru_cache(maxsize=16)
def _address(origin: str) -> tuple[bool, str, int]:
    parts = urlsplit(origin)
    return parts.scheme == "https", parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
