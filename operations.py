"""For whoever runs the service: `/healthz`, `/readyz`, `/metrics`, and what is counted and logged of each request."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from flask import Response, after_this_request, current_app, request
from werkzeug.exceptions import HTTPException, NotFound

from framework import Routes
from logs import REQUEST_ID, log_request
from storage import keys, trace
from storage.errors import DatabaseUnavailable, ServiceError, StoreUnavailable
from storage.service import Service
from storage.trace import TRACE
from storage.watch import PATIENCE, Watch
from wire import UUID, answer, bearer_key, complete, environ, name_request, service

operations = Routes("operations", __name__)

METHODS = {"GET", "POST", "DELETE", "OPTIONS", "HEAD", "PUT", "PATCH"}
CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
BEGAN, QUIET = "loadbay.began", "loadbay.quiet"
AWAY: dict[str, type[ServiceError]] = {"database": DatabaseUnavailable, "store": StoreUnavailable}


# --- Each request ----------------------------------------------------------------------------------------------------


def watched(here: Service) -> bool:
    """Whether anybody wants to know of each request."""
    return here.metrics.on or here.settings.log_requests


def observed(render: Callable[[HTTPException], Response]) -> Callable[[HTTPException], Response]:
    """`render`, for an application's requests that match no route: they are counted and logged, too."""

    def rendered(error: HTTPException) -> Response:
        begin()
        response = render(error)
        here = service()
        return finish(here, response) if watched(here) else response

    return rendered


def begin() -> None:
    """Note when a request began, its id, so that every line of the log has it, and the trace that it is part of."""
    asked = environ()
    asked[BEGAN] = perf_counter()
    name_request(asked)
    if asked["REQUEST_METHOD"] == "OPTIONS":
        # Flask answers these itself.
        after_this_request(complete)
    parent = asked.get("HTTP_TRACEPARENT")
    TRACE.set(trace.read(parent, asked.get("HTTP_TRACESTATE")) if parent else None)


def finish(here: Service, response: Response) -> Response:
    """Count and log a request."""
    asked = request._get_current_object()  # type: ignore[attr-defined]
    if BEGAN not in asked.environ:
        # The host has answered before the request came to us.
        begin()
    seconds = perf_counter() - asked.environ[BEGAN]
    # What anyone may make up, a path or a method, is no name of a count.
    method = asked.method if asked.method in METHODS else "OTHER"
    route, status = asked.url_rule.rule if asked.url_rule else "", response.status_code
    here.metrics.request(method, route, status, seconds)
    if here.settings.log_requests and not (status == 200 and QUIET in asked.environ):
        log_request(told(asked.environ, method, route, response, seconds))
    return response


def told(asked: dict[str, Any], method: str, route: str, response: Response, seconds: float) -> dict[str, Any]:
    """What the log is told of a request: nothing that the request made up, unless it is harmless."""
    found = {
        "time": datetime.now(UTC),
        "level": "info",
        "logger": "loadbay.requests",
        "api_request_id": asked[REQUEST_ID],
        "method": method,
        "route": route,
        "status": response.status_code,
        # Python's own rounding takes as long as all else here.
        "duration_ms": int(seconds * 100_000) / 100,
        "bytes": response.calculate_content_length() or 0,
    }
    name = asked.get("HTTP_X_REQUEST_ID")
    # A UUID is the api_request_id, or for a good reason not.
    if name and CLIENT_ID.fullmatch(name) and not UUID.fullmatch(name.lower()):
        found["client_request_id"] = name
    if (part_of := TRACE.get()) is not None:
        found |= {"trace_id": part_of.trace_id, "span_id": part_of.span_id, "parent_id": part_of.parent_id}
    return found


# --- Routes ----------------------------------------------------------------------------------------------------------


def watch() -> Watch:
    """The watch over the service behind the present request, made when it is first asked for."""
    made: dict[str, Watch] = current_app.extensions.setdefault("loadbay.watches", {})
    name = (request.blueprint or "").rpartition(".")[0]
    return made.get(name) or made.setdefault(name, Watch(service()))


@operations.get("/healthz")
def live() -> Response:
    """Whether this process answers. It asks nobody else, so that nobody restarts it for another's fault."""
    request.environ[QUIET] = True
    return answer({})


@operations.get("/readyz")
def ready() -> Response:
    """Whether the database and the store are there, and how long each took to say so."""
    request.environ[QUIET] = True
    content: dict[str, Any] = {}
    faults: list[ServiceError] = []
    for name, seen in watch().look().items():
        fault = AWAY[name]() if seen is None else seen.error
        faults += [fault] if fault else []
        content[name] = {"ok": fault is None, "ms": round((PATIENCE if seen is None else seen.seconds) * 1000, 2)}
    if not faults:
        return answer(content)
    first = faults[0]
    response = answer({"message": first.message, "code": first.code, **content}, 503)
    response.headers["Retry-After"] = "1"
    return response


@operations.get("/metrics")
def metrics() -> Response:
    """What was counted, for Prometheus."""
    here = service()
    if not here.metrics.on:
        raise NotFound
    keys.authorize_metrics(here, bearer_key())
    request.environ[QUIET] = True
    body, content_type = here.metrics.expose(request.headers.get("Accept", ""), watch().gauges())
    return complete(Response(body, content_type=content_type))
