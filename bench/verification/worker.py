"""The rate of a worker that notices uploads, against that of a bare client that asks the store for the same."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ..peers import alone
from ..peers.servers import Loadbay, new_store
from ..server import ROOT
from .bare_client import request_bytes, send_all
from .pending import Upload, session_url, upload, uploaded_count

WORKER_TIMEOUT = 600


def measure(folder: Path, rounds: int, pending: int, report: Callable[[str], None]) -> tuple[list[float], list[float]]:
    """Measure the rate at which `flask worker` verifies what it notices, half of it write-once.

    Return it as a share of the bare client's rate, and in tracks per second, round by round.
    """
    shares, rates = [], []
    for number in range(rounds):
        report(f"{pending:,} pending objects, round {number + 1} of {rounds}")
        with new_store(folder) as store, Loadbay(folder, store) as server:
            half = pending // 2
            once = upload(session_url(server), half, write_once=True)
            plain = upload(session_url(server), pending - half, write_once=False)
            client_rate = pending / send_all(store.endpoint, bare_requests(alone.signer(store), once, plain))
            rates.append(worker_rate(server, pending))
            shares.append(rates[-1] / client_rate)
            report(f"  worker: {rates[-1]:,.0f} tracks per second, bare client: {client_rate:,.0f}")
    return shares, rates


def bare_requests(signer: alone.Signer, once: Sequence[Upload], plain: Sequence[Upload]) -> list[bytes]:
    """Return the ranged reads and copies that the verification of these objects takes."""
    requests = []
    for number, (key, is_copied) in enumerate(
        [*((one.key, True) for one in plain), *((one.key, False) for one in once)]
    ):
        requests.append(request_bytes("GET", signer.url("GET", key), alone.INSPECTED))
        if is_copied:
            headers = alone.copy_headers(signer, key)
            url = signer.url("PUT", alone.final_key(number), headers)
            requests.append(request_bytes("PUT", url, headers))
    return requests


def worker_rate(server: Any, count: int) -> float:
    """Run `flask worker` until all tracks are uploaded; return its rate from the moment at which it begins to poll."""
    command = [sys.executable, "-m", "flask", "--app", "app", "worker"]
    process = subprocess.Popen(command, cwd=ROOT, env=server.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        start = _wait_until(lambda: has_polled(server.path))
        end = _wait_until(lambda: uploaded_count(server.path) >= count)
    finally:
        process.terminate()
        process.wait()
    return count / (end - start)


def has_polled(path: Path) -> bool:
    """Return True once a worker has claimed the job that looks for uploads."""
    with closing(sqlite3.connect(path, timeout=30)) as database:
        return database.execute("SELECT 1 FROM loadbay_job WHERE name = 'poll'").fetchone() is not None


def _wait_until(condition: Callable[[], bool]) -> float:
    """Return the time at which the condition holds. Exits after WORKER_TIMEOUT."""
    deadline = time.monotonic() + WORKER_TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("The worker has not verified all tracks in time.")
        time.sleep(0.02)
    return time.monotonic()
