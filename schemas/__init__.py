"""Words in, words out: what requests may say and how answers are shaped. Nothing here asks a database."""

from .strict_json import JSONError, read_json
from .tracks import CreateTrack, TrackCreatedOut, TrackOut, UploadOut
from .upload_sessions import CreateUploadSession, UploadSessionCreatedOut, UploadSessionOut

__all__ = [
    "CreateTrack",
    "CreateUploadSession",
    "JSONError",
    "TrackCreatedOut",
    "TrackOut",
    "UploadOut",
    "UploadSessionCreatedOut",
    "UploadSessionOut",
    "read_json",
]
