"""Error handlers: every failure as one JSON shape, with a stable `code` and a `message` for people."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

from flask import Response, current_app
from werkzeug.exceptions import HTTPException

from storage.db.errors import DATABASE_ERRORS
from storage.errors import DatabaseUnavailable, ServiceError, TooLarge
from web.requests import request_id
from web.responses import json_response

logger = logging.getLogger("loadbay")

HTTP_CODES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    429: "too_many_requests",
    503: "service_unavailable",
}
HOST_STATUSES = {401, 403, 429, 501, 502, 503, 504}
"""Statuses that neither Flask nor Werkzeug raise by themselves."""


def render_error(error: ServiceError) -> Response:
    """Return the response for a failure of the service's own kinds."""
    content: dict[str, Any] = {"message": error.message, "code": error.code}
    if error.item_errors is not None:
        content["errors"] = error.item_errors
    response = json_response(content, error.status)
    for name, value in error.headers.items():
        response.headers[name] = value
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="loadbay"'
    return response


def render_http_error(error: HTTPException) -> Response:
    """Return the response for an error of Flask, Werkzeug or a host, without their texts, which may repeat the request.

    Errors of the service itself are ServiceErrors. A 401, 403, 429 or 503 here is the decision of a host application,
    and stays what it is, with its headers.
    """
    status = error.code or 500
    if error.response is not None:
        return cast(Response, error.response)
    if status == 413:
        return render_error(TooLarge("The request body must not be larger than this endpoint accepts."))
    if status == 500:
        cause = error.__cause__ or getattr(error, "original_exception", error)
        logger.error("Unhandled exception, request %s", request_id(), exc_info=cause)
        return render_error(ServiceError())
    code = HTTP_CODES.get(status, "internal_error" if status > 500 else "invalid_request")
    message = f"{error.name}: see the API reference."
    if status in HOST_STATUSES:
        message = f"The application that hosts this service has rejected the request: {error.name}."
    response = json_response({"message": message, "code": code}, status)
    for name, value in error.get_headers():
        if name not in ("Allow", "Content-Type"):
            response.headers.add(name, value)
    if allowed := getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def render_database_error(error: Exception) -> Response:
    """Log that the database is unreachable, locked, full or not prepared, and return the response for it."""
    return render_error(log_database_error(error))


def log_database_error(error: Exception) -> DatabaseUnavailable:
    """Log a failure of the database, and return the error that the client gets."""
    logger.error("Database request failed, request %s: %s", request_id(), error, exc_info=True)
    return DatabaseUnavailable()


def render_unexpected_error(error: Exception) -> Any:
    """Log a bug with its traceback, and return a response that only has the id to find it by.

    An exception that the host application handles itself, such as one of its own hooks, is left to the host.
    """
    if (handle := _host_handler(error)) is not None:
        return current_app.ensure_sync(handle)(error)
    logger.error("Unhandled exception, request %s", request_id(), exc_info=error)
    return render_error(ServiceError())


def _host_handler(error: Exception) -> Callable[[Any], Any] | None:
    """Return the host's handler for this kind of error. One for all exceptions is no more specific than ours."""
    handlers = current_app.error_handler_spec[None][None]
    kinds = type(error).__mro__[: type(error).__mro__.index(Exception)]
    return next((handlers[kind] for kind in kinds if kind in handlers), None)


ERROR_HANDLERS: dict[type[Exception], Callable[[Any], Any]] = {
    ServiceError: render_error,
    HTTPException: render_http_error,
    **dict.fromkeys(DATABASE_ERRORS, render_database_error),
    Exception: render_unexpected_error,
}
