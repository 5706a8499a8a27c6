"""The API in this process: the rules, checks and responses of the routes, called as methods.

    uploads = Uploads(app)
    session = uploads.open_session("123e4567-e89b-12d3-a456-426614174000", metadata={"batch_name": "Summer 2024"})
    for track in uploads.list_tracks(session["id"]):
        print(track["file_name"], track["status"])

Each method raises the errors of its route (storage/errors.py), all of which derive from ServiceError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from threading import Event, Thread
from typing import Any, Unpack, cast
from uuid import UUID

import orjson
from flask import Flask

import app as routes
import schemas
from embedding.types import Download, Registration, SessionOptions, Track, TrackOptions, UploadSession
from storage.api_keys import Principal
from storage.errors import InvalidRequest
from storage.service import Service
from storage.worker import Worker
from web.requests import BLUEPRINT_NAME, base_url

ID = str | UUID
Context = Callable[[], AbstractContextManager[Any]]


class Uploads:
    """The upload service that `app` has registered under `name`, for the code of its host.

    `app` is what `create_app` returned, or the host that has registered the blueprint. It acts as a full API key of
    `organization_id`, '' in a deploy without organizations. `base_url` is the public URL of the service, of which
    `page_url` and the uploads of covers through the service are made.
    """

    def __init__(self, app: Flask, name: str = BLUEPRINT_NAME, *, organization_id: str = "", base_url: str = ""):
        registered: dict[str, Service] = app.extensions.get(BLUEPRINT_NAME, {})
        if name not in registered:
            raise LookupError(f"The application has not registered Loadbay as {name!r}.")
        self.app, self.service, self.base_url = app, registered[name], base_url.rstrip("/")
        self._caller = Principal("in-process", organization_id, full=True)

    # --- Upload sessions ---

    def open_session(self, collection_id: ID, **options: Unpack[SessionOptions]) -> UploadSession:
        """Create an upload session. Its id is the credential of whoever uploads. Raises InvalidRequest."""
        content = self._call(routes.create_upload_session, {"collection_id": collection_id, **options})
        return cast(UploadSession, content["upload_session"])

    def read_session(self, session_id: ID) -> UploadSession:
        """Return an upload session. Raises SessionNotFound."""
        content = self._call(routes.read_upload_session, upload_session_id=session_id)
        return cast(UploadSession, content["upload_session"])

    def list_sessions(
        self,
        *,
        collection_id: ID | None = None,
        status: str | None = None,
        limit: int = 50,
        offset: int = 0,
        after: ID | None = None,
    ) -> list[UploadSession]:
        """Return the organization's upload sessions, oldest first, those that follow `after`. Raises InvalidRequest."""
        query = {"collection_id": collection_id, "status": status, "limit": limit, "offset": offset, "after": after}
        return cast(list[UploadSession], self._call(routes.list_upload_sessions, _query(query))["upload_sessions"])

    def close_session(self, session_id: ID) -> list[Track]:
        """Close an upload session, which takes no more tracks, and return all its tracks. Raises SessionNotFound."""
        page = self._call(routes.close_upload_session, upload_session_id=session_id)["manifest"]
        tracks = cast(list[Track], page["tracks"])
        while page["next_after"] is not None:
            query = _query({"limit": schemas.MAX_PAGE, "after": page["next_after"]})
            page = self._call(routes.list_tracks, query, upload_session_id=session_id)
            tracks += page["tracks"]
        return tracks

    def page_url(self, session_id: ID) -> str:
        """Return the URL of a session's upload page. Raises ValueError without `base_url`."""
        if not self.base_url:
            raise ValueError("page_url needs the service's URL: Uploads(app, base_url='https://site.example/uploads').")
        return f"{self.base_url}/u/{session_id}"

    # --- Tracks ---

    def register_track(self, session_id: ID, file_name: str, **options: Unpack[TrackOptions]) -> Registration:
        """Register a track, and return it with its presigned uploads. Raises InvalidRequest, SessionNotFound, ..."""
        payload = {"file_name": file_name, **options}
        return cast(Registration, self._call(routes.create_track, payload, upload_session_id=session_id))

    def list_tracks(self, session_id: ID, *, limit: int = 50, offset: int = 0, after: ID | None = None) -> list[Track]:
        """Return a session's tracks in the order of their registration, those that follow `after`.

        Raises SessionNotFound, InvalidRequest.
        """
        query = _query({"limit": limit, "offset": offset, "after": after})
        return cast(list[Track], self._call(routes.list_tracks, query, upload_session_id=session_id)["tracks"])

    def list_collection(
        self,
        collection_id: ID,
        *,
        status: str | None = None,
        limit: int = 50,
        offset: int = 0,
        after: ID | None = None,
    ) -> list[Track]:
        """Return a collection's tracks of all sessions in the order of their registration, those that follow `after`.

        Raises InvalidRequest.
        """
        query = _query({"status": status, "limit": limit, "offset": offset, "after": after})
        return cast(
            list[Track], self._call(routes.list_collection_tracks, query, collection_id=collection_id)["tracks"]
        )

    def read_track(self, track_id: ID) -> Track:
        """Return a track. One that is not verified yet is looked up in the store first. Raises TrackNotFound."""
        return cast(Track, self._call(routes.get_track, track_id=track_id)["track"])

    def complete_track(self, track_id: ID) -> Track:
        """Verify an uploaded track, record the result and return the track. Raises TrackNotFound, NotUploaded."""
        session_id = self.read_track(track_id)["upload_session_id"]
        content = self._call(routes.complete_track, upload_session_id=session_id, track_id=track_id)
        return cast(Track, content["track"])

    def delete_track(self, track_id: ID) -> None:
        """Delete a track with its file and its cover. Raises TrackNotFound."""
        self._call(routes.delete_track, track_id=track_id)

    def sign_download(self, track_id: ID) -> Download:
        """Return a presigned download of an uploaded track. Raises TrackNotFound, NotUploaded."""
        return cast(Download, self._call(routes.download_track, track_id=track_id)["track_download"])

    # --- The worker, and the end ---

    def run_worker(
        self, stop: Event | None = None, context: Callable[[], AbstractContextManager[Any]] | None = None
    ) -> None:
        """Do the work of `flask loadbay worker` in this thread, until `stop` is set.

        The receivers of signals are called in `context()`, by default the context of `app`.
        """
        worker = Worker([self.service], signal_context=context or self.app.app_context)
        if stop is not None:
            Thread(target=_stop_after, args=[stop, worker], daemon=True).start()
        worker.run()

    def close(self) -> None:
        """Close all connections to the database and the store. The service must not be in use."""
        self.service.close()

    def _call(self, route: Any, payload: Mapping[str, Any] | None = None, **ids: ID) -> dict[str, Any]:
        """Call the view of a route within its contract, and return what it would respond."""
        token = base_url.set(self.base_url)
        try:
            path = {name: _canonical(name, value) for name, value in ids.items()}
            body = _json_object(payload or {})
            content: dict[str, Any] = route.contract.call(route.__wrapped__, self.service, self._caller, body, path)
            return content
        finally:
            base_url.reset(token)
            if self.service.pooled:
                self.service.release()


def _canonical(name: str, value: ID) -> str:
    try:
        return schemas.canonical_uuid(str(value))
    except ValueError as e:
        raise InvalidRequest(f"{name}: {e}") from e


def _json_object(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a payload as the API reads it, within the limits of JSON from outside. Raises InvalidRequest."""
    try:
        return schemas.read_json(orjson.dumps(payload))
    except (TypeError, schemas.JSONError) as e:
        raise InvalidRequest(f"The parameters cannot be written as JSON: {e}.") from e


def _query(values: Mapping[str, object]) -> dict[str, str]:
    """Return values as those of a URL's query."""
    return {name: str(value) for name, value in values.items() if value is not None}


def _stop_after(stop: Event, worker: Worker) -> None:
    stop.wait()
    worker.stop()
