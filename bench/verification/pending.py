"""Uploads that nothing has verified yet."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..peers.clients import REGISTERED_AT_ONCE, groups
from ..peers.sending import Connection, content

FILE_BYTES = 262_144
CLIENTS = 4


class Upload(NamedTuple):
    """A track whose bytes are in the store, and the object that they are."""

    track_id: str
    key: str


def upload(session_url: str, count: int, write_once: bool) -> list[Upload]:
    """Upload from some clients at once, and return what was sent."""
    shares = [(session_url, count // CLIENTS + (client < count % CLIENTS), write_once) for client in range(CLIENTS)]
    with multiprocessing.Pool(CLIENTS) as pool:
        return [one for share in pool.starmap(upload_share, shares, chunksize=1) for one in share]


def upload_share(session_url: str, count: int, write_once: bool) -> list[Upload]:
    """Register tracks and send their bytes."""
    connection, uploads = Connection(), []
    for numbers in groups(range(count), REGISTERED_AT_ONCE):
        payload = [{"file_name": f"track-{n}.wav", "file_size": FILE_BYTES, "write_once": write_once} for n in numbers]
        tracks = connection.json("POST", f"{session_url}/tracks", {"tracks": payload})["tracks"]
        for number, track in zip(numbers, tracks, strict=True):
            target = track["track_upload"]
            connection.send("PUT", target["upload_url"], content(number, FILE_BYTES), target["headers"])
            key = urlsplit(target["upload_url"]).path.split("/", 2)[2]
            uploads.append(Upload(track["track_id"], key))
    return uploads


def session_url(server: Any) -> str:
    """Return the URL of the server's session."""
    return f"{server.origin}/v1/upload/{server.session_id}"


def uploaded_count(path: Path) -> int:
    """Return the number of uploaded tracks in the database."""
    with closing(sqlite3.connect(path, timeout=30)) as database:
        return int(database.execute("SELECT sum(uploaded) FROM loadbay_upload_session").fetchone()[0])
