"""The body of a request, read straight from the server if its length is known.

Measured by `python -m bench --ablate` on 2026-11-26 (2 cores, shared with other work): registering a track takes
395 us of CPU time with it and 445 without, a saving of 11% (6-14%).

Leans on `stream` being cached among the attributes of a request that was read (Werkzeug).
"""

from __future__ import annotations

from flask import Request

from storage.errors import InvalidRequest


def read_body(request: Request, limit: int) -> bytes:
    """Return the body, of at most `limit` bytes. Raises InvalidRequest, and RequestEntityTooLarge beyond the limit."""
    environ = request.environ
    length = environ.get("CONTENT_LENGTH", "")
    known = length.isdecimal() and len(length) < 10 and "HTTP_TRANSFER_ENCODING" not in environ
    size = int(length) if known else 0
    # A body that the host application has read already is cached by the request.
    if not 0 < size <= limit or "stream" in vars(request):
        # Werkzeug rejects what is too large, and reads a body of unknown length up to the limit.
        request.max_content_length = limit
        return request.get_data(cache=False)
    body: bytes = environ["wsgi.input"].read(size)
    if len(body) < size:
        raise InvalidRequest("The request body is shorter than its Content-Length.")
    return body
