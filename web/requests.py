"""Reading a request: the service behind it, its id, its body, its query, its credentials."""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Any, cast
from urllib.parse import quote

from flask import request
from marshmallow import ValidationError
from werkzeug.datastructures import FileStorage

import schemas
from storage import ids
from storage.errors import InvalidRequest, NotJSON, UnsupportedMediaType
from storage.service import Service
from web.fast.body import read_body
from web.fast.proxies import current_application, current_request, wsgi_environ
from web.log_format import REQUEST_ID

BLUEPRINT_NAME = "loadbay"
"""The blueprint's name, and the key of its services in `app.extensions`."""
RATE_HEADERS = "loadbay.rate_headers"
"""The key in the WSGI environment of the rate limit headers that the response is to carry."""

MAX_BODY_BYTES = 256 * 1024
# The other parts of a multipart form and the headers of each part.
MULTIPART_OVERHEAD_BYTES = 64 * 1024
MAX_REPORTED_ERRORS = 20

base_url: ContextVar[str | None] = ContextVar("base_url", default=None)
"""The service's own URL, in a call that is no request (embedding/uploads.py)."""

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


# --- The request and its service -------------------------------------------------------------------------------------


def current_service() -> Service:
    """Return the service behind the current request."""
    services: dict[str, Service] = current_application().extensions[BLUEPRINT_NAME]
    if len(services) == 1:
        return next(iter(services.values()))
    for name in request.blueprints:
        if name in services:
            return services[name]
    # A request that no route matches has no blueprint. Only an application of our own handles such requests here.
    return services[BLUEPRINT_NAME]


def request_id() -> str:
    """Return the id of the current request, assigning one on first use."""
    environ = wsgi_environ()
    return environ.get(REQUEST_ID) or assign_request_id(environ)


def assign_request_id(environ: dict[str, Any]) -> str:
    """Store and return an id for the request: its X-Request-ID if that is a UUID, else a new one."""
    client_id = environ.get("HTTP_X_REQUEST_ID", "").lower()
    # A session id is a credential and must not become a request id, because request ids are logged.
    usable = client_id and UUID.fullmatch(client_id) and not ids.contains_session_id(client_id)
    environ[REQUEST_ID] = client_id if usable else ids.request_id()
    return cast(str, environ[REQUEST_ID])


# --- Bodies and queries ----------------------------------------------------------------------------------------------


def load_json(limit: int, *, any_media_type: bool = False) -> dict[str, Any]:
    """Return the JSON object in the body, of at most `limit` bytes. Raises TooLarge, NotJSON, InvalidRequest."""
    req = current_request()
    body = read_body(req, limit)
    if not body:
        raise InvalidRequest("The request has no body: send a JSON object.")
    if req.environ.get("CONTENT_TYPE") != "application/json" and not req.is_json and not any_media_type:
        raise NotJSON
    try:
        return schemas.read_json(body)
    except schemas.JSONError as e:
        raise InvalidRequest(f"The request body is not valid JSON: {e}.") from e


def load_body(schema: schemas.RequestSchema, limit: int = MAX_BODY_BYTES) -> dict[str, Any]:
    """Return the request's JSON body as `schema` loads it. Raises InvalidRequest that names each invalid field."""
    return load_payload(schema, load_json(limit, any_media_type=schema.any_media_type))


def load_payload(schema: schemas.RequestSchema, payload: Any) -> dict[str, Any]:
    """Return a JSON object as `schema` loads it. Raises InvalidRequest that names each invalid field."""
    try:
        return schema.load(payload)
    except ValidationError as e:
        messages = schemas.errors.flatten_messages(e.messages)[:MAX_REPORTED_ERRORS]
        raise InvalidRequest(" ".join(messages), item_errors=schemas.errors.batch_errors(e.messages)) from e


def load_query(schema: schemas.RequestSchema) -> dict[str, Any]:
    """Return the URL's query as `schema` loads it. Raises InvalidRequest."""
    try:
        return schema.load(request.args)
    except UnicodeDecodeError as e:
        raise InvalidRequest("The query must be UTF-8.") from e
    except ValidationError as e:
        raise InvalidRequest(" ".join(schemas.errors.flatten_messages(e.messages))) from e


def load_image(max_bytes: int) -> FileStorage:
    """Return the image in the part `file` of a form. Raises TooLarge, UnsupportedMediaType, InvalidRequest."""
    request.max_content_length = max_bytes + MULTIPART_OVERHEAD_BYTES
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("The cover must be sent as multipart/form-data with a part named 'file'.")
    file = request.files.get("file")
    if file is None:
        raise InvalidRequest("file: the form must have a part of this name.")
    if not schemas.is_image_type(file.mimetype):
        raise UnsupportedMediaType("file: the cover must be an image, with a content type such as image/jpeg.")
    return file


def cover_relay_url(upload_session_id: str, track_id: str) -> str:
    """Return the absolute URL to which a form with a track's cover can be posted at this service.

    Flask's `url_for` would take longer than all the rest of a registration's URLs.
    """
    return service_url(f"/v1/upload/{upload_session_id}/track/{track_id}/cover")


def service_url(path: str) -> str:
    """Return the absolute URL of a path of this service, in a request of the API.

    It begins as the URL of the current request does up to `/v1/`, under whatever prefix a host has registered us.
    """
    if (base := base_url.get()) is not None:
        return base + path
    req = current_request()
    environ = req.environ
    root = environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"].rpartition("/v1/")[0]
    root = quote(root, safe="/") if root else ""
    return f"{req.scheme}://{req.host}{root}{path}"


# --- Credentials and rate limits -------------------------------------------------------------------------------------


def bearer_token() -> str | None:
    """Return the token of the Authorization header, or None."""
    scheme, _, token = wsgi_environ().get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def idempotency_key() -> str | None:
    """Return the value of the Idempotency-Key header, or None. Raises InvalidRequest."""
    try:
        return schemas.idempotency_key(wsgi_environ().get("HTTP_IDEMPOTENCY_KEY"))
    except ValueError as e:
        raise InvalidRequest(f"Idempotency-Key: {e}") from e


def hit_rate_limit(service: Service, rate: str, client: str, cost: int = 1) -> None:
    """Apply a rate limit if one is configured, and add its headers to the response. Raises TooManyRequests."""
    if service.rates is not None:
        wsgi_environ()[RATE_HEADERS] = service.rates.hit(rate, client, cost).items()
