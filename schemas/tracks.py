"""What a client says of a track, and what it is told."""

from __future__ import annotations

from marshmallow import fields

from .base import In, Out
from .fields import FileName, MediaType, Metadata, SHA256Base64, Text, UUIDText, WholeNumber, between

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_OBJECT_BYTES = 5 * 2**40


class CreateTrack(In):
    """A file that is about to be uploaded. Only its name is required; what is declared, the store enforces."""

    file_name = FileName(required=True)
    organization_index = Text(allow_none=True, load_default=None)
    metadata = Metadata(allow_none=True, load_default=None)
    file_size = WholeNumber(allow_none=True, load_default=None, validate=between(1, MAX_OBJECT_BYTES))
    content_type = MediaType(allow_none=True, load_default=None)
    checksum_sha256 = SHA256Base64(allow_none=True, load_default=None)


class TrackOut(Out):
    """A track as it stands."""

    id = UUIDText()
    index = fields.String()
    path = fields.String()
    cover_path = fields.String()
    status = fields.String()
    file_name = fields.String()
    organization_index = fields.String()
    metadata = fields.Raw()
    file_size = fields.Integer()
    content_type = fields.String()
    checksum_sha256 = fields.String()


class UploadOut(Out):
    """Where and how to send a file: `ttl` in seconds, `headers` to send to the letter."""

    method = fields.String()
    upload_url = fields.String()
    ttl = fields.Integer()
    expires_at = fields.String()
    headers = fields.Raw()


class CoverUploadOut(UploadOut):
    """The same for a cover: a form's `fields`, in front of its `file`."""

    fields_ = fields.Raw(data_key="fields")


class TrackCreatedOut(Out):
    """The answer to CreateTrack."""

    upload_session_id = UUIDText()
    track_id = UUIDText()
    track = fields.Nested(TrackOut)
    track_upload = fields.Nested(UploadOut)
    track_cover_upload = fields.Nested(CoverUploadOut)
