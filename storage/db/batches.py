"""Short transactions for work on many rows: each holds its locks for a few hundredths of a second only."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from peewee import Database, Expression, Field, Model

TARGET_SECONDS = 0.02
"""Seconds that a transaction may take before the next one gets fewer rows."""

FIRST_ROWS, MAX_ROWS = 50, 500
MAX_PAUSE = 1.0

T = TypeVar("T")


class ProgressCallback(Protocol):
    """A function that iterates over items, of which there are about `total`, and may report progress or stop."""

    def __call__(self, items: Iterable[T], total: int) -> Iterator[T]:
        """Yield the items."""


def no_progress(items: Iterable[T], total: int) -> Iterator[T]:
    """Iterate over `items` without reporting progress."""
    return iter(items)


class Pace:
    """The number of rows for one transaction, adapted to how long the last ones took, and the pause after each.

    Transactions take `share` of the time, so that whoever waits for the lock gets it, and requests keep their rate.
    """

    def __init__(self, share: float = 0.05) -> None:
        self.rows, self.share = FIRST_ROWS, share

    @contextmanager
    def transaction(self, database: Database) -> Iterator[int]:
        """Run a transaction, and provide the number of rows that it may change."""
        with database.atomic():
            started = time.monotonic()
            yield self.rows
        seconds = time.monotonic() - started
        self._observe(seconds)
        time.sleep(min(MAX_PAUSE, seconds * (1 / self.share - 1)))

    def _observe(self, seconds: float) -> None:
        if seconds > TARGET_SECONDS:
            self.rows = max(1, self.rows // 2)
        elif seconds < TARGET_SECONDS / 4:
            self.rows = min(MAX_ROWS, self.rows * 2)


def delete_in_batches(
    database: Database, model: type[Model], condition: Expression, order: Field[Any], pace: Pace | None = None
) -> int:
    """Delete the rows that a condition selects, in the order of a column, and return their number.

    They are searched for outside the transactions, and compared once more within: a search may take long.
    """
    key: Any = model._meta.primary_key
    pace, deleted = pace or Pace(), 0
    while True:
        matches = model.select(key).where(condition).order_by(order).limit(pace.rows).tuples()
        keys = [value for (value,) in matches.execute(database)]
        if not keys:
            return deleted
        with pace.transaction(database):
            count = int(model.delete().where(key.in_(keys), condition).execute(database))
        deleted += count
        if not count:
            # Another process has deleted or changed them: what is left is found by the next sweep.
            return deleted
