"""Measure the service against a bare Flask view: `python -m bench`. See bench/README.md."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from . import growth, tails
from .ablate import run_ablation
from .load import CONNECTIONS, LOAD_GENERATOR, WRK, Result, run_load, send_requests
from .server import ROOT, SESSION, SETTINGS, TRACK, Server, ServiceServer
from .tricks import ALL_TRICKS
from .verification import ablation, batches


class Endpoint(NamedTuple):
    """A kind of request: `path` takes the session's id, `target` is the least share of the bare view's rate."""

    title: str
    path: str
    body: str | None
    target: float


ENDPOINTS = {
    "track": Endpoint("POST /v1/upload/:id/track", "/v1/upload/{}/track", TRACK, 0.60),
    "session": Endpoint("POST /v1/upload_session", "/v1/upload_session", SESSION, 0.75),
    "read": Endpoint("GET /v1/upload_session/:id", "/v1/upload_session/{}", None, 0.93),
}
PARTS = ("batch", "observed", "memory", "import", "growth", "verify", "tails")
ON_DEMAND = {"growth", "verify", "tails"}
"""Parts that are measured only if they are named."""
BATCH_SIZE, BATCH_TARGET = 100, 8
MAX_MIB, MAX_GROWTH_MIB, MAX_IMPORT_SECONDS = 60, 1.5, 0.4
OBSERVED_TARGET = 0.95
DRAIN_SECONDS = 1.0
"""Time for the last responses, one on each connection, which wrk does not wait for."""


class Line(NamedTuple):
    """A line of a table: the measured shares of all rounds, the target, and a remark."""

    title: str
    shares: list[float]
    target: float
    remark: str


def load_endpoint(
    server: ServiceServer, name: str, send: Callable[[str, str | None, int], Result], amount: int
) -> Result:
    """Put load on one endpoint. Exits if a response is not 200 or a row is not on disk."""
    endpoint = ENDPOINTS[name]
    before = server.row_counts()
    result = send(server.origin + endpoint.path.format(server.session_id), endpoint.body, amount)
    rows = server.row_counts().get(name, 0) - before.get(name, 0)
    unread = CONNECTIONS if send is run_load and WRK else 0
    complete = endpoint.body is None or result.responses <= rows <= result.responses + unread
    if result.failed or not result.responses or not complete:
        sys.exit(f"{endpoint.title}: {result.responses} responses of 200, {result.failed} others, {rows} rows on disk.")
    return result


def load_baseline(server: Server, seconds: int) -> Result:
    """Put load on the bare view."""
    result = run_load(f"{server.origin}/", None, seconds)
    if result.failed or not result.responses:
        sys.exit(f"The bare view: {result.responses} responses of 200, {result.failed} others.")
    return result


def rate_and_cpu(server: Server, load: Callable[[], Result]) -> tuple[float, float]:
    """Return the responses per second under a load, and the workers' CPU seconds for each."""
    before = server.cpu_seconds()
    result = load()
    return result.rate, (server.cpu_seconds() - before) / result.responses


def measure_shares(names: Iterable[str], rounds: int, seconds: int, folder: Path) -> Iterable[Line]:
    """Measure each endpoint's rate as a share of the bare view's, which is measured right before it."""
    shares: dict[str, list[float]] = {name: [] for name in names}
    cpu_shares: dict[str, list[float]] = {name: [] for name in shares}
    with Server("bench.baseline:app") as baseline, ServiceServer(folder) as service:
        for number in range(rounds):
            report(f"round {number + 1} of {rounds}")
            for name in shares:
                baseline_rate, baseline_cpu = rate_and_cpu(baseline, lambda: load_baseline(baseline, seconds))
                rate, cpu = rate_and_cpu(service, lambda name=name: load_endpoint(service, name, run_load, seconds))  # type: ignore[misc]
                shares[name].append(rate / baseline_rate)
                cpu_shares[name].append(baseline_cpu / cpu)
    for name, values in shares.items():
        endpoint = ENDPOINTS[name]
        yield Line(endpoint.title, values, endpoint.target, f"{median(cpu_shares[name]):.2f} by CPU time")


def measure_batches(rounds: int, seconds: int, folder: Path) -> Iterable[Line]:
    """Measure the rate of tracks in batches as a multiple of the rate of single tracks."""
    body, values = f'{{"tracks":[{",".join([TRACK] * BATCH_SIZE)}]}}', []
    with ServiceServer(folder, "batch") as service:
        for number in range(rounds):
            report(f"batches, round {number + 1} of {rounds}")
            single = load_endpoint(service, "track", run_load, seconds).rate
            time.sleep(DRAIN_SECONDS)
            before = service.row_counts()["track"]
            result = run_load(f"{service.origin}/v1/upload/{service.session_id}/tracks", body, seconds)
            time.sleep(DRAIN_SECONDS)
            rows = service.row_counts()["track"] - before
            complete = result.responses * BATCH_SIZE <= rows <= (result.responses + CONNECTIONS) * BATCH_SIZE
            if result.failed or not complete:
                sys.exit(f"Batches: {result.responses} responses of 200, {result.failed} others, {rows} rows on disk.")
            values.append(result.rate * BATCH_SIZE / single)
    yield Line(f"tracks in batches of {BATCH_SIZE}", values, BATCH_TARGET, "times the rate of single tracks")


def measure_observed(rounds: int, seconds: int, folder: Path) -> Iterable[Line]:
    """Measure the rates with metrics and a log line for each request as shares of the rates without."""
    counts = folder / "counts"
    counts.mkdir()
    settings = {"METRICS_TOKEN": "a-token-of-the-bench", "PROMETHEUS_MULTIPROC_DIR": str(counts)}
    settings |= {"LOG_REQUESTS": "1", "LOG_FORMAT": "json"}
    shares: dict[str, list[float]] = {"track": [], "session": []}
    with ServiceServer(folder, "plain") as plain, ServiceServer(folder, "observed", settings) as observed:
        for number in range(2 * rounds):
            report(f"metrics and log, round {number + 1} of {2 * rounds}")
            for name, values in shares.items():
                # Each comes first in every other round.
                both = [plain, observed] if number % 2 else [observed, plain]
                rates = {server: load_endpoint(server, name, run_load, seconds).rate for server in both}
                values.append(rates[observed] / rates[plain])
    for name, values in shares.items():
        yield Line(f"{ENDPOINTS[name].title}, metrics and log", values, OBSERVED_TARGET, "of its rate without")


def check_memory(folder: Path) -> tuple[str, bool]:
    """Check a worker's memory after 10,000 and after 20,000 requests of all kinds."""
    with ServiceServer(folder, "memory") as service:
        sizes = []
        for thousands in (10, 20):
            report(f"{thousands},000 requests to each worker")
            for name in ENDPOINTS:
                load_endpoint(service, name, send_requests, 10_000 * len(service.workers()) // len(ENDPOINTS))
            sizes.append(service.resident_mib())
    grown = sizes[1] - sizes[0]
    text = f"memory of a worker after 20,000 requests: {sizes[1]:.1f} MiB (target < {MAX_MIB})"
    text += f", {grown:+.1f} MiB since 10,000 (target <= {MAX_GROWTH_MIB})"
    return text, grown <= MAX_GROWTH_MIB and sizes[1] < MAX_MIB


def check_import() -> tuple[str, bool]:
    """Check the time to import the application from compiled modules, without the start of the interpreter."""
    code = "import time; t = time.perf_counter(); import wsgi; print(time.perf_counter() - t)"
    times = []
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, **SETTINGS, "DATABASE_URL": "sqlite:///unused.db", "PYTHONPYCACHEPREFIX": folder}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        for _ in range(8):
            process = subprocess.run(
                [sys.executable, "-c", code], cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE
            )
            times.append(float(process.stdout))
    # The first import has compiled them.
    del times[0]
    met = median(times) < MAX_IMPORT_SECONDS
    return f"import of the application: {median(times):.2f} s (target < {MAX_IMPORT_SECONDS})", met


def report(text: str) -> None:
    """Print progress to standard error."""
    print(f"... {text}", file=sys.stderr, flush=True)


def print_table(lines: Iterable[Line]) -> bool:
    """Print a table of shares; return True if all targets are met."""
    rows, all_met = list(lines), True
    print(f"\n{'':<49}{'share':>6}{'target':>9}{'min':>7}{'max':>6}")
    for line in rows:
        share = median(line.shares)
        met = share >= line.target
        all_met &= met
        noise = f"{min(line.shares):>7.2f}{max(line.shares):>6.2f}"
        outcome = "met   " if met else "missed"
        print(f"{line.title:<49}{share:>6.2f}{line.target:>9.2f}{noise}  {outcome}  {line.remark}")
    return all_met


def run_benchmark(options: argparse.Namespace, folder: Path) -> bool:
    """Run the selected parts; return True if all targets are met."""
    parts = set(options.only or {*ENDPOINTS, *PARTS} - ON_DEMAND)
    names = [name for name in ENDPOINTS if name in parts]
    rounds, seconds, met = options.rounds, options.seconds, True
    if parts - ON_DEMAND:
        print(f"load from {LOAD_GENERATOR}, {CONNECTIONS} connections, 2 workers on each side")
    if names:
        met &= print_table(measure_shares(names, rounds, seconds, folder))
    if "batch" in parts:
        met &= print_table(measure_batches(rounds, seconds, folder))
    if "observed" in parts:
        met &= print_table(measure_observed(rounds, seconds, folder))
    if "growth" in parts:
        growth.print_tables(folder, growth.Scale(options.sessions, options.tracks), rounds)
    if "verify" in parts:
        met &= batches.print_table(batches.measure(folder, rounds, options.completed, options.pending, report))
        ablation.print_table(folder)
    if "tails" in parts:
        met &= tails.print_table(tails.measure(folder, options.tail_seconds, report))
    print()
    checks = {"memory": lambda: check_memory(folder), "import": check_import}
    for text, good in (check() for name, check in checks.items() if name in parts):
        met &= good
        print(f"{text}  {'met' if good else 'missed'}")
    return met


def main() -> int:
    """Run the benchmark; return 0 if all targets are met."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each measurement (%(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="seconds of each row in a round (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=[*ENDPOINTS, *PARTS], help="only these parts")
    many = "in the database of --only growth (%(default)s)"
    parser.add_argument("--sessions", type=int, default=100_000, help=f"sessions {many}")
    parser.add_argument("--tracks", type=int, default=1_000_000, help=f"tracks {many}")
    parser.add_argument("--completed", type=int, default=500, help="tracks of a round of --only verify (%(default)s)")
    parser.add_argument("--pending", type=int, default=1000, help="objects that its worker notices (%(default)s)")
    parser.add_argument("--tail-seconds", type=int, default=60, help="seconds of --only tails (%(default)s)")
    parser.add_argument(
        "--ablate", nargs="*", metavar="TRICK", choices=list(ALL_TRICKS),
        help=f"measure the cost of each performance trick instead, or of these: {', '.join(ALL_TRICKS)}",
    )  # fmt: skip
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loadbay-bench-") as temporary:
        if options.ablate is not None:
            run_ablation(options.ablate or list(ALL_TRICKS), options.rounds, options.seconds, Path(temporary))
            return 0
        return 0 if run_benchmark(options, Path(temporary)) else 1


if __name__ == "__main__":
    sys.exit(main())
