"""Request log: the hooks that start a request, and count and log it once it has a response."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from flask import Response, after_this_request
from werkzeug.exceptions import HTTPException

from storage import ids
from storage.http import trace_context
from storage.http.trace_context import current_trace
from storage.service import Service
from web.fast.log import log_request
from web.fast.proxies import current_request, wsgi_environ
from web.log_format import REQUEST_ID
from web.requests import UUID, assign_request_id, current_service
from web.responses import add_default_headers

METHODS = {"GET", "POST", "DELETE", "OPTIONS", "HEAD", "PUT", "PATCH"}
CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
STARTED_AT_KEY = "loadbay.started_at"
"""The key in the WSGI environment of the time at which the request started."""
QUIET = "loadbay.quiet"
"""A key in the WSGI environment of requests that are not logged if they succeed."""


def is_observed(service: Service) -> bool:
    """Return True if requests are counted or logged."""
    return service.metrics.enabled or service.settings.log_requests


def with_request_log(render: Callable[[HTTPException], Response]) -> Callable[[HTTPException], Response]:
    """Wrap an error handler of the application, so that requests which match no route are counted and logged, too."""

    def render_and_record(error: HTTPException) -> Response:
        start_request()
        response = render(error)
        service = current_service()
        return record_request(service, response) if is_observed(service) else response

    return render_and_record


def start_request() -> None:
    """Note the start of the current request, its id for all log lines, and the trace it belongs to."""
    environ = wsgi_environ()
    environ[STARTED_AT_KEY] = perf_counter()
    assign_request_id(environ)
    if environ["REQUEST_METHOD"] == "OPTIONS":
        # Flask itself responds to these.
        after_this_request(add_default_headers)
    parent = environ.get("HTTP_TRACEPARENT")
    current_trace.set(trace_context.parse(parent, environ.get("HTTP_TRACESTATE")) if parent else None)


def record_request(service: Service, response: Response) -> Response:
    """Count and log the current request, and return its response."""
    request = current_request()
    environ = request.environ
    if STARTED_AT_KEY not in environ:
        # The host application responded before the request reached the blueprint.
        start_request()
    seconds = perf_counter() - environ[STARTED_AT_KEY]
    # Labels must not be chosen by clients, so neither an unknown method nor a path becomes one.
    method = request.method if request.method in METHODS else "OTHER"
    route, status = request.url_rule.rule if request.url_rule else "", response.status_code
    service.metrics.observe_request(method, route, status, seconds)
    if service.settings.log_requests and not (status == 200 and QUIET in environ):
        log_request(request_log_fields(environ, method, route, response, seconds))
    return response


def _may_be_logged(client_id: str) -> bool:
    """Return whether a client's own id of a request is harmless, and not the api_request_id anyway."""
    is_harmless = CLIENT_REQUEST_ID.fullmatch(client_id) and not ids.contains_session_id(client_id)
    return bool(is_harmless) and not UUID.fullmatch(client_id.lower())


def request_log_fields(
    environ: dict[str, Any], method: str, route: str, response: Response, seconds: float
) -> dict[str, Any]:
    """Return the fields of a request's log line. None of them is chosen by the client, except a harmless request id."""
    fields = {
        "time": datetime.now(UTC),
        "level": "info",
        "logger": "loadbay.requests",
        "api_request_id": environ[REQUEST_ID],
        "method": method,
        "route": route,
        "status": response.status_code,
        # round() would take as long as the rest of this function.
        "duration_ms": int(seconds * 100_000) / 100,
        "bytes": response.calculate_content_length() or 0,
    }
    client_id = environ.get("HTTP_X_REQUEST_ID")
    if client_id and _may_be_logged(client_id):
        fields["client_request_id"] = client_id
    if (trace := current_trace.get()) is not None:
        fields |= {"trace_id": trace.trace_id, "span_id": trace.span_id, "parent_id": trace.parent_id}
    return fields
