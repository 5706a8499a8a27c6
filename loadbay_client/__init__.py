"""A client of Loadbay: opens upload sessions and sends files, on urllib3 alone.

with Client("https://uploads.example.com", key).session(collection_id) as session:
    session.upload("track-1.wav", metadata={"title": "First Track"})
"""

from .client import Client, Outcome, Registered, Session
from .errors import ClientError, FileFault, Refused, Stopped, StoreError, Unreachable, UploadFailed
from .files import File

__all__ = [
    "Client",
    "ClientError",
    "File",
    "FileFault",
    "Outcome",
    "Refused",
    "Registered",
    "Session",
    "Stopped",
    "StoreError",
    "Unreachable",
    "UploadFailed",
]
