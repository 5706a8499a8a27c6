"""How requests are read and answers made, of success and of failure, whichever route they are for."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from flask import current_app, request
from marshmallow import ValidationError
from werkzeug.wsgi import get_host

import schemas
from storage import ids
from storage.errors import InvalidRequest, NotJSON
from storage.service import Service
from web.log_format import REQUEST_ID

MAX_BODY_BYTES = 256 * 1024


BLUEPRINT_NAME = "loadbay"
"""The blueprint's name, and the one of its services among the application's extensions."""


def wsgi_environ() -> dict[str, Any]:
    """The present request as WSGI has it (PEP 3333).

    `request` looks for the request anew each time that it is asked for something: on the hot path that adds up.
    """
    found: dict[str, Any] = request._get_current_object().environ  # type: ignore[attr-defined]
    return found


def current_service() -> Service:
    """The service behind the present request."""
    services: dict[str, Service] = current_app._get_current_object().extensions[BLUEPRINT_NAME]  # type: ignore[attr-defined]
    if len(services) == 1:
        return next(iter(services.values()))
    for name in request.blueprints:
        if name in services:
            return services[name]
    # A request that no route matched has no blueprint, and then the application is one of our own.
    return services[BLUEPRINT_NAME]


UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def request_id() -> str:
    """The id of the present request: its X-Request-ID, where that is a UUID, else made when first asked for."""
    asked = wsgi_environ()
    return asked.get(REQUEST_ID) or assign_request_id(asked)


def assign_request_id(asked: dict[str, Any]) -> str:
    """Give a request (see `environ`) its id; returns it."""
    name = asked.get("HTTP_X_REQUEST_ID", "").lower()
    # The id of a session is no name for a request: it would be told to the log.
    taken = name and UUID.fullmatch(name) and name not in asked.get("PATH_INFO", "").lower()
    found: str = name if taken else ids.request_id()
    asked[REQUEST_ID] = found
    return found


RATE_HEADERS = "loadbay.rate_headers"
"""Where the environment of a request keeps what its answer tells of rate limits."""


def hit_rate_limit(service: Service, rate: str, who: str, cost: int = 1) -> None:
    """Count a request under a rate limit, if the deploy has one; the answer will tell. Raises TooManyRequests."""
    if service.rates is not None:
        wsgi_environ()[RATE_HEADERS] = service.rates.hit(rate, who, cost).items()


TRANSFER_ENCODING = "HTTP_TRANSFER_ENCODING"


def load_json(limit: int) -> dict[str, Any]:
    """The request's JSON body, an object of at most `limit` bytes."""
    present = request._get_current_object()  # type: ignore[attr-defined]
    asked = present.environ
    length = asked.get("CONTENT_LENGTH", "")
    size = int(length) if length.isdecimal() and len(length) < 10 and TRANSFER_ENCODING not in asked else 0
    # A host may have read the body before us, and then `request` has kept it.
    if 0 < size <= limit and "stream" not in vars(present):
        body = asked["wsgi.input"].read(size)
        if len(body) < size:
            raise InvalidRequest("The request body is shorter than its Content-Length.")
    else:
        # The long way round, which refuses what is too large and reads bodies of unknown length up to the limit.
        request.max_content_length = limit
        body = request.get_data(cache=False)
    if not body:
        raise InvalidRequest("The request has no body: send a JSON object.")
    if asked.get("CONTENT_TYPE") != "application/json" and not request.is_json:
        raise NotJSON
    try:
        return schemas.read_json(body)
    except schemas.JSONError as e:
        raise InvalidRequest(f"The request body is not valid JSON: {e}.") from e


def load_body(schema: schemas.RequestSchema, limit: int = MAX_BODY_BYTES) -> dict[str, Any]:
    """The request's JSON body as `schema` reads it."""
    try:
        return schema.load(load_json(limit))
    except ValidationError as e:
        item_errors = schemas.errors.batch_errors(e.messages)
        raise InvalidRequest(" ".join(schemas.errors.flatten_messages(e.messages)[:20]), item_errors=item_errors) from e


def load_query(schema: schemas.RequestSchema) -> dict[str, Any]:
    """The URL's query as `schema` reads it."""
    try:
        return schema.load(request.args)
    except UnicodeDecodeError as e:
        raise InvalidRequest("The query is not UTF-8.") from e
    except ValidationError as e:
        raise InvalidRequest(" ".join(schemas.errors.flatten_messages(e.messages))) from e


def bearer_token() -> str | None:
    """The API key of the request, if it carries one."""
    scheme, _, key = wsgi_environ().get("HTTP_AUTHORIZATION", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def idempotency_key() -> str | None:
    """The Idempotency-Key of the request, if it carries one."""
    try:
        return schemas.idempotency_key(wsgi_environ().get("HTTP_IDEMPOTENCY_KEY"))
    except ValueError as e:
        raise InvalidRequest(f"Idempotency-Key: {e}") from e


def cover_relay_url(upload_session_id: str, track_id: str) -> str:
    """Return the absolute URL to which a track's cover can be posted at this service.

    It is that of the present request up to `/v1/`, under whatever prefix a host has registered us. Flask's `url_for`
    takes as long as a presigned form.
    """
    environ = wsgi_environ()
    root = quote(environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"].rpartition("/v1/")[0], safe="/")
    host = f"{environ['wsgi.url_scheme']}://{get_host(environ)}{root}"
    return f"{host}/v1/upload/{upload_session_id}/track/{track_id}/cover"
