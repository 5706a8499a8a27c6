"""Requests with as little CPU time as Python allows, alike for all clients, and the bytes that they send."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..audio import wav_header

MIB = 2**20
MAX_MIB = 20
"""The size of the largest file."""

PADDING = memoryview(os.urandom(MIB) * MAX_MIB)
NUMBER_BYTES = 8
Body = Sequence[bytes | memoryview]
"""The bytes of a request in pieces, so that none has to be copied."""


def content(number: int, size: int = MIB) -> Body:
    """Return the bytes of a file: a WAV that holds the file's number, so that no two files are the same."""
    return part(number, size, 0, size)


def part(number: int, size: int, start: int, length: int) -> Body:
    """Return a part of a file of `size` bytes."""
    head = (b"" if start else wav_header(size)) + number.to_bytes(NUMBER_BYTES, "big")
    return head, PADDING[start + len(head) : start + length]


class Connection:
    """A keep-alive connection to each host, reopened if the server closes it."""

    def __init__(self) -> None:
        self.connections: dict[str, http.client.HTTPConnection] = {}

    def begin(self, method: str, url: str, body: Body = (), headers: Mapping[str, str] | None = None) -> None:
        """Send a request, and leave its response to `finish`."""
        parts = urlsplit(url)
        if parts.netloc not in self.connections:
            self.connections[parts.netloc] = http.client.HTTPConnection(parts.netloc, timeout=120)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        length = {"Content-Length": str(sum(map(len, body)))} if body or method in ("POST", "PUT") else {}
        self.connections[parts.netloc].request(method, path, body, {**length, **(headers or {})})

    def finish(self, url: str) -> http.client.HTTPResponse:
        """Return the response to the last request to this host, its body unread. Raises RuntimeError unless 2xx."""
        parts = urlsplit(url)
        response = self.connections[parts.netloc].getresponse()
        if not 200 <= response.status < 300:
            raise RuntimeError(f"{parts.path}: {response.status} {response.read().decode(errors='replace')}")
        return response

    def send(
        self, method: str, url: str, body: Body = (), headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPMessage, bytes]:
        """Send a request; return headers and body of the response. Raises RuntimeError for any status but 2xx."""
        self.begin(method, url, body, headers)
        response = self.finish(url)
        return response.headers, response.read()

    def json(self, method: str, url: str, payload: object) -> Any:
        """Send a JSON `payload`; return the JSON of the response."""
        self.begin_json(method, url, payload)
        return json.loads(self.finish(url).read())

    def begin_json(self, method: str, url: str, payload: object) -> None:
        """Send a JSON `payload`, and leave the response to `finish`."""
        self.begin(method, url, [json.dumps(payload).encode()], {"Content-Type": "application/json"})
