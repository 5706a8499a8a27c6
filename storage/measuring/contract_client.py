"""A client of the HTTP API and of its presigned URLs that knows what the documentation says, and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import urllib3

TIMEOUT = urllib3.Timeout(60)
VERIFYING_TIMEOUT = 120
"""Seconds for which a track may be `verifying`."""

Content = dict[str, Any]


class Reply(NamedTuple):
    """A response of the API: its status and its JSON object."""

    status: int
    content: Content

    @property
    def outcome(self) -> str:
        """The track's status or, in an error, its code."""
        track: Content = self.content.get("track", {})
        return str(track.get("status", self.content.get("code")))


class Answer(NamedTuple):
    """A response of the store (or of the service, to a relayed cover)."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def accepted(self) -> bool:
        """Return True for a success."""
        return 200 <= self.status < 300


class Upload(NamedTuple):
    """A registered track: its session, its id, and the response to its registration."""

    session_id: str
    track_id: str
    content: Content

    @property
    def path(self) -> str:
        """The track's path in the API."""
        return f"/v1/upload/{self.session_id}/track/{self.track_id}"

    @property
    def parts(self) -> list[Content]:
        """The parts of its multipart upload."""
        parts: list[Content] = self.content["track_multipart_upload"]["parts"]
        return parts


class ContractClient:
    """Sends requests to the API at `server`, with a full API key, and to the URLs that it returns."""

    def __init__(self, server: str, api_key: str):
        self.server, self.api_key = server, api_key
        self.http = urllib3.PoolManager(timeout=TIMEOUT, retries=False)

    def call(self, method: str, path: str, payload: Mapping[str, Any] | None = None) -> Reply:
        """Send a request to the API, again after a while where the store has not answered the service."""
        for retries in (2, 1, 0):
            response = self._send(method, path, payload)
            if response.status != 503 or not retries:
                break
            time.sleep(int(response.headers.get("Retry-After", "1")))
        return Reply(response.status, json.loads(response.data))

    def _send(self, method: str, path: str, payload: Mapping[str, Any] | None) -> urllib3.BaseHTTPResponse:
        headers = {"Authorization": f"Bearer {self.api_key}"}
        return self.http.request(method, self.server + path, headers=headers, json=payload)

    def complete(self, upload: Upload) -> Reply:
        """Complete a track, and ask again for as long as it is `verifying`."""
        deadline = time.monotonic() + VERIFYING_TIMEOUT
        reply = self.call("POST", f"{upload.path}/complete")
        while reply.outcome == "verifying" and time.monotonic() < deadline:
            time.sleep(0.5)
            reply = self.call("POST", f"{upload.path}/complete")
        return reply

    def put(self, target: Mapping[str, Any], body: bytes, **changed: str | None) -> Answer:
        """PUT bytes to a `track_upload` or a part, with its headers; `changed` replaces some, or leaves them out.

        The length is that of the body, whatever was signed.
        """
        changes = {name.replace("_", "-").lower(): value for name, value in changed.items()}
        names = {name.lower(): value for name, value in target["headers"].items()}
        headers = {name: value for name, value in {**names, **changes}.items() if value is not None}
        return self.send("PUT", target["upload_url"], body=body, headers={**headers, "content-length": str(len(body))})

    def post_form(self, target: Mapping[str, Any], body: bytes, content_type: str, **changed: str) -> Answer:
        """POST a cover by the form of a `track_cover_upload`: its fields, some of them `changed`, and the file."""
        fields = {**target["fields"], **changed}
        if "Content-Type" in fields:
            fields["Content-Type"] = content_type
        form: list[tuple[str, Any]] = [*fields.items(), ("file", ("cover.png", body, content_type))]
        return self.send("POST", target["upload_url"], fields=form)

    def send_cover(self, target: Mapping[str, Any], body: bytes, content_type: str = "image/png") -> Answer:
        """Send a cover as its `track_cover_upload` says."""
        if target["method"] == "PUT":
            return self.put(target, body, content_type=content_type)
        return self.post_form(target, body, content_type)

    def send(self, method: str, url: str, **options: Any) -> Answer:
        """Send a request to a URL as it is."""
        response = self.http.request(method, url, redirect=False, **options)
        return Answer(response.status, response.headers, response.data)

    def close(self) -> None:
        """Close all connections."""
        self.http.clear()
