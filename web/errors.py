"""How requests are read and answers made, of success and of failure, whichever route they are for."""

from __future__ import annotations

import logging
from typing import Any

from flask import Response
from werkzeug.exceptions import HTTPException

from storage.errors import DatabaseUnavailable, ServiceError, TooLarge
from web.requests import request_id
from web.responses import json_response

logger = logging.getLogger("loadbay")


def render_error(error: ServiceError) -> Response:
    """Every failure looks like this."""
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
    response = json_response({"message": f"{error.name}: see the README for the endpoints.", "code": code}, status)
    if allowed := getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def render_database_error(error: Exception) -> Response:
    """The database is away, locked, full or without its tables."""
    logger.error("The database failed for %s: %s", request_id(), error, exc_info=True)
    return render_error(DatabaseUnavailable())


def render_unexpected_error(error: Exception) -> Response:
    """A fault of ours: the log has it all, the caller only what helps to find it there."""
    logger.error("A fault in %s", request_id(), exc_info=error)
    return render_error(ServiceError())
