"""Python client of Loadbay: opens upload sessions and uploads files, with urllib3 as its only dependency.

with Client("https://uploads.example.com", key).session(collection_id) as session:
    session.upload("track-1.wav", metadata={"title": "First Track"})
"""

from .batch import Outcome, RegisteredFile
from .client import Client, Session
from .errors import APIError, ClientError, ConnectionFailed, FileError, StoreError, UploadCancelled, VerificationFailed
from .files import File
from .payloads import Registration, Track

__version__ = "1.0.0"

__all__ = [
    "APIError",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "File",
    "FileError",
    "Outcome",
    "RegisteredFile",
    "Registration",
    "Session",
    "StoreError",
    "Track",
    "UploadCancelled",
    "VerificationFailed",
]
