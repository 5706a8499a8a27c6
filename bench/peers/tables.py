"""The tables of the comparison, with their targets."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from ..load import CONNECTIONS, WRK
from . import albums
from .creating import Summary
from .scenarios import CLIENTS, COPIES, MODES
from .whole import Run, Runs

# This service as a multiple of each peer, single requests by rate, all else by CPU time.
SINGLE_TARGETS = {"Companion, /s3/params": 1.6, "tus-node, S3 store": 4.0}
SINGLE_CPU_TARGETS = {"Companion, /s3/params": 2.5, "tus-node, file store": 0.8}
BATCH_CPU_TARGET = 10.0

ALONE_TARGET, ALONE_TARGET_ISOLATED = 1.25, 1.10
"""The greatest duration of a whole upload, as a multiple of the same requests to the store alone."""
ALBUM_CPU_TARGET = 1.5
FLASK_TARGET = 1.33
"""The least duration of the Flask route, as a multiple of this service's."""


def spread(values: Sequence[float], spec: str = ",.0f") -> str:
    """Format the median, the minimum and the maximum."""
    return "".join(f"{value:>9{spec}}" for value in (median(values), min(values), max(values)))


def column(target: float | None, met: bool, spec: str = ".2f") -> str:
    """Format a target, and the word for one that was met or missed."""
    return f"{'-':>9}" if target is None else f"{target:>9{spec}}  {'met' if met else 'missed'}"


# --- Creating an upload -----------------------------------------------------------------------------------------------


def print_creation(summaries: Sequence[Summary]) -> bool:
    """Print the rates and costs of creating an upload; return True if all targets are met."""
    print(f"\nCreating an upload: uploads per second; {WRK}, {CONNECTIONS} connections, two worker processes each")
    print(f"{'':<32}{'median':>9}{'min':>9}{'max':>9}{'CPU ms each':>13}{'MiB a worker':>14}{'MiB in all':>12}")
    for row in summaries:
        memory = f"{row.worker_mib:>14.0f}{row.total_mib:>12.0f}"
        print(f"{row.title:<32}{spread(row.rates)}{median(row.cpu_seconds) * 1000:>13.3f}{memory}")
    single, *peers, batch = summaries
    title = "multiple of the peer"
    print(f"\n{title:<50}{'median':>9}{'min':>9}{'max':>9}{'target':>9}")
    met = True
    for peer in peers:
        targets = SINGLE_TARGETS.get(peer.title), SINGLE_CPU_TARGETS.get(peer.title)
        met &= print_comparison(single, peer, *targets)
    for peer in peers:
        met &= print_comparison(batch, peer, None, BATCH_CPU_TARGET)
    return met


def print_comparison(ours: Summary, peer: Summary, rate_target: float | None, cpu_target: float | None) -> bool:
    """Print this service as a multiple of a peer, by rate and by CPU time; return True if the targets are met."""
    by_rate = [mine / theirs for mine, theirs in zip(ours.rates, peer.rates, strict=True)]
    by_cpu = [theirs / mine for mine, theirs in zip(ours.cpu_seconds, peer.cpu_seconds, strict=True)]
    all_met = True
    for kind, values, target in (("rate", by_rate, rate_target), ("CPU", by_cpu, cpu_target)):
        met = target is None or median(values) >= target
        all_met &= met
        title = f"{ours.title} / {peer.title}" if kind == "rate" else "    by CPU time"
        print(f"{title:<50}{spread(values, '.2f')}{column(target, met, '.1f')}")
    return all_met


# --- Whole uploads ----------------------------------------------------------------------------------------------------


def print_uploads(runs: Runs, files: int, modes: Sequence[str], isolated: bool) -> bool:
    """Print the durations, costs and ratios of whole uploads; return True if all targets are met."""
    if not runs:
        print("\nOnly one core: the store cannot have its own.")
        return True
    cores = "the store on a core of its own, all else on the others" if isolated else "all on the same cores"
    print(f"\n{files:,} MiB in files, {CLIENTS} clients at once, {cores}; elapsed seconds, and CPU seconds")
    print(
        f"{'':<42}{'median':>9}{'min':>9}{'max':>9}{'service CPU':>13}{'store CPU':>11}{'clients CPU':>13}"
        f"{'store busy':>12}{'service MiB':>13}"
    )
    for title, of_title in runs.items():
        print(f"{title:<42}{spread([run.elapsed for run in of_title], '.1f')}{costs(of_title)}")
    print(f"\n{'multiple of the duration':<82}{'median':>9}{'min':>9}{'max':>9}{'target':>9}")
    met = [print_mode(runs, name, isolated) for name in modes]
    return all(met)


def costs(runs: Sequence[Run]) -> str:
    """Format the medians of what some runs cost."""
    service, store, client, peak = (median(run[index] for run in runs) for index in (1, 2, 3, 4))
    busy = median(run.store_utilization for run in runs)
    columns = f"{store:>11.1f}{client:>13.1f}{busy:>12.0%}"
    return f"{service:>13.1f}{columns}{peak:>13.0f}" if peak else f"{'-':>13}{columns}{'-':>13}"


def print_mode(runs: Runs, name: str, isolated: bool) -> bool:
    """Print the ratios of one way of uploading; return True if its targets are met."""
    mode = MODES[name]
    most = ALONE_TARGET_ISOLATED if isolated else ALONE_TARGET
    met = print_ratio(runs, mode.ours.title, mode.alone.title, most, at_most=True)
    if name == "plain":
        print_ratio(runs, mode.ours.title, COPIES.title, None)
    if not isolated:
        met &= print_ratio(runs, mode.flask.title, mode.ours.title, FLASK_TARGET)
    return met


def print_albums(runs: Runs, count: int) -> bool:
    """Print durations and costs of albums; return True if all targets are met."""
    ours, store, floor = albums.OURS.title, albums.ALONE.title, albums.VERIFIED.title
    print(f"\n{count:,} albums of {albums.TRACKS} tracks with covers, {CLIENTS} clients, the store on its own core")
    print(f"{'':<44}{'median':>9}{'min':>9}{'max':>9}{'target':>9}")
    for title in (ours, store, floor):
        print(f"{title + ', seconds':<44}{spread([run.elapsed for run in runs[title]], '.1f')}{'-':>9}")
    rows = (
        (f"{ours} / {floor}", [a.elapsed / b.elapsed for a, b in zip(runs[ours], runs[floor], strict=True)], None),
        (f"{ours} / {store}", [a.elapsed / b.elapsed for a, b in zip(runs[ours], runs[store], strict=True)],
         ALONE_TARGET_ISOLATED),
        ("our CPU milliseconds a track", [run.service_cpu * 1000 / count / albums.TRACKS for run in runs[ours]],
         ALBUM_CPU_TARGET),
        ("our requests an album", [run.requests / count for run in runs[ours]], albums.REQUESTS),
    )  # fmt: skip
    all_met = True
    for title, values, target in rows:
        met = target is None or median(values) <= target
        all_met &= met
        print(f"{title:<44}{spread(values, '.2f')}{column(target, met)}")
    return all_met


def print_ratio(runs: Runs, upper: str, lower: str, target: float | None, at_most: bool = False) -> bool:
    """Print the duration of one way as a multiple of another's, round by round; return True if the target is met."""
    ratios = [a.elapsed / b.elapsed for a, b in zip(runs[upper], runs[lower], strict=True)]
    met = target is None or (median(ratios) <= target if at_most else median(ratios) >= target)
    print(f"{f'{upper} / {lower}':<82}{spread(ratios, '.2f')}{column(target, met)}")
    return met
