"""Clients that upload whole files: one function for each protocol, which sends one client's share of the files."""

from __future__ import annotations

import base64
import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..audio import wav_header

BATCH_SIZE = 100
MIB = 2**20
PADDING = os.urandom(MIB)


def content(number: int) -> bytes:
    """Return the bytes of a file, 1 MiB: a WAV that holds the file's number, so that no two files are the same."""
    header = wav_header(MIB)
    return header + number.to_bytes(8, "big") + PADDING[len(header) + 8 :]


class Connection:
    """A keep-alive connection to each host, reopened if the server closes it."""

    def __init__(self) -> None:
        self.connections: dict[str, http.client.HTTPConnection] = {}

    def send(
        self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send a request; return the response with its body unread. Raises RuntimeError for any status but 2xx."""
        parts = urlsplit(url)
        if parts.netloc not in self.connections:
            self.connections[parts.netloc] = http.client.HTTPConnection(parts.netloc, timeout=60)
        connection = self.connections[parts.netloc]
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        if not 200 <= response.status < 300:
            raise RuntimeError(f"{method} {parts.path}: {response.status} {response.read().decode(errors='replace')}")
        return response

    def json(self, method: str, url: str, payload: object = None) -> Any:
        """Send a JSON `payload`, unless it is None; return the JSON of the response."""
        body = b"" if payload is None else json.dumps(payload).encode()
        return json.loads(self.send(method, url, body, {"Content-Type": "application/json"}).read())


def loadbay(tracks_url: str, numbers: Sequence[int]) -> None:
    """Register in batches, send each file straight to the store, and have each batch verified."""
    connection = Connection()
    for batch in batches(numbers):
        payload = [{"file_name": f"track-{n}.mp3", "file_size": MIB, "write_once": True} for n in batch]
        uploads = connection.json("POST", tracks_url, {"tracks": payload})["tracks"]
        for number, upload in zip(batch, uploads, strict=True):
            target = upload["track_upload"]
            connection.send("PUT", target["upload_url"], content(number), target["headers"]).read()
        complete_tracks(connection, tracks_url, [upload["track_id"] for upload in uploads])


def complete_tracks(connection: Connection, tracks_url: str, ids: Sequence[str]) -> None:
    """Have tracks verified, and ask again for those that still are. Raises RuntimeError unless all are uploaded."""
    url = f"{tracks_url.removesuffix('/tracks')}/complete"
    while ids:
        results = connection.json("POST", url, {"track_ids": list(ids)})["tracks"]
        failed = [result["track"] for result in results if result["status"] not in ("uploaded", "verifying")]
        if failed:
            raise RuntimeError(f"{failed[0]['file_name']} is {failed[0]['status']}: {failed[0]['failure']}")
        ids = [result["track_id"] for result in results if result["status"] == "verifying"]


def batches(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Split into sequences of at most BATCH_SIZE."""
    for start in range(0, len(numbers), BATCH_SIZE):
        yield numbers[start : start + BATCH_SIZE]


def tus(url: str, numbers: Sequence[int]) -> None:
    """Create each upload and send its bytes, as tus-js-client does by default."""
    connection = Connection()
    for number in numbers:
        name = base64.b64encode(f"track-{number}.mp3".encode()).decode()
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(MIB), "Upload-Metadata": f"filename {name}"}
        created = connection.send("POST", url, b"", headers)
        created.read()
        headers = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        patched = connection.send("PATCH", created.headers["Location"], content(number), headers)
        patched.read()
        if patched.headers["Upload-Offset"] != str(MIB):
            raise RuntimeError(f"tus has only {patched.headers['Upload-Offset']} bytes of track-{number}.mp3.")


def flask(url: str, numbers: Sequence[int]) -> None:
    """Send each file through the Flask route."""
    connection = Connection()
    for number in numbers:
        connection.send("PUT", f"{url}/track-{number}.mp3", content(number)).read()


def store(urls: Mapping[int, str], numbers: Sequence[int]) -> None:
    """Send each file to the store alone, with a URL that was signed beforehand."""
    connection = Connection()
    for number in numbers:
        connection.send("PUT", urls[number], content(number)).read()


Client = Callable[[Any, Sequence[int]], None]
