"""A full disk: gunicorn on SQLite in a small tmpfs, which is filled while tracks are registered."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import uuid4

import urllib3

from dev.store import free_port
from storage.db.models import Track

from .deployment import API_KEY, Deployment, SupervisedProcess, gunicorn_command, run_flask, wait_until

SIZE = "96m"
CLIENTS = 4
SECONDS = 4.0


class Result(NamedTuple):
    """Responses by phase, acknowledged tracks without a row, and the outcome of the file's integrity check."""

    responses: Counter[tuple[str, str]]
    lost: int
    intact: bool


def run(deployment: Deployment, folder: Path) -> Result | str:
    """Fill the disk under load; return the result, or a sentence if a tmpfs cannot be mounted."""
    mount_point = folder / "small"
    mount_point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(mount_point)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        return f"a tmpfs cannot be mounted ({mounted.stderr.strip() or 'not root'})"
    try:
        return _run(deployment, mount_point)
    finally:
        subprocess.run(["umount", "-l", str(mount_point)], check=False)


def _run(deployment: Deployment, mount_point: Path) -> Result:
    port, path = free_port(), mount_point / "loadbay.db"
    env = {**deployment.settings, "DATABASE_URL": f"sqlite:///{path}", "MAX_TRACKS_PER_SESSION": "1000000"}
    run_flask(env, "prepare")
    process = SupervisedProcess("full-disk", gunicorn_command(f"127.0.0.1:{port}"), env, deployment.folder)
    process.start()
    load = TrackLoad(f"http://127.0.0.1:{port}")
    try:
        if not wait_until(load.open_session, 20):
            raise SystemExit("The service on the small disk did not start.")
        load.run("before", SECONDS)
        filler = mount_point / "filler"
        with filler.open("wb") as file:
            fill(file)
            load.run("full", SECONDS)
        filler.unlink()
        time.sleep(0.5)
        load.run("after", SECONDS)
    finally:
        process.stop()
    with closing(sqlite3.connect(path)) as database:
        ids = {row[0] for row in database.execute(f"SELECT id FROM {Track._meta.table_name}")}
        (check,) = database.execute("PRAGMA integrity_check").fetchone()
    return Result(load.responses, len(load.acknowledged - ids), check == "ok")


def fill(file: BinaryIO) -> None:
    """Write to the file until the disk is full."""
    for size in (2**20, 2**12, 1):
        try:
            while True:
                os.write(file.fileno(), b"." * size)
        except OSError:
            continue


class TrackLoad:
    """Clients that register tracks as fast as they can."""

    def __init__(self, origin: str):
        self.origin, self.session_id = origin, ""
        self.pool = urllib3.PoolManager(maxsize=CLIENTS, retries=False, timeout=10.0)
        self.responses: Counter[tuple[str, str]] = Counter()
        self.acknowledged: set[str] = set()
        self.lock = threading.Lock()

    def post(self, path: str, payload: Any) -> tuple[int, Any]:
        """Send one request; return the status and the JSON of the response, or 0 and the exception's name."""
        headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
        try:
            response = self.pool.request("POST", self.origin + path, headers=headers, body=json.dumps(payload))
            return response.status, json.loads(response.data)
        except (urllib3.exceptions.HTTPError, ValueError) as e:
            return 0, {"code": type(e).__name__}

    def open_session(self) -> bool:
        """Open the session for all tracks; return True on success."""
        status, content = self.post("/v1/upload_session", {"collection_id": str(uuid4())})
        self.session_id = content.get("upload_session_id", "")
        return status == 200

    def run(self, phase: str, seconds: float) -> None:
        """Run all clients for so long."""
        deadline = time.monotonic() + seconds
        threads = [threading.Thread(target=self._register_tracks, args=(phase, deadline)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _register_tracks(self, phase: str, deadline: float) -> None:
        payload = {"file_name": "track-1.mp3", "metadata": {"padding": "." * 2000}}
        while time.monotonic() < deadline:
            status, content = self.post(f"/v1/upload/{self.session_id}/track", payload)
            outcome = "200" if status == 200 else f"{status} {content.get('code')}"
            with self.lock:
                self.responses[phase, outcome] += 1
                if status == 200:
                    self.acknowledged.add(content["track_id"])
            if status != 200:
                time.sleep(0.02)
