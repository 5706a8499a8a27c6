"""Creating an upload: requests a second, and what the services then hold in memory."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

import requests

from ..load import CONNECTIONS, Result, drive
from ..server import TRACK
from .servers import Companion, Loadbay, Measured, TusFile, TusS3, start_store

BATCH = 100
BODY = f'{{"tracks":[{",".join([TRACK] * BATCH)}]}}'
# What Uppy asks of Companion before it sends a file, and tus-js-client of a tus server; the same words as TRACK's.
PARAMS = {"filename": "track-1.mp3", "type": "audio/mpeg"}
PARAMS |= {f"metadata[{name}]": str(value) for name, value in json.loads(TRACK)["metadata"].items()}
WORDS = {"filename": "track-1.mp3", "filetype": "audio/mpeg", "track_number": "1", "title": "First Track"}
TUS_HEADERS = {
    "Tus-Resumable": "1.0.0",
    "Upload-Length": str(2**20),
    "Upload-Metadata": ",".join(f"{name} {base64.b64encode(word.encode()).decode()}" for name, word in WORDS.items()),
}


class Row(NamedTuple):
    """One kind of creation: how it is asked for, and how many uploads each answer has created."""

    title: str
    server: Measured
    ask: Callable[[float], Result]
    uploads: int


class Found(NamedTuple):
    """What one row has shown: in each round, uploads a second and the service's processor seconds for each upload; at
    the end, its memory in MiB."""

    title: str
    rates: list[float]
    costs: list[float]
    worker_mib: float
    all_mib: float

    @property
    def rate(self) -> float:
        """Uploads a second, the median of all rounds."""
        return median(self.rates)


def check_companion(server: Measured) -> None:
    """What Companion hands out is good: the store takes a file with it."""
    with urlopen(f"{server.origin}/s3/params?{urlencode(PARAMS)}") as answer:
        told = json.load(answer)
    sent = requests.post(told["url"], data=told["fields"], files={"file": b"ID3"}, timeout=10)
    if sent.status_code != 201:
        sys.exit(f"The store refused what Companion signed, with {sent.status_code}: {sent.text}")


def rows(ours: Loadbay, companion: Measured, tus_s3: Measured, tus_file: Measured) -> list[Row]:
    """The kinds of creation."""
    track = f"{ours.origin}/v1/upload/{ours.session}/track"
    params = f"{companion.origin}/s3/params?{urlencode(PARAMS)}"

    def tus(server: Measured) -> Callable[[float], Result]:
        return lambda seconds: drive(f"{server.origin}/files", "", seconds, TUS_HEADERS)

    return [
        Row("Loadbay, one at a time", ours, lambda seconds: drive(track, TRACK, seconds), 1),
        Row("Companion, /s3/params", companion, lambda seconds: drive(params, None, seconds), 1),
        Row("tus-node, S3 store", tus_s3, tus(tus_s3), 1),
        Row("tus-node, file store", tus_file, tus(tus_file), 1),
        Row(f"Loadbay, in batches of {BATCH}", ours, lambda seconds: drive(f"{track}s", BODY, seconds), BATCH),
    ]


def measure(folder: Path, rounds: int, seconds: float, note: Callable[[str], None]) -> list[Found]:
    """Ask for each kind in turn, round by round, each round beginning with another one."""
    with ExitStack() as stack:
        store = start_store(folder)
        stack.callback(store.stop)
        enter = stack.enter_context
        servers = [enter(kind(folder, store)) for kind in (Loadbay, Companion, TusS3, TusFile)]
        check_companion(servers[1])
        kinds = rows(*servers)
        asked: list[list[tuple[float, float]]] = [[] for _ in kinds]
        # The first is for warming up, and does not count.
        for number in range(-1, rounds):
            note(f"creating uploads, round {number + 1} of {rounds}")
            for index in turned(range(len(kinds)), number):
                found = ask(kinds[index], seconds if number >= 0 else 1)
                note(f"  {kinds[index].title}: {found[0]:,.0f} a second")
                if number >= 0:
                    asked[index].append(found)
        return [
            Found(row.title, *map(list, zip(*found, strict=True)), row.server.resident_mib(), row.server.all_mib())
            for row, found in zip(kinds, asked, strict=True)
        ]


def turned(places: Sequence[int], number: int) -> Sequence[int]:
    """The places, beginning with another one in each round, so that none always comes after the same."""
    start = number % len(places)
    return [*places[start:], *places[:start]]


def ask(row: Row, seconds: float) -> tuple[float, float]:
    """Uploads a second, and processor seconds for each. Exits where an answer is not good or a row of ours is lost."""
    before = row.server.rows()["track"] if isinstance(row.server, Loadbay) else 0
    used = row.server.processor_time()
    result = row.ask(seconds)
    # wrk leaves without waiting for its last answers.
    time.sleep(1)
    if result.failed or not result.answers:
        sys.exit(f"{row.title}: {result.answers} good answers, {result.failed} others.")
    if isinstance(row.server, Loadbay):
        made = row.server.rows()["track"] - before
        if not result.answers * row.uploads <= made <= (result.answers + CONNECTIONS) * row.uploads:
            sys.exit(f"{row.title}: {result.answers} answers, {made} rows on disk.")
    uploads = result.answers * row.uploads
    return uploads / result.seconds, (row.server.processor_time() - used) / uploads
