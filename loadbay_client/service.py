"""Requests to the service: JSON out, JSON in."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from .errors import Refused, Unreachable
from .retry import PASSING, Passing, patiently, retry_after

TIMEOUT = urllib3.Timeout(connect=10, read=60)


class Service:
    """One Loadbay, and the API key that opens sessions in it."""

    def __init__(self, server: str, key: str | None, tries: int, stop: threading.Event):
        self.server, self.tries, self.stop = server.rstrip("/"), tries, stop
        self.pool = urllib3.PoolManager(maxsize=16, retries=False, timeout=TIMEOUT)
        self._key = key

    def get(self, path: str) -> dict[str, Any]:
        """The answer to a GET. Raises Refused, Unreachable."""
        return self._call("GET", path)

    def delete(self, path: str) -> dict[str, Any]:
        """The answer to a DELETE. Raises Refused, Unreachable."""
        return self._call("DELETE", path)

    def post(self, path: str, words: Mapping[str, Any] | None = None, *, key: bool = False) -> dict[str, Any]:
        """The answer to a POST, which may be sent more than once and is done once. Raises Refused, Unreachable."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        if key and self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return self._call("POST", path, headers, None if words is None else json.dumps(words).encode())

    def _call(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> dict[str, Any]:
        sent = {**(headers or {}), **({"Content-Type": "application/json"} if body is not None else {})}

        def attempt() -> dict[str, Any]:
            try:
                answer = self.pool.request(method, self.server + path, headers=sent, body=body, redirect=False)
            except HTTPError as e:
                # The library's message holds the path, and so the session's id.
                raise Passing(Unreachable(f"{self.server} cannot be reached ({type(e).__name__}).")) from None
            return _read(answer)

        return patiently(attempt, self.tries, self.stop)


def _read(answer: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    """The answer's object. Raises Refused, or Passing where it may be another the next time."""
    try:
        found = json.loads(answer.data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        found = {"code": "no_json", "message": f"The server answered {answer.status}, and not in JSON: is it Loadbay?"}
    elif answer.status == 200:
        return found
    texts = (str(found.get(name, "")) for name in ("code", "message", "api_request_id"))
    refused = Refused(answer.status, *texts)
    if answer.status in PASSING:
        raise Passing(refused, retry_after(answer))
    raise refused
