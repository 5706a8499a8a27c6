"""Loadbay, the application: upload sessions in front of any S3 store.

Application, hooks, routes, errors, in this order. A route loads, calls, dumps; what is kept, and by which rules,
is in `storage/`, what is said in `schemas/`, how it is read and answered in `wire.py`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flask import Flask, Response, request
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

import commands
import schemas
from commands.context import report_settings_errors
from storage import api_keys
from storage.clock import isoformat_utc, now
from storage.db.errors import DATABASE_ERRORS
from storage.db.rows import NewTrackRow, TrackRow
from storage.errors import InvalidRequest, ServiceError, UnsupportedMediaType
from storage.service import Service
from storage.settings import FORWARDED_HEADERS, Settings
from storage.uploads import (
    covers,
    idempotency,
    multipart,
    organization,
    sessions,
    staging,
    store_events,
    tracks,
    verification,
)  # fmt: skip
from storage.webhooks import environment
from web.blueprint import StrictBlueprint
from web.cors import add_cors_headers
from web.errors import render_database_error, render_error, render_http_error, render_unexpected_error
from web.fast_flask import FastFlask
from web.health import operations
from web.log_format import configure_logging
from web.openapi.routes import docs
from web.pages import pages
from web.request_log import is_observed, record_request, start_request, with_request_log
from web.requests import (
    BLUEPRINT_NAME,
    bearer_token,
    cover_relay_url,
    current_service,
    hit_rate_limit,
    idempotency_key,
    load_body,
    load_json,
    load_query,
)
from web.responses import json_response

logger = logging.getLogger("loadbay")

MAX_BATCH_BYTES = 8 * 2**20
# A relayed cover comes in a form, whose other parts need some room.
MULTIPART_OVERHEAD_BYTES = 64 * 1024

STORE_UNREACHABLE_HINT = (
    "%s S3_ENDPOINT is %s: start a store there with 'make store', or both store and service with 'make run'."
)

# --- Application -----------------------------------------------------------------------------------------------------

loadbay = StrictBlueprint(BLUEPRINT_NAME, __name__, cli_group=None, template_folder="templates")
loadbay.register_blueprint(docs)
loadbay.register_blueprint(operations)
loadbay.register_blueprint(pages)
commands.register(loadbay.cli)


@loadbay.record
def _register_service(state: BlueprintSetupState) -> None:
    """Give each registration its own service, so that a host may register the blueprint more than once."""
    with report_settings_errors():
        settings = Settings.load(state.options.get("config", os.environ))
        service = Service(settings)
    if settings.create_missing:
        _create_missing(service)
    if service.pooled:
        state.app.teardown_appcontext(lambda _error: service.release())
    name = f"{state.name_prefix}.{state.name}".lstrip(".")
    state.app.extensions.setdefault(BLUEPRINT_NAME, {})[name] = service
    # Whatever this registration has no use for costs its requests nothing. The last of them runs first.
    hooks = state.app.after_request_funcs.setdefault(name, [])
    hooks += [partial(record_request, service)] if is_observed(service) else []
    hooks += [add_cors_headers] if settings.cors_origins else []


def _create_missing(service: Service) -> None:
    """Prepare at start. Without a store the service comes up all the same: presigning needs none."""
    try:
        for line in service.create_missing() + environment.sync_env_webhook(service):
            logger.info(line)
    except ServiceError as e:
        logger.warning(STORE_UNREACHABLE_HINT, e.message, service.settings.s3_endpoint)


def create_app(config: Mapping[str, object] | None = None) -> Flask:
    """The WSGI application. `config` holds the settings by name; without it the environment does.

    Raises storage.settings.SettingsError where a setting is missing or wrong.
    """
    config = os.environ if config is None else config
    configure_logging(config)
    app = FastFlask("loadbay", static_folder=None)
    app.url_map.merge_slashes = app.url_map.redirect_defaults = False
    app.register_blueprint(loadbay, config=config)
    app.register_error_handler(HTTPException, with_request_log(render_http_error))
    settings = app.extensions[BLUEPRINT_NAME][BLUEPRINT_NAME].settings
    app.config["TRUSTED_HOSTS"] = list(settings.trusted_hosts) or None
    if hops := settings.trusted_proxies:
        trusted = {f"x_{name}": hops * (name in settings.trusted_proxy_headers) for name in FORWARDED_HEADERS}
        app.wsgi_app = ProxyFix(app.wsgi_app, **trusted)  # type: ignore[method-assign]
    return app


# --- Hooks and helpers -----------------------------------------------------------------------------------------------


@loadbay.url_value_preprocessor
def prepare_request(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Note the request, and look at its path: all that stands in ours is UUIDs. Capitals are brought to lower case."""
    start_request()
    for name, value in (values or {}).items():
        try:
            values[name] = schemas.canonical_uuid(value)  # type: ignore[index]
        except ValueError as e:
            # The name of a static file is no id, and a browser's preflight is answered by the route alone.
            if name != "file_name" and request.method != "OPTIONS":
                raise InvalidRequest(f"{name}: {e}") from e


def limit_track_rate(service: Service, session_id: str, many: int = 1) -> None:
    """Count tracks of a session, where a rate limits them. One that is not there gets no count of its own."""
    if service.rates is not None and "tracks" in service.rates.items:
        sessions.read(service, session_id)
        hit_rate_limit(service, "tracks", session_id, many)


def with_iso_timestamps(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its times as texts."""
    return {**row, "created_at": isoformat_utc(row["created_at"]), "expires_at": isoformat_utc(row["expires_at"])}


def dump_session(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a session's row."""
    session = with_iso_timestamps(row)
    names = {"upload_session_id": row["id"], "expires_at": session["expires_at"]}
    return session_created_out.dump({**names, "upload_session": session})


def dump_track(row: TrackRow, status: str | None = None) -> dict[str, Any]:
    """Return a track as the API presents it, with the status of its verification if there was one."""
    status = status or verification.presented_status(row)
    return track_out.dump({**row, "status": status, "verified_at": isoformat_utc(row["verified_at"])})


def dump_upload(service: Service, session_id: str, row: NewTrackRow) -> dict[str, Any]:
    """What is said of a track whose bytes may come: itself, and where to send them."""
    names = {"upload_session_id": session_id, "track_id": row["id"]}
    uploads = staging.presign_uploads(service, row, cover_relay_url(session_id, row["id"]))
    return upload_out.dump({**names, "track": row, **uploads})


def track_response(session_id: str, row: TrackRow, status: str | None = None) -> Response:
    """Return the response about one track, with the status of its verification if there was one."""
    track = dump_track(row, status)
    response = json_response({"upload_session_id": session_id, "track_id": row["id"], "track": track})
    if track["status"] == "verifying":
        response.headers["Retry-After"] = str(verification.RETRY_AFTER)
    return response


# --- Routes ----------------------------------------------------------------------------------------------------------

create_session_schema, create_own_session_in = schemas.CreateUploadSession(), schemas.CreateUploadSessionAsUploader()
session_created_out, session_out = schemas.UploadSessionCreatedOut(), schemas.UploadSessionOut()
create_track_in, create_tracks_in, upload_out = schemas.CreateTrack(), schemas.CreateTracks(), schemas.TrackCreatedOut()
track_out = schemas.TrackOut()
cover_upload_out, download_out = schemas.CoverUploadOut(), schemas.DownloadOut()
page_in, track_page_in, session_page_in = (
    schemas.Pagination(),
    schemas.TrackListQuery(),
    schemas.UploadSessionListQuery(),
)
sign_parts_in = schemas.SignParts()
create_key_in, key_created_out = schemas.CreateApiKey(), schemas.ApiKeyCreatedOut()


@loadbay.post("/v1/upload_session")
def create_upload_session() -> Response:
    """Open a session, with its first track where the request has one."""
    service = current_service()
    caller = api_keys.authenticate(service, bearer_token())
    hit_rate_limit(service, "sessions", caller.rate_limit_key)
    payload = load_body(create_session_schema if caller.collection_id is None else create_own_session_in)
    payload["collection_id"] = api_keys.resolve_collection(caller, payload["collection_id"])
    create = lambda keep: keep(lambda: tracks.create_session(service, caller.organization_id, payload))  # noqa: E731
    made = idempotency.run_once(service, idempotency_key(), caller.rate_limit_key, payload, create)
    content = dump_session(made.session or sessions.read(service, made.session_id))
    for row in made.tracks:
        content |= dump_upload(service, made.session_id, row)
    return json_response(content)


@loadbay.get("/v1/upload_session/<upload_session_id>")
def read_upload_session(upload_session_id: str) -> Response:
    """Tell what is known of a session, its tracks counted by status."""
    return json_response(dump_session(sessions.read(current_service(), upload_session_id)))


@loadbay.post("/v1/upload_session/<upload_session_id>/close")
def close_upload_session(upload_session_id: str) -> Response:
    """Take no more tracks, and tell what has become of every one."""
    service = current_service()
    content = dump_session(sessions.close(service, upload_session_id))
    content["manifest"] = {"tracks": [dump_track(row) for row in tracks.iter_tracks(service, upload_session_id)]}
    return json_response(content)


@loadbay.post("/v1/upload/<upload_session_id>/track")
def create_track(upload_session_id: str) -> Response:
    """Register a track and hand out the URLs for its bytes and its cover."""
    service = current_service()
    limit_track_rate(service, upload_session_id)
    payload = load_body(create_track_in)
    make = lambda keep: tracks.create(service, upload_session_id, payload, keep)  # noqa: E731
    made = idempotency.run_once(service, idempotency_key(), upload_session_id, payload, make)
    return json_response(dump_upload(service, upload_session_id, made.tracks[0]))


@loadbay.post("/v1/upload/<upload_session_id>/tracks")
def create_tracks(upload_session_id: str) -> Response:
    """Register many tracks at once: all, or none with an error for each at fault."""
    service, payload = current_service(), load_body(create_tracks_in, MAX_BATCH_BYTES)
    limit_track_rate(service, upload_session_id, len(payload["tracks"]))
    make = lambda keep: keep(lambda: tracks.register_batch(service, upload_session_id, payload["tracks"]))  # noqa: E731
    made = idempotency.run_once(service, idempotency_key(), f"{upload_session_id} batch", payload, make)
    uploads = [dump_upload(service, upload_session_id, row) for row in made.tracks]
    return json_response({"upload_session_id": upload_session_id, "count": len(uploads), "tracks": uploads})


@loadbay.get("/v1/upload/<upload_session_id>/track")
def list_tracks(upload_session_id: str) -> Response:
    """The session's tracks in the order in which they were registered."""
    window = load_query(page_in)
    rows, count = tracks.list_tracks(current_service(), upload_session_id, **window)
    listed = [dump_track(row) for row in rows]
    return json_response({"upload_session_id": upload_session_id, "tracks": listed, "count": count, **window})


@loadbay.get("/v1/upload/<upload_session_id>/track/<track_id>")
def read_track(upload_session_id: str, track_id: str) -> Response:
    """Tell what is known of a track, asking the store first where nothing is known yet."""
    service = current_service()
    outcome = verification.refresh(service, tracks.read(service, upload_session_id, track_id))
    return track_response(upload_session_id, outcome.row, outcome.status)


@loadbay.delete("/v1/upload/<upload_session_id>/track/<track_id>")
def cancel_track(upload_session_id: str, track_id: str) -> Response:
    """Cancel a track and remove what lies in the store."""
    return track_response(upload_session_id, tracks.cancel(current_service(), upload_session_id, track_id))


@loadbay.post("/v1/upload/<upload_session_id>/track/<track_id>/complete")
def complete_track(upload_session_id: str, track_id: str) -> Response:
    """Check a track and its cover with the store, and keep the outcome."""
    service = current_service()
    outcome = verification.complete(service, tracks.read(service, upload_session_id, track_id))
    return track_response(upload_session_id, outcome.row, outcome.status)


@loadbay.post("/v1/upload/<upload_session_id>/track/<track_id>/renew")
def renew_track(upload_session_id: str, track_id: str) -> Response:
    """Fresh URLs for a track that is not uploaded yet."""
    service = current_service()
    return json_response(dump_upload(service, upload_session_id, tracks.renew(service, upload_session_id, track_id)))


@loadbay.get("/v1/upload/<upload_session_id>/track/<track_id>/parts")
def list_parts(upload_session_id: str, track_id: str) -> Response:
    """The parts that the store already has."""
    service = current_service()
    row = tracks.read(service, upload_session_id, track_id)
    return json_response(
        {"track_id": track_id, "parts": multipart.uploaded_parts(service, row), **multipart.part_layout(row)}
    )


@loadbay.post("/v1/upload/<upload_session_id>/track/<track_id>/parts")
def sign_parts(upload_session_id: str, track_id: str) -> Response:
    """URLs for more parts, signed now."""
    service, payload = current_service(), load_body(sign_parts_in)
    row = tracks.read(service, upload_session_id, track_id)
    return json_response({"track_id": track_id, "parts": multipart.sign(service, row, payload["part_numbers"])})


@loadbay.post("/v1/upload/<upload_session_id>/track/<track_id>/cover")
def relay_cover(upload_session_id: str, track_id: str) -> Response:
    """Relay a cover, a form's `file`, to the store."""
    service = current_service()
    request.max_content_length = service.settings.max_cover_bytes + MULTIPART_OVERHEAD_BYTES
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("The cover must come as multipart/form-data with a part named 'file'.")
    file = request.files.get("file")
    if file is None:
        raise InvalidRequest("file: the form has no such part.")
    if not schemas.is_image_type(file.mimetype):
        raise UnsupportedMediaType("file: a cover must be an image, with a content type such as image/jpeg.")
    covers.relay(service, upload_session_id, track_id, file.stream, file.mimetype)
    return json_response({"upload_session_id": upload_session_id, "track_id": track_id})


# What follows takes a full key, and sees what is its organisation's.


def require_full_key() -> tuple[Service, str]:
    """The service, and the organisation of the full key that came with the request."""
    service = current_service()
    return service, api_keys.require_full_key(service, bearer_token()).organization_id


@loadbay.get("/v1/upload_session")
def list_upload_sessions() -> Response:
    """The sessions in the order in which they were opened."""
    service, organization_id = require_full_key()
    window = load_query(session_page_in)
    rows, count = sessions.list_sessions(service, organization_id, **window)
    listed = [session_out.dump(with_iso_timestamps(row)) for row in rows]
    return json_response(
        {"upload_sessions": listed, "count": count, "limit": window["limit"], "offset": window["offset"]}
    )


@loadbay.get("/v1/collection/<collection_id>/track")
def list_collection_tracks(collection_id: str) -> Response:
    """A collection's tracks in the order in which they were registered, whatever their sessions."""
    service, organization_id = require_full_key()
    window = load_query(track_page_in)
    rows, count = organization.list_collection_tracks(service, organization_id, collection_id, **window)
    listed = [dump_track(row) for row in rows]
    names = {"collection_id": collection_id, "limit": window["limit"], "offset": window["offset"]}
    return json_response({"tracks": listed, "count": count, **names})


@loadbay.get("/v1/track/<track_id>")
def get_track(track_id: str) -> Response:
    """Tell what is known of a track, asking the store first where nothing is known yet."""
    service, organization_id = require_full_key()
    outcome = verification.refresh(service, organization.find_track(service, organization_id, track_id))
    return track_response(outcome.row["session_id"], outcome.row, outcome.status)


@loadbay.delete("/v1/track/<track_id>")
def delete_track(track_id: str) -> Response:
    """Delete a track: its row, its bytes, its cover."""
    service, organization_id = require_full_key()
    row = organization.delete(service, organization_id, track_id)
    return json_response({"upload_session_id": row["session_id"], "track_id": track_id})


@loadbay.get("/v1/track/<track_id>/download")
def download_track(track_id: str) -> Response:
    """A URL that gives out the track's bytes under its file's name."""
    service, organization_id = require_full_key()
    row, download = organization.presign_download(service, organization_id, track_id)
    names = {"upload_session_id": row["session_id"], "track_id": track_id}
    return json_response({**names, "track_download": download_out.dump(download)})


@loadbay.post("/v1/track/<track_id>/cover")
def replace_cover(track_id: str) -> Response:
    """A URL for a cover that takes the present one's place as soon as it is checked (`complete`)."""
    service, organization_id = require_full_key()
    row = organization.find_track(service, organization_id, track_id)
    names = {"upload_session_id": row["session_id"], "track_id": track_id}
    upload = covers.presign_replacement(service, row, cover_relay_url(row["session_id"], track_id))
    return json_response({**names, "track_cover_upload": cover_upload_out.dump(upload)})


@loadbay.post("/v1/api_key")
def create_api_key() -> Response:
    """Make a key that only opens upload sessions of one collection."""
    service, organization_id = require_full_key()
    payload = load_body(create_key_in)
    expires_at = payload["expires_in"] and now() + payload["expires_in"]
    place = {"organization_id": organization_id, "collection_id": payload["collection_id"]}
    key, row = api_keys.create(service, payload["name"], **place, role=payload["role"], expires_at=expires_at)
    told = {**with_iso_timestamps(row), "organization_id": organization_id or None}
    return json_response(key_created_out.dump({"key": key, "api_key": told}))


@loadbay.post("/v1/store_event")
def receive_store_event() -> Response:
    """An event notification of the store: a hint to look."""
    service = current_service()
    api_keys.authorize_store(service, bearer_token())
    return json_response({"count": store_events.handle_notification(service, load_json(MAX_BATCH_BYTES))})


# --- Errors ----------------------------------------------------------------------------------------------------------

ERROR_HANDLERS: dict[type[Exception], Callable[[Any], Response]] = {
    ServiceError: render_error,
    HTTPException: render_http_error,
    **dict.fromkeys(DATABASE_ERRORS, render_database_error),
    Exception: render_unexpected_error,
}
for kind, render in ERROR_HANDLERS.items():
    loadbay.register_error_handler(kind, render)
