"""Time: whole seconds since the epoch inside the service, ISO 8601 in UTC with `Z` outside."""

from __future__ import annotations

import time
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from functools import lru_cache
from time import monotonic

REQUEST_SECONDS = 10.0
"""Time that a request may take. What it waits for, the store and the database, is given up by then."""

_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)


def limit_time(seconds: float) -> Token[float | None]:
    """Give what follows in this context, and in those copied from it, so many seconds, until `unlimit_time`."""
    return _ends_at.set(monotonic() + seconds)


def unlimit_time(token: Token[float | None]) -> None:
    """End a limit that `limit_time` has set."""
    _ends_at.reset(token)


def seconds_left(most: float) -> float:
    """Return how many seconds are left of the current limit: `most` without one, and less than 0 after its end."""
    ends_at = _ends_at.get()
    return most if ends_at is None else min(most, ends_at - monotonic())


def now() -> int:
    """Return the current time in whole seconds since the epoch, rounded down."""
    return int(time.time())


@lru_cache(maxsize=256)
def isoformat_utc(seconds: int | None) -> str | None:
    """Return `2026-01-31T12:00:00Z` for seconds since the epoch, and None for None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
