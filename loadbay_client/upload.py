"""Upload of one track: its file, whole or in parts, its cover, and the verification."""

from __future__ import annotations

import hashlib
import math
import re
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import urllib3

from .api import NOT_UPLOADED, VERIFYING, ApiClient, Verification
from .bodies import FileSlice, MultipartBody, ProgressCallback, ignore_progress, send
from .errors import APIError, FileError, StoreError, UploadCancelled, VerificationFailed, file_error
from .files import File, stat_signature
from .payloads import CoverUpload, MultipartUpload, PartUpload, Registration, StoredPart, Track, Upload
from .retry import RetryableError, RetryPolicy, backoff

CONCURRENT_PARTS = 4
PRECONDITION_FAILED = 412
TRACK_STATE_CONFLICT = "track_state_conflict"
"""Code of the error of a track that accepts no upload, as it is verified already or has ended."""
NOT_UPLOADED_ATTEMPTS = 4
"""Requests to verify a track before it is an error that the object store does not have what was sent."""
VERIFYING_SECONDS = 900.0
"""Time for which the service is asked again about a track that it is still verifying: a store may copy for minutes."""
UNFINISHED_REASONS = {
    VERIFYING: "The service is still verifying it.",
    NOT_UPLOADED: "The object store accepted it but does not have it.",
}


class Part(NamedTuple):
    """One part of a file: its number, its range in bytes, its first target, and the part stored under its number."""

    number: int
    start: int
    length: int
    target: PartUpload | None
    stored: StoredPart | None


@dataclass(eq=False)
class SentTrack:
    """A track whose file was sent: the requests to verify it so far, and the reason if its cover could not be sent."""

    file: File
    track_id: str
    cover_failure: str | None = None
    attempts: int = 0
    give_up_at: float = math.inf

    def next_pause(self, verification: Verification, policy: RetryPolicy) -> float | None:
        """Return the seconds before the next request to verify the track, or None if there should be none.

        Calls the policy's `on_retry` in the former case.
        """
        if self.attempts == 0:
            self.give_up_at = time.monotonic() + VERIFYING_SECONDS
        self.attempts += 1
        if not self._should_retry(self._unfinished(verification), policy.max_attempts):
            return None
        pause = max(backoff(self.attempts - 1), verification.retry_after)
        policy.on_retry(self._error(verification), pause)
        return pause

    def _should_retry(self, state: str | None, max_attempts: int) -> bool:
        if state == NOT_UPLOADED:
            return self.attempts < min(NOT_UPLOADED_ATTEMPTS, max_attempts)
        return state == VERIFYING and max_attempts > 1 and time.monotonic() < self.give_up_at

    def result(self, verification: Verification) -> Track:
        """Return the track if its file, and cover if the file has one, passed verification.

        Raises VerificationFailed otherwise.
        """
        track = verification.track
        if track is None or track["status"] != "uploaded" or self._cover_status(track) != "uploaded":
            raise self._error(verification)
        return track

    def _unfinished(self, verification: Verification) -> str | None:
        """Return `verifying` or `not_uploaded` if a later request may find the file or its cover verified, or None."""
        track = verification.track
        if verification.status in UNFINISHED_REASONS:
            return verification.status
        if track is None or verification.status != "uploaded" or self.cover_failure:
            return None
        states = {"uploaded": None, "failed": None, VERIFYING: VERIFYING}
        return states.get(self._cover_status(track), NOT_UPLOADED)

    def _cover_status(self, track: Track) -> str:
        """Return the status of the track's cover, or `uploaded` if the file has none."""
        if self.file.cover is None:
            return "uploaded"
        return track["cover"]["status"] if track["cover"] is not None else NOT_UPLOADED

    def _error(self, verification: Verification) -> VerificationFailed:
        status, track = verification.status, verification.track
        reason = UNFINISHED_REASONS.get(self._unfinished(verification) or "")
        if track is None or track["status"] != "uploaded":
            failure_code = track.get("failure_code") if track and not reason else None
            return VerificationFailed(status, reason or (track and track["failure"]), failure_code)
        cover = track["cover"]
        failure_code = cover.get("failure_code") if cover else None
        return VerificationFailed(
            "uploaded", (cover and cover["failure"]) or self.cover_failure or reason, failure_code
        )


@dataclass(frozen=True)
class TrackUploader:
    """Uploads what belongs to one track.

    `track_path` is the track's path in the API; `connection_slots` limits the connections of all uploads of a session.
    """

    api: ApiClient
    track_path: str
    connection_slots: threading.Semaphore
    on_progress: ProgressCallback
    opaque_etags: threading.Event = field(default_factory=threading.Event)
    """Set once the store has said that the ETags of parts are no MD5s: only their sizes can be compared then."""

    def upload(self, file: File, registration: Registration) -> Track:
        """Upload a file and its cover and return the verified track.

        Raises OSError, FileError, APIError, StoreError, ConnectionFailed, UploadCancelled and VerificationFailed.
        """
        return self.verify(self.send_file(file, registration))

    def verify(self, sent: SentTrack) -> Track:
        """Have a sent track verified and return it. Raises as `upload` does."""
        policy = self.api.retry_policy
        while True:
            verification = self.api.complete_track(self.track_path)
            pause = sent.next_pause(verification, policy)
            if pause is None:
                return sent.result(verification)
            if policy.stop.wait(pause):
                raise UploadCancelled

    def send_file(self, file: File, registration: Registration) -> SentTrack:
        """Send a file and its cover. Raises as `upload` does, but not if only the cover fails."""
        before = stat_signature(file.path)
        if multipart := registration["track_multipart_upload"]:
            self.put_parts(file.path, multipart)
        else:
            self.put_file(file.path, registration)
        if stat_signature(file.path) != before:
            raise FileError("The file changed during the upload.")
        cover_failure = self._try_cover(file.cover, registration) if file.cover is not None else None
        return SentTrack(file, registration["track_id"], cover_failure)

    def _try_cover(self, cover: Path, registration: Registration) -> str | None:
        try:
            self.post_cover(cover, self._cover_targets(registration))
        except OSError as e:
            return str(file_error(e, "cover"))
        except (FileError, StoreError) as e:
            return str(e)
        return None

    def put_file(self, path: Path, registration: Registration) -> None:
        """Send a file in one PUT. Raises as `upload` does."""
        size, targets = path.stat().st_size, self._file_targets(registration)

        def attempt() -> None:
            self._put(next(targets), path, 0, size)

        try:
            self.api.retry_policy.run(attempt)
        except (StoreError, APIError) as e:
            if not self.is_stored(e):
                raise
            self.on_progress(size)

    def is_stored(self, error: StoreError | APIError) -> bool:
        """Return whether an error means that the file is stored, as the response to an earlier attempt was lost.

        A write-once PUT finds its object then, or the service has verified the track already.
        """
        if isinstance(error, StoreError):
            # Verification compares the bytes.
            return error.status == PRECONDITION_FAILED
        return error.code == TRACK_STATE_CONFLICT and self.api.complete_track(self.track_path).status != NOT_UPLOADED

    def post_cover(self, path: Path, targets: Iterator[CoverUpload]) -> None:
        """Send a cover as the next of `targets` says, in each attempt. Raises as `upload` does."""

        def attempt() -> None:
            target, size = next(targets), path.stat().st_size
            with path.open("rb") as file:
                file_slice = FileSlice(file, 0, size, ignore_progress, self.api.retry_policy.stop)
                if target["method"] == "PUT":
                    send(self.api.pool, "PUT", target["upload_url"], target["headers"], file_slice)
                    return
                body = MultipartBody(target.get("fields", {}), path, file_slice, size)
                headers = {"Content-Length": str(body.length), "Content-Type": body.content_type, **target["headers"]}
                send(self.api.pool, target["method"], target["upload_url"], headers, body)

        self.api.retry_policy.run(attempt)

    def put_parts(self, path: Path, upload: MultipartUpload) -> None:
        """Send the parts that the object store does not have, several at a time. Raises as `upload` does."""
        parts = self._plan_parts(path, upload)
        pool = ThreadPoolExecutor(min(CONCURRENT_PARTS, len(parts)))
        try:
            futures = [pool.submit(self._send_part, path, part) for part in parts]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
            self._confirm_parts(path, [part for part, future in zip(parts, futures, strict=True) if future.result()])
        except BaseException as e:
            if not isinstance(e, Exception):
                self.api.retry_policy.stop.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _plan_parts(self, path: Path, upload: MultipartUpload) -> list[Part]:
        size, part_size, part_count = path.stat().st_size, upload["part_size"], upload["part_count"]
        if -(-size // part_size) != part_count:
            raise FileError("The file's size changed since its registration.")
        stored = {part["part_number"]: part for part in self.api.list_parts(self.track_path)}
        targets = {part["part_number"]: part for part in upload["parts"]}
        starts = range(0, size, part_size)
        return [
            Part(number, start, min(part_size, size - start), targets.get(number), stored.get(number))
            for number, start in enumerate(starts, 1)
        ]

    def _send_part(self, path: Path, part: Part) -> bool:
        """Send a part unless it is stored; return whether other bytes were stored under its number before."""
        if part.stored is None:
            return self._put_part(path, part)
        if not self._part_matches(path, part, part.stored):
            self._put_part(path, part)
            return True
        self.on_progress(part.length)
        return False

    def _confirm_parts(self, path: Path, parts: list[Part]) -> None:
        """Send replaced parts again until they are those that count, as the service lists them.

        A store may list both versions of a part, and tell them apart only by the second of their upload.
        """
        stale: list[Part] = []

        def attempt() -> None:
            nonlocal stale
            for part in stale:
                self.on_progress(-part.length)
                self._put_part(path, part)
            stored = {part["part_number"]: part for part in self.api.list_parts(self.track_path)}
            stale = [part for part in parts if not self._part_matches(path, part, stored.get(part.number))]
            if stale:
                error = VerificationFailed("initialized", "The object store did not replace an earlier part.")
                raise RetryableError(error, retry_after=1.0)

        if parts:
            self.api.retry_policy.run(attempt)

    def _put_part(self, path: Path, part: Part) -> bool:
        """Send a part; return whether other bytes were stored under its number before."""
        targets, was_corrupted = self._part_targets(part), False

        def attempt() -> None:
            nonlocal was_corrupted
            response, body = self._put(next(targets), path, part.start, part.length)
            if hides_md5(response.headers):
                self.opaque_etags.set()
            elif etag_mismatch(response.headers.get("ETag", ""), body.md5.hexdigest()):
                was_corrupted = True
                body.rewind_progress()
                raise RetryableError(VerificationFailed("failed", f"Part {part.number} was corrupted in transit."))

        try:
            self.api.retry_policy.run(attempt)
        except APIError as e:
            if was_corrupted or not self.is_stored(e):
                raise
            self.on_progress(part.length)
        return was_corrupted

    def _part_matches(self, path: Path, part: Part, stored: StoredPart | None) -> bool:
        """Return whether the stored part has the bytes of the file."""
        if stored is None or stored["size"] != part.length:
            return False
        if self.opaque_etags.is_set():
            return True
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as file:
            file_slice = FileSlice(file, part.start, part.length, ignore_progress, self.api.retry_policy.stop)
            while chunk := file_slice.read():
                digest.update(chunk)
        return not etag_mismatch(stored["etag"], digest.hexdigest())

    # Targets: the first is the one known already, each following one is requested when an attempt needs it.

    def _file_targets(self, registration: Registration) -> Iterator[Upload]:
        while (target := registration["track_upload"]) is not None:
            yield target
            registration = self.api.renew_track(self.track_path)
        raise _no_target(registration)

    def _cover_targets(self, registration: Registration) -> Iterator[CoverUpload]:
        while (target := registration["track_cover_upload"]) is not None:
            yield target
            try:
                registration = self.api.renew_track(self.track_path)
            except APIError as e:
                # The service has found and verified the file. The cover's target is valid until it expires.
                if e.code != TRACK_STATE_CONFLICT:
                    raise
        raise _no_target(registration)

    def _part_targets(self, part: Part) -> Iterator[PartUpload]:
        if part.target is not None:
            yield part.target
        while True:
            yield self.api.sign_part(self.track_path, part.number)

    def _put(
        self, target: Upload | PartUpload, path: Path, start: int, size: int
    ) -> tuple[urllib3.BaseHTTPResponse, FileSlice]:
        with self._connection_slot(), path.open("rb") as file:
            body = FileSlice(file, start, size, self.on_progress, self.api.retry_policy.stop)
            headers = {"Content-Length": str(size), **target["headers"]}
            try:
                return send(self.api.pool, "PUT", target["upload_url"], headers, body), body
            except BaseException:
                body.rewind_progress()
                raise

    @contextmanager
    def _connection_slot(self) -> Iterator[None]:
        while not self.connection_slots.acquire(timeout=0.5):
            if self.api.retry_policy.stop.is_set():
                raise UploadCancelled
        try:
            yield
        finally:
            self.connection_slots.release()


def hides_md5(headers: Mapping[str, str]) -> bool:
    """Return whether a response says that its ETag is no MD5, although it may look like one: encryption with KMS.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    return headers.get("x-amz-server-side-encryption", "AES256") != "AES256"


def etag_mismatch(etag: str, md5: str) -> bool:
    """Return whether an ETag is the MD5 of other bytes. One that is no MD5, as with encryption, matches anything."""
    etag = etag.strip('"')
    return re.fullmatch("[0-9a-f]{32}", etag) is not None and etag != md5


def _no_target(registration: Registration) -> VerificationFailed:
    return VerificationFailed(registration["track"]["status"], "The track no longer accepts uploads.")
