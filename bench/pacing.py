"""An open loop: requests at an even pace, whatever becomes of the ones before, as those of many clients come.

A latency counts from the moment at which a request is due: one that waits for others is slow, and is not left out.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import selectors
import socket
import time
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

READ_BYTES = 65_536
LAST_SECONDS = 30.0
"""Time for the responses that are missing at the end."""
PRIORITY = -10
"""That of the generator, where it may have it: its own delays would look like the service's."""


class Paced(NamedTuple):
    """The seconds that each response of status 200 took, sorted; all other outcomes; the generator's own delay."""

    latencies: list[float]
    failed: int
    late: float

    def percentile(self, share: float) -> float:
        """Return the latency that this share of the responses did not exceed."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))]


class Loop:
    """The connections of one run."""

    def __init__(self, url: str, body: str | None):
        parts = urlsplit(url)
        self.address = parts.hostname or "", parts.port or 80
        head = f"{'GET' if body is None else 'POST'} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.request = f"{head}\r\n{body or ''}".encode()
        self.selector = selectors.DefaultSelector()
        self.latencies: list[float] = []
        self.failed, self.late = 0, 0.0

    def run(self, rate: float, seconds: float) -> None:
        """Send `rate` requests per second."""
        start, sent, count = time.monotonic() + 0.1, 0, int(rate * seconds)
        while sent < count:
            due = start + sent / rate
            if (left := due - time.monotonic()) <= 0:
                self._send(due)
                sent += 1
                left = 0
            self._receive(left)
        deadline = time.monotonic() + LAST_SECONDS
        while self.selector.get_map() and time.monotonic() < deadline:
            self._receive(0.1)
        self.failed += len(self.selector.get_map() or ())

    def _send(self, due: float) -> None:
        """Send a request on a connection of its own, as gunicorn's workers close them."""
        self.late = max(self.late, time.monotonic() - due)
        connection = socket.create_connection(self.address, timeout=LAST_SECONDS)
        connection.sendall(self.request)
        connection.setblocking(False)
        self.selector.register(connection, selectors.EVENT_READ, [due, b""])

    def _receive(self, timeout: float) -> None:
        for key, _ in self.selector.select(timeout):
            data = key.fileobj.recv(READ_BYTES)  # type: ignore[union-attr]
            if data:
                key.data[1] = key.data[1] or data[:16]
                continue
            if key.data[1].startswith(b"HTTP/1.1 200 "):
                self.latencies.append(time.monotonic() - key.data[0])
            else:
                self.failed += 1
            self.selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]


def pace(url: str, body: str | None, rate: float, seconds: float) -> Paced:
    """Send `rate` requests per second from a process of its own: POST with a JSON `body`, else GET."""
    with multiprocessing.Pool(1) as pool:
        return pool.apply(_pace, (url, body, rate, seconds))


def _pace(url: str, body: str | None, rate: float, seconds: float) -> Paced:
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    gc.disable()
    loop = Loop(url, body)
    loop.run(rate, seconds)
    return Paced(sorted(loop.latencies), loop.failed, loop.late)
