"""Upload for a long time under injected faults, then verify every promise.

`python -m bench.soak --minutes 15`. Exit status: 0 if nothing was lost and no response was false. See bench/README.md.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from . import clock, faults, foreign, full_disk
from .clients import HOUR, Uploader, complete_track, iter_session_tracks, read_track
from .deployment import BUCKET, Deployment, run_flask, wait_until_ready
from .hostile import HostileClient
from .ledger import CANCELLED, NO_FAULT, STORED, VERIFIED, Audit, Digest, Ledger, audit, find_accepted, percentile
from .memory import LIMIT_MIB, MemorySampler
from .second import SecondDeployment

CLIENTS, HOSTILE_CLIENTS = 16, 3
SECOND_PAUSE = 3.0
"""Seconds between two sessions of the second deployment's client."""

LATER = 4 * 86_400
"""Seconds after which no session is open, and nothing is too young to be swept."""

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MIN_FREE_BYTES = 4 * 2**30
"""The space that is left free on the disk."""


def report(text: str) -> None:
    """Print progress to standard error."""
    print(f"... {text}", file=sys.stderr, flush=True)


def report_fault(ledger: Ledger, start: float, fault: str) -> None:
    """Print progress at the start of a fault."""
    minutes = (time.monotonic() - start) / 60
    verified, violations = ledger.count(VERIFIED), len(ledger.violations)
    report(f"{minutes:.1f} min, {verified:,} tracks verified, {violations} violations; now: {fault}")
    for text in ledger.violations[-3:]:
        report(f"    {text}")


@dataclass
class Soak:
    """A run: both deployments with what their clients have recorded, the objects of others, and the findings."""

    deployment: Deployment
    second: SecondDeployment
    seed: int
    faults: list[str]
    ledger: Ledger = field(init=False)
    second_ledger: Ledger = field(default_factory=Ledger)
    foreign_objects: dict[str, Digest] = field(default_factory=dict)
    injected: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger(rollbacks=self.deployment.rollbacks)

    def clients(self, stop: threading.Event) -> list[threading.Thread]:
        """Return all clients: good and hostile ones, and one of the second deployment."""
        max_bytes = shutil.disk_usage(self.deployment.folder).free - MIN_FREE_BYTES
        # The clocks of two clients are off by an hour.
        clock_offsets = [HOUR, -HOUR, *[0] * (CLIENTS - 2)]
        good = [
            Uploader(self.deployment, self.ledger, stop, self.seed + number, max_bytes=max_bytes, clock_offset=offset)
            for number, offset in enumerate(clock_offsets)
        ]
        seeds = range(self.seed + CLIENTS, self.seed + CLIENTS + HOSTILE_CLIENTS)
        hostile = [HostileClient(self.deployment, self.ledger, stop, seed) for seed in seeds]
        options: dict[str, Any] = {"max_bytes": max_bytes, "pause": SECOND_PAUSE}
        other = Uploader(self.second, self.second_ledger, stop, self.seed + 1000, **options)
        return [*good, *hostile, other]

    def run(self, seconds: float) -> None:
        """Run all clients under faults for so long. Ctrl-C ends it early."""
        stop = threading.Event()
        self.foreign_objects = foreign.put_objects(self.deployment.store_client(), BUCKET, self.seed)
        clients = self.clients(stop)
        on_fault = partial(report_fault, self.ledger, time.monotonic())
        injector = threading.Thread(target=lambda: self.inject(stop, on_fault))
        for thread in (*clients, injector):
            thread.start()
        try:
            stop.wait(seconds)
        except KeyboardInterrupt:
            report("interrupted: verifying the uploads so far")
        stop.set()
        injector.join()
        report("waiting for the clients to finish")
        for client in clients:
            client.join()

    def inject(self, stop: threading.Event, on_fault: Callable[[str], None]) -> None:
        """Inject faults until `stop` is set."""
        ledgers = self.ledger, self.second_ledger
        self.injected = faults.inject_all(self.deployment, ledgers, stop, on_fault, self.faults)

    def verify(self) -> Audit:
        """Check every promise against the services, the store and the webhook's receiver."""
        report(f"verifying every byte of {len(self.ledger.tracks):,} tracks")
        result = self.audit(self.deployment, self.ledger)
        report(f"waiting for the events of {len(result.uploaded):,} uploaded tracks")
        missing = self.deployment.receiver.missing(result.uploaded)
        result.lost += [f"{track_id[:8]}...: uploaded, and its event was not delivered" for track_id in missing]
        result.events = self.deployment.receiver.events
        report(f"reading {len(self.ledger.forgeries):,} hostile tracks")
        result.violations += find_accepted(self.ledger.forgeries, partial(read_track, self.deployment))
        result.violations += self.leaked_ids()
        report(f"verifying {len(self.second_ledger.tracks):,} tracks of the second deployment")
        other = self.audit(self.second, self.second_ledger)
        result.lost += [f"second deployment: {text}" for text in other.lost]
        result.violations += [f"second deployment: {text}" for text in other.violations]
        report("sweeping both deployments with a clock that is days ahead")
        result.lost += self.sweep_later()
        result.foreign = foreign.touched(self.deployment.store_client(), BUCKET, self.foreign_objects)
        return result

    def audit(self, deployment: Deployment | SecondDeployment, ledger: Ledger) -> Audit:
        """Audit one of the deployments."""
        fetch, complete = partial(iter_session_tracks, deployment), partial(complete_track, deployment)
        return audit(ledger, fetch, complete, deployment.store_client(), BUCKET, report)

    def leaked_ids(self) -> list[str]:
        """Return a sentence for each log that holds a whole session id, which is a credential."""
        sessions = self.ledger.sessions.keys() | self.ledger.hostile_sessions.keys()
        return [
            f"{name} has logged {len(leaked)} session ids"
            for name, text in self.deployment.log_texts().items()
            if (leaked := sessions & set(UUID.findall(text)))
        ]

    def sweep_later(self) -> list[str]:
        """Sweep as if all sessions were over; return a sentence for each file that is not what it was before."""
        client = self.deployment.store_client()
        entries = [*self.ledger.tracks.values(), *self.second_ledger.tracks.values()]
        paths, before = {entry.path for entry in entries if entry.state == VERIFIED}, foreign.etags(client, BUCKET)
        for deployment in (self.deployment, self.second):
            run_flask({**deployment.env, **clock.environment(deployment.folder, LATER)}, "sweep")
        after = foreign.etags(client, BUCKET)
        changed = [path for path in paths & before.keys() if after.get(path) != before[path]]
        return [f"{path.rpartition('/')[2]}: changed or removed by a sweep" for path in changed]


def print_report(
    soak: Soak, result: Audit, disk: full_disk.Result | str, peaks: dict[str, float], seconds: float
) -> bool:
    """Print all tables; return True if nothing was lost, no response was false, and no limit was passed."""
    ledger, injected = soak.ledger, soak.injected
    print(
        f"\n{seconds / 60:.1f} minutes, {CLIENTS} clients and {HOSTILE_CLIENTS} hostile ones;"
        f" faults injected: {sum(injected.values())}"
    )
    rows = {
        "sessions acknowledged": len(ledger.sessions),
        "tracks acknowledged": len(ledger.tracks),
        "  stored (the store responded 200)": ledger.count(STORED, VERIFIED),
        "  verified (the service responded uploaded)": ledger.count(VERIFIED),
        "  cancelled": ledger.count(CANCELLED),
        "  verified at the end only": result.completed,
        "  read back byte for byte": result.checked,
        "  forgotten by restored backups": result.forgotten,
        "  with a status from before the backup": result.gone_back,
        "tracks of requests without a response": result.unacknowledged,
        "tracks of the second deployment": len(soak.second_ledger.tracks),
        "webhook events received": result.events,
        "hostile requests": ledger.attacks.total(),
    }
    for name, value in rows.items():
        print(f"{name:<44}{value:>12,}")
    print(f"{'GiB read back':<44}{result.checked_bytes / 2**30:>12.2f}")
    good = print_verdicts(ledger, result, peaks)
    for text in (*result.lost[:10], *result.violations[:10], *result.foreign[:10]):
        print(f"    {text}")
    print_attacks(ledger)
    print_causes(ledger)
    print_latencies(ledger, injected)
    return print_full_disk(disk) and good


def print_verdicts(ledger: Ledger, result: Audit, peaks: dict[str, float]) -> bool:
    """Print what must be 0 or below its limit; return True if all of it is."""
    counts = {
        "lost": len(result.lost),
        "violations": len(result.violations),
        "500s": ledger.internal_errors,
        "foreign objects touched": len(result.foreign),
    }
    for name, count in counts.items():
        print(f"{name:<44}{count:>12,}{'  FAILED' if count else ''}")
    for name, peak in peaks.items():
        failed = f"  FAILED: above {LIMIT_MIB}" if peak > LIMIT_MIB else ""
        print(f"{'MiB at most: ' + name:<44}{peak:>12.1f}{failed}")
    return not any(counts.values()) and max(peaks.values()) <= LIMIT_MIB


def print_attacks(ledger: Ledger) -> None:
    """Print how hostile requests ended."""
    print(f"\n{'hostile requests':<46}{'outcome':<40}{'times':>8}")
    for (kind, outcome), count in sorted(ledger.attacks.items(), key=lambda item: (item[0][0], -item[1])):
        print(f"    {kind:<42}{outcome:<40}{count:>8,}")


def print_causes(ledger: Ledger) -> None:
    """Print the failures that were retried, by cause."""
    print(f"\n{'failed and retried':<46}{'during':<24}{'times':>8}")
    for (source, cause, fault), count in sorted(ledger.causes.items(), key=lambda item: (item[0][2], -item[1])):
        print(f"    {source + ': ' + cause:<42}{fault:<24}{count:>8,}")
    for operation, count in ledger.retries_exhausted.items():
        print(f"    {'retries exhausted: ' + operation:<66}{count:>8,}")


def print_latencies(ledger: Ledger, injected: dict[str, int]) -> None:
    """Print the latencies of the service, by fault."""
    print(
        f"\n{'latency of the service, milliseconds':<46}{'injected':>9}{'responses':>10}{'p50':>8}{'p99':>8}{'max':>8}"
    )
    for fault in (NO_FAULT, *injected):
        values = [
            second
            for (name, during), seconds in ledger.latencies.items()
            if during == fault and "store" not in name
            for second in seconds
        ]
        if values:
            latencies = [percentile(values, share) * 1000 for share in (0.5, 0.99)] + [max(values) * 1000]
            columns = "".join(f"{value:>8,.0f}" for value in latencies)
            print(f"    {fault:<42}{injected.get(fault, ''):>9}{len(values):>10,}{columns}")


def print_full_disk(disk: full_disk.Result | str) -> bool:
    """Print the outcome of the full disk; return True if nothing was lost there."""
    print("\nfull disk (SQLite on a small tmpfs)")
    if isinstance(disk, str):
        print(f"    skipped: {disk}")
        return True
    for (phase, response), count in disk.responses.items():
        print(f"    {phase:<24}{response:<34}{count:>9,}")
    print(f"    acknowledged and lost: {disk.lost}; integrity check: {'ok' if disk.intact else 'FAILED'}")
    return disk.lost == 0 and disk.intact


def main() -> int:
    """Run the soak test; return 0 if nothing was lost, no response was false, and no limit was passed."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="duration of the uploads (%(default)s)")
    parser.add_argument("--seed", type=int, help="seed of the clients' random choices (printed at the start)")
    parser.add_argument("--folder", type=Path, help="folder for temporary data (the system's)")
    parser.add_argument("--faults", nargs="+", choices=faults.FAULTS, metavar="FAULT", help="faults to inject (all)")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    report(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="loadbay-soak-", dir=options.folder, ignore_cleanup_errors=True) as name:
        folder, start = Path(name), time.monotonic()
        with Deployment(folder) as deployment, SecondDeployment(deployment) as second:
            soak, over = Soak(deployment, second, seed, options.faults or list(faults.FAULTS)), threading.Event()
            sampler = MemorySampler(deployment, over)
            sampler.start()
            soak.run(options.minutes * 60)
            seconds = time.monotonic() - start
            wait_until_ready(deployment.origin)
            over.set()
            sampler.sample()
            report("filling the disk")
            disk = full_disk.run(deployment, folder)
            result = soak.verify()
        good = print_report(soak, result, disk, sampler.peaks, seconds)
        print("tracks by status: " + ", ".join(f"{k} {v:,}" for k, v in Counter(result.statuses).most_common()))
        print("OK: nothing was lost, and no response was false." if good else "FAILED: see above.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
