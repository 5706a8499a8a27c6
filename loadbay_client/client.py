"""Clients and upload sessions."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

from .api import ApiClient, check_server, track_path
from .batch import (
    BatchUploader,
    FileProgressCallback,
    Outcome,
    RegisteredCallback,
    ignore_file_progress,
    ignore_registered,
)
from .bodies import ProgressCallback, ignore_progress
from .errors import APIError, FileError
from .files import RULES, File, find_broken_rule, media_type
from .payloads import (
    CoverUpload,
    Registration,
    Rules,
    SessionOptions,
    SessionRequest,
    Track,
    TrackPage,
    UploadSession,
)
from .registration import Registrar
from .retry import RetryCallback, RetryPolicy, ignore_retry
from .upload import SentTrack, TrackUploader

CONNECTIONS = 8
"""Files and parts that one session sends at the same time, at most."""
PAGE_SIZE = 200


@dataclass(frozen=True)
class Client:
    """A client of the service at `server`; `key` is the API key that opens sessions.

    Files of `multipart_threshold` bytes or more use multipart upload, with parts of `part_size` bytes (by default 5 to
    16 MiB, by the file's size). Each request is attempted `max_attempts` times with exponential backoff of up to 30
    seconds; `on_retry` is called before each retry. Raises ValueError if `server` is not an HTTP URL.
    """

    server: str
    key: str | None = None
    multipart_threshold: int = RULES["parts"]["threshold"]
    part_size: int | None = None
    max_attempts: int = 8
    on_retry: RetryCallback = ignore_retry

    def __post_init__(self) -> None:
        check_server(self.server)

    def check_reachable(self) -> None:
        """Check within four seconds that the service responds, without any retry. Raises ConnectionFailed."""
        self._api().check_reachable()

    def session(self, collection_id: str | None = None, **options: Unpack[SessionOptions]) -> Session:
        """Open an upload session for a collection; `options` are the API's. Raises APIError, ConnectionFailed."""
        api = self._api()
        request: SessionRequest = {"collection_id": collection_id, **options}
        response = api.open_session(request)
        session = Session(self, api, response["upload_session_id"])
        session._set_rules(response["upload_session"])
        return session

    def resume(self, session_id: str) -> Session:
        """Return a session that was opened before."""
        return Session(self, self._api(), session_id)

    def _api(self) -> ApiClient:
        return ApiClient(self.server, self.key, RetryPolicy(self.max_attempts, self.on_retry))

    def __repr__(self) -> str:
        return f"Client({self.server!r})"


class Session:
    """An upload session. As a context manager it is closed at the end, but stays open after an exception."""

    def __init__(
        self, client: Client, api: ApiClient, session_id: str, connection_slots: threading.Semaphore | None = None
    ):
        self.client, self.api, self.id = client, api, session_id
        self.connection_slots = connection_slots or threading.Semaphore(CONNECTIONS)
        # The session's rules; empty if it has none, and None before they are known.
        self._rules: Rules | None = None
        self._registrar = Registrar(api, session_id, client.multipart_threshold, client.part_size)

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
        """Upload one file and return its verified track.

        Raises OSError if the file cannot be read, FileError if it changes during the upload, APIError, StoreError,
        ConnectionFailed and VerificationFailed.
        """
        path = Path(path)
        content_type = content_type or media_type(path)
        file = File(path, name, None if cover is None else Path(cover), content_type, dict(metadata or {}))
        scoped = self._scoped()
        return scoped.send(file, scoped.register([file])[0])

    def upload_all(
        self,
        files: Iterable[File],
        *,
        parallel: int = 4,
        on_progress: FileProgressCallback = ignore_file_progress,
        on_registered: RegisteredCallback = ignore_registered,
        existing_tracks: Mapping[File, str] | None = None,
    ) -> Iterator[Outcome]:
        """Upload many files, `parallel` at a time, and yield each outcome as it is known.

        `on_progress` is called with the bytes sent, from several threads; `on_registered` with the files of each batch
        once they have tracks. `existing_tracks` has the track ids of files registered earlier. At most CONNECTIONS
        requests send bytes at a time. Sent files are verified in batches, about once a second. Leaving the loop early
        cancels the running uploads; the session can be used further.
        """
        scoped = self._scoped()
        uploader = BatchUploader(
            scoped._registrar, self.connection_slots, parallel, on_progress, on_registered, existing_tracks or {}
        )
        return uploader.upload(files)

    def register(self, files: Sequence[File]) -> list[Registration]:
        """Register files, all or none, and return their upload targets; reads the files for their checksums.

        Raises OSError, APIError, ConnectionFailed.
        """
        results = self._registrar.register([self._registrar.request_for(file) for file in files])
        registrations = [result for result in results if not isinstance(result, APIError)]
        errors = [result for result in results if isinstance(result, APIError)]
        if errors:
            for registration in registrations:
                self.cancel(registration["track_id"])
            raise errors[0]
        return registrations

    def send(self, file: File, registration: Registration, on_progress: ProgressCallback = ignore_progress) -> Track:
        """Send a registered file and its cover, and return the verified track. Raises as `upload` does."""
        return self._uploader(registration["track_id"], on_progress).upload(file, registration)

    def send_cover(self, file: File, track_id: str) -> Track:
        """Send the cover of an uploaded track, which requires a full API key; return the track.

        Raises as `upload` does.
        """
        uploader = self._uploader(track_id)
        if file.cover is not None:
            uploader.post_cover(file.cover, self._replacement_targets(track_id))
        return uploader.verify(SentTrack(file, track_id))

    def _replacement_targets(self, track_id: str) -> Iterator[CoverUpload]:
        while True:
            yield self.api.replace_cover(track_id)

    def _uploader(self, track_id: str, on_progress: ProgressCallback = ignore_progress) -> TrackUploader:
        return TrackUploader(self.api, track_path(self.id, track_id), self.connection_slots, on_progress)

    def _scoped(self) -> Session:
        """Return the same session, cancelled independently of this one."""
        return Session(self.client, self.api.with_own_stop(), self.id, self.connection_slots)

    def is_open(self) -> bool:
        """Return whether the session accepts tracks. Raises APIError, ConnectionFailed."""
        upload_session = self.api.get_session(self.id)["upload_session"]
        self._set_rules(upload_session)
        return upload_session["status"] == "open"

    def rules(self) -> Rules | None:
        """Return the session's rules, or None if it has none. Raises APIError, ConnectionFailed."""
        if self._rules is None:
            self._set_rules(self.api.get_session(self.id)["upload_session"])
        return self._rules or None

    def _set_rules(self, upload_session: UploadSession) -> None:
        self._rules = upload_session.get("rules") or {}

    def check(self, file: File) -> FileError | None:
        """Return the error for a file that breaks a rule of the session by its size or its name, or None.

        The service checks the other rules once the file is uploaded. Raises OSError, APIError, ConnectionFailed.
        """
        return find_broken_rule(self.rules(), file)

    def tracks(self) -> Iterator[Track]:
        """Yield all tracks of the session. Raises APIError, ConnectionFailed."""
        return self._tracks_from(self.api.list_tracks(self.id, PAGE_SIZE))

    def _tracks_from(self, page: TrackPage) -> Iterator[Track]:
        """Yield the tracks of a page and of those that follow it."""
        yield from page["tracks"]
        while (after := page.get("next_after")) is not None:
            page = self.api.list_tracks(self.id, PAGE_SIZE, after)
            yield from page["tracks"]

    def cancel(self, track_id: str) -> None:
        """Cancel a track. Raises APIError, ConnectionFailed."""
        self.api.cancel_track(track_path(self.id, track_id))

    def close(self) -> list[Track]:
        """Close the session and return its tracks. Raises APIError, ConnectionFailed."""
        return list(self._tracks_from(self.api.close_session(self.id)["manifest"]))
