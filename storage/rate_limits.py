"""Rate limits, for a deploy that turns them on: how often a key may open sessions, and a session register tracks."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from time import time

from storage.errors import TooLarge, TooManyRequests
from storage.settings import Settings, SettingsError

logger = logging.getLogger("loadbay")

REDIS_TIMEOUT = 0.5
"""How long a request waits for Redis before it passes uncounted, in seconds."""


class RateLimiter:
    """Counts requests in windows of fixed length, in this process's memory or in what RATE_LIMIT_STORAGE names."""

    def __init__(self, rates: Mapping[str, str], storage: str):
        """`rates` gives each limit as `100/minute`, by name. Raises SettingsError where `storage` cannot be used."""
        # Imported here, as a deploy that limits nothing needs none of it.
        import limits

        self.items = {name: limits.parse(text) for name, text in rates.items() if text}
        waits = dict.fromkeys(("socket_connect_timeout", "socket_timeout"), REDIS_TIMEOUT)
        options = {} if storage.startswith("memory:") else waits
        try:
            counts = limits.storage.storage_from_string(storage, wrap_exceptions=True, **options)
        except limits.errors.ConfigurationError:
            package = "pymemcache" if storage.startswith("memcached:") else "redis"
            raise SettingsError(f"The setting RATE_LIMIT_STORAGE needs a package: pip install {package}") from None
        except ValueError:
            # What was said is not repeated: it may hold a password.
            raise SettingsError("The setting RATE_LIMIT_STORAGE takes a URL such as redis://host:6379/0.") from None
        # A connection is made when the first request is counted. What its options are worth is to be known before.
        pool = getattr(getattr(counts, "storage", None), "connection_pool", None)
        try:
            if pool is not None:
                pool.make_connection()
        except TypeError:
            raise SettingsError("The setting RATE_LIMIT_STORAGE has an option that its store does not know.") from None
        self.limiter = limits.strategies.FixedWindowRateLimiter(counts)
        self.error = limits.errors.StorageError

    def hit(self, name: str, who: str, cost: int = 1) -> dict[str, str]:
        """Count `cost` for `who` under the limit `name`; returns the headers that tell what is left.

        https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ has their form. Raises TooManyRequests,
        and TooLarge for more than the limit ever allows. What is refused leaves as much for a smaller request.
        Where the counts cannot be reached, nobody is refused: a limit protects the service, it does not stop it.
        """
        item = self.items.get(name)
        if item is None:
            return {}
        if cost > item.amount:
            raise TooLarge(f"{name}: this service takes at most {item.amount} of them in {item.get_expiry()} seconds.")
        try:
            # One more is counted even where there is no room, and does no harm then; of many, some may have had it.
            taken = cost == 1 or self.limiter.test(item, name, who, cost=cost)
            taken = taken and self.limiter.hit(item, name, who, cost=cost)
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


def rate_limiter_from(settings: Settings) -> RateLimiter | None:
    """The limits that `settings` ask for, or None where there are none."""
    asked = {"sessions": settings.rate_limit_sessions, "tracks": settings.rate_limit_tracks}
    return RateLimiter(asked, settings.rate_limit_storage) if any(asked.values()) else None
