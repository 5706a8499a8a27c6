"""What a person sees of an upload: bars on a terminal, and elsewhere a line for each file."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import Any

from .client import Outcome
from .files import File, stamp_or_none


class ProgressDisplay:
    """A bar for the whole and one for each file on its way. On `stderr`, as `stdout` is for the outcome."""

    def __init__(self, files: Iterable[File], parallel: int):
        self.sizes = {file: (stamp_or_none(file.path) or [0])[0] for file in files}
        self.lock, self.done = threading.Lock(), 0
        self.free, self.bars = list(range(parallel, 0, -1)), dict[File, Any]()
        self.total: Any = None
        if sys.stderr.isatty():
            self.total = self._bar("Total", sum(self.sizes.values()), 0)

    def _bar(self, name: str, size: int, position: int) -> Any:
        # Imported here, as only a terminal needs it.
        from tqdm import tqdm

        shown = name if len(name) <= 28 else f"{name[:25]}..."
        return tqdm(
            total=size, desc=f"{shown:<28}", position=position, leave=position == 0, unit="B", unit_scale=True,
            file=sys.stderr, dynamic_ncols=True,
        )  # fmt: skip

    def advance(self, file: File, count: int) -> None:
        """So many bytes more of a file have gone."""
        if self.total is None:
            return
        with self.lock:
            if file not in self.bars and self.free:
                self.bars[file] = self._bar(file.upload_name, self.sizes[file], self.free.pop())
            if file in self.bars:
                self.bars[file].update(count)
            self.total.update(count)

    def outcome(self, outcome: Outcome) -> None:
        """A file is through."""
        self.done += 1
        text = f"[{self.done}/{len(self.sizes)}] {outcome.file.upload_name}: {outcome.error or 'uploaded'}"
        if self.total is None:
            print(text, file=sys.stderr, flush=True)
            return
        with self.lock:
            if bar := self.bars.pop(outcome.file, None):
                self.free.append(-bar.pos)
                bar.close()
            if outcome.error:
                self.total.write(text, file=sys.stderr)

    def close(self) -> None:
        """Leave the terminal as it was found."""
        for bar in [*self.bars.values(), *([self.total] if self.total is not None else [])]:
            bar.close()
