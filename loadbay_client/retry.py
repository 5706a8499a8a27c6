"""Trying again, after pauses that grow."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import urllib3

from .errors import ClientError, UploadCancelled

Result = TypeVar("Result")
OnRetry = Callable[[ClientError, float], None]
"""Told what went wrong, and after how many seconds it is tried again. Called from several threads."""

# What may be otherwise the next time. https://www.rfc-editor.org/rfc/rfc9110#section-15
RETRYABLE_STATUSES = {408, 425, 429, 500, 502, 503, 504}
MAX_BACKOFF = 30.0


class RetryableError(ClientError):
    """A failure that may pass; `after` is the pause in seconds that the other side asked for."""

    def __init__(self, cause: ClientError, after: float = 0.0):
        super().__init__(str(cause))
        self.cause, self.after = cause, after


def retry_after(answer: urllib3.BaseHTTPResponse) -> float:
    """The answer's Retry-After in seconds, or 0."""
    text = answer.headers.get("Retry-After", "")
    return min(float(text), MAX_BACKOFF) if text.isdecimal() else 0.0


def ignore_retry(_error: ClientError, _pause: float) -> None:
    """The OnRetry that tells nobody."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often something is tried, what ends it before, and who is told."""

    tries: int
    on_retry: OnRetry = ignore_retry
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, attempt: Callable[[], Result]) -> Result:
        """What `attempt` returns, which is called again while it raises Passing; after `tries`, its cause is raised.

        Raises Stopped as soon as `stop` is set.
        """
        for number in range(self.tries - 1):
            try:
                return attempt()
            except RetryableError as e:
                # With chance in it, so that many clients of a store that comes back do not come all at once.
                pause = min(0.25 * 2**number, MAX_BACKOFF) * random.uniform(0.7, 1.3)  # noqa: S311
                pause = max(pause, e.after)
                self.on_retry(e.cause, pause)
                if self.stop.wait(pause):
                    raise UploadCancelled("The upload was stopped.") from e
        try:
            return attempt()
        except RetryableError as e:
            raise e.cause from e
