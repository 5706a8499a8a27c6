"""What a client says of an upload session, and what it is told."""

from __future__ import annotations

from marshmallow import fields

from .base import RequestSchema, ResponseSchema
from .fields import Choice, Metadata, SingleLineString, StrictInteger, UUIDString, in_range
from .tracks import CreateTrack, Pagination


class CreateUploadSession(RequestSchema):
    """A session for one collection; `track` registers its first track at once."""

    collection_id = UUIDString(required=True)
    creator_id = UUIDString(allow_none=True, load_default=None)
    organization_index = SingleLineString(allow_none=True, load_default=None)
    metadata = Metadata(allow_none=True, load_default=None)
    expires_in = StrictInteger(allow_none=True, load_default=None, validate=in_range(60, 86_400))
    max_tracks = StrictInteger(allow_none=True, load_default=None, validate=in_range(1, 10_000_000))
    max_bytes = StrictInteger(allow_none=True, load_default=None, validate=in_range(1, 2**60))
    track = fields.Nested(CreateTrack, allow_none=True, load_default=None)


class CreateUploadSessionAsUploader(CreateUploadSession):
    """The same from an uploader's key, which knows its collection."""

    collection_id = UUIDString(
        allow_none=True,
        load_default=None,
        metadata={"description": "Needed, unless it is an uploader's key that asks."},
    )


class UploadSessionListQuery(Pagination):
    """Which of an organisation's sessions, and which part of their list."""

    collection_id = UUIDString(load_default=None)
    status = Choice(("open", "closed", "expired"), load_default=None)


class UploadSessionOut(ResponseSchema):
    """A session as it stands."""

    id = UUIDString()
    creator_id = UUIDString()
    collection_id = UUIDString()
    organization_index = fields.String()
    metadata = fields.Raw()
    status = fields.String()
    created_at = fields.String()
    expires_at = fields.String()
    max_tracks = fields.Integer()
    max_bytes = fields.Integer()
    track_count = fields.Integer()
    tracks = fields.Raw()
    declared_bytes = fields.Integer()
    uploaded_bytes = fields.Integer()


class UploadSessionCreatedOut(ResponseSchema):
    """The answer to CreateUploadSession, and to reading a session."""

    upload_session_id = UUIDString()
    upload_session = fields.Nested(UploadSessionOut)
    expires_at = fields.String()
