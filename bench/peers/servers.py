"""The services under comparison, on one store: Loadbay, its peers on Node, and a Flask route that relays bytes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from dev.store import Store, free_port
from storage.measuring import stores
from storage.service import Service
from storage.settings import Settings

from ..server import Server, ServiceServer, cpu_seconds

FOLDER = Path(__file__).resolve().parent
BUCKET, ACCESS_KEY, SECRET_KEY = "tracks", "bench", "bench-secret-0123456789"


def install_peers() -> None:
    """Install the peers from npm, as package-lock.json pins them. Exits if npm is missing."""
    if shutil.which("npm") is None:
        raise SystemExit("npm is not installed: the peers need Node 20.19 or later with npm.")
    stamp, lock = FOLDER / "node_modules" / ".installed", FOLDER / "package-lock.json"
    if not stamp.exists() or stamp.read_text() != lock.read_text():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=FOLDER, check=True)
        stamp.write_text(lock.read_text())


def start_store(folder: Path) -> Store:
    """Start a SeaweedFS with its data in `folder`."""
    store = Store(folder / f"store-{uuid4()}", free_port(), BUCKET, ACCESS_KEY, SECRET_KEY)
    store.start()
    return store


@contextmanager
def new_store(folder: Path) -> Iterator[Store]:
    """Run a store, and remove its data afterwards."""
    store = start_store(folder)
    try:
        yield store
    finally:
        store.stop()
        shutil.rmtree(store.folder, ignore_errors=True)


def store_settings(store: Store) -> dict[str, str]:
    """Return the settings for the store, which all services share."""
    return {
        "S3_ENDPOINT": store.endpoint,
        "S3_BUCKET": BUCKET,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }


class PeerServer(Server):
    """A server with all its processes in the accounts: the parent and its workers."""

    def pids(self) -> list[int]:
        """Return the ids of all its processes."""
        return [self.process.pid, *self.workers()]

    def total_cpu_seconds(self) -> float:
        """Return the CPU time that all its processes have used so far."""
        return sum(map(cpu_seconds, self.pids()))

    def total_mib(self) -> float:
        """Return the memory of all its processes, with shared pages counted once (proportional set size)."""
        texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids()]
        return sum(int(text.partition("\nPss:")[2].split()[0]) for text in texts) / 1024


class Loadbay(PeerServer, ServiceServer):
    """Loadbay itself, on a SQLite file of its own."""

    def __init__(self, folder: Path, store: Store, settings: Mapping[str, str] = MappingProxyType({})):
        super().__init__(folder, f"loadbay-{uuid4()}", {**store_settings(store), **settings})
        service = Service(Settings.load(self.env))
        stores.learn(service)
        service.close()


class Streaming(PeerServer):
    """A plain Flask route that relays the bytes to the store."""

    def __init__(self, _folder: Path, store: Store):
        super().__init__("bench.peers.streaming:app", store_settings(store))


class Node(PeerServer):
    """A peer on Node, with two worker processes as gunicorn has."""

    script, store_name = "", ""

    def __init__(self, folder: Path, store: Store):
        self.folder = folder / f"{self.script}-{uuid4()}"
        self.folder.mkdir()
        settings = {"FOLDER": str(self.folder), "STORE": self.store_name, "NODE_ENV": "production"}
        super().__init__(self.script, {**store_settings(store), **settings})

    def command(self, port: int) -> list[str]:
        """Return the command line that starts it."""
        self.env["PORT"] = str(port)
        # Node warns of its version at every start.
        return ["node", "--no-warnings", str(FOLDER / self.script)]

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        shutil.rmtree(self.folder, ignore_errors=True)


class Companion(Node):
    """Uppy Companion."""

    script = "companion.js"


class TusFile(Node):
    """@tus/server with files on its own disk."""

    script, store_name = "tus.js", "file"


class TusS3(Node):
    """@tus/server with files in the store."""

    script, store_name = "tus.js", "s3"
