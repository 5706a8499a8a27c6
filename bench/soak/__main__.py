"""Upload for a long time while one part after another fails, then count what became of it.

`python -m bench.soak --minutes 15`. Exit status: 0 if nothing was lost and nothing untrue said. See bench/README.md.
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

from . import disk, faults
from .clients import HOUR, Uploader, complete_again, session_tracks
from .ledger import CANCELLED, QUIET, STORED, VERIFIED, Audit, Ledger, audit, percentile
from .stage import BUCKET, Stage, until_ready

CLIENTS = 16
TOLD_EVERY = 10.0
SPARE = 4 * 2**30
"""Bytes that are left free on the disk."""


def note(text: str) -> None:
    """What goes on, for whoever waits."""
    print(f"... {text}", file=sys.stderr, flush=True)


def soak(stage: Stage, ledger: Ledger, seconds: float, seed: int) -> dict[str, int]:
    """Let all clients upload for so long, and play the faults; how often each was. Ctrl-C ends it early."""
    over, played = threading.Event(), dict[str, int]()
    room = shutil.disk_usage(stage.folder).free - SPARE
    # The clocks of two clients are off by an hour.
    clocks = [HOUR, -HOUR, *[0] * (CLIENTS - 2)]
    uploaders = [Uploader(stage, ledger, over, seed + n, clock, room) for n, clock in enumerate(clocks)]
    began = time.monotonic()

    def tell(fault: str) -> None:
        minutes = (time.monotonic() - began) / 60
        verified = ledger.count(VERIFIED)
        note(f"{minutes:.1f} min, {verified:,} tracks verified, {len(ledger.lies)} untruths; now: {fault}")

    player = threading.Thread(target=lambda: played.update(faults.play(stage, ledger, over, tell)))
    for thread in (*uploaders, player):
        thread.start()
    try:
        over.wait(seconds)
    except KeyboardInterrupt:
        note("interrupted: what was done so far is looked at")
    over.set()
    player.join()
    note("the clients finish what they have begun")
    for uploader in uploaders:
        uploader.join()
    return played


def show(ledger: Ledger, found: Audit, played: dict[str, int], full: disk.Result | str, took: float) -> bool:
    """Print what came of it; whether all is well."""
    print(f"\n{took / 60:.1f} minutes, {CLIENTS} clients; faults played: {sum(played.values())}")
    rows = {
        "sessions acknowledged": len(ledger.sessions),
        "tracks acknowledged": len(ledger.tracks),
        "  stored (the store said 200)": ledger.count(STORED, VERIFIED),
        "  verified (the service said uploaded)": ledger.count(VERIFIED),
        "  cancelled": ledger.count(CANCELLED),
        "  checked in the end, as nobody had": found.completed,
        "  read back byte for byte in the end": found.checked,
        "tracks of requests that were given up": found.extra,
        "events that the webhook was told": found.events,
        "lost": len(found.lost),
        "lied": len(found.lied),
    }
    for name, value in rows.items():
        print(f"{name:<44}{value:>12,}")
    print(f"{'GiB read back':<44}{found.checked_bytes / 2**30:>12.2f}")
    for text in (*found.lost[:10], *found.lied[:10]):
        print(f"    {text}")
    show_causes(ledger)
    show_times(ledger, played)
    good = not found.lost and not found.lied
    print("\nfull disk (SQLite on a small tmpfs)")
    if isinstance(full, str):
        print(f"    not played: {full}")
    else:
        for (phase, answer), count in full["answers"].items():
            print(f"    {phase:<24}{answer:<34}{count:>9,}")
        print(f"    acknowledged and lost: {full['lost']}; the file is {'whole' if full['whole'] else 'DAMAGED'}")
        good &= full["lost"] == 0 and full["whole"]
    return good


def show_causes(ledger: Ledger) -> None:
    """Print what failed, by its cause."""
    print(f"\n{'failed, and was tried again':<46}{'while':<24}{'times':>8}")
    for (who, how, fault), count in sorted(ledger.causes.items(), key=lambda item: (item[0][2], -item[1])):
        print(f"    {who + ': ' + how:<42}{fault:<24}{count:>8,}")
    for what, count in ledger.given_up.items():
        print(f"    {'given up: ' + what:<66}{count:>8,}")


def show_times(ledger: Ledger, played: dict[str, int]) -> None:
    """Print how long answers took, by what was wrong meanwhile."""
    print(f"\n{'milliseconds to an answer':<46}{'played':>8}{'answers':>10}{'p50':>8}{'p99':>8}{'max':>8}")
    for fault in (QUIET, *played):
        values = [
            ms for (name, at), all_ in ledger.seconds.items() if at == fault and "store" not in name for ms in all_
        ]
        if values:
            times = [percentile(values, share) * 1000 for share in (0.5, 0.99)] + [max(values) * 1000]
            told = "".join(f"{value:>8,.0f}" for value in times)
            print(f"    {fault:<42}{played.get(fault, ''):>8}{len(values):>10,}{told}")


def main() -> int:
    """Run it; 0 where all is well."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="how long clients upload (%(default)s)")
    parser.add_argument("--seed", type=int, help="for the clients' choices; printed, so that it can be given again")
    parser.add_argument("--folder", type=Path, help="where to keep the data meanwhile (the system's)")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    note(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="loadbay-soak-", dir=options.folder, ignore_cleanup_errors=True) as name:
        folder, ledger, began = Path(name), Ledger(), time.monotonic()
        with Stage(folder) as stage:
            memory = stage.resident_mib()
            played = soak(stage, ledger, options.minutes * 60, seed)
            took = time.monotonic() - began
            until_ready(stage.origin)
            grown = stage.resident_mib()
            note("the disk is filled up")
            full = disk.fill_up(stage, folder)
            note(f"every byte of {len(ledger.tracks):,} tracks is looked at")
            tell = lambda done, of: note(f"{done:,} of {of:,} sessions")  # noqa: E731
            asked = partial(session_tracks, stage), partial(complete_again, stage)
            found = audit(ledger, *asked, stage.bucket(), BUCKET, tell)
            note(f"the events of {len(found.uploaded):,} uploaded tracks are waited for")
            untold = stage.receiver.missing(found.uploaded)
            found.lost += [f"{track_id[:8]}...: uploaded, and its event never came" for track_id in untold]
            found.events = stage.receiver.events
        good = show(ledger, found, played, full, took)
        print(f"\nlargest worker: {memory:.0f} MiB at the start, {grown:.0f} MiB at the end")
        print("tracks by status: " + ", ".join(f"{k} {v:,}" for k, v in Counter(found.statuses).most_common()))
        print("Nothing was lost and nothing untrue was said." if good else "NOT WELL: see above.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
