"""All requests to the store, most through minio; its errors and urllib3's are translated into the service's own.

Permissions that the key needs on the bucket are listed in SECURITY.md.
"""

from __future__ import annotations

import logging
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import md5
from time import perf_counter
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

import urllib3

from storage.clock import seconds_left
from storage.errors import StorageRejected, StorageUnavailable
from storage.formats.checksums import Checksum
from storage.http import waiting
from storage.http.exchange import Exchanges
from storage.http.proxies import ProxiedPoolManager
from storage.http.trace_context import current_trace
from storage.s3 import dialects
from storage.s3.choices import Choices
from storage.s3.cors import add_rule
from storage.s3.credentials import CredentialChain, static_provider
from storage.s3.dialects import FULL_OBJECT, ErrorResponse, Listing, ObjectInfo, Page, Part, Upload, WrittenObject
from storage.s3.errors import (
    ChecksumMismatch,
    ObjectChanged,
    StorageFault,
    StorageTimeout,
    StorageUnsupported,
    retry_when_busy,
    translate_errors,
    translate_minio_errors,
)
from storage.s3.lifecycle import merge_rules
from storage.s3.presign import Credentials, Presigner
from storage.s3.write_headers import WriteHeaders, copy_source
from storage.settings import Settings

if TYPE_CHECKING:
    from minio import Minio

logger = logging.getLogger("loadbay.store")

# Under two seconds in all: a request fails soon if the store is unreachable.
SHORT_TIMEOUT = urllib3.Timeout(connect=0.8, read=1.1)
# With a HeadObject before it, less than gunicorn's `timeout` (gunicorn.conf.py).
LONG_TIMEOUT = urllib3.Timeout(connect=0.8, read=50)
MAX_SECONDS = 600.0
"""Seconds in place of a timeout that has no end."""

PRECONDITION_FAILED_CODES = ("PreconditionFailed",)
NOT_FOUND_CODES = ("NoSuchKey", "NoSuchObject", "ResourceNotFound", "NotFound")
NO_BUCKET_CODES = ("NoSuchBucket", "NotFound")
NO_UPLOAD = ("NoSuchUpload", *NOT_FOUND_CODES)
EMPTY_OBJECT_CODE = "InvalidRange"
LOCKED_CODE = "AccessDenied"
UNCERTAIN_STATUSES = (500, 502, 504)
"""Answers, perhaps of a proxy, after which a store may still be doing what it was asked to."""

INVALID_PART_CODES = ("InvalidPart", "InvalidPartOrder", "EntityTooSmall")
INVALID_LOCATION_CODES = ("InvalidLocationConstraint", "IllegalLocationConstraintException")
CHECKSUM_MISMATCH_CODES = ("BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch")
NO_CHECKSUM_CODES = ("InvalidArgument", "InvalidRequest", "NotImplemented")
"""What stores answer that do not know the checksum of a whole multipart upload."""

MAX_KEYS = 1000
"""The most keys that one request lists or deletes."""

TRANSITION_SIZE = "x-amz-transition-default-minimum-object-size"
MIN_CLOCK_SKEW, MAX_CLOCK_SKEW = 2, 900
"""Seconds by which the store's clock must differ to be minded, and by which S3 would reject every signature."""

Query = Mapping[str, str]


class StoreClock:
    """The store's clock, as its responses show it. A signature that is valid for seconds must be dated by that."""

    def __init__(self) -> None:
        self.skew = 0.0

    def observe(self, date: str | None) -> None:
        """Note the Date header of a response."""
        observed = dialects.parse_date(date)
        if observed is not None:
            skew = observed.timestamp() - time.time()
            self.skew = skew if MIN_CLOCK_SKEW < abs(skew) < MAX_CLOCK_SKEW else 0.0

    def now(self) -> int:
        """Return the store's time, in seconds since the epoch."""
        return int(time.time() + self.skew)


class StorePoolManager(ProxiedPoolManager):
    """A pool whose requests have the trace headers of the current request, and whose errors are those of dialects.

    The headers are not part of the signature. minio, which would take some errors for others, sees no error response.
    """

    def __init__(self, clock: StoreClock, **kwargs: Any):
        super().__init__(**kwargs)
        self.clock, self.exchanges = clock, Exchanges()

    def clear(self) -> None:
        """Close all connections."""
        super().clear()
        self.exchanges.clear()

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        """Send a request as PoolManager does, with the trace headers. Raises ErrorResponse.

        With `limit`, the request has no body, and at most so many bytes of the response's are received.
        """
        # A stored Content-Encoding is only the sender's claim: what is verified are the bytes as they are stored.
        kw["decode_content"] = False
        if trace := current_trace.get():
            kw["headers"] = {**(kw.get("headers") or {}), **trace.headers()}
        kw["timeout"] = _limited(kw.get("timeout") or self.connection_pool_kw["timeout"])
        limit = kw.pop("limit", None)
        if limit is not None and self.proxy_for(url) is None:
            waiting.announce()
            exchanged = self.exchanges.send(method, url, kw["headers"], kw["timeout"], limit)
            response = cast(urllib3.BaseHTTPResponse, exchanged)
        else:
            # Without following redirects: a signature is valid for one host.
            response = super().urlopen(method, url, False, **kw)
        self.clock.observe(response.headers.get("Date"))
        if not 200 <= response.status < 300:
            raise _read_error(response)
        if kw.get("preload_content", True) and dialects.is_error(response.data):
            raise dialects.parse_error(response.status, response.headers, response.data)
        return response


def _limited(timeout: urllib3.Timeout) -> urllib3.Timeout:
    """Return a timeout that ends with the time of the current request. Raises TimeoutError where that is over."""
    limits = (timeout.connect_timeout, timeout.read_timeout)
    connect, read = (float(limit) if isinstance(limit, int | float) else MAX_SECONDS for limit in limits)
    left = seconds_left(connect + read)
    if left <= 0:
        raise urllib3.exceptions.TimeoutError("The request has no time left.")
    return timeout if left >= connect + read else urllib3.Timeout(connect=min(connect, left), read=min(read, left))


def _read_error(response: urllib3.BaseHTTPResponse) -> ErrorResponse:
    try:
        body = response.data if response.closed else response.read(dialects.MAX_ERROR_BYTES)
        return dialects.parse_error(response.status, response.headers, body)
    finally:
        response.close()
        response.release_conn()


class NoSuchUpload(Exception):
    """The multipart upload does not exist (any more)."""


CallObserver = Callable[[str, str, float], None]
"""Receives each call: S3's name of the operation, `ok`, `rejected` or `unavailable`, and the duration in seconds."""


class Bucket:
    """One bucket. Every method raises StorageUnavailable or StorageRejected, besides what its docstring names.

    `choices` says how to ask this store; whoever learns more of it sets them. `region` is the one that requests are
    signed for: that of the settings, or the one that the store has redirected to. `timeout` is that of requests which
    do not grow with an object's size.
    """

    def __init__(
        self,
        settings: Settings,
        observer: CallObserver | None = None,
        timeout: urllib3.Timeout = SHORT_TIMEOUT,
    ):
        self.name, self._observer, self._settings = settings.s3_bucket, observer, settings
        self.choices, self.region = Choices(), settings.s3_region
        self.write_headers = WriteHeaders(settings)
        self._static: Credentials | None = None
        self._chain = CredentialChain(settings.s3_region)
        if settings.aws_access_key_id:
            token = settings.aws_session_token or None
            self._static = (settings.aws_access_key_id, settings.aws_secret_access_key, token)
        self._clock = StoreClock()
        self._pools: list[StorePoolManager] = []
        self._short_pool, self._long_pool = self._pool(timeout=timeout), self._pool(timeout=LONG_TIMEOUT)
        self._http, self._timeout = self._pool(), timeout
        self._sign_for(settings.s3_region)

    def _pool(self, **options: Any) -> StorePoolManager:
        # Without retries: if the store is unreachable the caller is told, rather than kept waiting.
        self._pools.append(StorePoolManager(self._clock, maxsize=16, retries=False, **options))
        return self._pools[-1]

    def _sign_for(self, region: str) -> None:
        settings = self._settings
        self.region = region
        self._clients: dict[bool, Minio] = {}
        self._signer = Presigner(settings.s3_endpoint, self.name, self.credentials, region, settings.s3_addressing)

    def _client(self, bulk: bool) -> Minio:
        if bulk not in self._clients:
            self._clients[bulk] = self._new_client(self._long_pool if bulk else self._short_pool)
        return self._clients[bulk]

    def _new_client(self, pool: StorePoolManager) -> Minio:
        # Imported with the first request that needs it: registering and verifying send none.
        from minio import Minio

        endpoint = urlsplit(self._settings.s3_endpoint)
        client = Minio(
            endpoint.netloc,
            secure=endpoint.scheme == "https",
            region=self.region,
            credentials=static_provider(self._static) if self._static else self._chain,
            http_client=pool,
        )
        if self._settings.s3_addressing == "virtual":
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
        """Return the credentials for signatures. A network call is made only to renew temporary ones."""
        if self._static is not None:
            return self._static
        try:
            with translate_errors("credential lookup"):
                credentials = self._chain.retrieve()
        except StorageFault as e:
            raise StorageRejected from e
        return credentials.access_key, credentials.secret_key, credentials.session_token

    def url_ttl(self, seconds: int, now: int) -> int:
        """Return the seconds for which a URL that is signed now is valid: `seconds`, or less.

        A signature ends with the temporary credentials that made it, whatever its URL says.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
        """
        if self._static is not None:
            return seconds
        self.credentials()
        until = self._chain.expires_at
        return seconds if until is None else max(1, min(seconds, until - now))

    # --- Requests -----------------------------------------------------------------------------------------------------

    def _send(
        self,
        method: str,
        key: str | None = None,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        bulk: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request, and once more for the region that the store redirects to. Raises ErrorResponse.

        A request that is `bulk` may take long.
        """

        def send() -> urllib3.BaseHTTPResponse:
            sent: dict[str, Any] = {**self.write_headers.owner, **(headers or {})}
            with translate_minio_errors():
                return self._client(bulk)._execute(method, self.name, key, body, sent, dict(query or {}))

        return self._following_region(send)

    def _fetch(self, method: str, key: str, headers: Query | None = None, limit: int = 0) -> urllib3.BaseHTTPResponse:
        """Send a request for an object, without a query and a body. Raises ErrorResponse, as _send does.

        At most `limit` bytes of the object are received.
        """

        def send() -> urllib3.BaseHTTPResponse:
            sent = {**self.write_headers.owner, **(headers or {})}
            url, signed = self._signer.signed_headers(method, key, self._clock.now(), sent)
            return self._http.urlopen(
                method, url, headers=signed, timeout=self._timeout, limit=limit, preload_content=not limit
            )

        return self._following_region(send)

    def _following_region(self, send: Callable[[], urllib3.BaseHTTPResponse]) -> urllib3.BaseHTTPResponse:
        try:
            return send()
        except ErrorResponse as e:
            if e.region is None or e.region == self.region:
                raise
            logger.warning("The bucket is in the region %s: set S3_REGION=%s.", e.region, e.region)
            self._sign_for(e.region)
        return send()

    # --- The bucket ---------------------------------------------------------------------------------------------------

    def create_if_missing(self) -> bool:
        """Create the bucket if it does not exist; return whether it was created."""
        if self.exists():
            return False
        with self._observed_call("CreateBucket"):
            try:
                self._send("PUT", body=self._location())
            except ErrorResponse as e:
                # A store may know another name for its only region, and need none.
                if e.code not in INVALID_LOCATION_CODES:
                    raise
                self._send("PUT")
        return True

    def _location(self) -> bytes | None:
        """Return the body of CreateBucket: us-east-1 is named by leaving it out (API_CreateBucket.html)."""
        if self.region == "us-east-1":
            return None
        root = ElementTree.Element("CreateBucketConfiguration")
        ElementTree.SubElement(root, "LocationConstraint").text = self.region
        return bytes(ElementTree.tostring(root))

    def exists(self) -> bool:
        """Return whether the bucket exists."""
        with self._observed_call("HeadBucket"):
            try:
                self._send("HEAD")
            except ErrorResponse as e:
                if e.code in NO_BUCKET_CODES:
                    return False
                # The key may list only its own prefix, which HeadBucket does not name.
                if e.status != 403 or not self._can_list():
                    raise
        return True

    def _can_list(self) -> bool:
        try:
            self._send("GET", query={"list-type": "2", "prefix": self._settings.s3_prefix, "max-keys": "1"})
        except ErrorResponse:
            return False
        return True

    def keeps_versions(self) -> bool:
        """Return whether the bucket keeps versions of its objects."""
        with self._observed_call("GetBucketVersioning"):
            return b"<Status>Enabled</Status>" in self._send("GET", query={"versioning": ""}).data

    def set_cors(self, origins: Sequence[str]) -> None:
        """Add a CORS rule that lets pages of `origins` upload; other rules stay."""
        body = add_rule(self._cors_rules(), origins)
        # This request requires the digest: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketCors.html
        with self._observed_call("PutBucketCors"):
            self._send("PUT", query={"cors": ""}, headers={"Content-MD5": content_md5(body)}, body=body)

    def _cors_rules(self) -> bytes | None:
        """Return the bucket's CORS rules as XML, or None if it has none."""
        with self._observed_call("GetBucketCors"):
            try:
                return self._send("GET", query={"cors": ""}).data
            except ErrorResponse as e:
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
        headers = {"Content-MD5": content_md5(body)}
        # S3 resets what this header says where it is absent (API_PutBucketLifecycleConfiguration.html).
        if present is not None and (size := present.headers.get(TRANSITION_SIZE)):
            headers[TRANSITION_SIZE] = size
        with self._observed_call("PutBucketLifecycleConfiguration"):
            self._send("PUT", query={"lifecycle": ""}, headers=headers, body=body)

    def _lifecycle_response(self) -> urllib3.BaseHTTPResponse | None:
        with self._observed_call("GetBucketLifecycleConfiguration"):
            try:
                return self._send("GET", query={"lifecycle": ""})
            except ErrorResponse as e:
                if e.code != "NoSuchLifecycleConfiguration":
                    raise
        return None

    # --- Objects ------------------------------------------------------------------------------------------------------

    def put(
        self, key: str, stream: BinaryIO, size: int, content_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Write `size` bytes (at most 5 GiB, one request) to `key`, with `headers`, or those of staging."""
        # A write may take long; this fails soon if the store is unreachable.
        present = self.head(key)
        written = self.write_headers.staged if headers is None else headers
        if present is not None and self.write_headers.condition:
            self.remove(key)
        body = stream.read(size)
        # Object Lock demands a digest: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html
        digest = {"Content-Type": content_type, "Content-MD5": content_md5(body)}
        headers = {**written, **self.write_headers.condition, **digest}
        with self._observed_call("PutObject"):
            try:
                self._send("PUT", key, headers=headers, body=body, bulk=True)
            except ErrorResponse as e:
                self._refuse_to_repeat(e)
                raise

    @retry_when_busy
    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's metadata, or None if it does not exist."""
        with self._observed_call("HeadObject"):
            headers = {"x-amz-checksum-mode": "ENABLED"} if self.choices.asks_checksums else {}
            try:
                answered = self._fetch("HEAD", key, headers).headers
            except ErrorResponse as e:
                if e.code in NOT_FOUND_CODES:
                    return None
                raise
            if (size := dialects.object_size(answered)) is not None:
                return dialects.object_info(key, size, answered)
        # Some stores, and proxies that compress, leave the length out of a response without a body.
        observed = self.stat_and_read(key, 1)
        return None if observed is None else dialects.object_info(key, observed[0].size, answered)

    @retry_when_busy
    def stat_and_read(self, key: str, count: int) -> tuple[ObjectInfo, bytes] | None:
        """Return the object's metadata, without its checksum, and its first `count` bytes; None if it does not exist.

        Both come from one response, and so from one object. S3 sends no checksum of the whole with a range.
        """
        with self._observed_call("GetObject"):
            try:
                response = self._fetch("GET", key, {"Range": f"bytes=0-{count - 1}"}, count)
            except ErrorResponse as e:
                if e.code in NOT_FOUND_CODES:
                    return None
                if e.code != EMPTY_OBJECT_CODE:
                    raise
            else:
                return _read_head(key, response, count)
        # An empty object has no range.
        info = self._stat_empty(key)
        return None if info is None else (info, b"")

    def _stat_empty(self, key: str) -> ObjectInfo | None:
        with self._observed_call("HeadObject"):
            try:
                headers = self._fetch("HEAD", key).headers
            except ErrorResponse as e:
                if e.code in NOT_FOUND_CODES:
                    return None
                raise
            if dialects.object_size(headers):
                raise StorageFault("The store sends no range of an object that is not empty.")
            return dialects.object_info(key, 0, headers)

    @retry_when_busy
    def read_range(self, key: str, etag: str, offset: int, length: int) -> bytes:
        """Return `length` bytes of the object from `offset`: a range within it, not at its start.

        Raises ObjectChanged where it does not exist any more, or no longer has this ETag.
        """
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        with self._observed_call("GetObject"):
            try:
                response = self._fetch("GET", key, headers, length)
            except ErrorResponse as e:
                if e.code in (*NOT_FOUND_CODES, EMPTY_OBJECT_CODE):
                    raise ObjectChanged from e
                raise
            return _read_range(key, response, etag, offset, length)

    @retry_when_busy
    def copy(
        self,
        source: str,
        target: str,
        etag: str,
        content_type: str,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = 50,
        expires_in: int = 60,
    ) -> WrittenObject | None:
        """Copy an object within the store; return None if the source is gone or no longer has this ETag.

        The condition is not sent for an ETag of WEAK, and not every store honors it (Choices.trusts_copy).

        The copy has this Content-Type and `headers`, and nothing else of the source's metadata. Where a policy demands
        If-None-Match, it also returns None if there is an object at `target`. `timeout` (seconds) ends the wait, by
        StorageTimeout, but not the copy. The store rejects a request that arrives after `expires_in` seconds, however
        long it was on its way. At most 5 GiB: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
        """
        headers = {
            **self.write_headers.encryption,
            **(headers or {}),
            **self.write_headers.copied,
            **self.write_headers.owner,
            **self.write_headers.condition,
            "Content-Type": content_type,
            "x-amz-copy-source": quote(copy_source(self._settings, source)),
            "x-amz-metadata-directive": "REPLACE",
        }
        if not dialects.is_weak(etag):
            headers["x-amz-copy-source-if-match"] = f'"{etag}"'
        with self._observed_call("CopyObject"):
            try:
                response = self._signed_request("PUT", target, headers, timeout=timeout, expires_in=expires_in)
            except ErrorResponse as e:
                if e.code in (*NOT_FOUND_CODES, *PRECONDITION_FAILED_CODES):
                    return None
                self._refuse_to_repeat(e)
                raise
            return dialects.written_object(response.headers, response.data)

    def _refuse_to_repeat(self, error: ErrorResponse) -> None:
        """Raise StorageTimeout for a write that may still arrive, and would then replace what a repeated one wrote."""
        if error.status in UNCERTAIN_STATUSES and not self.choices.trusts_copy:
            logger.error("S3 write failed: %s. The store may still carry it out.", error.code)
            raise StorageTimeout from error

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
        """Send a request whose signature is in its URL. Raises ErrorResponse, also for an error with status 200."""
        limits = urllib3.Timeout(connect=SHORT_TIMEOUT.connect_timeout, read=timeout)

        def send() -> urllib3.BaseHTTPResponse:
            url = self._signer.url(method, key, expires_in, self._clock.now(), headers, query)
            options: dict[str, Any] = {"body": body} if body is not None else {"limit": dialects.MAX_ERROR_BYTES}
            return self._http.urlopen(method, url, headers=dict(headers), timeout=limits, **options)

        return self._following_region(send)

    @retry_when_busy
    def remove(self, key: str) -> None:
        """Delete the object. Idempotent."""
        with self._observed_call("DeleteObject"):
            try:
                self._fetch("DELETE", key)
            except ErrorResponse as e:
                if e.code not in NOT_FOUND_CODES:
                    raise

    def delete_objects(self, keys: Sequence[str]) -> dict[str, str]:
        """Delete at most MAX_KEYS objects; return the error code of each that was not deleted. Idempotent."""
        errors = self._delete_batch(keys) if self.choices.batch_delete else None
        if errors is None:
            errors = {key: code for key in keys if (code := self._delete_alone(key))}
        return errors

    @retry_when_busy
    def _delete_batch(self, keys: Sequence[str]) -> dict[str, str] | None:
        """Return the error codes by key, or None if the store does not implement DeleteObjects."""
        root = ElementTree.Element("Delete")
        ElementTree.SubElement(root, "Quiet").text = "true"
        for key in keys:
            ElementTree.SubElement(ElementTree.SubElement(root, "Object"), "Key").text = key
        body = bytes(ElementTree.tostring(root))
        headers = {"Content-MD5": content_md5(body)}
        try:
            with self._observed_call("DeleteObjects"):
                response = self._send("POST", query={"delete": ""}, headers=headers, body=body, bulk=True)
                errors = dialects.undeleted(response.data)
        except StorageUnsupported:
            return None
        return {key: code for key, code in errors.items() if code not in NOT_FOUND_CODES}

    def _delete_alone(self, key: str) -> str | None:
        try:
            self.remove(key)
        except StorageFault as e:
            return type(e).__name__
        except StorageRejected as e:
            # Object Lock answers so for one object. The next ones may be free.
            if getattr(e.__cause__, "code", None) != LOCKED_CODE:
                raise
            return LOCKED_CODE
        return None

    def list_pages(self, prefix: str, limit: int = MAX_KEYS) -> Iterator[list[ObjectInfo]]:
        """Yield the objects below `prefix` page by page, each of at most `limit` and of one request."""
        # XML cannot represent every key: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
        query = {"list-type": "2", "prefix": prefix, "max-keys": str(limit), "encoding-type": "url"}
        for page in self._pages(dialects.OBJECTS, query):
            yield dialects.objects_of(page)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield all objects below `prefix`, in the order of their keys."""
        for page in self.list_pages(prefix):
            yield from page

    def _pages(self, listing: Listing, query: Query, key: str | None = None) -> Iterator[Page]:
        """Yield the pages of a listing. A store that ignores a marker sends a page again, which ends the listing."""
        following: Query | None = {}
        while following is not None:
            page = self._page(listing, {**query, **following}, key)
            if page.following == following:
                return
            yield page
            following = page.following

    @retry_when_busy
    def _page(self, listing: Listing, query: Query, key: str | None) -> Page:
        with self._observed_call(listing.operation):
            try:
                response = self._send("GET", key, query=query, bulk=True)
            except ErrorResponse as e:
                if key is not None and e.code in NO_UPLOAD:
                    raise NoSuchUpload from e
                raise
            return dialects.parse_page(response.data, listing)

    # --- Multipart uploads --------------------------------------------------------------------------------------------

    @retry_when_busy
    def create_multipart_upload(
        self,
        key: str,
        content_type: str | None,
        checksum: Checksum | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Create a multipart upload with `headers` and return its id.

        With `checksum`, the store is asked to compute one with that algorithm of the whole object; one that does not
        know how gets an upload without.
        """
        headers = {
            **self.write_headers.encryption,
            **(headers or {}),
            "Content-Type": content_type or "application/octet-stream",
        }
        with self._observed_call("CreateMultipartUpload"):
            if checksum and self._compares(checksum):
                upload_id = self._create_with_checksum(key, headers, checksum)
                if upload_id is not None:
                    return upload_id
            return dialects.upload_id_of(self._send("POST", key, query={"uploads": ""}, headers=headers).data)

    def _compares(self, checksum: Checksum) -> bool:
        """Return True where the store compares the checksum of a whole multipart upload."""
        return checksum.algorithm in self.choices.whole_checksums

    def _create_with_checksum(self, key: str, headers: Mapping[str, str], checksum: Checksum) -> str | None:
        algorithm = {"x-amz-checksum-algorithm": checksum.algorithm.upper(), "x-amz-checksum-type": FULL_OBJECT}
        try:
            response = self._send("POST", key, query={"uploads": ""}, headers={**headers, **algorithm})
        except ErrorResponse as e:
            if e.code in NO_CHECKSUM_CODES:
                return None
            raise
        upload_id = dialects.upload_id_of(response.data)
        if response.headers.get("x-amz-checksum-type") == FULL_OBJECT:
            return upload_id
        # It may demand a checksum with each part, which clients do not send.
        self._send("DELETE", key, query={"uploadId": upload_id})
        return None

    def list_parts(self, key: str, upload_id: str) -> list[Part] | None:
        """Return the uploaded parts in order, or None if the upload does not exist (any more).

        Of a part that was uploaded twice, some stores list both; the later one counts.
        """
        parts: list[Part] = []
        try:
            for page in self._pages(dialects.PARTS, {"uploadId": upload_id, "max-parts": "1000"}, key):
                parts += dialects.parts_of(page)
        except NoSuchUpload:
            return None
        return _latest_parts(parts)

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
        body, query = ElementTree.tostring(root), {"uploadId": upload_id}
        headers = {"Content-Type": "application/xml", **self.write_headers.owner, **self.write_headers.condition}
        declared = (
            {"x-amz-checksum-type": FULL_OBJECT, **checksum.headers()} if checksum and self._compares(checksum) else {}
        )
        with self._observed_call("CompleteMultipartUpload"):
            try:
                response = self._signed_request(
                    "POST", key, {**headers, **declared}, query, body, timeout=timeout, expires_in=60
                )
                return dialects.written_object(response.headers, response.data)
            except ErrorResponse as e:
                exists = self.write_headers.condition and e.code in PRECONDITION_FAILED_CODES
                if exists or e.code in (*NO_UPLOAD, *INVALID_PART_CODES):
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
                self._send("DELETE", key, query={"uploadId": upload_id})
            except ErrorResponse as e:
                if e.code not in NO_UPLOAD:
                    raise

    def list_multipart_uploads(self, prefix: str, limit: int = MAX_KEYS) -> Iterator[Upload]:
        """Yield every unfinished multipart upload below `prefix`, `limit` with each request."""
        # An empty `delimiter` is another request to some stores than none.
        query = {"uploads": "", "prefix": prefix, "max-uploads": str(limit), "encoding-type": "url"}
        for page in self._pages(dialects.UPLOADS, query):
            yield from dialects.uploads_of(page)


def content_md5(body: bytes) -> str:
    """Return the value of Content-MD5 for a body."""
    return b64encode(md5(body, usedforsecurity=False).digest()).decode()


def _read_head(key: str, response: urllib3.BaseHTTPResponse, count: int) -> tuple[ObjectInfo, bytes]:
    complete = False
    try:
        head, size = response.read(count), dialects.object_size(response.headers)
        # A store that ignores ranges may stream an object whose length it does not tell.
        if size is None and len(head) < count:
            size = len(head)
        if size is None or len(head) != min(count, size):
            raise ValueError("the response is shorter than it says")
        complete = response.status == 206
        return dialects.object_info(key, size, response.headers), head
    finally:
        # What may follow is not waited for (a store that ignores ranges sends the whole object), nor is it left to the
        # next request on this connection.
        if not complete:
            response.close()
        response.release_conn()


def _read_range(key: str, response: urllib3.BaseHTTPResponse, etag: str, offset: int, length: int) -> bytes:
    complete = False
    try:
        # Some stores send a range with status 200.
        if not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-{offset + length - 1}/"):
            raise ValueError("the response is not the range that was requested")
        # Not left to If-Match, which some stores ignore, and others reject for every ETag.
        if dialects.object_info(key, dialects.object_size(response.headers) or 0, response.headers).etag != etag:
            raise ObjectChanged
        content = response.read(length)
        if len(content) != length:
            raise ValueError("the response is shorter than it says")
        complete = True
        return content
    finally:
        if not complete:
            response.close()
        response.release_conn()


def _latest_parts(parts: Sequence[Part]) -> list[Part]:
    """Return the newest upload of each part, in the order of part numbers, which CompleteMultipartUpload demands."""
    latest: dict[int, Part] = {}
    for part in sorted(parts, key=lambda part: part.last_modified.timestamp() if part.last_modified else 0.0):
        latest[part.part_number] = part
    return [latest[number] for number in sorted(latest)]
