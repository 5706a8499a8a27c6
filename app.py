"""Loadbay, the application: upload sessions in front of any S3 store.

In this order: application, hooks, routes, errors. Each route states its contract; its view calls a rule in `storage/`
and returns what the rule returned. `schemas/` has the shapes of requests and responses, `web/` everything else of HTTP.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flask import Flask, request
from werkzeug.exceptions import HTTPException

import commands
import schemas
from storage import api_keys, jobs
from storage.api_keys import Principal
from storage.clock import now
from storage.db.rows import NewTrackRow, SessionRow, TrackRow
from storage.errors import (
    ByteLimitReached,
    Forbidden,
    InvalidRequest,
    InvalidTrackState,
    KeyLimitReached,
    NotUploaded,
    SessionClosed,
    SessionExpired,
    SessionNotFound,
    SessionOpen,
    StorageRejected,
    StorageUnavailable,
    TooLarge,
    TrackLimitReached,
    TrackNotFound,
    Unauthorized,
)
from storage.noticing import sns, store_events
from storage.page import uses_folder
from storage.service import Service
from storage.sharing import receipts, session_changes, track_changes
from storage.uploads import covers, multipart, organization, sessions, staging, tracks, verification
from storage.uploads.idempotency import RequestKey
from storage.uploads.sessions import Page
from storage.uploads.verification import Outcome
from web.blueprint import NullSessionInterface, StrictBlueprint
from web.contract import Contract
from web.errors import ERROR_HANDLERS, render_http_error
from web.flask_class import flask_class
from web.health import health
from web.log_format import configure_logging
from web.openapi.routes import docs
from web.pages.folder import with_image_urls
from web.pages.routes import IMAGE_FOLDER, pages
from web.registration import apply_proxy_settings, register_service
from web.request_log import start_request, with_request_log
from web.requests import BLUEPRINT_NAME, cover_relay_url, load_image, service_url

MAX_BATCH_BYTES = 2 * 2**20
MAX_EVENT_BYTES = 8 * 2**20

Payload = dict[str, Any]
Content = dict[str, Any]

# --- Application -----------------------------------------------------------------------------------------------------

loadbay = StrictBlueprint(BLUEPRINT_NAME, __name__, template_folder="templates")
loadbay.register_blueprint(docs)
loadbay.register_blueprint(health)
loadbay.register_blueprint(pages)
commands.register(loadbay.cli)
for error_type, render in ERROR_HANDLERS.items():
    loadbay.register_error_handler(error_type, render)
loadbay.record(register_service)


def create_app(config: Mapping[str, object] | None = None) -> Flask:
    """Return the WSGI application. `config` has the settings by name; the default is the environment.

    Raises storage.settings.SettingsError for a missing or invalid setting.
    """
    config = os.environ if config is None else config
    configure_logging(config)
    app = flask_class()("loadbay", static_folder=None)
    app.session_interface = NullSessionInterface()
    app.url_map.merge_slashes = app.url_map.redirect_defaults = False
    # In a host the commands are a group of their own.
    app.register_blueprint(loadbay, config=config, standalone=True, cli_group=None)
    app.register_error_handler(HTTPException, with_request_log(render_http_error))
    apply_proxy_settings(app, app.extensions[BLUEPRINT_NAME][BLUEPRINT_NAME].settings)
    return app


# --- Hooks and helpers -----------------------------------------------------------------------------------------------


@loadbay.url_value_preprocessor
def prepare_request(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Start the request, and bring the UUIDs in its path to lower case. Raises InvalidRequest for what is none."""
    start_request()
    for name, value in (values or {}).items():
        try:
            values[name] = schemas.canonical_uuid(value)  # type: ignore[index]
        except ValueError as e:
            # A static file's name and a secret are no ids, and a browser's preflight request only asks for the route.
            if name not in ("file_name", "store_token") and request.method != "OPTIONS":
                raise InvalidRequest(f"{name}: {e}") from e


def session_content(service: Service, row: SessionRow) -> Content:
    """Return the content of a response about a session."""
    return {"upload_session_id": row["id"], "upload_session": with_page(service, row), "expires_at": row["expires_at"]}


def with_page(service: Service, row: SessionRow) -> SessionRow:
    """Return a session's row with its whole page, the defaults included."""
    page = service.page_defaults.effective(row["organization_id"], row["page"])
    row["page"] = with_image_urls(page, service_url(IMAGE_FOLDER)) if uses_folder(page) else page
    return row


def track_content(row: TrackRow) -> Content:
    """Return the content of a response about a track."""
    return {"upload_session_id": row["session_id"], "track_id": row["id"], "track": present(row)}


def verification_content(outcome: Outcome) -> Content:
    """Return the content of a response about a track that has been verified, or still is."""
    content = track_content(outcome.row)
    content["track"]["status"] = outcome.status
    return {**content, "retry_after": verification.RETRY_AFTER if outcome.status == "verifying" else None}


def present(row: TrackRow) -> Content:
    """Return a track's row with the status that the API shows."""
    return {**row, "status": verification.presented_status(row)}


def window(page: Page[Any], query: Payload) -> Content:
    """Return the content of a response about the window of a list that it has."""
    return {**query, "count": page.total, "next_after": page.next_after}


def upload_content(service: Service, session_id: str, row: NewTrackRow) -> Content:
    """Return the content of a response about a track that can be uploaded: the track and its presigned uploads."""
    uploads = staging.presign_uploads(service, row, cover_relay_url(session_id, row["id"]))
    return {"upload_session_id": session_id, "track_id": row["id"], "track": row, **uploads}


# --- Routes: whoever has a session's id ------------------------------------------------------------------------------

TRACK_ERRORS = (SessionNotFound, TrackNotFound)
CLOSED_SESSION_ERRORS = (SessionExpired, SessionClosed)
STORAGE_ERRORS = (StorageUnavailable, StorageRejected)
# A repeated request may find that its track has been deleted.
CREATE_TRACK_ERRORS = (
    *CLOSED_SESSION_ERRORS, TrackNotFound, TrackLimitReached, ByteLimitReached, KeyLimitReached, TooLarge,
    *STORAGE_ERRORS,
)  # fmt: skip


@loadbay.post("/v1/upload_session")
@Contract(
    tag="Upload sessions",
    body=schemas.CreateUploadSession,
    response=schemas.UploadSessionCreatedResponse,
    errors=CREATE_TRACK_ERRORS,
    auth="api_key",
    idempotent=True,
    rate_limit="sessions",
    links=("read_upload_session", "create_track", "list_tracks", "close_upload_session"),
)
def create_upload_session(service: Service, caller: Principal, payload: Payload, key: RequestKey | None) -> Content:
    """Create an upload session.

    With `track`, its first track is registered in the same request.
    """
    payload["collection_id"] = api_keys.resolve_collection(caller, payload["collection_id"])
    payload["rules"] = api_keys.resolve_rules(caller, payload["rules"])
    payload["page"] = api_keys.resolve_page(caller, payload["page"])
    payload["api_key_seq"] = caller.limited_seq
    created = tracks.create_session(service, caller.organization_id, payload, key)
    content = session_content(service, created.session or sessions.read(service, created.session_id))
    for row in created.tracks:
        content |= upload_content(service, created.session_id, row)
    jobs.warn_without_worker(service)
    return content


@loadbay.get("/v1/upload_session/<upload_session_id>")
@Contract(tag="Upload sessions", response=schemas.UploadSessionResponse, errors=(SessionNotFound,))
def read_upload_session(service: Service, upload_session_id: str) -> Content:
    """Retrieve an upload session, with the number of its tracks by status."""
    return session_content(service, sessions.read(service, upload_session_id))


@loadbay.post("/v1/upload_session/<upload_session_id>/close")
@Contract(tag="Upload sessions", response=schemas.UploadSessionClosedResponse, errors=(SessionNotFound,))
def close_upload_session(service: Service, upload_session_id: str) -> Content:
    """Close an upload session, and return its first tracks.

    A closed session accepts no more tracks. Tracks that are registered already can still be uploaded.
    """
    row = sessions.close(service, upload_session_id)
    page = tracks.list_tracks(service, upload_session_id, schemas.MAX_PAGE)
    return {
        **session_content(service, row),
        "manifest": {"tracks": map(present, page.rows), "next_after": page.next_after},
    }


@loadbay.get("/v1/upload/<upload_session_id>/receipt")
@Contract(
    tag="Upload sessions",
    query=schemas.ReceiptQuery,
    response=schemas.ReceiptResponse,
    errors=(SessionNotFound, SessionOpen),
)
def read_receipt(service: Service, query: Payload, upload_session_id: str) -> Content:
    """Return a page of the signed receipt of a session that is closed or expired: what has arrived until now."""
    receipt = receipts.issue(service, upload_session_id, **query)
    return {"upload_session_id": upload_session_id, "receipt": receipt.jws, "next_after": receipt.next_after}


@loadbay.post("/v1/upload/<upload_session_id>/track")
@Contract(
    tag="Tracks",
    body=schemas.CreateTrack,
    response=schemas.TrackCreatedResponse,
    errors=(SessionNotFound, *CREATE_TRACK_ERRORS),
    idempotent=True,
    rate_limit="tracks",
    links=(
        "read_track", "complete_track", "renew_track", "cancel_track", "list_parts",
        "get_track", "download_track", "replace_cover", "delete_track",
    ),
)  # fmt: skip
def create_track(service: Service, payload: Payload, key: RequestKey | None, upload_session_id: str) -> Content:
    """Register a track, and return presigned URLs for its file and its cover."""
    created = tracks.create(service, upload_session_id, payload, key)
    return upload_content(service, upload_session_id, created.tracks[0])


@loadbay.post("/v1/upload/<upload_session_id>/tracks")
@Contract(
    tag="Tracks",
    body=schemas.CreateTracks,
    max_body_bytes=MAX_BATCH_BYTES,
    batch="tracks",
    response=schemas.TracksCreatedResponse,
    errors=(SessionNotFound, *CREATE_TRACK_ERRORS),
    idempotent=True,
    rate_limit="tracks",
)
def create_tracks(service: Service, payload: Payload, key: RequestKey | None, upload_session_id: str) -> Content:
    """Register a batch of tracks: all, or none with an error for each invalid one."""
    created = tracks.create_batch(service, upload_session_id, payload["tracks"], key)
    uploads = [upload_content(service, upload_session_id, row) for row in created.tracks]
    return {"upload_session_id": upload_session_id, "count": len(uploads), "tracks": uploads}


@loadbay.post("/v1/upload/<upload_session_id>/complete")
@Contract(
    tag="Tracks",
    body=schemas.CompleteTracks,
    response=schemas.TracksVerifiedResponse,
    errors=(*TRACK_ERRORS, *STORAGE_ERRORS),
)
def complete_tracks(service: Service, payload: Payload, upload_session_id: str) -> Content:
    """Verify uploaded tracks and their covers side by side, and record the results.

    Verification ends within ten seconds; a track that is not decided by then is `verifying`: then ask again after
    Retry-After seconds. A track without an uploaded file is `not_uploaded`, which changes nothing. Of more than 200
    tracks, `metadata` is null.
    """
    rows = tracks.read_unfinished(service, upload_session_id, payload["track_ids"], schemas.MAX_BATCH)
    outcomes = verification.verify(service, rows)
    results = [
        {"track_id": outcome.row["id"], "status": outcome.status, "track": present(outcome.row)} for outcome in outcomes
    ]
    verifying = any(outcome.status == "verifying" for outcome in outcomes)
    return {
        "upload_session_id": upload_session_id,
        "count": len(results),
        "tracks": results,
        "retry_after": verification.RETRY_AFTER if verifying else None,
    }


@loadbay.get("/v1/upload/<upload_session_id>/track")
@Contract(tag="Tracks", query=schemas.Pagination, response=schemas.TrackListResponse, errors=(SessionNotFound,))
def list_tracks(service: Service, query: Payload, upload_session_id: str) -> Content:
    """List a session's tracks in the order of their registration."""
    page = tracks.list_tracks(service, upload_session_id, **query)
    return {"upload_session_id": upload_session_id, "tracks": map(present, page.rows), **window(page, query)}


@loadbay.get("/v1/upload/<upload_session_id>/track/<track_id>")
@Contract(tag="Tracks", response=schemas.TrackResponse, errors=(*TRACK_ERRORS, *STORAGE_ERRORS))
def read_track(service: Service, upload_session_id: str, track_id: str) -> Content:
    """Retrieve a track. One that is not verified yet is looked up in the store first."""
    return verification_content(verification.refresh(service, tracks.read(service, upload_session_id, track_id)))


@loadbay.patch("/v1/upload/<upload_session_id>/track/<track_id>")
@Contract(
    tag="Tracks",
    body=schemas.ChangeTrack,
    response=schemas.TrackResponse,
    errors=(*TRACK_ERRORS, *CLOSED_SESSION_ERRORS, Forbidden, InvalidTrackState),
)
def change_track(service: Service, payload: Payload, upload_session_id: str, track_id: str) -> Content:
    """Change a track's metadata or file name, as long as its session is open."""
    return track_content(track_changes.change(service, upload_session_id, track_id, payload))


@loadbay.delete("/v1/upload/<upload_session_id>/track/<track_id>")
@Contract(
    tag="Tracks",
    query=schemas.CancelQuery,
    response=schemas.TrackResponse,
    errors=(*TRACK_ERRORS, *CLOSED_SESSION_ERRORS, Forbidden, InvalidTrackState, *STORAGE_ERRORS),
)
def cancel_track(service: Service, query: Payload, upload_session_id: str, track_id: str) -> Content:
    """Cancel a track that is not uploaded, and remove its objects from the store.

    With `uploaded=true`, delete a track whatever its status, as long as its session is open.
    """
    if query["uploaded"]:
        return track_content(track_changes.remove(service, upload_session_id, track_id))
    return track_content(tracks.cancel(service, upload_session_id, track_id))


@loadbay.post("/v1/upload/<upload_session_id>/track/<track_id>/complete")
@Contract(tag="Tracks", response=schemas.TrackResponse, errors=(*TRACK_ERRORS, NotUploaded, *STORAGE_ERRORS))
def complete_track(service: Service, upload_session_id: str, track_id: str) -> Content:
    """Verify an uploaded track and its cover, and record the result.

    Verification ends within ten seconds, or the track is `verifying`: then ask again after Retry-After seconds.
    """
    return verification_content(verification.complete(service, tracks.read(service, upload_session_id, track_id)))


@loadbay.post("/v1/upload/<upload_session_id>/track/<track_id>/renew")
@Contract(
    tag="Tracks",
    response=schemas.TrackCreatedResponse,
    errors=(*TRACK_ERRORS, *CLOSED_SESSION_ERRORS, InvalidTrackState, *STORAGE_ERRORS),
)
def renew_track(service: Service, upload_session_id: str, track_id: str) -> Content:
    """Return new presigned URLs for a track that is not uploaded. A failed track is reset to `initialized`."""
    return upload_content(service, upload_session_id, tracks.renew(service, upload_session_id, track_id))


@loadbay.get("/v1/upload/<upload_session_id>/track/<track_id>/parts")
@Contract(
    tag="Multipart uploads",
    response=schemas.PartListResponse,
    errors=(*TRACK_ERRORS, InvalidTrackState, *STORAGE_ERRORS),
)
def list_parts(service: Service, upload_session_id: str, track_id: str) -> Content:
    """List the parts that the store has received."""
    row = tracks.read(service, upload_session_id, track_id)
    tracks.check_limit(service, row)
    return {"track_id": track_id, "parts": multipart.uploaded_parts(service, row), **multipart.part_layout(row)}


@loadbay.post("/v1/upload/<upload_session_id>/track/<track_id>/parts")
@Contract(
    tag="Multipart uploads",
    body=schemas.SignParts,
    response=schemas.SignedPartsResponse,
    errors=(*TRACK_ERRORS, *CLOSED_SESSION_ERRORS, InvalidTrackState, *STORAGE_ERRORS),
)
def sign_parts(service: Service, payload: Payload, upload_session_id: str, track_id: str) -> Content:
    """Return presigned URLs for parts."""
    row = tracks.read(service, upload_session_id, track_id)
    return {"track_id": track_id, "parts": multipart.sign(service, row, payload["part_numbers"])}


@loadbay.post("/v1/upload/<upload_session_id>/track/<track_id>/cover")
@Contract(
    tag="Covers",
    image_form=True,
    response=schemas.TrackRefResponse,
    errors=(*TRACK_ERRORS, *CLOSED_SESSION_ERRORS, InvalidTrackState, *STORAGE_ERRORS),
)
def relay_cover(service: Service, upload_session_id: str, track_id: str) -> Content:
    """Upload a cover through the service, which sends it to the store."""
    file = load_image(service.settings.max_cover_bytes)
    covers.relay(service, upload_session_id, track_id, file.stream, file.mimetype)
    return {"upload_session_id": upload_session_id, "track_id": track_id}


@loadbay.post("/v1/upload/<upload_session_id>/track/<track_id>/cover_upload")
@Contract(
    tag="Covers",
    response=schemas.CoverUploadResponse,
    errors=(*TRACK_ERRORS, *CLOSED_SESSION_ERRORS, Forbidden, NotUploaded, InvalidTrackState),
)
def replace_own_cover(service: Service, upload_session_id: str, track_id: str) -> Content:
    """Return a presigned upload for a new cover of an uploaded track, as long as its session is open."""
    relay_url = cover_relay_url(upload_session_id, track_id)
    row, upload = track_changes.replace_cover(service, upload_session_id, track_id, relay_url)
    return {**track_content(row), "track_cover_upload": upload}


# --- Routes: full API keys, limited to their organization ------------------------------------------------------------


@loadbay.patch("/v1/upload_session/<upload_session_id>")
@Contract(
    tag="Organization",
    body=schemas.ChangeUploadSession,
    response=schemas.UploadSessionResponse,
    errors=(SessionNotFound, *CLOSED_SESSION_ERRORS),
    auth="full_key",
)
def change_upload_session(service: Service, caller: Principal, payload: Payload, upload_session_id: str) -> Content:
    """Change an open session of the organization: its end, metadata, limits, rules, page and fields."""
    return session_content(service, session_changes.change(service, caller.organization_id, upload_session_id, payload))


@loadbay.get("/v1/upload_session")
@Contract(
    tag="Organization",
    query=schemas.UploadSessionListQuery,
    response=schemas.UploadSessionListResponse,
    auth="full_key",
)
def list_upload_sessions(service: Service, caller: Principal, query: Payload) -> Content:
    """List the organization's upload sessions in the order of their creation."""
    page = sessions.list_sessions(service, caller.organization_id, **query)
    return {"upload_sessions": [with_page(service, row) for row in page.rows], **window(page, query)}


@loadbay.get("/v1/collection/<collection_id>/track")
@Contract(
    tag="Organization",
    query=schemas.TrackListQuery,
    response=schemas.CollectionTrackListResponse,
    auth="full_key",
)
def list_collection_tracks(service: Service, caller: Principal, query: Payload, collection_id: str) -> Content:
    """List a collection's tracks of all sessions, in the order of their registration or by duration."""
    page = organization.list_collection_tracks(service, caller.organization_id, collection_id, **query)
    return {"collection_id": collection_id, "tracks": map(present, page.rows), **window(page, query)}


@loadbay.get("/v1/track/<track_id>")
@Contract(
    tag="Organization",
    response=schemas.TrackResponse,
    errors=(TrackNotFound, *STORAGE_ERRORS),
    auth="full_key",
)
def get_track(service: Service, caller: Principal, track_id: str) -> Content:
    """Retrieve a track. One that is not verified yet is looked up in the store first."""
    row = organization.find_track(service, caller.organization_id, track_id)
    return verification_content(verification.refresh(service, row))


@loadbay.delete("/v1/track/<track_id>")
@Contract(
    tag="Organization",
    response=schemas.TrackRefResponse,
    errors=(TrackNotFound, *STORAGE_ERRORS),
    auth="full_key",
)
def delete_track(service: Service, caller: Principal, track_id: str) -> Content:
    """Delete a track with its file and its cover."""
    return track_content(organization.delete(service, caller.organization_id, track_id))


@loadbay.get("/v1/track/<track_id>/download")
@Contract(
    tag="Organization",
    response=schemas.DownloadResponse,
    errors=(TrackNotFound, NotUploaded, *STORAGE_ERRORS),
    auth="full_key",
)
def download_track(service: Service, caller: Principal, track_id: str) -> Content:
    """Return presigned URLs that download the file under its original name, and its cover."""
    row, downloads = organization.presign_downloads(service, caller.organization_id, track_id)
    return {**track_content(row), **downloads}


@loadbay.post("/v1/track/<track_id>/cover")
@Contract(
    tag="Covers",
    response=schemas.CoverUploadResponse,
    errors=(TrackNotFound, NotUploaded, InvalidTrackState),
    auth="full_key",
)
def replace_cover(service: Service, caller: Principal, track_id: str) -> Content:
    """Return a presigned upload for a new cover, which replaces the current one once it is verified (`complete`)."""
    row = organization.find_track(service, caller.organization_id, track_id)
    upload = covers.presign_replacement(service, row, cover_relay_url(row["session_id"], track_id))
    return {**track_content(row), "track_cover_upload": upload}


@loadbay.post("/v1/api_key")
@Contract(tag="Organization", body=schemas.CreateApiKey, response=schemas.ApiKeyCreatedResponse, auth="full_key")
def create_api_key(service: Service, caller: Principal, payload: Payload) -> Content:
    """Create an uploader key, which only opens upload sessions of one collection."""
    expires_in = payload.pop("expires_in")
    expires_at = expires_in and now() + expires_in
    key, row = api_keys.create(service, organization_id=caller.organization_id, expires_at=expires_at, **payload)
    content = {**row, "organization_id": caller.organization_id or None, "rules": payload["rules"] or None}
    content["page"] = payload["page"] or None
    return {"key": key, "api_key": content}


# --- Routes: the store -----------------------------------------------------------------------------------------------


@loadbay.post("/v1/store_event")
@Contract(
    tag="Store",
    body=schemas.StoreEvent,
    max_body_bytes=MAX_EVENT_BYTES,
    response=schemas.StoreEventResponse,
    errors=STORAGE_ERRORS,
    auth="store_secret",
)
def receive_store_event(service: Service, payload: Payload) -> Content:
    """Receive an event notification of the store, and verify the tracks it is about."""
    return {"count": store_events.handle_notification(service, payload)}


@loadbay.post("/v1/store_event/<store_token>")
@Contract(
    tag="Store",
    body=schemas.StoreEventByPath,
    max_body_bytes=MAX_EVENT_BYTES,
    response=schemas.StoreEventResponse,
    errors=(Unauthorized, *STORAGE_ERRORS),
)
def receive_store_event_by_path(service: Service, payload: Payload, store_token: str) -> Content:
    """Receive an event notification of a store that can send no Bearer token, such as Ceph: the secret is in the path.

    Its media type does not matter.
    """
    return {"count": store_events.handle_notification(service, payload)}


@loadbay.post("/v1/store_event/sns")
@Contract(
    tag="Store",
    body=schemas.SNSMessage,
    response=schemas.StoreEventResponse,
    errors=(Unauthorized, *STORAGE_ERRORS),
)
def receive_sns_message(service: Service, payload: Payload) -> Content:
    """Receive a message of Amazon SNS with an event notification, or confirm a subscription.

    SNS signs its messages, and calls them text/plain.
    """
    return {"count": sns.handle_message(service, payload)}
