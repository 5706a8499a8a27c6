"""What a client says of a track, and what it is told."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from marshmallow import ValidationError, fields, validate

from .base import RequestSchema, ResponseSchema
from .fields import (
    Choice,
    FileName,
    MediaType,
    Metadata,
    QueryInteger,
    SHA256Base64,
    SingleLineString,
    StrictBoolean,
    StrictInteger,
    UUIDString,
    in_range,
)

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_OBJECT_BYTES = 5 * 2**40
MIN_PART_BYTES, MAX_PART_BYTES, MAX_PARTS = 5 * 2**20, 5 * 2**30, 10_000
MAX_BATCH = 1000


class TrackList(fields.List):  # type: ignore[type-arg]
    """A list of 1 to MAX_BATCH items; faults are told by the item's place, from 0."""

    described = {"minItems": 1, "maxItems": MAX_BATCH}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_BATCH:
            raise ValidationError(f"must be a list of 1 to {MAX_BATCH} items.")
        schema, found, faults = _track_schema(), [], {}
        for number, item in enumerate(value):
            try:
                found.append(schema.load(item))
            except ValidationError as e:
                faults[number] = e.messages
        if faults:
            raise ValidationError(faults)
        return found


def check_file_size(size: int) -> None:
    """Raise ValidationError for a size that no file may have."""
    if size == 0:
        raise ValidationError("must not be 0: an empty file is not accepted.")
    in_range(1, MAX_OBJECT_BYTES)(size)


class CreateTrack(RequestSchema):
    """A file that is about to be uploaded. Only its name is required; what is declared, the store enforces."""

    file_name = FileName(required=True)
    organization_index = SingleLineString(allow_none=True, load_default=None)
    metadata = Metadata(allow_none=True, load_default=None)
    file_size = StrictInteger(allow_none=True, load_default=None, validate=check_file_size)
    content_type = MediaType(allow_none=True, load_default=None)
    checksum_sha256 = SHA256Base64(allow_none=True, load_default=None)
    write_once = StrictBoolean(allow_none=True, load_default=False)
    cover_fields = StrictBoolean(allow_none=True, load_default=False)
    multipart = StrictBoolean(allow_none=True, load_default=None)
    part_size = StrictInteger(allow_none=True, load_default=None, validate=in_range(MIN_PART_BYTES, MAX_PART_BYTES))


@lru_cache(maxsize=1)
def _track_schema() -> CreateTrack:
    # A schema takes longer to make than to ask.
    return CreateTrack()


class CreateTracks(RequestSchema):
    """Many at once."""

    tracks = TrackList(fields.Nested(CreateTrack), required=True)


class SignParts(RequestSchema):
    """Parts of a multipart upload that need URLs."""

    part_numbers = fields.List(
        StrictInteger(validate=in_range(1, MAX_PARTS)), required=True, validate=validate.Length(1, MAX_BATCH)
    )


class Pagination(RequestSchema):
    """Which part of a list: the query's `limit` and `offset`."""

    limit = QueryInteger(load_default=50, validate=in_range(1, 200))
    offset = QueryInteger(load_default=0, validate=in_range(0, 2**31))


class TrackListQuery(Pagination):
    """Which of a collection's tracks, and which part of their list."""

    status = Choice(("initialized", "uploaded", "failed", "expired", "cancelled"), load_default=None)


class CoverOut(ResponseSchema):
    """A cover that was checked: `status` is `uploaded`, `failed` (see `failure`) or `expired`; sizes in pixels."""

    path = fields.String()
    status = fields.String()
    failure = fields.String()
    content_type = fields.String()
    size = fields.Integer()
    etag = fields.String()
    width = fields.Integer()
    height = fields.Integer()


class TrackOut(ResponseSchema):
    """A track as it stands."""

    id = UUIDString()
    session_id = UUIDString(data_key="upload_session_id")
    collection_id = UUIDString()
    creator_id = UUIDString()
    index = fields.String()
    path = fields.String()
    cover_path = fields.String()
    status = fields.String()
    failure = fields.String()
    file_name = fields.String()
    organization_index = fields.String()
    metadata = fields.Raw()
    file_size = fields.Integer()
    content_type = fields.String()
    checksum_sha256 = fields.String()
    size = fields.Integer()
    etag = fields.String()
    version_id = fields.String()
    detected_type = fields.String()
    verified_at = fields.String()
    cover = fields.Nested(CoverOut)


class UploadOut(ResponseSchema):
    """Where and how to send a file: `ttl` in seconds, `headers` to send to the letter."""

    method = fields.String()
    upload_url = fields.String()
    ttl = fields.Integer()
    expires_at = fields.String()
    headers = fields.Raw()


class CoverUploadOut(UploadOut):
    """The same for a cover: a form's `fields`, in front of its `file`."""

    fields_ = fields.Raw(data_key="fields")


class PartOut(ResponseSchema):
    """Where one part goes, and its exact size in bytes."""

    part_number = fields.Integer()
    upload_url = fields.String()
    size = fields.Integer()
    headers = fields.Raw()


class MultipartUploadOut(ResponseSchema):
    """How to send a file in parts: `part_size` bytes each, but the last."""

    method = fields.String()
    part_size = fields.Integer()
    part_count = fields.Integer()
    ttl = fields.Integer()
    expires_at = fields.String()
    parts = fields.Raw()


class DownloadOut(ResponseSchema):
    """Where to fetch a track's bytes: `ttl` in seconds."""

    method = fields.String()
    download_url = fields.String()
    ttl = fields.Integer()
    expires_at = fields.String()


class TrackCreatedOut(ResponseSchema):
    """The answer to CreateTrack."""

    upload_session_id = UUIDString()
    track_id = UUIDString()
    track = fields.Nested(TrackOut)
    track_upload = fields.Nested(UploadOut)
    track_cover_upload = fields.Nested(CoverUploadOut)
    track_multipart_upload = fields.Nested(MultipartUploadOut)
