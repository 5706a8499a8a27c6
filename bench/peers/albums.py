"""Albums: sessions of twelve tracks with covers, three requests to the service each."""

from __future__ import annotations

import random
import struct
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from storage.s3.write_headers import IF_NONE_MATCH

from ..server import COLLECTION
from . import alone
from .clients import Completion
from .creating import rotated
from .scenarios import Scenario
from .sending import MIB, Connection, content
from .servers import Loadbay
from .whole import Runs, upload

TRACKS = 12
ROWS = 64
BOUNDARY = "boundary-of-the-benchmark"
FORM_TYPE = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
MAX_COVER_BYTES = 10_485_760
REQUESTS = 3
"""Requests to the service for an album: open the session, register the tracks, complete them."""


def png() -> bytes:
    """Return a picture of 64 x 64 random pixels: 12 kB, for such pixels cannot be compressed."""
    pixels = random.Random(1)
    lines = b"".join(b"\0" + pixels.randbytes(3 * ROWS) for _ in range(ROWS))
    header = struct.pack(">IIBBBBB", ROWS, ROWS, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


COVER = png()


def form(fields: Mapping[str, str]) -> list[bytes]:
    """Return the body of a form with these fields and the cover."""
    lines = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    file = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="cover.png"\r\n'
    return [f"{lines}{file}Content-Type: image/png\r\n\r\n".encode(), COVER, f"\r\n--{BOUNDARY}--\r\n".encode()]


def loadbay(origin: str, numbers: Sequence[int]) -> int:
    """Upload albums, each of which is completed while the next one is sent; return the requests to the service."""
    connection, requests = Connection(), 0
    before: Completion | None = None
    for number in numbers:
        session = connection.json("POST", f"{origin}/v1/upload_session", {"collection_id": COLLECTION})
        session_url = f"{origin}/v1/upload/{session['upload_session_id']}"
        declared = {"file_size": MIB, "write_once": True, "cover_fields": True}
        covers = {"cover_size": len(COVER), "cover_content_type": "image/png"}
        payload = [{"file_name": f"track-{index}.wav", **declared, **covers} for index in range(TRACKS)]
        uploads = connection.json("POST", f"{session_url}/tracks", {"tracks": payload})["tracks"]
        for index, track in enumerate(uploads):
            target, cover = track["track_upload"], track["track_cover_upload"]
            connection.send("PUT", target["upload_url"], content(number * TRACKS + index), target["headers"])
            fields = {**cover["fields"], "Content-Type": "image/png"}
            connection.send("POST", cover["upload_url"], form(fields), FORM_TYPE)
        requests += before.finish() if before else 0
        before = Completion(session_url)
        before.begin([track["track_id"] for track in uploads])
        requests += 2
    return requests + (before.finish() if before else 0)


# --- The store alone --------------------------------------------------------------------------------------------------


class SignedTrack(NamedTuple):
    """The URL of a PUT, and URL and fields of a cover's form; and what their verification asks for.

    `reads` are the URLs of file and cover, `copy` is that of the cover's copy.
    """

    put: str
    post: str
    fields: dict[str, str]
    reads: tuple[str, str]
    copy: str
    copy_headers: dict[str, str]


def sign_albums(signer: alone.Signer, numbers: Sequence[int]) -> list[list[SignedTrack]]:
    """Sign PUTs and forms of albums."""
    return [[_sign_track(signer, number * TRACKS + index) for index in range(TRACKS)] for number in numbers]


def _sign_track(signer: alone.Signer, number: int) -> SignedTrack:
    put = signer.url("PUT", alone.final_key(number), {**alone.put_headers(MIB), **IF_NONE_MATCH})
    key, now = f"{alone.staging_key(number)}.cover", int(time.time())
    post, fields = signer.presigner().post_policy(key, alone.TTL, now, MAX_COVER_BYTES, "image/", "image/png")
    headers = alone.copy_headers(signer, key)
    copy = signer.url("PUT", f"{alone.final_key(number)}.cover", headers)
    reads = signer.url("GET", alone.final_key(number)), signer.url("GET", key)
    return SignedTrack(put, post, fields, reads, copy, headers)


def put_albums(albums: Sequence[Sequence[SignedTrack]], numbers: Sequence[int]) -> None:
    """Send the files and covers of albums."""
    _put(albums, numbers, verify=False)


def put_and_verify_albums(albums: Sequence[Sequence[SignedTrack]], numbers: Sequence[int]) -> None:
    """Send the files and covers of albums, read the first bytes of both, and have the covers copied."""
    _put(albums, numbers, verify=True)


def _put(albums: Sequence[Sequence[SignedTrack]], numbers: Sequence[int], verify: bool) -> None:
    connection = Connection()
    for number, album in zip(numbers, albums, strict=True):
        for index, track in enumerate(album):
            connection.send("PUT", track.put, content(number * TRACKS + index), IF_NONE_MATCH)
            connection.send("POST", track.post, form(track.fields), FORM_TYPE)
        for track in album if verify else ():
            for url in track.reads:
                connection.send("GET", url, (), alone.INSPECTED)
            connection.send("PUT", track.copy, (), track.copy_headers)


SIZES = MIB, len(COVER)
OURS = Scenario("Loadbay, albums", Loadbay, loadbay, SIZES, COLLECTION, tracks=TRACKS)
ALONE = Scenario("store alone, albums", None, put_albums, SIZES, "", sign_albums, TRACKS)
VERIFIED = Scenario("store alone, reads, copies", None, put_and_verify_albums, SIZES, COLLECTION, sign_albums, TRACKS)
"""What the store needs for the verification, too: a floor for whoever verifies."""


def measure(folder: Path, rounds: int, albums: int, report: Callable[[str], None]) -> Runs:
    """Upload albums with this service and without, in turn, with the store on a core of its own where there are two."""
    scenarios = [ALONE, OURS, VERIFIED]
    runs: Runs = {scenario.title: [] for scenario in scenarios}
    for number in range(rounds):
        report(f"{albums:,} albums of {TRACKS} tracks, round {number + 1} of {rounds}")
        for scenario in rotated(scenarios, number):
            run = upload(scenario, folder, albums, isolated=True)
            report(f"  {scenario.title}: {run.elapsed:.1f} s")
            runs[scenario.title].append(run)
    return runs
