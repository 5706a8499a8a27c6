"""Words in, words out: what requests may say and how answers are shaped. Nothing here asks a database."""

from . import faults
from .base import In, Out
from .fields import canonical_uuid, idempotency_key
from .strict_json import JSONError, read_json
from .tracks import CreateTrack, CreateTracks, Page, SignParts, TrackCreatedOut, TrackOut, UploadOut
from .upload_sessions import CreateUploadSession, UploadSessionCreatedOut, UploadSessionOut

__all__ = [
    "CreateTrack",
    "CreateTracks",
    "CreateUploadSession",
    "In",
    "JSONError",
    "Out",
    "Page",
    "SignParts",
    "TrackCreatedOut",
    "TrackOut",
    "UploadOut",
    "UploadSessionCreatedOut",
    "UploadSessionOut",
    "canonical_uuid",
    "faults",
    "idempotency_key",
    "read_json",
]
