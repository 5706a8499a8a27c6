"""The rows that the rules read and write, as types: a misspelt column fails the type check.

Times are whole seconds since the epoch, sizes are bytes. `metadata` is the decoded JSON object, or None.
The classes of rows that come from a query name the models' columns (storage/db/models.py), and what is added to them.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

SessionStatus = Literal["open", "closed", "expired"]
TrackStatus = Literal["initialized", "uploaded", "failed", "expired", "cancelled"]
Metadata = dict[str, Any]
Rules = dict[str, dict[str, Any]]
"""A session's rules, as schemas/rules.py loads them: `audio`, `cover`, or both."""


def columns(row_type: type) -> tuple[str, ...]:
    """Return the columns of a row's type, in its order: a SELECT of them yields such rows.

    >>> columns(TrackCounts)
    ('initialized', 'uploaded', 'failed', 'expired', 'cancelled')
    """
    return tuple(row_type.__annotations__)


# --- Upload sessions and tracks --------------------------------------------------------------------------------------


class TrackCounts(TypedDict):
    """A session's tracks by status."""

    initialized: int
    uploaded: int
    failed: int
    expired: int
    cancelled: int


class SessionRow(TypedDict):
    """An upload session. `status` is the current one: `expired` once `expires_at` has passed.

    `max_file_size` repeats that of `rules`.
    """

    id: str
    organization_id: str
    collection_id: str
    creator_id: str | None
    organization_index: str | None
    metadata: Metadata | None
    rules: Rules | None
    page: dict[str, Any] | None
    fields: list[dict[str, Any]] | None
    embedded_cover: bool
    status: str
    created_at: int
    expires_at: int
    max_tracks: int
    max_bytes: int | None
    max_file_size: int | None
    api_key_seq: int | None
    track_count: int
    declared_bytes: int
    uploaded_bytes: int
    tracks: TrackCounts


class StoredSessionRow(SessionRow, TrackCounts):
    """An upload session as a query returns it."""

    seq: int
    swept_at: NotRequired[int | None]
    urls_expire_at: NotRequired[int | None]


class CoverRow(TypedDict):
    """A track's cover, from the columns that begin with `cover_`; `content_type` is `cover_type`."""

    path: str
    status: str | None
    failure: str | None
    failure_code: str | None
    size: int | None
    etag: str | None
    content_type: str | None
    width: int | None
    height: int | None
    embedded: bool


class NewTrackRow(TypedDict):
    """A track at its registration. `expires_at` is that of its session, `index` the short form of `id`."""

    id: str
    index: str
    session_id: str
    collection_id: str
    organization_id: str
    creator_id: str | None
    status: str
    created_at: int
    path: str
    cover_path: str
    file_name: str
    organization_index: str | None
    metadata: Metadata | None
    file_size: int | None
    content_type: str | None
    checksum_sha256: str | None
    checksum_crc64nvme: str | None
    checksum_crc32c: str | None
    cover_fields: bool
    declared_cover_size: int | None
    declared_cover_type: str | None
    write_once: bool
    upload_id: str | None
    part_size: int | None
    resume_key: str | None
    attempt: int
    cover_attempt: int
    expires_at: int


class TrackRow(NewTrackRow):
    """A track as a query returns it, with columns of its session: its ids, stored status and options.

    `audio` is decoded. `rules` is JSON text, which only a verification decodes.
    """

    seq: int
    session: int
    session_status: str
    rules: str | None
    embedded_cover: bool
    urls_expire_at: int | None
    cover_relayed: bool
    next_cover_expires_at: int | None
    chosen_source: str | None
    chosen_etag: str | None
    cover_chosen_etag: str | None
    lease: str | None
    lease_expires_at: int | None
    verify_attempts: int
    checks: int
    failure: str | None
    failure_code: str | None
    size: int | None
    etag: str | None
    version_id: str | None
    detected_type: str | None
    integrity: str | None
    verified_at: int | None
    audio: dict[str, Any] | None
    audio_container: str | None
    audio_codec: str | None
    audio_duration: float | None
    picture_offset: int | None
    picture_size: int | None
    cover_status: str | None
    cover_failure: str | None
    cover_failure_code: str | None
    cover_size: int | None
    cover_etag: str | None
    cover_type: str | None
    cover_width: int | None
    cover_height: int | None
    cover_rejected_etag: str | None
    cover_embedded: bool | None
    cover: CoverRow | None


class TrackChanges(TypedDict, total=False):
    """Columns of a track that change after its registration."""

    status: str
    write_once: bool
    attempt: int
    cover_attempt: int
    cover_relayed: bool
    next_cover_expires_at: int | None
    chosen_source: str | None
    chosen_etag: str | None
    cover_chosen_etag: str | None
    lease: str | None
    lease_expires_at: int | None
    verify_attempts: int
    failure: str | None
    failure_code: str | None
    size: int | None
    etag: str | None
    version_id: str | None
    detected_type: str | None
    integrity: str | None
    verified_at: int | None
    audio: dict[str, Any] | None
    audio_container: str | None
    audio_codec: str | None
    audio_duration: float | None
    picture_offset: int | None
    picture_size: int | None
    cover_status: str | None
    cover_failure: str | None
    cover_failure_code: str | None
    cover_size: int | None
    cover_etag: str | None
    cover_type: str | None
    cover_width: int | None
    cover_height: int | None
    cover_rejected_etag: str | None
    cover_embedded: bool | None


class IdempotencyKeyRow(TypedDict):
    """A request that may be repeated. `track_ids` is a JSON array."""

    digest: str
    fingerprint: str
    session_id: str
    track_ids: str
    created_at: int


# --- API keys --------------------------------------------------------------------------------------------------------


class ApiKeyRow(TypedDict):
    """An API key without its digest. `rules` and `page` are JSON, the defaults for the sessions that it opens."""

    seq: NotRequired[int]
    id: str
    prefix: str
    name: str
    role: str
    organization_id: str
    collection_id: str | None
    rules: str | None
    page: str | None
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    max_bytes_per_day: int | None
    max_open_sessions: int | None
    used_day: int
    used_bytes: int


class ApiKeyCredentials(TypedDict):
    """The columns of an API key that authentication reads."""

    seq: int
    id: str
    digest: str
    role: str
    organization_id: str
    collection_id: str | None
    rules: str | None
    page: str | None
    expires_at: int | None
    revoked_at: int | None
    max_bytes_per_day: int | None
    max_open_sessions: int | None


# --- Webhooks --------------------------------------------------------------------------------------------------------


class WebhookRow(TypedDict):
    """A webhook. The one of WEBHOOK_URL has neither `url` nor `secret`."""

    seq: int
    id: str
    organization_id: str
    url: str | None
    secret: str | None
    enabled: bool
    created_at: int
    failures: int
    failing_since: int | None
    retry_at: int


class WebhookSummary(TypedDict):
    """A webhook as it is listed: with its URL, wherever that comes from, and the number of its deliveries by state."""

    id: str
    organization_id: str
    url: str
    enabled: bool
    failing_since: int | None
    from_environment: bool
    pending: int
    dead_letters: int


class DeliveryRow(TypedDict):
    """A webhook's delivery. `data` and `metadata` are JSON; `due_at` is None for a dead letter."""

    seq: int
    id: str
    webhook: int
    session_seq: int
    track_seq: int | None
    type: str
    data: str
    metadata: str | None
    created_at: int
    due_at: int | None
    lease: str | None
    attempts: int
    error: str | None


class DueDelivery(TypedDict):
    """Columns of a delivery that is due. `data` and `metadata` are JSON."""

    id: str
    type: str
    data: str
    metadata: str | None
    created_at: int
    due_at: int
    attempts: int


class DeadLetterRow(DeliveryRow):
    """A delivery that was given up, with the id of its webhook."""

    webhook_id: str
