"""Types of the API's JSON payloads, as far as the client uses them.

The service's /openapi.json describes them in full. Sizes are bytes, `ttl` is seconds, times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

Metadata = dict[str, Any]
"""A JSON object that the service stores as it is."""


Rules = dict[str, Any]
"""What a session accepts: `audio`, `cover`, or both, each an object of rules."""


class SessionOptions(TypedDict, total=False):
    """Optional fields of a new upload session."""

    creator_id: str | None
    organization_index: str | None
    metadata: Metadata | None
    expires_in: int | None
    max_tracks: int | None
    max_bytes: int | None
    rules: Rules | None
    page: dict[str, Any] | None
    fields: list[dict[str, Any]] | None


class SessionRequest(SessionOptions):
    """Request to open an upload session."""

    collection_id: str | None


class UploadSession(TypedDict):
    """An upload session."""

    id: str
    collection_id: str
    creator_id: str | None
    organization_index: str | None
    metadata: Metadata | None
    status: str
    expires_at: str
    rules: NotRequired[Rules | None]


class Cover(TypedDict):
    """A track's cover after its verification."""

    path: str
    status: str
    failure: str | None
    failure_code: NotRequired[str | None]
    content_type: str | None
    size: int | None
    etag: str | None
    width: int | None
    height: int | None
    embedded: bool


class Audio(TypedDict):
    """Facts about an audio file, from its own headers; None stands for what they do not tell.

    `duration` is in seconds, and estimated unless it is `exact`. `tags` has `title`, `artist`, `album`, `track_number`,
    `disc_number` and `isrc`, as far as the file has them. `picture` has `type` and `size` of an embedded cover.
    """

    container: str
    codec: str | None
    duration: float | None
    exact: bool
    sample_rate: int | None
    channels: int | None
    bit_depth: int | None
    bit_rate: int | None
    tags: dict[str, str | int]
    picture: dict[str, str | int] | None


class Track(TypedDict):
    """A track: what was declared, and after its verification what was stored."""

    id: str
    index: str
    path: str
    cover_path: str
    status: str
    failure: str | None
    failure_code: NotRequired[str | None]
    file_name: str
    organization_index: str | None
    metadata: Metadata | None
    file_size: int | None
    content_type: str | None
    checksum_sha256: str | None
    checksum_crc64nvme: str | None
    checksum_crc32c: str | None
    resume_key: NotRequired[str | None]
    size: int | None
    etag: str | None
    version_id: str | None
    detected_type: str | None
    audio: Audio | None
    integrity: str | None
    verified_at: str | None
    cover: Cover | None


class TrackRequest(TypedDict):
    """Request to register a track; `multipart` is always sent, so that the service does not choose."""

    file_name: str
    file_size: int
    content_type: str | None
    metadata: Metadata | None
    multipart: bool
    part_size: NotRequired[int | None]
    cover_fields: NotRequired[bool]
    cover_size: NotRequired[int]
    cover_content_type: NotRequired[str | None]
    checksum_sha256: NotRequired[str]
    checksum_crc64nvme: NotRequired[str | None]
    write_once: NotRequired[bool]


class Upload(TypedDict):
    """Target of a single PUT: `headers` are signed and have to be sent unchanged."""

    method: str
    upload_url: str
    ttl: int
    expires_at: str
    headers: dict[str, str]


class CoverUpload(Upload):
    """Target of a cover: a PUT of its bytes, or a POST of a form with `fields`, if any, before its `file`."""

    fields: NotRequired[dict[str, str]]


class PartUpload(TypedDict):
    """Target of one part of a multipart upload."""

    part_number: int
    upload_url: str
    size: int
    headers: dict[str, str]


class MultipartUpload(TypedDict):
    """Layout of a multipart upload, with the targets of its first parts."""

    method: str
    part_size: int
    part_count: int
    ttl: int
    expires_at: str
    parts: list[PartUpload]


class StoredPart(TypedDict):
    """A part that the object store has received."""

    part_number: int
    size: int
    etag: str


class Registration(TypedDict):
    """A registered track and its upload targets, which are None where they do not apply."""

    upload_session_id: str
    track_id: str
    track: Track
    track_upload: Upload | None
    track_cover_upload: CoverUpload | None
    track_multipart_upload: MultipartUpload | None


class SessionResponse(TypedDict):
    """Response with an upload session."""

    upload_session_id: str
    upload_session: UploadSession


class TrackPage(TypedDict):
    """Some tracks of a session, and the id of the last one if others follow."""

    tracks: list[Track]
    next_after: NotRequired[str | None]


class ClosedSessionResponse(SessionResponse):
    """Response to closing a session."""

    manifest: TrackPage


class TrackResponse(TypedDict):
    """Response with one track."""

    upload_session_id: str
    track_id: str
    track: Track


class VerifiedTrack(TypedDict):
    """Result of a track's verification: `uploaded`, `failed`, `verifying` if it is not finished, or `not_uploaded`."""

    track_id: str
    status: str
    track: Track


class VerifiedTracksResponse(TypedDict):
    """Response to the verification of several tracks; `more` if others are not final either."""

    tracks: list[VerifiedTrack]
    more: NotRequired[bool]


class RegisteredTracksResponse(TypedDict):
    """Response to registering a batch, in the order of the request."""

    tracks: list[Registration]


class StoredPartsResponse(TypedDict):
    """Response with the parts that the object store has received."""

    parts: list[StoredPart]


class SignedPartsResponse(TypedDict):
    """Response with targets of parts."""

    parts: list[PartUpload]


class CoverUploadResponse(TypedDict):
    """Response with the target of a replacement cover."""

    track_cover_upload: CoverUpload


class Download(TypedDict):
    """A presigned GET."""

    method: str
    download_url: str
    ttl: int
    expires_at: str


class DownloadResponse(TypedDict):
    """Response with the downloads of an uploaded track and of its cover, which an earlier service does not send."""

    track_download: Download
    track_cover_download: NotRequired[Download | None]
