"""Words in, words out: what requests may say and how answers are shaped. Nothing here asks a database."""

from . import faults
from .api_keys import ApiKeyCreatedOut, ApiKeyOut, CreateApiKey
from .base import In, Out
from .fields import canonical_uuid, idempotency_key, is_image_type
from .strict_json import JSONError, read_json
from .tracks import (
    CoverUploadOut,
    CreateTrack,
    CreateTracks,
    DownloadOut,
    Page,
    SignParts,
    TrackCreatedOut,
    TrackOut,
    TrackPage,
    UploadOut,
)
from .upload_sessions import (
    CreateOwnUploadSession,
    CreateUploadSession,
    UploadSessionCreatedOut,
    UploadSessionOut,
    UploadSessionPage,
)

__all__ = [
    "ApiKeyCreatedOut",
    "ApiKeyOut",
    "CoverUploadOut",
    "CreateApiKey",
    "CreateOwnUploadSession",
    "CreateTrack",
    "CreateTracks",
    "CreateUploadSession",
    "DownloadOut",
    "In",
    "JSONError",
    "Out",
    "Page",
    "SignParts",
    "TrackCreatedOut",
    "TrackOut",
    "TrackPage",
    "UploadOut",
    "UploadSessionCreatedOut",
    "UploadSessionOut",
    "UploadSessionPage",
    "canonical_uuid",
    "faults",
    "idempotency_key",
    "is_image_type",
    "read_json",
]
