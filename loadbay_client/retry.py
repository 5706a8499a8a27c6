"""Requests: retries with exponential backoff, and the proxies of the environment."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import urllib3

from .errors import ClientError, UploadCancelled
from .files import RULES

Result = TypeVar("Result")
RetryCallback = Callable[[ClientError, float], None]
"""Called before each retry with the error and the pause in seconds, possibly from several threads."""

# Responses that a later attempt may not get again. https://www.rfc-editor.org/rfc/rfc9110#section-15
RETRYABLE_STATUSES = set(RULES["retry"]["service"])
FIRST_BACKOFF = 0.25
MAX_BACKOFF = 30.0


class RetryableError(ClientError):
    """A failure worth another attempt, after at least `retry_after` seconds; `cause` is the error to report."""

    def __init__(self, cause: ClientError, retry_after: float = 0.0):
        super().__init__(str(cause))
        self.cause, self.retry_after = cause, retry_after


def parse_retry_after(response: urllib3.BaseHTTPResponse) -> float:
    """Return the response's Retry-After in seconds, at most MAX_BACKOFF; 0 without one."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), MAX_BACKOFF) if text.isdecimal() else 0.0


def backoff(attempt: int) -> float:
    """Return the pause in seconds after an attempt, counted from 0.

    The jitter keeps many clients from returning at the same moment after an outage.
    """
    return min(FIRST_BACKOFF * 2.0**attempt, MAX_BACKOFF) * random.uniform(0.7, 1.3)  # noqa: S311


def ignore_retry(_error: ClientError, _pause: float) -> None:
    """Do nothing: the default RetryCallback."""


@dataclass(frozen=True)
class RetryPolicy:
    """Number of attempts per request, the callback before each retry, and the event that cancels all of them."""

    max_attempts: int
    on_retry: RetryCallback = ignore_retry
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, attempt: Callable[[], Result]) -> Result:
        """Return the result of `attempt`, which is called again while it raises RetryableError.

        Raises the error's cause after `max_attempts`, and UploadCancelled as soon as `stop` is set.
        """
        for number in range(self.max_attempts - 1):
            try:
                return attempt()
            except RetryableError as e:
                pause = max(backoff(number), e.retry_after)
                self.on_retry(e.cause, pause)
                if self.stop.wait(pause):
                    raise UploadCancelled from e
        try:
            return attempt()
        except RetryableError as e:
            raise e.cause from e


class ProxiedPool(urllib3.PoolManager):
    """A pool whose requests go through the proxies that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._options = options
        self._proxies: dict[str, urllib3.ProxyManager] = {}
        self._lock = threading.Lock()

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        """Send a request as PoolManager does, through a proxy where one is named."""
        proxy = proxy_for(url)
        if proxy is None:
            return super().urlopen(method, url, redirect, **kw)
        return self._manager(proxy).urlopen(method, url, redirect, **kw)

    def _manager(self, proxy: str) -> urllib3.ProxyManager:
        with self._lock:
            if proxy not in self._proxies:
                parts = urlsplit(proxy)
                login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
                headers = urllib3.make_headers(proxy_basic_auth=login) if login else None
                address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
                self._proxies[proxy] = urllib3.ProxyManager(address, proxy_headers=headers, **self._options)
            return self._proxies[proxy]


def proxy_for(url: str) -> str | None:
    """Return the URL of the environment's proxy for requests to `url`, or None where there is to be none."""
    parts, proxies = urlsplit(url), getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass_environment(parts.netloc.rpartition("@")[2], proxies):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
