"""Upload of one track: its file, whole or in parts, its cover, and the verification."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import urllib3

from .api import ApiClient
from .bodies import FileSlice, MultipartBody, ProgressCallback, ignore_progress, send
from .errors import FileError, StoreError, UploadCancelled, VerificationFailed, file_error
from .files import File, stat_signature
from .payloads import CoverUpload, MultipartUpload, PartUpload, Registration, StoredPart, Track, Upload
from .retry import RetryableError

CONCURRENT_PARTS = 4
PRECONDITION_FAILED = 412


class Part(NamedTuple):
    """One part of a file: its number, its range in bytes, its first target, and the part stored under its number."""

    number: int
    start: int
    length: int
    target: PartUpload | None
    stored: StoredPart | None


@dataclass(frozen=True)
class TrackUploader:
    """Uploads what belongs to one track.

    `track_path` is the track's path in the API; `connection_slots` limits the connections of all uploads of a session.
    """

    api: ApiClient
    track_path: str
    connection_slots: threading.Semaphore
    on_progress: ProgressCallback

    def upload(self, file: File, registration: Registration) -> Track:
        """Upload a file and its cover and return the verified track.

        Raises OSError, FileError, APIError, StoreError, ConnectionFailed, UploadCancelled and VerificationFailed.
        """
        cover_failure = self.send_file(file, registration)
        return verified(file, self.api.complete_track(self.track_path), cover_failure)

    def send_file(self, file: File, registration: Registration) -> str | None:
        """Send a file and its cover; return the reason if only the cover failed. Raises as `upload` does."""
        before = stat_signature(file.path)
        if multipart := registration["track_multipart_upload"]:
            self.put_parts(file.path, multipart)
        else:
            self.put_file(file.path, registration)
        if stat_signature(file.path) != before:
            raise FileError("The file changed during the upload.")
        return self._try_cover(file.cover, registration) if file.cover is not None else None

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
        except StoreError as e:
            # The object exists: the response to an earlier write-once PUT was lost. Verification compares the bytes.
            if e.status != PRECONDITION_FAILED:
                raise
            self.on_progress(size)

    def post_cover(self, path: Path, targets: Iterator[CoverUpload]) -> None:
        """Send a cover as a form, each attempt to the next of `targets`. Raises as `upload` does."""

        def attempt() -> None:
            target, size = next(targets), path.stat().st_size
            with path.open("rb") as file:
                file_slice = FileSlice(file, 0, size, ignore_progress, self.api.retry_policy.stop)
                body = MultipartBody(target["fields"], path, file_slice, size)
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

    def _send_part(self, path: Path, part: Part) -> None:
        if part.stored is not None and self._part_matches(path, part, part.stored):
            self.on_progress(part.length)
        else:
            self._put_part(path, part)

    def _put_part(self, path: Path, part: Part) -> None:
        targets = self._part_targets(part)

        def attempt() -> None:
            response, body = self._put(next(targets), path, part.start, part.length)
            if etag_mismatch(response.headers.get("ETag", ""), body.md5.hexdigest()):
                body.rewind_progress()
                raise RetryableError(VerificationFailed("failed", f"Part {part.number} was corrupted in transit."))

        self.api.retry_policy.run(attempt)

    def _part_matches(self, path: Path, part: Part, stored: StoredPart) -> bool:
        """Return whether the stored part has the bytes of the file."""
        if stored["size"] != part.length:
            return False
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
            registration = self.api.renew_track(self.track_path)
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


def verified(file: File, track: Track, cover_failure: str | None = None) -> Track:
    """Return a track whose file, and cover if the file has one, passed verification.

    Raises VerificationFailed otherwise; `cover_failure` is the reason if the cover could not be sent.
    """
    if track["status"] != "uploaded":
        raise VerificationFailed(track["status"], track["failure"])
    cover = track["cover"]
    if file.cover is not None and (cover is None or cover["status"] != "uploaded"):
        raise VerificationFailed(track["status"], (cover and cover["failure"]) or cover_failure)
    return track


def etag_mismatch(etag: str, md5: str) -> bool:
    """Return whether an ETag is the MD5 of other bytes. One that is no MD5, as with encryption, matches anything."""
    etag = etag.strip('"')
    return re.fullmatch("[0-9a-f]{32}", etag) is not None and etag != md5


def _no_target(registration: Registration) -> VerificationFailed:
    return VerificationFailed(registration["track"]["status"], "The track no longer accepts uploads.")
