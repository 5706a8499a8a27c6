"""Two instances on one PostgreSQL against one, each on a core of its own.

PostgreSQL and the load generator have the other cores. Where there are none, they share those of the instances under
load: one instance has one core for everything, and two have two, so that neither has more than its share.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

from dev.postgres import Postgres

from .load import run_load
from .server import SETTINGS, TRACK, Server, open_session

INSTANCES, WORKERS = 2, 2
MIN_CORES = 4
"""Cores from which PostgreSQL and the load generator take nothing from the instances."""


class Sample(NamedTuple):
    """One round with some instances: tracks per second, CPU seconds of the service for each, and busy shares.

    `instance_busy` is the CPU time of the instances as a share of their cores', `cores_busy` that of all processes on
    all cores.
    """

    rate: float
    service_cpu: float
    instance_busy: float
    cores_busy: float


def set_affinity(pid: int, cores: set[int]) -> None:
    """Pin all threads of a process to these cores."""
    # A process of PostgreSQL, or a thread, may end meanwhile.
    with suppress(FileNotFoundError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), cores)


@contextmanager
def pinned_servers(postgres: Postgres) -> Iterator[list[Server]]:
    """Run the instances, each on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    env = {**SETTINGS, "DATABASE_URL": postgres.url, "BENCH_WORKERS": str(WORKERS)}
    with ExitStack() as stack:
        servers = [stack.enter_context(Server("wsgi:app", env)) for _ in range(INSTANCES)]
        for core, server in zip(cores, servers, strict=False):
            for pid in (server.process.pid, *server.workers()):
                set_affinity(pid, {core})
        try:
            yield servers
        finally:
            os.sched_setaffinity(0, set(cores))


def pin_others(postgres: Postgres, cores: Sequence[int], instances: int) -> None:
    """Pin PostgreSQL and this process, which starts the load generator, for a run of so many instances."""
    others = cores[INSTANCES:] if len(cores) >= MIN_CORES else cores[:instances]
    for pid in (*postgres.processes(), os.getpid()):
        set_affinity(pid, set(others))


def measure(rounds: int, seconds: float, postgres: Postgres) -> list[tuple[Sample, Sample]]:
    """Measure one instance and two in turn. Returns [] on a single core."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < INSTANCES:
        return []
    with pinned_servers(postgres) as servers:
        # A session for each, for registrations in one session wait for each other.
        urls = [f"{server.origin}/v1/upload/{open_session(server.origin)}/track" for server in servers]
        rows = []
        for number in range(rounds):
            print(f"... pinned, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            samples = {}
            for count in (1, 2) if number % 2 else (2, 1):
                pin_others(postgres, cores, count)
                samples[count] = measure_instances(servers[:count], urls[:count], seconds)
            rows.append((samples[1], samples[2]))
        return rows


def measure_instances(servers: Sequence[Server], urls: Sequence[str], seconds: float) -> Sample:
    """Put load on some instances at once."""
    cpu_before, (busy_before, all_before) = sum(server.cpu_seconds() for server in servers), core_seconds()
    with ThreadPoolExecutor(len(urls)) as pool:
        results = list(pool.map(lambda url: run_load(url, TRACK, seconds), urls))
    cpu, (busy_after, all_after) = sum(server.cpu_seconds() for server in servers) - cpu_before, core_seconds()
    responses = sum(result.responses for result in results)
    if any(result.failed for result in results) or not responses:
        sys.exit(f"{responses} responses of 200, {sum(result.failed for result in results)} others.")
    busy = (busy_after - busy_before) / (all_after - all_before)
    return Sample(
        sum(result.rate for result in results), cpu / responses, cpu / results[0].seconds / len(servers), busy
    )


def core_seconds() -> tuple[float, float]:
    """Return the time that all cores were busy so far, and all of their time, in ticks."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def print_table(rows: Sequence[tuple[Sample, Sample]], target: float) -> bool:
    """Print two instances as a multiple of one; return True if the target is met."""
    if not rows:
        print("\nOnly one core: two instances cannot have one each.")
        return True
    multiples = [two.rate / one.rate for one, two in rows]
    met = median(multiples) >= target
    spread = f"{median(multiples):>8.2f}{min(multiples):>6.2f}{max(multiples):>6.2f}"
    print(f"\n{'each instance on a core of its own':<58}{'rate':>8}{'min':>6}{'max':>6}{'target':>8}")
    print(f"{'2 instances on PostgreSQL / 1':<58}{spread}{target:>8.2f}  {'met' if met else 'missed'}")
    for title, index in (("1 instance", 0), ("2 instances", 1)):
        cpu, instance, cores = (median(row[index][column] for row in rows) for column in (1, 2, 3))
        share = f"{instance:.0%} of the instances' cores; all cores are {cores:.0%} busy"
        print(f"{title}: {1000 * cpu:.3f} ms of the service's CPU time a track, {share}")
    return met
