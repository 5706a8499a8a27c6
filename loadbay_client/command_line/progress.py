"""Progress of `loadbay get` on stderr: a bar on a terminal, otherwise one line per file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ..payloads import Track
from .downloads import Result


class DownloadDisplay:
    """A bar for all files. Uses stderr, as stdout is for the result."""

    def __init__(self, tracks: Sequence[Track], *, quiet: bool = False):
        self.quiet = quiet
        self.bar: Any = None
        covers = [track["cover"] for track in tracks if track["cover"] is not None]
        total = sum(track["size"] or 0 for track in tracks) + sum(cover["size"] or 0 for cover in covers)
        if sys.stderr.isatty() and not quiet:
            # Imported here, as only a terminal needs it.
            from tqdm import tqdm

            self.bar = tqdm(total=total, unit="B", unit_scale=True, file=sys.stderr, dynamic_ncols=True)

    def advance(self, count: int) -> None:
        """Move the bar by `count` bytes; back where they are negative."""
        if self.bar is not None:
            self.bar.update(count)

    def show(self, result: Result) -> Result:
        """Report a file, and return its result. With a bar, or quiet, only failures are reported."""
        if result.error or not (self.quiet or self.bar is not None):
            outcome = str(result.error) if result.error else "already there" if result.present else "fetched"
            line = f"{result.name}: {outcome}".encode(sys.stderr.encoding or "ascii", "backslashreplace").decode()
            if self.bar is not None:
                self.bar.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr, flush=True)
        return result

    def close(self) -> None:
        """Close the bar, so that the terminal can be used further."""
        if self.bar is not None:
            self.bar.close()
