"""Checks of the configured store and database, with an advice for each cause of a failure.

The store is measured as by `flask prepare` (storage/measuring). What the service needs of it, and what the settings
demand, is `required`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from storage.clock import now as clock_now
from storage.db.errors import DATABASE_ERRORS
from storage.errors import ServiceError
from storage.http.proxies import ProxiedPoolManager
from storage.measuring import stores
from storage.measuring.probing import Observation, Probe, describe
from storage.s3 import dialects, lifecycle, object_keys
from storage.s3.dialects import ErrorResponse
from storage.s3.presign import Presigner
from storage.service import Service
from storage.settings import MAX_SINGLE_PUT_BYTES
from storage.uploads import arrivals, audit

PASS, FAIL, UNSUPPORTED, SKIPPED = "pass", "fail", "not supported", "skipped"
LIFECYCLE = "lifecycle of staging"
DATABASE_OF_BUCKET = "database of the bucket"
LIFECYCLE_DAYS = -(-arrivals.UNKNOWN_GRACE // 86_400) + 1
"""Days after which the bucket itself removes a staged object: never before the service does."""

MAX_CLOCK_SKEW = 60
"""Seconds. Stores reject a signature that is 15 minutes off, and a URL's lifetime shrinks by the skew."""

SIGNATURE_ADVICE = (
    "Correct AWS_SECRET_ACCESS_KEY. If it is right: S3_REGION or S3_ADDRESSING is not the store's, or a proxy in "
    "between changes the Host header or the path, which are signed."
)
ADVICE = {
    "SignatureDoesNotMatch": SIGNATURE_ADVICE,
    "InvalidAccessKeyId": "Correct AWS_ACCESS_KEY_ID: the store does not know this key.",
    "AccessDenied": "Allow this key what SECURITY.md lists; the store names no reason.",
    "ExpiredToken": "Replace AWS_SESSION_TOKEN and its key: they have expired.",
    "InvalidToken": "Correct AWS_SESSION_TOKEN.",
    "RequestTimeTooSkewed": "Synchronize both clocks by NTP.",
    "AuthorizationHeaderMalformed": "Correct S3_REGION: it is part of every signature.",
    "PermanentRedirect": "Correct S3_ENDPOINT: the bucket is at another one.",
    "TemporaryRedirect": "Correct S3_ENDPOINT: the bucket is at another one.",
    "InvalidBucketName": "Correct S3_BUCKET.",
    "BadRequest": "Correct S3_ENDPOINT, S3_REGION or http:// and https://: the store does not understand the request.",
}
"""Advice for the code of the store's error."""

CHECK_ADVICE = {
    "presigned GET": "Downloads fail: see the store's log and this key's permissions.",
    "ranged read": "Files are inspected by reading their first bytes: this store does not suit.",
    "ETags": "What is copied is inspected once more at its final key. JuiceFS has ETags with --keep-etag.",
    "signatures checked": "Do not use this store, or have it check signatures.",
    "PUT without a checksum": "Declare a checksum of each file, or send Content-MD5; COVER_UPLOAD=put is not used.",
    "signed size enforced": "Sizes are compared after the upload; COVER_UPLOAD=put is not used.",
    "signed type enforced": "Types are set by the copy of verified files; COVER_UPLOAD=put is not used.",
    "signed checksum enforced": "Files with a declared checksum are read to compare it.",
    "checksums told": "Files with a declared checksum are read to compare it.",
    "write-once PUT": "write_once is ignored: verified files are copied to their final key.",
    "POST policy": "Covers are uploaded by a signed PUT, or through the service.",
    "copy": "Verified files are copied to their final key: see the store's log.",
    "conditional copy": "What is copied is inspected once more at its final key.",
    "multipart": "Files are sent by one PUT each, of at most 5 GiB: lower MAX_TRACK_BYTES, or use another store.",
    "finished upload sealed": (
        "A part's URL would still change an uploaded file: files are sent by one PUT each instead, of at most 5 GiB."
    ),
    "multipart checksums": "Multipart uploads with a declared checksum are read to compare it.",
    "list uploads": "An upload in parts whose registration was interrupted is left to the bucket's lifecycle rule.",
    "list objects": "Uploads are asked for key by key; allow s3:ListBucket if the key lacks it.",
    "batch delete": "Objects are deleted one by one.",
    "cleanup": "Allow this key to delete and abort (see SECURITY.md), and remove them.",
}
"""Advice for a check that fails, whatever its cause: what the service does instead, or what has to be done."""


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


class Doctor:
    """Checks one service. `origins` are the sites whose browsers upload."""

    def __init__(self, service: Service, origins: Sequence[str] = ()):
        self.service, self.origins = service, origins
        self.http = ProxiedPoolManager(timeout=urllib3.Timeout(5), retries=False)

    def run_checks(self) -> Generator[Check, None, None]:
        """Yield every check once it has run. Checks of a store that is not usable are `skipped`."""
        database = Check("database", *self._check_database(), required=True)
        yield database
        basics = [*self._check_store(), self._check_public_endpoint()]
        yield from basics
        if all(check.outcome == PASS for check in basics if check.name != "clock"):
            yield from self._measure(record=database.outcome == PASS)
        else:
            yield from self._skip_measurements()

    def _measure(self, *, record: bool) -> Iterator[Check]:
        for observation in stores.measure(self.service, self.origins, record=record):
            yield self._check(observation)
        if not self.origins:
            yield Check("CORS", SKIPPED, "no origin was given", "Name one: --origin https://app.example.com", False)
        yield Check(LIFECYCLE, *self._check_lifecycle(), required=False)
        yield Check(DATABASE_OF_BUCKET, *self._check_database_of_bucket(), required=False)
        for sentence in self.service.problems:
            yield Check("settings", FAIL, "", sentence, required=True)

    def _skip_measurements(self) -> Iterator[Check]:
        for name in Probe(self.service.settings, origins=self.origins).names:
            yield Check(name, SKIPPED, "the store must be usable first", "", self._is_required(name))

    def _check(self, observation: Observation) -> Check:
        name, ok, detail, _ = observation
        required = self._is_required(name)
        if ok:
            return Check(name, PASS, detail, "", required)
        advice = CHECK_ADVICE.get(name, "")
        if name == "presigned PUT":
            advice = next((advice for code, advice in ADVICE.items() if code in detail), SIGNATURE_ADVICE)
        if name.startswith("CORS"):
            advice = "Run again with --fix to set the rule below."
        return Check(name, FAIL if required else UNSUPPORTED, detail, advice, required)

    def _is_required(self, name: str) -> bool:
        settings = self.service.settings
        if name == "signatures checked":
            return not settings.allow_unsigned_store
        if name in ("multipart", "finished upload sealed"):
            return settings.max_track_bytes > MAX_SINGLE_PUT_BYTES
        if name.startswith("POST policy"):
            return settings.cover_upload == "form"
        if name in ("signed size enforced", "signed type enforced"):
            return settings.cover_upload == "put"
        settled = {"write-once PUT": settings.write_once_put, "signed checksum enforced": settings.checksum_headers}
        always = ("presigned PUT", "presigned GET", "ranged read", "copy", "cleanup")
        return settled.get(name) == "1" or name in always or name.startswith("CORS for")

    # --- Basics ------------------------------------------------------------------------------------------------------

    def _check_database(self) -> Result:
        try:
            self.service.execute("SELECT count(*) FROM loadbay_store", ()).fetchall()
        except DATABASE_ERRORS as e:
            if "no such table" in str(e) or "does not exist" in str(e):
                return Result(FAIL, "tables are missing", f"Run: {self.service.command} prepare")
            return Result(FAIL, "unreachable", "Start the database, or correct DATABASE_URL.")
        return Result(PASS)

    def _check_store(self) -> Iterator[Check]:
        """Yield the checks without which no other makes sense, up to the first that fails."""
        endpoint = self.service.settings.s3_endpoint
        problem = self._connection_problem(endpoint, "S3_ENDPOINT")
        yield Check("store reachable", *(problem or Result(PASS, endpoint)), required=True)
        if problem:
            return
        clock = check_clock(stores.clock_skew(endpoint))
        yield Check("clock", *clock, required=clock.outcome != SKIPPED)
        yield from self._check_bucket()

    def _connection_problem(self, endpoint: str, setting: str) -> Result | None:
        """Return why an endpoint cannot be used, or None where an S3 store answers there."""
        try:
            response = self.http.request("GET", endpoint, redirect=False)
        except HTTPError as e:
            return Result(FAIL, f"{endpoint}: {type(e).__name__}", connection_advice(e, setting))
        content_type = response.headers.get("Content-Type", "")
        is_page = content_type.startswith("text/html") and b"<Error" not in response.data[:512]
        if response.status >= 400 and is_page and not self._speaks_s3(endpoint):
            server = response.headers.get("Server", "another server")
            detail = f"{endpoint}: status {response.status} with a page of {server}"
            return Result(FAIL, detail, f"A proxy or another server answers in place of the store: correct {setting}.")
        return None

    def _speaks_s3(self, endpoint: str) -> bool:
        """Return True where a signed request is answered as by S3: Swift answers one that is not signed with a page."""
        service = self.service
        settings, bucket = service.settings, service.bucket
        presigner = Presigner(endpoint, bucket.name, bucket.credentials, bucket.region, settings.s3_addressing)
        url = presigner.url("GET", f"{settings.s3_prefix}.doctor/none", 60, clock_now())
        try:
            response = self.http.request("GET", url, redirect=False)
        except HTTPError:
            return False
        return dialects.parse_error(response.status, response.headers, response.data).is_s3

    def _check_bucket(self) -> Iterator[Check]:
        bucket, settings = self.service.bucket, self.service.settings
        try:
            exists = bucket.exists()
        except ServiceError as e:
            yield Check("credentials", FAIL, describe(e), error_advice(e), required=True)
            return
        yield Check("credentials", PASS, "", "", required=True)
        if bucket.region != settings.s3_region:
            advice = f"Set S3_REGION={bucket.region}: URLs for clients are signed for {settings.s3_region}."
            yield Check("region", FAIL, f"the bucket is in {bucket.region}", advice, required=True)
        advice = "" if exists else f"Run: {self.service.command} prepare"
        yield Check("bucket", PASS if exists else FAIL, settings.s3_bucket, advice, required=True)

    def _check_public_endpoint(self) -> Check:
        problem = self._connection_problem(self.service.presigner.origin, "S3_PUBLIC_ENDPOINT or S3_ADDRESSING")
        return Check("public endpoint", *(problem or Result(PASS, self.service.presigner.origin)), required=True)

    def _check_database_of_bucket(self) -> Result:
        try:
            warning = audit.describe_new_database(self.service)
        except (ServiceError, *DATABASE_ERRORS):
            return Result(UNSUPPORTED, "the objects cannot be listed")
        return Result(FAIL, "no session, but objects", warning) if warning else Result(PASS)

    # --- Lifecycle rules ----------------------------------------------------------------------------------------------

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


def check_clock(skew: int | None) -> Result:
    """Return the result for the seconds by which the store's clock is ahead."""
    if skew is None:
        return Result(SKIPPED, "the store sends no Date header")
    if abs(skew) > MAX_CLOCK_SKEW:
        return Result(FAIL, f"{abs(skew)} s apart", "Synchronize both clocks by NTP.")
    return Result(PASS, f"{abs(skew)} s apart")


def connection_advice(error: Exception, setting: str) -> str:
    """Return the advice for a connection that fails, by its cause."""
    cause = getattr(error, "reason", None) or error
    if isinstance(cause, NameResolutionError):
        return f"The host's name is not known here: correct {setting}, or the DNS."
    if isinstance(cause, SSLError):
        return f"TLS fails: install the store's CA (SSL_CERT_FILE), or correct http:// and https:// in {setting}."
    # A ConnectTimeoutError of its own in urllib3.
    if isinstance(cause, NewConnectionError):
        return f"Nothing listens there: start the store, or correct {setting}."
    if isinstance(cause, (ConnectTimeoutError, ReadTimeoutError)):
        return f"No answer: open the way to it (firewall, network), or correct {setting}."
    if isinstance(cause, ProtocolError):
        return f"What answers does not speak HTTP: correct http:// and https:// in {setting}."
    return f"Start the store, or correct {setting}."


def error_advice(error: Exception) -> str:
    """Return the advice for a request that the store has rejected, by the permission that it lacks or by its code."""
    cause = error.__cause__
    if not isinstance(cause, ErrorResponse):
        return "The store did not answer: see its log."
    if cause.code == "AccessDenied" and "permission" in describe(error):
        return f"Allow this key {describe(error).rpartition('permission ')[2].rstrip(')')} (see SECURITY.md)."
    return ADVICE.get(cause.code, ADVICE["AccessDenied"])
