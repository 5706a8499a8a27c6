"""For whoever runs the service: `/healthz`, `/readyz`, `/metrics`, and what is counted and logged of each request."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from flask import Response, after_this_request, request
from werkzeug.exceptions import HTTPException

from storage import trace_context
from storage.service import Service
from storage.trace_context import current_trace
from web.log_format import REQUEST_ID, log_request
from web.requests import UUID, assign_request_id, current_service, wsgi_environ
from web.responses import add_default_headers

METHODS = {"GET", "POST", "DELETE", "OPTIONS", "HEAD", "PUT", "PATCH"}


CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


STARTED_AT_KEY, QUIET = "loadbay.began", "loadbay.quiet"


def is_observed(service: Service) -> bool:
    """Whether anybody wants to know of each request."""
    return service.metrics.enabled or service.settings.log_requests


def with_request_log(render: Callable[[HTTPException], Response]) -> Callable[[HTTPException], Response]:
    """`render`, for an application's requests that match no route: they are counted and logged, too."""

    def rendered(error: HTTPException) -> Response:
        start_request()
        response = render(error)
        service = current_service()
        return record_request(service, response) if is_observed(service) else response

    return rendered


def start_request() -> None:
    """Note when a request began, its id, so that every line of the log has it, and the trace that it is part of."""
    asked = wsgi_environ()
    asked[STARTED_AT_KEY] = perf_counter()
    assign_request_id(asked)
    if asked["REQUEST_METHOD"] == "OPTIONS":
        # Flask answers these itself.
        after_this_request(add_default_headers)
    parent = asked.get("HTTP_TRACEPARENT")
    current_trace.set(trace_context.parse(parent, asked.get("HTTP_TRACESTATE")) if parent else None)


def record_request(service: Service, response: Response) -> Response:
    """Count and log a request."""
    asked = request._get_current_object()  # type: ignore[attr-defined]
    if STARTED_AT_KEY not in asked.environ:
        # The host has answered before the request came to us.
        start_request()
    seconds = perf_counter() - asked.environ[STARTED_AT_KEY]
    # What anyone may make up, a path or a method, is no name of a count.
    method = asked.method if asked.method in METHODS else "OTHER"
    route, status = asked.url_rule.rule if asked.url_rule else "", response.status_code
    service.metrics.observe_request(method, route, status, seconds)
    if service.settings.log_requests and not (status == 200 and QUIET in asked.environ):
        log_request(request_log_fields(asked.environ, method, route, response, seconds))
    return response


def request_log_fields(
    asked: dict[str, Any], method: str, route: str, response: Response, seconds: float
) -> dict[str, Any]:
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
    if (part_of := current_trace.get()) is not None:
        found |= {"trace_id": part_of.trace_id, "span_id": part_of.span_id, "parent_id": part_of.parent_id}
    return found
