"""What each step of growing gives, on this machine: `python -m bench.growing`. See docs/growing.md."""

from __future__ import annotations

import argparse
import json
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
from urllib.request import Request, urlopen

from dev.postgres import Postgres
from dev.store import free_port, port_is_taken
from storage.db.connection import open_database
from storage.db.migrate import migrate

from .load import CONNECTIONS, WRK, drive
from .server import COLLECTION, SETTINGS, TRACK, Server, cpu_seconds
from .soak.stage import nginx, until

BATCH = 100
BODIES = {"one by one": TRACK, f"in batches of {BATCH}": f'{{"tracks":[{",".join([TRACK] * BATCH)}]}}'}
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
    """One way of running it."""

    title: str
    instances: int
    workers: int
    postgresql: bool = False
    proxied: bool = False


STEPS = [
    Step("1 worker, SQLite", 1, 1),
    Step("2 workers, SQLite", 1, 2),
    Step("4 workers, SQLite", 1, 4),
    Step("2 workers, SQLite, nginx before it", 1, 2, proxied=True),
    Step("2 workers, PostgreSQL", 1, 2, postgresql=True),
    Step("2 instances of 2 workers, PostgreSQL, nginx before them", 2, 2, postgresql=True, proxied=True),
]


class Place(NamedTuple):
    """A step that runs: where to ask, and whose processor time is whose."""

    origin: str
    session: str
    servers: Sequence[Server]
    postgres: Postgres | None

    def cpu(self) -> tuple[float, float]:
        """Seconds on a processor so far: of the service, and of PostgreSQL."""
        database = sum(map(cpu_seconds, self.postgres.processes())) if self.postgres else 0.0
        return sum(server.cpu_seconds() for server in self.servers), database


@contextmanager
def run(step: Step, folder: Path, postgres: Postgres) -> Iterator[Place]:
    """Run a step, on a database of its own."""
    with ExitStack() as stack:
        url = postgres.url if step.postgresql else f"sqlite:///{folder}/{STEPS.index(step)}.db"
        migrate(open_database(url))
        env = {**SETTINGS, "DATABASE_URL": url, "BENCH_WORKERS": str(step.workers)}
        servers = [stack.enter_context(Server("wsgi:app", env)) for _ in range(step.instances)]
        origin = servers[0].origin
        if step.proxied:
            origin = stack.enter_context(proxy(folder, [server.origin for server in servers]))
        body = json.dumps({"collection_id": COLLECTION}).encode()
        request = Request(f"{origin}/v1/upload_session", body, {"Content-Type": "application/json"})
        with urlopen(request) as answer:
            session = str(json.load(answer)["upload_session_id"])
        yield Place(origin, session, servers, postgres if step.postgresql else None)


@contextmanager
def proxy(folder: Path, origins: Sequence[str]) -> Iterator[str]:
    """nginx before these."""
    port, config = free_port(), folder / "nginx.conf"
    servers = " ".join(f"server {origin.removeprefix('http://')};" for origin in origins)
    config.write_text(NGINX.format(folder=folder, port=port, servers=servers))
    own = f"daemon off;{' user root;' if os.geteuid() == 0 else ''}"
    process = subprocess.Popen([nginx(), "-p", str(folder), "-c", str(config), "-g", own])
    try:
        if not until(lambda: port_is_taken(port), 10):
            raise SystemExit("nginx did not start.")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def measure(place: Place, how: str, seconds: float) -> tuple[float, float, float]:
    """Tracks a second; and for each track, milliseconds of a processor for the service, and for PostgreSQL."""
    many = how != "one by one"
    path = f"{place.origin}/v1/upload/{place.session}/track{'s' if many else ''}"
    before = place.cpu()
    result = drive(path, BODIES[how], seconds)
    after = place.cpu()
    if result.failed or not result.answers:
        sys.exit(f"{result.answers} answers of 200, {result.failed} others.")
    tracks = result.answers * (BATCH if many else 1)
    service, database = ((b - a) * 1000 / tracks for a, b in zip(before, after, strict=True))
    return tracks / result.seconds, service, database


def main() -> int:
    """Measure all steps in turn, round by round, and print a table of shares of the first."""
    parser = argparse.ArgumentParser(prog="python -m bench.growing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds (%(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="seconds of each row in a round (%(default)s)")
    options = parser.parse_args()
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    postgres = Postgres()
    postgres.start()
    try:
        with tempfile.TemporaryDirectory(prefix="loadbay-growing-") as temporary, ExitStack() as stack:
            places = [(step, stack.enter_context(run(step, Path(temporary), postgres))) for step in STEPS]
            for number in range(options.rounds):
                print(f"... round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
                for how in BODIES:
                    for step, place in places:
                        found.setdefault((how, step.title), []).append(measure(place, how, options.seconds))
                        # Some answers are still being written when the load ends.
                        time.sleep(0.3)
    except URLError as e:
        sys.exit(f"The service did not answer: {e.reason}")
    finally:
        postgres.stop()
    show(found)
    return 0


def show(found: dict[tuple[str, str], list[tuple[float, float, float]]]) -> None:
    """Print the table."""
    print(f"asked by {WRK or 'processes of our own'}, {CONNECTIONS} connections, {os.cpu_count()} cores for all")
    for how in BODIES:
        first = [rate for rate, _, _ in found[how, STEPS[0].title]]
        print(f"\n{'registering tracks ' + how:<58}{'rate':>6}{'min':>6}{'max':>6}{'service':>9}{'database':>9}")
        for step in STEPS:
            values = found[how, step.title]
            shares = [rate / base for (rate, _, _), base in zip(values, first, strict=True)]
            costs = [median(value[n] for value in values) for n in (1, 2)]
            rates = f"{median(shares):>6.2f}{min(shares):>6.2f}{max(shares):>6.2f}"
            print(f"{step.title:<58}{rates}{costs[0]:>9.3f}{costs[1]:>9.3f}")
    print("\nrate: times that of the first row. service, database: milliseconds of a processor for each track.")


if __name__ == "__main__":
    sys.exit(main())
