"""Measure each step of growing on this machine: `python -m bench.growing`. See docs/growing.md."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.error import URLError

from dev.postgres import Postgres
from dev.store import free_port, port_is_taken
from storage.db.connection import open_database
from storage.db.migrate import migrate

from . import pinned
from .load import CONNECTIONS, LOAD_GENERATOR, run_load
from .server import SETTINGS, TRACK, Server, cpu_seconds, open_session
from .soak.deployment import nginx_path, wait_until

BATCH_SIZE = 100
SINGLE, BATCHES = "one by one", f"in batches of {BATCH_SIZE}"
BODIES = {SINGLE: TRACK, BATCHES: f'{{"tracks":[{",".join([TRACK] * BATCH_SIZE)}]}}'}
NGINX = """
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_max_body_size 10m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream loadbay {{ {servers} }}
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://loadbay; }} }}
}}
"""


class Step(NamedTuple):
    """A way of deploying the service."""

    title: str
    instances: int
    workers: int
    postgresql: bool = False
    proxied: bool = False


ON_SQLITE, ON_POSTGRESQL = "2 workers, SQLite", "2 workers, PostgreSQL"
DATABASE_TARGET = 0.75
"""The least rate on PostgreSQL as a share of that on SQLite."""
INSTANCES_TARGET = 1.7
"""The least rate of two instances on PostgreSQL as a multiple of that of one."""
STEPS = [
    Step("1 worker, SQLite", 1, 1),
    Step(ON_SQLITE, 1, 2),
    Step("4 workers, SQLite", 1, 4),
    Step("2 workers, SQLite, behind nginx", 1, 2, proxied=True),
    Step(ON_POSTGRESQL, 1, 2, postgresql=True),
    Step("2 instances of 2 workers, PostgreSQL, behind nginx", 2, 2, postgresql=True, proxied=True),
]


class Sample(NamedTuple):
    """Tracks per second, and the CPU milliseconds of the service and of PostgreSQL for each track."""

    rate: float
    service_ms: float
    database_ms: float


class Deployment(NamedTuple):
    """A running step: the URL that takes requests, an open session, and the processes behind them."""

    origin: str
    session_id: str
    servers: list[Server]
    postgres: Postgres | None

    def cpu_seconds(self) -> tuple[float, float]:
        """Return the CPU time used so far by the service and by PostgreSQL."""
        database = sum(map(cpu_seconds, self.postgres.processes())) if self.postgres else 0.0
        return sum(server.cpu_seconds() for server in self.servers), database


@contextmanager
def deploy(step: Step, folder: Path, postgres: Postgres) -> Iterator[Deployment]:
    """Run a step, on SQLite with a database of its own."""
    with ExitStack() as stack:
        url = postgres.url if step.postgresql else f"sqlite:///{folder}/{STEPS.index(step)}.db"
        migrate(open_database(url))
        env = {**SETTINGS, "DATABASE_URL": url, "BENCH_WORKERS": str(step.workers)}
        servers = [stack.enter_context(Server("wsgi:app", env)) for _ in range(step.instances)]
        origin = servers[0].origin
        if step.proxied:
            origin = stack.enter_context(proxy(folder, [server.origin for server in servers]))
        yield Deployment(origin, open_session(origin), servers, postgres if step.postgresql else None)


@contextmanager
def proxy(folder: Path, origins: Sequence[str]) -> Iterator[str]:
    """Run nginx in front of these servers."""
    port, config = free_port(), folder / "nginx.conf"
    servers = " ".join(f"server {origin.removeprefix('http://')};" for origin in origins)
    config.write_text(NGINX.format(folder=folder, port=port, servers=servers))
    directives = f"daemon off;{' user root;' if os.geteuid() == 0 else ''}"
    process = subprocess.Popen([nginx_path(), "-p", str(folder), "-c", str(config), "-g", directives])
    try:
        if not wait_until(lambda: port_is_taken(port), 10):
            raise SystemExit("nginx did not start.")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def measure(deployment: Deployment, mode: str, seconds: float) -> Sample:
    """Register tracks for some `seconds`, in one of the modes of BODIES."""
    path = f"{deployment.origin}/v1/upload/{deployment.session_id}/{'tracks' if mode == BATCHES else 'track'}"
    before = deployment.cpu_seconds()
    result = run_load(path, BODIES[mode], seconds)
    after = deployment.cpu_seconds()
    if result.failed or not result.responses:
        sys.exit(f"{result.responses} responses of 200, {result.failed} others.")
    tracks = result.responses * (BATCH_SIZE if mode == BATCHES else 1)
    service_ms, database_ms = ((end - start) * 1000 / tracks for start, end in zip(before, after, strict=True))
    return Sample(tracks / result.seconds, service_ms, database_ms)


def measure_all(rounds: int, seconds: float, folder: Path, postgres: Postgres) -> dict[tuple[str, str], list[Sample]]:
    """Measure all steps in turn, round by round; return the samples by mode and title."""
    samples: dict[tuple[str, str], list[Sample]] = {}
    with ExitStack() as stack:
        deployments = [(step, stack.enter_context(deploy(step, folder, postgres))) for step in STEPS]
        for number in range(rounds):
            print(f"... round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for mode in BODIES:
                for step, deployment in deployments:
                    samples.setdefault((mode, step.title), []).append(measure(deployment, mode, seconds))
                    # Some responses are still being written when the load ends.
                    time.sleep(0.3)
    return samples


def print_tables(samples: dict[tuple[str, str], list[Sample]]) -> None:
    """Print a table for each mode, with rates as multiples of the first step's."""
    print(f"load from {LOAD_GENERATOR}, {CONNECTIONS} connections, {os.cpu_count()} cores for everything")
    for mode in BODIES:
        base = [sample.rate for sample in samples[mode, STEPS[0].title]]
        print(f"\n{'registering tracks ' + mode:<58}{'rate':>6}{'min':>6}{'max':>6}{'service':>9}{'database':>9}")
        for step in STEPS:
            rows = samples[mode, step.title]
            rates = [sample.rate / first for sample, first in zip(rows, base, strict=True)]
            service_ms, database_ms = (median(sample[column] for sample in rows) for column in (1, 2))
            spread = f"{median(rates):>6.2f}{min(rates):>6.2f}{max(rates):>6.2f}"
            print(f"{step.title:<58}{spread}{service_ms:>9.3f}{database_ms:>9.3f}")
    print("\nrate: multiple of the first row's. service, database: CPU milliseconds for each track.")


def print_databases(samples: dict[tuple[str, str], list[Sample]]) -> bool:
    """Print the rate on PostgreSQL as a share of that on SQLite; return True if the target is met."""
    print(f"\n{'PostgreSQL / SQLite, 2 workers':<58}{'rate':>6}{'min':>6}{'max':>6}{'target':>9}")
    all_met = True
    for mode, target in ((SINGLE, DATABASE_TARGET), (BATCHES, None)):
        rows = zip(samples[mode, ON_POSTGRESQL], samples[mode, ON_SQLITE], strict=True)
        shares = [postgresql.rate / sqlite.rate for postgresql, sqlite in rows]
        met = target is None or median(shares) >= target
        all_met &= met
        column = f"{'-':>9}" if target is None else f"{target:>9.2f}  {'met' if met else 'missed'}"
        print(f"{mode:<58}{median(shares):>6.2f}{min(shares):>6.2f}{max(shares):>6.2f}{column}")
    return all_met


def main() -> int:
    """Measure all steps and print the tables; return 0 if all targets are met."""
    parser = argparse.ArgumentParser(prog="python -m bench.growing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds (%(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="seconds of each row in a round (%(default)s)")
    parser.add_argument("--only", choices=["steps", "pinned"], help="only this part")
    options = parser.parse_args()
    postgres, met = Postgres(), True
    postgres.start()
    try:
        if options.only != "pinned":
            with tempfile.TemporaryDirectory(prefix="loadbay-growing-") as temporary:
                samples = measure_all(options.rounds, options.seconds, Path(temporary), postgres)
            print_tables(samples)
            met &= print_databases(samples)
        if options.only != "steps":
            migrate(open_database(postgres.url))
            met &= pinned.print_table(pinned.measure(options.rounds, options.seconds, postgres), INSTANCES_TARGET)
    except URLError as e:
        sys.exit(f"The service is unreachable: {e.reason}")
    finally:
        postgres.stop()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
