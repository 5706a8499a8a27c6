"""Every failure that a caller can meet: its code, its HTTP status, its sentence.

Rules and the bucket raise these; the application renders them all with one function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class ServiceError(Exception):
    """A failure with a stable `code` for programs and a sentence for people.

    `retry_after` is in seconds; where it is set, the answer carries it as a header.
    `item_errors` lists single faults where one request holds many items.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    default_message: ClassVar[str] = "The service failed. The fault has been logged under this api_request_id."
    retry_after: int | None = None
    headers: Mapping[str, str] = {}

    def __init__(self, message: str | None = None, *, item_errors: list[dict[str, object]] | None = None):
        super().__init__(message or self.default_message)
        self.message = message or self.default_message
        self.item_errors = item_errors


class InvalidRequest(ServiceError):
    status, code, default_message = 400, "invalid_request", "The request is not valid."


class Unauthorized(ServiceError):
    status, code = 401, "unauthorized"
    default_message = "An API key is needed: send it as 'Authorization: Bearer KEY'."


class Forbidden(ServiceError):
    status, code, default_message = 403, "forbidden", "This API key does not have the right to do that."


class SessionNotFound(ServiceError):
    status, code, default_message = 404, "session_not_found", "upload_session_id: there is no such upload session."


class TrackNotFound(ServiceError):
    status, code, default_message = 404, "track_not_found", "track_id: there is no such track in this upload session."


class KeyNotFound(ServiceError):
    status, code, default_message = 404, "api_key_not_found", "There is no such API key."


class WebhookNotFound(ServiceError):
    status, code, default_message = 404, "webhook_not_found", "There is no such webhook."


class NotUploaded(ServiceError):
    status, code = 409, "not_uploaded"
    default_message = "track_id: the store does not hold this track's bytes yet."


class InvalidTrackState(ServiceError):
    """What is asked for cannot be done in the track's present status."""

    status, code, default_message = (
        409,
        "track_state_conflict",
        "track_id: the track's status does not allow that any more.",
    )


class IdempotencyKeyReused(ServiceError):
    status, code = 409, "idempotency_key_reused"
    default_message = "Idempotency-Key: this key was used with another request."


class SessionClosed(ServiceError):
    status, code = 410, "session_closed"
    default_message = "upload_session_id: the upload session is closed and takes no more tracks."


class TrackLimitReached(ServiceError):
    status, code = 409, "track_limit_reached"
    default_message = "upload_session_id: the upload session already holds as many tracks as it may."


class ByteLimitReached(ServiceError):
    status, code = 409, "byte_limit_reached"
    default_message = "file_size: the upload session may not hold that many more bytes (max_bytes)."


class SessionExpired(ServiceError):
    status, code = 410, "session_expired"
    default_message = "upload_session_id: the upload session has expired. Create a new one."


class TooLarge(ServiceError):
    status, code, default_message = 413, "too_large", "The request is too large."


class NotJSON(ServiceError):
    status, code = 415, "not_json"
    default_message = "The request body must be JSON, sent with 'Content-Type: application/json'."


class WrongMediaType(ServiceError):
    status, code, default_message = 415, "unsupported_media_type", "The request body has the wrong media type."


class TooManyRequests(ServiceError):
    status, code = 429, "too_many_requests"
    default_message = "Too many requests. Try again after Retry-After seconds."


class StorageUnavailable(ServiceError):
    status, code, default_message = 503, "storage_unavailable", "The object store cannot be reached. Try again soon."
    retry_after = 5


class StorageRejected(ServiceError):
    """The store answered, but with a refusal that only the operator can mend (a wrong key, no such bucket)."""

    status, code = 503, "storage_rejected"
    default_message = "The object store refused the request. Its answer has been logged under this api_request_id."
    retry_after = 30


class DatabaseUnavailable(ServiceError):
    status, code, default_message = 503, "database_unavailable", "The database cannot be reached. Try again soon."
    retry_after = 5
