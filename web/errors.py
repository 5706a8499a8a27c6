"""Error handlers: every failure as one JSON shape, with a stable `code` and a `message` for people."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from flask import Response
from werkzeug.exceptions import HTTPException

from storage.db.errors import DATABASE_ERRORS
from storage.errors import DatabaseUnavailable, ServiceError, TooLarge
from web.requests import request_id
from web.responses import json_response

logger = logging.getLogger("loadbay")


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
    """Return the response for an error of Flask or Werkzeug, without their texts, which may repeat the request."""
    status = error.code or 500
    if status == 413:
        return render_error(TooLarge("The request body must not be larger than this endpoint accepts."))
    if status >= 500:
        cause = error.__cause__ or getattr(error, "original_exception", error)
        logger.error("Unhandled exception, request %s", request_id(), exc_info=cause)
        return render_error(ServiceError())
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "invalid_request")
    response = json_response({"message": f"{error.name}: see the API reference.", "code": code}, status)
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


def render_unexpected_error(error: Exception) -> Response:
    """Log a bug with its traceback, and return a response that only has the id to find it by."""
    logger.error("Unhandled exception, request %s", request_id(), exc_info=error)
    return render_error(ServiceError())


ERROR_HANDLERS: dict[type[Exception], Callable[[Any], Response]] = {
    ServiceError: render_error,
    HTTPException: render_http_error,
    **dict.fromkeys(DATABASE_ERRORS, render_database_error),
    Exception: render_unexpected_error,
}
