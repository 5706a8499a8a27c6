"""A look at the configured store and database, as the service and its clients use them.

Every check is a real request: signed by the presigner, sent to the public endpoint, its answer taken as it comes.
What is written lies below `.doctor/` and is removed at the end, whatever happens.
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
from storage.s3.cors import preflight_allows
from storage.service import Service

PASS, FAIL, UNSUPPORTED, SKIPPED = "pass", "fail", "not supported", "skipped"
CLIENT_MULTIPART_THRESHOLD = 64 * 2**20
"""Bytes above which our own clients, the page and `flask upload`, send a file in parts."""
BODY = b"loadbay asks whether this can be written\n"
MAX_CLOCK_SKEW = 60
"""Seconds. Stores refuse a signature that is 15 minutes off; a URL's time shrinks by as much as the clocks differ."""


class Check(NamedTuple):
    """One thing that was looked at: its outcome, what was seen, and what to do about it.

    `needed` where the configuration cannot do without.
    """

    name: str
    outcome: str
    seen: str = ""
    advice: str = ""
    needed: bool = True


class Doctor:
    """Looks at one service. `origins` are the sites whose browsers are to upload."""

    def __init__(self, service: Service, origins: Sequence[str] = ()):
        self.service, self.origins = service, origins
        self.folder = f"{service.settings.s3_prefix}.doctor/{secrets.token_hex(8)}/"
        self.http = urllib3.PoolManager(timeout=urllib3.Timeout(5), retries=False)
        self.uploads: list[tuple[str, str]] = []

    def run_checks(self) -> Iterator[Check]:
        """Every check in its order, as it is made. Checks that cannot be made for want of another are `skipped`."""
        yield self._database()
        store = list(self._store())
        yield from store
        public = self._public()
        yield public
        well = all(check.outcome == PASS for check in (*store, public) if check.name != "clock")
        try:
            for name, needed, look in self._store_checks():
                yield look() if well else Check(name, SKIPPED, "the store must be well first", needed=needed)
        finally:
            left = self._clean() if well else []
        if well:
            advice = "Let this key delete, abort and list (see SECURITY.md), and remove them." if left else ""
            seen = f"left: {', '.join(left)}" if left else ""
            yield Check("cleaned up", FAIL if left else PASS, seen, advice)

    def _store_checks(self) -> Iterator[tuple[str, bool, Callable[[], Check]]]:
        settings = self.service.settings
        direct = settings.cover_upload == "direct"
        in_parts = settings.max_track_bytes > min(settings.multipart_threshold_bytes, CLIENT_MULTIPART_THRESHOLD)
        looks: list[tuple[str, bool, Callable[[str, bool], Check]]] = [
            ("presigned PUT", True, self._put),
            ("presigned GET", True, self._get),
            ("copy, for sealing", True, self._copy),
            ("signed size enforced", True, self._size),
            ("signed type enforced", True, self._type),
            ("signed checksum enforced", True, self._checksum),
            ("write-once PUT", settings.write_once_put, self._write_once),
            ("POST policy", direct, self._policy),
            ("POST policy: size enforced", direct, self._policy_size),
            ("POST policy: type enforced", direct, self._policy_type),
            ("POST policy: key enforced", direct, self._policy_key),
            ("multipart", in_parts, self._multipart),
        ]
        looks += [(f"CORS for {origin}", True, partial(self._cors, origin)) for origin in self.origins]
        if not self.origins:
            looks.append(("CORS", False, self._no_cors))
        for name, needed, look in looks:
            yield name, needed, lambda look=look, name=name, needed=needed: self._run_check(look, name, needed)  # type: ignore[misc]

    def _run_check(self, look: Callable[[str, bool], Check], name: str, needed: bool) -> Check:
        try:
            return look(name, needed)
        except (ServiceError, urllib3.exceptions.HTTPError) as e:
            return Check(name, FAIL, type(e).__name__, "The store broke off: see its log.", needed)

    # --- Is it there? ---

    def _database(self) -> Check:
        try:
            self.service.execute("SELECT count(*) FROM loadbay_api_key", ()).fetchall()
        except DATABASE_ERRORS as e:
            missing = "no such table" in str(e) or "does not exist" in str(e)
            advice = "Run: flask --app app prepare" if missing else "Start the database, or mend DATABASE_URL."
            return Check("database", FAIL, "tables are missing" if missing else "cannot be reached", advice)
        return Check("database", PASS)

    def _store(self) -> Iterator[Check]:
        settings = self.service.settings
        try:
            date = self.http.request("GET", settings.s3_endpoint).headers.get("Date")
        except urllib3.exceptions.HTTPError:
            yield Check("store reachable", FAIL, settings.s3_endpoint, "Start the store, or mend S3_ENDPOINT.")
            return
        yield Check("store reachable", PASS, settings.s3_endpoint)
        yield self._clock(date)
        try:
            there = self.service.bucket.exists()
        except ServiceError as e:
            code = e.__cause__.code if isinstance(e.__cause__, S3Error) else "no answer"
            advice = "Mend AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what this key may do (see SECURITY.md)."
            yield Check("credentials", FAIL, str(code), advice)
            return
        yield Check("credentials", PASS)
        advice = "" if there else "Run: flask --app app prepare"
        yield Check("bucket", PASS if there else FAIL, settings.s3_bucket, advice)

    def _clock(self, date: str | None) -> Check:
        try:
            skew = abs(parsedate_to_datetime(date or "").timestamp() - time())
        except ValueError:
            return Check("clock", SKIPPED, "the store tells no time", needed=False)
        advice = "Set both clocks by NTP." if skew > MAX_CLOCK_SKEW else ""
        return Check("clock", FAIL if advice else PASS, f"{skew:.0f} s apart", advice)

    def _public(self) -> Check:
        origin = self.service.presigner.origin
        try:
            self.http.request("GET", origin)
        except urllib3.exceptions.HTTPError:
            advice = "Mend S3_PUBLIC_ENDPOINT: it is what clients are sent to, and must be reached from here, too."
            return Check("public endpoint", FAIL, origin, advice)
        return Check("public endpoint", PASS, origin)

    # --- Does it hold to what is signed? ---

    def _signed_put(self, key: str, body: bytes, signed: Mapping[str, str], **sent: str) -> int:
        """PUT `body` to a URL that binds `signed`, with `sent` in place of some of it; returns the status."""
        url = self.service.presigner.url("PUT", self.folder + key, 60, clock_now(), signed)
        headers = {**signed, **{name.replace("_", "-"): value for name, value in sent.items()}}
        return self.http.request("PUT", url, body=body, headers=headers).status

    def _put(self, name: str, needed: bool) -> Check:
        status = self._signed_put("put", BODY, {"Content-Length": str(len(BODY))})
        there = self.service.bucket.head(self.folder + "put")
        well = status == 200 and there is not None and there.size == len(BODY)
        advice = "" if well else "Mend S3_REGION, S3_ADDRESSING or S3_PUBLIC_ENDPOINT: they are part of what is signed."
        return Check(name, PASS if well else FAIL, f"answered {status}", advice, needed)

    def _get(self, name: str, needed: bool) -> Check:
        query = {"response-content-disposition": 'attachment; filename="a b.wav"'}
        url = self.service.presigner.url("GET", self.folder + "put", 60, clock_now(), query=query)
        answer = self.http.request("GET", url)
        well = answer.status == 200 and answer.data == BODY
        advice = "" if well else "Nothing can be downloaded: see the store's log, and what this key may do."
        return Check(name, PASS if well else FAIL, f"answered {answer.status}", advice, needed)

    def _copy(self, name: str, needed: bool) -> Check:
        bucket, source, target = self.service.bucket, self.folder + "put", self.folder + "copy"
        found = bucket.head(source)
        copied = found is not None and bucket.copy(source, target, found.etag) and bucket.head(target) is not None
        if not copied:
            advice = "What arrives is sealed by copying: see the store's log."
            return Check(name, FAIL, "no copy was made", advice, needed)
        if bucket.copy(source, target, "0" * 32):
            advice = "This store copies what was changed meanwhile, so that what was checked may not be what is kept."
            return Check(name, FAIL, "copied under another ETag", advice, needed)
        return Check(name, PASS, needed=needed)

    def _refused(self, name: str, needed: bool, status: int, what: str) -> Check:
        """A check that the store refuses what it must."""
        if 400 <= status < 500:
            return Check(name, PASS, f"answered {status}", needed=needed)
        advice = f"This store takes {what}: do not use it, or put a proxy before it that checks signatures."
        return Check(name, FAIL, f"answered {status}", advice, needed)

    def _size(self, name: str, needed: bool) -> Check:
        status = self._signed_put(
            "size", BODY + b"!", {"Content-Length": str(len(BODY))}, Content_Length=str(len(BODY) + 1)
        )
        return self._refused(name, needed, status, "other sizes than were signed")

    def _type(self, name: str, needed: bool) -> Check:
        status = self._signed_put("type", BODY, {"Content-Type": "audio/mpeg"}, Content_Type="text/html")
        return self._refused(name, needed, status, "other types than were signed")

    def _checksum(self, name: str, needed: bool) -> Check:
        digest = b64encode(sha256(BODY).digest()).decode()
        status = self._signed_put("checksum", BODY.upper(), {"x-amz-checksum-sha256": digest})
        return self._refused(name, needed, status, "bytes that do not have their checksum")

    def _write_once(self, name: str, needed: bool) -> Check:
        first, second = (self._signed_put("once", BODY, {"If-None-Match": "*"}) for _ in range(2))
        if first == 200 and second in (409, 412):
            return Check(name, PASS, f"answered {second} to the second", needed=needed)
        advice = "Set WRITE_ONCE_PUT=0: what arrives is then sealed by copying." if needed else ""
        return Check(name, UNSUPPORTED, f"answered {first}, then {second}", advice, needed)

    def _signed_post(
        self, place: str, body: bytes, most: int = 1000, content_type: str = "image/png", **other: str
    ) -> int:
        """POST a form to a policy for `place`, with `other` fields in place of its own; returns the status."""
        now, presigner = clock_now(), self.service.presigner
        url, fields = presigner.post_policy(self.folder + place, 60, now, most, "image/", "image/png")
        form: list[tuple[str, Any]] = [*{**fields, "Content-Type": content_type, **other}.items()]
        form.append(("file", ("cover.png", body, content_type)))
        return self.http.request("POST", url, fields=form).status

    def _policy(self, name: str, needed: bool) -> Check:
        status = self._signed_post("post", BODY)
        well = 200 <= status < 300 and self.service.bucket.head(self.folder + "post") is not None
        advice = "Set COVER_UPLOAD=relay: covers then go through the service." if needed and not well else ""
        return Check(name, PASS if well else UNSUPPORTED, f"answered {status}", advice, needed)

    def _policy_size(self, name: str, needed: bool) -> Check:
        return self._relay(self._refused(name, needed, self._signed_post("post-size", BODY, most=10), ""))

    def _policy_type(self, name: str, needed: bool) -> Check:
        return self._relay(
            self._refused(name, needed, self._signed_post("post-type", BODY, content_type="text/html"), "")
        )

    def _policy_key(self, name: str, needed: bool) -> Check:
        return self._relay(
            self._refused(name, needed, self._signed_post("post-key", BODY, key=f"{self.folder}other"), "")
        )

    def _relay(self, check: Check) -> Check:
        advice = "This store does not hold to policies: set COVER_UPLOAD=relay." if check.outcome == FAIL else ""
        return check._replace(advice=advice)

    def _multipart(self, name: str, needed: bool) -> Check:
        bucket, key = self.service.bucket, self.folder + "parts"
        upload = bucket.create_multipart_upload(key, None)
        self.uploads.append((key, upload))
        query = {"partNumber": "1", "uploadId": upload}
        signed = {"Content-Length": str(len(BODY))}
        url = self.service.presigner.url("PUT", key, 60, clock_now(), signed, query)
        status = self.http.request("PUT", url, body=BODY, headers=signed).status
        parts = bucket.list_parts(key, upload) or []
        joined = status == 200 and [part.size for part in parts] == [len(BODY)]
        joined = joined and bucket.complete_multipart_upload(key, upload, parts) and bucket.head(key) is not None
        advice = "" if joined else "Files above 64 MiB come in parts, which it does not take: lower MAX_TRACK_BYTES."
        return Check(name, PASS if joined else UNSUPPORTED, f"answered {status}", advice, needed)

    def _cors(self, origin: str, name: str, needed: bool) -> Check:
        presigner = self.service.presigner
        url = f"{presigner.origin}{presigner.base_path}{self.folder}put"
        for method, headers in (("PUT", "content-type,if-none-match,x-amz-checksum-sha256"), ("POST", "content-type")):
            asked = {"Origin": origin, "Access-Control-Request-Method": method}
            asked["Access-Control-Request-Headers"] = headers
            answer = self.http.request("OPTIONS", url, headers=asked)
            if not preflight_allows(answer.status, answer.headers, origin, method, headers.split(",")):
                advice = "Run this again with --fix, which sets the rule below."
                return Check(name, FAIL, f"{method}: answered {answer.status}", advice, needed)
        return Check(name, PASS, needed=needed)

    def _no_cors(self, name: str, needed: bool) -> Check:
        return Check(name, SKIPPED, "no site was named", "Name one: --origin https://app.example.com", needed)

    def _clean(self) -> list[str]:
        """Remove all that was written; returns what is left. One that cannot be removed keeps no other."""
        bucket = self.service.bucket
        for key, upload in self.uploads:
            with suppress(ServiceError):
                bucket.abort_multipart_upload(key, upload)
        try:
            for item in list(bucket.list_objects(self.folder)):
                with suppress(ServiceError):
                    bucket.remove(item.key)
            left = [item.key for item in bucket.list_objects(self.folder)]
            return left + [f"parts of {key}" for key, *_ in bucket.list_multipart_uploads(self.folder)]
        except ServiceError:
            return [f"what is below {self.folder}, which cannot be listed"]
