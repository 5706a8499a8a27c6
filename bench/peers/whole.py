"""Whole uploads of files of 1 MiB: how long all of them take, and what that costs the service."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
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


ALONE = "the store alone"


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
    Way(ALONE, None, clients.can_bypass_handlers),
]


class Taken(NamedTuple):
    """What one run took: seconds by the clock, the service's and the store's processor seconds, and its most MiB."""

    wall: float
    service_cpu: float
    store_cpu: float
    peak_mib: float

    @property
    def store_busy(self) -> float:
        """How much of the time the store worked, as a share of one core."""
        return self.store_cpu / self.wall


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
    return _measure(WAYS, folder, rounds, files, note)


def measure_apart(folder: Path, rounds: int, files: int, note: Callable[[str], None]) -> dict[str, list[Taken]]:
    """The same for ours and the store alone, with the store on a core of its own; empty where there is but one."""
    if len(os.sched_getaffinity(0)) < 2:
        return {}
    ways = [way for way in WAYS if way.server in (Loadbay, None)]
    return _measure(ways, folder, rounds, files, note, apart=True)


def _measure(
    ways: Sequence[Way], folder: Path, rounds: int, files: int, note: Callable[[str], None], apart: bool = False
) -> dict[str, list[Taken]]:
    taken: dict[str, list[Taken]] = {way.title: [] for way in ways}
    for number in range(rounds):
        note(f"{files:,} files of 1 MiB, round {number + 1} of {rounds}{', the store on a core of its own' * apart}")
        for index in turned(range(len(ways)), number):
            way = ways[index]
            found = upload(way, folder, files, apart)
            note(f"  {way.title}: {found.wall:.1f} s")
            taken[way.title].append(found)
    return taken


@contextmanager
def core_of_its_own(store: Store) -> Iterator[None]:
    """Leave one core to the store; this process, and all that it starts, share the others."""
    assert store.process is not None
    cores = os.sched_getaffinity(0)
    for thread in Path(f"/proc/{store.process.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {min(cores)})
    os.sched_setaffinity(0, cores - {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def upload(way: Way, folder: Path, files: int, apart: bool = False) -> Taken:
    """Start store and service, upload all files, and see that they are there."""
    with ExitStack() as stack:
        store = start_store(folder)
        stack.callback(clear, store)
        if apart:
            stack.enter_context(core_of_its_own(store))
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
