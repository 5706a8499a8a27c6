"""Whole uploads of files of 1 MiB: their duration, and what they cost the service."""

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
from .creating import rotated
from .servers import ACCESS_KEY, BUCKET, SECRET_KEY, Loadbay, PeerServer, Streaming, TusFile, TusS3, start_store

CLIENTS = 8
SAMPLE_SECONDS = 0.2
"""The interval between two samples of the service's memory."""
STORE_ALONE = "the store alone"


class Scenario(NamedTuple):
    """A way of uploading: its server, None for the store alone, and its client."""

    title: str
    server: type[Any] | None
    client: clients.Client


SCENARIOS = [
    Scenario("Loadbay, bytes to the store", Loadbay, clients.loadbay),
    Scenario("Flask route to the store", Streaming, clients.flask),
    Scenario("tus-node, S3 store", TusS3, clients.tus),
    Scenario("tus-node, file store", TusFile, clients.tus),
    Scenario(STORE_ALONE, None, clients.store),
]


class Run(NamedTuple):
    """The cost of one run: elapsed seconds, CPU seconds of the service and of the store, and the service's peak MiB."""

    elapsed: float
    service_cpu: float
    store_cpu: float
    peak_mib: float

    @property
    def store_utilization(self) -> float:
        """The store's CPU time as a share of one core."""
        return self.store_cpu / self.elapsed


class MemorySampler(threading.Thread):
    """Samples the service's memory for the length of a `with` block; `peak_mib` is the maximum."""

    def __init__(self, server: PeerServer):
        super().__init__(daemon=True)
        self.server, self.peak_mib, self.stopped = server, server.total_mib(), threading.Event()

    def run(self) -> None:
        """Take samples until the block ends."""
        while not self.stopped.wait(SAMPLE_SECONDS):
            self.peak_mib = max(self.peak_mib, self.server.total_mib())

    def __enter__(self) -> MemorySampler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.join()


def measure(folder: Path, rounds: int, files: int, report: Callable[[str], None]) -> dict[str, list[Run]]:
    """Upload the files in each scenario in turn, round by round, each time to a new store."""
    return _measure(SCENARIOS, folder, rounds, files, report)


def measure_with_isolated_store(
    folder: Path, rounds: int, files: int, report: Callable[[str], None]
) -> dict[str, list[Run]]:
    """Measure this service and the store alone, with the store on a core of its own. Returns {} on a single core."""
    if len(os.sched_getaffinity(0)) < 2:
        return {}
    scenarios = [scenario for scenario in SCENARIOS if scenario.server in (Loadbay, None)]
    return _measure(scenarios, folder, rounds, files, report, isolated=True)


def _measure(
    scenarios: Sequence[Scenario],
    folder: Path,
    rounds: int,
    files: int,
    report: Callable[[str], None],
    isolated: bool = False,
) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {scenario.title: [] for scenario in scenarios}
    for number in range(rounds):
        report(f"{files:,} files of 1 MiB, round {number + 1} of {rounds}{', isolated store' * isolated}")
        for scenario in rotated(scenarios, number):
            run = upload(scenario, folder, files, isolated)
            report(f"  {scenario.title}: {run.elapsed:.1f} s")
            runs[scenario.title].append(run)
    return runs


@contextmanager
def isolated_core(store: Store) -> Iterator[None]:
    """Reserve one core for the store; this process, and all that it starts, share the others."""
    assert store.process is not None
    cores = os.sched_getaffinity(0)
    for thread in Path(f"/proc/{store.process.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {min(cores)})
    os.sched_setaffinity(0, cores - {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def upload(scenario: Scenario, folder: Path, files: int, isolated: bool = False) -> Run:
    """Start store and service, upload all files, and check that they have arrived."""
    with ExitStack() as stack:
        store = start_store(folder)
        stack.callback(remove_store, store)
        if isolated:
            stack.enter_context(isolated_core(store))
        server = stack.enter_context(scenario.server(folder, store)) if scenario.server else None
        target = upload_target(server, store, files)
        shares = [(target, range(number, files, CLIENTS)) for number in range(CLIENTS)]
        pool = stack.enter_context(multiprocessing.Pool(CLIENTS))
        sampler = stack.enter_context(MemorySampler(server)) if server else None
        before, start = both_cpu_seconds(server, store), time.monotonic()
        pool.starmap(scenario.client, shares, chunksize=1)
        elapsed = time.monotonic() - start
        service_cpu, store_cpu = (b - a for a, b in zip(before, both_cpu_seconds(server, store), strict=True))
        check_files(scenario, server, store, files)
        return Run(elapsed, service_cpu, store_cpu, sampler.peak_mib if sampler else 0.0)


def both_cpu_seconds(server: PeerServer | None, store: Store) -> tuple[float, float]:
    """Return the CPU time used so far by the service and by the store."""
    assert store.process is not None
    return server.total_cpu_seconds() if server else 0.0, cpu_seconds(store.process.pid)


def upload_target(server: PeerServer | None, store: Store, files: int) -> Any:
    """Return the URL that the clients send to; for the store alone, the URLs by the file's number."""
    if isinstance(server, Loadbay):
        return f"{server.origin}/v1/upload/{server.session_id}/tracks"
    if server is not None:
        return f"{server.origin}/files"
    return {n: minio_client(store).presigned_put_object(BUCKET, f"track-{n}.mp3") for n in range(files)}


def check_files(scenario: Scenario, server: PeerServer | None, store: Store, files: int) -> None:
    """Exit unless all files are in the store, or on the server's disk, with their full size."""
    if isinstance(server, TusFile):
        sizes = [path.stat().st_size for path in server.folder.iterdir()]
    else:
        sizes = [item.size or 0 for item in minio_client(store).list_objects(BUCKET, recursive=True)]
    complete = sum(size == clients.MIB for size in sizes)
    if complete != files:
        sys.exit(f"{scenario.title}: {complete} of {files} files arrived.")


def minio_client(store: Store) -> Minio:
    """Return a client of the store."""
    return Minio(urlsplit(store.endpoint).netloc, ACCESS_KEY, SECRET_KEY, secure=False, region="us-east-1")


def remove_store(store: Store) -> None:
    """Stop the store and remove its data."""
    store.stop()
    shutil.rmtree(store.folder, ignore_errors=True)
