"""Measure the service against a bare Flask view: `python -m bench`. See bench/README.md."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from .load import CONNECTIONS, WRK, Result, count_out, drive
from .server import ROOT, SESSION, SETTINGS, TRACK, Server, Service

# What is asked: title, path (with the session's id), body, and the least share of the bare view's rate.
ROWS = {
    "track": ("POST /v1/upload/:id/track", "/v1/upload/{}/track", TRACK, 0.50),
    "session": ("POST /v1/upload_session", "/v1/upload_session", SESSION, 0.65),
    "read": ("GET /v1/upload_session/:id", "/v1/upload_session/{}", None, 0.75),
}
OTHERS = ("batch", "watched", "memory", "import", "growth")
# A track in a batch of so many is to cost this part of a single request's.
BATCH, CHEAPER = 100, 8
MAX_MIB, FLAT_MIB, MAX_IMPORT, MIN_GROWTH, MIN_WATCHED = 60, 1.5, 0.5, 0.90, 0.95
LARGE_SESSION, LARGE_SESSIONS = 10_000, 100

Line = tuple[str, list[float], float, str]


def ask(server: Service, name: str, how: Callable[[str, str | None, float], Result], amount: float) -> Result:
    """Send one kind of request. Exits where an answer is not 200 or a row is not on disk."""
    title, path, body, _ = ROWS[name]
    before = server.rows()
    result = how(server.origin + path.format(server.session), body, amount)
    made = server.rows().get(name, 0) - before.get(name, 0)
    # wrk leaves without waiting for its last answers, one on each connection: their rows may be there too.
    spare = CONNECTIONS if how is drive and WRK else 0
    kept = body is None or result.answers <= made <= result.answers + spare
    if result.failed or not result.answers or not kept:
        sys.exit(f"{title}: {result.answers} answers of 200, {result.failed} others, {made} rows on disk.")
    return result


def ask_bare(server: Server, seconds: float) -> Result:
    """Ask the bare view."""
    result = drive(f"{server.origin}/", None, seconds)
    if result.failed or not result.answers:
        sys.exit(f"The bare view: {result.answers} answers of 200, {result.failed} others.")
    return result


def measure(server: Server, ask_it: Callable[[], Result]) -> tuple[float, float]:
    """Answers a second, and the workers' processor time for each."""
    before = server.cpu_seconds()
    result = ask_it()
    return result.rate, (server.cpu_seconds() - before) / result.answers


def shares(names: Iterable[str], rounds: int, seconds: float, folder: Path) -> Iterable[Line]:
    """Each row's rate as a share of the bare view's, measured right before it, round by round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with Server("bench.bare:app") as bare, Service(folder) as service:
        for number in range(rounds):
            note(f"round {number + 1} of {rounds}")
            for name, values in found.items():
                base = measure(bare, lambda: ask_bare(bare, seconds))
                ours = measure(service, lambda name=name: ask(service, name, drive, seconds))
                values.append((ours[0] / base[0], base[1] / ours[1]))
    for name, values in found.items():
        cpu = median(by_cpu for _, by_cpu in values)
        yield ROWS[name][0], [share for share, _ in values], ROWS[name][3], f"{cpu:.2f} by processor time"


def batches(rounds: int, seconds: float, folder: Path) -> Iterable[Line]:
    """How many tracks a second come in batches, for each that comes alone."""
    body, values = f'{{"tracks":[{",".join([TRACK] * BATCH)}]}}', []
    with Service(folder, "batch") as service:
        for number in range(rounds):
            note(f"batches, round {number + 1} of {rounds}")
            single = ask(service, "track", drive, seconds).rate
            time.sleep(1)
            before = service.rows()["track"]
            result = drive(f"{service.origin}/v1/upload/{service.session}/tracks", body, seconds)
            # wrk does not wait for its last answers, so that the rows must be.
            time.sleep(1)
            kept = service.rows()["track"] - before
            if result.failed or not result.answers * BATCH <= kept <= (result.answers + CONNECTIONS) * BATCH:
                sys.exit(f"Batches: {result.answers} answers of 200, {result.failed} others, {kept} rows on disk.")
            values.append(result.rate * BATCH / single)
    yield f"tracks in batches of {BATCH}", values, CHEAPER, "for each that comes alone"


def watched(rounds: int, seconds: float, folder: Path) -> Iterable[Line]:
    """The rates with metrics and a line of the log for each request, as shares of those without."""
    counts = folder / "counts"
    counts.mkdir()
    payload = {"METRICS_TOKEN": "a-token-of-the-bench", "PROMETHEUS_MULTIPROC_DIR": str(counts)}
    payload |= {"LOG_REQUESTS": "1", "LOG_FORMAT": "json"}
    found: dict[str, list[float]] = {"track": [], "session": []}
    with Service(folder, "plain") as plain, Service(folder, "watched", payload) as seen:
        for number in range(2 * rounds):
            note(f"metrics and log, round {number + 1} of {2 * rounds}")
            for name, values in found.items():
                # Each is the first to be asked in every other round.
                both = [plain, seen] if number % 2 else [seen, plain]
                rates = {server: ask(server, name, drive, seconds).rate for server in both}
                values.append(rates[seen] / rates[plain])
    for name, values in found.items():
        yield f"{ROWS[name][0]}, metrics and log", values, MIN_WATCHED, "of its rate without"


def growth(names: Iterable[str], rounds: int, seconds: float, folder: Path) -> Iterable[Line]:
    """Each row's rate with much in the database, as a share of its rate with little."""
    with ExitStack() as stack:
        small, large, long = (stack.enter_context(Service(folder, name)) for name in ("small", "large", "long"))
        note(f"filling in {LARGE_SESSION * LARGE_SESSIONS:,} tracks")
        for _ in range(LARGE_SESSIONS):
            large.fill(large.open_session(), LARGE_SESSION)
        long.fill(long.session, LARGE_SESSION)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for number in range(rounds):
            note(f"growth, round {number + 1} of {rounds}")
            for name, values in found.items():
                base, *ours = (ask(server, name, drive, seconds).rate for server in (small, large, long))
                values.append((ours[0] / base, ours[1] / base))
    for name, values in found.items():
        million, thousands = zip(*values, strict=True)
        yield f"{ROWS[name][0]}, 1,000,000 tracks", list(million), MIN_GROWTH, "of its rate in an empty database"
        yield f"{ROWS[name][0]}, 10,000 in its session", list(thousands), MIN_GROWTH, "of its rate in a new session"


def memory(folder: Path) -> tuple[str, bool]:
    """A worker's memory after 10,000 and after 20,000 requests of all kinds."""
    with Service(folder, "memory") as service:
        sizes = []
        for thousands in (10, 20):
            note(f"{thousands},000 requests to each worker")
            for name in ROWS:
                ask(service, name, count_out, 10_000 * len(service.workers()) // len(ROWS))
            sizes.append(service.resident_mib())
    flat = sizes[1] - sizes[0] <= FLAT_MIB
    told = f"{sizes[1]:.1f} MiB, < {MAX_MIB}; {sizes[0]:.1f} after 10,000, at most {FLAT_MIB} less"
    return f"worker's memory after 20,000 requests: {told}", flat and sizes[1] < MAX_MIB


def import_time() -> tuple[str, bool]:
    """How long the import of the application takes, the interpreter's own start apart."""
    code = "import time; t = time.perf_counter(); import wsgi; print(time.perf_counter() - t)"
    env = {**os.environ, **SETTINGS, "DATABASE_URL": "sqlite:///unused.db"}
    times = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE)
        times.append(float(done.stdout))
    return f"import of the application: {median(times):.2f} s, < {MAX_IMPORT}", median(times) < MAX_IMPORT


def note(text: str) -> None:
    """What goes on, for whoever waits."""
    print(f"... {text}", file=sys.stderr, flush=True)


def show(lines: Iterable[Line]) -> bool:
    """Print a table of shares; returns whether all targets are met."""
    lines, met = list(lines), True
    print(f"\n{'':<49}{'share':>6}{'target':>9}{'min':>7}{'max':>6}")
    for title, values, target, more in lines:
        good = median(values) >= target
        met &= good
        noise = f"{min(values):>7.2f}{max(values):>6.2f}"
        print(f"{title:<49}{median(values):>6.2f}{target:>9.2f}{noise}  {'met   ' if good else 'missed'}  {more}")
    return met


def main() -> int:
    """Run what was asked for; 0 where every target is met."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (%(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="seconds of each row in a round (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=[*ROWS, *OTHERS], help="these parts alone")
    parser.add_argument("--large", action="store_true", help="measure the growth too: a million tracks")
    options = parser.parse_args()
    parts = set(options.only or {*ROWS, "batch", "watched", "memory", "import"}) | (
        {"growth"} if options.large else set()
    )
    rows = [name for name in ROWS if name in parts]
    met = True
    print(f"asked by {WRK or 'processes of our own'}, {CONNECTIONS} connections, 2 sync workers on each side")
    with tempfile.TemporaryDirectory(prefix="loadbay-bench-") as temporary:
        folder = Path(temporary)
        if rows:
            met &= show(shares(rows, options.rounds, options.seconds, folder))
        if "batch" in parts:
            met &= show(batches(options.rounds, options.seconds, folder))
        if "watched" in parts:
            met &= show(watched(options.rounds, options.seconds, folder))
        if "growth" in parts:
            met &= show(growth(rows or ROWS, options.rounds, options.seconds, folder))
        print()
        checks = {"memory": lambda: memory(folder), "import": import_time}
        for text, good in (check() for name, check in checks.items() if name in parts):
            met &= good
            print(f"{text}  {'met' if good else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
