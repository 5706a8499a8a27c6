"""Progress of an upload on stderr: bars on a terminal, otherwise one line per file."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import Any

from .batch import Outcome
from .files import File, stat_signature_or_none

NAME_WIDTH = 28


class ProgressDisplay:
    """A bar for the whole upload and one for each running file. Uses stderr, as stdout is for the result."""

    def __init__(self, files: Iterable[File], parallel: int, *, quiet: bool = False):
        self.sizes = {file: (stat_signature_or_none(file.path) or [0])[0] for file in files}
        self.lock, self.finished = threading.Lock(), 0
        self.free_positions, self.bars = list(range(parallel, 0, -1)), dict[File, Any]()
        self.total: Any = None
        self.quiet = quiet
        if sys.stderr.isatty() and not quiet:
            self.total = self._new_bar("Total", sum(self.sizes.values()), 0)

    def _new_bar(self, name: str, size: int, position: int) -> Any:
        # Imported here, as only a terminal needs it.
        from tqdm import tqdm

        label = name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 3]}..."
        return tqdm(
            total=size, desc=label.ljust(NAME_WIDTH), position=position, leave=position == 0, unit="B",
            unit_scale=True, file=sys.stderr, dynamic_ncols=True,
        )  # fmt: skip

    def advance(self, file: File, count: int) -> None:
        """Move the file's bar and the total by `count` bytes."""
        if self.total is None:
            return
        with self.lock:
            if count > 0 and file not in self.bars and self.free_positions:
                self.bars[file] = self._new_bar(file.upload_name, self.sizes[file], self.free_positions.pop())
            if file in self.bars:
                self.bars[file].update(count)
                if self.bars[file].n >= self.sizes[file]:
                    # Sent: the next file needs the place while this one is verified.
                    self._close_bar(file)
            self.total.update(count)

    def _close_bar(self, file: File) -> None:
        if bar := self.bars.pop(file, None):
            self.free_positions.append(-bar.pos)
            bar.close()

    def show_outcome(self, outcome: Outcome) -> None:
        """Remove the file's bar and report an error; without a terminal, print a line for the file."""
        self.finished += 1
        if self.quiet and not outcome.error:
            return
        line = f"[{self.finished}/{len(self.sizes)}] {outcome.file.upload_name}: {outcome.error or 'uploaded'}"
        if self.total is None:
            print(line, file=sys.stderr, flush=True)
            return
        with self.lock:
            self._close_bar(outcome.file)
            if outcome.error:
                self.total.write(line, file=sys.stderr)

    def close(self) -> None:
        """Close all bars, so that the terminal can be used further."""
        for bar in [*self.bars.values(), *([self.total] if self.total is not None else [])]:
            bar.close()
