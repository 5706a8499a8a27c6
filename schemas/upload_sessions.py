"""Upload sessions: the requests that create and list them, and the session in responses."""

from __future__ import annotations

from marshmallow import fields, missing

from .base import ChangeSchema, RequestSchema, ResponseSchema, Timestamp, doc
from .fields import (
    Choice,
    FutureTime,
    Metadata,
    SingleLineString,
    StrictBoolean,
    StrictInteger,
    TrackCounts,
    UUIDString,
    in_range,
)
from .page import PAGE, PageChanges, PageSchema, field_list
from .rules import RULES, Rules
from .tracks import COLLECTION, SESSION, CreateTrack, Pagination

MIN_SESSION_SECONDS, MAX_SESSION_SECONDS = 60, 2_592_000
METADATA = {"batch_name": "Summer 2024 Collection"}


class CreateUploadSession(RequestSchema):
    """An upload session for one collection."""

    EXAMPLE = {"collection_id": COLLECTION, "metadata": METADATA}

    collection_id = UUIDString(
        allow_none=True,
        load_default=None,
        metadata=doc("ID of the collection. Required, unless the request is made with an uploader key."),
    )
    creator_id = UUIDString(allow_none=True, load_default=None, metadata=doc("ID of the creator."))
    organization_index = SingleLineString(
        allow_none=True, load_default=None, metadata=doc("The organization's own reference.", "summer-2024")
    )
    metadata = Metadata(
        allow_none=True, load_default=None, metadata=doc("Additional metadata, returned as it is.", METADATA)
    )
    expires_in = StrictInteger(
        allow_none=True,
        load_default=None,
        validate=in_range(MIN_SESSION_SECONDS, MAX_SESSION_SECONDS),
        metadata=doc("The session's lifetime in seconds. Default: the setting SESSION_TTL.", 3600),
    )
    max_tracks = StrictInteger(
        allow_none=True,
        load_default=None,
        validate=in_range(1, 10_000_000),
        metadata=doc("Maximum number of tracks. Capped by the setting MAX_TRACKS_PER_SESSION.", 100),
    )
    max_bytes = StrictInteger(
        allow_none=True,
        load_default=None,
        validate=in_range(1, 2**60),
        metadata=doc("Maximum sum of all declared sizes in bytes. If set, each track must declare `file_size`."),
    )
    rules = fields.Nested(
        Rules,
        allow_none=True,
        load_default=None,
        metadata=doc("What the session accepts. Default: the rules of the API key. `{}` accepts anything.", RULES),
    )
    page = fields.Nested(
        PageSchema,
        allow_none=True,
        load_default=None,
        metadata=doc("What the upload page says and how it looks; for the rest the defaults hold.", PAGE),
    )
    fields_ = field_list("Fields that the page asks for with each track; the values are in the tracks' `metadata`.")
    embedded_cover = StrictBoolean(
        allow_none=True,
        load_default=False,
        metadata=doc("If true, the picture in an audio file becomes the track's cover, unless one is uploaded.", False),
    )
    track = fields.Nested(
        CreateTrack, allow_none=True, load_default=None, metadata=doc("The first track, registered with the session.")
    )


class ChangeUploadSession(ChangeSchema):
    """Changes of an open session. What is absent stays; what is given replaces the old, and of `page` each member."""

    EXAMPLE = {"expires_in": 604_800, "page": {"title": "Summer 2024"}}

    expires_at = FutureTime(
        metadata=doc("New end of the session: 60 seconds to 30 days from now.", "2030-01-31T12:00:00Z"),
    )
    expires_in = StrictInteger(
        validate=in_range(MIN_SESSION_SECONDS, MAX_SESSION_SECONDS),
        metadata=doc("The same as seconds from now.", 604_800),
    )
    metadata = Metadata(allow_none=True, metadata=doc("Additional metadata.", METADATA))
    max_tracks = StrictInteger(
        allow_none=True,
        validate=in_range(1, 10_000_000),
        metadata=doc("Maximum number of tracks, at least that of the registered ones; null for the highest.", 100),
    )
    max_bytes = StrictInteger(
        allow_none=True,
        validate=in_range(1, 2**60),
        metadata=doc("Maximum sum of all declared sizes, at least that of the registered tracks; null for none."),
    )
    rules = fields.Nested(
        Rules,
        allow_none=True,
        metadata=doc("What the session accepts from now on; null for anything.", RULES),
    )
    page = fields.Nested(
        PageChanges,
        allow_none=True,
        metadata=doc("Members of the page: null in one takes it back, null instead of the object all.", PAGE),
    )
    fields_ = field_list(
        "Fields that the page asks for; null for none. Tracks that are registered stay as they are.", missing
    )


class UploadSessionListQuery(Pagination):
    """A window of an organization's sessions, filtered by collection and status."""

    collection_id = UUIDString(load_default=None, metadata=doc("Only sessions of this collection.", COLLECTION))
    status = Choice(
        ("open", "closed", "expired"), load_default=None, metadata=doc("Only sessions with this status.", "open")
    )


class UploadSessionSchema(ResponseSchema):
    """An upload session."""

    id = UUIDString(metadata=doc("The session's ID, which is the credential for everything under it.", SESSION))
    creator_id = UUIDString(allow_none=True, metadata=doc("ID of the creator.", None))
    collection_id = UUIDString(metadata=doc("ID of the collection.", COLLECTION))
    organization_index = fields.String(
        allow_none=True, metadata=doc("The organization's own reference.", "summer-2024")
    )
    metadata = fields.Dict(allow_none=True, metadata=doc("Additional metadata from the request.", METADATA))
    status = fields.String(metadata=doc("`open`, `closed` or `expired`.", "open"))
    created_at = Timestamp(metadata=doc("The time of creation.", "2030-01-31T11:00:00Z"))
    expires_at = Timestamp(metadata=doc("The time at which the session expires."))
    max_tracks = fields.Integer(metadata=doc("Maximum number of tracks.", 1000))
    max_bytes = fields.Integer(allow_none=True, metadata=doc("Maximum sum of all declared sizes in bytes.", None))
    rules = fields.Nested(
        Rules, allow_none=True, metadata=doc("What the session accepts, or null for anything.", RULES)
    )
    page = fields.Nested(
        PageSchema, metadata=doc("The upload page, with the defaults of key, organization and settings.", PAGE)
    )
    fields_ = field_list("Fields that the page asks for with each track, or null.")
    embedded_cover = fields.Boolean(
        metadata=doc("If true, the picture in an audio file becomes the track's cover, unless one is uploaded.", False)
    )
    track_count = fields.Integer(metadata=doc("Number of tracks.", 1))
    tracks = TrackCounts(metadata=doc("Number of tracks in each status."))
    declared_bytes = fields.Integer(metadata=doc("Sum of all declared sizes in bytes.", 4_000_000))
    uploaded_bytes = fields.Integer(metadata=doc("Sum of the sizes of all uploaded tracks in bytes.", 4_000_000))
