"""Upload for a long time under injected faults, then verify every promise.

`python -m bench.soak --minutes 15`. Exit status: 0 if nothing was lost and no response was false. See bench/README.md.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

from . import faults, full_disk
from .clients import HOUR, Uploader, complete_track, iter_session_tracks
from .deployment import BUCKET, Deployment, wait_until_ready
from .ledger import CANCELLED, NO_FAULT, STORED, VERIFIED, Audit, Ledger, audit, percentile

CLIENTS = 16
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


def run_clients(deployment: Deployment, ledger: Ledger, seconds: float, seed: int) -> dict[str, int]:
    """Run all clients under faults for so long; return how often each fault was injected. Ctrl-C ends it early."""
    stop, injected = threading.Event(), dict[str, int]()
    max_bytes = shutil.disk_usage(deployment.folder).free - MIN_FREE_BYTES
    # The clocks of two clients are off by an hour.
    clock_offsets = [HOUR, -HOUR, *[0] * (CLIENTS - 2)]
    uploaders = [
        Uploader(deployment, ledger, stop, seed + number, offset, max_bytes)
        for number, offset in enumerate(clock_offsets)
    ]
    on_fault = partial(report_fault, ledger, time.monotonic())
    injector = threading.Thread(target=lambda: injected.update(faults.inject_all(deployment, ledger, stop, on_fault)))
    for thread in (*uploaders, injector):
        thread.start()
    try:
        stop.wait(seconds)
    except KeyboardInterrupt:
        report("interrupted: verifying the uploads so far")
    stop.set()
    injector.join()
    report("waiting for the clients to finish")
    for uploader in uploaders:
        uploader.join()
    return injected


def verify(deployment: Deployment, ledger: Ledger) -> Audit:
    """Check every promise against the service, the store and the webhook's receiver."""
    report(f"verifying every byte of {len(ledger.tracks):,} tracks")
    fetch, complete = partial(iter_session_tracks, deployment), partial(complete_track, deployment)
    result = audit(ledger, fetch, complete, deployment.store_client(), BUCKET, report)
    report(f"waiting for the events of {len(result.uploaded):,} uploaded tracks")
    missing = deployment.receiver.missing(result.uploaded)
    result.lost += [f"{track_id[:8]}...: uploaded, and its event was not delivered" for track_id in missing]
    result.events = deployment.receiver.events
    return result


def print_report(
    ledger: Ledger, result: Audit, injected: dict[str, int], disk: full_disk.Result | str, seconds: float
) -> bool:
    """Print all tables; return True if nothing was lost and no response was false."""
    print(f"\n{seconds / 60:.1f} minutes, {CLIENTS} clients; faults injected: {sum(injected.values())}")
    rows = {
        "sessions acknowledged": len(ledger.sessions),
        "tracks acknowledged": len(ledger.tracks),
        "  stored (the store responded 200)": ledger.count(STORED, VERIFIED),
        "  verified (the service responded uploaded)": ledger.count(VERIFIED),
        "  cancelled": ledger.count(CANCELLED),
        "  verified at the end only": result.completed,
        "  read back byte for byte": result.checked,
        "tracks of requests without a response": result.unacknowledged,
        "webhook events received": result.events,
        "lost": len(result.lost),
        "violations": len(result.violations),
    }
    for name, value in rows.items():
        print(f"{name:<44}{value:>12,}")
    print(f"{'GiB read back':<44}{result.checked_bytes / 2**30:>12.2f}")
    for text in (*result.lost[:10], *result.violations[:10]):
        print(f"    {text}")
    print_causes(ledger)
    print_latencies(ledger, injected)
    return print_full_disk(disk) and not result.lost and not result.violations


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
    """Run the soak test; return 0 if nothing was lost and no response was false."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="duration of the uploads (%(default)s)")
    parser.add_argument("--seed", type=int, help="seed of the clients' random choices (printed at the start)")
    parser.add_argument("--folder", type=Path, help="folder for temporary data (the system's)")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    report(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="loadbay-soak-", dir=options.folder, ignore_cleanup_errors=True) as name:
        folder, ledger, start = Path(name), Ledger(), time.monotonic()
        with Deployment(folder) as deployment:
            memory_before = deployment.resident_mib()
            injected = run_clients(deployment, ledger, options.minutes * 60, seed)
            seconds = time.monotonic() - start
            wait_until_ready(deployment.origin)
            memory_after = deployment.resident_mib()
            report("filling the disk")
            disk = full_disk.run(deployment, folder)
            result = verify(deployment, ledger)
        good = print_report(ledger, result, injected, disk, seconds)
        print(f"\nlargest worker: {memory_before:.0f} MiB at the start, {memory_after:.0f} MiB at the end")
        print("tracks by status: " + ", ".join(f"{k} {v:,}" for k, v in Counter(result.statuses).most_common()))
        print("OK: nothing was lost, and no response was false." if good else "FAILED: see above.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
