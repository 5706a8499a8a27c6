"""Measure each performance trick: a request's cost with it and without it. See bench/README.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, NamedTuple

from .load import run_load
from .server import ROOT, SESSION, TRACK, ServiceServer
from .tricks import TRICKS, WRITER_TRICKS, Trick

ROUTES = {
    "track": "POST /v1/upload/:id/track",
    "session": "POST /v1/upload_session",
    "read": "GET /v1/upload_session/:id",
    "get-track": "GET /v1/upload/:id/track/:track_id",
}
BLOCKS, BLOCK_REQUESTS = 100, 10
"""In a round each side sends so many blocks of so many requests, in turn, every few milliseconds."""
NEXT_NUMBER = count()


class Costs(NamedTuple):
    """The cost of a request with a trick and without it."""

    complete: float
    plain: float

    @property
    def saving(self) -> float:
        """The share of the whole request that the trick saves."""
        return 1 - self.complete / self.plain


# --- One process -----------------------------------------------------------------------------------------------------


class AblatedProcess:
    """A process with the service, without the trick that `name` names ('' for none), for the length of a `with`."""

    def __init__(self, name: str, trick: Trick, folder: Path, core: int):
        number = next(NEXT_NUMBER)
        settings = {**trick.settings, "DATABASE_URL": f"sqlite:///{folder}/{number}.db"}
        env = {**os.environ, "PYTHONHASHSEED": "0", "PROMETHEUS_MULTIPROC_DIR": str(folder / f"metrics-{number}")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.ablated", name, json.dumps(settings)], cwd=ROOT, env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if "LOG_REQUESTS" in settings else None,
        )  # fmt: skip
        # On one core both sides are slowed down alike by whatever else runs on the machine.
        os.sched_setaffinity(self.process.pid, {core})

    def __enter__(self) -> AblatedProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.process.communicate()

    def ask(self, command: str) -> Any:
        """Return the reply to a command (see bench.ablated). Exits if the process fails."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        reply = self.process.stdout.readline()
        if not reply:
            sys.exit(f"The service failed at: {command}")
        return json.loads(reply)


def measure_round(names: Sequence[str], folder: Path, core: int) -> dict[str, dict[str, Costs]]:
    """Return the CPU microseconds of a request by trick and route, with new processes on this core."""
    costs = {}
    with ExitStack() as stack:
        complete: dict[str, AblatedProcess] = {}
        for name in names:
            trick = TRICKS[name]
            key = json.dumps(dict(trick.settings))
            if key not in complete:
                complete[key] = stack.enter_context(AblatedProcess("", trick, folder, core))
            with AblatedProcess(name, trick, folder, core) as plain:
                costs[name] = {route: measure_route(route, complete[key], plain) for route in ROUTES}
    return costs


def measure_route(route: str, complete: AblatedProcess, plain: AblatedProcess) -> Costs:
    """Return the median costs and saving of all blocks. Exits if a response has other keys without the trick."""
    if complete.ask(f"shape {route}") != plain.ask(f"shape {route}"):
        sys.exit(f"{ROUTES[route]}: the response has other keys or types without the trick.")
    command, costs = f"cost {route} {BLOCK_REQUESTS}", []
    for number in range(BLOCKS):
        order = (complete, plain) if number % 2 else (plain, complete)
        block = {process: process.ask(command) for process in order}
        costs.append(Costs(block[complete], block[plain]))
    plain_cost = median(cost.plain for cost in costs)
    # The saving is taken pair by pair: two blocks that follow each other meet the same disturbance.
    return Costs(plain_cost * (1 - median(cost.saving for cost in costs)), plain_cost)


def print_header() -> None:
    """Print the head of the table for one process."""
    print("\nOne process: CPU microseconds of a request; share of it that the trick saves")
    columns = f"{'route':<11}{'with':>5}{'without':>8}{'share':>7}{'min':>7}{'max':>7}"
    print(f"{'':<36}{columns}  {''.join(f'{route:>11}' for route in ROUTES)}", flush=True)


def print_row(title: str, rounds: Sequence[dict[str, Costs]]) -> None:
    """Print a trick's row: the route where it saves most, then the median share of each route."""
    savings = {route: [costs[route].saving for costs in rounds] for route in ROUTES}
    best = max(ROUTES, key=lambda route: median(savings[route]))
    complete, plain = (median(costs[best][side] for costs in rounds) for side in (0, 1))
    figures = f"{best:<11}{complete:>5.0f}{plain:>8.0f}{spread(savings[best])}"
    print(f"{title:<36}{figures}  {''.join(f'{median(values):>11.1%}' for values in savings.values())}", flush=True)


def spread(values: Sequence[float]) -> str:
    """Format the median, the minimum and the maximum of shares."""
    return "".join(f"{value:>7.1%}" for value in (median(values), min(values), max(values)))


# --- Two writing processes -------------------------------------------------------------------------------------------


class AblatedServer(ServiceServer):
    """gunicorn with two workers, without the trick that BENCH_WITHOUT names."""

    application_name = "bench.ablated:wsgi_app()"


def measure_writers(name: str, rounds: int, seconds: float, folder: Path) -> dict[str, list[tuple[Costs, Costs]]]:
    """Return seconds and CPU seconds of a request for each writing route, round by round."""
    bodies = {"track": TRACK, "session": SESSION}
    results: dict[str, list[tuple[Costs, Costs]]] = {route: [] for route in bodies}
    with ExitStack() as stack:
        servers = [
            stack.enter_context(AblatedServer(folder, f"{name}-{side}", {"BENCH_WITHOUT": side})) for side in ("", name)
        ]
        for number in range(rounds):
            for route, body in bodies.items():
                costs = [(0.0, 0.0), (0.0, 0.0)]
                for side in (0, 1) if number % 2 else (1, 0):
                    costs[side] = measure_server(servers[side], route, body, seconds)
                (elapsed, cpu), (plain_elapsed, plain_cpu) = costs
                results[route].append((Costs(elapsed, plain_elapsed), Costs(cpu, plain_cpu)))
    return results


def measure_server(server: ServiceServer, route: str, body: str, seconds: float) -> tuple[float, float]:
    """Return seconds and CPU seconds of a request under load. Exits if a response fails."""
    path = ROUTES[route].removeprefix("POST ").replace(":id", server.session_id)
    before = server.cpu_seconds()
    result = run_load(server.origin + path, body, seconds)
    if result.failed or not result.responses:
        sys.exit(f"{ROUTES[route]}: {result.responses} responses of 200, {result.failed} others.")
    return 1 / result.rate, (server.cpu_seconds() - before) / result.responses


def print_writers_row(title: str, results: dict[str, list[tuple[Costs, Costs]]]) -> None:
    """Print a trick's rows for two writing processes, one for each route."""
    for route, rounds in results.items():
        elapsed, cpu = ([pair[kind] for pair in rounds] for kind in (0, 1))
        figures = "".join(f"{median(costs[side] for costs in elapsed) * 1e6:>8.0f}" for side in (0, 1))
        shares = spread([costs.saving for costs in elapsed]) + spread([costs.saving for costs in cpu])
        print(f"{title:<36}{route:<11}{figures}{shares}", flush=True)


def run_ablation(names: Sequence[str], rounds: int, seconds: float, folder: Path) -> None:
    """Measure these tricks and print both tables."""
    single, writing = ([name for name in names if name in tricks] for tricks in (TRICKS, WRITER_TRICKS))
    if single:
        cores, results = sorted(os.sched_getaffinity(0)), []
        for number in range(rounds):
            print(f"... round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            results.append(measure_round(single, folder, cores[number % len(cores)]))
        print_header()
        for name in single:
            print_row(TRICKS[name].title, [result[name] for result in results])
    if writing:
        print("\nTwo processes that write: microseconds between two responses; share of them, and of CPU time, saved")
        print(f"{'':<36}{'route':<11}{'with':>8}{'without':>8}" + f"{'share':>7}{'min':>7}{'max':>7}" * 2)
        for name in writing:
            print_writers_row(WRITER_TRICKS[name].title, measure_writers(name, rounds, seconds, folder))
