"""Clients that send whole files: each way of uploading is a function that sends one client's share of the files."""

from __future__ import annotations

import base64
import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

BATCH = 100
MIB = 2**20
# MP3 by its first bytes; each file puts its number in front of the rest, so that no two are the same.
REST = os.urandom(MIB)


def content(number: int) -> bytes:
    """The bytes of a file: 1 MiB."""
    return b"ID3" + number.to_bytes(8, "big") + REST[11:]


class Connection:
    """One connection to each host that is asked, made again where the other side closes it."""

    def __init__(self) -> None:
        self.kept: dict[str, http.client.HTTPConnection] = {}

    def send(
        self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send a request; the answer's body is read by `read()`. Raises RuntimeError for any status but 2xx."""
        parts = urlsplit(url)
        if parts.netloc not in self.kept:
            self.kept[parts.netloc] = http.client.HTTPConnection(parts.netloc, timeout=60)
        connection = self.kept[parts.netloc]
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        if not 200 <= answer.status < 300:
            raise RuntimeError(f"{method} {parts.path}: {answer.status} {answer.read().decode(errors='replace')}")
        return answer

    def json(self, method: str, url: str, payload: object = None) -> Any:
        """Send JSON, where there are `words`, and read the answer's."""
        body = b"" if payload is None else json.dumps(payload).encode()
        return json.loads(self.send(method, url, body, {"Content-Type": "application/json"}).read())


def loadbay(tracks_url: str, numbers: Sequence[int]) -> None:
    """Register in batches, send each file straight to the store, and have each checked."""
    connection = Connection()
    for some in batches(numbers):
        payload = [{"file_name": f"track-{n}.mp3", "file_size": MIB, "write_once": True} for n in some]
        made = connection.json("POST", tracks_url, {"tracks": payload})["tracks"]
        for number, one in zip(some, made, strict=True):
            upload = one["track_upload"]
            connection.send("PUT", upload["upload_url"], content(number), upload["headers"]).read()
            track = connection.json("POST", f"{tracks_url[:-1]}/{one['track_id']}/complete")["track"]
            if track["status"] != "uploaded":
                raise RuntimeError(f"track-{number}.mp3 is {track['status']}: {track['failure']}")


def batches(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """At most BATCH at a time."""
    for start in range(0, len(numbers), BATCH):
        yield numbers[start : start + BATCH]


def tus(url: str, numbers: Sequence[int]) -> None:
    """Create each upload, and send its bytes: what tus-js-client does unless told otherwise."""
    connection = Connection()
    for number in numbers:
        name = base64.b64encode(f"track-{number}.mp3".encode()).decode()
        payload = {"Tus-Resumable": "1.0.0", "Upload-Length": str(MIB), "Upload-Metadata": f"filename {name}"}
        created = connection.send("POST", url, b"", payload)
        created.read()
        payload = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        sent = connection.send("PATCH", created.headers["Location"], content(number), payload)
        sent.read()
        if sent.headers["Upload-Offset"] != str(MIB):
            raise RuntimeError(f"tus has only {sent.headers['Upload-Offset']} bytes of track-{number}.mp3.")


def flask(url: str, numbers: Sequence[int]) -> None:
    """Send each file to the route."""
    connection = Connection()
    for number in numbers:
        connection.send("PUT", f"{url}/track-{number}.mp3", content(number)).read()


def straight(urls: Mapping[int, str], numbers: Sequence[int]) -> None:
    """Send each file to the store alone, with a URL that was signed beforehand."""
    connection = Connection()
    for number in numbers:
        connection.send("PUT", urls[number], content(number)).read()


Client = Callable[[Any, Sequence[int]], None]
