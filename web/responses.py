"""How requests are read and answers made, of success and of failure, whichever route they are for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import orjson
from flask import Response
from werkzeug.datastructures import Headers

from web.log_format import REQUEST_ID
from web.requests import RATE_HEADERS, assign_request_id, request_id, wsgi_environ

VERSION = "1.0.0"


class TrustedHeaders(Headers):
    """Headers of lines that are known to be fit for it: werkzeug looks at each character of every one."""

    def __init__(self, lines: list[tuple[str, str]]):
        self._list = lines


class JSONResponse(Response):
    """An answer whose headers and body are complete from the start, so that they need not be looked over and mended."""

    def calculate_content_length(self) -> int:
        """The length of the body, in bytes."""
        return len(cast("list[bytes]", self.response)[0])

    def get_wsgi_headers(self, environ: Any) -> Headers:
        """The headers as they are."""
        return self.headers

    def get_app_iter(self, environ: Any) -> Iterable[bytes]:
        """The body as it is, unless it is not asked for, or somebody waits for its end."""
        if environ["REQUEST_METHOD"] == "HEAD" or self._on_close or self.status_code == 304:
            return super().get_app_iter(environ)
        return cast("list[bytes]", self.response)


DEFAULT_HEADERS = [
    ("Loadbay-Version", VERSION),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]
"""Answers hold URLs and keys: nobody keeps, frames, guesses at or passes on any of them."""


def json_response(content: Mapping[str, Any], status: int = 200) -> Response:
    """The one way out: `content` as JSON, with `ok` and `api_request_id`."""
    asked = wsgi_environ()
    id_ = asked.get(REQUEST_ID) or assign_request_id(asked)
    body = orjson.dumps({"ok": status < 400, "api_request_id": id_, **content})
    lines = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    lines += [("X-Request-ID", id_), *DEFAULT_HEADERS, *asked.get(RATE_HEADERS, ())]
    return JSONResponse([body], status, TrustedHeaders(lines))


def html_response(body: str | bytes, content_type: str, policy: str) -> Response:
    """An answer that a browser shows."""
    response = Response(body, content_type=content_type)
    response.headers["Content-Security-Policy"] = (
        f"{policy}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    response.headers["Cache-Control"] = "no-cache"
    return add_default_headers(response)


def add_default_headers(response: Response) -> Response:
    """Give an answer that `answer` did not make the headers that all have, but for those that it has of its own."""
    for name, value in (("X-Request-ID", request_id()), *DEFAULT_HEADERS):
        response.headers.setdefault(name, value)
    return response
