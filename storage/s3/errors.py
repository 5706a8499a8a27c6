"""Errors of S3 calls: those of the store, urllib3 and parsers, translated into the service's own; retries with backoff.

Error codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar
from xml.etree.ElementTree import ParseError

import urllib3

from storage.clock import seconds_left
from storage.errors import StorageRejected, StorageUnavailable
from storage.s3.dialects import ErrorResponse

logger = logging.getLogger("loadbay.store")

BUSY_CODES = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted", "Busy"}
"""Answers that pass. AWS recommends a retry with backoff for each of them."""

REJECTION_CODES = {
    "AccessDenied", "AccountProblem", "AllAccessDisabled", "AuthorizationHeaderMalformed", "ExpiredToken",
    "InvalidAccessKeyId", "InvalidBucketName", "InvalidToken", "NoSuchBucket", "NotSignedUp", "PermanentRedirect",
    "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TemporaryRedirect", "TokenRefreshRequired",
}  # fmt: skip
"""Answers that concern every request: only a change of the configuration ends them."""

UNSUPPORTED_CODES = {"NotImplemented", "MethodNotAllowed", "XNotImplemented", "UnsupportedOperation"}
"""Answers of a store that does not know the operation."""

RETRY_SECONDS = 3.0
"""Time for retries of one call."""

FIRST_BACKOFF = 0.1

log_level: ContextVar[int] = ContextVar("log_level", default=logging.ERROR)
"""The level at which failed calls are logged: lower in a job that has logged the outage already."""


class StorageBusy(StorageUnavailable):
    """The store answered that it is overloaded. `retry_after` is the pause in seconds that it asks for, if it does."""

    def __init__(self, retry_after: int | None = None):
        super().__init__()
        self.pause = retry_after or 0
        if retry_after:
            self.retry_after = retry_after


class StorageTimeout(StorageUnavailable):
    """No complete answer arrived: the store may have done what it was asked to, or may still be doing it."""


class StorageDisconnected(StorageTimeout):
    """The connection ended before an answer arrived."""


class StorageFault(StorageRejected):
    """The answer makes no sense, or concerns this object alone: not an outage."""


class StorageUnsupported(StorageFault):
    """The store does not know this operation."""


class ChecksumMismatch(Exception):
    """The store computed another checksum than the one that was declared."""


class ObjectChanged(Exception):
    """The object was replaced or deleted between two requests for it."""


P = ParamSpec("P")
R = TypeVar("R")


def retry_when_busy(method: Callable[P, R]) -> Callable[P, R]:
    """Repeat a method while it raises StorageBusy, with exponential backoff and jitter, for RETRY_SECONDS in all.

    A pause is at least as long as the store asks for; where that exceeds the time, the caller gets the error at once.
    """

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        deadline, backoff = time.monotonic() + seconds_left(RETRY_SECONDS), FIRST_BACKOFF
        while True:
            try:
                return method(*args, **kwargs)
            except StorageBusy as e:
                pause = max(backoff * random.uniform(0.5, 1.5), e.pause)  # noqa: S311
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            backoff *= 2

    return call


@contextmanager
def translate_errors(operation: str) -> Iterator[None]:
    """Raise StorageUnavailable, StorageRejected or a subclass for what the libraries raise, and log the reason.

    The log names the operation and the store's error code, never what was sent.
    """
    try:
        yield
    except ErrorResponse as e:
        reason = e.code if e.is_s3 else f"HTTP status {e.status} without an S3 error"
        logger.log(log_level.get(), "S3 %s failed: %s", operation, reason)
        e.operation = operation
        raise _classify(e) from e
    except (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError) as e:
        logger.log(log_level.get(), "S3 %s failed: no answer from the storage (%s)", operation, type(e).__name__)
        disconnected = isinstance(e, urllib3.exceptions.ProtocolError)
        raise (StorageDisconnected() if disconnected else StorageTimeout()) from e
    except (urllib3.exceptions.HTTPError, OSError) as e:
        logger.log(log_level.get(), "S3 %s failed: storage unreachable (%s)", operation, type(e).__name__)
        raise StorageUnavailable from e
    except (ValueError, TypeError, LookupError, AttributeError, ParseError) as e:
        # Raised by minio's parsers and ours for an answer that they do not understand.
        logger.log(log_level.get(), "S3 %s failed: unexpected answer (%s)", operation, type(e).__name__)
        raise StorageFault from e


@contextmanager
def translate_minio_errors() -> Iterator[None]:
    """Raise urllib3's HTTPError for an answer that minio rejects, of which there are few: it sees no error response."""
    from minio.error import MinioException

    try:
        yield
    except MinioException as e:
        raise urllib3.exceptions.HTTPError(type(e).__name__) from e


def _classify(error: ErrorResponse) -> StorageUnavailable | StorageRejected:
    if error.code in UNSUPPORTED_CODES or error.status in (405, 501):
        return StorageUnsupported()
    if error.code in BUSY_CODES or error.status >= 500 or error.status == 429:
        return StorageBusy(error.retry_after)
    return StorageRejected() if error.code in REJECTION_CODES else StorageFault()


def is_outage(error: object) -> bool:
    """Return True for an error that concerns every call, as far as one call can tell."""
    return isinstance(error, StorageUnavailable | StorageRejected) and not isinstance(error, StorageFault)
