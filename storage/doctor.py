"""Checks of the configured store and database, as the service and its clients use them.

Every check of the store is a real request: signed by the presigner and sent to the public endpoint. All objects are
written below `.doctor/` and removed at the end, whatever happens.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from hashlib import sha256
from time import time
from typing import Any, NamedTuple

import urllib3
from minio.error import S3Error

from storage.clock import now as clock_now
from storage.db.errors import DATABASE_ERRORS
from storage.errors import ServiceError
from storage.s3 import lifecycle, object_keys
from storage.s3.cors import preflight_allows
from storage.service import Service
from storage.uploads import arrivals

PASS, FAIL, UNSUPPORTED, SKIPPED = "pass", "fail", "not supported", "skipped"
CLIENT_MULTIPART_THRESHOLD = 64 * 2**20
"""Bytes above which our own clients, the upload page and `loadbay upload`, use multipart uploads."""
BODY = b"loadbay doctor: written to check the store\n"
URL_TTL = 60
LIFECYCLE = "lifecycle of staging"
LIFECYCLE_DAYS = -(-arrivals.UNKNOWN_GRACE // 86_400) + 1
"""Days after which the bucket itself removes a staged object: never before the service does."""
MAX_CLOCK_SKEW = 60
"""Seconds. Stores reject a signature that is 15 minutes off, and a URL's lifetime shrinks by the skew."""


class Result(NamedTuple):
    """The outcome of a check, what it observed, and how to fix it."""

    outcome: str
    detail: str = ""
    advice: str = ""


class Check(NamedTuple):
    """A check with its result. `required` is False if the service works without it as configured."""

    name: str
    outcome: str
    detail: str
    advice: str
    required: bool


class StoreCheck(NamedTuple):
    """A check of the store that is still to be run."""

    name: str
    required: bool
    run: Callable[[], Result]


class Doctor:
    """Checks one service. `origins` are the sites whose browsers upload."""

    def __init__(self, service: Service, origins: Sequence[str] = ()):
        self.service, self.origins = service, origins
        self.folder = f"{service.settings.s3_prefix}.doctor/{secrets.token_hex(8)}/"
        self.http = urllib3.PoolManager(timeout=urllib3.Timeout(5), retries=False)
        self.uploads: list[tuple[str, str]] = []

    def run_checks(self) -> Iterator[Check]:
        """Yield every check once it has run. Checks of a store that is not usable are `skipped`."""
        yield Check("database", *self._check_database(), required=True)
        basics = [*self._check_store(), Check("public endpoint", *self._check_public_endpoint(), required=True)]
        yield from basics
        usable = all(check.outcome == PASS for check in basics if check.name != "clock")
        try:
            for name, required, run in self._store_checks():
                result = self._run(run) if usable else Result(SKIPPED, "the store must be usable first")
                yield Check(name, *result, required=required)
        finally:
            remaining = self._clean_up() if usable else []
        if usable:
            yield Check("cleanup", *_cleanup_result(remaining), required=True)

    def _store_checks(self) -> list[StoreCheck]:
        settings = self.service.settings
        direct = settings.cover_upload == "direct"
        multipart = settings.max_track_bytes > min(settings.multipart_threshold_bytes, CLIENT_MULTIPART_THRESHOLD)
        return [
            StoreCheck("presigned PUT", True, self._check_put),
            StoreCheck("presigned GET", True, self._check_get),
            StoreCheck("conditional copy", True, self._check_copy),
            StoreCheck("signed size enforced", True, self._check_size),
            StoreCheck("signed type enforced", True, self._check_type),
            StoreCheck("signed checksum enforced", True, self._check_checksum),
            StoreCheck("write-once PUT", settings.write_once_put, self._check_write_once),
            StoreCheck("POST policy", direct, self._check_policy),
            StoreCheck("POST policy: size enforced", direct, self._check_policy_size),
            StoreCheck("POST policy: type enforced", direct, self._check_policy_type),
            StoreCheck("POST policy: key enforced", direct, self._check_policy_key),
            StoreCheck("multipart", multipart, self._check_multipart),
            *self._cors_checks(),
            StoreCheck(LIFECYCLE, False, self._check_lifecycle),
        ]

    def lifecycle_rules(self) -> list[dict[str, Any]]:
        """Return the lifecycle rules that this deployment's staging prefix should have."""
        service = self.service
        prefix = object_keys.staging_prefix(service.settings.s3_prefix, service.deployment_id)
        return lifecycle.staging_rules(prefix, service.deployment_id, LIFECYCLE_DAYS)

    def _check_lifecycle(self) -> Result:
        try:
            configuration = self.service.bucket.lifecycle()
        except ServiceError:
            return Result(UNSUPPORTED, "the rules cannot be read")
        if lifecycle.missing_rules(configuration, self.lifecycle_rules()):
            return Result(FAIL, "no rule for staging", "Run again with --fix to set the rules below.")
        return Result(PASS)

    def _cors_checks(self) -> list[StoreCheck]:
        if not self.origins:
            return [StoreCheck("CORS", False, _no_origin)]
        return [StoreCheck(f"CORS for {origin}", True, partial(self._check_cors, origin)) for origin in self.origins]

    def _run(self, check: Callable[[], Result]) -> Result:
        try:
            return check()
        except (ServiceError, urllib3.exceptions.HTTPError) as e:
            return Result(FAIL, type(e).__name__, "The store did not complete the request: see its log.")

    # --- Basics ------------------------------------------------------------------------------------------------------

    def _check_database(self) -> Result:
        try:
            self.service.execute("SELECT count(*) FROM loadbay_api_key", ()).fetchall()
        except DATABASE_ERRORS as e:
            if "no such table" in str(e) or "does not exist" in str(e):
                return Result(FAIL, "tables are missing", f"Run: {self.service.command} prepare")
            return Result(FAIL, "unreachable", "Start the database, or correct DATABASE_URL.")
        return Result(PASS)

    def _check_store(self) -> Iterator[Check]:
        """Yield the checks without which no other makes sense, up to the first that fails."""
        endpoint = self.service.settings.s3_endpoint
        try:
            date = self.http.request("GET", endpoint).headers.get("Date")
        except urllib3.exceptions.HTTPError:
            yield Check("store reachable", FAIL, endpoint, "Start the store, or correct S3_ENDPOINT.", required=True)
            return
        yield Check("store reachable", PASS, endpoint, "", required=True)
        clock = _check_clock(date)
        yield Check("clock", *clock, required=clock.outcome != SKIPPED)
        yield from self._check_bucket()

    def _check_bucket(self) -> Iterator[Check]:
        try:
            exists = self.service.bucket.exists()
        except ServiceError as e:
            code = str(e.__cause__.code) if isinstance(e.__cause__, S3Error) else "no response"
            advice = "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or this key's permissions (see SECURITY.md)."
            yield Check("credentials", FAIL, code, advice, required=True)
            return
        yield Check("credentials", PASS, "", "", required=True)
        advice = "" if exists else f"Run: {self.service.command} prepare"
        yield Check("bucket", PASS if exists else FAIL, self.service.settings.s3_bucket, advice, required=True)

    def _check_public_endpoint(self) -> Result:
        origin = self.service.presigner.origin
        try:
            self.http.request("GET", origin)
        except urllib3.exceptions.HTTPError:
            return Result(FAIL, origin, "Correct S3_PUBLIC_ENDPOINT: clients use it, and this check must reach it too.")
        return Result(PASS, origin)

    # --- Presigned URLs ----------------------------------------------------------------------------------------------

    def _signed_put(self, name: str, body: bytes, signed: Mapping[str, str], **headers: str) -> int:
        """PUT `body` to a URL that signs the headers `signed`, and send `headers` in their place; return the status."""
        url = self.service.presigner.url("PUT", self.folder + name, URL_TTL, clock_now(), signed)
        sent = {**signed, **{header.replace("_", "-"): value for header, value in headers.items()}}
        return self.http.request("PUT", url, body=body, headers=sent).status

    def _check_put(self) -> Result:
        status = self._signed_put("put", BODY, {"Content-Length": str(len(BODY))})
        stored = self.service.bucket.head(self.folder + "put")
        if status == 200 and stored is not None and stored.size == len(BODY):
            return Result(PASS, f"status {status}")
        advice = "Correct S3_REGION, S3_ADDRESSING or S3_PUBLIC_ENDPOINT: they are part of the signature."
        return Result(FAIL, f"status {status}", advice)

    def _check_get(self) -> Result:
        query = {"response-content-disposition": 'attachment; filename="a b.wav"'}
        url = self.service.presigner.url("GET", self.folder + "put", URL_TTL, clock_now(), query=query)
        response = self.http.request("GET", url)
        if response.status == 200 and response.data == BODY:
            return Result(PASS, f"status {response.status}")
        return Result(
            FAIL, f"status {response.status}", "Downloads fail: see the store's log and this key's permissions."
        )

    def _check_copy(self) -> Result:
        bucket, source, target = self.service.bucket, self.folder + "put", self.folder + "copy"
        stored = bucket.head(source)
        copied = stored and bucket.copy(source, target, stored.etag, "text/plain")
        if not copied or bucket.head(target) is None:
            return Result(
                FAIL, "nothing was copied", "Verified files are copied to their final key: see the store's log."
            )
        if bucket.copy(source, target, "0" * 32, "text/plain"):
            advice = "This store copies an object that has changed: a verified file may differ from the stored one."
            return Result(FAIL, "copied despite another ETag", advice)
        return Result(PASS)

    def _check_size(self) -> Result:
        signed, longer = {"Content-Length": str(len(BODY))}, BODY + b"!"
        status = self._signed_put("size", longer, signed, Content_Length=str(len(longer)))
        return _must_reject(status, "other sizes than the signed one")

    def _check_type(self) -> Result:
        status = self._signed_put("type", BODY, {"Content-Type": "audio/mpeg"}, Content_Type="text/html")
        return _must_reject(status, "other types than the signed one")

    def _check_checksum(self) -> Result:
        digest = b64encode(sha256(BODY).digest()).decode()
        status = self._signed_put("checksum", BODY.upper(), {"x-amz-checksum-sha256": digest})
        return _must_reject(status, "bytes that do not match their checksum")

    def _check_write_once(self) -> Result:
        first, second = (self._signed_put("once", BODY, {"If-None-Match": "*"}) for _ in range(2))
        if first == 200 and second in (409, 412):
            return Result(PASS, f"status {second} for the second")
        advice = ""
        if self.service.settings.write_once_put:
            advice = "Set WRITE_ONCE_PUT=0: verified files are then copied to a final key."
        return Result(UNSUPPORTED, f"status {first}, then {second}", advice)

    # --- POST policies -----------------------------------------------------------------------------------------------

    def _signed_post(
        self, name: str, max_bytes: int = 1000, content_type: str = "image/png", **fields: str
    ) -> int:  # fmt: skip
        """POST BODY with a policy for `name`, and send `fields` in place of its own; return the status."""
        presigner = self.service.presigner
        url, own = presigner.post_policy(self.folder + name, URL_TTL, clock_now(), max_bytes, "image/", "image/png")
        form: list[tuple[str, Any]] = [*{**own, "Content-Type": content_type, **fields}.items()]
        form.append(("file", ("cover.png", BODY, content_type)))
        return self.http.request("POST", url, fields=form).status

    def _check_policy(self) -> Result:
        status = self._signed_post("post")
        if 200 <= status < 300 and self.service.bucket.head(self.folder + "post") is not None:
            return Result(PASS, f"status {status}")
        advice = ""
        if self.service.settings.cover_upload == "direct":
            advice = "Set COVER_UPLOAD=relay: covers are then uploaded through the service."
        return Result(UNSUPPORTED, f"status {status}", advice)

    def _check_policy_size(self) -> Result:
        return _policy_must_reject(self._signed_post("post-size", max_bytes=10))

    def _check_policy_type(self) -> Result:
        return _policy_must_reject(self._signed_post("post-type", content_type="text/html"))

    def _check_policy_key(self) -> Result:
        return _policy_must_reject(self._signed_post("post-key", key=f"{self.folder}other"))

    # --- Multipart uploads and CORS ----------------------------------------------------------------------------------

    def _check_multipart(self) -> Result:
        bucket, key = self.service.bucket, self.folder + "parts"
        upload_id = bucket.create_multipart_upload(key, None)
        self.uploads.append((key, upload_id))
        status = self._put_part(key, upload_id)
        parts = bucket.list_parts(key, upload_id) or []
        uploaded = status == 200 and [part.size for part in parts] == [len(BODY)]
        if uploaded and bucket.complete_multipart_upload(key, upload_id, parts) and bucket.head(key) is not None:
            return Result(PASS, f"status {status}")
        advice = "Clients upload files above 64 MiB in parts: lower MAX_TRACK_BYTES, or use another store."
        return Result(UNSUPPORTED, f"status {status}", advice)

    def _put_part(self, key: str, upload_id: str) -> int:
        signed, query = {"Content-Length": str(len(BODY))}, {"partNumber": "1", "uploadId": upload_id}
        url = self.service.presigner.url("PUT", key, URL_TTL, clock_now(), signed, query)
        return self.http.request("PUT", url, body=BODY, headers=signed).status

    def _check_cors(self, origin: str) -> Result:
        presigner = self.service.presigner
        url = f"{presigner.origin}{presigner.base_path}{self.folder}put"
        for method, headers in (("PUT", "content-type,if-none-match,x-amz-checksum-sha256"), ("POST", "content-type")):
            preflight = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
            response = self.http.request("OPTIONS", url, headers={"Origin": origin, **preflight})
            if not preflight_allows(response.status, response.headers, origin, method, headers.split(",")):
                return Result(
                    FAIL, f"{method}: status {response.status}", "Run again with --fix to set the rule below."
                )
        return Result(PASS)

    def _clean_up(self) -> list[str]:
        """Remove all that was written, and return the rest: one failure does not keep the others."""
        bucket = self.service.bucket
        for key, upload_id in self.uploads:
            with suppress(ServiceError):
                bucket.abort_multipart_upload(key, upload_id)
        try:
            for item in list(bucket.list_objects(self.folder)):
                with suppress(ServiceError):
                    bucket.remove(item.key)
            remaining = [item.key for item in bucket.list_objects(self.folder)]
            return remaining + [f"parts of {key}" for key, *_ in bucket.list_multipart_uploads(self.folder)]
        except ServiceError:
            return [f"{self.folder} (cannot be listed)"]


def _check_clock(date: str | None) -> Result:
    """Compare our clock with the store's Date header."""
    try:
        skew = abs(parsedate_to_datetime(date or "").timestamp() - time())
    except ValueError:
        return Result(SKIPPED, "the store sends no Date header")
    if skew > MAX_CLOCK_SKEW:
        return Result(FAIL, f"{skew:.0f} s apart", "Synchronize both clocks by NTP.")
    return Result(PASS, f"{skew:.0f} s apart")


def _must_reject(status: int, accepted: str) -> Result:
    """Return the result of a request that the store must reject."""
    if 400 <= status < 500:
        return Result(PASS, f"status {status}")
    advice = f"This store accepts {accepted}: do not use it, or put a proxy in front that verifies signatures."
    return Result(FAIL, f"status {status}", advice)


def _policy_must_reject(status: int) -> Result:
    if 400 <= status < 500:
        return Result(PASS, f"status {status}")
    return Result(FAIL, f"status {status}", "This store does not enforce POST policies: set COVER_UPLOAD=relay.")


def _no_origin() -> Result:
    return Result(SKIPPED, "no origin was given", "Name one: --origin https://app.example.com")


def _cleanup_result(remaining: list[str]) -> Result:
    if not remaining:
        return Result(PASS)
    advice = "Allow this key to delete, abort and list (see SECURITY.md), and remove them."
    return Result(FAIL, f"not removed: {', '.join(remaining)}", advice)
