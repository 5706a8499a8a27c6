"""How requests are read and answers made, of success and of failure, whichever route they are for."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import orjson
from flask import Response, current_app, request
from marshmallow import ValidationError
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException

import schemas
from logs import REQUEST_ID
from storage import ids
from storage.errors import DatabaseUnavailable, InvalidRequest, NotJSON, ServiceError, TooLarge
from storage.service import Service

logger = logging.getLogger("loadbay")

MAX_BODY_BYTES = 256 * 1024
VERSION = "1.0.0"
NAME = "loadbay"
"""The blueprint's name, and the one of its services among the application's extensions."""


def environ() -> dict[str, Any]:
    """The present request as WSGI has it (PEP 3333).

    `request` looks for the request anew each time that it is asked for something: on the hot path that adds up.
    """
    found: dict[str, Any] = request._get_current_object().environ  # type: ignore[attr-defined]
    return found


def service() -> Service:
    """The service behind the present request."""
    services: dict[str, Service] = current_app._get_current_object().extensions[NAME]  # type: ignore[attr-defined]
    if len(services) == 1:
        return next(iter(services.values()))
    for name in request.blueprints:
        if name in services:
            return services[name]
    # A request that no route matched has no blueprint, and then the application is one of our own.
    return services[NAME]


class ReadyHeaders(Headers):
    """Headers of lines that are known to be fit for it: werkzeug looks at each character of every one."""

    def __init__(self, lines: list[tuple[str, str]]):
        self._list = lines


class JSONResponse(Response):
    """An answer whose headers and body are complete from the start, so that they need not be looked over and mended."""

    def calculate_content_length(self) -> int:
        """The length of the body, in bytes."""
        return len(cast("list[bytes]", self.response)[0])

    def get_wsgi_headers(self, environ: Any) -> Headers:
        """The headers as they are."""
        return self.headers

    def get_app_iter(self, environ: Any) -> Iterable[bytes]:
        """The body as it is, unless it is not asked for, or somebody waits for its end."""
        if environ["REQUEST_METHOD"] == "HEAD" or self._on_close or self.status_code == 304:
            return super().get_app_iter(environ)
        return cast("list[bytes]", self.response)


UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def request_id() -> str:
    """The id of the present request: its X-Request-ID, where that is a UUID, else made when first asked for."""
    asked = environ()
    return asked.get(REQUEST_ID) or name_request(asked)


def name_request(asked: dict[str, Any]) -> str:
    """Give a request (see `environ`) its id; returns it."""
    name = asked.get("HTTP_X_REQUEST_ID", "").lower()
    # The id of a session is no name for a request: it would be told to the log.
    taken = name and UUID.fullmatch(name) and name not in asked.get("PATH_INFO", "").lower()
    found: str = name if taken else ids.request_id()
    asked[REQUEST_ID] = found
    return found


RATE_HEADERS = "loadbay.rate_headers"
"""Where the environment of a request keeps what its answer tells of rate limits."""

EVERY_HEADERS = [
    ("Loadbay-Version", VERSION),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]
"""Answers hold URLs and keys: nobody keeps, frames, guesses at or passes on any of them."""


def answer(content: Mapping[str, Any], status: int = 200) -> Response:
    """The one way out: `content` as JSON, with `ok` and `api_request_id`."""
    asked = environ()
    id_ = asked.get(REQUEST_ID) or name_request(asked)
    body = orjson.dumps({"ok": status < 400, "api_request_id": id_, **content})
    lines = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    lines += [("X-Request-ID", id_), *EVERY_HEADERS, *asked.get(RATE_HEADERS, ())]
    return JSONResponse([body], status, ReadyHeaders(lines))


def page(body: str | bytes, content_type: str, policy: str) -> Response:
    """An answer that a browser shows."""
    response = Response(body, content_type=content_type)
    response.headers["Content-Security-Policy"] = (
        f"{policy}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    response.headers["Cache-Control"] = "no-cache"
    return complete(response)


def complete(response: Response) -> Response:
    """Give an answer that `answer` did not make the headers that all have, but for those that it has of its own."""
    for name, value in (("X-Request-ID", request_id()), *EVERY_HEADERS):
        response.headers.setdefault(name, value)
    return response


def count(here: Service, rate: str, who: str, cost: int = 1) -> None:
    """Count a request under a rate limit, if the deploy has one; the answer will tell. Raises TooManyRequests."""
    if here.rates is not None:
        environ()[RATE_HEADERS] = here.rates.take(rate, who, cost).items()


CHUNKED = "HTTP_TRANSFER_ENCODING"


def load_json(limit: int) -> dict[str, Any]:
    """The request's JSON body, an object of at most `limit` bytes."""
    present = request._get_current_object()  # type: ignore[attr-defined]
    asked = present.environ
    length = asked.get("CONTENT_LENGTH", "")
    size = int(length) if length.isdecimal() and len(length) < 10 and CHUNKED not in asked else 0
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


def load(schema: schemas.In, limit: int = MAX_BODY_BYTES) -> dict[str, Any]:
    """The request's JSON body as `schema` reads it."""
    try:
        return schema.load(load_json(limit))
    except ValidationError as e:
        details = schemas.faults.items(e.messages)
        raise InvalidRequest(" ".join(schemas.faults.sentences(e.messages)[:20]), details=details) from e


def load_query(schema: schemas.In) -> dict[str, Any]:
    """The URL's query as `schema` reads it."""
    try:
        return schema.load(request.args)
    except UnicodeDecodeError as e:
        raise InvalidRequest("The query is not UTF-8.") from e
    except ValidationError as e:
        raise InvalidRequest(" ".join(schemas.faults.sentences(e.messages))) from e


def bearer_key() -> str | None:
    """The API key of the request, if it carries one."""
    scheme, _, key = environ().get("HTTP_AUTHORIZATION", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def idempotency_key() -> str | None:
    """The Idempotency-Key of the request, if it carries one."""
    try:
        return schemas.idempotency_key(environ().get("HTTP_IDEMPOTENCY_KEY"))
    except ValueError as e:
        raise InvalidRequest(f"Idempotency-Key: {e}") from e


CORS_MAX_AGE = 7200
"""Seconds for which a browser keeps a preflight's answer; none keeps it longer."""
CORS_REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, X-Request-ID, traceparent"
CORS_RESPONSE_HEADERS = "X-Request-ID, Retry-After, RateLimit, RateLimit-Policy"


def allow_origin(response: Response) -> Response:
    """Let a browser on another site read the answer, if CORS_ORIGINS, which is set, names its origin.

    https://fetch.spec.whatwg.org/#http-cors-protocol
    """
    origins = service().settings.cors_origins
    origin = request.headers.get("Origin")
    response.headers.add("Vary", "Origin")
    if origin is None or not ("*" in origins or origin in origins):
        return response
    response.headers["Access-Control-Allow-Origin"] = "*" if "*" in origins else origin
    response.headers["Access-Control-Expose-Headers"] = CORS_RESPONSE_HEADERS
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
        response.headers["Access-Control-Allow-Headers"] = CORS_REQUEST_HEADERS
        response.headers["Access-Control-Max-Age"] = str(CORS_MAX_AGE)
    return response


# --- Failures ---------------------------------------------------------------------------------------------------------


def render_error(error: ServiceError) -> Response:
    """Every failure looks like this."""
    content: dict[str, Any] = {"message": error.message, "code": error.code}
    if error.details is not None:
        content["errors"] = error.details
    response = answer(content, error.status)
    for name, value in error.headers.items():
        response.headers[name] = value
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="loadbay"'
    return response


def render_http_error(error: HTTPException) -> Response:
    """What Flask and Werkzeug refuse, in our shape. Sentences are ours: theirs may repeat what was sent."""
    status = error.code or 500
    if status == 413:
        return render_error(TooLarge("The request body is larger than this endpoint takes."))
    if status >= 500:
        logger.error(
            "Failed: %s", request_id(), exc_info=error.__cause__ or getattr(error, "original_exception", error)
        )
        return render_error(ServiceError())
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "invalid_request")
    response = answer({"message": f"{error.name}: see the README for the endpoints.", "code": code}, status)
    if allowed := getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def render_database_error(error: Exception) -> Response:
    """The database is away, locked, full or without its tables."""
    logger.error("The database failed for %s: %s", request_id(), error, exc_info=True)
    return render_error(DatabaseUnavailable())


def render_fault(error: Exception) -> Response:
    """A fault of ours: the log has it all, the caller only what helps to find it there."""
    logger.error("A fault in %s", request_id(), exc_info=error)
    return render_error(ServiceError())
