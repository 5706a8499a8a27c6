"""Health, readiness and metrics, in one process and under several workers of gunicorn."""

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
from support.processes import ROOT, TIMEOUT, Processes, RunningProcess, wait_until
from support.sample_files import HTML, png, wav
from support.store import ADMIN, post_cover, put

TOKEN = "token-of-a-scraper"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
TRACK_ROUTE = "/v1/upload/<upload_session_id>/track"
REQUEST_COUNT = "loadbay_http_request_duration_seconds_count"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse_metrics(text: str) -> Samples:
    """Return the values of an exposition by name and labels."""
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples, f"{key} is duplicate"
            samples[key] = sample.value
    return samples


def sample_sum(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of all values of this name that have these labels."""
    return sum(v for (n, has), v in samples.items() if n == name and labels.items() <= dict(has).items())


def scrape(client: Any) -> Samples:
    """Return the values that a client's application exposes to Prometheus."""
    response = client.get("/metrics", headers=BEARER)
    assert response.status_code == 200, response.text
    return parse_metrics(response.text)


@pytest.fixture
def metrics_client(make_client):
    """A client of an application with metrics."""
    return make_client(METRICS_TOKEN=TOKEN)


# --- Health and readiness ---


@pytest.fixture
def closed_endpoint() -> str:
    """An endpoint at which nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def blackhole() -> Iterator[str]:
    """A listener that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_readiness_reports_both_parts(client):
    """With database and store available, it is ready, and reports the duration of each check."""
    response = client.get("/readyz")
    assert response.status_code == 200
    for part in ("database", "store"):
        assert response.json[part]["ok"] is True
        assert 0 < response.json[part]["duration_ms"] < 1800


@pytest.mark.parametrize("endpoint", ["closed_endpoint", "blackhole"])
def test_not_ready_without_the_store(make_client, request, endpoint):
    """Without the store, it is live but not ready: 503 within two seconds, with the database reported as available."""
    make_client()
    client = make_client(S3_ENDPOINT=request.getfixturevalue(endpoint), CREATE_MISSING="0")
    assert client.get("/healthz").status_code == 200
    started = time.monotonic()
    response = client.get("/readyz")
    assert time.monotonic() - started < 2.2
    assert_error(response, 503, "storage_unavailable")
    assert response.headers["Retry-After"] == "1"
    assert (response.json["store"]["ok"], response.json["database"]["ok"]) == (False, True)


def test_not_ready_without_the_database(make_client, tmp_path):
    """Without the database, it is live but not ready."""
    client = make_client(DATABASE_URL=f"sqlite:///{tmp_path}/missing/loadbay.db", CREATE_MISSING="0")
    assert client.get("/healthz").json["ok"] is True
    response = client.get("/readyz")
    assert_error(response, 503, "database_unavailable")
    assert (response.json["store"]["ok"], response.json["database"]["ok"]) == (True, False)


def test_not_ready_without_the_bucket(make_client):
    """A store without the bucket is not ready."""
    make_client()
    assert_error(
        make_client(S3_BUCKET="no-such-bucket", CREATE_MISSING="0", **ADMIN).get("/readyz"), 503, "storage_rejected"
    )


def test_hanging_database_is_given_up_once(app, client, monkeypatch):
    """A check of a hanging database is given up soon, and later requests do not wait for it again."""
    released = Event()
    monkeypatch.setattr(app.extensions["loadbay"]["loadbay"], "execute", lambda *_: released.wait(20))
    durations = []
    for _ in range(3):
        started = time.monotonic()
        assert_error(client.get("/readyz"), 503, "database_unavailable")
        durations.append(time.monotonic() - started)
    released.set()
    assert durations[0] < 2.5
    assert sum(durations[1:]) < 0.5


def test_parts_are_checked_once_a_second(app, client, monkeypatch):
    """However many requests there are, the parts are checked once a second."""
    bucket, checks = app.extensions["loadbay"]["loadbay"].bucket, []
    exists = bucket.exists
    monkeypatch.setattr(bucket, "exists", lambda: checks.append(1) or exists())
    for _ in range(20):
        assert client.get("/readyz").status_code == 200
    assert len(checks) <= 2
    time.sleep(1.05)
    checks_before = len(checks)
    assert client.get("/readyz").status_code == 200
    assert len(checks) == checks_before + 1


def test_background_probe_keeps_its_last_result():
    """A background probe may finish late or never; meanwhile its last result remains available."""
    gate, responses = Event(), iter(["first", "second"])

    def check() -> str:
        result = next(responses)
        if result == "second":
            gate.wait(10)
        return result

    probe = BackgroundProbe(check, lambda took: 0.0)
    assert probe.result().value == "first"
    assert probe.result(0.05) is None
    assert probe.last.value == "first"
    gate.set()
    wait_until(lambda: probe.last.value == "second", "The second result is missing.")


# --- Metrics ---


def test_metrics_require_the_token(client, make_client):
    """Without METRICS_TOKEN, there is no /metrics; with it, the token is required."""
    assert_error(client.get("/metrics", headers=BEARER), 404, "not_found")
    metrics_client = make_client(METRICS_TOKEN=TOKEN)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer \xff"}, {"Authorization": TOKEN}):
        assert_error(metrics_client.get("/metrics", headers=headers), 401, "unauthorized")
    response = metrics_client.get("/metrics", headers=BEARER)
    assert response.status_code == 200
    assert response.mimetype == "text/plain"
    assert response.headers["Cache-Control"] == "no-store"


def test_serves_openmetrics_on_request(metrics_client):
    """Prometheus requests OpenMetrics by Accept, and gets it."""
    response = metrics_client.get(
        "/metrics", headers={**BEARER, "Accept": "application/openmetrics-text;version=1.0.0"}
    )
    assert response.mimetype == "application/openmetrics-text"
    assert response.text.endswith("# EOF\n")


def upload_tracks(client: Any) -> dict[str, Any]:
    """Upload a good track with a cover, and a bad one; return the response of registering the good one."""
    session_id = new_session(client)["upload_session_id"]
    good, bad = (new_track(client, session_id, "a.wav") for _ in range(2))
    put(good["track_upload"], wav())
    post_cover(good["track_cover_upload"], png())
    put(bad["track_upload"], HTML)
    for created, status in ((good, "uploaded"), (bad, "failed")):
        response = client.post(f"/v1/upload/{session_id}/track/{created['track_id']}/complete")
        assert response.json["track"]["status"] == status
    return good


def test_counts_requests_urls_and_verifications(metrics_client):
    """Requests, presigned URLs, verifications, bytes, store calls and rows are counted."""
    upload_tracks(metrics_client)
    samples = scrape(metrics_client)
    assert sample_sum(samples, REQUEST_COUNT, method="POST", route=TRACK_ROUTE, status="200") == 2
    assert sample_sum(samples, "loadbay_presigned_urls_total", method="PUT") == 2
    assert sample_sum(samples, "loadbay_presigned_urls_total", method="POST") == 2
    assert sample_sum(samples, "loadbay_verifications_total", kind="track", outcome="uploaded") == 1
    assert sample_sum(samples, "loadbay_verifications_total", kind="track", outcome="failed") == 1
    assert sample_sum(samples, "loadbay_verifications_total", kind="cover", outcome="uploaded") == 1
    assert sample_sum(samples, "loadbay_verified_bytes_total", kind="track") == len(wav())
    assert sample_sum(samples, "loadbay_verified_bytes_total", kind="cover") == len(png())
    assert sample_sum(samples, "loadbay_store_request_duration_seconds_count", call="GetObject", outcome="ok") >= 3
    assert sample_sum(samples, "loadbay_tracks", status="uploaded") == 1
    assert sample_sum(samples, "loadbay_tracks", status="failed") == 1
    assert sample_sum(samples, "loadbay_upload_sessions") == 1
    assert sample_sum(samples, "loadbay_uploaded_bytes") == len(wav())
    assert sample_sum(samples, "loadbay_database_up") == 1


def test_requests_cannot_create_labels(metrics_client):
    """Unknown routes, methods and ids create no label values; session ids never do."""
    session_id = new_session(metrics_client)["upload_session_id"]
    metrics_client.get(f"/v1/upload_session/{session_id}")
    metrics_client.get("/v1/upload_session/not-an-id")
    metrics_client.get(f"/made-up/{session_id}")
    metrics_client.open("/made-up", method="BREW")
    metrics_client.open("/healthz", method="BREW")
    text = metrics_client.get("/metrics", headers=BEARER).text
    for unknown in (session_id, "made-up", "not-an-id", "BREW"):
        assert unknown not in text
    samples = parse_metrics(text)
    assert sample_sum(samples, REQUEST_COUNT, route="", method="GET", status="404") == 1
    assert sample_sum(samples, REQUEST_COUNT, route="", method="OTHER", status="404") == 1
    assert sample_sum(samples, REQUEST_COUNT, route="", method="OTHER", status="405") == 1
    assert sample_sum(samples, REQUEST_COUNT, route="/v1/upload_session/<upload_session_id>", status="400") == 1


def test_counts_unavailable_store_calls(make_client, closed_endpoint):
    """Store calls without a response are counted as unavailable."""
    make_client()
    client = make_client(METRICS_TOKEN=TOKEN, S3_ENDPOINT=closed_endpoint, CREATE_MISSING="0")
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id)
    assert client.post(f"/v1/upload/{session_id}/track/{created['track_id']}/complete").status_code == 503
    samples = scrape(client)
    assert (
        sample_sum(samples, "loadbay_store_request_duration_seconds_count", call="GetObject", outcome="unavailable")
        == 1
    )
    assert sample_sum(samples, REQUEST_COUNT, route=f"{TRACK_ROUTE}/<track_id>/complete", status="503") == 1


def test_serves_metrics_without_the_database(make_client, tmp_path):
    """Without the database, the counters are served, and loadbay_database_up is 0."""
    url = f"sqlite:///{tmp_path}/missing/loadbay.db"
    client = make_client(METRICS_TOKEN=TOKEN, DATABASE_URL=url, CREATE_MISSING="0")
    client.get("/healthz")
    samples = scrape(client)
    assert sample_sum(samples, "loadbay_database_up") == 0
    assert sample_sum(samples, REQUEST_COUNT, route="/healthz") == 1
    assert not [name for name, _ in samples if name == "loadbay_tracks"]


def test_gauges_are_cached(app, settings):
    """However often it is scraped, the database is queried every ten seconds at most."""
    app = create_app({**settings, "METRICS_TOKEN": TOKEN})
    client, service = app.test_client(), app.extensions["loadbay"]["loadbay"]
    statements, execute = [], service.execute
    service.execute = lambda *args: statements.append(args[0]) or execute(*args)
    for _ in range(5):
        assert sample_sum(scrape(client), "loadbay_database_up") == 1
    assert len([statement for statement in statements if "SUM(" in statement]) == 1


def two_services(settings: dict[str, Any], other: dict[str, Any]) -> tuple[float, ...]:
    """Return the counts of two services in one host after three and two tracks; also run in a process of its own."""
    host = Flask("host")
    host.register_blueprint(loadbay, url_prefix="/one", config=settings)
    host.register_blueprint(loadbay, url_prefix="/two", name="second", config=other)
    client = host.test_client()
    for prefix, count in (("/one", 3), ("/two", 2)):
        for _ in range(count):
            client.post(f"{prefix}/v1/upload_session", json={"collection_id": COLLECTION, "track": {"file_name": "a"}})
    scrapes = [parse_metrics(client.get(f"{prefix}/metrics", headers=BEARER).text) for prefix in ("/one", "/two")]
    presigned = [sample_sum(samples, "loadbay_presigned_urls_total", method="PUT") for samples in scrapes]
    routes = [{dict(labels).get("route") for _, labels in samples} - {None} for samples in scrapes]
    assert routes == [{"/one/v1/upload_session"}, {"/two/v1/upload_session"}]
    return (*presigned, *(sample_sum(samples, "loadbay_tracks", status="initialized") for samples in scrapes))


@pytest.mark.parametrize("in_files", [False, True])
def test_two_services_count_separately(settings, tmp_path, in_files, processes):
    """Two services in one process count separately, in memory and in files."""
    settings["METRICS_TOKEN"] = TOKEN
    other = {**settings, "DATABASE_URL": f"sqlite:///{tmp_path}/other.db"}
    code = f"from test_operations import two_services; print(two_services({settings!r}, {other!r}))"
    env = {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"}
    env |= {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "counts")} if in_files else {}
    result = processes.run(sys.executable, "-c", code, env=env, cwd=tmp_path)
    assert result.stdout == "(3.0, 2.0, 3.0, 2.0)\n", result.stdout
    assert (tmp_path / "counts").exists() == in_files


def count_in_a_fork(settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the count in each file of a process that counts, forks a child that counts twice, and counts again."""
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
    values = {path.stem: list(MmapedDict.read_all_values_from_file(str(path))) for path in files}
    return {
        "parent" if name.endswith(f"_{os.getpid()}") else "child": max(v for _, v, *_ in values[name])
        for name in values
    }


def test_forked_process_counts_for_itself(settings, tmp_path, processes):
    """A forked process counts into a file of its own."""
    settings["METRICS_TOKEN"] = TOKEN
    code = f"from test_operations import count_in_a_fork; print(count_in_a_fork({settings!r}))"
    env = {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}", "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "counts")}
    result = processes.run(sys.executable, "-c", code, env=env, cwd=tmp_path)
    assert ast.literal_eval(result.stdout.splitlines()[-1]) == {"parent": 2.0, "child": 2.0}, result.stdout


def test_counts_if_the_folder_is_set_late(make_client, monkeypatch, tmp_path):
    """A host that imports prometheus_client before it sets the folder has its requests counted all the same."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "counts"))
    client = make_client(METRICS_TOKEN=TOKEN)
    before = scrape(client)
    new_session(client)
    # A process keeps the metrics of an earlier application on the same database.
    counts = [sample_sum(s, REQUEST_COUNT, route="/v1/upload_session", status="200") for s in (before, scrape(client))]
    assert counts[1] - counts[0] == 1


# --- Metrics of several workers ---


class Gunicorn(RunningProcess):
    """gunicorn with two workers, as in the Procfile."""

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
        """Return the process ids of the workers."""
        return self.process_ids() - {self.process.pid}

    def stop_oldest_worker(self) -> bool:
        """Stop the oldest worker; return False if it has just exited by itself."""
        try:
            os.kill(min(self.workers()), signal.SIGTERM)
        except ProcessLookupError:
            return False
        return True

    def send_requests(self, count: int) -> None:
        """Send that many requests, each on a connection of its own."""
        for _ in range(count):
            assert requests.get(f"{self.base}/docs", timeout=TIMEOUT).status_code == 200

    def samples(self) -> Samples:
        """Return the values that are exposed to Prometheus."""
        response = requests.get(f"{self.base}/metrics", headers=BEARER, timeout=TIMEOUT)
        assert response.status_code == 200, response.text
        return parse_metrics(response.text)

    def counted_requests(self) -> float:
        """Return the number of requests according to the metrics."""
        return sample_sum(self.samples(), REQUEST_COUNT, route="/docs", status="200")

    def folder(self) -> Path:
        """Return the folder of the workers' metrics."""
        variables = Path(f"/proc/{min(self.workers())}/environ").read_bytes().decode().split("\0")
        # /proc has the initial environment only, so the folder is read from the memory maps.
        assert not [text for text in variables if text.startswith("PROMETHEUS_MULTIPROC_DIR=")]
        maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in self.workers())
        return Path(re.search(r"(/\S+/loadbay-metrics-[^/]+)/", maps)[1])


@pytest.fixture
def gunicorn(processes, settings, tmp_path) -> Iterator[Gunicorn]:
    """The service under gunicorn."""
    create_app(settings)
    with Gunicorn(processes, settings, tmp_path / "log") as running:
        yield running


def replace_workers(running: Gunicorn, old_workers: set[int], change: Callable[[], object], count: int) -> None:
    """Call `change` and wait until that many of the workers are replaced."""
    change()
    wait_until(
        lambda: len(running.workers()) == 2 and len(old_workers - running.workers()) == count,
        "The workers are not replaced.",
    )
    running.wait_for_http(f"{running.base}/healthz")


def test_any_worker_reports_all_counts(gunicorn):
    """Any worker reports the counts of all workers."""
    files, sent = {f"histogram_{pid}.db" for pid in gunicorn.workers()}, 0
    with ThreadPoolExecutor(4) as pool:
        # One worker may be fast enough to serve all requests.
        while {path.name for path in gunicorn.folder().glob("histogram_*.db")} != files:
            assert sent < 4000
            list(pool.map(gunicorn.send_requests, [10] * 4))
            sent += 40
    assert {gunicorn.counted_requests() for _ in range(10)} == {sent}


def test_counts_outlive_workers(gunicorn):
    """Workers that are killed or replaced keep their counts, and leave no files."""
    gunicorn.send_requests(20)
    old_workers = gunicorn.workers()
    replace_workers(gunicorn, old_workers, lambda: os.kill(min(old_workers), signal.SIGKILL), 1)
    assert gunicorn.counted_requests() == 20
    gunicorn.send_requests(10)
    old_workers = gunicorn.workers()
    replace_workers(gunicorn, old_workers, lambda: gunicorn.process.send_signal(signal.SIGHUP), 2)
    gunicorn.send_requests(10)
    assert {gunicorn.counted_requests() for _ in range(10)} == {40}
    folder, pids = gunicorn.folder(), gunicorn.workers()
    files = {path.name for path in folder.glob("*.db")}
    assert files <= {f"{kind}_{who}.db" for kind in ("counter", "histogram") for who in ("exited", *pids)}
    assert gunicorn.stop(signal.SIGTERM) == 0
    assert not folder.exists()


def test_counts_never_decrease(gunicorn):
    """While workers are replaced under load, no scrape reports less than an earlier one, or too much."""
    counts = []
    for number in range(1, 61):
        gunicorn.send_requests(1)
        if number % 15 == 0:
            wait_until(gunicorn.stop_oldest_worker, "No worker can be stopped.")
        counts.append(gunicorn.counted_requests())
    assert counts == sorted(counts)
    assert counts[-1] == 60


def test_metrics_are_off_by_default(settings, processes):
    """Without METRICS_TOKEN, prometheus_client is not even imported."""
    create_app(settings)
    result = processes.run(
        sys.executable, "-c", "import sys, wsgi; print('prometheus_client' in sys.modules)", env=settings
    )
    assert result.stdout == "False\n"


# --- Dashboard and documentation ---


def test_dashboard_uses_existing_metrics(metrics_client):
    """Every metric and label of the dashboard exists."""
    upload_tracks(metrics_client)
    known: dict[str, set[str]] = {}
    for name, labels in scrape(metrics_client):
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
        # Prometheus adds these two.
        assert labels - {"job", "instance"} <= set.union(*(known[name] for name in names)), query


def test_docs_list_every_metric(metrics_client):
    """docs/operations.md has every metric."""
    upload_tracks(metrics_client)
    text = (ROOT / "docs" / "operations.md").read_text()
    families = {f.name for f in text_string_to_metric_families(metrics_client.get("/metrics", headers=BEARER).text)}
    assert len(families) > 5
    assert [name for name in families if f"`{name}`" not in text and f"`{name}_total`" not in text] == []
