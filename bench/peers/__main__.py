"""Compare the service with its peers in one run: `python -m bench.peers`. See bench/README.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from ..load import WRK
from . import albums, creating, tables, whole
from .scenarios import MODES
from .servers import install_peers

PARTS = ("creating", "whole", "albums")


def report(text: str) -> None:
    """Print progress to standard error."""
    print(f"... {text}", file=sys.stderr, flush=True)


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of creating uploads (%(default)s)")
    parser.add_argument("--seconds", type=int, default=4, help="seconds of each row in a round (%(default)s)")
    parser.add_argument("--files", type=int, default=1000, help="MiB of a whole upload (%(default)s)")
    parser.add_argument("--albums", type=int, default=200, help="albums (%(default)s)")
    parser.add_argument("--whole-rounds", type=int, default=7, help="rounds of whole uploads and albums (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="only these parts")
    parser.add_argument(
        "--modes", nargs="+", choices=list(MODES), default=list(MODES), help="whole uploads in these ways"
    )
    options = parser.parse_args()
    if WRK is None and "creating" in options.only:
        parser.exit(2, "wrk is not installed: apt-get install wrk\n")
    return options


def run(options: argparse.Namespace, folder: Path) -> bool:
    """Run the selected parts; return True if all targets are met."""
    rounds, files, modes, met = options.whole_rounds, options.files, options.modes, True
    if "creating" in options.only:
        met &= tables.print_creation(creating.measure(folder, options.rounds, options.seconds, report))
    if "whole" in options.only:
        for isolated in (False, True):
            runs = whole.measure(folder, rounds, files, report, modes, isolated)
            met &= tables.print_uploads(runs, files, modes, isolated)
    if "albums" in options.only:
        met &= tables.print_albums(albums.measure(folder, rounds, options.albums, report), options.albums)
    return met


def main() -> int:
    """Run the comparison; return 0 if all targets are met."""
    options = parse_options()
    if {"creating", "whole"} & set(options.only):
        install_peers()
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="loadbay-peers-") as temporary:
        return 0 if run(options, Path(temporary)) else 1


if __name__ == "__main__":
    sys.exit(main())
