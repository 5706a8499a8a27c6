"""Measure the service against its peers, in one run: `python -m bench.peers`. See bench/README.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from ..load import CONNECTIONS, WRK
from . import creating, whole
from .servers import install

# How many times each peer's rate ours is to be: in single requests, and for each file of a batch.
TARGETS = {"Companion, /s3/params": 1.6, "tus-node, S3 store": 4.0}
BATCH_TARGET = 10.0
# How busy the store is while ours uploads, where it has a core of its own: what keeps it waiting is not the service.
BUSY_TARGET = 0.9


def note(text: str) -> None:
    """What goes on, for whoever waits."""
    print(f"... {text}", file=sys.stderr, flush=True)


def spread(values: list[float], form: str = ",.0f") -> str:
    """The median, and the noise."""
    return "".join(f"{value:>9{form}}" for value in (median(values), min(values), max(values)))


def show_creating(found: list[creating.Found]) -> bool:
    """Print what creating an upload takes; returns whether all targets are met."""
    print(f"\nCreating an upload: uploads a second; {WRK}, {CONNECTIONS} connections, two worker processes each")
    print(f"{'':<32}{'median':>9}{'min':>9}{'max':>9}{'CPU ms each':>13}{'MiB a worker':>14}{'MiB in all':>12}")
    for row in found:
        memory = f"{row.worker_mib:>14.0f}{row.all_mib:>12.0f}"
        print(f"{row.title:<32}{spread(row.rates)}{median(row.costs) * 1000:>13.3f}{memory}")
    single, *peers, batch = found
    met = True
    print(f"\n{'times as many as':<50}{'median':>9}{'min':>9}{'max':>9}{'by CPU':>9}{'target':>9}")
    for ours, targets in ((single, TARGETS), (batch, dict.fromkeys((peer.title for peer in peers), BATCH_TARGET))):
        for peer in peers:
            times = [mine / theirs for mine, theirs in zip(ours.rates, peer.rates, strict=True)]
            target = targets.get(peer.title)
            good = target is None or median(times) >= target
            met &= good
            by_cpu = median(theirs / mine for mine, theirs in zip(ours.costs, peer.costs, strict=True))
            told = f"{'-':>9}" if target is None else f"{target:>9.1f}  {'met' if good else 'missed'}"
            print(f"{ours.title + ' / ' + peer.title:<50}{spread(times, '.2f')}{by_cpu:>9.2f}{told}")
    return met


def show_whole(taken: dict[str, list[whole.Taken]], files: int) -> None:
    """Print what whole uploads take."""
    print(f"\n{files:,} files of 1 MiB, {whole.CLIENTS} clients at once; seconds by the clock, and processor seconds")
    print(f"{'':<30}{'median':>9}{'min':>9}{'max':>9}{'service CPU':>13}{'store CPU':>11}{'service MiB':>13}")
    for title, runs in taken.items():
        walls = spread([run.wall for run in runs], ".1f")
        service, store, peak = (median(values) for values in list(zip(*runs, strict=True))[1:])
        alone = title == whole.ALONE
        told = f"{'-':>13}{store:>11.1f}{'-':>13}" if alone else f"{service:>13.1f}{store:>11.1f}{peak:>13.0f}"
        print(f"{title:<30}{walls}{told}")


def show_apart(taken: dict[str, list[whole.Taken]]) -> bool:
    """Print what whole uploads take where the store has a core of its own; returns whether it is the bound."""
    if not taken:
        print("\nThere is but one core: the store cannot have one of its own.")
        return True
    print("\nThe same with the store on a core of its own, and all else on the others")
    print(f"{'':<30}{'median':>9}{'min':>9}{'max':>9}{'store busy':>13}{'target':>9}")
    met = True
    for title, runs in taken.items():
        busy, told = median(run.store_busy for run in runs), f"{'-':>9}"
        if title != whole.ALONE:
            good = busy >= BUSY_TARGET
            met &= good
            told = f"{BUSY_TARGET:>9.0%}  {'met' if good else 'missed'}"
        print(f"{title:<30}{spread([run.wall for run in runs], '.1f')}{busy:>13.0%}{told}")
    return met


def main() -> int:
    """Run what was asked for; 0 where every target is met."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of creating uploads (%(default)s)")
    parser.add_argument("--seconds", type=int, default=4, help="seconds of each row in a round (%(default)s)")
    parser.add_argument("--files", type=int, default=1000, help="files of 1 MiB in a whole upload (%(default)s)")
    parser.add_argument("--whole-rounds", type=int, default=3, help="rounds of whole uploads (%(default)s)")
    parser.add_argument("--only", choices=["creating", "whole"], help="this part alone")
    options = parser.parse_args()
    if WRK is None:
        parser.exit(2, "wrk asks the peers, and is not installed: apt-get install wrk\n")
    install()
    print(f"load of this machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    met = True
    with tempfile.TemporaryDirectory(prefix="loadbay-peers-") as temporary:
        folder = Path(temporary)
        if options.only != "whole":
            met = show_creating(creating.measure(folder, options.rounds, options.seconds, note))
        if options.only != "creating":
            show_whole(whole.measure(folder, options.whole_rounds, options.files, note), options.files)
            met &= show_apart(whole.measure_apart(folder, options.whole_rounds, options.files, note))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
