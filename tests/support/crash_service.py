"""The service as a process that a test kills and starts again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import requests

from dev.store import free_port
from support.processes import ROOT


class CrashableService:
    """The service in a process of its own, which can be killed and started again on its port and database."""

    def __init__(self, settings: dict[str, Any]):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self.env = {"PATH": os.environ["PATH"], "PYTHONPATH": path, **settings}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *crash_point: str) -> None:
        """Start it; with a crash point (see crash_server.py), it kills itself there."""
        command = [sys.executable, str(ROOT / "tests" / "support" / "crash_server.py"), str(self.port), *crash_point]
        self.process = subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 15
        while True:
            try:
                requests.get(self.url, timeout=1)
                return
            except (requests.ConnectionError, requests.Timeout):
                assert time.monotonic() < deadline
                time.sleep(0.03)

    def kill(self) -> None:
        """Kill it with SIGKILL, as a power failure would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def call(self, method: str, path: str, **payload: Any) -> dict[str, Any] | None:
        """Send a request and return the response's body, or None if there is no response."""
        try:
            response = requests.request(method, self.url + path, json=payload or None, timeout=5)
        except requests.RequestException:
            return None
        assert response.status_code in (200, 404, 409, 410), response.text
        return dict(response.json())
