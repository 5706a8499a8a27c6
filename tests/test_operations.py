"""Seeing it run: health, readiness and metrics, in one process and under several workers of gunicorn."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import requests
from flask import Flask
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families

from app import create_app, loadbay
from dev.store import free_port
from storage.metrics.prometheus import prometheus_metrics
from storage.probes import BackgroundProbe
from storage.settings import Settings
from support.api import COLLECTION, assert_error, new_session, new_track
from support.processes import ROOT, Processes, RunningProcess, wait_until
from support.sample_files import HTML, png, wav
from support.store import post_cover, put

TOKEN = "token-of-a-scraper"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
TRACK = "/v1/upload/<upload_session_id>/track"
COUNT = "loadbay_http_request_duration_seconds_count"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    """The values of an exposition by name and labels."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"{key} is told twice"
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of all values of this name that have these labels."""
    return sum(v for (n, has), v in samples.items() if n == name and labels.items() <= dict(has).items())


def scrape(client: Any) -> Samples:
    """What a client's application tells Prometheus."""
    response = client.get("/metrics", headers=BEARER)
    assert response.status_code == 200, response.text
    return parsed(response.text)


@pytest.fixture
def watched(make_client):
    """A client of an application that counts."""
    return make_client(METRICS_TOKEN=TOKEN)


# --- Health and readiness --------------------------------------------------------------------------------------------


@pytest.fixture
def nobody() -> str:
    """An endpoint where nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def blackhole() -> Iterator[str]:
    """A listener that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_ready(client):
    """With all there, it is ready, and each part tells its time."""
    response = client.get("/readyz")
    assert response.status_code == 200
    for part in ("database", "store"):
        assert response.json[part]["ok"] is True
        assert 0 < response.json[part]["duration_ms"] < 1800


@pytest.mark.parametrize("where", ["nobody", "blackhole"])
def test_store_away(make_client, request, where):
    """Without the store it lives and is not ready: 503 within two seconds, and the database is told to be there."""
    make_client()
    client = make_client(S3_ENDPOINT=request.getfixturevalue(where), CREATE_MISSING="0")
    assert client.get("/healthz").status_code == 200
    began = time.monotonic()
    response = client.get("/readyz")
    assert time.monotonic() - began < 2.2
    assert_error(response, 503, "storage_unavailable")
    assert response.headers["Retry-After"] == "1"
    assert (response.json["store"]["ok"], response.json["database"]["ok"]) == (False, True)


def test_database_away(make_client, tmp_path):
    """Without the database it lives and is not ready."""
    client = make_client(DATABASE_URL=f"sqlite:///{tmp_path}/missing/loadbay.db", CREATE_MISSING="0")
    assert client.get("/healthz").json["ok"] is True
    response = client.get("/readyz")
    assert_error(response, 503, "database_unavailable")
    assert (response.json["store"]["ok"], response.json["database"]["ok"]) == (True, False)


def test_bucket_missing(make_client):
    """A store without the bucket is not what is needed."""
    make_client()
    assert_error(make_client(S3_BUCKET="no-such-bucket", CREATE_MISSING="0").get("/readyz"), 503, "storage_rejected")


def test_database_that_hangs(app, client, monkeypatch):
    """A database that never answers is given up soon, and nobody waits for it twice."""
    over = Event()
    monkeypatch.setattr(app.extensions["loadbay"]["loadbay"], "execute", lambda *_: over.wait(20))
    took = []
    for _ in range(3):
        began = time.monotonic()
        assert_error(client.get("/readyz"), 503, "database_unavailable")
        took.append(time.monotonic() - began)
    over.set()
    assert took[0] < 2.5
    assert sum(took[1:]) < 0.5


def test_asked_once_a_second(app, client, monkeypatch):
    """However often it is asked, the parts are asked once a second."""
    bucket, asked = app.extensions["loadbay"]["loadbay"].bucket, []
    exists = bucket.exists
    monkeypatch.setattr(bucket, "exists", lambda: asked.append(1) or exists())
    for _ in range(20):
        assert client.get("/readyz").status_code == 200
    assert len(asked) <= 2
    time.sleep(1.05)
    before = len(asked)
    assert client.get("/readyz").status_code == 200
    assert len(asked) == before + 1


def test_aside_keeps_its_last():
    """What is asked aside is answered late or not at all; what was known stays known meanwhile."""
    gate, responses = Event(), iter(["first", "second"])

    def ask() -> str:
        found = next(responses)
        if found == "second":
            gate.wait(10)
        return found

    aside = BackgroundProbe(ask, lambda took: 0.0)
    assert aside.result().value == "first"
    assert aside.result(0.05) is None
    assert aside.last.value == "first"
    gate.set()
    wait_until(lambda: aside.last.value == "second", "It never came.")


# --- Metrics ---------------------------------------------------------------------------------------------------------


def test_only_as_configured(client, make_client):
    """Without METRICS_TOKEN there is no such route; with it, nobody reads it without the token."""
    assert_error(client.get("/metrics", headers=BEARER), 404, "not_found")
    watched = make_client(METRICS_TOKEN=TOKEN)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer \xff"}, {"Authorization": TOKEN}):
        assert_error(watched.get("/metrics", headers=headers), 401, "unauthorized")
    response = watched.get("/metrics", headers=BEARER)
    assert response.status_code == 200
    assert response.mimetype == "text/plain"
    assert response.headers["Cache-Control"] == "no-store"


def test_openmetrics(watched):
    """Prometheus itself asks for OpenMetrics, and gets it."""
    response = watched.get("/metrics", headers={**BEARER, "Accept": "application/openmetrics-text;version=1.0.0"})
    assert response.mimetype == "application/openmetrics-text"
    assert response.text.endswith("# EOF\n")


def lead_a_life(client: Any) -> dict[str, Any]:
    """Uploads that end well and badly, covers, a download: returns the good track's answer."""
    session_id = new_session(client)["upload_session_id"]
    good, bad = (new_track(client, session_id, "a.wav") for _ in range(2))
    put(good["track_upload"], wav())
    post_cover(good["track_cover_upload"], png())
    put(bad["track_upload"], HTML)
    for created, status in ((good, "uploaded"), (bad, "failed")):
        response = client.post(f"/v1/upload/{session_id}/track/{created['track_id']}/complete")
        assert response.json["track"]["status"] == status
    return good


def test_counts(watched):
    """Requests, signatures, checks, bytes, the store's time and the rows are all counted."""
    lead_a_life(watched)
    samples = scrape(watched)
    assert value(samples, COUNT, method="POST", route=TRACK, status="200") == 2
    assert value(samples, "loadbay_presigned_urls_total", method="PUT") == 2
    assert value(samples, "loadbay_presigned_urls_total", method="POST") == 2
    assert value(samples, "loadbay_verifications_total", kind="track", outcome="uploaded") == 1
    assert value(samples, "loadbay_verifications_total", kind="track", outcome="failed") == 1
    assert value(samples, "loadbay_verifications_total", kind="cover", outcome="uploaded") == 1
    assert value(samples, "loadbay_verified_bytes_total", kind="track") == len(wav())
    assert value(samples, "loadbay_verified_bytes_total", kind="cover") == len(png())
    assert value(samples, "loadbay_store_request_duration_seconds_count", call="GetObject", outcome="ok") >= 3
    assert value(samples, "loadbay_tracks", status="uploaded") == 1
    assert value(samples, "loadbay_tracks", status="failed") == 1
    assert value(samples, "loadbay_upload_sessions") == 1
    assert value(samples, "loadbay_uploaded_bytes") == len(wav())
    assert value(samples, "loadbay_database_up") == 1


def test_names_are_ours(watched):
    """What a request makes up becomes no name of a count; a session's id least of all."""
    session_id = new_session(watched)["upload_session_id"]
    watched.get(f"/v1/upload_session/{session_id}")
    watched.get("/v1/upload_session/not-an-id")
    watched.get(f"/made-up/{session_id}")
    watched.open("/made-up", method="BREW")
    watched.open("/healthz", method="BREW")
    text = watched.get("/metrics", headers=BEARER).text
    for made_up in (session_id, "made-up", "not-an-id", "BREW"):
        assert made_up not in text
    samples = parsed(text)
    assert value(samples, COUNT, route="", method="GET", status="404") == 1
    assert value(samples, COUNT, route="", method="OTHER", status="404") == 1
    assert value(samples, COUNT, route="", method="OTHER", status="405") == 1
    assert value(samples, COUNT, route="/v1/upload_session/<upload_session_id>", status="400") == 1


def test_store_away_is_counted(make_client, nobody):
    """Calls that the store did not answer are told apart."""
    make_client()
    client = make_client(METRICS_TOKEN=TOKEN, S3_ENDPOINT=nobody, CREATE_MISSING="0")
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id)
    assert client.post(f"/v1/upload/{session_id}/track/{created['track_id']}/complete").status_code == 503
    samples = scrape(client)
    assert value(samples, "loadbay_store_request_duration_seconds_count", call="GetObject", outcome="unavailable") == 1
    assert value(samples, COUNT, route=f"{TRACK}/<track_id>/complete", status="503") == 1


def test_metrics_without_the_database(make_client, tmp_path):
    """Without the database the counts are told all the same, and that it is away."""
    url = f"sqlite:///{tmp_path}/missing/loadbay.db"
    client = make_client(METRICS_TOKEN=TOKEN, DATABASE_URL=url, CREATE_MISSING="0")
    client.get("/healthz")
    samples = scrape(client)
    assert value(samples, "loadbay_database_up") == 0
    assert value(samples, COUNT, route="/healthz") == 1
    assert not [name for name, _ in samples if name == "loadbay_tracks"]


def test_rows_are_read_seldom(app, settings):
    """However often it is scraped, the rows are read every ten seconds at most."""
    app = create_app({**settings, "METRICS_TOKEN": TOKEN})
    client, service = app.test_client(), app.extensions["loadbay"]["loadbay"]
    read, execute = [], service.execute
    service.execute = lambda *args: read.append(args[0]) or execute(*args)
    for _ in range(5):
        assert value(scrape(client), "loadbay_database_up") == 1
    assert len([statement for statement in read if "SUM(" in statement]) == 1


def two_services(settings: dict[str, Any], other: dict[str, Any]) -> tuple[float, ...]:
    """What two services of one host have counted after three and two tracks; also run in a process of its own."""
    host = Flask("host")
    host.register_blueprint(loadbay, url_prefix="/one", config=settings)
    host.register_blueprint(loadbay, url_prefix="/two", name="second", config=other)
    client = host.test_client()
    for prefix, count in (("/one", 3), ("/two", 2)):
        for _ in range(count):
            client.post(f"{prefix}/v1/upload_session", json={"collection_id": COLLECTION, "track": {"file_name": "a"}})
    told = [parsed(client.get(f"{prefix}/metrics", headers=BEARER).text) for prefix in ("/one", "/two")]
    signed = [value(samples, "loadbay_presigned_urls_total", method="PUT") for samples in told]
    routes = [{dict(labels).get("route") for _, labels in samples} - {None} for samples in told]
    assert routes == [{"/one/v1/upload_session"}, {"/two/v1/upload_session"}]
    return (*signed, *(value(samples, "loadbay_tracks", status="initialized") for samples in told))


@pytest.mark.parametrize("in_files", [False, True])
def test_two_services(settings, tmp_path, in_files, processes):
    """Two services in one process do not count for each other, be it in its memory or in files."""
    settings["METRICS_TOKEN"] = TOKEN
    other = {**settings, "DATABASE_URL": f"sqlite:///{tmp_path}/other.db"}
    code = f"from test_operations import two_services; print(two_services({settings!r}, {other!r}))"
    env = {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"}
    env |= {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "counts")} if in_files else {}
    done = processes.run(sys.executable, "-c", code, env=env, cwd=tmp_path)
    assert done.stdout == "(3.0, 2.0, 3.0, 2.0)\n", done.stdout
    assert (tmp_path / "counts").exists() == in_files


def forked(settings: Mapping[str, Any]) -> dict[str, float]:
    """What each file says was counted, where a process that has counted once forks one that counts twice."""
    counts = prometheus_metrics(Settings.load(settings))
    counts.observe_request("GET", "/docs", 200, 0.001)
    child = os.fork()
    if not child:
        for _ in range(2):
            counts.observe_request("GET", "/docs", 200, 0.001)
        os._exit(0)
    os.waitpid(child, 0)
    counts.observe_request("GET", "/docs", 200, 0.001)
    files = Path(counts.folder).glob("histogram_*.db")
    told = {path.stem: list(MmapedDict.read_all_values_from_file(str(path))) for path in files}
    return {
        "parent" if name.endswith(f"_{os.getpid()}") else "child": max(v for _, v, *_ in told[name]) for name in told
    }


def test_fork(settings, tmp_path, processes):
    """A process that is forked amid its counting counts for itself."""
    code = f"from test_operations import forked; print(forked({ {**settings, 'METRICS_TOKEN': TOKEN}!r}))"
    env = {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}", "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "counts")}
    done = processes.run(sys.executable, "-c", code, env=env, cwd=tmp_path)
    assert ast.literal_eval(done.stdout.splitlines()[-1]) == {"parent": 2.0, "child": 2.0}, done.stdout


def test_folder_that_is_named_too_late(make_client, monkeypatch, tmp_path):
    """A host that has imported prometheus_client before it names the folder has its requests counted all the same."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "counts"))
    client = make_client(METRICS_TOKEN=TOKEN)
    new_session(client)
    text = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    assert 'route="/v1/upload_session",status="200"} 1.0' in text


# --- Under gunicorn --------------------------------------------------------------------------------------------------


class Gunicorn(RunningProcess):
    """gunicorn with two workers, as the Procfile starts it."""

    def __init__(self, processes: Processes, settings: dict[str, Any], log: Path):
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        env = {**settings, "METRICS_TOKEN": TOKEN, "PORT": str(self.port), "WEB_CONCURRENCY": "2"}
        super().__init__(processes, sys.executable, "-m", "gunicorn", "wsgi:app", env=env, log=log)

    def __enter__(self) -> Gunicorn:
        super().__enter__()
        self.wait_for_http(f"{self.base}/healthz")
        return self

    def workers(self) -> set[int]:
        """The ids of the workers."""
        return self.process_ids() - {self.process.pid}

    def end_one(self) -> bool:
        """Tell the oldest worker to stop; False where it has just gone by itself."""
        try:
            os.kill(min(self.workers()), signal.SIGTERM)
        except ProcessLookupError:
            return False
        return True

    def ask(self, count: int) -> None:
        """Ask for something so many times, each on a connection of its own."""
        for _ in range(count):
            assert requests.get(f"{self.base}/docs", timeout=10).status_code == 200

    def samples(self) -> Samples:
        """What is told to Prometheus."""
        response = requests.get(f"{self.base}/metrics", headers=BEARER, timeout=10)
        assert response.status_code == 200, response.text
        return parsed(response.text)

    def asked(self) -> float:
        """How many times it was asked, as it tells."""
        return value(self.samples(), COUNT, route="/docs", status="200")

    def folder(self) -> Path:
        """Where the workers count."""
        variables = Path(f"/proc/{min(self.workers())}/environ").read_bytes().decode().split("\0")
        # A process's first environment does not change: the maps of its memory tell.
        assert not [text for text in variables if text.startswith("PROMETHEUS_MULTIPROC_DIR=")]
        maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in self.workers())
        return Path(re.search(r"(/\S+/loadbay-metrics-[^/]+)/", maps)[1])


@pytest.fixture
def gunicorn(processes, settings, tmp_path) -> Iterator[Gunicorn]:
    """The service under gunicorn."""
    create_app(settings)
    with Gunicorn(processes, settings, tmp_path / "log") as running:
        yield running


def replaced(running: Gunicorn, before: set[int], change: Callable[[], object], gone: int) -> None:
    """Make a change and wait until `gone` of the workers are others."""
    change()
    wait_until(lambda: len(running.workers()) == 2 and len(before - running.workers()) == gone, "No new workers came.")
    running.wait_for_http(f"{running.base}/healthz")


def test_workers_count_together(gunicorn):
    """Whichever worker answers, it tells what all of them have counted."""
    both, asked = {f"histogram_{pid}.db" for pid in gunicorn.workers()}, 0
    with ThreadPoolExecutor(4) as pool:
        # Now and then one worker is faster than all who ask.
        while {path.name for path in gunicorn.folder().glob("histogram_*.db")} != both:
            assert asked < 4000
            list(pool.map(gunicorn.ask, [10] * 4))
            asked += 40
    assert {gunicorn.asked() for _ in range(10)} == {asked}


def test_counts_outlive_workers(gunicorn):
    """Workers that are killed or replaced take no count with them, and leave no file behind."""
    gunicorn.ask(20)
    before = gunicorn.workers()
    replaced(gunicorn, before, lambda: os.kill(min(before), signal.SIGKILL), 1)
    assert gunicorn.asked() == 20
    gunicorn.ask(10)
    before = gunicorn.workers()
    replaced(gunicorn, before, lambda: gunicorn.process.send_signal(signal.SIGHUP), 2)
    gunicorn.ask(10)
    assert {gunicorn.asked() for _ in range(10)} == {40}
    folder, pids = gunicorn.folder(), gunicorn.workers()
    kept = {path.name for path in folder.glob("*.db")}
    assert kept <= {f"{kind}_{who}.db" for kind in ("counter", "histogram") for who in ("exited", *pids)}
    assert gunicorn.stop(signal.SIGTERM) == 0
    assert not folder.exists()


def test_counts_never_fall(gunicorn):
    """While workers are replaced under requests, no scrape tells less than one before it, or too much."""
    seen = []
    for number in range(1, 61):
        gunicorn.ask(1)
        if number % 15 == 0:
            wait_until(gunicorn.end_one, "No worker can be ended.")
        seen.append(gunicorn.asked())
    assert seen == sorted(seen)
    assert seen[-1] == 60


def test_off_by_default(settings, processes):
    """Without the token no worker counts, and none has loaded what it would count with."""
    create_app(settings)
    done = processes.run(
        sys.executable, "-c", "import sys, wsgi; print('prometheus_client' in sys.modules)", env=settings
    )
    assert done.stdout == "False\n"


# --- The dashboard ---------------------------------------------------------------------------------------------------


def test_dashboard(watched):
    """Each metric and label that the dashboard asks for is told."""
    lead_a_life(watched)
    known: dict[str, set[str]] = {}
    for name, labels in scrape(watched):
        known.setdefault(name, set()).update(dict(labels))
    dashboard = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) > 10
    for query in queries:
        names = re.findall(r"\bloadbay_\w+", query)
        assert names
        assert set(names) <= known.keys(), query
        labels = set(re.findall(r"(\w+)=~?\"", query)) | set(
            re.findall(r"\w+", "".join(re.findall(r"by \((.*?)\)", query)))
        )
        # Prometheus itself adds the first two.
        assert labels - {"job", "instance"} <= set.union(*(known[name] for name in names)), query


def test_docs_list_every_metric(watched):
    """docs/operations.md has every metric."""
    lead_a_life(watched)
    text = (ROOT / "docs" / "operations.md").read_text()
    families = {f.name for f in text_string_to_metric_families(watched.get("/metrics", headers=BEARER).text)}
    assert len(families) > 5
    assert [name for name in families if f"`{name}`" not in text and f"`{name}_total`" not in text] == []
