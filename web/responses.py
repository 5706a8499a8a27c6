"""Responses: JSON with its headers complete from the start, HTML pages, and the headers that every response carries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import orjson
from flask import Response
from werkzeug.datastructures import Headers

from web.log_format import REQUEST_ID
from web.requests import RATE_HEADERS, assign_request_id, request_id, wsgi_environ

VERSION = "1.0.0"

DEFAULT_HEADERS = [
    ("Loadbay-Version", VERSION),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]
"""Responses contain URLs and keys, so they must not be cached, framed, sniffed or leaked through Referer."""


class TrustedHeaders(Headers):
    """Headers that are known to be valid: Werkzeug would check every character of each."""

    def __init__(self, lines: list[tuple[str, str]]):
        self._list = lines


class JSONResponse(Response):
    """A response whose headers and body are complete from the start, so that Werkzeug need not complete them."""

    def calculate_content_length(self) -> int:
        """Return the length of the body in bytes."""
        return len(cast("list[bytes]", self.response)[0])

    def get_wsgi_headers(self, environ: Any) -> Headers:
        """Return the headers as they are."""
        return self.headers

    def get_app_iter(self, environ: Any) -> Iterable[bytes]:
        """Return the body as it is, unless the response must have none or something waits for its end."""
        if environ["REQUEST_METHOD"] == "HEAD" or self._on_close or self.status_code == 304:
            return super().get_app_iter(environ)
        return cast("list[bytes]", self.response)


def json_response(content: Mapping[str, Any], status: int = 200) -> Response:
    """Return `content` as JSON, with `ok` and `api_request_id`. Every JSON response of the API is made here."""
    environ = wsgi_environ()
    request_id = environ.get(REQUEST_ID) or assign_request_id(environ)
    body = orjson.dumps({"ok": status < 400, "api_request_id": request_id, **content})
    lines = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    lines += [("X-Request-ID", request_id), *DEFAULT_HEADERS, *environ.get(RATE_HEADERS, ())]
    return JSONResponse([body], status, TrustedHeaders(lines))


def html_response(body: str | bytes, content_type: str, policy: str) -> Response:
    """Return a document for browsers, under the Content-Security-Policy `policy`."""
    response = Response(body, content_type=content_type)
    response.headers["Content-Security-Policy"] = (
        f"{policy}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    response.headers["Cache-Control"] = "no-cache"
    return add_default_headers(response)


def add_default_headers(response: Response) -> Response:
    """Add the headers of every response, except those that the response has already."""
    for name, value in (("X-Request-ID", request_id()), *DEFAULT_HEADERS):
        response.headers.setdefault(name, value)
    return response
