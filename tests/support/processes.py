"""Commands and services that a test runs as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 60
"""Seconds that a process has to do what a test waits for, on a slow machine too."""


class Processes:
    """The processes of one test, and everything in which they may leak a secret.

    `settings` has the settings of each process, `printed` the output of each finished command (which may show a new
    key), and `outputs` the output of each service.
    """

    def __init__(self) -> None:
        self.settings: list[Mapping[str, Any]] = []
        self.printed: list[str] = []
        self.outputs: list[str] = []

    def environment(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return the environment of a process: `settings`, none of the developer's own, our programs first in PATH."""
        self.settings.append(settings)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "PYTHONUNBUFFERED": "1", **settings}

    def run(self, *command: str, env: Mapping[str, Any], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """Run a command until it exits; `stdout` has both of its outputs."""
        result = subprocess.run(
            command, env=self.environment(env), cwd=cwd, text=True, timeout=TIMEOUT, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.printed.append(result.stdout)
        return result

    def start(self, *command: str, env: Mapping[str, Any], log: Path, cwd: Path = ROOT) -> RunningProcess:
        """Return a context manager that runs a command until it is left, with the output in `log`."""
        return RunningProcess(self, *command, env=env, log=log, cwd=cwd)


class RunningProcess:
    """A command that runs for the duration of a `with` block, with its output in a file."""

    def __init__(self, processes: Processes, *command: str, env: Mapping[str, Any], log: Path, cwd: Path = ROOT):
        self.processes, self.command, self.log, self.cwd = processes, command, log, cwd
        self.env = processes.environment(env)

    def __enter__(self) -> RunningProcess:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self.command, env=self.env, cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        self.processes.outputs.append(self.output())

    def output(self) -> str:
        """Return the output so far."""
        return self.log.read_text()

    def wait_for_output(self, *texts: str) -> None:
        """Wait until each of these texts is in the output."""

        def is_complete() -> bool:
            output = self.output()
            assert self.process.poll() is None, output
            return all(text in output for text in texts)

        wait_until(is_complete, f"The output lacks one of {texts}.")

    def wait_for_http(self, url: str) -> None:
        """Wait until `url` responds, with any status."""

        def responds() -> bool:
            assert self.process.poll() is None, self.output()
            try:
                return requests.get(url, timeout=5) is not None
            except (requests.ConnectionError, requests.Timeout):
                return False

        wait_until(responds, f"{url} does not respond.")

    def stop(self, sign: int = signal.SIGINT) -> int:
        """Send a signal to the process, wait for it, and return its exit status."""
        self.process.send_signal(sign)
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def process_ids(self) -> set[int]:
        """Return the ids of the process and of all its descendants."""
        listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        parents = {int(pid): int(parent) for pid, parent in map(str.split, listing.splitlines())}
        ids = {self.process.pid}
        while children := {pid for pid, parent in parents.items() if parent in ids} - ids:
            ids |= children
        return ids


def wait_until(condition: Callable[[], object], message: str) -> None:
    """Wait until `condition()` is true, and fail with `message` if it is not within TIMEOUT seconds."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, message
        time.sleep(0.05)


def open_sockets(pid: int) -> set[str]:
    """Return the sockets that a process has open, as `socket:[inode]`; it may open and close some meanwhile."""
    targets = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            targets.add(str(path.readlink()))
    return {target for target in targets if target.startswith("socket:")}


def running_ids(pids: set[int]) -> set[int]:
    """Return the ids of those processes that still run."""
    listing = subprocess.run(["ps", "-eo", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    states = dict(map(str.split, listing.splitlines()))
    return {pid for pid in pids if not states.get(str(pid), "Z").startswith("Z")}
