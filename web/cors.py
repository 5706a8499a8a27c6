"""CORS: the headers that let browsers on the sites in CORS_ORIGINS call the API.

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from flask import Response, request

from web.requests import current_service

REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, X-Request-ID, traceparent"
RESPONSE_HEADERS = "X-Request-ID, Retry-After, RateLimit, RateLimit-Policy"
PREFLIGHT_MAX_AGE = 7200
"""Seconds for which a browser may cache a preflight response; none caches it for longer."""


def add_cors_headers(response: Response) -> Response:
    """Let a browser read the response if CORS_ORIGINS, which must be set, contains its origin."""
    origins = current_service().settings.cors_origins
    origin = request.headers.get("Origin")
    response.headers.add("Vary", "Origin")
    if origin is None or not ("*" in origins or origin in origins):
        return response
    response.headers["Access-Control-Allow-Origin"] = "*" if "*" in origins else origin
    response.headers["Access-Control-Expose-Headers"] = RESPONSE_HEADERS
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
        response.headers["Access-Control-Allow-Headers"] = REQUEST_HEADERS
        response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_MAX_AGE)
    return response
