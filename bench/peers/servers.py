"""Who is compared: the service, its peers on Node, and a Flask route that passes bytes on; one store behind all."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

from dev.store import Store, free_port

from ..server import Server, Service, cpu_seconds

HERE = Path(__file__).resolve().parent
BUCKET, ACCESS_KEY, SECRET_KEY = "tracks", "bench", "bench-secret-0123456789"


def install() -> None:
    """Install the peers from npm, as package-lock.json pins them. Exits with a sentence where that cannot be."""
    if shutil.which("npm") is None:
        raise SystemExit("The peers run on Node 20.19 or later: install it, with npm.")
    stamp, lock = HERE / "node_modules" / ".installed", HERE / "package-lock.json"
    if not stamp.exists() or stamp.read_text() != lock.read_text():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=HERE, check=True)
        stamp.write_text(lock.read_text())


def start_store(folder: Path) -> Store:
    """A SeaweedFS of our own in `folder`."""
    store = Store(folder / f"store-{uuid4()}", free_port(), BUCKET, ACCESS_KEY, SECRET_KEY)
    store.start()
    return store


def store_settings(store: Store) -> dict[str, str]:
    """The store as every service is told of it."""
    return {
        "S3_ENDPOINT": store.endpoint,
        "S3_BUCKET": BUCKET,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }


class Measured(Server):
    """A server whose processes are all counted: the one that started and its workers."""

    def pids(self) -> list[int]:
        """The ids of all its processes."""
        return [self.process.pid, *self.workers()]

    def processor_time(self) -> float:
        """What all its processes have used of the processor so far."""
        return sum(map(cpu_seconds, self.pids()))

    def all_mib(self) -> float:
        """The memory of all its processes, pages that they share counted once (proportional set size)."""
        texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids()]
        return sum(int(text.partition("\nPss:")[2].split()[0]) for text in texts) / 1024


class Loadbay(Measured, Service):
    """The service, on a SQLite file of its own and the given store."""

    def __init__(self, folder: Path, store: Store):
        super().__init__(folder, f"loadbay-{uuid4()}", store_settings(store))


class Streaming(Measured):
    """A plain Flask route that takes the bytes and passes them on to the store."""

    def __init__(self, _folder: Path, store: Store):
        super().__init__("bench.peers.streaming:app", store_settings(store))


class Node(Measured):
    """A peer on Node: two worker processes, as gunicorn has."""

    script, store_name = "", ""

    def __init__(self, folder: Path, store: Store):
        self.folder = folder / f"{self.script}-{uuid4()}"
        self.folder.mkdir()
        payload = {"FOLDER": str(self.folder), "STORE": self.store_name, "NODE_ENV": "production"}
        super().__init__(self.script, {**store_settings(store), **payload})

    def command(self, port: int) -> list[str]:
        """The command line that runs it."""
        self.env["PORT"] = str(port)
        # The warning is about versions of Node, on every start.
        return ["node", "--no-warnings", str(HERE / self.script)]

    def __exit__(self, *told: Any) -> None:
        super().__exit__(*told)
        shutil.rmtree(self.folder, ignore_errors=True)


class Companion(Node):
    """Uppy Companion."""

    script = "companion.js"


class TusFile(Node):
    """@tus/server that keeps files on its own disk."""

    script, store_name = "tus.js", "file"


class TusS3(Node):
    """@tus/server that keeps files in the store."""

    script, store_name = "tus.js", "s3"
