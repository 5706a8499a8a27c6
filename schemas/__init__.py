"""Words in, words out: what requests may say and how answers are shaped. Nothing here asks a database."""

from .base import In, Out
from .strict_json import JSONError, read_json
from .tracks import CoverOut, CreateTrack, CreateTracks, Page, SignParts, TrackCreatedOut, TrackOut, UploadOut
from .upload_sessions import CreateUploadSession, UploadSessionCreatedOut, UploadSessionOut

__all__ = [
    "CoverOut",
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
    "read_json",
]
