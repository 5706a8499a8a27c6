"""Every call to the store. Nothing else talks to it, and no error of minio's or urllib3's leaves here."""

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

# Together under two seconds: a caller learns soon that the store is away.
SHORT_TIMEOUT = urllib3.Timeout(connect=0.8, read=1.1)
# With a look at the object before it, less than the time that gunicorn gives a request (gunicorn.conf.py).
LONG_TIMEOUT = urllib3.Timeout(connect=0.8, read=50)
PRECONDITION_FAILED_CODES = ("PreconditionFailed",)
NO_UPLOAD = ("NoSuchUpload", "NoSuchKey")
NOT_FOUND_CODES = ("NoSuchKey", "NoSuchObject", "ResourceNotFound")
EMPTY = "InvalidRange"


class ObjectInfo(NamedTuple):
    """What the store says of an object: `size` in bytes, `etag` without quotes."""

    key: str
    size: int
    etag: str
    version_id: str | None
    content_type: str | None
    checksum_sha256: str | None
    last_modified: datetime | None


def _credentials_provider(settings: Settings) -> Provider:
    """Credentials from the settings, else from the machine (environment, AWS's files, the instance's role)."""
    if settings.aws_access_key_id:
        token = settings.aws_session_token or None
        return StaticProvider(settings.aws_access_key_id, settings.aws_secret_access_key, token)
    return ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), IamAwsProvider()])


class TracingPoolManager(urllib3.PoolManager):
    """Tells the store which trace a request is part of. The signature need not cover that, and does not."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        """As PoolManager's."""
        if trace := current_trace.get():
            kw["headers"] = {**(kw.get("headers") or {}), **trace.headers()}
        return super().urlopen(method, url, redirect, **kw)


CallObserver = Callable[[str, str, float], None]
"""Is told of each call: its name, its outcome (`ok`, `refused`, `away`) and how many seconds it took."""


class Bucket:
    """One bucket. Every method raises StoreUnavailable or StoreRefused beside what it says itself."""

    def __init__(self, settings: Settings, watch: CallObserver = lambda call, outcome, seconds: None):
        self.name, self._watch = settings.s3_bucket, watch
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
            # Without retries: a store that is away is the caller's to hear of, not to wait for.
            http_client=TracingPoolManager(timeout=timeout, maxsize=16, retries=False),
        )
        if settings.s3_addressing == "virtual":
            client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        else:
            client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        return client

    @contextmanager
    def _observed_call(self, call: str) -> Iterator[None]:
        """`_translated`, and whoever watches is told of it."""
        began, outcome = perf_counter(), "ok"
        try:
            with _translate_errors(call):
                yield
        except StorageRejected:
            outcome = "refused"
            raise
        except StorageUnavailable:
            outcome = "unavailable"
            raise
        finally:
            self._watch(call, outcome, perf_counter() - began)

    def credentials(self) -> Credentials:
        """What requests are signed with. No network call, but for a role whose credentials have run out."""
        if self._static is not None:
            return self._static
        with _translate_errors("credentials"):
            found = self._provider.retrieve()
        return found.access_key, found.secret_key, found.session_token

    def create_if_missing(self) -> bool:
        """Create the bucket where it is missing; True when it was."""
        with self._observed_call("create bucket"):
            if self._quick.bucket_exists(self.name):
                return False
            self._quick.make_bucket(self.name)
            return True

    def exists(self) -> bool:
        """Whether the bucket is there."""
        with self._observed_call("look for bucket"):
            return self._quick.bucket_exists(self.name)

    def set_cors(self, origins: Sequence[str]) -> None:
        """Add a CORS rule that lets pages of `origins` upload; other rules stay."""
        with self._observed_call("set CORS"):
            try:
                present = self._quick._execute("GET", self.name, query_params={"cors": ""}).data
            except S3Error as e:
                if e.code != "NoSuchCORSConfiguration":
                    raise
                present = None
            body = add_rule(present, origins)
            # S3 asks for this digest here: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketCors.html
            digest = b64encode(md5(body, usedforsecurity=False).digest()).decode()
            self._quick._execute(
                "PUT", self.name, body=body, headers={"Content-MD5": digest}, query_params={"cors": ""}
            )

    def put(self, key: str, stream: BinaryIO, size: int, content_type: str) -> None:
        """Write `size` bytes (one PUT, at most 5 GiB) to `key`."""
        # Writing may take long; that the store is away is to be known soon.
        self.head(key)
        with self._observed_call("put"):
            # One part: the store writes all of it or nothing.
            self._patient.put_object(self.name, key, stream, size, content_type, part_size=max(size, 5 * 2**20))

    def head(self, key: str) -> ObjectInfo | None:
        """What the store says of the object, or None where there is none."""
        with self._observed_call("head"):
            try:
                found = self._quick.stat_object(self.name, key, extra_headers={"x-amz-checksum-mode": "ENABLED"})
                return _object(key, found.metadata or {})
            except S3Error as e:
                if e.code in NOT_FOUND_CODES:
                    return None
                raise

    def stat_and_read(self, key: str, count: int) -> tuple[ObjectInfo, bytes] | None:
        """What the store says of the object, its checksum aside, and its first `count` bytes; None where there is none.

        Both are of one answer, and so of one object. With a range, S3 tells no checksum of the whole.
        """
        with self._observed_call("look"):
            try:
                answer = self._quick.get_object(self.name, key, 0, count)
            except S3Error as e:
                if e.code in NOT_FOUND_CODES:
                    return None
                if e.code != EMPTY:
                    raise
            else:
                try:
                    first = bytes(answer.read(count))
                finally:
                    # A store that knows no ranges sends all of it: what is left is not waited for.
                    answer.close()
                    answer.release_conn()
                return _object(key, answer.headers), first
        # Of nothing there is no range.
        found = self.head(key)
        return None if found is None else (found, b"")

    def copy(self, source: str, target: str, etag: str) -> bool:
        """Copy within the bucket, at the store; False where the source is gone or no longer has this ETag."""
        with self._observed_call("copy"):
            try:
                self._patient.copy_object(self.name, target, CopySource(self.name, source, match_etag=etag))
            except S3Error as e:
                if e.code in (*NOT_FOUND_CODES, *PRECONDITION_FAILED_CODES):
                    return False
                raise
        return True

    def remove(self, key: str) -> None:
        """Remove the object; harmless where there is none."""
        with self._observed_call("remove"):
            self._quick.remove_object(self.name, key)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects below `prefix`, in the order of their keys."""
        with _translate_errors("list"):
            for item in self._patient.list_objects(self.name, prefix, recursive=True):
                yield ObjectInfo(
                    item.object_name or "", item.size or 0, item.etag or "", None, None, None, item.last_modified
                )

    # minio-py keeps S3's multipart calls to itself, under a leading underscore; they have been stable for years.

    def create_multipart_upload(self, key: str, content_type: str | None) -> str:
        """Begin a multipart upload and return its id."""
        with self._observed_call("begin multipart"):
            return self._quick._create_multipart_upload(
                self.name, key, {"Content-Type": content_type or "application/octet-stream"}
            )

    def list_parts(self, key: str, upload_id: str) -> list[Part] | None:
        """The parts that the store has, in order, or None where it does not know the upload (any more)."""
        found: list[Part] = []
        marker: str | None = None
        with self._observed_call("list parts"):
            try:
                while True:
                    page = self._quick._list_parts(self.name, key, upload_id, part_number_marker=marker)
                    found += page.parts
                    if not page.is_truncated or not page.parts:
                        return found
                    marker = str(page.parts[-1].part_number)
            except S3Error as e:
                if e.code in NO_UPLOAD:
                    return None
                raise

    def complete_multipart_upload(self, key: str, upload_id: str, parts: list[Part]) -> bool:
        """Make one object of the parts; False where the store does not know the upload (any more)."""
        with self._observed_call("complete multipart"):
            try:
                self._patient._complete_multipart_upload(self.name, key, upload_id, parts)
            except S3Error as e:
                if e.code in NO_UPLOAD:
                    return False
                raise
        return True

    def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        """Drop the upload and its parts; harmless where there is none."""
        with self._observed_call("abort multipart"):
            try:
                self._quick._abort_multipart_upload(self.name, key, upload_id)
            except S3Error as e:
                if e.code not in NO_UPLOAD:
                    raise

    def list_multipart_uploads(self, prefix: str) -> Iterator[tuple[str, str, datetime | None]]:
        """Key, upload id and beginning of every unfinished multipart upload below `prefix`."""
        key_marker: str | None = None
        upload_marker: str | None = None
        with _translate_errors("list multipart uploads"):
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
def _translate_errors(call: str) -> Iterator[None]:
    """Turn the libraries' errors into ours, and log what the store said without what we sent."""
    try:
        yield
    except S3Error as e:
        logger.error("The store refused '%s': %s", call, e.code)
        raise StorageRejected from e
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as e:
        logger.error("The store is away for '%s': %s", call, type(e).__name__)
        raise StorageUnavailable from e
    except ValueError as e:
        # minio's providers say so when they find no credentials anywhere.
        logger.error("The store cannot be asked for '%s': %s", call, type(e).__name__)
        raise StorageRejected from e


def _object(key: str, headers: Mapping[str, str]) -> ObjectInfo:
    """What the headers of an answer say of an object (RFC 9110, 14.4 for the size of one that came in part)."""
    whole = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "0")
    changed = headers.get("Last-Modified")
    return ObjectInfo(
        key,
        int(whole),
        headers.get("ETag", "").strip('"'),
        headers.get("x-amz-version-id"),
        headers.get("Content-Type"),
        headers.get("x-amz-checksum-sha256"),
        parsedate_to_datetime(changed) if changed else None,
    )
