"""Words in, words out: what requests may say and how answers are shaped. Nothing here asks a database."""

from . import errors
from .api_keys import ApiKeyCreatedOut, ApiKeyOut, CreateApiKey
from .base import RequestSchema, ResponseSchema
from .fields import canonical_uuid, idempotency_key, is_image_type
from .strict_json import JSONError, read_json
from .tracks import (
    CoverUploadOut,
    CreateTrack,
    CreateTracks,
    DownloadOut,
    Pagination,
    SignParts,
    TrackCreatedOut,
    TrackListQuery,
    TrackOut,
    UploadOut,
)
from .upload_sessions import (
    CreateUploadSession,
    CreateUploadSessionAsUploader,
    UploadSessionCreatedOut,
    UploadSessionListQuery,
    UploadSessionOut,
)

__all__ = [
    "ApiKeyCreatedOut",
    "ApiKeyOut",
    "CoverUploadOut",
    "CreateApiKey",
    "CreateTrack",
    "CreateTracks",
    "CreateUploadSession",
    "CreateUploadSessionAsUploader",
    "DownloadOut",
    "JSONError",
    "Pagination",
    "RequestSchema",
    "ResponseSchema",
    "SignParts",
    "TrackCreatedOut",
    "TrackListQuery",
    "TrackOut",
    "UploadOut",
    "UploadSessionCreatedOut",
    "UploadSessionListQuery",
    "UploadSessionOut",
    "canonical_uuid",
    "errors",
    "idempotency_key",
    "is_image_type",
    "read_json",
]
