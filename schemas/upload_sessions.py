"""What a client says of an upload session, and what it is told."""

from __future__ import annotations

from marshmallow import fields

from .base import In, Out
from .fields import Metadata, OneOf, Text, UUIDText, WholeNumber, between
from .tracks import CreateTrack, Page


class CreateUploadSession(In):
    """A session for one collection; `track` registers its first track at once."""

    collection_id = UUIDText(required=True)
    creator_id = UUIDText(allow_none=True, load_default=None)
    organization_index = Text(allow_none=True, load_default=None)
    metadata = Metadata(allow_none=True, load_default=None)
    expires_in = WholeNumber(allow_none=True, load_default=None, validate=between(60, 86_400))
    max_tracks = WholeNumber(allow_none=True, load_default=None, validate=between(1, 10_000_000))
    max_bytes = WholeNumber(allow_none=True, load_default=None, validate=between(1, 2**60))
    track = fields.Nested(CreateTrack, allow_none=True, load_default=None)


class CreateOwnUploadSession(CreateUploadSession):
    """The same from an uploader's key, which knows its collection."""

    collection_id = UUIDText(
        allow_none=True,
        load_default=None,
        metadata={"description": "Needed, unless it is an uploader's key that asks."},
    )


class UploadSessionPage(Page):
    """Which of an organisation's sessions, and which part of their list."""

    collection_id = UUIDText(load_default=None)
    status = OneOf(("open", "closed", "expired"), load_default=None)


class UploadSessionOut(Out):
    """A session as it stands."""

    id = UUIDText()
    creator_id = UUIDText()
    collection_id = UUIDText()
    organization_index = fields.String()
    metadata = fields.Raw()
    status = fields.String()
    created_at = fields.String()
    expires_at = fields.String()
    max_tracks = fields.Integer()
    max_bytes = fields.Integer()
    track_count = fields.Integer()
    tracks = fields.Raw()
    promised_bytes = fields.Integer()
    uploaded_bytes = fields.Integer()


class UploadSessionCreatedOut(Out):
    """The answer to CreateUploadSession, and to reading a session."""

    upload_session_id = UUIDText()
    upload_session = fields.Nested(UploadSessionOut)
    expires_at = fields.String()
