"""How requests are read and answers made, of success and of failure, whichever route they are for."""

from __future__ import annotations

from flask import Response, request

from web.requests import current_service

CORS_MAX_AGE = 7200
"""Seconds for which a browser keeps a preflight's answer; none keeps it longer."""


CORS_REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, X-Request-ID, traceparent"


CORS_RESPONSE_HEADERS = "X-Request-ID, Retry-After, RateLimit, RateLimit-Policy"


def add_cors_headers(response: Response) -> Response:
    """Let a browser on another site read the answer, if CORS_ORIGINS, which is set, names its origin.

    https://fetch.spec.whatwg.org/#http-cors-protocol
    """
    origins = current_service().settings.cors_origins
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
