"""Generate load with `wrk` where it is installed, else, and for an exact number of requests, with Python processes."""

from __future__ import annotations

import multiprocessing
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

CONNECTIONS = 16
WRK = shutil.which("wrk")
LOAD_GENERATOR = WRK or "Python processes"


class Result(NamedTuple):
    """The outcome of a load: responses of status 200, all other outcomes, and the duration in seconds."""

    responses: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Responses of status 200 per second."""
        return self.responses / self.seconds


def run_load(url: str, body: str | None, seconds: float, headers: Mapping[str, str] = MappingProxyType({})) -> Result:
    """Send requests for some `seconds`, each as soon as the last is answered: POST with a JSON `body`, else GET.

    `headers` are sent by wrk only.
    """
    if WRK is None:
        return _run_processes(url, body, seconds, [10**9] * CONNECTIONS)
    script = str(Path(__file__).with_name("wrk.lua"))
    command = [WRK, "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}", "-s", script]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    command += [url, "--", *([] if body is None else [body])]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    responses, failed, microseconds = map(int, output.rpartition("BENCH ")[2].split())
    return Result(responses, failed, microseconds / 1e6)


def send_requests(url: str, body: str | None, count: int) -> Result:
    """Send exactly `count` requests."""
    share, rest = divmod(count, CONNECTIONS)
    return _run_processes(url, body, 1e9, [share + (number < rest) for number in range(CONNECTIONS)])


def _run_processes(url: str, body: str | None, seconds: float, counts: list[int]) -> Result:
    start = time.monotonic()
    with multiprocessing.Pool(len(counts)) as pool:
        tallies = pool.starmap(_send, [(url, body, start + seconds, count) for count in counts], chunksize=1)
    responses, failed = map(sum, zip(*tallies, strict=True))
    return Result(responses, failed, time.monotonic() - start)


def _send(url: str, body: str | None, deadline: float, count: int) -> tuple[int, int]:
    """Send up to `count` requests until `deadline`, each on a connection of its own, as our workers close them.
    Raw sockets cost half of the CPU time of http.client.
    """
    parts = urlsplit(url)
    head = f"{'GET' if body is None else 'POST'} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    request = f"{head}\r\n{body or ''}".encode()
    responses = failed = 0
    while responses + failed < count and time.monotonic() < deadline:
        with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
            connection.sendall(request)
            response = b"".join(_chunks(connection))
        if response.startswith(b"HTTP/1.1 200 "):
            responses += 1
        else:
            failed += 1
    return responses, failed


def _chunks(connection: socket.socket) -> Iterator[bytes]:
    while chunk := connection.recv(65536):
        yield chunk
