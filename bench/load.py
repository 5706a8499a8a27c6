"""Who asks: `wrk` where it is installed, else (and where requests are counted out) processes of our own."""

from __future__ import annotations

import multiprocessing
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

CONNECTIONS = 16
WRK = shutil.which("wrk")


class Result(NamedTuple):
    """What came back: answers with status 200, anything else, and how long it took."""

    answers: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


def drive(url: str, body: str | None, seconds: float, headers: Mapping[str, str] = MappingProxyType({})) -> Result:
    """Ask as fast as it answers, for some `seconds`: POST where there is a `body` of JSON, else GET.

    Other `headers` only wrk sends.
    """
    if WRK is None:
        return _spread(url, body, seconds, [10**9] * CONNECTIONS)
    script = str(Path(__file__).with_name("wrk.lua"))
    command = [WRK, "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}", "-s", script]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    command += [url, "--", *([] if body is None else [body])]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answers, failed, microseconds = map(int, told.rpartition("BENCH ")[2].split())
    return Result(answers, failed, microseconds / 1e6)


def count_out(url: str, body: str | None, requests: int) -> Result:
    """Ask exactly so many times."""
    share, rest = divmod(requests, CONNECTIONS)
    return _spread(url, body, 1e9, [share + (n < rest) for n in range(CONNECTIONS)])


def _spread(url: str, body: str | None, seconds: float, shares: list[int]) -> Result:
    begin = time.monotonic()
    with multiprocessing.Pool(len(shares)) as pool:
        done = pool.starmap(_ask, [(url, body, begin + seconds, share) for share in shares], chunksize=1)
    answers, failed = map(sum, zip(*done, strict=True))
    return Result(answers, failed, time.monotonic() - begin)


def _ask(url: str, body: str | None, deadline: float, most: int) -> tuple[int, int]:
    """One connection after the other, as gunicorn's sync workers close each. Sockets cost half of http.client."""
    parts = urlsplit(url)
    head = f"{'GET' if body is None else 'POST'} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    request = f"{head}\r\n{body or ''}".encode()
    answers = failed = 0
    while answers + failed < most and time.monotonic() < deadline:
        with socket.create_connection((parts.hostname, parts.port), timeout=30) as s:
            s.sendall(request)
            answer = b"".join(iter(lambda s=s: s.recv(65536), b""))
        if answer.startswith(b"HTTP/1.1 200 "):
            answers += 1
        else:
            failed += 1
    return answers, failed
