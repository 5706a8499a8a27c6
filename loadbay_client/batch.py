"""Upload of many files: registered and verified in batches, sent several at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from .api import MAX_VERIFIED_TRACKS, VERIFYING, ApiClient, Verification, track_path
from .errors import APIError, ClientError, VerificationFailed, file_error
from .files import File, stat_signature_or_none
from .payloads import Registration, Track
from .registration import Registrar
from .upload import SentTrack, TrackUploader

BATCH_SIZE = 32
MIN_QUEUED = 16
"""Files that are left to send when the next batch is registered, so that the line is in use meanwhile."""
MAX_UNVERIFIED = 500
"""Sent tracks, of which no more are registered until some of them are verified."""
VERIFICATION_INTERVAL = 1.0
"""Seconds that a sent track waits for others to be verified with it."""
CONCURRENT_REQUESTS = 4
"""Requests at a time to a service that verifies tracks one by one."""
# Errors that one track may cause for its whole batch, and those of a service without the endpoint.
PER_TRACK_STATUSES = {400, 404, 405, 409, 410}
UNKNOWN_ROUTE_CODES = {"not_found", "method_not_allowed", "invalid_response"}


class Outcome(NamedTuple):
    """Result of one file's upload: the verified track or the error."""

    file: File
    track: Track | None
    error: Exception | None


class RegisteredFile(NamedTuple):
    """A file registered as a track, with the `files.stat_signature` it had then."""

    file: File
    track_id: str
    stat_signature: list[int]


FileProgressCallback = Callable[[File, int], None]
"""Called with a file and the number of its bytes just sent, from several threads; negative if they are sent again."""
RegisteredCallback = Callable[[Sequence[RegisteredFile]], None]
"""Called with the files of a batch once they are registered."""


def ignore_file_progress(_file: File, _count: int) -> None:
    """Do nothing: the default FileProgressCallback."""


def ignore_registered(_files: Sequence[RegisteredFile]) -> None:
    """Do nothing: the default RegisteredCallback."""


class Verifier:
    """Verifies sent tracks in batches: one request at a time, in a thread of its own, while other files are sent.

    All methods are for the thread that iterates over the outcomes.
    """

    def __init__(self, api: ApiClient, session_id: str):
        self.api, self.session_id, self.has_batches = api, session_id, True
        self.pool = ThreadPoolExecutor(1)
        self.waiting: dict[SentTrack, float] = {}
        """Tracks to verify, each with the time of its next request at the latest, by the monotonic clock."""
        self.requests: dict[Future[list[Verification | ClientError]], list[SentTrack]] = {}
        """The running request, if any, with its tracks."""

    def __len__(self) -> int:
        return len(self.waiting) + sum(map(len, self.requests.values()))

    def add(self, track: SentTrack) -> None:
        """Add a track whose file was sent."""
        self.waiting[track] = time.monotonic() + VERIFICATION_INTERVAL

    def start(self, *, is_idle: bool) -> None:
        """Start a request if one is due; at once for all new tracks if `is_idle`, as no more will follow soon."""
        now = time.monotonic()
        ready = [track for track, due in self.waiting.items() if due <= now or not track.attempts]
        is_due = is_idle or len(ready) >= BATCH_SIZE or any(self.waiting[track] <= now for track in ready)
        if ready and is_due and not self.requests:
            batch = ready[:MAX_VERIFIED_TRACKS]
            for track in batch:
                del self.waiting[track]
            self.requests[self.pool.submit(self._verify, batch)] = batch

    def timeout(self) -> float | None:
        """Return the seconds until a request is due, or None if that depends on others."""
        if self.requests or not self.waiting:
            return None
        return max(0.0, min(self.waiting.values()) - time.monotonic())

    def finish(self) -> Iterator[Outcome]:
        """Yield the outcomes of a finished request; tracks without one wait for the next request."""
        for request in [request for request in self.requests if request.done()]:
            for track, answer in zip(self.requests.pop(request), request.result(), strict=True):
                if outcome := self._outcome(track, answer):
                    yield outcome

    def _outcome(self, track: SentTrack, answer: Verification | ClientError) -> Outcome | None:
        if isinstance(answer, ClientError):
            return Outcome(track.file, None, answer)
        pause = track.next_pause(answer, self.api.retry_policy)
        if pause is not None:
            self.waiting[track] = time.monotonic() + pause
            return None
        try:
            return Outcome(track.file, track.result(answer), None)
        except VerificationFailed as e:
            return Outcome(track.file, None, e)

    def _verify(self, tracks: Sequence[SentTrack]) -> list[Verification | ClientError]:
        try:
            if self.has_batches:
                answers = self.api.complete_tracks(self.session_id, [track.track_id for track in tracks])
                return [answers.get(track.track_id, Verification(VERIFYING)) for track in tracks]
        except APIError as e:
            if e.status not in PER_TRACK_STATUSES:
                return [e] * len(tracks)
            self.has_batches = e.code not in UNKNOWN_ROUTE_CODES
        except ClientError as e:
            return [e] * len(tracks)
        with ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool:
            return list(pool.map(self._verify_one, tracks))

    def _verify_one(self, track: SentTrack) -> Verification | ClientError:
        try:
            return self.api.complete_track(track_path(self.session_id, track.track_id))
        except ClientError as e:
            return e


@dataclass(frozen=True)
class BatchUploader:
    """Uploads many files in one session, `parallel` at a time.

    `existing_tracks` has the track ids of files that are registered already.
    """

    registrar: Registrar
    connection_slots: threading.Semaphore
    parallel: int
    on_progress: FileProgressCallback
    on_registered: RegisteredCallback
    existing_tracks: Mapping[File, str]

    def upload(self, files: Iterable[File]) -> Iterator[Outcome]:
        """Yield the outcome of each file as it is known. Closing the generator cancels the running uploads."""
        api, remaining, pool = self.registrar.api, iter(files), ThreadPoolExecutor(self.parallel)
        running, verifier = set[Future[SentTrack | Outcome]](), Verifier(api, self.registrar.session_id)
        try:
            while batch := list(islice(remaining, BATCH_SIZE)):
                registrations = self._register([file for file in batch if file not in self.existing_tracks])
                running |= {pool.submit(self._send, file, registrations.get(file)) for file in batch}
                # The next batch is registered only when it is needed, so that its URLs do not expire in the queue.
                while len(running) > max(self.parallel, MIN_QUEUED) or len(verifier) > MAX_UNVERIFIED:
                    yield from self._step(running, verifier)
            while running or len(verifier):
                yield from self._step(running, verifier)
        except BaseException:
            api.retry_policy.stop.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            verifier.pool.shutdown(wait=False, cancel_futures=True)

    def _step(self, running: set[Future[SentTrack | Outcome]], verifier: Verifier) -> Iterator[Outcome]:
        """Wait until something has finished or a verification is due, and yield the outcomes."""
        verifier.start(is_idle=not running)
        futures: set[Future[Any]] = {*running, *verifier.requests}
        if futures:
            wait(futures, verifier.timeout(), FIRST_COMPLETED)
        else:
            self.registrar.api.retry_policy.stop.wait(verifier.timeout())
        for future in [future for future in running if future.done()]:
            running.remove(future)
            result = future.result()
            if isinstance(result, Outcome):
                yield result
            else:
                verifier.add(result)
        yield from verifier.finish()

    def _register(self, files: Sequence[File]) -> dict[File, Registration | ClientError]:
        signatures = {file: stat_signature_or_none(file.path) or [] for file in files}
        results = dict(zip(files, self.registrar.register_files(files), strict=True))
        self.on_registered(
            [
                RegisteredFile(file, result["track_id"], signatures[file])
                for file, result in results.items()
                if not isinstance(result, ClientError)
            ]
        )
        return results

    def _send(self, file: File, registration: Registration | ClientError | None) -> SentTrack | Outcome:
        try:
            if isinstance(registration, ClientError):
                raise registration
            if registration is None:
                return self._send_existing(file, self.existing_tracks[file])
            return self._uploader(file, registration["track_id"]).send_file(file, registration)
        except OSError as e:
            return Outcome(file, None, file_error(e))
        except ClientError as e:
            return Outcome(file, None, e)

    def _send_existing(self, file: File, track_id: str) -> SentTrack:
        uploader = self._uploader(file, track_id)
        try:
            registration = self.registrar.api.renew_track(uploader.track_path)
            if registration["track"]["status"] != VERIFYING:
                return uploader.send_file(file, registration)
        except APIError as e:
            if not uploader.is_stored(e):
                raise
        uploader.on_progress(file.path.stat().st_size)
        return SentTrack(file, track_id, cover_failure="It was not sent before the file was verified.")

    def _uploader(self, file: File, track_id: str) -> TrackUploader:
        path = track_path(self.registrar.session_id, track_id)
        return TrackUploader(self.registrar.api, path, self.connection_slots, partial(self.on_progress, file))
