"""Sessions, and files sent in them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from .errors import ClientError, Refused, StoreError, UploadFailed
from .files import File, media_type
from .retry import Passing, patiently
from .service import Service
from .transfer import Advance, Form, Window, send, sha256_of

MIB = 2**20
BATCH = 32
PAGE = 200
Track = dict[str, Any]


class Outcome(NamedTuple):
    """What became of a file: its track as the service found it, or the error."""

    file: File
    track: Track | None
    error: Exception | None


@dataclass(frozen=True)
class Client:
    """A way to a Loadbay at `server`, with the API key that opens sessions.

    Files of `multipart_from` bytes or more go in parts of `part_size` bytes (the service's own choice without it).
    `tries` is how often a request is sent before it is given up, with pauses that grow to 30 seconds.
    """

    server: str
    key: str | None = None
    multipart_from: int = 64 * MIB
    part_size: int | None = None
    tries: int = 8

    def session(self, collection_id: str | None = None, **words: Any) -> Session:
        """Open a session for a collection; `words` are the API's, such as `expires_in` or `metadata`.

        Raises Refused, Unreachable.
        """
        stop = threading.Event()
        service = Service(self.server, self.key, self.tries, stop)
        given = {name: value for name, value in {"collection_id": collection_id, **words}.items() if value is not None}
        return Session(self, service, service.post("/v1/upload_session", given, key=True)["upload_session_id"])

    def resume(self, session_id: str) -> Session:
        """A session that was opened before."""
        return Session(self, Service(self.server, None, self.tries, threading.Event()), session_id)

    def __repr__(self) -> str:
        return f"Client({self.server!r})"


class Session:
    """An upload session. As a context manager it is closed at the end, unless that end is an error."""

    def __init__(self, client: Client, service: Service, session_id: str):
        self.client, self.service, self.id = client, service, session_id
        self.stop = service.stop

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

        Raises OSError where the file cannot be read, Refused, StoreError, Unreachable, UploadFailed.
        """
        there = Path(path)
        kind = content_type or media_type(there)
        file = File(there, name, None if cover is None else Path(cover), kind, dict(metadata or {}))
        return self.send(file, self.register([file])[0])

    def upload_all(
        self,
        files: Iterable[File],
        *,
        parallel: int = 4,
        advance: Callable[[File, int], None] = lambda _file, _bytes: None,
        registered: Callable[[Sequence[File]], None] = lambda _files: None,
        known: Mapping[File, str] | None = None,
    ) -> Iterator[Outcome]:
        """Upload many, `parallel` at a time; yields each outcome as it comes.

        `advance` is told of each file's bytes as they go, from several threads; `registered` of the files that have
        become tracks; `known` names the tracks that some files are already.
        """
        waiting, running, left = known or {}, set[Future[Outcome]](), iter(files)

        def one(file: File, upload: Track | ClientError | None) -> Outcome:
            try:
                if isinstance(upload, ClientError):
                    return Outcome(file, None, upload)
                found = upload or self._renewed(waiting[file])
                return Outcome(file, self.send(file, found, lambda count: advance(file, count)), None)
            except (ClientError, OSError) as e:
                return Outcome(file, None, e)

        pool = ThreadPoolExecutor(parallel)
        try:
            while batch := list(islice(left, BATCH)):
                fresh = [file for file in batch if file not in waiting]
                uploads = dict(zip(fresh, self._register_each(fresh), strict=True))
                registered([file for file, upload in uploads.items() if not isinstance(upload, ClientError)])
                running |= {pool.submit(one, file, uploads.get(file)) for file in batch}
                # The next are registered when they are needed, so that no URL waits for long.
                while len(running) > parallel:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BaseException:
            self.stop.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def register(self, files: Sequence[File]) -> list[Track]:
        """Make tracks of files; returns for each what the API answers. Their checksums are read here.

        Raises OSError, Refused, Unreachable.
        """
        return self._register([self._words(file) for file in files])

    def _register(self, words: Sequence[Mapping[str, Any]]) -> list[Track]:
        """Register many at once, and each that goes in parts alone, as the store has to begin it."""
        alone = len(words) == 1
        at_once = [] if alone else [each for each in words if "multipart" not in each]
        path = f"/v1/upload/{self.id}/track"
        made = iter(self.service.post(f"{path}s", {"tracks": at_once})["tracks"] if at_once else [])
        return [self.service.post(path, each) if alone or "multipart" in each else next(made) for each in words]

    def _register_each(self, files: Sequence[File]) -> list[Track | ClientError]:
        """As `register`, with the error in the place of each file that cannot be a track."""
        found: list[Track | ClientError] = []
        for file in files:
            try:
                found.append(self._words(file))
            except OSError as e:
                found.append(ClientError(f"It cannot be read: {e.strerror}."))
        good = [words for words in found if not isinstance(words, ClientError)]
        try:
            made = iter(self._register(good))
            return [words if isinstance(words, ClientError) else next(made) for words in found]
        except Refused as e:
            if len(files) > 1 and e.status == 400:
                return [each for file in files for each in self._register_each([file])]
            return [words if isinstance(words, ClientError) else e for words in found]

    def _words(self, file: File) -> dict[str, Any]:
        size = file.path.stat().st_size
        words = {
            "file_name": file.told_name, "file_size": size, "content_type": file.content_type,
            "metadata": file.metadata or None,
        }  # fmt: skip
        if size >= self.client.multipart_from:
            return {**words, "multipart": True, "part_size": self.client.part_size}
        return {**words, "checksum_sha256": sha256_of(file.path, self.stop), "write_once": True}

    def send(self, file: File, upload: Track, advance: Advance = lambda _: None) -> Track:
        """Send the bytes of a registered file, its cover, and have both checked; returns the track.

        Raises OSError, Refused, StoreError, Unreachable, UploadFailed.
        """
        track_id = upload["track_id"]
        with file.path.open("rb") as opened:
            if upload["track_multipart_upload"]:
                self._send_parts(opened, upload, advance)
            else:
                self._send_whole(opened, upload, file.path.stat().st_size, advance)
        if file.cover is not None:
            self._send_cover(file.cover, upload)
        track = self.service.post(f"{self._path(track_id)}/complete")["track"]
        if track["status"] != "uploaded":
            raise UploadFailed(track["status"], track["failure"])
        cover = track["cover"]
        if file.cover is not None and (cover is None or cover["status"] != "uploaded"):
            raise UploadFailed("without its cover", cover and cover["failure"])
        return dict(track)

    def _path(self, track_id: str) -> str:
        return f"/v1/upload/{self.id}/track/{track_id}"

    def _renewed(self, track_id: str) -> Track:
        return self.service.post(f"{self._path(track_id)}/renew")

    def _send_whole(self, opened: Any, upload: Track, size: int, advance: Advance) -> None:
        fresh = {"track_upload": upload["track_upload"]}

        def attempt() -> None:
            target = fresh.pop("track_upload", None) or self._renewed(upload["track_id"])["track_upload"]
            body = Window(opened, 0, size, advance, self.stop)
            headers = {"Content-Length": str(size), **target["headers"]}
            self._try(lambda: send(self.service.pool, "PUT", target["upload_url"], headers, body), body)

        self._patiently(attempt)

    def _send_parts(self, opened: Any, upload: Track, advance: Advance) -> None:
        path = f"{self._path(upload['track_id'])}/parts"
        arrived = {part["part_number"]: part["size"] for part in self.service.get(path)["parts"]}
        told = upload["track_multipart_upload"]
        known = {part["part_number"]: part for part in told["parts"]}
        size = opened.seek(0, 2)
        for number in range(1, told["part_count"] + 1):
            start = (number - 1) * told["part_size"]
            length = min(told["part_size"], size - start)
            if arrived.get(number) == length:
                advance(length)
            else:
                self._send_part(opened, path, number, (start, length), known.pop(number, None), advance)

    def _send_part(
        self, opened: Any, path: str, number: int, place: tuple[int, int], part: Track | None, advance: Advance
    ) -> None:
        fresh = [part] if part else []

        def attempt() -> None:
            target = fresh.pop() if fresh else self.service.post(path, {"part_numbers": [number]})["parts"][0]
            body = Window(opened, *place, advance, self.stop)
            answer = self._try(
                lambda: send(self.service.pool, "PUT", target["upload_url"], target["headers"], body), body
            )
            etag = answer.headers.get("ETag", "").strip('"')
            # An ETag that is no MD5, as that of an encrypted part, says nothing of the bytes.
            if re.fullmatch("[0-9a-f]{32}", etag) and etag != body.md5.hexdigest():
                body.take_back()
                raise Passing(UploadFailed("damaged", f"part {number} arrived as something else"))

        self._patiently(attempt)

    def _send_cover(self, path: Path, upload: Track) -> None:
        fresh = [upload["track_cover_upload"]]

        def attempt() -> None:
            target = fresh.pop() if fresh else self._renewed(upload["track_id"])["track_cover_upload"]
            with path.open("rb") as opened:
                size = path.stat().st_size
                body = Form(target["fields"], path, Window(opened, 0, size, lambda _: None, self.stop), size)
                headers = {"Content-Length": str(body.length), "Content-Type": body.content_type, **target["headers"]}
                send(self.service.pool, target["method"], target["upload_url"], headers, body)

        self._patiently(attempt)

    def _patiently(self, attempt: Callable[[], None]) -> None:
        try:
            patiently(attempt, self.client.tries, self.stop)
        except StoreError as e:
            # A write-once PUT whose answer was lost: the bytes are there, and `complete` looks at them.
            if e.status != 412:
                raise

    def _try(self, call: Callable[[], Any], body: Window) -> Any:
        try:
            return call()
        except BaseException:
            body.take_back()
            raise

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
