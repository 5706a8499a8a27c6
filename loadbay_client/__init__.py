"""A client of Loadbay: opens upload sessions and sends files, on urllib3 alone.

with Client("https://uploads.example.com", key).session(collection_id) as session:
    session.upload("track-1.wav", metadata={"title": "First Track"})
"""

from .client import Client, Outcome, RegisteredFile, Session
from .errors import APIError, ClientError, ConnectionFailed, FileError, StoreError, UploadCancelled, VerificationFailed
from .files import File

__all__ = [
    "APIError",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "File",
    "FileError",
    "Outcome",
    "RegisteredFile",
    "Session",
    "StoreError",
    "UploadCancelled",
    "VerificationFailed",
]
