"""Fixtures that the tests share: one real store per run, and an application with its own database per test."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner

from app import create_app
from dev.store import Store
from storage.measuring import stores
from storage.s3.abilities import Abilities
from storage.service import Service
from storage.settings import Settings
from storage.webhooks import endpoints
from storage.worker import Worker
from support.api import service_of
from support.database import run_statement
from support.live_server import serve
from support.postgres import TEMPLATE, DatabasePool, Postgres, new_database
from support.processes import Processes
from support.secret_tracker import SecretTracker, leaks_in_file
from support.store import ACCESS_KEY, BUCKET, SECRET_KEY, Bucket, measured_abilities, start_store

ABILITIES = pytest.StashKey[Abilities]()
SLOW = {
    "ablation", "assets", "audio_tracks", "audit", "bad_input", "bench", "client", "client_faults", "commands",
    "conformance", "copy_database", "cost_ceilings", "crash", "data_loss", "delivery", "dialects", "docs",
    "docs_examples", "doctor", "driver", "embedding", "faults", "hosts", "instances", "integrity",
    "interleavings", "invariants", "isolation", "keys", "logs", "measuring", "multipart", "noticing", "openapi",
    "operations", "orders", "organization_routes", "owner_commands", "pages", "policy", "postgresql", "readme",
    "relay", "retention", "schemathesis", "session_changes", "session_page", "session_rules", "sns", "soak",
    "store_event", "sweep", "upload_command", "vocabulary", "webhooks", "worker", "write_headers",
}  # fmt: skip
"""Modules that take more than a few seconds, beside those in folders: `make quick` leaves them out."""
USED_SECRETS, USED_TEXTS = pytest.StashKey[set[str]](), pytest.StashKey[set[str]]()
"""Secrets and texts of metadata of all tests, which neither the store nor PostgreSQL may have logged."""

LOG_FOLDER = pytest.StashKey[Path]()
STORE, POSTGRES = pytest.StashKey[Store](), pytest.StashKey[Postgres]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--postgresql`, which runs the tests that use a database on PostgreSQL, and no others."""
    parser.addoption("--postgresql", action="store_true", help="run the tests that use a database on PostgreSQL")


def pytest_configure(config: pytest.Config) -> None:
    """Start the run's store, and its PostgreSQL, in the process that distributes the tests."""
    config.addinivalue_line("markers", "alone: tests of speed, which nothing else may disturb")
    config.addinivalue_line("markers", "postgresql: tests of PostgreSQL itself")
    config.addinivalue_line("markers", "slow: tests with browsers, other processes or random input")
    config.addinivalue_line("markers", "sqlite: tests of SQLite itself, or of nothing that depends on the database")
    config.stash[USED_SECRETS], config.stash[USED_TEXTS] = set(), set()
    if not hasattr(config, "workerinput"):
        if config.getoption("postgresql"):
            config.stash[POSTGRES] = Postgres()
            config.add_cleanup(config.stash[POSTGRES].stop)
            config.stash[POSTGRES].start()
            config.stash[POSTGRES].prepare(TEMPLATE)
        folder = tempfile.mkdtemp(prefix="loadbay-store-")
        config.stash[LOG_FOLDER] = Path(tempfile.mkdtemp(prefix="loadbay-logs-"))
        config.add_cleanup(lambda: shutil.rmtree(config.stash[LOG_FOLDER], ignore_errors=True))
        config.stash[STORE] = start_store(Path(folder) / "data", config.stash[LOG_FOLDER] / "seaweedfs.log")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        config.stash[ABILITIES] = measured_abilities(config.stash[STORE].endpoint)
        # Its data is deleted anyway, so it need not shut down cleanly.
        config.add_cleanup(lambda: config.stash[STORE].stop(signal.SIGKILL))


def pytest_xdist_auto_num_workers() -> int:
    """Use two workers per core: most tests wait for a store, a browser or a process of their own."""
    return 2 * (os.cpu_count() or 1)


def pytest_configure_node(node: Any) -> None:
    """Pass the addresses of the store and of PostgreSQL to a worker of pytest-xdist."""
    node.workerinput["store"] = node.config.stash[STORE].endpoint
    node.workerinput["abilities"] = node.config.stash[ABILITIES].json()
    if POSTGRES in node.config.stash:
        node.workerinput["postgresql"] = node.config.stash[POSTGRES].url


def pytest_testnodedown(node: Any) -> None:
    """Collect the secrets of a worker of pytest-xdist."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[USED_SECRETS].update(output.get("secrets", ()))
    node.config.stash[USED_TEXTS].update(output.get("texts", ()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run of which the store's log or PostgreSQL's has a secret, or anything of a track's metadata."""
    config = session.config
    secrets, texts = config.stash[USED_SECRETS], config.stash[USED_TEXTS]
    if hasattr(config, "workeroutput"):
        config.workeroutput |= {"secrets": sorted(secrets), "texts": sorted(texts)}
        return
    logs = [config.stash[LOG_FOLDER] / "seaweedfs.log"]
    if POSTGRES in config.stash and config.stash[POSTGRES].log is not None:
        logs.append(config.stash[POSTGRES].log)
    for log in logs:
        if leaks := leaks_in_file(log, secrets, texts):
            print(f"\nThe log {log.name} has {len(leaks)} secrets or texts of metadata, of {sorted(map(len, leaks))}.")
            shutil.copy(log, Path(tempfile.gettempdir()) / f"leaking-{log.name}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def is_slow(path: Path) -> bool:
    """Return whether all tests of a module are slow."""
    return path.parent.name in ("browser", "deploy") or path.stem.removeprefix("test_") in SLOW


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import slow modules where none of their tests is wanted."""
    return True if config.option.markexpr == "not slow" and is_slow(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the slow tests and, on PostgreSQL, deselect those that do not depend on the database."""
    for item in items:
        if is_slow(item.path):
            item.add_marker("slow")

    def is_selected(item: Any) -> bool:
        if config.getoption("postgresql"):
            uses_database = "make_database" in item.fixturenames and "browser" not in item.path.parts
            return uses_database and not item.get_closest_marker("sqlite")
        return not item.get_closest_marker("postgresql")

    config.hook.pytest_deselected(items=[item for item in items if not is_selected(item)])
    items[:] = filter(is_selected, items)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Fail skipped tests where NOTHING_SKIPPED is set, as in CI, which has everything that the tests need."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("NOTHING_SKIPPED"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although NOTHING_SKIPPED is set: {report.longrepr}"


@pytest.fixture(scope="session")
def store_endpoint(request: pytest.FixtureRequest) -> str:
    """The endpoint of the run's store."""
    worker_input = getattr(request.config, "workerinput", None)
    return worker_input["store"] if worker_input else request.config.stash[STORE].endpoint


@pytest.fixture(scope="session")
def store_abilities(request: pytest.FixtureRequest) -> Abilities:
    """The abilities of the run's store, measured once."""
    worker_input = getattr(request.config, "workerinput", None)
    return Abilities.from_json(worker_input["abilities"]) if worker_input else request.config.stash[ABILITIES]


@pytest.fixture(autouse=True)
def known_store(store_abilities: Abilities, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have applications start from what was measured once, rather than measure the store each."""

    def learn_if_unknown(service: Service) -> list[str]:
        if not stores.is_current(service):
            stores.save(service, store_abilities)
        return []

    monkeypatch.setattr(stores, "learn_if_unknown", learn_if_unknown)


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Iterator[DatabasePool | None]:
    """Databases on the run's PostgreSQL, or None if the run uses SQLite."""
    if not request.config.getoption("postgresql"):
        yield None
        return
    worker_input = getattr(request.config, "workerinput", None)
    pool = DatabasePool(worker_input["postgresql"] if worker_input else request.config.stash[POSTGRES].url)
    with pool.stack:
        yield pool


@pytest.fixture
def make_database(databases: DatabasePool | None, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Create a database and return its URL; `empty=True` for one without our tables."""
    if databases is None:
        yield lambda empty=False: f"sqlite:///{tmp_path}/{uuid4().hex}.db"
        return
    with ExitStack() as stack:
        yield lambda empty=False: stack.enter_context(new_database(databases.url) if empty else databases.borrow())


@pytest.fixture
def settings(store_endpoint: str, make_database: Callable[[], str]) -> dict[str, Any]:
    """The settings of the test's application: override the fixture before `app` is built, or use `make_client`."""
    return {
        "S3_ENDPOINT": store_endpoint,
        "S3_BUCKET": BUCKET,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "DATABASE_URL": make_database(),
        "ALLOW_ANONYMOUS": "1",
        "CREATE_MISSING": "1",
        "WEBHOOK_ALLOW_PRIVATE": "1",
    }


@pytest.fixture
def app(settings: dict[str, Any]) -> Flask:
    """An application on the run's store, with an empty database."""
    return create_app(settings)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of `app`."""
    return app.test_client()


@pytest.fixture
def server(app: Flask) -> Iterator[str]:
    """The URL of `app`, served by a thread of the test."""
    with serve(app) as url:
        yield url


@pytest.fixture
def make_client(settings: dict[str, Any]) -> Callable[..., FlaskClient]:
    """Create a client of an application with other settings: `make_client(SESSION_TTL="120")`."""
    return lambda **other: create_app({**settings, **other}).test_client()


@pytest.fixture
def count_rows(settings: dict[str, Any]) -> Callable[[], dict[str, int]]:
    """Count the rows of the sessions' and the tracks' tables, past the application."""

    def count() -> dict[str, int]:
        tables = ("upload_session", "track")
        url = settings["DATABASE_URL"]
        return {name: run_statement(url, f"SELECT count(*) FROM loadbay_{name}")[0][0] for name in tables}

    return count


@pytest.fixture
def processes() -> Processes:
    """The processes that the test runs."""
    return Processes()


@pytest.fixture(autouse=True)
def no_secrets_in_logs(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, processes: Processes
) -> Iterator[SecretTracker]:
    """Fail every test whose logs, or those of the services that it ran, have a secret that it used."""
    tracker, records = SecretTracker(), list[logging.LogRecord]()
    handler = logging.Handler(logging.INFO)
    handler.emit = records.append  # type: ignore[method-assign]
    track_secrets(tracker, monkeypatch)
    logging.getLogger().addHandler(handler)
    yield tracker
    logging.getLogger().removeHandler(handler)
    for settings in processes.settings:
        tracker.add_from_settings(settings)
    tracker.add_from_text("\n".join(processes.printed))
    request.config.stash[USED_SECRETS].update(tracker.secrets)
    request.config.stash[USED_TEXTS].update(tracker.texts)
    format_record = logging.Formatter("%(name)s %(message)s").format
    leaks = tracker.leaked_in([*map(format_record, records), *processes.outputs])
    # The message has their number and lengths, not the secrets.
    assert not leaks, f"The logs have {len(leaks)} secrets, of {sorted(map(len, leaks))} characters."


def track_secrets(tracker: SecretTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add to `tracker` the secrets in requests, responses, settings and the output of commands."""
    client_open, session_send = FlaskClient.open, requests.Session.send
    load_settings, invoke_command = Settings.load, FlaskCliRunner.invoke

    def tracked_open(self: FlaskClient, *args: Any, **kwargs: Any) -> Any:
        response = client_open(self, *args, **kwargs)
        tracker.add_metadata(kwargs.get("json"))
        tracker.add_from_headers(response.request.headers)
        if response.mimetype == "application/json":
            tracker.add_from_text(response.get_data(as_text=True))
        return response

    def tracked_send(self: requests.Session, *args: Any, **kwargs: Any) -> requests.Response:
        response = session_send(self, *args, **kwargs)
        tracker.add_from_headers(response.request.headers)
        if response.headers.get("Content-Type") == "application/json":
            tracker.add_from_text(response.text)
        return response

    def tracked_load(source: Mapping[str, Any]) -> Settings:
        tracker.add_from_settings(source)
        return load_settings(source)

    def tracked_invoke(self: FlaskCliRunner, *args: Any, **kwargs: Any) -> Any:
        result = invoke_command(self, *args, **kwargs)
        tracker.add_from_text(result.output)
        return result

    monkeypatch.setattr(Settings, "load", tracked_load)
    monkeypatch.setattr(FlaskCliRunner, "invoke", tracked_invoke)
    monkeypatch.setattr(FlaskClient, "open", tracked_open)
    monkeypatch.setattr(requests.Session, "send", tracked_send)


class Clock:
    """A clock for the service that a test can move."""

    def __init__(self) -> None:
        self.offset = 0

    def time(self) -> float:
        """Return the time, as time.time does, moved by the offset."""
        return time.time() + self.offset

    def forward(self, seconds: int) -> None:
        """Move the clock by that many seconds."""
        self.offset += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The service's clock. The store's clock is not moved."""
    clock = Clock()
    monkeypatch.setattr("storage.clock.time", clock)
    return clock


@pytest.fixture
def service(app: Flask) -> Service:
    """The service of `app`."""
    return service_of(app)


@pytest.fixture
def receiver() -> Iterator[Any]:
    """A receiver that accepts every webhook."""
    from support.webhook_receiver import Receiver

    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def webhook_secret(receiver: Any, service: Service, no_secrets_in_logs: SecretTracker) -> str:
    """The secret of a webhook that sends to the receiver."""
    secret, _ = endpoints.add(service, receiver.url)
    no_secrets_in_logs.secrets |= {secret, "a-secret-of-the-url"}
    return secret


@pytest.fixture
def worker(service: Service) -> Iterator[Worker]:
    """A worker in this process, which acts only when its `step` is called."""
    worker = Worker([service], sweeps=False, notices=False)
    yield worker
    worker.stop()
    worker.run()


@pytest.fixture
def bucket(store_endpoint: str) -> Bucket:
    """The run's bucket, read through boto3."""
    return Bucket(store_endpoint)
