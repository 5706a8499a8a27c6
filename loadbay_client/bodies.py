"""Streaming request bodies for the object store, and the request that sends them."""

from __future__ import annotations

import hashlib
import threading
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.filepost import encode_multipart_formdata

from .api import connection_error
from .errors import FileError, StoreError, UploadCancelled, file_error
from .files import RULES, media_type
from .retry import RetryableError, parse_retry_after

CHUNK_BYTES = 256 * 1024
# While a body is sent, urllib3 applies the connect timeout to each write: a slow, shared line needs a long one.
TIMEOUT = urllib3.Timeout(connect=60, read=60)
BAD_REQUEST = 400

try:
    import anycrc  # type: ignore[import-untyped]
except ImportError:
    # The client needs urllib3 alone; without a CRC of the whole, the parts of a file still have an MD5 each.
    anycrc = None

ProgressCallback = Callable[[int], None]
"""Called with the number of bytes just sent; negative if bytes have to be sent again."""


def ignore_progress(_count: int) -> None:
    """Do nothing: the default ProgressCallback."""


def sha256_of(path: Path, stop: threading.Event) -> str:
    """Return the SHA-256 of a file in base64, the encoding of S3's checksum headers.

    Raises OSError, and UploadCancelled once `stop` is set.
    """
    digest = hashlib.sha256()
    for chunk in _read_chunks(path, stop):
        digest.update(chunk)
    return b64encode(digest.digest()).decode()


def crc64nvme_of(path: Path, stop: threading.Event) -> str | None:
    """Return the CRC-64/NVME of a file in base64: S3 can compare it for a multipart upload as a whole, unlike SHA-256.

    Returns None without anycrc. Raises as `sha256_of` does.
    """
    if anycrc is None:
        return None
    model, crc = anycrc.Model("CRC64-NVME"), 0
    for chunk in _read_chunks(path, stop):
        crc = model.calc(chunk, crc)
    return b64encode(crc.to_bytes(8, "big")).decode()


def _read_chunks(path: Path, stop: threading.Event) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
            if stop.is_set():
                raise UploadCancelled


class FileSlice:
    """`size` bytes of an open file from `start` as a request body, with progress and an MD5 of what was read."""

    def __init__(self, file: BinaryIO, start: int, size: int, on_progress: ProgressCallback, stop: threading.Event):
        file.seek(start)
        self.file, self.remaining, self.on_progress, self.stop = file, size, on_progress, stop
        self.sent, self.md5 = 0, hashlib.md5(usedforsecurity=False)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes.

        Raises UploadCancelled once `stop` is set, and FileError if the file cannot be read or was truncated.
        """
        if self.stop.is_set():
            raise UploadCancelled
        try:
            chunk = self.file.read(min(self.remaining, CHUNK_BYTES if size < 0 else max(size, CHUNK_BYTES)))
        except OSError as e:
            # An OSError would be taken for a connection error.
            raise file_error(e) from e
        if self.remaining and not chunk:
            raise FileError("The file was truncated during the upload.")
        self.remaining -= len(chunk)
        self.sent += len(chunk)
        self.md5.update(chunk)
        self.on_progress(len(chunk))
        return chunk

    def rewind_progress(self) -> None:
        """Report the bytes read so far as not sent."""
        self.on_progress(-self.sent)
        self.sent = 0


class MultipartBody:
    """A multipart/form-data request body whose last field is a file, streamed from `file_slice`.

    The file name is not sent to the object store, only its extension.
    """

    def __init__(self, fields: Mapping[str, str], path: Path, file_slice: FileSlice, size: int):
        boundary = uuid.uuid4().hex
        content_type = media_type(path) or "application/octet-stream"
        form, self.content_type = encode_multipart_formdata(
            [*fields.items(), ("file", (f"cover{path.suffix.lower()}", b"", content_type))], boundary
        )
        closing = f"\r\n--{boundary}--\r\n".encode()
        self.parts: list[bytes | FileSlice] = [form.removesuffix(closing), file_slice, closing]
        self.length = len(form) + size

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes. Raises as FileSlice.read does."""
        while self.parts:
            part = self.parts[0]
            if isinstance(part, bytes):
                self.parts.pop(0)
                return part
            if chunk := part.read(size):
                return chunk
            self.parts.pop(0)
        return b""


def send(
    pool: urllib3.PoolManager, method: str, url: str, headers: Mapping[str, str], body: FileSlice | MultipartBody
) -> urllib3.BaseHTTPResponse:
    """Send a body to a presigned URL and return the response.

    Raises FileError, UploadCancelled, StoreError and ConnectionFailed; RetryableError where a new URL or a later
    attempt may succeed.
    """
    try:
        response = pool.request(
            method, url, headers=headers, body=body, redirect=False, timeout=TIMEOUT,  # type: ignore[arg-type]
        )  # fmt: skip
    except (HTTPError, OSError) as e:
        # urllib3's message contains the URL.
        raise connection_error("The object store", e) from None
    if response.status < 300:
        return response
    error = StoreError(response.status)
    if _is_retryable(response):
        raise RetryableError(error, parse_retry_after(response))
    raise error


def _is_retryable(response: urllib3.BaseHTTPResponse) -> bool:
    """Return whether a new URL or a later attempt may succeed.

    403 is also the response to an expired URL, and 404 that of a store that is starting; the service refuses to renew
    the URL if the track no longer accepts uploads. 409 is a conflict with an earlier attempt that is still running,
    and RequestTimeout a stalled connection: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """
    if response.status == BAD_REQUEST:
        return b"<Code>RequestTimeout</Code>" in response.data
    return response.status in RULES["retry"]["storage"]
