"""Verification: its CPU time for each track, its requests in flight, and the rate of a worker that notices uploads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from ..peers.clients import Completion, groups
from ..peers.servers import Loadbay, new_store
from . import worker
from .bare_client import CONNECTIONS
from .counting_proxy import CountingProxy
from .pending import Upload, session_url, upload

BATCH_SIZE = 100
DELAY = 0.01
"""Seconds by which the store is further off while requests in flight are counted."""

CPU_TARGET, IN_FLIGHT_TARGET, WORKER_TARGET = 0.5, 16, 0.8
KINDS = {"write-once": True, "plain": False}
Report = Callable[[str], None]


class Line(NamedTuple):
    """A line of the table: the values of all rounds, the target, and whether it is the least acceptable value."""

    title: str
    values: list[float]
    target: float | None
    at_least: bool = False


def complete(session_url: str, uploads: Sequence[Upload]) -> None:
    """Have tracks verified, batch by batch. Raises RuntimeError for a failed one."""
    completion = Completion(session_url)
    for batch in groups(uploads, BATCH_SIZE):
        completion.begin([one.track_id for one in batch])
        completion.finish()


def measure_cpu(folder: Path, rounds: int, tracks: int, report: Report) -> list[Line]:
    """Measure the service's CPU time for each track of a batch that is completed."""
    values: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with new_store(folder) as store, Loadbay(folder, store) as server:
        url = session_url(server)
        for kind in KINDS:
            complete(url, upload(url, BATCH_SIZE, KINDS[kind]))
        for number in range(rounds):
            report(f"verification, round {number + 1} of {rounds}")
            for kind in KINDS if number % 2 else reversed(KINDS):
                uploads = upload(url, tracks, KINDS[kind])
                before = server.total_cpu_seconds()
                complete(url, uploads)
                values[kind].append((server.total_cpu_seconds() - before) * 1000 / tracks)
    return [Line(f"CPU milliseconds a track, {kind}", values[kind], CPU_TARGET) for kind in KINDS]


def measure_in_flight(folder: Path, rounds: int, report: Report) -> list[Line]:
    """Count the requests to a store at a distance while a batch is completed."""
    report("requests in flight")
    lines = []
    with new_store(folder) as store, CountingProxy(store.endpoint, DELAY) as proxy:
        settings = {"S3_ENDPOINT": proxy.url, "S3_PUBLIC_ENDPOINT": store.endpoint}
        with Loadbay(folder, store, settings) as server:
            url = session_url(server)
            for kind, write_once in KINDS.items():
                peaks, means = [], []
                for _ in range(rounds):
                    uploads = upload(url, BATCH_SIZE, write_once)
                    proxy.reset()
                    complete(url, uploads)
                    peaks.append(float(proxy.peak))
                    means.append(proxy.mean)
                lines.append(Line(f"store requests in flight, peak, {kind}", peaks, IN_FLIGHT_TARGET, at_least=True))
                lines.append(Line(f"store requests in flight, mean, {kind}", means, None))
    return lines


def measure(folder: Path, rounds: int, tracks: int, pending: int, report: Report) -> Iterator[Line]:
    """Measure all of it."""
    yield from measure_cpu(folder, rounds, tracks, report)
    yield from measure_in_flight(folder, rounds, report)
    shares, rates = worker.measure(folder, rounds, pending, report)
    title = f"worker / bare client with {CONNECTIONS} connections, {pending:,} objects"
    yield Line(title, shares, WORKER_TARGET, at_least=True)
    yield Line("tracks per second of the worker", rates, None)


def print_table(lines: Iterator[Line]) -> bool:
    """Print the lines; return True if all targets are met."""
    rows, all_met = list(lines), True
    print(f"\n{'verification':<62}{'median':>9}{'min':>9}{'max':>9}{'target':>9}")
    for line in rows:
        value, column = median(line.values), f"{'-':>9}"
        if line.target is not None:
            met = value >= line.target if line.at_least else value <= line.target
            all_met &= met
            column = f"{line.target:>9.2f}  {'met' if met else 'missed'}"
        print(f"{line.title:<62}{value:>9.2f}{min(line.values):>9.2f}{max(line.values):>9.2f}{column}")
    return all_met
