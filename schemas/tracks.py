"""Tracks: the requests that register and list them, and the objects that responses hold."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from marshmallow import ValidationError, fields, validate

from .audio import AudioSchema
from .base import ChangeSchema, RequestSchema, ResponseSchema, Timestamp, doc
from .fields import (
    TRACK_STATUSES,
    Checksum,
    Choice,
    FileName,
    MediaType,
    Metadata,
    QueryBoolean,
    QueryInteger,
    SingleLineString,
    StrictBoolean,
    StrictInteger,
    StringMap,
    UUIDString,
    in_range,
)

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_OBJECT_BYTES = 5 * 2**40
MIN_PART_BYTES, MAX_PART_BYTES, MAX_PARTS = 5 * 2**20, 5 * 2**30, 10_000
MAX_BATCH = 1000
MAX_RESUME_KEY = 128
MAX_PAGE = 200
"""Items in a page of a list: each has up to 16 KiB of metadata."""

COLLECTION, SESSION = "123e4567-e89b-12d3-a456-426614174000", "6f1c8a52-37d4-4c0e-9a3b-2f5d71e8c904"
TRACK, INDEX = "b3f0a6de-58c1-4e27-8d94-0c6a1be7f235", "s_Cm3ljBTieNlAxqG-fyNQ"
BUCKET = "https://tracks.s3.example.com"
PATH, COVER_PATH = f"{COLLECTION}/{INDEX}/track-1.mp3", f"{COLLECTION}/{INDEX}/cover"
SIGNED_URL = f"{BUCKET}/{PATH}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=..."
METADATA = {"track_number": 1, "title": "First Track"}
RESUME_KEY = "track-1.mp3:4000000:Nq8kW2"
EXPIRY = "2030-01-31T12:00:00Z"


# --- Requests --------------------------------------------------------------------------------------------------------


class TrackList(fields.List):  # type: ignore[type-arg]
    """A list of 1 to MAX_BATCH tracks; errors are reported by index, from 0."""

    json_schema = {"minItems": 1, "maxItems": MAX_BATCH}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_BATCH:
            raise ValidationError(f"must be a list of 1 to {MAX_BATCH} items.")
        schema, items, errors = _track_schema(), [], {}
        for number, item in enumerate(value):
            try:
                items.append(schema.load(item))
            except ValidationError as e:
                errors[number] = e.messages
        if errors:
            raise ValidationError(errors)
        return items


class FileSizeRange(validate.Range):
    """The range of a file's size, with a message of its own for an empty file."""

    def __call__(self, value: Any) -> Any:
        """Return the value. Raises ValidationError."""
        if value == 0:
            raise ValidationError("must not be 0: an empty file is not accepted.")
        return super().__call__(value)


class CreateTrack(RequestSchema):
    """A file to be uploaded. Only its name is required; what else is declared, the store enforces."""

    EXAMPLE = {"file_name": "track-1.mp3", "metadata": METADATA}

    file_name = FileName(required=True, metadata=doc("Original filename of the track, without folders."))
    organization_index = SingleLineString(
        allow_none=True, load_default=None, metadata=doc("The organization's own reference.", "summer-2024")
    )
    metadata = Metadata(
        allow_none=True, load_default=None, metadata=doc("Additional metadata, returned as it is.", METADATA)
    )
    file_size = StrictInteger(
        allow_none=True,
        load_default=None,
        validate=FileSizeRange(1, MAX_OBJECT_BYTES, error=f"must be from 1 to {MAX_OBJECT_BYTES}."),
        metadata=doc("Exact size in bytes. If set, the store rejects an upload of any other size.", 4_000_000),
    )
    content_type = MediaType(
        allow_none=True, load_default=None, metadata=doc("Media type that the upload must be sent with.")
    )
    checksum_sha256 = Checksum(
        "SHA-256 digest",
        32,
        allow_none=True,
        load_default=None,
        metadata=doc("SHA-256 digest of the file in base64; no other content is accepted. Not with `multipart`."),
    )
    checksum_crc64nvme = Checksum(
        "CRC-64/NVME",
        8,
        allow_none=True,
        load_default=None,
        metadata=doc("CRC-64/NVME of the file in base64 (big-endian); no other content is accepted."),
    )
    checksum_crc32c = Checksum(
        "CRC-32C",
        4,
        allow_none=True,
        load_default=None,
        metadata=doc("CRC-32C of the file in base64 (big-endian); no other content is accepted. At most one checksum."),
    )
    write_once = StrictBoolean(
        allow_none=True,
        load_default=False,
        metadata=doc("If true, the store accepts the upload only while the object does not exist."),
    )
    cover_fields = StrictBoolean(
        allow_none=True,
        load_default=False,
        metadata=doc(
            "If true, the client does what `track_cover_upload` says: it sends a form with its `fields` to the store"
            " or, with `cover_size` and `cover_content_type`, a PUT with its `headers`. If false, it posts the cover to"
            " this service, as a form with `file` alone."
        ),
    )
    cover_size = StrictInteger(
        allow_none=True,
        load_default=None,
        validate=in_range(0, MAX_OBJECT_BYTES),
        metadata=doc("Size of the cover in bytes, for a PUT."),
    )
    cover_content_type = MediaType(
        allow_none=True, load_default=None, metadata=doc("Media type of the cover, for a PUT.", "image/jpeg")
    )
    multipart = StrictBoolean(
        allow_none=True,
        load_default=None,
        metadata=doc("true for a multipart upload, false for a single PUT, null to decide by `file_size`."),
    )
    part_size = StrictInteger(
        allow_none=True,
        load_default=None,
        validate=in_range(MIN_PART_BYTES, MAX_PART_BYTES),
        metadata=doc("Size in bytes of each part but the last. Chosen by the service if null."),
    )
    resume_key = SingleLineString(
        allow_none=True,
        load_default=None,
        validate=validate.Length(1, MAX_RESUME_KEY, error=f"must have 1 to {MAX_RESUME_KEY} characters."),
        metadata=doc("The client's own mark of the file, by which it finds the track again to go on.", RESUME_KEY),
    )


@lru_cache(maxsize=1)
def _track_schema() -> CreateTrack:
    # Creating a schema takes longer than using it.
    return CreateTrack()


class CreateTracks(RequestSchema):
    """A batch of tracks."""

    EXAMPLE = {"tracks": [{"file_name": "track-1.mp3", "file_size": 4_000_000}, {"file_name": "track-2.mp3"}]}

    tracks = TrackList(fields.Nested(CreateTrack), required=True, metadata=doc("The tracks to register."))


class ChangeTrack(ChangeSchema):
    """Changes of a track. What is absent stays, and so does `path`."""

    EXAMPLE = {"metadata": METADATA}

    file_name = FileName(
        metadata=doc("New name of the file, under which it is downloaded."),
    )
    metadata = Metadata(allow_none=True, metadata=doc("Additional metadata, in full.", METADATA))


class CancelQuery(RequestSchema):
    """Options of a track's cancellation."""

    uploaded = QueryBoolean(
        load_default=False,
        metadata=doc("If true, the track is deleted whatever its status, where `page.allow_changes` allows it.", False),
    )


class CompleteTracks(RequestSchema):
    """Tracks to verify."""

    EXAMPLE = {"track_ids": ["0198c6a2-51d4-7b02-9f3e-6d0c2b9a4e11"]}

    track_ids = fields.List(
        UUIDString(),
        allow_none=True,
        load_default=None,
        validate=validate.Length(1, MAX_BATCH),
        metadata=doc("IDs of the tracks; if null, the session's first 1,000 tracks that are not final."),
    )


class SignParts(RequestSchema):
    """Parts of a multipart upload that need URLs."""

    EXAMPLE = {"part_numbers": [21, 22]}

    part_numbers = fields.List(
        StrictInteger(validate=in_range(1, MAX_PARTS)),
        required=True,
        validate=validate.Length(1, MAX_BATCH),
        metadata=doc("Numbers of the parts, from 1."),
    )


TRACK_ORDERS = ("registration", "duration", "-duration")


class Pagination(RequestSchema):
    """A window of a list."""

    limit = QueryInteger(load_default=50, validate=in_range(1, MAX_PAGE), metadata=doc("Maximum number of items.", 50))
    offset = QueryInteger(load_default=0, validate=in_range(0, 2**31), metadata=doc("Number of items to skip.", 0))
    after = UUIDString(
        load_default=None,
        metadata=doc("ID of the item before the first one, as in `next_after`; instead of `offset`.", TRACK),
    )


class ReceiptQuery(RequestSchema):
    """A page of a receipt."""

    limit = QueryInteger(
        load_default=MAX_PAGE, validate=in_range(1, MAX_BATCH), metadata=doc("Maximum number of tracks.", MAX_PAGE)
    )
    after = UUIDString(load_default=None, metadata=doc("ID of the track before the first, as in `next_after`.", TRACK))


class TrackListQuery(Pagination):
    """A window of a collection's tracks, filtered by status and by facts about the files."""

    status = Choice(TRACK_STATUSES, load_default=None, metadata=doc("Only tracks with this status.", "uploaded"))
    container = SingleLineString(
        load_default=None, validate=validate.Length(1, 32), metadata=doc("Only files in this container.", "wav")
    )
    codec = SingleLineString(
        load_default=None, validate=validate.Length(1, 32), metadata=doc("Only files with this codec.", "pcm")
    )
    order = Choice(
        TRACK_ORDERS,
        load_default="registration",
        metadata=doc(
            "`registration`, `duration` or `-duration`, the longest first. Tracks without a duration come last.",
            "registration",
        ),
    )


# --- Objects in responses --------------------------------------------------------------------------------------------


class CoverSchema(ResponseSchema):
    """A cover image that has been verified."""

    path = fields.String(metadata=doc("Object key of the cover in the bucket.", COVER_PATH))
    status = fields.String(metadata=doc("`verifying`, `uploaded`, `failed` or `expired`.", "uploaded"))
    failure = fields.String(allow_none=True, metadata=doc("The reason, if `status` is `failed`.", None))
    failure_code = fields.String(allow_none=True, metadata=doc("A stable code of the reason.", None))
    content_type = fields.String(allow_none=True, metadata=doc("Media type detected in the image.", "image/jpeg"))
    size = fields.Integer(allow_none=True, metadata=doc("Size in bytes.", 250_000))
    etag = fields.String(
        allow_none=True, metadata=doc("ETag reported by the store.", "9e107d9d372bb6826bd81d3542a419d6")
    )
    width = fields.Integer(allow_none=True, metadata=doc("Width in pixels.", 1400))
    height = fields.Integer(allow_none=True, metadata=doc("Height in pixels.", 1400))
    embedded = fields.Boolean(metadata=doc("True if the cover is the picture that was in the audio file.", False))


class TrackSchema(ResponseSchema):
    """A track: the declaration made when it was registered, and the result of its verification."""

    id = UUIDString(metadata=doc("The track's ID.", TRACK))
    upload_session_id = UUIDString(attribute="session_id", metadata=doc("ID of the upload session.", SESSION))
    collection_id = UUIDString(metadata=doc("ID of the collection.", COLLECTION))
    creator_id = UUIDString(allow_none=True, metadata=doc("ID of the creator.", None))
    index = fields.String(metadata=doc("The track's ID in 22 URL-safe characters, as part of `path`.", INDEX))
    path = fields.String(metadata=doc("Object key of the file in the bucket.", PATH))
    cover_path = fields.String(metadata=doc("Object key of the cover in the bucket.", COVER_PATH))
    status = fields.String(
        metadata=doc(
            "`initialized`, `verifying` (ask again after Retry-After seconds), `uploaded`, `failed` (see `failure`),"
            " `expired` or `cancelled`.",
            "uploaded",
        )
    )
    failure = fields.String(allow_none=True, metadata=doc("The reason, if `status` is `failed`.", None))
    failure_code = fields.String(allow_none=True, metadata=doc("A stable code of the reason.", None))
    file_name = fields.String(metadata=doc("Original filename of the track.", "track-1.mp3"))
    organization_index = fields.String(
        allow_none=True, metadata=doc("The organization's own reference.", "summer-2024")
    )
    metadata = fields.Dict(metadata=doc("Additional metadata from the request.", METADATA))
    file_size = fields.Integer(allow_none=True, metadata=doc("Declared size in bytes.", 4_000_000))
    content_type = fields.String(allow_none=True, metadata=doc("Declared media type.", "audio/mpeg"))
    checksum_sha256 = fields.String(allow_none=True, metadata=doc("Declared SHA-256 digest in base64.", None))
    checksum_crc64nvme = fields.String(allow_none=True, metadata=doc("Declared CRC-64/NVME in base64.", None))
    checksum_crc32c = fields.String(allow_none=True, metadata=doc("Declared CRC-32C in base64.", None))
    resume_key = fields.String(allow_none=True, metadata=doc("The client's own mark of the file.", RESUME_KEY))
    size = fields.Integer(allow_none=True, metadata=doc("Size in bytes of the stored object.", 4_000_000))
    etag = fields.String(
        allow_none=True, metadata=doc("ETag reported by the store.", "5d41402abc4b2a76b9719d911017c592")
    )
    version_id = fields.String(
        allow_none=True, metadata=doc("Version of the stored object, in a bucket with versioning.", None)
    )
    detected_type = fields.String(allow_none=True, metadata=doc("Media type detected in the content.", "audio/mpeg"))
    audio = fields.Nested(
        AudioSchema, allow_none=True, metadata=doc("Facts about the file, or null if it is not known to be audio.")
    )
    integrity = fields.String(
        allow_none=True,
        metadata=doc(
            "By what the file was proven to be the declared one: `sha256`, `crc64nvme`, `crc32c`, or `size` where no"
            " checksum was declared. null until it is `uploaded`.",
            "size",
        ),
    )
    verified_at = Timestamp(allow_none=True, metadata=doc("The time of the last verification.", "2030-01-31T11:00:00Z"))
    cover = fields.Nested(
        CoverSchema, allow_none=True, metadata=doc("The verified cover, or null if there is none yet.")
    )


class UploadSchema(ResponseSchema):
    """A presigned request that uploads a file."""

    method = fields.String(metadata=doc("HTTP method.", "PUT"))
    upload_url = fields.String(metadata=doc("The presigned URL.", SIGNED_URL))
    ttl = fields.Integer(metadata=doc("Seconds until the URL expires.", 3600))
    expires_at = fields.String(metadata=doc("The time at which the URL expires.", EXPIRY, format="date-time"))
    headers = StringMap(metadata=doc("Headers to send exactly as given.", {"Content-Type": "audio/mpeg"}))


class CoverUploadSchema(UploadSchema):
    """A POST of a cover as multipart/form-data, to this service or to the store, or a PUT of its bytes to the store.

    Anything but a form with `file` alone is only for clients that ask for it with `cover_fields`.
    """

    method = fields.String(metadata=doc("HTTP method: POST of a form, or PUT.", "POST"))
    upload_url = fields.String(metadata=doc("The URL to send the cover to.", BUCKET))
    headers = StringMap(metadata=doc("Headers to send exactly as given.", {}))
    fields_ = StringMap(
        data_key="fields",
        metadata=doc(
            "Form fields to send before the part `file`; none for a PUT and for a form that this service receives.",
            {"key": COVER_PATH, "policy": "...", "x-amz-signature": "..."},
        ),
    )


class PartSchema(ResponseSchema):
    """A presigned request that uploads one part."""

    part_number = fields.Integer(metadata=doc("Number of the part, from 1.", 1))
    upload_url = fields.String(
        metadata=doc("The presigned URL for a PUT of the part.", f"{SIGNED_URL}&partNumber=1&uploadId=...")
    )
    size = fields.Integer(metadata=doc("Exact size of the part in bytes.", 4_000_000))
    headers = StringMap(metadata=doc("Headers to send exactly as given.", {"Content-Length": "4000000"}))


class MultipartUploadSchema(ResponseSchema):
    """A multipart upload with the URLs of its first parts."""

    method = fields.String(metadata=doc("HTTP method for each part.", "PUT"))
    part_size = fields.Integer(metadata=doc("Size in bytes of each part but the last.", 16_777_216))
    part_count = fields.Integer(metadata=doc("Number of parts.", 1))
    ttl = fields.Integer(metadata=doc("Seconds until the URLs expire.", 3600))
    expires_at = fields.String(metadata=doc("The time at which the URLs expire.", EXPIRY, format="date-time"))
    parts = fields.List(
        fields.Nested(PartSchema), metadata=doc("The first parts; request URLs for the others when you need them.")
    )


class DownloadSchema(ResponseSchema):
    """A presigned request that downloads a file."""

    method = fields.String(metadata=doc("HTTP method.", "GET"))
    download_url = fields.String(metadata=doc("The presigned URL.", SIGNED_URL))
    ttl = fields.Integer(metadata=doc("Seconds until the URL expires.", 300))
    expires_at = fields.String(metadata=doc("The time at which the URL expires.", EXPIRY, format="date-time"))
