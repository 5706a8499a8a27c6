"""Rate limits, for a deploy that turns them on: how often a key may open sessions, and a session register tracks."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from time import time
from typing import TYPE_CHECKING

from .errors import TooManyRequests

if TYPE_CHECKING:
    from .settings import Settings

logger = logging.getLogger("loadbay")

REDIS_SECONDS = 0.5
"""How long a request waits for Redis before it passes uncounted, in seconds."""


class Rates:
    """Counts requests in windows of fixed length, in this process's memory or in what RATE_LIMIT_STORAGE names."""

    def __init__(self, rates: Mapping[str, str], storage: str):
        """`rates` gives each limit as `100/minute`, by name. Raises limits.errors.ConfigurationError."""
        # Imported here, as a deploy that limits nothing needs none of it.
        import limits

        self.items = {name: limits.parse(text) for name, text in rates.items() if text}
        waits = dict.fromkeys(("socket_connect_timeout", "socket_timeout"), REDIS_SECONDS)
        options = {} if storage.startswith("memory:") else waits
        self.limiter = limits.strategies.FixedWindowRateLimiter(
            limits.storage.storage_from_string(storage, wrap_exceptions=True, **options)
        )
        self.error = limits.errors.StorageError

    def take(self, name: str, who: str, cost: int = 1) -> dict[str, str]:
        """Count `cost` for `who` under the limit `name`; returns the headers that tell what is left.

        https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ has their form. Raises TooManyRequests.
        Where the counts cannot be reached, nobody is refused: a limit protects the service, it does not stop it.
        """
        item = self.items.get(name)
        if item is None:
            return {}
        try:
            taken = self.limiter.hit(item, name, who, cost=cost)
            stats = self.limiter.get_window_stats(item, name, who)
        except self.error as e:
            logger.error("RATE_LIMIT_STORAGE cannot be reached: %s", type(e.__cause__).__name__)
            return {}
        seconds = max(1, math.ceil(stats.reset_time - time()))
        headers = {
            "RateLimit-Policy": f'"{name}";q={item.amount};w={item.get_expiry()}',
            "RateLimit": f'"{name}";r={max(0, stats.remaining)};t={seconds}',
        }
        if not taken:
            refused = TooManyRequests()
            refused.retry_after, refused.headers = seconds, headers
            raise refused
        return headers


def rates_of(settings: Settings) -> Rates | None:
    """The limits that `settings` ask for, or None where there are none."""
    asked = {"sessions": settings.rate_limit_sessions, "tracks": settings.rate_limit_tracks}
    return Rates(asked, settings.rate_limit_storage) if any(asked.values()) else None
