"""The answers that hold more than one thing, as the API's document tells of them."""

from __future__ import annotations

from marshmallow import fields

from .base import Out
from .fields import UUIDText
from .tracks import CoverUploadOut, DownloadOut, PartOut, TrackCreatedOut, TrackOut, UploadOut
from .tracks import MultipartUploadOut as Multipart
from .upload_sessions import UploadSessionCreatedOut, UploadSessionOut


class TrackAnswer(Out):
    """One track."""

    upload_session_id = UUIDText()
    track_id = UUIDText()
    track = fields.Nested(TrackOut)


class SessionWithTrackAnswer(UploadSessionCreatedOut):
    """A new session; and where the request had a `track`, what registering it alone would have answered."""

    track_id = UUIDText(metadata={"optional": True})
    track = fields.Nested(TrackOut, metadata={"optional": True})
    track_upload = fields.Nested(UploadOut, metadata={"optional": True})
    track_cover_upload = fields.Nested(CoverUploadOut, metadata={"optional": True})
    track_multipart_upload = fields.Nested(Multipart, metadata={"optional": True})


class ManifestOut(Out):
    """What has become of every track."""

    tracks = fields.List(fields.Nested(TrackOut))


class ClosedAnswer(UploadSessionCreatedOut):
    """A session that takes no more tracks."""

    manifest = fields.Nested(ManifestOut)


class BatchAnswer(Out):
    """Tracks that were registered at once, in the request's order."""

    upload_session_id = UUIDText()
    count = fields.Integer()
    tracks = fields.List(fields.Nested(TrackCreatedOut))


class PageOut(Out):
    """A part of a list: `count` is how many there are in all."""

    count = fields.Integer()
    limit = fields.Integer()
    offset = fields.Integer()


class TracksAnswer(PageOut):
    """Tracks of a session."""

    upload_session_id = UUIDText()
    tracks = fields.List(fields.Nested(TrackOut))


class CollectionTrackOut(TrackOut):
    """A track, and the session that it came in."""

    upload_session_id = UUIDText()


class CollectionAnswer(PageOut):
    """Tracks of a collection."""

    collection_id = UUIDText()
    tracks = fields.List(fields.Nested(CollectionTrackOut))


class SessionsAnswer(PageOut):
    """Sessions."""

    upload_sessions = fields.List(fields.Nested(UploadSessionOut))


class ArrivedPartOut(Out):
    """A part that the store has; `size` in bytes."""

    part_number = fields.Integer()
    size = fields.Integer()
    etag = fields.String()


class PartsAnswer(Out):
    """The parts that the store has, and how the track is cut."""

    track_id = UUIDText()
    parts = fields.List(fields.Nested(ArrivedPartOut))
    part_size = fields.Integer()
    part_count = fields.Integer()


class SignedPartsAnswer(Out):
    """URLs for parts."""

    track_id = UUIDText()
    parts = fields.List(fields.Nested(PartOut))


class NamesAnswer(Out):
    """Which track it was."""

    upload_session_id = UUIDText()
    track_id = UUIDText()


class DownloadAnswer(NamesAnswer):
    """Where a track's bytes are."""

    track_download = fields.Nested(DownloadOut)


class CoverAnswer(NamesAnswer):
    """Where a cover goes."""

    track_cover_upload = fields.Nested(CoverUploadOut)


class CountAnswer(Out):
    """How many tracks a notification was about."""

    count = fields.Integer()
