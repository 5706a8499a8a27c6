"""The measurement of a store: real requests as the service and its clients send them, and what comes of each.

All objects are written below `.doctor/`, the deployment's id and a random name of the run's own. Each key is noted
before it is written, and removed at the end, whatever happens. What a killed process leaves is removed by the next
measurement of the same deployment.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from io import BytesIO
from typing import Any, NamedTuple

import urllib3

from storage.clock import now as clock_now
from storage.errors import ServiceError
from storage.formats.checksums import ALGORITHMS, Algorithm, Checksum, ChecksumReader
from storage.http.proxies import ProxiedPoolManager
from storage.s3 import dialects
from storage.s3.bucket import Bucket, content_md5
from storage.s3.choices import Choices
from storage.s3.cors import preflight_allows
from storage.s3.dialects import ErrorResponse
from storage.s3.errors import ChecksumMismatch, StorageFault
from storage.s3.presign import Presigner
from storage.settings import Settings

BODY = b"loadbay: written to measure the store\n"
OTHER = BODY.upper()
"""Other bytes of the same size."""

URL_TTL = 60
TIMEOUT = urllib3.Timeout(connect=5, read=5)
"""No client waits for a measurement, so that a busy store has more time than in a request of the API."""

PAGE_HEADERS = ("content-type", "if-none-match", "x-amz-checksum-sha256")
"""Headers that the upload page sends with a file, besides those of the settings."""

FUTURE = 3600
"""Seconds by which a URL is dated ahead, more than any clock should differ."""

LEFT_BEHIND_AFTER = 900
"""Seconds after which what lies below a deployment's name is of no measurement that may still be running."""

CRCS: tuple[Algorithm, ...] = ("crc64nvme", "crc32c")
PERMISSIONS = {
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "GetObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CopyObject": "s3:PutObject and s3:GetObject",
    "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject",
    "CreateMultipartUpload": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "ListParts": "s3:ListMultipartUploadParts",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "CreateBucket": "s3:CreateBucket",
}
"""The permission that each request of the service needs."""


class Observation(NamedTuple):
    """The result of one measurement: `ok` is None where it could not be made, and `detail` says what came.

    `abilities` are those that it shows, by name.
    """

    name: str
    ok: bool | None
    detail: str
    abilities: Mapping[str, Any] = {}


class Answer(NamedTuple):
    """The status of a response, with the code of its error in words."""

    status: int
    text: str

    @property
    def accepted(self) -> bool:
        """Return True for a success."""
        return 200 <= self.status < 300

    @property
    def rejected(self) -> bool:
        """Return True for a request that the store did not carry out, and blames on the client."""
        return 400 <= self.status < 500 or self.status == 501


Result = tuple[bool | None, str, dict[str, Any]]
"""Outcome and detail of a measurement, with the abilities that it shows."""

Step = Callable[[], Result]


class Probe:
    """Measures one bucket. `endpoint` is the URL that presigned requests are sent to, as those of clients are.

    `owner` is the deployment's id, if it is known.
    """

    def __init__(self, settings: Settings, endpoint: str | None = None, origins: Sequence[str] = (), owner: str = ""):
        self.settings, self.endpoint, self.origins = settings, endpoint or settings.s3_endpoint, origins
        self.bucket = Bucket(settings, timeout=TIMEOUT)
        # Everything that the store may be able to do is tried.
        self.bucket.choices = Choices(whole_checksums=CRCS)
        self.home = f"{settings.s3_prefix}.doctor/{owner}/" if owner else ""
        self.folder = f"{self.home or f'{settings.s3_prefix}.doctor/'}{secrets.token_hex(8)}/"
        self.http = ProxiedPoolManager(timeout=TIMEOUT, retries=False)
        self.keys: list[str] = []
        self.uploads: list[tuple[str, str]] = []

    @property
    def names(self) -> list[str]:
        """The names of all measurements, in order."""
        return [name for name, _, _ in self._steps()]

    def measure(self) -> Generator[Observation, None, None]:
        """Yield each observation as soon as it is made, until the store proves unusable. Cleans up at the end."""
        try:
            for name, abilities, step in self._steps():
                observation = self._observe(name, abilities, step)
                yield observation
                if name == "presigned PUT" and not observation.ok:
                    return
            with suppress(ServiceError):
                self._remove_left_behind()
        finally:
            remaining = finish(self.clean_up)
        advice = f"not removed: {', '.join(remaining)}" if remaining else ""
        yield Observation("cleanup", not remaining, advice)

    def _steps(self) -> list[tuple[str, tuple[str, ...], Step]]:
        """Return the measurements in order: name, the abilities that are False if it fails, and the step."""
        return [
            ("presigned PUT", (), self._put),
            ("presigned GET", (), self._get),
            ("ranged read", ("ranges",), self._ranges),
            ("ETags", ("etags",), self._etags),
            ("signatures checked", ("signatures",), self._signatures),
            ("URLs dated in the future", (), self._future_urls),
            ("PUT without a checksum", ("plain_put",), self._plain_put),
            ("signed size enforced", ("signed_size",), self._size),
            ("signed type enforced", ("signed_type",), self._type),
            ("signed checksum enforced", (), self._checksums),
            ("checksums told", ("checksum_mode",), self._reported),
            ("write-once PUT", ("conditional_put",), self._write_once),
            ("POST policy", ("post_policy", "enforced_policy"), self._policy),
            ("POST policy: size enforced", ("enforced_policy",), self._policy_size),
            ("POST policy: type enforced", ("enforced_policy",), self._policy_type),
            ("POST policy: key enforced", ("enforced_policy",), self._policy_key),
            ("POST policy: signature checked", ("enforced_policy",), self._policy_signature),
            ("copy", ("copy",), self._copy),
            ("conditional copy", ("conditional_copy",), self._conditional_copy),
            ("multipart", ("multipart",), self._multipart),
            ("finished upload sealed", ("sealed_parts",), self._sealed_parts),
            ("multipart checksums", (), self._whole_checksums),
            ("list uploads", ("upload_listing",), self._list_uploads),
            ("list objects", ("object_listing",), self._list_objects),
            ("batch delete", ("batch_delete",), self._batch_delete),
            ("versions", (), self._versions),
            *[(f"CORS for {origin}", (), self._cors_step(origin)) for origin in self.origins],
        ]

    def _observe(self, name: str, abilities: Sequence[str], step: Step) -> Observation:
        try:
            ok, detail, observed = step()
        except (ServiceError, urllib3.exceptions.HTTPError) as e:
            ok = False if isinstance(e, StorageFault) else None
            return Observation(name, ok, describe(e), dict.fromkeys(abilities, ok))
        if ok is False:
            observed = {**dict.fromkeys(abilities, False), **observed}
        return Observation(name, ok, detail, observed)

    # --- Requests -----------------------------------------------------------------------------------------------------

    @property
    def presigner(self) -> Presigner:
        """The presigner for clients, in the region that the store has named."""
        settings, bucket = self.settings, self.bucket
        return Presigner(self.endpoint, bucket.name, bucket.credentials, bucket.region, settings.s3_addressing)

    def _key(self, name: str) -> str:
        key = self.folder + name
        if key not in self.keys:
            self.keys.append(key)
        return key

    def _url(
        self,
        method: str,
        name: str,
        signed: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        *,
        ahead: int = 0,
    ) -> str:
        """Return a presigned URL that is dated `ahead` seconds from now."""
        return self.presigner.url(method, self._key(name), URL_TTL, clock_now() + ahead, signed, query)

    def _request(self, method: str, url: str, **options: Any) -> Answer:
        response = self.http.request(method, url, redirect=False, **options)
        if 200 <= response.status < 300:
            return Answer(response.status, f"status {response.status}")
        error = dialects.parse_error(response.status, response.headers, response.data)
        return Answer(response.status, f"status {response.status}" + (f" {error.code}" if error.is_s3 else ""))

    def _signed_put(
        self, name: str, body: bytes, signed: Mapping[str, str], sent: Mapping[str, str] | None = None
    ) -> Answer:
        """PUT a body to a URL that signs the headers `signed`, with the headers `sent` in their place.

        The body's MD5 goes with it, as a bucket with Object Lock demands where there is no other checksum.
        """
        written = self.bucket.write_headers.staged
        headers = {"Content-MD5": content_md5(body), **written, **(signed if sent is None else sent)}
        return self._request("PUT", self._url("PUT", name, {**written, **signed}), body=body, headers=headers)

    def _content(self, name: str) -> bytes | None:
        observed = self.bucket.stat_and_read(self._key(name), 2 * len(BODY))
        return None if observed is None else observed[1]

    # --- Presigned URLs -----------------------------------------------------------------------------------------------

    def _put(self) -> Result:
        answer = self._signed_put("put", BODY, {"Content-Length": str(len(BODY))})
        stored = self.bucket.head(self._key("put"))
        return answer.accepted and stored is not None and stored.size == len(BODY), answer.text, self._region()

    def _region(self) -> dict[str, Any]:
        return {"region": self.bucket.region if self.bucket.region != self.settings.s3_region else None}

    def _get(self) -> Result:
        query = {"response-content-disposition": 'attachment; filename="a b.wav"'}
        response = self.http.request("GET", self._url("GET", "put", query=query), redirect=False)
        return response.status == 200 and response.data == BODY, f"status {response.status}", {}

    def _ranges(self) -> Result:
        observed, key = self.bucket.stat_and_read(self._key("put"), 7), self._key("put")
        if observed is None or observed[1] != BODY[:7] or observed[0].size != len(BODY):
            return False, "not the range that was requested", {}
        middle = self.bucket.read_range(key, observed[0].etag, 3, 5)
        return middle == BODY[3:8], "", {"ranges": middle == BODY[3:8]}

    def _etags(self) -> Result:
        self._signed_put("other", OTHER, {})
        etags = [info.etag for name in ("put", "other") if (info := self.bucket.head(self._key(name)))]
        if len(etags) < 2 or any(map(dialects.is_weak, etags)):
            return False, "none", {}
        return len(set(etags)) == 2, "", {"etags": len(set(etags)) == 2}

    def _signatures(self) -> Result:
        url, expired = self._url("PUT", "unsigned"), self._url("PUT", "unsigned", ahead=-2 * URL_TTL)
        attempts = {
            "unsigned": ("PUT", url.partition("?")[0]),
            "forged": ("PUT", url[:-8] + ("0" * 8 if url[-8:] != "0" * 8 else "1" * 8)),
            "for another key": ("PUT", url.replace("/unsigned?", "/forged?")),
            "for another method": ("DELETE", url),
            "expired": ("PUT", expired),
        }
        self._key("forged")
        accepted = [name for name, (method, url) in attempts.items() if not self._rejects(method, url)]
        detail = f"accepted: {', '.join(accepted)}" if accepted else ""
        return not accepted, detail, {"signatures": not accepted}

    def _rejects(self, method: str, url: str) -> bool:
        return self._request(method, url, body=BODY if method == "PUT" else None).rejected

    def _future_urls(self) -> Result:
        answer = self._request("GET", self._url("GET", "put", ahead=FUTURE))
        return True, "accepted" if answer.accepted else "rejected", {"future_urls": answer.accepted}

    def _plain_put(self) -> Result:
        written = self.bucket.write_headers.staged
        answer = self._request("PUT", self._url("PUT", "plain", written), body=BODY, headers=dict(written))
        return answer.accepted, answer.text, {"plain_put": answer.accepted}

    def _size(self) -> Result:
        signed, bodies = {"Content-Length": str(len(BODY))}, (BODY + b"!", BODY[1:])
        answers = [self._signed_put("size", body, signed, {"Content-Length": str(len(body))}) for body in bodies]
        return _all_rejected(answers, "signed_size")

    def _type(self) -> Result:
        signed = {"Content-Type": "audio/mpeg"}
        answers = [self._signed_put("type", BODY, signed, sent) for sent in ({"Content-Type": "text/html"}, {})]
        return _all_rejected(answers, "signed_type")

    # --- Checksums ----------------------------------------------------------------------------------------------------

    def _checksums(self) -> Result:
        enforced = self._enforced([])
        with_header = False
        if not enforced:
            # Ceph: https://docs.ceph.com/en/latest/radosgw/s3/
            enforced, with_header = self._enforced(["x-amz-sdk-checksum-algorithm"]), True
        detail = ", ".join(enforced) or "none"
        abilities = {"enforced_checksums": enforced, "checksum_algorithm_header": with_header and bool(enforced)}
        return bool(enforced), detail, abilities

    def _enforced(self, other_headers: Sequence[str]) -> tuple[Algorithm, ...]:
        return tuple(algorithm for algorithm in ALGORITHMS if self._enforces(algorithm, other_headers))

    def _enforces(self, algorithm: Algorithm, other_headers: Sequence[str]) -> bool:
        """Return True where right bytes are accepted, and others with the signed header, with their own, or without."""
        right, wrong = ({**checksum_of(body, algorithm).headers()} for body in (BODY, OTHER))
        extra = {name: algorithm.upper() for name in other_headers}
        name, signed = f"checksum-{algorithm}", {**right, **extra}
        sent: list[dict[str, str]] = [signed, {**wrong, **extra}, {}]
        return (
            all(self._signed_put(f"{name}-wrong", OTHER, signed, headers).rejected for headers in sent)
            and self._signed_put(name, BODY, signed).accepted
        )

    def _reported(self) -> Result:
        signed = {"x-amz-checksum-mode": "ENABLED"}
        if not self._request("HEAD", self._url("HEAD", "put", signed), headers=signed).accepted:
            return False, "x-amz-checksum-mode is rejected", {}
        reported = tuple(algorithm for algorithm in ALGORITHMS if self._reports(algorithm, signed))
        return bool(reported), ", ".join(reported) or "none", {"checksum_mode": True, "reported_checksums": reported}

    def _reports(self, algorithm: Algorithm, signed: Mapping[str, str]) -> bool:
        name = f"checksum-{algorithm}"
        if self._key(name) and not self._request("HEAD", self._url("HEAD", name)).accepted:
            self._signed_put(name, BODY, checksum_of(BODY, algorithm).headers())
        response = self.http.request("HEAD", self._url("HEAD", name, signed), headers=dict(signed), redirect=False)
        return response.headers.get(f"x-amz-checksum-{algorithm}") == checksum_of(BODY, algorithm).value

    def _whole_checksums(self) -> Result:
        whole = tuple(algorithm for algorithm in CRCS if self._compares_whole(algorithm))
        return bool(whole), ", ".join(whole) or "none", {"whole_checksums": whole}

    def _compares_whole(self, algorithm: Algorithm) -> bool:
        key = self._key(f"whole-{algorithm}")
        upload_id = self._upload_part(key, BODY, checksum_of(BODY, algorithm))
        parts = self.bucket.list_parts(key, upload_id) or []
        try:
            self.bucket.complete_multipart_upload(key, upload_id, parts, checksum_of(OTHER, algorithm))
        except ChecksumMismatch:
            self.bucket.complete_multipart_upload(key, upload_id, parts, checksum_of(BODY, algorithm))
            return self._reports_whole(key, algorithm)
        return False

    def _reports_whole(self, key: str, algorithm: Algorithm) -> bool:
        signed = {"x-amz-checksum-mode": "ENABLED"}
        url = self._url("HEAD", key.removeprefix(self.folder), signed)
        headers = self.http.request("HEAD", url, headers=signed, redirect=False).headers
        info = dialects.object_info(key, len(BODY), headers)
        return info.checksums.get(algorithm) == checksum_of(BODY, algorithm).value

    # --- Conditions and copies ----------------------------------------------------------------------------------------

    def _write_once(self) -> Result:
        signed = {"If-None-Match": "*"}
        first = self._signed_put("once", BODY, signed)
        second, without = self._signed_put("once", OTHER, signed), self._signed_put("once", OTHER, signed, {})
        honored = first.accepted and second.status in (409, 412) and without.rejected and self._content("once") == BODY
        return honored, f"{first.text}, then {second.status}", {"conditional_put": honored}

    def _copy(self) -> Result:
        disposition = {"Content-Disposition": "attachment", "Content-Type": "text/html"}
        self._signed_put("source", BODY, disposition)
        source = self.bucket.head(self._key("source"))
        copy = source and self.bucket.copy(self._key("source"), self._key("copy"), source.etag, "text/plain")
        target = self.bucket.head(self._key("copy"))
        if not source or not copy or target is None or self._content("copy") != BODY:
            return False, "nothing was copied", {}
        replaced = target.content_type != "text/html" and not target.sends_them
        abilities = {
            "copy": True,
            "copy_replaces_headers": replaced,
            "copy_keeps_etag": target.etag == source.etag,
            "keeps_types": target.content_type == "text/plain",
        }
        return True, "" if replaced else "with headers of its source", abilities

    def _conditional_copy(self) -> Result:
        copy = self.bucket.copy(self._key("put"), self._key("conditional"), "0" * 32, "text/plain")
        rejected = copy is None and self.bucket.head(self._key("conditional")) is None
        return rejected, "" if rejected else "copied despite another ETag", {"conditional_copy": rejected}

    # --- POST policies ------------------------------------------------------------------------------------------------

    def _signed_post(
        self,
        name: str,
        fields: Mapping[str, str] | None = None,
        *,
        max_bytes: int = 1000,
        content_type: str = "image/png",
        ahead: int = 0,
    ) -> Answer:
        """POST BODY with a policy for `name`, and send `fields` in place of its own."""
        now, written = clock_now() + ahead, self.bucket.write_headers.form
        url, own = self.presigner.post_policy(self._key(name), URL_TTL, now, max_bytes, "image/", "image/png", written)
        form: list[tuple[str, Any]] = [*{**own, "Content-Type": content_type, **(fields or {})}.items()]
        form.append(("file", ("cover.png", BODY, content_type)))
        return self._request("POST", url, fields=form)

    def _policy(self) -> Result:
        answer = self._signed_post("post")
        stored = self.bucket.head(self._key("post"))
        works = answer.accepted and stored is not None and stored.size == len(BODY)
        return works, answer.text, {"post_policy": works, "enforced_policy": works}

    def _policy_size(self) -> Result:
        return _all_rejected([self._signed_post("post-size", max_bytes=10)])

    def _policy_type(self) -> Result:
        return _all_rejected([self._signed_post("post-type", content_type="text/html")])

    def _policy_key(self) -> Result:
        return _all_rejected([self._signed_post("post-key", {"key": self._key("post-other")})])

    def _policy_signature(self) -> Result:
        forged = self._signed_post("post-forged", {"x-amz-signature": "0" * 64})
        return _all_rejected([forged, self._signed_post("post-expired", ahead=-2 * URL_TTL)])

    # --- Multipart uploads --------------------------------------------------------------------------------------------

    def _upload_part(self, key: str, body: bytes, checksum: Checksum | None = None) -> str:
        """Create a multipart upload with one part, and return its id. Raises StorageFault where a part is rejected."""
        upload_id = self.bucket.create_multipart_upload(key, None, checksum)
        self.uploads.append((key, upload_id))
        answer = self._put_part(key, upload_id, body)
        if not answer.accepted:
            raise StorageFault(answer.text)
        return upload_id

    def _put_part(self, key: str, upload_id: str, body: bytes) -> Answer:
        signed = {"Content-Length": str(len(body)), **self.bucket.write_headers.owner}
        query = {"partNumber": "1", "uploadId": upload_id}
        url = self._url("PUT", key.removeprefix(self.folder), signed, query)
        return self._request("PUT", url, body=body, headers={**signed, "Content-MD5": content_md5(body)})

    def _multipart(self) -> Result:
        key = self._key("parts")
        upload_id = self._upload_part(key, BODY)
        parts = self.bucket.list_parts(key, upload_id) or []
        if [(part.part_number, part.size) for part in parts] != [(1, len(BODY))]:
            return False, "the parts are not listed", {}
        joined = self.bucket.complete_multipart_upload(key, upload_id, parts)
        self._abort()
        works = joined is not None and self._content("parts") == BODY
        return works, "" if works else "the parts are not joined", {"multipart": works}

    def _sealed_parts(self) -> Result:
        key = self._key("sealed")
        upload_id = self._upload_part(key, BODY)
        self.bucket.complete_multipart_upload(key, upload_id, self.bucket.list_parts(key, upload_id) or [])
        answer = self._put_part(key, upload_id, OTHER)
        try:
            sealed = self._content("sealed") == BODY
        except ServiceError:
            # Swift keeps parts as objects of their own: with another one in its place, the file cannot be read.
            sealed = False
        return sealed, answer.text, {"sealed_parts": sealed}

    def _abort(self) -> None:
        """Abort an upload, and see that it is gone. Raises StorageFault."""
        key = self._key("aborted")
        upload_id = self._upload_part(key, BODY)
        self.bucket.abort_multipart_upload(key, upload_id)
        if self.bucket.list_parts(key, upload_id):
            raise StorageFault("The store keeps an upload that was aborted.")

    def _list_uploads(self) -> Result:
        keys = [self._key(f"upload-{number}") for number in range(3)]
        for key in keys:
            self.uploads.append((key, self.bucket.create_multipart_upload(key, None)))
        # In pages of one, so that the way from page to page shows.
        listed = {upload.key for upload in self.bucket.list_multipart_uploads(self.folder, limit=1)}
        complete = listed >= set(keys)
        return complete, "" if complete else f"{len(listed)} of {len(keys)}", {"upload_listing": complete}

    # --- Listings and deletions ---------------------------------------------------------------------------------------

    def _list_objects(self) -> Result:
        names = ("list/a+b c%20d", "list/é", "list/z")
        keys = [self._key(name) for name in names]
        for key in keys:
            self.bucket.put(key, BytesIO(BODY), len(BODY), "text/plain")
        listed = [item.key for page in self.bucket.list_pages(f"{self.folder}list/", limit=1) for item in page]
        complete = sorted(listed) == sorted(keys)
        return complete, "" if complete else f"{len(listed)} of {len(keys)}", {"object_listing": complete}

    def _batch_delete(self) -> Result:
        keys = [self._key(f"list/{name}") for name in ("a+b c%20d", "é")]
        errors = self.bucket._delete_batch(keys)
        done = errors == {} and not any(map(self.bucket.head, keys))
        return done, "" if done else "objects are deleted one by one", {"batch_delete": done}

    def _versions(self) -> Result:
        keeps = self.bucket.keeps_versions()
        return True, "kept" if keeps else "not kept", {"versions": keeps}

    # --- Browsers -----------------------------------------------------------------------------------------------------

    def _cors_step(self, origin: str) -> Step:
        def step() -> Result:
            problem = self._blocked_method(origin)
            return problem is None, problem or "", {"cors": problem is None}

        return step

    def _blocked_method(self, origin: str) -> str | None:
        """Return the method that a page of `origin` may not use, with the status of the preflight, or None."""
        url = self._url("PUT", "put").partition("?")[0]
        sent = ",".join(PAGE_HEADERS + self.bucket.write_headers.names)
        for method, headers in (("PUT", sent), ("POST", "content-type")):
            preflight = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
            response = self.http.request("OPTIONS", url, headers={"Origin": origin, **preflight})
            if not preflight_allows(response.status, response.headers, origin, method, headers.split(",")):
                return f"{method}: status {response.status}"
        return None

    # --- Cleaning up --------------------------------------------------------------------------------------------------

    def clean_up(self) -> list[str]:
        """Remove all that was written, and return the keys of the rest: one failure does not keep the others."""
        for key, upload_id in self.uploads:
            with suppress(ServiceError):
                self.bucket.abort_multipart_upload(key, upload_id)
        remaining = [key for key in self.keys if not self._remove(key)]
        self.keys, self.uploads = remaining, []
        return remaining

    def _remove_left_behind(self) -> None:
        """Remove what an earlier measurement of this deployment has left: its process was killed.

        A store that lists nothing keeps it.
        """
        before = clock_now() - LEFT_BEHIND_AFTER
        for page in self.bucket.list_pages(self.home) if self.home else ():
            self.keys += [item.key for item in page if _is_before(item.last_modified, before)]
        for upload in self.bucket.list_multipart_uploads(self.home) if self.home else ():
            if _is_before(upload.initiated, before):
                self.uploads.append((upload.key, upload.upload_id))

    def _remove(self, key: str) -> bool:
        try:
            self.bucket.remove(key)
            return self.bucket.head(key) is None
        except ServiceError:
            return False


def _is_before(moment: datetime | None, seconds: int) -> bool:
    return moment is not None and moment.timestamp() < seconds


def finish(clean_up: Callable[[], list[str]]) -> list[str]:
    """Return what `clean_up` returns. Where Ctrl-C interrupts it, call it again, and raise KeyboardInterrupt then."""
    try:
        return clean_up()
    except KeyboardInterrupt:
        clean_up()
        raise


def checksum_of(content: bytes, algorithm: Algorithm) -> Checksum:
    """Return a checksum of bytes."""
    reader = ChecksumReader(algorithm)
    reader.update(content)
    return Checksum(algorithm, reader.value())


def describe(error: Exception) -> str:
    """Return what failed: the store's own code and the permission that may be missing, or the class of an exception."""
    cause = error.__cause__
    if cause is None and isinstance(error, ServiceError):
        return error.message
    if not isinstance(cause, ErrorResponse):
        return type(cause or error).__name__
    permission = PERMISSIONS.get(cause.operation, "") if cause.status == 403 else ""
    return f"{cause.operation}: {cause.code}" + (f" (permission {permission})" if permission else "")


def _all_rejected(answers: Sequence[Answer], *abilities: str) -> Result:
    rejected = all(answer.rejected for answer in answers)
    shown = next((answer for answer in answers if not answer.rejected), answers[0])
    return rejected, shown.text, dict.fromkeys(abilities, rejected)
