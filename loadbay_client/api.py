"""Requests to the service: JSON out, JSON in."""

from __future__ import annotations

import json
import ssl
import threading
import uuid
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from .errors import APIError, ClientError, ConnectionFailed
from .retry import RETRYABLE_STATUSES, RetryableError, RetryPolicy, retry_after

TIMEOUT = urllib3.Timeout(connect=10, read=60)
# As many connections to one place as are kept for the next request.
POOL_SIZE = 64


def check_server(server: str) -> str:
    """The service's address, without a slash at its end. Raises ValueError where it is none, without repeating it."""
    try:
        found = urllib3.util.parse_url(server)
    except HTTPError:
        found = urllib3.util.Url()
    if found.scheme not in ("http", "https") or not found.host or found.query or found.fragment:
        raise ValueError("server: must be an address such as https://uploads.example.com.")
    if found.auth:
        raise ValueError("server: must hold no user or password; the key goes apart.")
    return server.rstrip("/")


class ApiClient:
    """One Loadbay, and the API key that opens sessions in it."""

    def __init__(self, server: str, key: str | None, retry_policy: RetryPolicy):
        self.server, self.retry_policy = check_server(server), retry_policy
        self.pool = urllib3.PoolManager(maxsize=POOL_SIZE, retries=False, timeout=TIMEOUT)
        self._key = key

    def with_own_stop(self) -> ApiClient:
        """The same, over the same connections, which can be stopped by itself."""
        other = copy(self)
        other.retry_policy = replace(self.retry_policy, stop=threading.Event())
        return other

    def get(self, path: str) -> dict[str, Any]:
        """The answer to a GET. Raises Refused, Unreachable."""
        return self._call("GET", path)

    def delete(self, path: str) -> dict[str, Any]:
        """The answer to a DELETE. Raises Refused, Unreachable."""
        return self._call("DELETE", path)

    def post(self, path: str, payload: Mapping[str, Any] | None = None, *, key: bool = False) -> dict[str, Any]:
        """The answer to a POST, which may be sent more than once and is done once. Raises Refused, Unreachable."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        if key and self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return self._call("POST", path, headers, None if payload is None else json.dumps(payload).encode())

    def _call(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> dict[str, Any]:
        sent = {**(headers or {}), **({"Content-Type": "application/json"} if body is not None else {})}

        def attempt() -> dict[str, Any]:
            try:
                answer = self.pool.request(method, self.server + path, headers=sent, body=body, redirect=False)
            except HTTPError as e:
                # The library's message holds the path, and so the session's id.
                raise unreachable(self.server, e) from None
            return _read(answer)

        return self.retry_policy.run(attempt)


def unreachable(who: str, error: Exception) -> ClientError:
    """What is said, and whether it is tried again, where a request got no answer."""
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in (error, *error.args)):
        return ConnectionFailed(f"{who} cannot be reached: its certificate is not one to trust.")
    return RetryableError(ConnectionFailed(f"{who} cannot be reached ({type(error).__name__})."))


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
    refused = APIError(answer.status, *texts)
    if answer.status in RETRYABLE_STATUSES:
        raise RetryableError(refused, retry_after(answer))
    raise refused
