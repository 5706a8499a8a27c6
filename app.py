"""Loadbay, the application: upload sessions in front of any S3 store.

Configuration, application, hooks, routes, errors, commands, in this order. A route loads, calls, dumps;
what is kept, and by which rules, is in `storage/`, what is said in `schemas/`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import click
import orjson
from flask import Blueprint, Flask, Response, current_app, g, request, url_for
from flask.blueprints import BlueprintSetupState
from marshmallow import Schema, ValidationError
from werkzeug.exceptions import HTTPException

import schemas
from schemas.fields import canonical_uuid
from storage import ids, keys, sessions, tracks
from storage.clock import iso
from storage.errors import DatabaseUnavailable, InvalidRequest, NotJSON, ServiceError, TooLarge, WrongMediaType
from storage.models import DATABASE_ERRORS
from storage.service import Service
from storage.settings import Settings

logger = logging.getLogger("loadbay")

MAX_BODY_BYTES = 256 * 1024
# A relayed cover comes in a form, whose other parts need some room.
FORM_BYTES = 64 * 1024

CLOSED = (
    "API_KEYS is not set: creating an upload session answers 401. Make a key with "
    "python -c 'import secrets; print(secrets.token_urlsafe(32))' and set API_KEYS to it."
)
NO_STORE = "%s S3_ENDPOINT is %s: start a store there with 'make store', or both store and service with 'make run'."

# --- Application -----------------------------------------------------------------------------------------------------

loadbay = Blueprint("loadbay", __name__, cli_group=None)


@loadbay.record
def _set_up(state: BlueprintSetupState) -> None:
    """Give each registration its own service, so that a host may register the blueprint more than once."""
    settings = Settings.load(state.options.get("config", os.environ))
    service = Service(settings)
    if not settings.api_keys and not settings.allow_anonymous:
        logger.warning(CLOSED)
    if settings.create_missing:
        _prepare(service)
    state.app.extensions.setdefault("loadbay", {})[state.name] = service


def create_app(config: Mapping[str, object] | None = None) -> Flask:
    """The WSGI application. `config` holds the settings by name; without it the environment does.

    Raises storage.settings.SettingsError where a setting is missing or wrong.
    """
    app = Flask("loadbay", static_folder=None)
    app.register_blueprint(loadbay, config=os.environ if config is None else config)
    app.register_error_handler(HTTPException, render_http_error)
    return app


def service() -> Service:
    """The service behind the present request."""
    # A request that no route matched has no blueprint, and then an application of our own.
    return current_app.extensions["loadbay"][request.blueprint or loadbay.name]


# --- Hooks and helpers -----------------------------------------------------------------------------------------------


def request_id() -> str:
    """The id of the present request, made when first asked for."""
    found: str | None = g.get("api_request_id")
    if found is None:
        found = g.api_request_id = ids.request_id()
    return found


def answer(content: Mapping[str, Any], status: int = 200) -> Response:
    """The one way out: `content` as JSON, with `ok` and `api_request_id`."""
    id_ = request_id()
    body = orjson.dumps({"ok": status < 400, "api_request_id": id_, **content})
    return Response(body, status, {"X-Request-ID": id_, "Cache-Control": "no-store"}, content_type="application/json")


def load(schema: Schema) -> dict[str, Any]:
    """The request's JSON body as `schema` reads it."""
    length = request.content_length
    if length is not None and 0 < length <= MAX_BODY_BYTES:
        body = request.environ["wsgi.input"].read(length)
        if len(body) < length:
            raise InvalidRequest("The request body is shorter than its Content-Length.")
    else:
        # The long way round, which refuses what is too large and reads bodies of unknown length up to the limit.
        request.max_content_length = MAX_BODY_BYTES
        body = request.get_data(cache=False)
    if not body:
        raise InvalidRequest("The request has no body: send a JSON object.")
    if not request.is_json:
        raise NotJSON
    try:
        words: dict[str, Any] = schema.load(schemas.read_json(body))
    except schemas.JSONError as e:
        raise InvalidRequest(f"The request body is not valid JSON: {e}.") from e
    except ValidationError as e:
        raise InvalidRequest(" ".join(_sentences(e.messages))) from e
    return words


def _sentences(messages: Any, where: str = "") -> list[str]:
    """marshmallow's nested messages as sentences, each with the field that it is about in front."""
    if isinstance(messages, dict):
        return [s for k, v in messages.items() for s in _sentences(v, f"{where}.{k}".lstrip("."))]
    return [f"{where}: {message}" for message in messages]


def uuid_in_path(name: str, value: str) -> str:
    """A UUID from the URL, in lower case."""
    try:
        return canonical_uuid(value)
    except ValueError as e:
        raise InvalidRequest(f"{name}: {e}") from e


def bearer_key() -> str | None:
    """The API key of the request, if it carries one."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


# --- Routes ----------------------------------------------------------------------------------------------------------

create_session_in = schemas.CreateUploadSession()
session_out = schemas.UploadSessionCreatedOut()
create_track_in = schemas.CreateTrack()
track_out = schemas.TrackCreatedOut()


def dump_session(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a session's row."""
    times = {"created_at": iso(row["created_at"]), "expires_at": iso(row["expires_at"])}
    return session_out.dump(
        {"upload_session_id": row["id"], "upload_session": {**row, **times}, "expires_at": times["expires_at"]}
    )


def dump_new_track(here: Service, session_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a track that was just registered: itself, and where to send its bytes."""
    names = {"upload_session_id": session_id, "track_id": row["id"]}
    relay_url = None
    if here.settings.cover_upload == "relay":
        relay_url = url_for(".relay_cover", **names, _external=True)
    return track_out.dump({**names, "track": row, **tracks.uploads(here, row, relay_url)})


@loadbay.post("/v1/upload_session")
def create_upload_session() -> Response:
    """Open a session, with its first track where the request has one."""
    here = service()
    keys.authorize(here, bearer_key())
    session, track = tracks.open_session(here, load(create_session_in))
    content = dump_session(session)
    if track is not None:
        content |= dump_new_track(here, session["id"], track)
    return answer(content)


@loadbay.get("/v1/upload_session/<upload_session_id>")
def read_upload_session(upload_session_id: str) -> Response:
    """Tell what is known of a session."""
    session_id = uuid_in_path("upload_session_id", upload_session_id)
    return answer(dump_session(sessions.read(service(), session_id)))


@loadbay.post("/v1/upload/<upload_session_id>/track")
def create_track(upload_session_id: str) -> Response:
    """Register a track and hand out the URLs for its bytes and its cover."""
    here, session_id = service(), uuid_in_path("upload_session_id", upload_session_id)
    return answer(dump_new_track(here, session_id, tracks.register(here, session_id, load(create_track_in))))


@loadbay.post("/v1/upload/<upload_session_id>/track/<track_id>/cover")
def relay_cover(upload_session_id: str, track_id: str) -> Response:
    """Take a cover as a form's `file` and pass it on to the store (COVER_UPLOAD=relay)."""
    session_id, track_id = uuid_in_path("upload_session_id", upload_session_id), uuid_in_path("track_id", track_id)
    request.max_content_length = service().settings.max_cover_bytes + FORM_BYTES
    if request.mimetype != "multipart/form-data":
        raise WrongMediaType("The cover must come as multipart/form-data with a part named 'file'.")
    file = request.files.get("file")
    if file is None:
        raise InvalidRequest("file: the form has no such part.")
    if not file.mimetype.startswith("image/"):
        raise WrongMediaType("file: a cover must be an image, with a content type such as image/jpeg.")
    tracks.relay_cover(service(), session_id, track_id, file.stream, file.mimetype)
    return answer({"upload_session_id": session_id, "track_id": track_id})


# --- Errors ----------------------------------------------------------------------------------------------------------


@loadbay.errorhandler(ServiceError)
def render_error(error: ServiceError) -> Response:
    """Every failure looks like this."""
    content: dict[str, Any] = {"message": error.message, "code": error.code}
    if error.details is not None:
        content["errors"] = error.details
    response = answer(content, error.status)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="loadbay"'
    return response


HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


@loadbay.errorhandler(HTTPException)
def render_http_error(error: HTTPException) -> Response:
    """What Flask and Werkzeug refuse, in our shape. Sentences are ours: theirs may repeat what was sent."""
    status = error.code or 500
    if status == 413:
        return render_error(TooLarge("The request body is larger than this endpoint takes."))
    if status >= 500:
        logger.error("Failed: %s", request_id(), exc_info=error.__cause__ or getattr(error, "original_exception", error))
        return render_error(ServiceError())
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "invalid_request")
    response = answer({"message": f"{error.name}: see the README for the endpoints.", "code": code}, status)
    if allowed := getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def render_database_error(error: Exception) -> Response:
    """The database is away, locked, full or without its tables."""
    logger.error("The database failed for %s: %s", request_id(), error)
    return render_error(DatabaseUnavailable())


for kind in DATABASE_ERRORS:
    loadbay.register_error_handler(kind, render_database_error)


@loadbay.errorhandler(Exception)
def render_fault(error: Exception) -> Response:
    """A fault of ours: the log has it all, the caller only what helps to find it there."""
    logger.error("A fault in %s", request_id(), exc_info=error)
    return render_error(ServiceError())


# --- Commands --------------------------------------------------------------------------------------------------------


def _prepare(service: Service) -> None:
    """Prepare at start. Without a store the service comes up all the same: presigning needs none."""
    try:
        for line in service.prepare():
            logger.info(line)
    except ServiceError as e:
        logger.warning(NO_STORE, e.message, service.settings.s3_endpoint)


@loadbay.cli.command("prepare")
def prepare() -> None:
    """Create what is missing: tables and bucket."""
    for here in current_app.extensions["loadbay"].values():
        for line in here.prepare() or ["Nothing was missing."]:
            click.echo(line)
