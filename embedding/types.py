"""Types of the API in this process: the JSON objects of the HTTP API (docs/api.md).

Times are ISO 8601 in UTC, sizes are bytes.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

TrackStatus = Literal["initialized", "uploaded", "failed", "expired", "cancelled"]
SessionStatus = Literal["open", "closed", "expired"]


class SessionOptions(TypedDict, total=False):
    """The optional parameters of a new session. `expires_in` is in seconds."""

    creator_id: str | None
    organization_index: str | None
    metadata: dict[str, Any] | None
    expires_in: int | None
    max_tracks: int | None
    max_bytes: int | None
    rules: dict[str, Any] | None
    page: dict[str, Any] | None
    fields: list[dict[str, Any]] | None
    embedded_cover: bool | None


class TrackOptions(TypedDict, total=False):
    """The optional parameters of a new track."""

    organization_index: str | None
    metadata: dict[str, Any] | None
    file_size: int | None
    content_type: str | None
    checksum_sha256: str | None
    checksum_crc64nvme: str | None
    checksum_crc32c: str | None
    write_once: bool | None
    cover_fields: bool | None
    cover_size: int | None
    cover_content_type: str | None
    multipart: bool | None
    part_size: int | None
    resume_key: str | None


class UploadSession(TypedDict):
    """An upload session; `tracks` has the number of tracks in each status."""

    id: str
    creator_id: str | None
    collection_id: str
    organization_index: str | None
    metadata: dict[str, Any] | None
    status: SessionStatus
    created_at: str
    expires_at: str
    max_tracks: int
    max_bytes: int | None
    rules: dict[str, Any] | None
    page: dict[str, Any]
    fields: list[dict[str, Any]] | None
    embedded_cover: bool
    track_count: int
    tracks: dict[str, int]
    declared_bytes: int
    uploaded_bytes: int


class Cover(TypedDict):
    """A track's cover image."""

    path: str
    status: str
    failure: str | None
    failure_code: str | None
    content_type: str | None
    size: int | None
    etag: str | None
    width: int | None
    height: int | None
    embedded: bool


class Audio(TypedDict):
    """Facts about an audio file; `duration` is in seconds, and estimated unless `exact`."""

    container: str
    codec: str | None
    duration: float | None
    exact: bool
    sample_rate: int | None
    channels: int | None
    bit_depth: int | None
    bit_rate: int | None
    tags: dict[str, str | int | None]
    picture: dict[str, str | int] | None


class Track(TypedDict):
    """A track. `size`, `etag`, `detected_type` and `verified_at` are those of the verified file."""

    id: str
    upload_session_id: str
    collection_id: str
    creator_id: str | None
    index: str
    path: str
    cover_path: str
    status: TrackStatus
    failure: str | None
    failure_code: str | None
    file_name: str
    organization_index: str | None
    metadata: dict[str, Any] | None
    file_size: int | None
    content_type: str | None
    checksum_sha256: str | None
    checksum_crc64nvme: str | None
    checksum_crc32c: str | None
    resume_key: str | None
    size: int | None
    etag: str | None
    version_id: str | None
    detected_type: str | None
    audio: Audio | None
    integrity: Literal["sha256", "crc64nvme", "crc32c", "size"] | None
    verified_at: str | None
    cover: Cover | None


class Upload(TypedDict):
    """A presigned PUT request, to be sent with exactly these headers. `ttl` is in seconds."""

    method: str
    upload_url: str
    ttl: int
    expires_at: str
    headers: dict[str, str]


class CoverUpload(Upload):
    """A presigned request for a cover; `fields` are those of a form, before its `file`."""

    fields: dict[str, str]


class Part(TypedDict):
    """A part of a multipart upload."""

    part_number: int
    upload_url: str
    size: int
    headers: dict[str, str]


class MultipartUpload(TypedDict):
    """A multipart upload, with the first of its parts."""

    method: str
    part_size: int
    part_count: int
    ttl: int
    expires_at: str
    parts: list[Part]


class Registration(TypedDict):
    """A new track and its presigned uploads: of the file either as one PUT or in parts, and of the cover."""

    upload_session_id: str
    track_id: str
    track: Track
    track_upload: Upload | None
    track_cover_upload: CoverUpload | None
    track_multipart_upload: MultipartUpload | None


class Download(TypedDict):
    """A presigned GET request."""

    method: str
    download_url: str
    ttl: int
    expires_at: str
