"""Bytes on their way to the store: read piece by piece, counted, never kept."""

from __future__ import annotations

import hashlib
import threading
import uuid
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.filepost import encode_multipart_formdata

from .api import unreachable
from .errors import FileError, StoreError, UploadCancelled
from .files import media_type
from .retry import RETRYABLE_STATUSES, RetryableError, retry_after

CHUNK_BYTES = 256 * 1024

# While a body is sent, urllib3 takes the first of these for each piece's patience: on a slow line that several share,
# a piece takes its time.
TIMEOUT = urllib3.Timeout(connect=60, read=60)
BAD_REQUEST = 400

ProgressCallback = Callable[[int], None]
"""Told how many bytes more are on their way, or fewer, where they have to be sent again."""


def sha256_of(path: Path, stop: threading.Event) -> str:
    """The SHA-256 of a file in base64, as S3 wants it. Raises Stopped."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
            if stop.is_set():
                raise UploadCancelled("The upload was stopped.")
    return b64encode(digest.digest()).decode()


class FileSlice:
    """A stretch of an open file as a body to send: counts and digests what is read."""

    def __init__(self, file: BinaryIO, start: int, size: int, advance: ProgressCallback, stop: threading.Event):
        file.seek(start)
        self.file, self.left, self.advance, self.stop = file, size, advance, stop
        self.sent, self.md5 = 0, hashlib.md5(usedforsecurity=False)

    def read(self, size: int = -1) -> bytes:
        """The next bytes. Raises Stopped, and FileFault where the file cannot be read or has shrunk."""
        if self.stop.is_set():
            raise UploadCancelled("The upload was stopped.")
        try:
            piece = self.file.read(min(self.left, CHUNK_BYTES if size < 0 else max(size, CHUNK_BYTES)))
        except OSError as e:
            # As an OSError it would pass for one of the connection's.
            raise FileError(f"It cannot be read: {e.strerror}.") from e
        if self.left and not piece:
            raise FileError("It has become shorter while it was uploaded.")
        self.left -= len(piece)
        self.sent += len(piece)
        self.md5.update(piece)
        self.advance(len(piece))
        return piece

    def rewind_progress(self) -> None:
        """What was read did not arrive."""
        self.advance(-self.sent)
        self.sent = 0


class MultipartBody:
    """A form whose last part is a file, as a body to send: the file is read as it goes."""

    def __init__(self, fields: Mapping[str, str], path: Path, window: FileSlice, size: int):
        boundary = uuid.uuid4().hex
        kind = media_type(path) or "application/octet-stream"
        whole, self.content_type = encode_multipart_formdata(
            [*fields.items(), ("file", (f"cover{path.suffix.lower()}", b"", kind))], boundary
        )
        ending = f"\r\n--{boundary}--\r\n".encode()
        self.parts: list[bytes | FileSlice] = [whole.removesuffix(ending), window, ending]
        self.length = len(whole) + size

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        while self.parts:
            part = self.parts[0]
            if isinstance(part, bytes):
                return bytes(self.parts.pop(0))  # type: ignore[arg-type]
            if piece := part.read(size):
                return piece
            self.parts.pop(0)
        return b""


def send(
    pool: urllib3.PoolManager, method: str, url: str, headers: Mapping[str, str], body: FileSlice | MultipartBody
) -> urllib3.BaseHTTPResponse:
    """Send a body to a presigned URL.

    Raises FileFault, Stopped, StoreError, Unreachable, or Passing where a fresh URL or another time may help.
    """
    try:
        answer = pool.request(
            method, url, headers=headers, body=body, redirect=False, timeout=TIMEOUT,  # type: ignore[arg-type]
        )  # fmt: skip
    except (HTTPError, OSError) as e:
        # The library's message holds the URL.
        raise unreachable("The store", e) from None
    if answer.status < 300:
        return answer
    refused = StoreError(answer.status)
    # 403 is also the answer to a URL that is over, and 404 that of a store which is only just coming up. Whether the
    # track still takes bytes is the service's to say, when it is asked for a fresh URL.
    # 409 says that another try is not done yet, RequestTimeout that the line stood still:
    # https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    late = answer.status == BAD_REQUEST and b"<Code>RequestTimeout</Code>" in answer.data
    if late or answer.status in (*RETRYABLE_STATUSES, 403, 404, 409):
        raise RetryableError(refused, retry_after(answer))
    raise refused
