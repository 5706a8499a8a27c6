"""A disk that is full: gunicorn on SQLite in a small tmpfs, filled up while tracks are registered."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import urllib3

from ..server import ROOT
from .stage import KEY, Kept, Stage, free_port, until

SIZE = "96m"
CLIENTS = 4
SECONDS = 4.0


class Result(dict[str, Any]):
    """What was found: counts by name."""


def fill_up(stage: Stage, folder: Path) -> Result | str:
    """Play it; what was found, or why it could not be played."""
    small = folder / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(small)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        return f"a tmpfs cannot be mounted here ({mounted.stderr.strip() or 'not root'})"
    try:
        return _play(stage, small)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def _play(stage: Stage, small: Path) -> Result:
    port, path = free_port(), small / "loadbay.db"
    env = {**stage.settings, "DATABASE_URL": f"sqlite:///{path}", "MAX_TRACKS_PER_SESSION": "1000000"}
    subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "prepare"], cwd=ROOT, env={**os.environ, **env}, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "wsgi:app"]
    kept = Kept("full-disk", command, env, stage.folder)
    kept.start()
    try:
        asking = Asking(f"http://127.0.0.1:{port}")
        if not until(asking.open_session, 20):
            raise SystemExit("The service on the small disk did not start.")
        asking.run("while there is room", SECONDS)
        filler = (small / "filler").open("wb")
        fill(filler)
        asking.run("full", SECONDS)
        filler.close()
        (small / "filler").unlink()
        time.sleep(0.5)
        asking.run("after", SECONDS)
    finally:
        kept.stop()
    with closing(sqlite3.connect(path)) as database:
        ids = {row[0] for row in database.execute("SELECT id FROM loadbay_track")}
        (whole,) = database.execute("PRAGMA integrity_check").fetchone()
    return Result(answers=asking.answers, lost=len(asking.acknowledged - ids), whole=whole == "ok")


def fill(filler: Any) -> None:
    """Write until there is no room left."""
    for size in (2**20, 2**12, 1):
        try:
            while True:
                os.write(filler.fileno(), b"." * size)
        except OSError:
            continue


class Asking:
    """Clients that register tracks as fast as they can."""

    def __init__(self, origin: str):
        self.origin, self.session_id = origin, ""
        self.pool = urllib3.PoolManager(maxsize=CLIENTS, retries=False, timeout=10.0)
        self.answers: Counter[tuple[str, str]] = Counter()
        self.acknowledged: set[str] = set()
        self.lock = threading.Lock()

    def post(self, path: str, payload: Any) -> tuple[int, Any]:
        """Ask once; the status and the answer, 0 where there was none."""
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        try:
            answer = self.pool.request("POST", self.origin + path, headers=headers, body=json.dumps(payload))
            return answer.status, json.loads(answer.data)
        except (urllib3.exceptions.HTTPError, ValueError) as e:
            return 0, {"code": type(e).__name__}

    def open_session(self) -> bool:
        """Open the session that all tracks go to; whether it worked."""
        status, told = self.post("/v1/upload_session", {"collection_id": str(uuid4())})
        self.session_id = told.get("upload_session_id", "")
        return status == 200

    def run(self, phase: str, seconds: float) -> None:
        """Let all clients ask for so long."""
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._ask, args=(phase, end)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _ask(self, phase: str, end: float) -> None:
        while time.monotonic() < end:
            payload = {"file_name": "track-1.mp3", "metadata": {"padding": "." * 2000}}
            status, told = self.post(f"/v1/upload/{self.session_id}/track", payload)
            with self.lock:
                self.answers[phase, "200" if status == 200 else f"{status} {told.get('code')}"] += 1
                if status == 200:
                    self.acknowledged.add(told["track_id"])
            if status != 200:
                time.sleep(0.02)
