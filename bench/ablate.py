"""The price tag of each trick: what a request costs with it and without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

from .server import ROOT
from .tricks import TRICKS

ROUTES = {
    "track": "POST .../track", "session": "POST .../upload_session", "read": "GET .../upload_session/:id",
    "read-track": "GET .../track/:id",
}  # fmt: skip
CORE = max(os.sched_getaffinity(0))
BLOCKS, BLOCK = 60, 10
"""Blocks of requests on each side in a round, and requests in a block: the sides take turns every few milliseconds."""


class Ablated:
    """A process that runs the service without the trick `name` (with all of them where it is '')."""

    def __init__(self, name: str, trick: str, folder: Path):
        url = f"sqlite:///{folder}/{name or 'with'}-{trick}.db"
        counts = folder / f"counts-{name}-{trick}"
        env = {**os.environ, "PYTHONHASHSEED": "0", "PROMETHEUS_MULTIPROC_DIR": str(counts)}
        counts.mkdir(exist_ok=True)
        log = subprocess.DEVNULL if TRICKS[trick].settings.get("LOG_REQUESTS") else None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.ablated", name, url, trick], cwd=ROOT, env=env, stderr=log, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

        # Both sides take turns on one core, so that whatever else the machine does slows down both alike.
        os.sched_setaffinity(self.process.pid, {CORE})

    def __enter__(self) -> Ablated:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.process.communicate()

    def ask(self, command: str) -> Any:
        """Return the process's reply to a command."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        reply = self.process.stdout.readline()
        if not reply:
            sys.exit(f"The process failed at: {command}")
        return json.loads(reply)


Costs = tuple[float, float]


def measure(name: str, folder: Path) -> dict[str, Costs]:
    """Return the CPU time of a request of each route in microseconds, with the trick and without it, in one round."""
    with Ablated("", name, folder) as complete, Ablated(name, name, folder) as plain:
        costs = {}
        for route in ROUTES:
            if complete.ask(f"shape {route}") != plain.ask(f"shape {route}"):
                sys.exit(f"{name}: the response of {ROUTES[route]} differs without it.")
            blocks: dict[Ablated, list[float]] = {complete: [], plain: []}
            for number in range(BLOCKS):
                for side in (complete, plain) if number % 2 else (plain, complete):
                    blocks[side].append(side.ask(f"cost {route} {BLOCK}"))
            costs[route] = median(blocks[complete]), median(blocks[plain])
        return costs


def saved(costs: Costs) -> float:
    """Return the share of the whole request that the trick saves."""
    return 1 - costs[0] / costs[1]


def row(title: str, rounds: Sequence[dict[str, Costs]]) -> str:
    """Return a trick's line: figures of the route where it saves most, then its share of each route."""
    shares = {route: [saved(costs[route]) for costs in rounds] for route in ROUTES}
    best = max(ROUTES, key=lambda route: median(shares[route]))
    complete, plain = (median(costs[best][side] for costs in rounds) for side in (0, 1))
    figures = f"{best:<12}{complete:>7.0f}{plain:>9.0f}{plain - complete:>7.0f}"
    spread = f"{median(shares[best]):>8.1%}{min(shares[best]):>8.1%}{max(shares[best]):>8.1%}"
    each = "".join(f"{median(shares[route]):>11.1%}" for route in ROUTES)
    return f"{title:<36}{figures}{spread}  {each}"


def show(names: Iterable[str], rounds: int, folder: Path) -> None:
    """Print the table, each row as soon as it is measured."""
    print(
        f"{'':<36}{'route':<12}{'with':>7}{'without':>9}{'saved':>7}{'share':>8}{'min':>8}{'max':>8}  "
        + "".join(f"{route:>11}" for route in ROUTES)
    )
    for name in names:
        costs = []
        for number in range(rounds):
            costs.append(measure(name, folder))
            for path in folder.glob("*.db*"):
                path.unlink()
        print(row(TRICKS[name].title, costs), flush=True)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as d:
        show(sys.argv[2:] or TRICKS, int(sys.argv[1]), Path(d))
