"""What the API's description shows: requests as they are sent, and answers as they come."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields

COLLECTION, SESSION = "123e4567-e89b-12d3-a456-426614174000", "6f1c8a52-37d4-4c0e-9a3b-2f5d71e8c904"
TRACK, KEY, REQUEST = (
    "b3f0a6de-58c1-4e27-8d94-0c6a1be7f235",
    "d9e2471b-6c05-4f8a-b1e3-87a40c95f162",
    "0b7e4c52-8a86-4d2b-9a2e-5d0f3a1c7e90",
)
INDEX, BUCKET = "s_Cm3ljBTieNlAxqG-fyNQ", "https://tracks.s3.example.com"
PATH, COVER_PATH = f"{COLLECTION}/{INDEX}/track-1.mp3", f"{COLLECTION}/{INDEX}/cover"
SIGNED = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=..."
TIME, EXPIRY = "2030-01-31T11:00:00Z", "2030-01-31T12:00:00Z"
METADATA = {"track_number": 1, "title": "First Track"}

# A test has each of these taken.
REQUESTS: dict[str, dict[str, Any]] = {
    "create_upload_session": {"collection_id": COLLECTION, "metadata": {"batch_name": "Summer 2024 Collection"}},
    "create_track": {"file_name": "track-1.mp3", "metadata": METADATA},
    "create_tracks": {"tracks": [{"file_name": "track-1.mp3", "file_size": 4_000_000}, {"file_name": "track-2.mp3"}]},
    "sign_parts": {"part_numbers": [21, 22]},
    "create_api_key": {"name": "our app", "collection_id": COLLECTION},
    "receive_store_event": {
        "Records": [
            {
                "eventName": "s3:ObjectCreated:Put",
                "s3": {"bucket": {"name": "tracks"}, "object": {"key": PATH, "size": 4_000_000}},
            }
        ]
    },
}

# A part of a form is its bytes, which JSON has no place for.
FORM = {"file": "the bytes of cover.jpg"}
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PARAMETERS = {
    "upload_session_id": SESSION,
    "track_id": TRACK,
    "collection_id": COLLECTION,
    "Idempotency-Key": "8e03978e-40d5-43e8-bc93-6894a57f9324",
    "limit": 50,
    "offset": 0,
}

# What a key of an answer holds, wherever it stands; `Schema.key` where it is another thing there.
VALUES: dict[str, Any] = {
    "upload_session_id": SESSION,
    "track_id": TRACK,
    "collection_id": COLLECTION,
    "creator_id": None,
    "organization_id": None,
    "organization_index": "summer-2024",
    "metadata": METADATA,
    "created_at": TIME,
    "verified_at": TIME,
    "expires_at": EXPIRY,
    "count": 1,
    "limit": 50,
    "offset": 0,
    "ttl": 3600,
    "UploadSessionOut.id": SESSION,
    "UploadSessionOut.status": "open",
    "UploadSessionOut.metadata": {"batch_name": "Summer 2024 Collection"},
    "UploadSessionOut.tracks": {"initialized": 0, "uploaded": 1, "failed": 0, "expired": 0, "cancelled": 0},
    "max_tracks": None,
    "max_bytes": None,
    "track_count": 1,
    "declared_bytes": 4_000_000,
    "uploaded_bytes": 4_000_000,
    "TrackOut.id": TRACK,
    "index": INDEX,
    "path": PATH,
    "cover_path": COVER_PATH,
    "status": "uploaded",
    "failure": None,
    "file_name": "track-1.mp3",
    "file_size": 4_000_000,
    "content_type": "audio/mpeg",
    "checksum_sha256": None,
    "size": 4_000_000,
    "etag": "5d41402abc4b2a76b9719d911017c592",
    "version_id": None,
    "detected_type": "audio/mpeg",
    "CoverOut.path": COVER_PATH,
    "CoverOut.content_type": "image/jpeg",
    "CoverOut.size": 250_000,
    "width": 1400,
    "height": 1400,
    "method": "PUT",
    "upload_url": f"{BUCKET}/{PATH}?{SIGNED}",
    "headers": {"Content-Type": "audio/mpeg"},
    "CoverUploadOut.method": "POST",
    "CoverUploadOut.upload_url": BUCKET,
    "CoverUploadOut.headers": {},
    "fields": {"key": COVER_PATH, "policy": "...", "x-amz-signature": "..."},
    "DownloadOut.method": "GET",
    "download_url": f"{BUCKET}/{PATH}?{SIGNED}",
    "track_multipart_upload": None,
    "part_number": 1,
    "part_size": 67_108_864,
    "part_count": 1,
    "ApiKeyOut.id": KEY,
    "prefix": "Zk3v9QpT1xWb",
    "name": "our app",
    "role": "uploader",
    "key": "loadbay_uploader_Zk3v9QpT1xWb_...",
}  # fmt: skip


def answer_example(schema: type[Schema]) -> dict[str, Any]:
    """A whole answer, as `schema` dumps it."""
    return {"ok": True, "api_request_id": REQUEST, **_example(schema)}


def error_example(message: str, code: str) -> dict[str, Any]:
    """An error's answer."""
    return {"ok": False, "message": message, "code": code, "api_request_id": REQUEST}


def _example(schema: type[Schema]) -> dict[str, Any]:
    return {field.data_key or name: _value(schema, name, field) for name, field in schema().fields.items()}


def _value(schema: type[Schema], name: str, field: fields.Field[Any]) -> Any:
    key = field.data_key or name
    for kind in schema.__mro__:
        if (own := f"{kind.__name__}.{key}") in VALUES:
            return VALUES[own]
    if key in VALUES:
        return VALUES[key]
    if isinstance(field, fields.List):
        return [_value(schema, name, field.inner)]
    assert isinstance(field, fields.Nested), f"{schema.__name__}.{key} has no example."
    return _example(type(field.schema))
