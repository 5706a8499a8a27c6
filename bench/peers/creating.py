"""Creating an upload: requests per second, and the memory of the services afterwards."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode
from urllib.request import urlopen

import requests

from ..load import CONNECTIONS, Result, run_load
from ..server import TRACK
from .servers import Companion, Loadbay, PeerServer, TusFile, TusS3, start_store

BATCH_SIZE = 100
BATCH = f'{{"tracks":[{",".join([TRACK] * BATCH_SIZE)}]}}'
# The requests of Uppy to Companion and of tus-js-client to a tus server, with the same metadata as TRACK.
COMPANION_PARAMS = {"filename": "track-1.mp3", "type": "audio/mpeg"}
COMPANION_PARAMS |= {f"metadata[{name}]": str(value) for name, value in json.loads(TRACK)["metadata"].items()}
TUS_METADATA = {"filename": "track-1.mp3", "filetype": "audio/mpeg", "track_number": "1", "title": "First Track"}
TUS_HEADERS = {
    "Tus-Resumable": "1.0.0",
    "Upload-Length": str(2**20),
    "Upload-Metadata": ",".join(f"{name} {base64.b64encode(v.encode()).decode()}" for name, v in TUS_METADATA.items()),
}

Item = TypeVar("Item")


class Scenario(NamedTuple):
    """A way of creating uploads: its server, its load for some seconds, and the uploads that each response creates."""

    title: str
    server: PeerServer
    run: Callable[[float], Result]
    uploads: int


class Sample(NamedTuple):
    """One round of a scenario: uploads per second, and the CPU seconds of the service for each upload."""

    rate: float
    cpu_seconds: float


class Summary(NamedTuple):
    """All rounds of a scenario, and the service's memory in MiB at the end."""

    title: str
    rates: list[float]
    cpu_seconds: list[float]
    worker_mib: float
    total_mib: float


def check_companion(server: PeerServer) -> None:
    """Upload a file with Companion's form. Exits if the store rejects it."""
    with urlopen(f"{server.origin}/s3/params?{urlencode(COMPANION_PARAMS)}") as response:
        form = json.load(response)
    upload = requests.post(form["url"], data=form["fields"], files={"file": b"ID3"}, timeout=10)
    if upload.status_code != 201:
        sys.exit(f"The store rejected Companion's form with {upload.status_code}: {upload.text}")


def run_post(url: str, body: str, seconds: float) -> Result:
    """Put load on a POST endpoint that takes JSON."""
    return run_load(url, body, seconds)


def run_get(url: str, seconds: float) -> Result:
    """Put load on a GET endpoint."""
    return run_load(url, None, seconds)


def run_tus(url: str, seconds: float) -> Result:
    """Put load on a tus server's creation endpoint."""
    return run_load(url, "", seconds, TUS_HEADERS)


def scenarios(ours: Loadbay, companion: PeerServer, tus_s3: PeerServer, tus_file: PeerServer) -> list[Scenario]:
    """Return all ways of creating uploads."""
    track = f"{ours.origin}/v1/upload/{ours.session_id}/track"
    params = f"{companion.origin}/s3/params?{urlencode(COMPANION_PARAMS)}"
    return [
        Scenario("Loadbay, one at a time", ours, partial(run_post, track, TRACK), 1),
        Scenario("Companion, /s3/params", companion, partial(run_get, params), 1),
        Scenario("tus-node, S3 store", tus_s3, partial(run_tus, f"{tus_s3.origin}/files"), 1),
        Scenario("tus-node, file store", tus_file, partial(run_tus, f"{tus_file.origin}/files"), 1),
        Scenario(f"Loadbay, in batches of {BATCH_SIZE}", ours, partial(run_post, f"{track}s", BATCH), BATCH_SIZE),
    ]


def measure(folder: Path, rounds: int, seconds: float, report: Callable[[str], None]) -> list[Summary]:
    """Measure all scenarios in turn, round by round, after a round to warm up."""
    with ExitStack() as stack:
        store = start_store(folder)
        stack.callback(store.stop)
        servers = [stack.enter_context(kind(folder, store)) for kind in (Loadbay, Companion, TusS3, TusFile)]
        check_companion(servers[1])
        measured: list[tuple[Scenario, list[Sample]]] = [(scenario, []) for scenario in scenarios(*servers)]
        for scenario, _ in measured:
            measure_scenario(scenario, 1)
        for number in range(rounds):
            report(f"creating uploads, round {number + 1} of {rounds}")
            for scenario, samples in rotated(measured, number):
                samples.append(measure_scenario(scenario, seconds))
                report(f"  {scenario.title}: {samples[-1].rate:,.0f} per second")
        return [summarize(scenario, samples) for scenario, samples in measured]


def summarize(scenario: Scenario, samples: list[Sample]) -> Summary:
    """Return all rounds of a scenario with the memory of its server."""
    rates, costs = [sample.rate for sample in samples], [sample.cpu_seconds for sample in samples]
    return Summary(scenario.title, rates, costs, scenario.server.resident_mib(), scenario.server.total_mib())


def rotated(items: Sequence[Item], number: int) -> Sequence[Item]:
    """Return the items with another one first in each round, so that none always follows the same."""
    start = number % len(items)
    return [*items[start:], *items[:start]]


def measure_scenario(scenario: Scenario, seconds: float) -> Sample:
    """Run a scenario. Exits if a response fails or a row of this service is missing."""
    server = scenario.server
    rows_before = server.row_counts()["track"] if isinstance(server, Loadbay) else 0
    cpu_before = server.total_cpu_seconds()
    result = scenario.run(seconds)
    # wrk leaves without waiting for its last responses.
    time.sleep(1)
    if result.failed or not result.responses:
        sys.exit(f"{scenario.title}: {result.responses} good responses, {result.failed} others.")
    uploads = result.responses * scenario.uploads
    if isinstance(server, Loadbay):
        rows = server.row_counts()["track"] - rows_before
        if not uploads <= rows <= uploads + CONNECTIONS * scenario.uploads:
            sys.exit(f"{scenario.title}: {result.responses} responses, {rows} rows on disk.")
    return Sample(uploads / result.seconds, (server.total_cpu_seconds() - cpu_before) / uploads)
