"""All errors of the API: code, HTTP status and message of each; and the failures of files that were uploaded.

The rules and the bucket raise the errors; web/errors.py renders them. A failure is recorded in a track's row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple


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


class SessionOpen(ServiceError):
    status, code = 409, "session_open"
    default_message = "upload_session_id: the upload session is still open. Close it first."


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


class KeyLimitReached(ServiceError):
    status, code = 429, "key_limit_reached"
    default_message = "The API key has reached one of its limits. Retry after the number of seconds in Retry-After."


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


# --- Failures of files -----------------------------------------------------------------------------------------------


class Failure(NamedTuple):
    """The reason for which a file or a cover is not accepted: a stable `code` for programs, a sentence for people."""

    code: str
    message: str


FAILURES = {
    "size_mismatch": "The file's size is not the declared `file_size`.",
    "empty_file": "The file is empty.",
    "file_too_large": "The file is larger than `MAX_TRACK_BYTES`, or the cover larger than `MAX_COVER_BYTES`.",
    "not_audio": "The content is not audio, though name or content type say so.",
    "not_an_image": "The cover is not an image of a kind that covers may have.",
    "checksum_mismatch": "The file's checksum is not the declared one.",
    "replaced": "The file was replaced while it was verified.",
    "write_once_untrusted": "A write-once URL was used that the deployment no longer trusts (`WRITE_ONCE_PUT=0`).",
    "sender_headers": "The file was sent with headers of its own, which the store does not remove.",
    "unreadable": "The store's answers about the file made no sense, several times.",
    "rule_file_size": "The file is larger than `audio.max_file_size`.",
    "rule_container": "The container is not one of `audio.containers`.",
    "rule_codec": "The codec is not one of `audio.codecs`.",
    "rule_sample_rate": "The sample rate is not one of `audio.sample_rates`.",
    "rule_bit_depth": "The bit depth is not one of `audio.bit_depths`.",
    "rule_channels": "The number of channels is not one of `audio.channels`.",
    "rule_duration": "The duration is less than `audio.min_duration`, or more than `audio.max_duration`.",
    "rule_type": "The cover's type is not one of `cover.types`.",
    "rule_square": "The cover is not square, and `cover.square` is set.",
    "rule_dimensions": "The cover's width or height is less than `cover.min_side`, or more than `cover.max_side`.",
}
"""All codes of failures, with what each means. A code that begins with `rule_` is about the session's rules."""
