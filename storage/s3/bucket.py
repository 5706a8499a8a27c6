"""All requests to the store, through minio; its errors and urllib3's are translated into the service's own.

Permissions that the key needs on the bucket are listed in SECURITY.md.
"""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from hashlib import md5
from time import perf_counter
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

import urllib3
from minio import Minio
from minio.credentials.providers import (
    AWSConfigProvider,
    ChainedProvider,
    EnvAWSProvider,
    IamAwsProvider,
    Provider,
    StaticProvider,
)
from minio.datatypes import Part, parse_list_objects
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, S3Error

from storage.errors import StorageRejected, StorageUnavailable
from storage.formats.checksums import ALGORITHMS, Algorithm, Checksum
from storage.s3.cors import add_rule
from storage.s3.errors import ChecksumMismatch, ObjectChanged, StorageFault, retry_when_busy, translate_errors
from storage.s3.lifecycle import merge_rules
from storage.s3.presign import Credentials, Presigner
from storage.settings import Settings
from storage.trace_context import current_trace

# Under two seconds in all: a request fails soon if the store is unreachable.
SHORT_TIMEOUT = urllib3.Timeout(connect=0.8, read=1.1)
# With a HeadObject before it, less than gunicorn's `timeout` (gunicorn.conf.py).
LONG_TIMEOUT = urllib3.Timeout(connect=0.8, read=50)
PRECONDITION_FAILED_CODES = ("PreconditionFailed",)
NO_UPLOAD = ("NoSuchUpload", "NoSuchKey")
NOT_FOUND_CODES = ("NoSuchKey", "NoSuchObject", "ResourceNotFound")
EMPTY_OBJECT_CODE = "InvalidRange"
INVALID_PART_CODES = ("InvalidPart", "InvalidPartOrder", "EntityTooSmall")
CHECKSUM_MISMATCH_CODES = ("BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch")
NO_CHECKSUM_CODES = ("InvalidArgument", "InvalidRequest", "NotImplemented")
"""What stores answer that do not know the checksum of a whole multipart upload."""

FULL_OBJECT = "FULL_OBJECT"
NO_BATCH_DELETE_CODES = ("NotImplemented", "MethodNotAllowed")
MAX_KEYS = 1000
"""The most keys that one request lists or deletes."""

TRANSITION_SIZE = "x-amz-transition-default-minimum-object-size"
MIN_CLOCK_SKEW, MAX_CLOCK_SKEW = 2, 900
"""Seconds by which the store's clock must differ to be minded, and by which S3 would reject every signature."""

MAX_SIZE = 2**63 - 1
SENDER_HEADERS = (
    "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Expires",
    "x-amz-website-redirect-location",
)  # fmt: skip
"""Headers that the store keeps from a PUT and sends with the object, besides Content-Type and `x-amz-meta-`."""

_etag = re.compile(r"[!#-~]{1,255}")
_version_id = re.compile(r"[!-~]{1,1024}")


class WrittenObject(NamedTuple):
    """The object that a copy or a completed multipart upload has created; `etag` without quotes."""

    etag: str
    version_id: str | None


class ObjectInfo(NamedTuple):
    """An object's metadata in the store: `size` in bytes, `etag` without quotes.

    `checksums` are those of all its bytes that the store tells. `has_sender_headers` is True if it carries headers of
    its sender besides Content-Type.
    """

    key: str
    size: int
    etag: str
    version_id: str | None
    content_type: str | None
    checksums: Mapping[Algorithm, str]
    last_modified: datetime | None
    has_sender_headers: bool = False


def _credentials_provider(settings: Settings) -> Provider:
    """Return the credentials of the settings, or AWS's chain: environment, config files, the instance's role."""
    if settings.aws_access_key_id:
        token = settings.aws_session_token or None
        return StaticProvider(settings.aws_access_key_id, settings.aws_secret_access_key, token)
    return ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), IamAwsProvider()])


class StoreClock:
    """The store's clock, as its responses show it. A signature that is valid for seconds must be dated by that."""

    def __init__(self) -> None:
        self.skew = 0.0

    def observe(self, date: str | None) -> None:
        """Note the Date header of a response."""
        observed = _parse_date(date)
        if observed is not None:
            skew = observed.timestamp() - time.time()
            self.skew = skew if MIN_CLOCK_SKEW < abs(skew) < MAX_CLOCK_SKEW else 0.0

    def now(self) -> int:
        """Return the store's time, in seconds since the epoch."""
        return int(time.time() + self.skew)


class TracingPoolManager(urllib3.PoolManager):
    """A pool that adds the trace headers of the current request. They are not part of the signature."""

    def __init__(self, clock: StoreClock, **kwargs: Any):
        super().__init__(**kwargs)
        self.clock = clock

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        """Send a request as PoolManager does, with the trace headers."""
        # A stored Content-Encoding is only the sender's claim: what is verified are the bytes as they are stored.
        kw["decode_content"] = False
        if trace := current_trace.get():
            kw["headers"] = {**(kw.get("headers") or {}), **trace.headers()}
        response = super().urlopen(method, url, redirect, **kw)
        self.clock.observe(response.headers.get("Date"))
        return response


CallObserver = Callable[[str, str, float], None]
"""Receives each call: S3's name of the operation, `ok`, `rejected` or `unavailable`, and the duration in seconds."""


class Bucket:
    """One bucket. Every method raises StorageUnavailable or StorageRejected, besides what its docstring names."""

    def __init__(self, settings: Settings, observer: CallObserver | None = None):
        self.name, self._observer = settings.s3_bucket, observer
        self._tells_checksums = settings.checksum_headers
        self._provider = _credentials_provider(settings)
        self._static: Credentials | None = None
        if settings.aws_access_key_id:
            token = settings.aws_session_token or None
            self._static = (settings.aws_access_key_id, settings.aws_secret_access_key, token)
        self._clock = StoreClock()
        self._pools: list[TracingPoolManager] = []
        self._minio = self._client(settings, SHORT_TIMEOUT)
        self._bulk_minio = self._client(settings, LONG_TIMEOUT)
        self._http = self._pool()
        self._signer = Presigner(
            settings.s3_endpoint, self.name, self.credentials, settings.s3_region, settings.s3_addressing
        )

    def _pool(self, **options: Any) -> TracingPoolManager:
        self._pools.append(TracingPoolManager(self._clock, maxsize=16, retries=False, **options))
        return self._pools[-1]

    def _client(self, settings: Settings, timeout: urllib3.Timeout) -> Minio:
        endpoint = urlsplit(settings.s3_endpoint)
        client = Minio(
            endpoint.netloc,
            secure=endpoint.scheme == "https",
            region=settings.s3_region,
            credentials=self._provider,
            # Without retries: if the store is unreachable the caller is told, rather than kept waiting.
            http_client=self._pool(timeout=timeout),
        )
        if settings.s3_addressing == "virtual":
            client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        else:
            client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        return client

    def close(self) -> None:
        """Close the connections to the store that are kept for later requests."""
        for pool in self._pools:
            pool.clear()

    @contextmanager
    def _observed_call(self, call: str) -> Iterator[None]:
        """Translate errors, and report outcome and duration to the observer."""
        # Missing credentials are an error of their own, not one of the call.
        self.credentials()
        started, outcome = perf_counter(), "ok"
        try:
            with translate_errors(call):
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
        try:
            with translate_errors("credential lookup"):
                credentials = self._provider.retrieve()
        except StorageFault as e:
            raise StorageRejected from e
        return credentials.access_key, credentials.secret_key, credentials.session_token

    def create_if_missing(self) -> bool:
        """Create the bucket if it does not exist; return whether it was created."""
        if self.exists():
            return False
        with self._observed_call("CreateBucket"):
            self._minio.make_bucket(self.name)
        return True

    def exists(self) -> bool:
        """Return whether the bucket exists."""
        with self._observed_call("HeadBucket"):
            return self._minio.bucket_exists(self.name)

    def set_cors(self, origins: Sequence[str]) -> None:
        """Add a CORS rule that lets pages of `origins` upload; other rules stay."""
        body = add_rule(self._cors_rules(), origins)
        # This request requires the digest: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketCors.html
        digest = b64encode(md5(body, usedforsecurity=False).digest()).decode()
        with self._observed_call("PutBucketCors"):
            self._minio._execute(
                "PUT", self.name, body=body, headers={"Content-MD5": digest}, query_params={"cors": ""}
            )

    def _cors_rules(self) -> bytes | None:
        """Return the bucket's CORS rules as XML, or None if it has none."""
        with self._observed_call("GetBucketCors"):
            try:
                return self._minio._execute("GET", self.name, query_params={"cors": ""}).data
            except S3Error as e:
                if e.code != "NoSuchCORSConfiguration":
                    raise
        return None

    def lifecycle(self) -> bytes | None:
        """Return the bucket's lifecycle configuration as XML, or None if it has none."""
        response = self._lifecycle_response()
        return None if response is None else response.data

    def set_lifecycle_rules(self, rules: Sequence[dict[str, Any]]) -> None:
        """Add lifecycle rules, or replace those with the same ids; other rules stay."""
        present = self._lifecycle_response()
        body = merge_rules(None if present is None else present.data, rules)
        headers: dict[str, str | list[str] | tuple[str]] = {}
        headers["Content-MD5"] = b64encode(md5(body, usedforsecurity=False).digest()).decode()
        # S3 resets what this header says where it is absent (API_PutBucketLifecycleConfiguration.html).
        if present is not None and (size := present.headers.get(TRANSITION_SIZE)):
            headers[TRANSITION_SIZE] = size
        with self._observed_call("PutBucketLifecycleConfiguration"):
            self._minio._execute("PUT", self.name, body=body, headers=headers, query_params={"lifecycle": ""})

    def _lifecycle_response(self) -> urllib3.BaseHTTPResponse | None:
        with self._observed_call("GetBucketLifecycleConfiguration"):
            try:
                return self._minio._execute("GET", self.name, query_params={"lifecycle": ""})
            except S3Error as e:
                if e.code != "NoSuchLifecycleConfiguration":
                    raise
        return None

    def put(self, key: str, stream: BinaryIO, size: int, content_type: str) -> None:
        """Write `size` bytes (at most 5 GiB, one request) to `key`."""
        # A write may take long; this fails soon if the store is unreachable.
        self.head(key)
        with self._observed_call("PutObject"):
            # As one part, so that the store writes everything or nothing.
            self._bulk_minio.put_object(self.name, key, stream, size, content_type, part_size=max(size, 5 * 2**20))

    @retry_when_busy
    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's metadata, or None if it does not exist."""
        with self._observed_call("HeadObject"):
            headers: dict[str, str | list[str] | tuple[str]] | None = None
            if self._tells_checksums:
                headers = {"x-amz-checksum-mode": "ENABLED"}
            try:
                response = self._minio._execute("HEAD", self.name, key, headers=headers)
            except S3Error as e:
                if e.code in NOT_FOUND_CODES:
                    return None
                raise
            return _object_info(key, response.headers)

    @retry_when_busy
    def stat_and_read(self, key: str, count: int) -> tuple[ObjectInfo, bytes] | None:
        """Return the object's metadata, without its checksum, and its first `count` bytes; None if it does not exist.

        Both come from one response, and so from one object. S3 sends no checksum of the whole with a range.
        """
        with self._observed_call("GetObject"):
            try:
                response = self._minio._execute(
                    "GET", self.name, key, headers={"Range": f"bytes=0-{count - 1}"}, preload_content=False
                )
            except S3Error as e:
                if e.code in NOT_FOUND_CODES:
                    return None
                if e.code != EMPTY_OBJECT_CODE:
                    raise
            else:
                return _read_head(key, response, count)
        # An empty object has no range.
        info = self.head(key)
        if info is not None and info.size:
            raise StorageFault("The store sends no range of an object that is not empty.")
        return None if info is None else (info, b"")

    @retry_when_busy
    def read_range(self, key: str, etag: str, offset: int, length: int) -> bytes:
        """Return `length` bytes of the object from `offset`: a range within it, not at its start.

        Raises ObjectChanged where it does not exist any more, or no longer has this ETag.
        """
        headers: dict[str, str | list[str] | tuple[str]] = {
            "Range": f"bytes={offset}-{offset + length - 1}",
            "If-Match": f'"{etag}"',
        }
        with self._observed_call("GetObject"):
            try:
                response = self._minio._execute("GET", self.name, key, headers=headers, preload_content=False)
            except S3Error as e:
                if e.code in (*NOT_FOUND_CODES, *PRECONDITION_FAILED_CODES, EMPTY_OBJECT_CODE):
                    raise ObjectChanged from e
                raise
            return _read_range(response, etag, offset, length)

    @retry_when_busy
    def copy(
        self, source: str, target: str, etag: str, content_type: str, *, timeout: float = 50, expires_in: int = 60
    ) -> WrittenObject | None:
        """Copy an object within the store; return None if the source is gone or no longer has this ETag.

        The copy has this Content-Type, and nothing else of the source's metadata. `timeout` (seconds) ends the wait, by
        StorageTimeout, but not the copy. The store rejects a request that arrives after `expires_in` seconds, however
        long it was on its way. At most 5 GiB: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
        """
        headers = {
            "Content-Type": content_type,
            "x-amz-copy-source": f"/{self.name}/{quote(source)}",
            "x-amz-copy-source-if-match": f'"{etag}"',
            "x-amz-metadata-directive": "REPLACE",
        }
        with self._observed_call("CopyObject"):
            try:
                response = self._signed_request("PUT", target, headers, timeout=timeout, expires_in=expires_in)
            except S3Error as e:
                if e.code in (*NOT_FOUND_CODES, *PRECONDITION_FAILED_CODES):
                    return None
                raise
            return _written_object(response)

    def _signed_request(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        timeout: float,
        expires_in: int,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request whose signature is in its URL. Raises S3Error if the response is one, whatever its status."""
        url = self._signer.url(method, key, expires_in, self._clock.now(), headers, query)
        limits = urllib3.Timeout(connect=SHORT_TIMEOUT.connect_timeout, read=timeout)
        response = self._http.urlopen(method, url, body=body, headers=dict(headers), timeout=limits)
        try:
            root = _root(response)
        except ElementTree.ParseError as e:
            raise InvalidResponseError(response.status, response.headers.get("Content-Type"), None) from e
        # CopyObject and CompleteMultipartUpload may send status 200 with an error in the body.
        if response.status != 200 or root.tag.rpartition("}")[2] == "Error":
            raise S3Error.fromxml(response)
        return response

    @retry_when_busy
    def remove(self, key: str) -> None:
        """Delete the object. Idempotent."""
        with self._observed_call("DeleteObject"):
            self._minio.remove_object(self.name, key)

    def delete_objects(self, keys: Sequence[str]) -> dict[str, str]:
        """Delete at most MAX_KEYS objects; return the error code of each that was not deleted. Idempotent."""
        errors = self._delete_batch(keys)
        if errors is None:
            errors = {key: code for key in keys if (code := self._delete_alone(key))}
        return errors

    @retry_when_busy
    def _delete_batch(self, keys: Sequence[str]) -> dict[str, str] | None:
        """Return the error codes by key, or None if the store does not implement DeleteObjects."""
        with self._observed_call("DeleteObjects"):
            try:
                result = self._bulk_minio._delete_objects(self.name, [DeleteObject(key) for key in keys], quiet=True)
            except S3Error as e:
                if e.code in NO_BATCH_DELETE_CODES:
                    return None
                raise
            return {error.name or "": error.code for error in result.error_list if error.code not in NOT_FOUND_CODES}

    def _delete_alone(self, key: str) -> str | None:
        try:
            self.remove(key)
        except StorageFault as e:
            return type(e).__name__
        return None

    @retry_when_busy
    def list_page(self, prefix: str, start_after: str = "", limit: int = MAX_KEYS) -> list[ObjectInfo]:
        """Return the first `limit` objects below `prefix` whose keys follow `start_after`; one request."""
        query: dict[str, str | list[str] | tuple[str]] = {"list-type": "2", "prefix": prefix, "max-keys": str(limit)}
        # XML cannot represent every key: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
        query["encoding-type"] = "url"
        if start_after:
            query["start-after"] = start_after
        with self._observed_call("ListObjectsV2"):
            response = self._bulk_minio._execute("GET", self.name, query_params=query)
            return [_listed_object(item) for item in parse_list_objects(response)[0]]

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield all objects below `prefix`, in the order of their keys."""
        with translate_errors("ListObjectsV2"):
            for item in self._bulk_minio.list_objects(self.name, prefix, recursive=True):
                yield _listed_object(item)

    # minio-py's multipart methods are private, with a leading underscore; they have been stable for years.

    @retry_when_busy
    def create_multipart_upload(self, key: str, content_type: str | None, checksum: Checksum | None = None) -> str:
        """Create a multipart upload and return its id.

        With `checksum`, the store is asked to compute one with that algorithm of the whole object; one that does not
        know how gets an upload without.
        """
        headers: dict[str, str | list[str] | tuple[str]] = {"Content-Type": content_type or "application/octet-stream"}
        with self._observed_call("CreateMultipartUpload"):
            if checksum and self._tells_checksums and (upload_id := self._create_with_checksum(key, headers, checksum)):
                return upload_id
            return self._minio._create_multipart_upload(self.name, key, headers)

    def _create_with_checksum(
        self, key: str, headers: dict[str, str | list[str] | tuple[str]], checksum: Checksum
    ) -> str | None:
        algorithm = {"x-amz-checksum-algorithm": checksum.algorithm.upper(), "x-amz-checksum-type": FULL_OBJECT}
        query: dict[str, str | list[str] | tuple[str]] = {"uploads": ""}
        try:
            response = self._minio._execute(
                "POST", self.name, key, headers={**headers, **algorithm}, query_params=query
            )
        except S3Error as e:
            if e.code in NO_CHECKSUM_CODES:
                return None
            raise
        upload_id = next(item.text for item in _root(response).iter() if item.tag.rpartition("}")[2] == "UploadId")
        if response.headers.get("x-amz-checksum-type") == FULL_OBJECT:
            return upload_id
        # It may demand a checksum with each part, which clients do not send.
        self._minio._abort_multipart_upload(self.name, key, upload_id or "")
        return None

    @retry_when_busy
    def list_parts(self, key: str, upload_id: str) -> list[Part] | None:
        """Return the uploaded parts in order, or None if the upload does not exist (any more).

        Of a part that was uploaded twice, some stores list both; the later one counts.
        """
        parts: list[Part] = []
        marker: str | None = None
        with self._observed_call("ListParts"):
            try:
                while True:
                    page = self._minio._list_parts(self.name, key, upload_id, part_number_marker=marker)
                    parts += page.parts
                    if not page.is_truncated or not page.parts:
                        return _latest_parts(parts)
                    marker = str(page.parts[-1].part_number)
            except S3Error as e:
                if e.code in NO_UPLOAD:
                    return None
                raise

    @retry_when_busy
    def complete_multipart_upload(
        self, key: str, upload_id: str, parts: Sequence[Part], checksum: Checksum | None = None, *, timeout: float = 50
    ) -> WrittenObject | None:
        """Assemble the object from its parts; return None if the upload or one of the parts does not exist (any more).

        With `checksum`, the store is asked to compare its own. Raises ChecksumMismatch; the parts stay then. `timeout`
        (seconds) ends the wait with StorageTimeout, not the operation.
        """
        root = ElementTree.Element("CompleteMultipartUpload")
        for part in parts:
            item = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(item, "PartNumber").text = str(part.part_number)
            ElementTree.SubElement(item, "ETag").text = f'"{part.etag}"'
        body, headers, query = ElementTree.tostring(root), {"Content-Type": "application/xml"}, {"uploadId": upload_id}
        declared = (
            {"x-amz-checksum-type": FULL_OBJECT, **checksum.headers()} if checksum and self._tells_checksums else {}
        )
        with self._observed_call("CompleteMultipartUpload"):
            try:
                response = self._signed_request(
                    "POST", key, {**headers, **declared}, query, body, timeout=timeout, expires_in=60
                )
                return _written_object(response)
            except S3Error as e:
                if e.code in (*NO_UPLOAD, *INVALID_PART_CODES):
                    return None
                if declared and e.code in CHECKSUM_MISMATCH_CODES:
                    raise ChecksumMismatch from e
                if not declared or e.code not in NO_CHECKSUM_CODES:
                    raise
        return self.complete_multipart_upload(key, upload_id, parts, timeout=timeout)

    @retry_when_busy
    def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        """Abort the upload and delete its parts. Idempotent."""
        with self._observed_call("AbortMultipartUpload"):
            try:
                self._minio._abort_multipart_upload(self.name, key, upload_id)
            except S3Error as e:
                if e.code not in NO_UPLOAD:
                    raise

    def list_multipart_uploads(self, prefix: str) -> Iterator[tuple[str, str, datetime | None]]:
        """Yield key, upload id and start time of every unfinished multipart upload below `prefix`."""
        key_marker: str | None = None
        upload_marker: str | None = None
        with translate_errors("ListMultipartUploads"):
            while True:
                page = self._minio._list_multipart_uploads(
                    self.name, prefix=prefix, key_marker=key_marker, upload_id_marker=upload_marker
                )
                for upload in page.uploads:
                    yield upload.object_name, upload.upload_id or "", upload.initiated_time
                if not page.is_truncated or not page.uploads:
                    return
                key_marker, upload_marker = page.next_key_marker, page.next_upload_id_marker


def _read_head(key: str, response: urllib3.BaseHTTPResponse, count: int) -> tuple[ObjectInfo, bytes]:
    complete = False
    try:
        head = response.read(count)
        info = _object_info(key, response.headers)
        if len(head) != min(count, info.size):
            raise ValueError("the response is shorter than it says")
        complete = response.status == 206
        return info, head
    finally:
        # What may follow is not waited for (a store that ignores ranges sends the whole object), nor is it left to the
        # next request on this connection.
        if not complete:
            response.close()
        response.release_conn()


def _read_range(response: urllib3.BaseHTTPResponse, etag: str, offset: int, length: int) -> bytes:
    complete = False
    try:
        # Some stores ignore If-Match.
        if _valid_etag(response.headers["ETag"]) != etag:
            raise ObjectChanged
        content_range = response.headers.get("Content-Range", "")
        if response.status != 206 or not content_range.startswith(f"bytes {offset}-{offset + length - 1}/"):
            raise ValueError("the response is not the range that was requested")
        content = response.read(length)
        if len(content) != length:
            raise ValueError("the response is shorter than it says")
        complete = True
        return content
    finally:
        if not complete:
            response.close()
        response.release_conn()


def _object_info(key: str, headers: Mapping[str, str]) -> ObjectInfo:
    """Return an object's metadata from response headers, each within bounds. Raises ValueError, KeyError.

    Content-Range has the size of an object that is sent in part: https://www.rfc-editor.org/rfc/rfc9110#section-14.4
    """
    size = int(headers.get("Content-Range", "").rpartition("/")[2] or headers["Content-Length"])
    if not 0 <= size <= MAX_SIZE:
        raise ValueError("the size is out of range")
    user_metadata = any(name.lower().startswith("x-amz-meta-") for name in headers)
    return ObjectInfo(
        key,
        size,
        _valid_etag(headers["ETag"]),
        _valid_version_id(headers.get("x-amz-version-id")),
        headers.get("Content-Type"),
        _whole_checksums(headers),
        _parse_date(headers.get("Last-Modified")),
        user_metadata or any(name in headers for name in SENDER_HEADERS),
    )


def _whole_checksums(headers: Mapping[str, str]) -> dict[Algorithm, str]:
    """Return the checksums of all bytes of an object. Those of a checksum for each part end with the parts' number."""
    values = {algorithm: headers.get(f"x-amz-checksum-{algorithm}") for algorithm in ALGORITHMS}
    is_whole = headers.get("x-amz-checksum-type", FULL_OBJECT) == FULL_OBJECT
    return {algorithm: value for algorithm, value in values.items() if is_whole and value and "-" not in value}


def _parse_date(value: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(value) if value else None
    except ValueError:
        return None


def _latest_parts(parts: Sequence[Part]) -> list[Part]:
    """Return the newest upload of each part, in the order of part numbers, which CompleteMultipartUpload demands."""
    latest: dict[int, Part] = {}
    for part in sorted(parts, key=lambda part: part.last_modified.timestamp() if part.last_modified else 0.0):
        latest[part.part_number] = part
    return [latest[number] for number in sorted(latest)]


def _listed_object(item: Any) -> ObjectInfo:
    return ObjectInfo(item.object_name or "", item.size or 0, item.etag or "", None, None, {}, item.last_modified)


def _root(response: urllib3.BaseHTTPResponse) -> ElementTree.Element:
    # The store may send whitespace first, to keep the connection open. Expat bounds the expansion of entities.
    return ElementTree.fromstring(response.data.strip())  # noqa: S314


def _written_object(response: urllib3.BaseHTTPResponse) -> WrittenObject:
    """Return the object that a successful response names. Raises ValueError, KeyError if it names none."""
    etag = next((item.text for item in _root(response).iter() if item.tag.rpartition("}")[2] == "ETag"), None)
    version_id = _valid_version_id(response.headers.get("x-amz-version-id"))
    return WrittenObject(_valid_etag(etag or response.headers["ETag"]), version_id)


def _valid_etag(value: str) -> str:
    etag = value.strip().strip('"')
    if not _etag.fullmatch(etag):
        raise ValueError("the ETag is unusable")
    return etag


def _valid_version_id(value: str | None) -> str | None:
    if value is not None and not _version_id.fullmatch(value):
        raise ValueError("the version id is unusable")
    return value
