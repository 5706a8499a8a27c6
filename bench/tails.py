"""Tails: the slowest responses at half of the highest rate, while sweeps, webhooks and verification run.

`flask worker` does these: a client uploads small files all the time, which it notices and verifies, and whose events it
delivers; and every few seconds some sessions with pending tracks are over, and it sweeps them.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from storage.uploads.staging import LATE_UPLOAD_GRACE

from .load import run_load
from .pacing import Paced, pace
from .peers.sending import Connection
from .peers.servers import Loadbay, new_store
from .priorities import yield_core, yield_cores
from .server import COLLECTION, ROOT, SESSION, TRACK
from .soak.receiver import Receiver
from .verification.pending import upload_share, uploaded_count

ENDPOINTS = {
    "track": ("POST /v1/upload/:id/track", "/v1/upload/{}/track", TRACK),
    "session": ("POST /v1/upload_session", "/v1/upload_session", SESSION),
    "read": ("GET /v1/upload_session/:id", "/v1/upload_session/{}", None),
}
HIGHEST_SECONDS = 5
"""Seconds in which the highest rate is measured."""
RATIO_TARGET, WORST_TARGET = 4.0, 0.25
"""The greatest p99 as a multiple of p50, and the slowest response in seconds."""
UPLOADS_PER_SECOND = 20
SWEEP_SECONDS, SWEPT_SESSIONS, SWEPT_TRACKS = 10, 20, 10
"""Every so many seconds, so many sessions with so many pending tracks are due for a sweep."""
WEBHOOK_SECRET = "whsec_c2VjcmV0IG9mIHRoZSB3ZWJob29rIG9mIGEgYmVuY2g="
SWEPT = "to-be-swept"
"""The organization_index of these sessions."""
WORKER_START_SECONDS = 5
Report = Callable[[str], None]


class Work(NamedTuple):
    """Work of the worker: tracks verified, events delivered, sessions swept."""

    verified: int
    events: int
    swept: int


class Line(NamedTuple):
    """A line of the table: the rate that was offered, what came of it, and the worker's work meanwhile."""

    title: str
    rate: float
    paced: Paced
    work: Work | None


class Background:
    """`flask worker` and its work, for the length of a `with` block; `done` is what was done in it."""

    def __init__(self, server: Any, receiver: Receiver):
        self.server, self.receiver = server, receiver
        self.stopped, self.done = threading.Event(), Work(0, 0, 0)
        tasks = (1.0, self._upload), (float(SWEEP_SECONDS), self._make_due)
        self.threads = [threading.Thread(target=self._repeat, args=task, daemon=True) for task in tasks]

    def __enter__(self) -> Background:
        self.url = f"{self.server.origin}/v1/upload/{self.server.open_session()}"
        self.before = self._count()
        command = [sys.executable, "-m", "flask", "--app", "app", "worker"]
        self.worker = subprocess.Popen(
            command, cwd=ROOT, env=self.server.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(WORKER_START_SECONDS)
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        self.worker.terminate()
        self.worker.wait()
        self.done = Work(*(after - before for before, after in zip(self.before, self._count(), strict=True)))

    def _count(self) -> Work:
        with closing(sqlite3.connect(self.server.path, timeout=30)) as database:
            statement = (
                "SELECT count(*) FROM loadbay_upload_session WHERE organization_index = ? AND swept_at IS NOT NULL"
            )
            swept = database.execute(statement, (SWEPT,)).fetchone()[0]
        return Work(uploaded_count(self.server.path), self.receiver.events, swept)

    def _repeat(self, interval: float, task: Callable[[], None]) -> None:
        yield_core(threading.get_native_id())
        while not self.stopped.wait(interval):
            task()

    def _upload(self) -> None:
        """Upload some files, which nothing but the worker verifies."""
        for write_once in (True, False):
            upload_share(self.url, UPLOADS_PER_SECOND // 2, write_once)

    def _make_due(self) -> None:
        """Let some sessions be over, and a sweep be due."""
        over = int(time.time()) - LATE_UPLOAD_GRACE - 60
        some = "SELECT id FROM loadbay_upload_session WHERE organization_index = ? AND expires_at > ? LIMIT ?"
        with closing(sqlite3.connect(self.server.path, timeout=30)) as database, database:
            database.execute(
                f"UPDATE loadbay_upload_session SET expires_at = ?, urls_expire_at = ? WHERE id IN ({some})",
                (over, over, SWEPT, over, SWEPT_SESSIONS),
            )
            database.execute("UPDATE loadbay_job SET due_at = 0 WHERE name = 'sweep'")


def open_swept_sessions(origin: str, count: int) -> None:
    """Open the sessions that will be swept, with tracks that nobody uploads."""
    connection = Connection()
    tracks = {"tracks": [json.loads(TRACK)] * SWEPT_TRACKS}
    for _ in range(count):
        payload = {"collection_id": COLLECTION, "organization_index": SWEPT}
        session = connection.json("POST", f"{origin}/v1/upload_session", payload)
        connection.json("POST", f"{origin}/v1/upload/{session['upload_session_id']}/tracks", tracks)


def measure(folder: Path, seconds: int, report: Report) -> Iterator[Line]:
    """Measure each endpoint with nothing beside it, and with everything."""
    with new_store(folder) as store, closing(Receiver()) as receiver:
        yield_cores(store.process.pid)
        yield_core(receiver.native_id)
        webhook = {"WEBHOOK_URL": receiver.url, "WEBHOOK_SECRET": WEBHOOK_SECRET, "WEBHOOK_ALLOW_PRIVATE": "1"}
        with Loadbay(folder, store, {**webhook, "SWEEP_INTERVAL": "3600"}) as server:
            sweeps = len(ENDPOINTS) * (seconds // SWEEP_SECONDS + 1)
            open_swept_sessions(server.origin, sweeps * SWEPT_SESSIONS)
            for title, path, body in ENDPOINTS.values():
                report(title)
                url = server.origin + path.format(server.session_id)
                highest = run_load(url, body, HIGHEST_SECONDS).rate
                quiet = pace(url, body, highest / 2, seconds)
                yield Line(f"{title}, alone", highest / 2, quiet, None)
                with Background(server, receiver) as background:
                    paced = pace(url, body, highest / 2, seconds)
                yield Line(title, highest / 2, paced, background.done)


def print_table(lines: Iterable[Line]) -> bool:
    """Print the lines; return True if all targets are met."""
    rows, all_met = list(lines), True
    print(
        f"\n{'milliseconds at half of the highest rate':<42}{'p50':>8}{'p99':>8}{'worst':>8}{'p99/p50':>9}{'late':>7}"
    )
    for line in rows:
        paced, outcome = line.paced, ""
        ratio, worst = paced.percentile(0.99) / paced.percentile(0.5), paced.latencies[-1]
        if line.work is not None:
            met = ratio < RATIO_TARGET and worst <= WORST_TARGET and not paced.failed
            all_met &= met
            outcome = "  met" if met else "  missed"
        times = "".join(f"{1000 * value:>8.1f}" for value in (paced.percentile(0.5), paced.percentile(0.99), worst))
        print(f"{line.title:<42}{times}{ratio:>9.1f}{1000 * paced.late:>7.1f}{outcome}{describe(line)}")
    print(f"targets: p99 / p50 < {RATIO_TARGET:g}, worst <= {1000 * WORST_TARGET:g}. late: the generator's own delay")
    return all_met


def describe(line: Line) -> str:
    """Return what went on meanwhile, and what failed."""
    failed = f", {line.paced.failed} failed" if line.paced.failed else ""
    if line.work is None:
        return f"  {len(line.paced.latencies):,} responses{failed}"
    work = line.work
    return (
        f"  {len(line.paced.latencies):,} responses{failed}; {work.verified:,} tracks verified, "
        f"{work.events:,} events delivered, {work.swept:,} sessions swept"
    )
