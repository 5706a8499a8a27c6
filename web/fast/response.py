"""A response whose headers and body are complete from the start, so that Werkzeug need not check and complete them.

Measured by `python -m bench --ablate` on 2026-11-26 (2 cores, shared with other work): reading a session takes
177 us of CPU time with it and 232 without, a saving of 25% (23-26%).

Leans on `Headers._list`, `Response._on_close`, `Response._status` and `Response._status_code` (Werkzeug).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import Response
from werkzeug.datastructures import Headers


class TrustedHeaders(Headers):
    """Headers that are known to be valid: Werkzeug would check every character of each."""

    def __init__(self, lines: list[tuple[str, str]]):
        self._list = lines


class CompleteResponse(Response):
    """A response with a list of one body, and with all its headers."""

    response: list[bytes]

    def __init__(self, body: bytes, status: int, lines: list[tuple[str, str]]):
        """Take the headers as they are; add only the body's length. The constructors of Werkzeug are not called."""
        lines.append(("Content-Length", str(len(body))))
        self.headers = TrustedHeaders(lines)
        if status == 200:
            self._status, self._status_code = "200 OK", 200
        else:
            self.status = status
        self.response, self.direct_passthrough, self._on_close = [body], False, []

    def calculate_content_length(self) -> int:
        """Return the length of the body in bytes."""
        return len(self.response[0])

    def get_wsgi_headers(self, environ: Any) -> Headers:
        """Return the headers as they are."""
        return self.headers

    def get_app_iter(self, environ: Any) -> Iterable[bytes]:
        """Return the body as it is, unless the response must have none or something waits for its end."""
        if environ["REQUEST_METHOD"] == "HEAD" or self._on_close or self.status_code == 304:
            return super().get_app_iter(environ)
        return self.response
