"""All errors of the API: code, HTTP status and message of each.

The rules and the bucket raise them; web/errors.py renders them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class ServiceError(Exception):
    """An error with a stable `code` for programs and a `message` for people.

    `retry_after` (seconds) becomes the Retry-After header. `item_errors` has an entry for each invalid item of a batch.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    default_message: ClassVar[str] = "Internal error. It has been logged under this api_request_id."
    retry_after: int | None = None
    headers: Mapping[str, str] = {}

    def __init__(self, message: str | None = None, *, item_errors: list[dict[str, object]] | None = None):
        super().__init__(message or self.default_message)
        self.message = message or self.default_message
        self.item_errors = item_errors


class InvalidRequest(ServiceError):
    status, code, default_message = 400, "invalid_request", "The request is invalid."


class Unauthorized(ServiceError):
    status, code = 401, "unauthorized"
    default_message = "An API key is required: send it as 'Authorization: Bearer KEY'."


class Forbidden(ServiceError):
    status, code, default_message = 403, "forbidden", "This API key does not allow that."


class SessionNotFound(ServiceError):
    status, code, default_message = 404, "session_not_found", "upload_session_id: no such upload session."


class TrackNotFound(ServiceError):
    status, code, default_message = 404, "track_not_found", "track_id: no such track in this upload session."


class ApiKeyNotFound(ServiceError):
    status, code, default_message = 404, "api_key_not_found", "No such API key."


class WebhookNotFound(ServiceError):
    status, code, default_message = 404, "webhook_not_found", "No such webhook."


class NotUploaded(ServiceError):
    status, code = 409, "not_uploaded"
    default_message = "track_id: this track has not been uploaded yet."


class InvalidTrackState(ServiceError):
    status, code = 409, "track_state_conflict"
    default_message = "track_id: the track's status does not allow that."


class IdempotencyKeyReused(ServiceError):
    status, code = 409, "idempotency_key_reused"
    default_message = "Idempotency-Key: this key has been used with a different request."


class SessionClosed(ServiceError):
    status, code = 410, "session_closed"
    default_message = "upload_session_id: the upload session is closed."


class TrackLimitReached(ServiceError):
    status, code = 409, "track_limit_reached"
    default_message = "upload_session_id: the upload session has reached its maximum number of tracks (max_tracks)."


class ByteLimitReached(ServiceError):
    status, code = 409, "byte_limit_reached"
    default_message = "file_size: the upload session would exceed its maximum size (max_bytes)."


class SessionExpired(ServiceError):
    status, code = 410, "session_expired"
    default_message = "upload_session_id: the upload session has expired. Create a new one."


class TooLarge(ServiceError):
    status, code, default_message = 413, "too_large", "The request is too large."


class NotJSON(ServiceError):
    status, code = 415, "not_json"
    default_message = "The request body must be JSON, with 'Content-Type: application/json'."


class UnsupportedMediaType(ServiceError):
    status, code, default_message = 415, "unsupported_media_type", "The media type is not supported."


class TooManyRequests(ServiceError):
    status, code = 429, "too_many_requests"
    default_message = "Rate limit exceeded. Retry after the number of seconds in Retry-After."


class StorageUnavailable(ServiceError):
    status, code, default_message = 503, "storage_unavailable", "The object store is unreachable. Try again soon."
    retry_after = 5


class StorageRejected(ServiceError):
    """The store rejected a request for a reason that only the operator can fix, such as a wrong key or no bucket."""

    status, code = 503, "storage_rejected"
    default_message = "The object store rejected the request. Its error code has been logged under this api_request_id."
    retry_after = 30


class DatabaseUnavailable(ServiceError):
    status, code, default_message = 503, "database_unavailable", "The database is unreachable. Try again soon."
    retry_after = 5
