"""Time: whole seconds since the epoch inside the service, ISO 8601 in UTC with `Z` outside."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache


def now() -> int:
    """Return the current time in whole seconds since the epoch, rounded down."""
    return int(time.time())


@lru_cache(maxsize=256)
def isoformat_utc(seconds: int | None) -> str | None:
    """Return `2026-01-31T12:00:00Z` for seconds since the epoch, and None for None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
