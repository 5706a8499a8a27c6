"""Clients that upload whole files: one function for each protocol, which sends one client's share of the files.

Ours does what a good client does: it registers many tracks at once, and has a group of them verified while it sends the
next one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from .sending import MIB, Connection, content, part

REGISTERED_AT_ONCE = 100
COMPLETED_AT_ONCE = 16
"""Tracks of one `complete`: as many as the service asks the store about side by side."""

PART_SIZE = 5 * MIB
"""The least size of a part in S3."""

LARGE_FILE = 20 * MIB
T = TypeVar("T")
Client = Callable[[Any, Sequence[int]], int | None]
"""Sends the files with these numbers to a target; may return the number of its requests to the service."""


class Completion:
    """Verification of groups of tracks, one `complete` at a time, while the client sends other files."""

    def __init__(self, session_url: str):
        self.url, self.connection = f"{session_url}/complete", Connection()
        self.pending: list[str] = []
        self.requests = 0

    def begin(self, ids: Sequence[str]) -> None:
        """Wait for the group before, and have these tracks verified, and those of it that still are."""
        self.pending = [*self._finish(), *ids]
        self.requests += 1
        self.connection.begin_json("POST", self.url, {"track_ids": self.pending})

    def _finish(self) -> list[str]:
        """Return the tracks of the last request that are still being verified. Raises RuntimeError for a failed one."""
        if not self.pending:
            return []
        results = json.loads(self.connection.finish(self.url).read())["tracks"]
        failed = [result["track"] for result in results if result["status"] not in ("uploaded", "verifying")]
        if failed:
            raise RuntimeError(f"{failed[0]['file_name']} is {failed[0]['status']}: {failed[0]['failure']}")
        return [result["track_id"] for result in results if result["status"] == "verifying"]

    def finish(self) -> int:
        """Wait until all tracks are uploaded; return the number of requests for it."""
        while left := self._finish():
            self.pending = []
            self.begin(left)
        self.pending = []
        return self.requests


def groups(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Split into sequences of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def loadbay_once(session_url: str, numbers: Sequence[int]) -> None:
    """Upload with write-once URLs, straight to the final keys."""
    _loadbay(session_url, numbers, write_once=True)


def loadbay_plain(session_url: str, numbers: Sequence[int]) -> None:
    """Upload with plain URLs: the service has each file copied to its final key."""
    _loadbay(session_url, numbers, write_once=False)


def _loadbay(session_url: str, numbers: Sequence[int], write_once: bool) -> None:
    connection, completion = Connection(), Completion(session_url)
    for batch in groups(numbers, REGISTERED_AT_ONCE):
        payload = [{"file_name": f"track-{n}.wav", "file_size": MIB, "write_once": write_once} for n in batch]
        uploads = connection.json("POST", f"{session_url}/tracks", {"tracks": payload})["tracks"]
        for group in groups(list(zip(batch, uploads, strict=True)), COMPLETED_AT_ONCE):
            for number, upload in group:
                target = upload["track_upload"]
                connection.send("PUT", target["upload_url"], content(number), target["headers"])
            completion.begin([upload["track_id"] for _, upload in group])
    completion.finish()


def loadbay_parts(session_url: str, numbers: Sequence[int]) -> None:
    """Upload each file in parts, and have it joined and verified while the next one is sent."""
    connection, completion = Connection(), Completion(session_url)
    for number in numbers:
        payload = {"file_name": f"track-{number}.wav", "file_size": LARGE_FILE}
        payload |= {"multipart": True, "part_size": PART_SIZE}
        upload = connection.json("POST", f"{session_url}/track", payload)
        for target in upload["track_multipart_upload"]["parts"]:
            start = (target["part_number"] - 1) * PART_SIZE
            body = part(number, LARGE_FILE, start, target["size"])
            connection.send("PUT", target["upload_url"], body, target["headers"])
        completion.begin([upload["track_id"]])
    completion.finish()


def tus(url: str, numbers: Sequence[int]) -> None:
    """Create each upload and send its bytes, as tus-js-client does by default."""
    connection = Connection()
    for number in numbers:
        name = base64.b64encode(f"track-{number}.wav".encode()).decode()
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(MIB), "Upload-Metadata": f"filename {name}"}
        created, _ = connection.send("POST", url, (), headers)
        headers = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        patched, _ = connection.send("PATCH", created["Location"], content(number), headers)
        if patched["Upload-Offset"] != str(MIB):
            raise RuntimeError(f"tus has only {patched['Upload-Offset']} bytes of track-{number}.wav.")


def flask(url: str, numbers: Sequence[int]) -> None:
    """Send each file through the Flask route."""
    _flask(url, numbers, MIB)


def flask_large(url: str, numbers: Sequence[int]) -> None:
    """Send each large file through the Flask route."""
    _flask(url, numbers, LARGE_FILE)


def _flask(url: str, numbers: Sequence[int], size: int) -> None:
    connection = Connection()
    for number in numbers:
        connection.send("PUT", f"{url}/track-{number}.wav", content(number, size))
