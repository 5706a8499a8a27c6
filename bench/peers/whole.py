"""Whole uploads of files of 1 MiB: how long all of them take, and what that costs the service."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from minio import Minio

from dev.store import Store

from ..server import cpu_seconds
from . import clients
from .creating import turned
from .servers import ACCESS_KEY, BUCKET, SECRET_KEY, Loadbay, Measured, Streaming, TusFile, TusS3, start_store

CLIENTS = 8
# Seconds between two looks at the service's memory.
LOOK = 0.2


class Way(NamedTuple):
    """One way of uploading: its server (None for the store alone) and what its clients do."""

    title: str
    server: type[Any] | None
    client: clients.Client


WAYS = [
    Way("Loadbay, bytes to the store", Loadbay, clients.loadbay),
    Way("Flask route to the store", Streaming, clients.flask),
    Way("tus-node, S3 store", TusS3, clients.tus),
    Way("tus-node, file store", TusFile, clients.tus),
    Way("the store alone", None, clients.straight),
]


class Taken(NamedTuple):
    """What one run took: seconds by the clock, the service's and the store's processor seconds, and its most MiB."""

    wall: float
    service_cpu: float
    store_cpu: float
    peak_mib: float


class Watch(threading.Thread):
    """Looks at the service's memory until it is told to stop, and keeps the most."""

    def __init__(self, server: Measured):
        super().__init__(daemon=True)
        self.server, self.peak, self.over = server, server.all_mib(), threading.Event()

    def run(self) -> None:
        """Look, and look again."""
        while not self.over.wait(LOOK):
            self.peak = max(self.peak, self.server.all_mib())

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()

    def __enter__(self) -> Watch:
        self.start()
        return self


def measure(folder: Path, rounds: int, files: int, note: Callable[[str], None]) -> dict[str, list[Taken]]:
    """Upload the files in each way in turn, round by round, each time to a store of its own."""
    taken: dict[str, list[Taken]] = {way.title: [] for way in WAYS}
    for number in range(rounds):
        note(f"{files:,} files of 1 MiB, round {number + 1} of {rounds}")
        for index in turned(range(len(WAYS)), number):
            way = WAYS[index]
            found = upload(way, folder, files)
            note(f"  {way.title}: {found.wall:.1f} s")
            taken[way.title].append(found)
    return taken


def upload(way: Way, folder: Path, files: int) -> Taken:
    """Start store and service, upload all files, and see that they are there."""
    with ExitStack() as stack:
        store = start_store(folder)
        stack.callback(clear, store)
        server = stack.enter_context(way.server(folder, store)) if way.server else None
        where = target(way, server, store, files)
        shares = [(where, range(n, files, CLIENTS)) for n in range(CLIENTS)]
        pool = stack.enter_context(multiprocessing.Pool(CLIENTS))
        watch = stack.enter_context(Watch(server)) if server else None
        assert store.process is not None
        before = (server.processor_time() if server else 0.0, cpu_seconds(store.process.pid))
        begin = time.monotonic()
        pool.starmap(way.client, shares, chunksize=1)
        wall = time.monotonic() - begin
        after = (server.processor_time() if server else 0.0, cpu_seconds(store.process.pid))
        check(way, server, store, files)
        return Taken(wall, after[0] - before[0], after[1] - before[1], watch.peak if watch else 0.0)


def target(way: Way, server: Measured | None, store: Store, files: int) -> Any:
    """Where this way's clients send to."""
    if isinstance(server, Loadbay):
        return f"{server.origin}/v1/upload/{server.session}/tracks"
    if server is not None:
        return f"{server.origin}/files"
    return {n: bucket(store).presigned_put_object(BUCKET, f"track-{n}.mp3") for n in range(files)}


def check(way: Way, server: Measured | None, store: Store, files: int) -> None:
    """All the files' bytes are where this way puts them, or the run ends."""
    if isinstance(server, TusFile):
        sizes = [path.stat().st_size for path in server.folder.iterdir()]
    else:
        sizes = [item.size or 0 for item in bucket(store).list_objects(BUCKET, recursive=True)]
    there = sum(size == clients.MIB for size in sizes)
    if there != files:
        sys.exit(f"{way.title}: {there} of {files} files arrived.")


def bucket(store: Store) -> Minio:
    """The bucket as minio sees it."""
    return Minio(urlsplit(store.endpoint).netloc, ACCESS_KEY, SECRET_KEY, secure=False, region="us-east-1")


def clear(store: Store) -> None:
    """Stop the store and remove what it holds."""
    store.stop()
    shutil.rmtree(store.folder, ignore_errors=True)
