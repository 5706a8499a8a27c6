"""Whole uploads: their duration, their costs, and the duration of the same requests to the store alone."""

from __future__ import annotations

import multiprocessing
import os
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

from ..pinned import set_affinity
from ..server import cpu_seconds
from . import alone, clients
from .creating import rotated
from .scenarios import CLIENTS, Scenario, scenarios
from .servers import ACCESS_KEY, BUCKET, SECRET_KEY, Loadbay, PeerServer, TusFile, new_store

SAMPLE_SECONDS = 1.0
"""The interval between two samples of the service's memory, which cost the service's cores some time."""


class Run(NamedTuple):
    """The cost of one run: elapsed seconds, CPU seconds of service, store and clients, and the service's peak MiB.

    `requests` are those to the service, where the clients count them.
    """

    elapsed: float
    service_cpu: float
    store_cpu: float
    client_cpu: float
    peak_mib: float
    requests: int

    @property
    def store_utilization(self) -> float:
        """The store's CPU time as a share of one core."""
        return self.store_cpu / self.elapsed


Runs = dict[str, list[Run]]


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


def measure(
    folder: Path, rounds: int, files: int, report: Callable[[str], None], modes: Sequence[str], isolated: bool = False
) -> Runs:
    """Upload the files in each scenario in turn, round by round, each time to a new store.

    Isolated, the store has a core of its own; returns {} on a single core.
    """
    if isolated and len(os.sched_getaffinity(0)) < 2:
        return {}
    chosen = scenarios(modes, isolated)
    runs: Runs = {scenario.title: [] for scenario in chosen}
    for number in range(rounds):
        report(f"{files:,} MiB in files, round {number + 1} of {rounds}{', isolated store' * isolated}")
        for scenario in rotated(chosen, number):
            run = upload(scenario, folder, files, isolated)
            report(f"  {scenario.title}: {run.elapsed:.1f} s")
            runs[scenario.title].append(run)
    return runs


@contextmanager
def isolated_core(store: Store) -> Iterator[None]:
    """Reserve one core for the store; this process, and all that it starts, share the others."""
    assert store.process is not None
    cores = os.sched_getaffinity(0)
    set_affinity(store.process.pid, {min(cores)})
    os.sched_setaffinity(0, cores - {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def upload(scenario: Scenario, folder: Path, files: int, isolated: bool = False) -> Run:
    """Start store and service, warm them up with an item of each client, upload all, and check that they arrived."""
    with ExitStack() as stack:
        store = stack.enter_context(new_store(folder))
        if isolated:
            stack.enter_context(isolated_core(store))
        server = stack.enter_context(scenario.server(folder, store)) if scenario.server else None
        pool = stack.enter_context(multiprocessing.Pool(CLIENTS))
        count = scenario.count(files)
        pool.starmap(timed, shares(scenario, server, store, range(count, count + CLIENTS)), chunksize=1)
        work = shares(scenario, server, store, range(count))
        sampler = stack.enter_context(MemorySampler(server)) if server else None
        before, start = both_cpu_seconds(server, store), time.monotonic()
        results = pool.starmap(timed, work, chunksize=1)
        elapsed = time.monotonic() - start
        service_cpu, store_cpu = (b - a for a, b in zip(before, both_cpu_seconds(server, store), strict=True))
        check_objects(scenario, server, store, (count + CLIENTS) * scenario.tracks)
        client_cpu, requests = map(sum, zip(*results, strict=True))
        peak_mib = max(sampler.peak_mib, server.total_mib()) if sampler and server else 0.0
        return Run(elapsed, service_cpu, store_cpu, client_cpu, peak_mib, requests)


def timed(client: clients.Client, target: Any, numbers: Sequence[int]) -> tuple[float, int]:
    """Run a client; return the CPU seconds that it took, and the requests that it has counted."""
    start = time.process_time()
    requests = client(target, numbers)
    return time.process_time() - start, requests or 0


def shares(scenario: Scenario, server: Any, store: Store, numbers: Sequence[int]) -> list[tuple[Any, ...]]:
    """Return what each client is called with: its target, and its share of the files."""
    split = [numbers[client::CLIENTS] for client in range(CLIENTS)]
    if scenario.sign is not None:
        signer = alone.signer(store)
        return [(scenario.client, scenario.sign(signer, share), share) for share in split]
    path = "/files"
    if isinstance(server, Loadbay):
        # An album has a session of its own.
        path = "" if scenario.tracks > 1 else f"/v1/upload/{server.session_id}"
    return [(scenario.client, f"{server.origin}{path}", share) for share in split]


def both_cpu_seconds(server: PeerServer | None, store: Store) -> tuple[float, float]:
    """Return the CPU time used so far by the service and by the store."""
    assert store.process is not None
    return server.total_cpu_seconds() if server else 0.0, cpu_seconds(store.process.pid)


def check_objects(scenario: Scenario, server: PeerServer | None, store: Store, count: int) -> None:
    """Exit unless all files are in the store, or on the server's disk, with their full size."""
    if isinstance(server, TusFile):
        sizes = [path.stat().st_size for path in server.folder.iterdir()]
    else:
        objects = minio_client(store).list_objects(BUCKET, scenario.prefix, recursive=True)
        sizes = [item.size or 0 for item in objects]
    for size in scenario.sizes:
        if sizes.count(size) != count:
            sys.exit(f"{scenario.title}: {sizes.count(size)} of {count} files of {size:,} bytes arrived.")


def minio_client(store: Store) -> Minio:
    """Return a client of the store."""
    return Minio(urlsplit(store.endpoint).netloc, ACCESS_KEY, SECRET_KEY, secure=False, region="us-east-1")
