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

from flask import Flask, Response, request, url_for
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

import commands
import schemas
from docs import docs
from framework import Application, Routes
from logs import set_up_logs
from operations import begin, finish, observed, operations, watched
from pages import pages
from storage import across, events, idempotency, keys, multipart, sessions, tracks, verify, webhooks
from storage.clock import iso, now
from storage.errors import Forbidden, InvalidRequest, ServiceError, WrongMediaType
from storage.models import DATABASE_ERRORS
from storage.service import Service
from storage.settings import FORWARDED, Settings
from wire import (
    NAME,
    allow_origin,
    answer,
    bearer_key,
    count,
    idempotency_key,
    load,
    load_json,
    load_query,
    render_database_error,
    render_error,
    render_fault,
    render_http_error,
    service,
)

logger = logging.getLogger("loadbay")

MAX_BATCH_BYTES = 8 * 2**20
# A relayed cover comes in a form, whose other parts need some room.
FORM_BYTES = 64 * 1024

NO_STORE = "%s S3_ENDPOINT is %s: start a store there with 'make store', or both store and service with 'make run'."

# --- Application -----------------------------------------------------------------------------------------------------

loadbay = Routes(NAME, __name__, cli_group=None)
loadbay.register_blueprint(docs)
loadbay.register_blueprint(operations)
loadbay.register_blueprint(pages)
commands.register(loadbay.cli)


@loadbay.record
def _set_up(state: BlueprintSetupState) -> None:
    """Give each registration its own service, so that a host may register the blueprint more than once."""
    settings = Settings.load(state.options.get("config", os.environ))
    service = Service(settings)
    if settings.create_missing:
        _prepare(service)
    if service.pooled:
        state.app.teardown_appcontext(lambda _error: service.release())
    name = f"{state.name_prefix}.{state.name}".lstrip(".")
    state.app.extensions.setdefault(NAME, {})[name] = service
    # Whatever this registration has no use for costs its requests nothing. The last of them runs first.
    hooks = state.app.after_request_funcs.setdefault(name, [])
    hooks += [partial(finish, service)] if watched(service) else []
    hooks += [allow_origin] if settings.cors_origins else []


def _prepare(service: Service) -> None:
    """Prepare at start. Without a store the service comes up all the same: presigning needs none."""
    try:
        for line in service.prepare() + webhooks.follow_environment(service):
            logger.info(line)
    except ServiceError as e:
        logger.warning(NO_STORE, e.message, service.settings.s3_endpoint)


def create_app(config: Mapping[str, object] | None = None) -> Flask:
    """The WSGI application. `config` holds the settings by name; without it the environment does.

    Raises storage.settings.SettingsError where a setting is missing or wrong.
    """
    config = os.environ if config is None else config
    set_up_logs(config)
    app = Application("loadbay", static_folder=None)
    app.url_map.merge_slashes = app.url_map.redirect_defaults = False
    app.register_blueprint(loadbay, config=config)
    app.register_error_handler(HTTPException, observed(render_http_error))
    settings = app.extensions[NAME][NAME].settings
    app.config["TRUSTED_HOSTS"] = list(settings.trusted_hosts) or None
    if hops := settings.trusted_proxies:
        trusted = {f"x_{name}": hops * (name in settings.trusted_proxy_headers) for name in FORWARDED}
        app.wsgi_app = ProxyFix(app.wsgi_app, **trusted)  # type: ignore[method-assign]
    return app


# --- Hooks and helpers -----------------------------------------------------------------------------------------------


@loadbay.url_value_preprocessor
def begin_request(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Note the request, and look at its path: all that stands in ours is UUIDs. Capitals are brought to lower case."""
    begin()
    for name, value in (values or {}).items():
        try:
            values[name] = schemas.canonical_uuid(value)  # type: ignore[index]
        except ValueError as e:
            # The name of a static file is no id, and a browser's preflight is answered by the route alone.
            if name != "file_name" and request.method != "OPTIONS":
                raise InvalidRequest(f"{name}: {e}") from e


def count_tracks(here: Service, session_id: str, many: int = 1) -> None:
    """Count tracks of a session, where a rate limits them. One that is not there gets no count of its own."""
    if here.rates is not None and "tracks" in here.rates.items:
        sessions.read(here, session_id)
        count(here, "tracks", session_id, many)


def in_words(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its times as texts."""
    return {**row, "created_at": iso(row["created_at"]), "expires_at": iso(row["expires_at"])}


def dump_session(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a session's row."""
    session = in_words(row)
    names = {"upload_session_id": row["id"], "expires_at": session["expires_at"]}
    return session_created_out.dump({**names, "upload_session": session})


def dump_track(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a track's row."""
    return track_out.dump({**row, "checked_at": iso(row["checked_at"])})


def dump_upload(here: Service, session_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a track whose bytes may come: itself, and where to send them."""
    names = {"upload_session_id": session_id, "track_id": row["id"]}
    return upload_out.dump({**names, "track": row, **tracks.uploads(here, row, relay_url(here, names))})


def relay_url(here: Service, names: Mapping[str, str]) -> str | None:
    """Where a track's cover goes when it does not go straight to the store."""
    return url_for(".relay_cover", **names, _external=True) if here.settings.cover_upload == "relay" else None


def answer_track(session_id: str, row: Mapping[str, Any]) -> Response:
    """The answer that tells of one track."""
    return answer({"upload_session_id": session_id, "track_id": row["id"], "track": dump_track(row)})


# --- Routes ----------------------------------------------------------------------------------------------------------

create_session_in, create_own_session_in = schemas.CreateUploadSession(), schemas.CreateOwnUploadSession()
session_created_out, session_out = schemas.UploadSessionCreatedOut(), schemas.UploadSessionOut()
create_track_in, create_tracks_in, upload_out = schemas.CreateTrack(), schemas.CreateTracks(), schemas.TrackCreatedOut()
track_out = schemas.TrackOut()
cover_upload_out, download_out = schemas.CoverUploadOut(), schemas.DownloadOut()
page_in, track_page_in, session_page_in = schemas.Page(), schemas.TrackPage(), schemas.UploadSessionPage()
sign_parts_in = schemas.SignParts()
create_key_in, key_created_out = schemas.CreateApiKey(), schemas.ApiKeyCreatedOut()


@loadbay.post("/v1/upload_session")
def create_upload_session() -> Response:
    """Open a session, with its first track where the request has one."""
    here = service()
    caller = keys.authorize(here, bearer_key())
    count(here, "sessions", caller.scope)
    words = load(create_session_in if caller.collection_id is None else create_own_session_in)
    words["collection_id"] = keys.own_collection(caller, words["collection_id"])
    make = lambda keep: keep(lambda: tracks.open_session(here, caller.organization_id, words))  # noqa: E731
    made = idempotency.once(here, idempotency_key(), caller.scope, words, make)
    content = dump_session(made.session or sessions.read(here, made.session_id))
    for row in made.tracks:
        content |= dump_upload(here, made.session_id, row)
    return answer(content)


@loadbay.get("/v1/upload_session/<upload_session_id>")
def read_upload_session(upload_session_id: str) -> Response:
    """Tell what is known of a session, its tracks counted by status."""
    return answer(dump_session(sessions.read(service(), upload_session_id)))


@loadbay.post("/v1/upload_session/<upload_session_id>/close")
def close_upload_session(upload_session_id: str) -> Response:
    """Take no more tracks, and tell what has become of every one."""
    here = service()
    content = dump_session(sessions.close(here, upload_session_id))
    content["manifest"] = {"tracks": [dump_track(row) for row in tracks.every(here, upload_session_id)]}
    return answer(content)


@loadbay.post("/v1/upload/<upload_session_id>/track")
def create_track(upload_session_id: str) -> Response:
    """Register a track and hand out the URLs for its bytes and its cover."""
    here = service()
    count_tracks(here, upload_session_id)
    words = load(create_track_in)
    make = lambda keep: tracks.create(here, upload_session_id, words, keep)  # noqa: E731
    made = idempotency.once(here, idempotency_key(), upload_session_id, words, make)
    return answer(dump_upload(here, upload_session_id, made.tracks[0]))


@loadbay.post("/v1/upload/<upload_session_id>/tracks")
def create_tracks(upload_session_id: str) -> Response:
    """Register many tracks at once: all, or none with an error for each at fault."""
    here, words = service(), load(create_tracks_in, MAX_BATCH_BYTES)
    count_tracks(here, upload_session_id, len(words["tracks"]))
    make = lambda keep: keep(lambda: tracks.register_batch(here, upload_session_id, words["tracks"]))  # noqa: E731
    made = idempotency.once(here, idempotency_key(), f"{upload_session_id} batch", words, make)
    uploads = [dump_upload(here, upload_session_id, row) for row in made.tracks]
    return answer({"upload_session_id": upload_session_id, "count": len(uploads), "tracks": uploads})


@loadbay.get("/v1/upload/<upload_session_id>/track")
def list_tracks(upload_session_id: str) -> Response:
    """The session's tracks in the order in which they were registered."""
    window = load_query(page_in)
    rows, count = tracks.page(service(), upload_session_id, **window)
    listed = [dump_track(row) for row in rows]
    return answer({"upload_session_id": upload_session_id, "tracks": listed, "count": count, **window})


@loadbay.get("/v1/upload/<upload_session_id>/track/<track_id>")
def read_track(upload_session_id: str, track_id: str) -> Response:
    """Tell what is known of a track, asking the store first where nothing is known yet."""
    here = service()
    return answer_track(upload_session_id, verify.peek(here, tracks.read(here, upload_session_id, track_id)))


@loadbay.delete("/v1/upload/<upload_session_id>/track/<track_id>")
def cancel_track(upload_session_id: str, track_id: str) -> Response:
    """Cancel a track and remove what lies in the store."""
    return answer_track(upload_session_id, tracks.cancel(service(), upload_session_id, track_id))


@loadbay.post("/v1/upload/<upload_session_id>/track/<track_id>/complete")
def complete_track(upload_session_id: str, track_id: str) -> Response:
    """Check a track and its cover with the store, and keep the outcome."""
    here = service()
    return answer_track(upload_session_id, verify.complete(here, tracks.read(here, upload_session_id, track_id)))


@loadbay.post("/v1/upload/<upload_session_id>/track/<track_id>/renew")
def renew_track(upload_session_id: str, track_id: str) -> Response:
    """Fresh URLs for a track that is not uploaded yet."""
    here = service()
    return answer(dump_upload(here, upload_session_id, tracks.renew(here, upload_session_id, track_id)))


@loadbay.get("/v1/upload/<upload_session_id>/track/<track_id>/parts")
def list_parts(upload_session_id: str, track_id: str) -> Response:
    """The parts that the store already has."""
    here = service()
    row = tracks.read(here, upload_session_id, track_id)
    return answer({"track_id": track_id, "parts": multipart.arrived(here, row), **multipart.shape(row)})


@loadbay.post("/v1/upload/<upload_session_id>/track/<track_id>/parts")
def sign_parts(upload_session_id: str, track_id: str) -> Response:
    """URLs for more parts, signed now."""
    here, words = service(), load(sign_parts_in)
    row = tracks.read(here, upload_session_id, track_id)
    return answer({"track_id": track_id, "parts": multipart.sign(here, row, words["part_numbers"])})


@loadbay.post("/v1/upload/<upload_session_id>/track/<track_id>/cover")
def relay_cover(upload_session_id: str, track_id: str) -> Response:
    """Take a cover as a form's `file` and pass it on to the store (COVER_UPLOAD=relay)."""
    here = service()
    if here.settings.cover_upload != "relay":
        raise Forbidden("Covers go straight to the store here: use track_cover_upload.upload_url.")
    request.max_content_length = here.settings.max_cover_bytes + FORM_BYTES
    if request.mimetype != "multipart/form-data":
        raise WrongMediaType("The cover must come as multipart/form-data with a part named 'file'.")
    file = request.files.get("file")
    if file is None:
        raise InvalidRequest("file: the form has no such part.")
    if not schemas.is_image_type(file.mimetype):
        raise WrongMediaType("file: a cover must be an image, with a content type such as image/jpeg.")
    tracks.relay_cover(here, upload_session_id, track_id, file.stream, file.mimetype)
    return answer({"upload_session_id": upload_session_id, "track_id": track_id})


# What follows takes a full key, and sees what is its organisation's.


def full_key() -> tuple[Service, str]:
    """The service, and the organisation of the full key that came with the request."""
    here = service()
    return here, keys.authorize_full(here, bearer_key()).organization_id


@loadbay.get("/v1/upload_session")
def list_upload_sessions() -> Response:
    """The sessions in the order in which they were opened."""
    here, organization_id = full_key()
    window = load_query(session_page_in)
    rows, count = sessions.page(here, organization_id, **window)
    listed = [session_out.dump(in_words(row)) for row in rows]
    return answer({"upload_sessions": listed, "count": count, "limit": window["limit"], "offset": window["offset"]})


@loadbay.get("/v1/collection/<collection_id>/track")
def list_collection(collection_id: str) -> Response:
    """A collection's tracks in the order in which they were registered, whatever their sessions."""
    here, organization_id = full_key()
    window = load_query(track_page_in)
    rows, count = across.page(here, organization_id, collection_id, **window)
    listed = [{"upload_session_id": row["session_id"], **dump_track(row)} for row in rows]
    names = {"collection_id": collection_id, "limit": window["limit"], "offset": window["offset"]}
    return answer({"tracks": listed, "count": count, **names})


@loadbay.get("/v1/track/<track_id>")
def find_track(track_id: str) -> Response:
    """Tell what is known of a track, asking the store first where nothing is known yet."""
    here, organization_id = full_key()
    row = verify.peek(here, across.track(here, organization_id, track_id))
    return answer_track(row["session_id"], row)


@loadbay.delete("/v1/track/<track_id>")
def delete_track(track_id: str) -> Response:
    """Delete a track: its row, its bytes, its cover."""
    here, organization_id = full_key()
    row = across.delete(here, organization_id, track_id)
    return answer({"upload_session_id": row["session_id"], "track_id": track_id})


@loadbay.get("/v1/track/<track_id>/download")
def download_track(track_id: str) -> Response:
    """A URL that gives out the track's bytes under its file's name."""
    here, organization_id = full_key()
    row, download = across.download(here, organization_id, track_id)
    names = {"upload_session_id": row["session_id"], "track_id": track_id}
    return answer({**names, "track_download": download_out.dump(download)})


@loadbay.post("/v1/track/<track_id>/cover")
def renew_cover(track_id: str) -> Response:
    """A URL for a cover that takes the present one's place as soon as it is checked (`complete`)."""
    here, organization_id = full_key()
    row = across.track(here, organization_id, track_id)
    names = {"upload_session_id": row["session_id"], "track_id": track_id}
    upload = across.fresh_cover(here, organization_id, row, relay_url(here, names))
    return answer({**names, "track_cover_upload": cover_upload_out.dump(upload)})


@loadbay.post("/v1/api_key")
def create_api_key() -> Response:
    """Make a key that only opens upload sessions of one collection."""
    here, organization_id = full_key()
    words = load(create_key_in)
    expires_at = words["expires_in"] and now() + words["expires_in"]
    place = {"organization_id": organization_id, "collection_id": words["collection_id"]}
    key, row = keys.create(here, words["name"], **place, role=words["role"], expires_at=expires_at)
    told = {**in_words(row), "organization_id": organization_id or None}
    return answer(key_created_out.dump({"key": key, "api_key": told}))


@loadbay.post("/v1/store_event")
def take_store_event() -> Response:
    """An event notification of the store: a hint to look."""
    here = service()
    keys.authorize_store(here, bearer_key())
    return answer({"count": events.take(here, load_json(MAX_BATCH_BYTES))})


# --- Errors ----------------------------------------------------------------------------------------------------------

FAILURES: dict[type[Exception], Callable[[Any], Response]] = {
    ServiceError: render_error,
    HTTPException: render_http_error,
    **dict.fromkeys(DATABASE_ERRORS, render_database_error),
    Exception: render_fault,
}
for kind, render in FAILURES.items():
    loadbay.register_error_handler(kind, render)
