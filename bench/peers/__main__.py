"""Compare the service with its peers in one run: `python -m bench.peers`. See bench/README.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from ..load import CONNECTIONS, WRK
from . import creating, whole
from .creating import Summary
from .servers import install_peers
from .whole import Run

# The rate of this service as a multiple of each peer's: in single requests, and per file in a batch.
SINGLE_TARGETS = {"Companion, /s3/params": 1.6, "tus-node, S3 store": 4.0}
BATCH_TARGET = 10.0
BUSY_TARGET = 0.9
"""The least utilization of the store while this service uploads and the store has its own core."""


def report(text: str) -> None:
    """Print progress to standard error."""
    print(f"... {text}", file=sys.stderr, flush=True)


def spread(values: list[float], spec: str = ",.0f") -> str:
    """Format the median, the minimum and the maximum."""
    return "".join(f"{value:>9{spec}}" for value in (median(values), min(values), max(values)))


def outcome(met: bool) -> str:
    """Return the word for a target that was met or missed."""
    return "met" if met else "missed"


def print_creation(summaries: list[Summary]) -> bool:
    """Print the rates and costs of creating an upload; return True if all targets are met."""
    print(f"\nCreating an upload: uploads per second; {WRK}, {CONNECTIONS} connections, two worker processes each")
    print(f"{'':<32}{'median':>9}{'min':>9}{'max':>9}{'CPU ms each':>13}{'MiB a worker':>14}{'MiB in all':>12}")
    for row in summaries:
        memory = f"{row.worker_mib:>14.0f}{row.total_mib:>12.0f}"
        print(f"{row.title:<32}{spread(row.rates)}{median(row.cpu_seconds) * 1000:>13.3f}{memory}")
    single, *peers, batch = summaries
    print(f"\n{'multiple of the rate':<50}{'median':>9}{'min':>9}{'max':>9}{'by CPU':>9}{'target':>9}")
    met = True
    for peer in peers:
        met &= print_comparison(single, peer, SINGLE_TARGETS.get(peer.title))
    for peer in peers:
        met &= print_comparison(batch, peer, BATCH_TARGET)
    return met


def print_comparison(ours: Summary, peer: Summary, target: float | None) -> bool:
    """Print the rate of this service as a multiple of a peer's; return True if the target is met."""
    multiples = [mine / theirs for mine, theirs in zip(ours.rates, peer.rates, strict=True)]
    by_cpu = median(theirs / mine for mine, theirs in zip(ours.cpu_seconds, peer.cpu_seconds, strict=True))
    met = target is None or median(multiples) >= target
    column = f"{'-':>9}" if target is None else f"{target:>9.1f}  {outcome(met)}"
    print(f"{ours.title + ' / ' + peer.title:<50}{spread(multiples, '.2f')}{by_cpu:>9.2f}{column}")
    return met


def print_uploads(runs_by_title: dict[str, list[Run]], files: int) -> None:
    """Print the durations and costs of whole uploads."""
    print(f"\n{files:,} files of 1 MiB, {whole.CLIENTS} clients at once; elapsed seconds, and CPU seconds")
    print(f"{'':<30}{'median':>9}{'min':>9}{'max':>9}{'service CPU':>13}{'store CPU':>11}{'service MiB':>13}")
    for title, runs in runs_by_title.items():
        service, store, peak = (median(run[column] for run in runs) for column in (1, 2, 3))
        figures = f"{service:>13.1f}{store:>11.1f}{peak:>13.0f}"
        if title == whole.STORE_ALONE:
            figures = f"{'-':>13}{store:>11.1f}{'-':>13}"
        print(f"{title:<30}{spread([run.elapsed for run in runs], '.1f')}{figures}")


def print_uploads_with_isolated_store(runs_by_title: dict[str, list[Run]]) -> bool:
    """Print whole uploads with the store on a core of its own; return True if the store is the bottleneck."""
    if not runs_by_title:
        print("\nOnly one core: the store cannot have its own.")
        return True
    print("\nThe same with the store on a core of its own, and everything else on the others")
    print(f"{'':<30}{'median':>9}{'min':>9}{'max':>9}{'store busy':>13}{'target':>9}")
    all_met = True
    for title, runs in runs_by_title.items():
        busy, column = median(run.store_utilization for run in runs), f"{'-':>9}"
        if title != whole.STORE_ALONE:
            met = busy >= BUSY_TARGET
            all_met &= met
            column = f"{BUSY_TARGET:>9.0%}  {outcome(met)}"
        print(f"{title:<30}{spread([run.elapsed for run in runs], '.1f')}{busy:>13.0%}{column}")
    return all_met


def main() -> int:
    """Run the comparison; return 0 if all targets are met."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of creating uploads (%(default)s)")
    parser.add_argument("--seconds", type=int, default=4, help="seconds of each row in a round (%(default)s)")
    parser.add_argument("--files", type=int, default=1000, help="files of 1 MiB in a whole upload (%(default)s)")
    parser.add_argument("--whole-rounds", type=int, default=3, help="rounds of whole uploads (%(default)s)")
    parser.add_argument("--only", choices=["creating", "whole"], help="only this part")
    options = parser.parse_args()
    if WRK is None:
        parser.exit(2, "wrk is not installed: apt-get install wrk\n")
    install_peers()
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    met = True
    with tempfile.TemporaryDirectory(prefix="loadbay-peers-") as temporary:
        folder, rounds, files = Path(temporary), options.whole_rounds, options.files
        if options.only != "whole":
            met = print_creation(creating.measure(folder, options.rounds, options.seconds, report))
        if options.only != "creating":
            print_uploads(whole.measure(folder, rounds, files, report), files)
            isolated = whole.measure_with_isolated_store(folder, rounds, files, report)
            met &= print_uploads_with_isolated_store(isolated)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
