"""The answers that hold more than one thing, as the API's document tells of them."""

from __future__ import annotations

from marshmallow import fields

from .base import ResponseSchema
from .fields import UUIDString
from .tracks import CoverUploadOut, DownloadOut, PartOut, TrackCreatedOut, TrackOut, UploadOut
from .tracks import MultipartUploadOut as Multipart
from .upload_sessions import UploadSessionCreatedOut, UploadSessionOut


class TrackResponse(ResponseSchema):
    """One track."""

    upload_session_id = UUIDString()
    track_id = UUIDString()
    track = fields.Nested(TrackOut)


class SessionWithTrackAnswer(UploadSessionCreatedOut):
    """A new session; and where the request had a `track`, what registering it alone would have answered."""

    track_id = UUIDString(metadata={"optional": True})
    track = fields.Nested(TrackOut, metadata={"optional": True})
    track_upload = fields.Nested(UploadOut, metadata={"optional": True})
    track_cover_upload = fields.Nested(CoverUploadOut, metadata={"optional": True})
    track_multipart_upload = fields.Nested(Multipart, metadata={"optional": True})


class ManifestOut(ResponseSchema):
    """What has become of every track."""

    tracks = fields.List(fields.Nested(TrackOut))


class ClosedAnswer(UploadSessionCreatedOut):
    """A session that takes no more tracks."""

    manifest = fields.Nested(ManifestOut)


class BatchAnswer(ResponseSchema):
    """Tracks that were registered at once, in the request's order."""

    upload_session_id = UUIDString()
    count = fields.Integer()
    tracks = fields.List(fields.Nested(TrackCreatedOut))


class Paginated(ResponseSchema):
    """A part of a list: `count` is how many there are in all."""

    count = fields.Integer()
    limit = fields.Integer()
    offset = fields.Integer()


class TracksAnswer(Paginated):
    """Tracks of a session."""

    upload_session_id = UUIDString()
    tracks = fields.List(fields.Nested(TrackOut))


class CollectionTrackOut(TrackOut):
    """A track, and the session that it came in."""

    upload_session_id = UUIDString()


class CollectionAnswer(Paginated):
    """Tracks of a collection."""

    collection_id = UUIDString()
    tracks = fields.List(fields.Nested(CollectionTrackOut))


class SessionsAnswer(Paginated):
    """Sessions."""

    upload_sessions = fields.List(fields.Nested(UploadSessionOut))


class UploadedPart(ResponseSchema):
    """A part that the store has; `size` in bytes."""

    part_number = fields.Integer()
    size = fields.Integer()
    etag = fields.String()


class PartsAnswer(ResponseSchema):
    """The parts that the store has, and how the track is cut."""

    track_id = UUIDString()
    parts = fields.List(fields.Nested(UploadedPart))
    part_size = fields.Integer()
    part_count = fields.Integer()


class SignedPartsAnswer(ResponseSchema):
    """URLs for parts."""

    track_id = UUIDString()
    parts = fields.List(fields.Nested(PartOut))


class TrackRefResponse(ResponseSchema):
    """Which track it was."""

    upload_session_id = UUIDString()
    track_id = UUIDString()


class DownloadAnswer(TrackRefResponse):
    """Where a track's bytes are."""

    track_download = fields.Nested(DownloadOut)


class CoverAnswer(TrackRefResponse):
    """Where a cover goes."""

    track_cover_upload = fields.Nested(CoverUploadOut)


class CountAnswer(ResponseSchema):
    """How many tracks a notification was about."""

    count = fields.Integer()
