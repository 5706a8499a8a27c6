"""Webhook events: their types and the fields of their `data`, for the outbox that sends them and for /openapi.json."""

from __future__ import annotations

from typing import Any, NamedTuple

COLLECTION, SESSION = "123e4567-e89b-12d3-a456-426614174000", "6f1c8a52-37d4-4c0e-9a3b-2f5d71e8c904"
TRACK, INDEX = "b3f0a6de-58c1-4e27-8d94-0c6a1be7f235", "s_Cm3ljBTieNlAxqG-fyNQ"


class Event(NamedTuple):
    """A type of event: what it reports, and the JSON Schema of each field of its `data`."""

    description: str
    fields: dict[str, dict[str, Any]]


def _text(description: str, example: str | None, nullable: bool = False) -> dict[str, Any]:
    return {"type": ["string", "null"] if nullable else "string", "description": description, "example": example}


def _number(description: str, example: int | None, nullable: bool = False) -> dict[str, Any]:
    return {"type": ["integer", "null"] if nullable else "integer", "description": description, "example": example}


_METADATA: dict[str, Any] = {
    "type": ["object", "null"],
    "description": "Additional metadata from the request.",
    "example": {"title": "First Track"},
}
_ORGANIZATION_INDEX = _text("The organization's own reference.", "summer-2024", nullable=True)
_RULES: dict[str, Any] = {
    "type": ["object", "null"],
    "description": "The session's rules, if it has any.",
    "example": {"audio": {"containers": ["wav"], "sample_rates": [44_100]}},
}

TRACK_FIELDS = {
    "upload_session_id": _text("The session's ID.", SESSION),
    "track_id": _text("The track's ID.", TRACK),
    "collection_id": _text("The collection's ID.", COLLECTION),
    "status": _text("`uploaded`, `failed` or `expired`.", "uploaded"),
    "path": _text("Object key of the file in the bucket.", f"{COLLECTION}/{INDEX}/track-1.mp3"),
    "file_name": _text("Original filename of the track.", "track-1.mp3"),
    "file_size": _number("Declared size in bytes.", 4_000_000, nullable=True),
    "size": _number("Size in bytes of the stored object.", 4_000_000, nullable=True),
    "content_type": _text("Declared media type.", "audio/mpeg", nullable=True),
    "detected_type": _text("Media type detected in the content.", "audio/mpeg", nullable=True),
    "audio": {
        "type": ["object", "null"],
        "description": "Facts about the file, as `track.audio` has them; null if it is not known to be audio.",
        "example": {"container": "mp3", "codec": "mp3", "duration": 215.04, "exact": True, "sample_rate": 44100},
    },
    "checksum_sha256": _text("Declared SHA-256 digest in base64.", None, nullable=True),
    "checksum_crc64nvme": _text("Declared CRC-64/NVME in base64.", None, nullable=True),
    "checksum_crc32c": _text("Declared CRC-32C in base64.", None, nullable=True),
    "integrity": _text(
        "By what the file was proven: `sha256`, `crc64nvme`, `crc32c` or `size`.", "size", nullable=True
    ),
    "etag": _text("ETag reported by the store.", "5d41402abc4b2a76b9719d911017c592", nullable=True),
    "failure": _text("The reason, if `status` is `failed`.", None, nullable=True),
    "failure_code": _text("A stable code of the reason.", None, nullable=True),
    "organization_index": _ORGANIZATION_INDEX,
    "index": _text("The track's ID in 22 URL-safe characters, as part of `path`.", INDEX),
    "metadata": _METADATA,
}
SESSION_FIELDS = {
    "upload_session_id": _text("The session's ID.", SESSION),
    "collection_id": _text("The collection's ID.", COLLECTION),
    "status": _text("`closed` or `expired`.", "closed"),
    "creator_id": _text("ID of the creator.", None, nullable=True),
    "organization_index": _ORGANIZATION_INDEX,
    "rules": _RULES,
    "track_count": _number("Number of tracks.", 2),
    "uploaded": _number("Number of uploaded tracks.", 2),
    "failed": _number("Number of failed tracks.", 0),
    "expired": _number("Number of expired tracks.", 0),
    "cancelled": _number("Number of cancelled tracks.", 0),
    "uploaded_bytes": _number("Sum of the sizes of all uploaded tracks in bytes.", 8_000_000),
    "metadata": _METADATA,
}
EVENTS = {
    "track.uploaded": Event("A track is verified.", TRACK_FIELDS),
    "track.failed": Event("A track has failed verification; `failure` has the reason.", TRACK_FIELDS),
    "track.expired": Event("A track was not uploaded before its session expired.", TRACK_FIELDS),
    "upload_session.completed": Event(
        "A session is closed or expired, and all of its tracks are final.", SESSION_FIELDS
    ),
}
