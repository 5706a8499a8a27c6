"""Responses: one schema for each shape of a successful response, besides `ok` and `api_request_id`."""

from __future__ import annotations

from marshmallow import fields

from .base import ResponseSchema, Timestamp, doc
from .fields import UUIDString
from .tracks import (
    COLLECTION,
    SESSION,
    TRACK,
    CoverUploadSchema,
    DownloadSchema,
    MultipartUploadSchema,
    PartSchema,
    TrackSchema,
    UploadSchema,
)
from .upload_sessions import UploadSessionSchema

SESSION_ID, TRACK_ID = doc("The session's ID.", SESSION), doc("The track's ID.", TRACK)
UPLOAD = doc("The upload of the file as one PUT, or null if there is none.")
COVER_UPLOAD = doc("The upload of the cover, or null if there is none.")
MULTIPART_UPLOAD = doc("The upload of the file in parts, or null if there is none.", None)
ONLY_WITH_TRACK = {"optional": True}
NEXT_AFTER = doc("The `after` with which the list goes on, or null at its end.", None)


class UploadSessionResponse(ResponseSchema):
    """An upload session."""

    upload_session_id = UUIDString(metadata=SESSION_ID)
    upload_session = fields.Nested(UploadSessionSchema, metadata=doc("The session."))
    expires_at = Timestamp(metadata=doc("The time at which the session expires."))


class UploadSessionCreatedResponse(UploadSessionResponse):
    """A new upload session. If the request had a `track`, also everything that registering it alone returns."""

    track_id = UUIDString(metadata={**TRACK_ID, **ONLY_WITH_TRACK})
    track = fields.Nested(TrackSchema, metadata=doc("The track.", optional=True))
    track_upload = fields.Nested(UploadSchema, allow_none=True, metadata={**UPLOAD, **ONLY_WITH_TRACK})
    track_cover_upload = fields.Nested(CoverUploadSchema, allow_none=True, metadata={**COVER_UPLOAD, **ONLY_WITH_TRACK})
    track_multipart_upload = fields.Nested(
        MultipartUploadSchema, allow_none=True, metadata={**MULTIPART_UPLOAD, **ONLY_WITH_TRACK}
    )


class ManifestSchema(ResponseSchema):
    """The first tracks of a closed session."""

    tracks = fields.List(fields.Nested(TrackSchema), metadata=doc("The first 200 tracks of the session, in order."))
    next_after = UUIDString(allow_none=True, metadata=NEXT_AFTER)


class UploadSessionClosedResponse(UploadSessionResponse):
    """A closed upload session with its first tracks."""

    manifest = fields.Nested(ManifestSchema, metadata=doc("The session's tracks."))


class ReceiptResponse(ResponseSchema):
    """One page of a session's receipt."""

    upload_session_id = UUIDString(metadata=SESSION_ID)
    receipt = fields.String(
        metadata=doc(
            "A JWS (RFC 7515, compact) of what has arrived, signed with a key of `/.well-known/jwks.json`.",
            "eyJhbGciOiJFZERTQSJ9.eyJ0cmFja3MiOltdfQ.c2lnbmF0dXJl",
        )
    )
    next_after = UUIDString(allow_none=True, metadata=NEXT_AFTER)


class Paginated(ResponseSchema):
    """A window of a list."""

    count = fields.Integer(
        allow_none=True, metadata=doc("Number of items in the whole list. May be null with `after`: see the list.", 1)
    )
    limit = fields.Integer(metadata=doc("Maximum number of items in this response.", 50))
    offset = fields.Integer(metadata=doc("Number of items skipped.", 0))
    next_after = UUIDString(allow_none=True, metadata=NEXT_AFTER)


class UploadSessionListResponse(Paginated):
    """A window of an organization's upload sessions."""

    upload_sessions = fields.List(fields.Nested(UploadSessionSchema), metadata=doc("The sessions, oldest first."))


class TrackRefResponse(ResponseSchema):
    """The IDs of a track and its session."""

    upload_session_id = UUIDString(metadata=SESSION_ID)
    track_id = UUIDString(metadata=TRACK_ID)


class TrackResponse(TrackRefResponse):
    """A track."""

    track = fields.Nested(TrackSchema, metadata=doc("The track."))


class TrackCreatedResponse(TrackResponse):
    """A track with its presigned uploads."""

    track_upload = fields.Nested(UploadSchema, allow_none=True, metadata=UPLOAD)
    track_cover_upload = fields.Nested(CoverUploadSchema, allow_none=True, metadata=COVER_UPLOAD)
    track_multipart_upload = fields.Nested(MultipartUploadSchema, allow_none=True, metadata=MULTIPART_UPLOAD)


class TracksCreatedResponse(ResponseSchema):
    """A batch of tracks with their presigned uploads."""

    upload_session_id = UUIDString(metadata=SESSION_ID)
    count = fields.Integer(metadata=doc("Number of tracks.", 1))
    tracks = fields.List(fields.Nested(TrackCreatedResponse), metadata=doc("The tracks, in the request's order."))


class VerificationSchema(ResponseSchema):
    """The result of a track's verification."""

    track_id = UUIDString(metadata=TRACK_ID)
    status = fields.String(
        metadata=doc("uploaded, failed or another status of the track; verifying, or not_uploaded.", "uploaded")
    )
    track = fields.Nested(TrackSchema, metadata=doc("The track."))


class TracksVerifiedResponse(ResponseSchema):
    """The results of a batch of verifications; Retry-After says when to ask again for tracks that are `verifying`."""

    upload_session_id = UUIDString(metadata=SESSION_ID)
    count = fields.Integer(metadata=doc("Number of tracks.", 1))
    tracks = fields.List(fields.Nested(VerificationSchema), metadata=doc("The results, in order of registration."))


class TrackListResponse(Paginated):
    """A window of a session's tracks."""

    upload_session_id = UUIDString(metadata=SESSION_ID)
    tracks = fields.List(fields.Nested(TrackSchema), metadata=doc("The tracks, oldest first."))


class CollectionTrackListResponse(Paginated):
    """A window of a collection's tracks."""

    collection_id = UUIDString(metadata=doc("The collection's ID.", COLLECTION))
    tracks = fields.List(fields.Nested(TrackSchema), metadata=doc("The tracks, oldest first."))


class UploadedPartSchema(ResponseSchema):
    """A part that the store has received."""

    part_number = fields.Integer(metadata=doc("Number of the part, from 1.", 1))
    size = fields.Integer(metadata=doc("Size in bytes.", 4_000_000))
    etag = fields.String(metadata=doc("ETag reported by the store.", "5d41402abc4b2a76b9719d911017c592"))


class PartListResponse(ResponseSchema):
    """The uploaded parts of a track."""

    track_id = UUIDString(metadata=TRACK_ID)
    parts = fields.List(fields.Nested(UploadedPartSchema), metadata=doc("The parts that the store has received."))
    part_size = fields.Integer(metadata=doc("Size in bytes of each part but the last.", 16_777_216))
    part_count = fields.Integer(metadata=doc("Number of parts of the whole file.", 1))


class SignedPartsResponse(ResponseSchema):
    """Presigned URLs for parts."""

    track_id = UUIDString(metadata=TRACK_ID)
    parts = fields.List(fields.Nested(PartSchema), metadata=doc("The parts, in the request's order."))


class DownloadResponse(TrackRefResponse):
    """A presigned download of a track."""

    track_download = fields.Nested(DownloadSchema, metadata=doc("The download of the file."))
    track_cover_download = fields.Nested(
        DownloadSchema, allow_none=True, metadata=doc("The download of the cover, or null if there is none.")
    )


class CoverUploadResponse(TrackRefResponse):
    """A presigned upload of a new cover."""

    track_cover_upload = fields.Nested(CoverUploadSchema, metadata=doc("The upload."))


class StoreEventResponse(ResponseSchema):
    """The effect of a notification."""

    count = fields.Integer(metadata=doc("Number of tracks that the notification was about.", 1))
