"""Responses: JSON with its headers complete from the start, HTML pages, and the headers that every response carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from flask import Response
from werkzeug.datastructures import Headers

from web.fast.proxies import wsgi_environ
from web.fast.response import CompleteResponse
from web.log_format import REQUEST_ID
from web.requests import RATE_HEADERS, assign_request_id, request_id

VERSION = "1.0.0"

DEFAULT_HEADERS = [
    ("Loadbay-Version", VERSION),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]
"""Responses contain URLs and keys, so they must not be cached, framed, sniffed or leaked through Referer."""


def json_response(content: Mapping[str, Any], status: int = 200) -> Response:
    """Return `content` as JSON, with `ok` and `api_request_id`. Every JSON response of the API is made here."""
    environ = wsgi_environ()
    request_id = environ.get(REQUEST_ID) or assign_request_id(environ)
    body = orjson.dumps({"ok": status < 400, "api_request_id": request_id, **content})
    headers = [("Content-Type", "application/json"), ("X-Request-ID", request_id), *DEFAULT_HEADERS]
    headers += environ.get(RATE_HEADERS, ())
    return CompleteResponse(body, status, headers)


class PageResponse(Response):
    """A document that keeps its Content-Security-Policy, whatever a host application sets on all responses.

    A policy for other pages would block its scripts and its uploads to the store. Ours is the stricter one.
    """

    policy = ""

    def get_wsgi_headers(self, environ: Any) -> Headers:
        """Return the headers as Response does, with the policy."""
        headers = super().get_wsgi_headers(environ)
        headers["Content-Security-Policy"] = self.policy
        return headers


def html_response(body: str | bytes, content_type: str, policy: str) -> Response:
    """Return a document for browsers, under the Content-Security-Policy `policy`."""
    response = PageResponse(body, content_type=content_type)
    response.policy = f"{policy}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    response.headers["Content-Security-Policy"] = response.policy
    response.headers["Cache-Control"] = "no-cache"
    return add_default_headers(response)


def add_default_headers(response: Response) -> Response:
    """Add the headers of every response, except those that the response has already."""
    for name, value in (("X-Request-ID", request_id()), *DEFAULT_HEADERS):
        response.headers.setdefault(name, value)
    return response
