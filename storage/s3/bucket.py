"""All requests to the store, through minio; its errors and urllib3's are translated into the service's own.

Permissions that the key needs on the bucket are listed in SECURITY.md.
"""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from hashlib import md5
from time import perf_counter
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.credentials.providers import (
    AWSConfigProvider,
    ChainedProvider,
    EnvAWSProvider,
    IamAwsProvider,
    Provider,
    StaticProvider,
)
from minio.datatypes import Part
from minio.error import MinioException, S3Error

from storage.errors import StorageRejected, StorageUnavailable
from storage.s3.cors import add_rule
from storage.s3.presign import Credentials
from storage.settings import Settings
from storage.trace_context import current_trace

logger = logging.getLogger("loadbay.store")

# Under two seconds in all: a request fails soon if the store is unreachable.
SHORT_TIMEOUT = urllib3.Timeout(connect=0.8, read=1.1)
# With a HeadObject before it, less than gunicorn's `timeout` (gunicorn.conf.py).
LONG_TIMEOUT = urllib3.Timeout(connect=0.8, read=50)
PRECONDITION_FAILED_CODES = ("PreconditionFailed",)
NO_UPLOAD = ("NoSuchUpload", "NoSuchKey")
NOT_FOUND_CODES = ("NoSuchKey", "NoSuchObject", "ResourceNotFound")
EMPTY_OBJECT_CODE = "InvalidRange"


class ObjectInfo(NamedTuple):
    """An object's metadata in the store: `size` in bytes, `etag` without quotes."""

    key: str
    size: int
    etag: str
    version_id: str | None
    content_type: str | None
    checksum_sha256: str | None
    last_modified: datetime | None


def _credentials_provider(settings: Settings) -> Provider:
    """Return the credentials of the settings, or AWS's chain: environment, config files, the instance's role."""
    if settings.aws_access_key_id:
        token = settings.aws_session_token or None
        return StaticProvider(settings.aws_access_key_id, settings.aws_secret_access_key, token)
    return ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), IamAwsProvider()])


class TracingPoolManager(urllib3.PoolManager):
    """A pool that adds the trace headers of the current request. They are not part of the signature."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        """Send a request as PoolManager does, with the trace headers."""
        if trace := current_trace.get():
            kw["headers"] = {**(kw.get("headers") or {}), **trace.headers()}
        return super().urlopen(method, url, redirect, **kw)


CallObserver = Callable[[str, str, float], None]
"""Receives each call: S3's name of the operation, `ok`, `rejected` or `unavailable`, and the duration in seconds."""


class Bucket:
    """One bucket. Every method raises StorageUnavailable or StorageRejected, besides what its docstring names."""

    def __init__(self, settings: Settings, observer: CallObserver | None = None):
        self.name, self._observer = settings.s3_bucket, observer
        self._provider = _credentials_provider(settings)
        self._static: Credentials | None = None
        if settings.aws_access_key_id:
            token = settings.aws_session_token or None
            self._static = (settings.aws_access_key_id, settings.aws_secret_access_key, token)
        self._quick = self._client(settings, SHORT_TIMEOUT)
        self._patient = self._client(settings, LONG_TIMEOUT)

    def _client(self, settings: Settings, timeout: urllib3.Timeout) -> Minio:
        endpoint = urlsplit(settings.s3_endpoint)
        client = Minio(
            endpoint.netloc,
            secure=endpoint.scheme == "https",
            region=settings.s3_region,
            credentials=self._provider,
            # Without retries: if the store is unreachable the caller is told, rather than kept waiting.
            http_client=TracingPoolManager(timeout=timeout, maxsize=16, retries=False),
        )
        if settings.s3_addressing == "virtual":
            client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        else:
            client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        return client

    @contextmanager
    def _observed_call(self, call: str) -> Iterator[None]:
        """Translate errors, and report outcome and duration to the observer."""
        started, outcome = perf_counter(), "ok"
        try:
            with _translate_errors(call):
                yield
        except StorageRejected:
            outcome = "rejected"
            raise
        except StorageUnavailable:
            outcome = "unavailable"
            raise
        finally:
            if self._observer is not None:
                self._observer(call, outcome, perf_counter() - started)

    def credentials(self) -> Credentials:
        """Return the credentials for signatures. A network call is made only to refresh those of an instance's role."""
        if self._static is not None:
            return self._static
        with _translate_errors("credential lookup"):
            credentials = self._provider.retrieve()
        return credentials.access_key, credentials.secret_key, credentials.session_token

    def create_if_missing(self) -> bool:
        """Create the bucket if it does not exist; return whether it was created."""
        if self.exists():
            return False
        with self._observed_call("CreateBucket"):
            self._quick.make_bucket(self.name)
        return True

    def exists(self) -> bool:
        """Return whether the bucket exists."""
        with self._observed_call("HeadBucket"):
            return self._quick.bucket_exists(self.name)

    def set_cors(self, origins: Sequence[str]) -> None:
        """Add a CORS rule that lets pages of `origins` upload; other rules stay."""
        body = add_rule(self._cors_rules(), origins)
        # This request requires the digest: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketCors.html
        digest = b64encode(md5(body, usedforsecurity=False).digest()).decode()
        with self._observed_call("PutBucketCors"):
            self._quick._execute(
                "PUT", self.name, body=body, headers={"Content-MD5": digest}, query_params={"cors": ""}
            )

    def _cors_rules(self) -> bytes | None:
        """Return the bucket's CORS rules as XML, or None if it has none."""
        with self._observed_call("GetBucketCors"):
            try:
                return self._quick._execute("GET", self.name, query_params={"cors": ""}).data
            except S3Error as e:
                if e.code != "NoSuchCORSConfiguration":
                    raise
        return None

    def put(self, key: str, stream: BinaryIO, size: int, content_type: str) -> None:
        """Write `size` bytes (at most 5 GiB, one request) to `key`."""
        # A write may take long; this fails soon if the store is unreachable.
        self.head(key)
        with self._observed_call("PutObject"):
            # As one part, so that the store writes everything or nothing.
            self._patient.put_object(self.name, key, stream, size, content_type, part_size=max(size, 5 * 2**20))

    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's metadata, or None if it does not exist."""
        with self._observed_call("HeadObject"):
            try:
                response = self._quick.stat_object(self.name, key, extra_headers={"x-amz-checksum-mode": "ENABLED"})
                return _object_info(key, response.metadata or {})
            except S3Error as e:
                if e.code in NOT_FOUND_CODES:
                    return None
                raise

    def stat_and_read(self, key: str, count: int) -> tuple[ObjectInfo, bytes] | None:
        """Return the object's metadata, without its checksum, and its first `count` bytes; None if it does not exist.

        Both come from one response, and so from one object. S3 sends no checksum of the whole with a range.
        """
        with self._observed_call("GetObject"):
            try:
                response = self._quick.get_object(self.name, key, 0, count)
            except S3Error as e:
                if e.code in NOT_FOUND_CODES:
                    return None
                if e.code != EMPTY_OBJECT_CODE:
                    raise
            else:
                try:
                    head = bytes(response.read(count))
                finally:
                    # A store that ignores ranges sends the whole object: do not wait for the rest.
                    response.close()
                    response.release_conn()
                return _object_info(key, response.headers), head
        # An empty object has no range.
        info = self.head(key)
        return None if info is None else (info, b"")

    def copy(self, source: str, target: str, etag: str) -> bool:
        """Copy an object within the store; return False if the source is gone or no longer has this ETag."""
        with self._observed_call("CopyObject"):
            try:
                self._patient.copy_object(self.name, target, CopySource(self.name, source, match_etag=etag))
            except S3Error as e:
                if e.code in (*NOT_FOUND_CODES, *PRECONDITION_FAILED_CODES):
                    return False
                raise
        return True

    def remove(self, key: str) -> None:
        """Delete the object. Idempotent."""
        with self._observed_call("DeleteObject"):
            self._quick.remove_object(self.name, key)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield all objects below `prefix`, in the order of their keys."""
        with _translate_errors("ListObjectsV2"):
            for item in self._patient.list_objects(self.name, prefix, recursive=True):
                yield ObjectInfo(
                    item.object_name or "", item.size or 0, item.etag or "", None, None, None, item.last_modified
                )

    # minio-py's multipart methods are private, with a leading underscore; they have been stable for years.

    def create_multipart_upload(self, key: str, content_type: str | None) -> str:
        """Create a multipart upload and return its id."""
        with self._observed_call("CreateMultipartUpload"):
            return self._quick._create_multipart_upload(
                self.name, key, {"Content-Type": content_type or "application/octet-stream"}
            )

    def list_parts(self, key: str, upload_id: str) -> list[Part] | None:
        """Return the uploaded parts in order, or None if the upload does not exist (any more)."""
        parts: list[Part] = []
        marker: str | None = None
        with self._observed_call("ListParts"):
            try:
                while True:
                    page = self._quick._list_parts(self.name, key, upload_id, part_number_marker=marker)
                    parts += page.parts
                    if not page.is_truncated or not page.parts:
                        return parts
                    marker = str(page.parts[-1].part_number)
            except S3Error as e:
                if e.code in NO_UPLOAD:
                    return None
                raise

    def complete_multipart_upload(self, key: str, upload_id: str, parts: list[Part]) -> bool:
        """Assemble the object from its parts; return False if the upload does not exist (any more)."""
        with self._observed_call("CompleteMultipartUpload"):
            try:
                self._patient._complete_multipart_upload(self.name, key, upload_id, parts)
            except S3Error as e:
                if e.code in NO_UPLOAD:
                    return False
                raise
        return True

    def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        """Abort the upload and delete its parts. Idempotent."""
        with self._observed_call("AbortMultipartUpload"):
            try:
                self._quick._abort_multipart_upload(self.name, key, upload_id)
            except S3Error as e:
                if e.code not in NO_UPLOAD:
                    raise

    def list_multipart_uploads(self, prefix: str) -> Iterator[tuple[str, str, datetime | None]]:
        """Yield key, upload id and start time of every unfinished multipart upload below `prefix`."""
        key_marker: str | None = None
        upload_marker: str | None = None
        with _translate_errors("ListMultipartUploads"):
            while True:
                page = self._quick._list_multipart_uploads(
                    self.name, prefix=prefix, key_marker=key_marker, upload_id_marker=upload_marker
                )
                for upload in page.uploads:
                    yield upload.object_name, upload.upload_id or "", upload.initiated_time
                if not page.is_truncated or not page.uploads:
                    return
                key_marker, upload_marker = page.next_key_marker, page.next_upload_id_marker


@contextmanager
def _translate_errors(operation: str) -> Iterator[None]:
    """Raise StorageUnavailable or StorageRejected for the libraries' errors, and log the store's error code.

    Nothing that was sent is logged. Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """
    try:
        yield
    except S3Error as e:
        logger.error("S3 %s failed: %s", operation, e.code)
        raise StorageRejected from e
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as e:
        logger.error("S3 %s failed: storage unreachable (%s)", operation, type(e).__name__)
        raise StorageUnavailable from e
    except ValueError as e:
        # minio's providers raise this if they find no credentials.
        logger.error("S3 %s failed: no credentials or an unusable response (%s)", operation, type(e).__name__)
        raise StorageRejected from e


def _object_info(key: str, headers: Mapping[str, str]) -> ObjectInfo:
    """Return an object's metadata from response headers. Content-Range has the size of one that is sent in part.

    https://www.rfc-editor.org/rfc/rfc9110#section-14.4
    """
    size = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "0")
    last_modified = headers.get("Last-Modified")
    return ObjectInfo(
        key,
        int(size),
        headers.get("ETag", "").strip('"'),
        headers.get("x-amz-version-id"),
        headers.get("Content-Type"),
        headers.get("x-amz-checksum-sha256"),
        parsedate_to_datetime(last_modified) if last_modified else None,
    )
