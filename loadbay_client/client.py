"""Sessions, and files sent in them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from .api import ApiClient, check_server
from .bodies import ProgressCallback, sha256_of
from .errors import APIError, ClientError, FileError, StoreError, VerificationFailed
from .files import File, media_type, stamp_or_none, stat_signature
from .retry import OnRetry, RetryPolicy, ignore_retry
from .upload import TrackUploader

MIB = 2**20
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html
MAX_PUT = 5 * 1024 * MIB
CONNECTIONS = 8
"""Files and parts that are on their way at the same time, at most."""
BATCH = 32
# What may be said of a batch because of one that is in it: not valid, no place left, too large.
PER_ITEM_STATUSES = {400, 409, 413}
PAGE = 200
Track = dict[str, Any]


class Outcome(NamedTuple):
    """What became of a file: its track as the service found it, or the error."""

    file: File
    track: Track | None
    error: Exception | None


class RegisteredFile(NamedTuple):
    """A file that has become a track, and the stamp that it had then (files.stamp)."""

    file: File
    track_id: str
    stat_signature: list[int]


@dataclass(frozen=True)
class Client:
    """A way to a Loadbay at `server`, with the API key that opens sessions.

    Files of `multipart_from` bytes or more go in parts of `part_size` bytes (the service's own choice without it).
    `tries` is how often a request is sent before it is given up, with pauses that grow to 30 seconds; `on_retry` is
    told of each pause. Raises ValueError where `server` is no address.
    """

    server: str
    key: str | None = None
    multipart_from: int = 64 * MIB
    part_size: int | None = None
    tries: int = 8
    on_retry: OnRetry = ignore_retry

    def __post_init__(self) -> None:
        check_server(self.server)

    def session(self, collection_id: str | None = None, **payload: Any) -> Session:
        """Open a session for a collection; `words` are the API's, such as `expires_in` or `metadata`.

        Raises Refused, Unreachable.
        """
        service = self._service()
        given = {
            name: value for name, value in {"collection_id": collection_id, **payload}.items() if value is not None
        }
        return Session(self, service, service.post("/v1/upload_session", given, key=True)["upload_session_id"])

    def resume(self, session_id: str) -> Session:
        """A session that was opened before."""
        return Session(self, self._service(), session_id)

    def _service(self) -> ApiClient:
        return ApiClient(self.server, self.key, RetryPolicy(self.tries, self.on_retry))

    def __repr__(self) -> str:
        return f"Client({self.server!r})"


class Session:
    """An upload session. As a context manager it is closed at the end, unless that end is an error."""

    def __init__(self, client: Client, service: ApiClient, session_id: str):
        self.client, self.service, self.id = client, service, session_id
        self.connection_slots = threading.Semaphore(CONNECTIONS)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.close()

    def __repr__(self) -> str:
        return f"Session({self.id[:8]}...)"

    def upload(
        self,
        path: str | Path,
        *,
        name: str = "",
        metadata: Mapping[str, Any] | None = None,
        content_type: str | None = None,
        cover: str | Path | None = None,
    ) -> Track:
        """Upload one file and return its track, which the service has seen in the store.

        Raises OSError where the file cannot be read, FileFault where it changes meanwhile, Refused, StoreError,
        Unreachable, UploadFailed.
        """
        there = Path(path)
        kind = content_type or media_type(there)
        file = File(there, name, None if cover is None else Path(cover), kind, dict(metadata or {}))
        scoped = self._scoped()
        return scoped.send(file, scoped.register([file])[0])

    def upload_all(
        self,
        files: Iterable[File],
        *,
        parallel: int = 4,
        advance: Callable[[File, int], None] = lambda _file, _bytes: None,
        registered: Callable[[Sequence[RegisteredFile]], None] = lambda _made: None,
        known: Mapping[File, str] | None = None,
    ) -> Iterator[Outcome]:
        """Upload many, `parallel` at a time; yields each outcome as it comes.

        `advance` is told of each file's bytes as they go, from several threads; `registered` of the files that have
        become tracks; `known` names the tracks that some files are already. At most CONNECTIONS are used. Whoever
        leaves before the last outcome stops what is on its way, and may go on with the session.
        """
        waiting, running, left, apart = known or {}, set[Future[Outcome]](), iter(files), self._scoped()

        def one(file: File, upload: Track | ClientError | None) -> Outcome:
            try:
                if isinstance(upload, ClientError):
                    return Outcome(file, None, upload)
                found = upload or apart._renewed(waiting[file])
                return Outcome(file, apart.send(file, found, lambda count: advance(file, count)), None)
            except OSError as e:
                return Outcome(file, None, file_error(e))
            except ClientError as e:
                return Outcome(file, None, e)

        pool = ThreadPoolExecutor(parallel)
        try:
            while batch := list(islice(left, BATCH)):
                fresh = [file for file in batch if file not in waiting]
                stamps = {file: stamp_or_none(file.path) for file in fresh}
                uploads = dict(zip(fresh, apart._register_each(fresh), strict=True))
                good = [(file, found) for file, found in uploads.items() if not isinstance(found, ClientError)]
                registered([RegisteredFile(file, found["track_id"], stamps[file] or []) for file, found in good])
                running |= {pool.submit(one, file, uploads.get(file)) for file in batch}
                # The next are registered when they are needed, so that no URL waits for long.
                while len(running) > parallel:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BaseException:
            apart.service.retry_policy.stop.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def register(self, files: Sequence[File]) -> list[Track]:
        """Make tracks of files; returns for each what the API answers. Their checksums are read here.

        Where one is refused, none is left registered. Raises OSError, Refused, Unreachable.
        """
        found = self._register([self._words(file) for file in files])
        made = [each for each in found if not isinstance(each, ClientError)]
        for fault in found:
            if isinstance(fault, ClientError):
                for each in made:
                    self.cancel(each["track_id"])
                raise fault
        return made

    def _register_each(self, files: Sequence[File]) -> list[Track | ClientError]:
        """As `register`, with the error in the place of each file that cannot be a track."""
        found: list[Track | ClientError] = []
        for file in files:
            try:
                found.append(self._words(file))
            except OSError as e:
                found.append(file_error(e))
        made = iter(self._register([payload for payload in found if not isinstance(payload, ClientError)]))
        return [payload if isinstance(payload, ClientError) else next(made) for payload in found]

    def _register(self, payload: Sequence[Mapping[str, Any]]) -> list[Track | ClientError]:
        """Register many at once, and each that goes in parts alone, as the store has to begin it."""
        at_once = iter(self._register_whole([each for each in payload if not each["multipart"]]))
        return [self._register_one(each) if each["multipart"] else next(at_once) for each in payload]

    def _register_whole(self, payload: Sequence[Mapping[str, Any]]) -> list[Track | ClientError]:
        if len(payload) > 1:
            try:
                return list(self.service.post(f"/v1/upload/{self.id}/tracks", {"tracks": payload})["tracks"])
            except APIError as e:
                # Whatever else is said holds for each of them.
                if e.status not in PER_ITEM_STATUSES:
                    return [e] * len(payload)
        return [self._register_one(each) for each in payload]

    def _register_one(self, payload: Mapping[str, Any]) -> Track | ClientError:
        try:
            return self.service.post(f"/v1/upload/{self.id}/track", payload)
        except APIError as e:
            return e

    def _words(self, file: File) -> dict[str, Any]:
        size = file.path.stat().st_size
        payload = {
            "file_name": file.upload_name, "file_size": size, "content_type": file.content_type,
            "metadata": file.metadata or None,
        }  # fmt: skip
        if size >= min(self.client.multipart_from, MAX_PUT):
            return {**payload, "multipart": True, "part_size": self.client.part_size}
        checksum = sha256_of(file.path, self.service.retry_policy.stop)
        # Said, not left to the service: one that wants parts from less on takes it whole all the same.
        return {**payload, "multipart": False, "checksum_sha256": checksum, "write_once": True}

    def send(self, file: File, upload: Track, advance: ProgressCallback = lambda _: None) -> Track:
        """Send the bytes of a registered file, its cover, and have both checked; returns the track.

        Raises FileFault, OSError, Refused, StoreError, Unreachable, UploadFailed.
        """
        there, before = self._path(upload["track_id"]), stat_signature(file.path)
        sender = TrackUploader(self.service, there, self.connection_slots, advance)
        if upload["track_multipart_upload"]:
            sender.put_parts(file.path, upload)
        else:
            sender.put_file(file.path, upload)
        if stat_signature(file.path) != before:
            raise FileError("It was changed while it was uploaded.")
        why = None
        if file.cover is not None:
            try:
                sender.post_cover(file.cover, upload)
            except OSError as e:
                why = str(file_error(e))
            except (FileError, StoreError) as e:
                why = str(e)
        return self._completed(file, there, why)

    def _completed(self, file: File, there: str, why: str | None = None) -> Track:
        """Have a track checked; `why` says what became of its cover, where it was not sent."""
        track = self.service.post(f"{there}/complete")["track"]
        if track["status"] != "uploaded":
            raise VerificationFailed(track["status"], track["failure"])
        cover = track["cover"]
        if file.cover is not None and (cover is None or cover["status"] != "uploaded"):
            raise VerificationFailed("without its cover", (cover and cover["failure"]) or why)
        return dict(track)

    def send_cover(self, file: File, track_id: str) -> Track:
        """Send the cover of a track that has arrived without it, which takes a full API key; returns the track.

        Raises as `send`.
        """
        there = self._path(track_id)

        def target() -> Track:
            return self.service.post(f"/v1/track/{track_id}/cover", key=True)

        if file.cover is not None:
            TrackUploader(self.service, there, self.connection_slots, lambda _: None).post_cover(
                file.cover, target(), target
            )
        return self._completed(file, there)

    def _scoped(self) -> Session:
        """The same session, which can be stopped by itself."""
        apart = Session(self.client, self.service.with_own_stop(), self.id)
        apart.connection_slots = self.connection_slots
        return apart

    def _path(self, track_id: str) -> str:
        return f"/v1/upload/{self.id}/track/{track_id}"

    def _renewed(self, track_id: str) -> Track:
        return self.service.post(f"{self._path(track_id)}/renew")

    def is_open(self) -> bool:
        """Whether the session takes tracks. Raises Refused, Unreachable."""
        found = self.service.get(f"/v1/upload_session/{self.id}")["upload_session"]
        return bool(found["status"] == "open")

    def tracks(self) -> Iterator[Track]:
        """All tracks of the session as the service has them. Raises Refused, Unreachable."""
        offset = 0
        while True:
            found = self.service.get(f"/v1/upload/{self.id}/track?limit={PAGE}&offset={offset}")["tracks"]
            yield from found
            if len(found) < PAGE:
                return
            offset += PAGE

    def cancel(self, track_id: str) -> None:
        """Cancel a track. Raises Refused, Unreachable."""
        self.service.delete(self._path(track_id))

    def close(self) -> list[Track]:
        """Take no more tracks; returns what has become of each. Raises Refused, Unreachable."""
        closed = self.service.post(f"/v1/upload_session/{self.id}/close")
        return list(closed["manifest"]["tracks"])


def file_error(error: OSError) -> FileError:
    """The error of a file that cannot be read, without its path."""
    return FileError(f"It cannot be read: {error.strerror}.")
