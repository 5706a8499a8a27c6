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

from .cors import with_rule
from .errors import StoreRefused, StoreUnavailable
from .presign import Credentials
from .settings import Settings
from .trace import TRACE

logger = logging.getLogger("loadbay.store")

# Together under two seconds: a caller learns soon that the store is away.
QUICK = urllib3.Timeout(connect=0.8, read=1.1)
# With a look at the object before it, less than the time that gunicorn gives a request (gunicorn.conf.py).
PATIENT = urllib3.Timeout(connect=0.8, read=50)
CHANGED = ("PreconditionFailed",)
NO_UPLOAD = ("NoSuchUpload", "NoSuchKey")
MISSING = ("NoSuchKey", "NoSuchObject", "ResourceNotFound")
EMPTY = "InvalidRange"


class Object(NamedTuple):
    """What the store says of an object: `size` in bytes, `etag` without quotes."""

    key: str
    size: int
    etag: str
    version_id: str | None
    content_type: str | None
    checksum_sha256: str | None
    last_modified: datetime | None


def _provider(settings: Settings) -> Provider:
    """Credentials from the settings, else from the machine (environment, AWS's files, the instance's role)."""
    if settings.aws_access_key_id:
        token = settings.aws_session_token or None
        return StaticProvider(settings.aws_access_key_id, settings.aws_secret_access_key, token)
    return ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), IamAwsProvider()])


class Tracing(urllib3.PoolManager):
    """Tells the store which trace a request is part of. The signature need not cover that, and does not."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        """As PoolManager's."""
        if trace := TRACE.get():
            kw["headers"] = {**(kw.get("headers") or {}), **trace.headers()}
        return super().urlopen(method, url, redirect, **kw)


Watch = Callable[[str, str, float], None]
"""Is told of each call: its name, its outcome (`ok`, `refused`, `away`) and how many seconds it took."""


class Bucket:
    """One bucket. Every method raises StoreUnavailable or StoreRefused beside what it says itself."""

    def __init__(self, settings: Settings, watch: Watch = lambda call, outcome, seconds: None):
        self.name, self._watch = settings.s3_bucket, watch
        self._provider = _provider(settings)
        self._static: Credentials | None = None
        if settings.aws_access_key_id:
            token = settings.aws_session_token or None
            self._static = (settings.aws_access_key_id, settings.aws_secret_access_key, token)
        self._quick = self._client(settings, QUICK)
        self._patient = self._client(settings, PATIENT)

    def _client(self, settings: Settings, timeout: urllib3.Timeout) -> Minio:
        endpoint = urlsplit(settings.s3_endpoint)
        client = Minio(
            endpoint.netloc,
            secure=endpoint.scheme == "https",
            region=settings.s3_region,
            credentials=self._provider,
            # Without retries: a store that is away is the caller's to hear of, not to wait for.
            http_client=Tracing(timeout=timeout, maxsize=16, retries=False),
        )
        if settings.s3_addressing == "virtual":
            client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        else:
            client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        return client

    @contextmanager
    def _asked(self, call: str) -> Iterator[None]:
        """`_translated`, and whoever watches is told of it."""
        began, outcome = perf_counter(), "ok"
        try:
            with _translated(call):
                yield
        except StoreRefused:
            outcome = "refused"
            raise
        except StoreUnavailable:
            outcome = "away"
            raise
        finally:
            self._watch(call, outcome, perf_counter() - began)

    def credentials(self) -> Credentials:
        """What requests are signed with. No network call, but for a role whose credentials have run out."""
        if self._static is not None:
            return self._static
        with _translated("credentials"):
            found = self._provider.retrieve()
        return found.access_key, found.secret_key, found.session_token

    def ensure(self) -> bool:
        """Create the bucket where it is missing; True when it was."""
        with self._asked("create bucket"):
            if self._quick.bucket_exists(self.name):
                return False
            self._quick.make_bucket(self.name)
            return True

    def exists(self) -> bool:
        """Whether the bucket is there."""
        with self._asked("look for bucket"):
            return self._quick.bucket_exists(self.name)

    def set_cors(self, origins: Sequence[str]) -> None:
        """Add a CORS rule that lets pages of `origins` upload; other rules stay."""
        with self._asked("set CORS"):
            try:
                present = self._quick._execute("GET", self.name, query_params={"cors": ""}).data
            except S3Error as e:
                if e.code != "NoSuchCORSConfiguration":
                    raise
                present = None
            body = with_rule(present, origins)
            # S3 asks for this digest here: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketCors.html
            digest = b64encode(md5(body, usedforsecurity=False).digest()).decode()
            self._quick._execute(
                "PUT", self.name, body=body, headers={"Content-MD5": digest}, query_params={"cors": ""}
            )

    def put(self, key: str, stream: BinaryIO, size: int, content_type: str) -> None:
        """Write `size` bytes (one PUT, at most 5 GiB) to `key`."""
        # Writing may take long; that the store is away is to be known soon.
        self.head(key)
        with self._asked("put"):
            # One part: the store writes all of it or nothing.
            self._patient.put_object(self.name, key, stream, size, content_type, part_size=max(size, 5 * 2**20))

    def head(self, key: str) -> Object | None:
        """What the store says of the object, or None where there is none."""
        with self._asked("head"):
            try:
                found = self._quick.stat_object(self.name, key, extra_headers={"x-amz-checksum-mode": "ENABLED"})
                return _object(key, found.metadata or {})
            except S3Error as e:
                if e.code in MISSING:
                    return None
                raise

    def look(self, key: str, count: int) -> tuple[Object, bytes] | None:
        """What the store says of the object, its checksum aside, and its first `count` bytes; None where there is none.

        Both are of one answer, and so of one object. With a range, S3 tells no checksum of the whole.
        """
        with self._asked("look"):
            try:
                answer = self._quick.get_object(self.name, key, 0, count)
            except S3Error as e:
                if e.code in MISSING:
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
        with self._asked("copy"):
            try:
                self._patient.copy_object(self.name, target, CopySource(self.name, source, match_etag=etag))
            except S3Error as e:
                if e.code in (*MISSING, *CHANGED):
                    return False
                raise
        return True

    def remove(self, key: str) -> None:
        """Remove the object; harmless where there is none."""
        with self._asked("remove"):
            self._quick.remove_object(self.name, key)

    def objects(self, prefix: str) -> Iterator[Object]:
        """All objects below `prefix`, in the order of their keys."""
        with _translated("list"):
            for item in self._patient.list_objects(self.name, prefix, recursive=True):
                yield Object(
                    item.object_name or "", item.size or 0, item.etag or "", None, None, None, item.last_modified
                )

    # minio-py keeps S3's multipart calls to itself, under a leading underscore; they have been stable for years.

    def begin_multipart(self, key: str, content_type: str | None) -> str:
        """Begin a multipart upload and return its id."""
        with self._asked("begin multipart"):
            return self._quick._create_multipart_upload(
                self.name, key, {"Content-Type": content_type or "application/octet-stream"}
            )

    def parts(self, key: str, upload_id: str) -> list[Part] | None:
        """The parts that the store has, in order, or None where it does not know the upload (any more)."""
        found: list[Part] = []
        marker: str | None = None
        with self._asked("list parts"):
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

    def complete_multipart(self, key: str, upload_id: str, parts: list[Part]) -> bool:
        """Make one object of the parts; False where the store does not know the upload (any more)."""
        with self._asked("complete multipart"):
            try:
                self._patient._complete_multipart_upload(self.name, key, upload_id, parts)
            except S3Error as e:
                if e.code in NO_UPLOAD:
                    return False
                raise
        return True

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Drop the upload and its parts; harmless where there is none."""
        with self._asked("abort multipart"):
            try:
                self._quick._abort_multipart_upload(self.name, key, upload_id)
            except S3Error as e:
                if e.code not in NO_UPLOAD:
                    raise

    def multiparts(self, prefix: str) -> Iterator[tuple[str, str, datetime | None]]:
        """Key, upload id and beginning of every unfinished multipart upload below `prefix`."""
        key_marker: str | None = None
        upload_marker: str | None = None
        with _translated("list multipart uploads"):
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
def _translated(call: str) -> Iterator[None]:
    """Turn the libraries' errors into ours, and log what the store said without what we sent."""
    try:
        yield
    except S3Error as e:
        logger.error("The store refused '%s': %s", call, e.code)
        raise StoreRefused from e
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as e:
        logger.error("The store is away for '%s': %s", call, type(e).__name__)
        raise StoreUnavailable from e
    except ValueError as e:
        # minio's providers say so when they find no credentials anywhere.
        logger.error("The store cannot be asked for '%s': %s", call, type(e).__name__)
        raise StoreRefused from e


def _object(key: str, headers: Mapping[str, str]) -> Object:
    """What the headers of an answer say of an object (RFC 9110, 14.4 for the size of one that came in part)."""
    whole = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "0")
    changed = headers.get("Last-Modified")
    return Object(
        key,
        int(whole),
        headers.get("ETag", "").strip('"'),
        headers.get("x-amz-version-id"),
        headers.get("Content-Type"),
        headers.get("x-amz-checksum-sha256"),
        parsedate_to_datetime(changed) if changed else None,
    )
