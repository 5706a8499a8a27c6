"""Who answers: gunicorn with two workers, around the bare view or around the service."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen
from uuid import uuid4

from dev.store import free_port
from storage.db.connection import open_database
from storage.db.migrate import migrate

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {
    # Nothing listens there: signing makes no network call.
    "S3_ENDPOINT": "http://127.0.0.1:9",
    "S3_BUCKET": "tracks",
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench-secret",
    "ALLOW_ANONYMOUS": "1",
    "MAX_TRACKS_PER_SESSION": "10000000",
}
COLLECTION = "123e4567-e89b-12d3-a456-426614174000"
SESSION = json.dumps({"collection_id": COLLECTION, "metadata": {"batch_name": "Summer 2024 Collection"}})
TRACK = json.dumps({"file_name": "track-1.mp3", "metadata": {"track_number": 1, "title": "First Track"}})


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processor so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """One gunicorn for as long as the `with` block lasts."""

    def __init__(self, application: str, env: dict[str, str] | None = None):
        self.application = application
        self.env = {**os.environ, **(env or {})}
        self.origin = ""

    def __enter__(self) -> Any:
        port = free_port()
        self.origin = f"http://127.0.0.1:{port}"
        # What a log of requests costs is its making and its writing, not somebody's reading.
        log = subprocess.DEVNULL if self.env.get("LOG_REQUESTS") else None
        self.process = subprocess.Popen(self.command(port), cwd=ROOT, env=self.env, stderr=log)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urlopen(f"{self.origin}/healthz", timeout=5).close()
                break
            except URLError as e:
                # An answer of any status will do.
                if hasattr(e, "code"):
                    break
                time.sleep(0.05)
        else:
            self.process.kill()
            raise SystemExit(f"{self.application} did not start.")
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait()

    def command(self, port: int) -> list[str]:
        """The command line that runs it."""
        config = str(Path(__file__).with_name("gunicorn_conf.py"))
        return [sys.executable, "-m", "gunicorn", "-c", config, "-b", f"127.0.0.1:{port}", self.application]

    def workers(self) -> list[int]:
        """The ids of the worker processes."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def cpu_seconds(self) -> float:
        """What the workers have used of the processor so far."""
        return sum(map(cpu_seconds, self.workers()))

    def resident_mib(self) -> float:
        """The memory of the largest worker."""
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in self.workers()]
        return max(int(status.partition("VmRSS:")[2].split()[0]) for status in statuses) / 1024


class Service(Server):
    """The service, on a SQLite file of its own in `folder`, with one session to put tracks in."""

    def __init__(self, folder: Path, name: str = "loadbay", settings: Mapping[str, str] = MappingProxyType({})):
        self.path = folder / f"{name}.db"
        url = f"sqlite:///{self.path}"
        super().__init__("wsgi:app", {**SETTINGS, "DATABASE_URL": url, **settings})
        migrate(open_database(url))

    def __enter__(self) -> Any:
        super().__enter__()
        self.session = self.open_session()
        return self

    def open_session(self) -> str:
        """The id of a new session with one track in it."""
        body = json.dumps({"collection_id": COLLECTION, "track": json.loads(TRACK)}).encode()
        request = Request(f"{self.origin}/v1/upload_session", body, {"Content-Type": "application/json"})
        with urlopen(request) as answer:
            return str(json.load(answer)["upload_session_id"])

    def rows(self) -> dict[str, int]:
        """How many rows there are on disk of each kind that requests make."""
        with sqlite3.connect(self.path) as db:
            tables = {"track": "loadbay_track", "session": "loadbay_upload_session"}
            found = {name: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for name, table in tables.items()}
        db.close()
        return found

    def fill(self, session: str, tracks: int) -> None:
        """Give the session's first track so many copies, past the HTTP interface but through the triggers."""
        db = sqlite3.connect(self.path, timeout=30)
        db.create_function("new_id", 0, lambda: str(uuid4()))
        columns = [name for _, name, *_ in db.execute("PRAGMA table_info(loadbay_track)") if name != "seq"]
        fresh = {"id": "new_id()", "path": "path || new_id()", "cover_path": "cover_path || new_id()"}
        values = ", ".join(fresh.get(name, name) for name in columns)
        with db:
            db.execute(
                f"WITH RECURSIVE copy(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < ?),"
                f" first AS (SELECT * FROM loadbay_track WHERE session_seq ="
                f" (SELECT seq FROM loadbay_upload_session WHERE id = ?) LIMIT 1)"
                f" INSERT INTO loadbay_track ({', '.join(columns)}) SELECT {values} FROM copy, first",
                (tracks, session),
            )
        db.close()
