"""Progress bars of commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click

from storage.db.batches import ProgressCallback

T = TypeVar("T")


def progress(label: str) -> ProgressCallback:
    """Return a function that yields items under a progress bar, which click shows on a terminal only."""

    def watch(items: Iterable[T], total: int) -> Iterator[T]:
        with click.progressbar(items, length=total, label=label, file=sys.stderr) as bar:
            yield from bar

    return watch
