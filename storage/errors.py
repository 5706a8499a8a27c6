"""Every failure that a caller can meet: its code, its HTTP status, its sentence.

Rules and the bucket raise these; the application renders them all with one function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class ServiceError(Exception):
    """A failure with a stable `code` for programs and a sentence for people.

    `retry_after` is in seconds; where it is set, the answer carries it as a header.
    `details` lists single faults where one request holds many items.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    sentence: ClassVar[str] = "The service failed. The fault has been logged under this api_request_id."
    retry_after: int | None = None
    headers: Mapping[str, str] = {}

    def __init__(self, message: str | None = None, *, details: list[dict[str, object]] | None = None):
        super().__init__(message or self.sentence)
        self.message = message or self.sentence
        self.details = details


class InvalidRequest(ServiceError):
    status, code, sentence = 400, "invalid_request", "The request is not valid."


class Unauthorized(ServiceError):
    status, code = 401, "unauthorized"
    sentence = "An API key is needed: send it as 'Authorization: Bearer KEY'."


class Forbidden(ServiceError):
    status, code, sentence = 403, "forbidden", "This API key does not have the right to do that."


class SessionNotFound(ServiceError):
    status, code, sentence = 404, "session_not_found", "upload_session_id: there is no such upload session."


class TrackNotFound(ServiceError):
    status, code, sentence = 404, "track_not_found", "track_id: there is no such track in this upload session."


class KeyNotFound(ServiceError):
    status, code, sentence = 404, "key_not_found", "There is no such API key."


class WebhookNotFound(ServiceError):
    status, code, sentence = 404, "webhook_not_found", "There is no such webhook."


class NotUploaded(ServiceError):
    status, code = 409, "not_uploaded"
    sentence = "track_id: the store does not hold this track's bytes yet."


class TrackFinal(ServiceError):
    """What is asked for cannot be done in the track's present status."""

    status, code, sentence = 409, "track_final", "track_id: the track's status does not allow that any more."


class IdempotencyKeyReused(ServiceError):
    status, code = 409, "idempotency_key_reused"
    sentence = "Idempotency-Key: this key was used with another request."


class SessionClosed(ServiceError):
    status, code = 410, "session_closed"
    sentence = "upload_session_id: the upload session is closed and takes no more tracks."


class TrackLimitReached(ServiceError):
    status, code = 409, "track_limit_reached"
    sentence = "upload_session_id: the upload session already holds as many tracks as it may."


class ByteLimitReached(ServiceError):
    status, code = 409, "byte_limit_reached"
    sentence = "file_size: the upload session may not hold that many more bytes (max_bytes)."


class SessionExpired(ServiceError):
    status, code = 410, "session_expired"
    sentence = "upload_session_id: the upload session has expired. Create a new one."


class TooLarge(ServiceError):
    status, code, sentence = 413, "too_large", "The request is too large."


class NotJSON(ServiceError):
    status, code = 415, "not_json"
    sentence = "The request body must be JSON, sent with 'Content-Type: application/json'."


class WrongMediaType(ServiceError):
    status, code, sentence = 415, "wrong_media_type", "The request body has the wrong media type."


class TooManyRequests(ServiceError):
    status, code = 429, "too_many_requests"
    sentence = "Too many requests. Try again after Retry-After seconds."


class StoreUnavailable(ServiceError):
    status, code, sentence = 503, "store_unavailable", "The object store cannot be reached. Try again soon."
    retry_after = 5


class StoreRefused(ServiceError):
    """The store answered, but with a refusal that only the operator can mend (a wrong key, no such bucket)."""

    status, code = 503, "store_refused"
    sentence = "The object store refused the request. Its answer has been logged under this api_request_id."
    retry_after = 30


class DatabaseUnavailable(ServiceError):
    status, code, sentence = 503, "database_unavailable", "The database cannot be reached. Try again soon."
    retry_after = 5
