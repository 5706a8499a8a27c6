"""Commands run as people run them: real processes, with their output and their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 30
"""Seconds after which a process that has not done what it should is a failure, however slow the machine."""


PROCESS_SETTINGS: list[Mapping[str, Any]] = []
"""The settings of the processes that this test ran."""
PRINTED: list[str] = []
"""What the commands that this test ran to their end have written, a new key maybe."""


def environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """A process's environment: `settings`, nothing of the developer's own, and the tests' programs first in PATH."""
    PROCESS_SETTINGS.append(settings)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "PYTHONUNBUFFERED": "1", **settings}


def run(*command: str, env: Mapping[str, Any], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `stdout` has both outputs."""
    done = subprocess.run(
        command, env=environment(env), cwd=cwd, text=True, timeout=TIMEOUT, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    PRINTED.append(done.stdout)
    return done


def wait_until(happened: Callable[[], object], what: str) -> None:
    """Wait until `happened()` is true."""
    deadline = time.monotonic() + TIMEOUT
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


OUTPUTS: list[str] = []
"""What the services that this test ran have written."""


class Running:
    """A command that runs for the length of a `with`, its output in a file."""

    def __init__(self, *command: str, env: Mapping[str, Any], log: Path):
        self.command, self.env, self.log = command, environment(env), log

    def __enter__(self) -> Running:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self.command, env=self.env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        OUTPUTS.append(self.output())

    def output(self) -> str:
        """What it has said so far."""
        return self.log.read_text()

    def wait_for(self, *payload: str) -> None:
        """Wait until it has said each of these."""

        def said() -> bool:
            output = self.output()
            assert self.process.poll() is None, output
            return all(word in output for word in payload)

        wait_until(said, f"It never said {payload}.")

    def wait_for_http(self, url: str) -> None:
        """Wait until an answer comes from there, whatever it says."""

        def answered() -> bool:
            assert self.process.poll() is None, self.output()
            try:
                return requests.get(url, timeout=5) is not None
            except requests.ConnectionError:
                return False

        wait_until(answered, f"{url} never answered.")

    def stop(self, sign: int = signal.SIGINT) -> int:
        """Stop it with a signal, and return its exit status."""
        self.process.send_signal(sign)
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def family(self) -> set[int]:
        """The ids of its process and of all that came from it."""
        listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        parents = {int(pid): int(parent) for pid, parent in map(str.split, listed.splitlines())}
        family = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        return family


def alive(pids: set[int]) -> set[int]:
    """Those of these processes that are there."""
    listed = subprocess.run(["ps", "-eo", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    states = dict(map(str.split, listed.splitlines()))
    return {pid for pid in pids if not states.get(str(pid), "Z").startswith("Z")}
