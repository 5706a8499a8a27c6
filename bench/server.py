"""The servers under load: gunicorn with two workers, around the bare view or around the service."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from dev.store import free_port
from storage.db.connection import open_database
from storage.db.migrate import migrate
from storage.db.models import Track, UploadSession

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {
    # Nothing listens there: presigning makes no network call.
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
START_TIMEOUT = 60


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """A gunicorn that runs for the length of a `with` block."""

    def __init__(self, application: str, env: Mapping[str, str] = MappingProxyType({})):
        self.application = application
        self.env = {**os.environ, **env}
        self.origin = ""

    def __enter__(self) -> Any:
        port = free_port()
        self.origin = f"http://127.0.0.1:{port}"
        # A log of requests costs the service its making and its writing, and not the terminal's reading.
        stderr = subprocess.DEVNULL if self.env.get("LOG_REQUESTS") else None
        self.process = subprocess.Popen(self.command(port), cwd=ROOT, env=self.env, stderr=stderr)
        self._wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait()

    def _wait(self) -> None:
        """Wait for a response of any status. Exits if none comes within START_TIMEOUT seconds."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urlopen(f"{self.origin}/healthz", timeout=5).close()
                return
            except HTTPError:
                return
            except OSError:
                time.sleep(0.05)
        self.process.kill()
        raise SystemExit(f"{self.application} did not start.")

    def command(self, port: int) -> list[str]:
        """Return the command line that starts it."""
        config = str(Path(__file__).with_name("gunicorn_conf.py"))
        return [sys.executable, "-m", "gunicorn", "-c", config, "-b", f"127.0.0.1:{port}", self.application]

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def cpu_seconds(self) -> float:
        """Return the CPU time that the workers have used so far."""
        return sum(map(cpu_seconds, self.workers()))

    def resident_mib(self) -> float:
        """Return the resident memory of the largest worker."""
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in self.workers()]
        return max(int(status.partition("VmRSS:")[2].split()[0]) for status in statuses) / 1024


class ServiceServer(Server):
    """The service on a SQLite file of its own in `folder`, with one open session."""

    application_name = "wsgi:app"

    def __init__(self, folder: Path, name: str = "loadbay", settings: Mapping[str, str] = MappingProxyType({})):
        self.path = folder / f"{name}.db"
        url = f"sqlite:///{self.path}"
        super().__init__(self.application_name, {**SETTINGS, "DATABASE_URL": url, **settings})
        migrate(open_database(url))

    def __enter__(self) -> Any:
        super().__enter__()
        self.session_id = self.open_session()
        return self

    def open_session(self) -> str:
        """Open a session with one track in it; return its id."""
        return open_session(self.origin, {"track": json.loads(TRACK)})

    def row_counts(self) -> dict[str, int]:
        """Return the number of rows on disk that each kind of request has inserted."""
        models = {"track": Track, "session": UploadSession}
        with closing(sqlite3.connect(self.path)) as db:
            return {
                name: db.execute(f"SELECT count(*) FROM {model._meta.table_name}").fetchone()[0]
                for name, model in models.items()
            }


def open_session(origin: str, extra: Mapping[str, object] = MappingProxyType({})) -> str:
    """Open a session at the service; return its id."""
    body = json.dumps({"collection_id": COLLECTION, **extra}).encode()
    request = Request(f"{origin}/v1/upload_session", body, {"Content-Type": "application/json"})
    with urlopen(request) as response:
        return str(json.load(response)["upload_session_id"])
