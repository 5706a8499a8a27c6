"""Rate limits, where a deploy configures them: sessions per API key, and tracks per session."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from time import time

from storage.errors import TooLarge, TooManyRequests
from storage.settings import Settings, SettingsError

logger = logging.getLogger("loadbay")

REDIS_TIMEOUT = 0.5
"""Seconds that a request waits for Redis before it passes uncounted."""


class RateLimiter:
    """Counts requests in fixed windows, in this process's memory or in the store that RATE_LIMIT_STORAGE names."""

    def __init__(self, rates: Mapping[str, str], storage: str):
        """Parse `rates`, such as `{"sessions": "100/minute"}`. Raises SettingsError if `storage` cannot be used."""
        # Imported here, as a deploy without rate limits does not need it.
        import limits

        self.items = {name: limits.parse(text) for name, text in rates.items() if text}
        timeouts = dict.fromkeys(("socket_connect_timeout", "socket_timeout"), REDIS_TIMEOUT)
        options = {} if storage.startswith("memory:") else timeouts
        try:
            backend = limits.storage.storage_from_string(storage, wrap_exceptions=True, **options)
        except limits.errors.ConfigurationError:
            package = "pymemcache" if storage.startswith("memcached:") else "redis"
            raise SettingsError(f"RATE_LIMIT_STORAGE requires a package: pip install {package}") from None
        except ValueError:
            # The value is not repeated: it may contain a password.
            raise SettingsError("RATE_LIMIT_STORAGE must be a URL such as redis://host:6379/0.") from None
        # The first request opens the connection; an invalid option must fail now, at startup.
        pool = getattr(getattr(backend, "storage", None), "connection_pool", None)
        try:
            if pool is not None:
                pool.make_connection()
        except TypeError:
            raise SettingsError("RATE_LIMIT_STORAGE has an option that its client does not support.") from None
        self.limiter = limits.strategies.FixedWindowRateLimiter(backend)
        self.error = limits.errors.StorageError

    def hit(self, name: str, client: str, cost: int = 1) -> dict[str, str]:
        """Count `cost` against the limit `name` of a client, and return the RateLimit headers.

        Raises TooManyRequests, and TooLarge if `cost` exceeds what a whole window allows. A rejected request uses up
        nothing, so that a smaller one may still pass. If the backend is unreachable every request passes: a rate limit
        protects the service, it must not stop it.
        https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
        """
        item = self.items.get(name)
        if item is None:
            return {}
        if cost > item.amount:
            raise TooLarge(f"{name}: must be at most {item.amount}, the rate limit for {item.get_expiry()} seconds.")
        try:
            # A single hit may exceed the limit, which does no harm. A batch is tested first: it counts in full or not.
            allowed = cost == 1 or self.limiter.test(item, name, client, cost=cost)
            allowed = allowed and self.limiter.hit(item, name, client, cost=cost)
            stats = self.limiter.get_window_stats(item, name, client)
        except self.error as e:
            logger.error("Rate limit not applied: RATE_LIMIT_STORAGE is unreachable (%s)", type(e.__cause__).__name__)
            return {}
        seconds = max(1, math.ceil(stats.reset_time - time()))
        headers = {
            "RateLimit-Policy": f'"{name}";q={item.amount};w={item.get_expiry()}',
            "RateLimit": f'"{name}";r={max(0, stats.remaining)};t={seconds}',
        }
        if not allowed:
            error = TooManyRequests()
            error.retry_after, error.headers = seconds, headers
            raise error
        return headers


def rate_limiter_from(settings: Settings) -> RateLimiter | None:
    """Return the rate limiter for the settings, or None if they configure no limit."""
    rates = {"sessions": settings.rate_limit_sessions, "tracks": settings.rate_limit_tracks}
    return RateLimiter(rates, settings.rate_limit_storage) if any(rates.values()) else None
