"""Upload of many files: registered in batches, sent several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

from .api import track_path
from .errors import ClientError, file_error
from .files import File, stat_signature_or_none
from .payloads import Registration, Track
from .registration import Registrar
from .upload import TrackUploader

BATCH_SIZE = 32


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
        remaining, running, pool = iter(files), set[Future[Outcome]](), ThreadPoolExecutor(self.parallel)
        try:
            while batch := list(islice(remaining, BATCH_SIZE)):
                registrations = self._register([file for file in batch if file not in self.existing_tracks])
                running |= {pool.submit(self._outcome, file, registrations.get(file)) for file in batch}
                # The next batch is registered only when it is needed, so that its URLs do not expire in the queue.
                yield from _collect(running, self.parallel)
            yield from _collect(running, 0)
        except BaseException:
            self.registrar.api.retry_policy.stop.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

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

    def _outcome(self, file: File, registration: Registration | ClientError | None) -> Outcome:
        try:
            if isinstance(registration, ClientError):
                raise registration
            return Outcome(file, self._upload(file, registration), None)
        except OSError as e:
            return Outcome(file, None, file_error(e))
        except ClientError as e:
            return Outcome(file, None, e)

    def _upload(self, file: File, registration: Registration | None) -> Track:
        api, session_id = self.registrar.api, self.registrar.session_id
        if registration is None:
            registration = api.renew_track(track_path(session_id, self.existing_tracks[file]))
        path = track_path(session_id, registration["track_id"])
        uploader = TrackUploader(api, path, self.connection_slots, partial(self.on_progress, file))
        return uploader.upload(file, registration)


def _collect(running: set[Future[Outcome]], limit: int) -> Iterator[Outcome]:
    """Yield outcomes and remove their uploads from `running` until at most `limit` of them are left."""
    while len(running) > limit:
        done = wait(running, return_when=FIRST_COMPLETED).done
        running -= done
        yield from (future.result() for future in done)
