"""Time as this service tells it: whole seconds since the epoch inside, ISO 8601 with Z outside."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache


def now() -> int:
    """Seconds since the epoch, floored."""
    return int(time.time())


@lru_cache(maxsize=256)
def isoformat_utc(seconds: int | None) -> str | None:
    """`2026-01-31T12:00:00Z` for seconds since the epoch; None stays None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
