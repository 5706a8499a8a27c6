"""What the tests share: one real store for the run, and an application with a database of its own for each test."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
import pytest
import requests
from botocore.config import Config
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from app import create_app
from dev.store import Store, free_port
from storage.db.connection import open_database
from storage.db.postgres import PooledPostgresDatabase
from storage.service import Service
from storage.settings import Settings
from storage.webhooks import endpoints
from storage.worker import Worker
from support import processes
from support.postgres import TEMPLATE, Databases, Postgres, new_database

COLLECTION = "123e4567-e89b-12d3-a456-426614174000"
ACCESS_KEY, SECRET_KEY, BUCKET = "test-access-key", "test-secret-key-0123456789", "tracks"
SLOW = {"browser", "deploy", "test_client.py", "test_commands.py", "test_crash.py", "test_schemathesis.py"}
SLOW |= {"test_upload_command.py"}
STORE, POSTGRES = pytest.StashKey[Store](), pytest.StashKey[Postgres]()


def start_store(folder: Path) -> Store:
    """A store of one's own, for a test that stops or freezes it."""
    store = Store(folder, free_port(), BUCKET, ACCESS_KEY, SECRET_KEY)
    store.start()
    return store


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--postgresql` runs the tests that use a database on PostgreSQL, and no others."""
    parser.addoption("--postgresql", action="store_true", help="run what uses a database, on PostgreSQL")


def pytest_configure(config: pytest.Config) -> None:
    """Start the run's one store, and its PostgreSQL, in the process that hands out the tests."""
    config.addinivalue_line("markers", "postgresql: about PostgreSQL's own ways")
    config.addinivalue_line("markers", "long: takes browsers, other processes or chance, and so its time")
    config.addinivalue_line("markers", "sqlite: about SQLite's own ways, or not about the database at all")
    if not hasattr(config, "workerinput"):
        if config.getoption("postgresql"):
            config.stash[POSTGRES] = Postgres()
            config.add_cleanup(config.stash[POSTGRES].stop)
            config.stash[POSTGRES].start()
            config.stash[POSTGRES].prepare(TEMPLATE)
        folder = tempfile.mkdtemp(prefix="loadbay-store-")
        config.stash[STORE] = start_store(Path(folder))
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        # What it holds is thrown away: nothing needs to be finished.
        config.add_cleanup(lambda: config.stash[STORE].stop(signal.SIGKILL))


def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: most tests wait for a store, a browser or a process of their own."""
    return 2 * (os.cpu_count() or 1)


def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the store is."""
    node.workerinput["store"] = node.config.stash[STORE].endpoint
    if POSTGRES in node.config.stash:
        node.workerinput["postgresql"] = node.config.stash[POSTGRES].url


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL, leave out what has run on SQLite already and would do the same again; tell what takes long."""

    for item in items:
        if SLOW.intersection(item.path.parts):
            item.add_marker("long")

    def wanted(item: Any) -> bool:
        if config.getoption("postgresql"):
            about = "make_database" in item.fixturenames and "browser" not in item.path.parts
            return about and not item.get_closest_marker("sqlite")
        return not item.get_closest_marker("postgresql")

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = filter(wanted, items)


@pytest.fixture(scope="session")
def store_endpoint(request: pytest.FixtureRequest) -> str:
    """The endpoint of the run's store."""
    told = getattr(request.config, "workerinput", None)
    return told["store"] if told else request.config.stash[STORE].endpoint


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Iterator[Databases | None]:
    """Databases on the run's PostgreSQL, where the run is about that."""
    if not request.config.getoption("postgresql"):
        yield None
        return
    told = getattr(request.config, "workerinput", {})
    databases = Databases(told["postgresql"] if told else request.config.stash[POSTGRES].url)
    with databases.made:
        yield databases


@pytest.fixture
def make_database(databases: Databases | None, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Make a database of the kind that this run is about, and give its URL; `empty=True` for one without our tables."""
    if databases is None:
        yield lambda empty=False: f"sqlite:///{tmp_path}/{uuid4().hex}.db"
        return
    with ExitStack() as made:
        yield lambda empty=False: made.enter_context(new_database(databases.url) if empty else databases.one())


@pytest.fixture
def settings(store_endpoint: str, make_database: Callable[[], str]) -> dict[str, Any]:
    """The settings of a test's application: change them before asking for `app`, or use `make_client`."""
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
def make_client(settings: dict[str, Any]) -> Callable[..., FlaskClient]:
    """Make a client of an application with other settings: `make_client(SESSION_TTL="120")`."""
    return lambda **other: create_app({**settings, **other}).test_client()


@pytest.fixture
def rows(settings: dict[str, Any]) -> Callable[[], dict[str, int]]:
    """Count the rows of the contract's tables, past the application."""

    def count() -> dict[str, int]:
        tables = ("upload_session", "track")
        url = settings["DATABASE_URL"]
        return {name: run_statement(url, f"SELECT count(*) FROM loadbay_{name}")[0][0] for name in tables}

    return count


def query(app: Flask, statement: str) -> list[tuple[Any, ...]]:
    """What a statement finds in, or does to, the database of `app`, past the application."""
    return run_statement(app.extensions["loadbay"]["loadbay"].settings.database_url, statement)


def run_statement(url: str, statement: str) -> list[tuple[Any, ...]]:
    """What a statement finds in, or does to, the database at `url`."""
    database = open_database(url)
    with closing(database), database.connection_context(), database.atomic():
        cursor = database.execute_sql(statement)
        found = list(cursor.fetchall()) if cursor.description else []
    if isinstance(database, PooledPostgresDatabase):
        database.close_idle()
    return found


class SecretTracker:
    """The secrets that a test has met, and the logs that must not hold them."""

    found = re.compile(
        r'"upload_session_id": ?"([^"]+)"|X-Amz-Signature=([0-9a-f]{64})|"x-amz-signature": ?"([0-9a-f]{64})"'
        r"|(loadbay_(?:full|uploader)_[A-Za-z0-9]{12}_[A-Za-z0-9]{43})"
    )

    settings = ("API_KEYS", "METRICS_TOKEN", "STORE_EVENT_SECRET", "WEBHOOK_SECRET", "AWS_SECRET_ACCESS_KEY")
    least = 16
    """Characters of a secret. What is shorter may stand in a log by accident."""

    def __init__(self) -> None:
        self.met = {SECRET_KEY}

    def meet(self, text: str) -> None:
        """Take note of the secrets in an answer, or in what a command prints."""
        self.met |= {secret for match in self.found.findall(text) for secret in match if secret}

    def given(self, settings: Mapping[str, Any]) -> None:
        """Take note of the secrets among the settings of a service."""
        for value in filter(None, map(settings.get, self.settings)):
            values = value.split(",") if isinstance(value, str) else value
            self.met |= {secret for secret in map(str.strip, values) if len(secret) >= self.least}

    def sent(self, headers: Mapping[str, Any]) -> None:
        """Take note of the key that a request carries, known or not."""
        scheme, _, key = str(headers.get("Authorization", "")).partition(" ")
        self.met |= {key} if scheme.lower() == "bearer" and len(key) >= self.least else set()

    def leaked_in(self, texts: Iterable[str]) -> set[str]:
        """Those of the secrets that the texts tell."""
        joined = "\n".join(texts)
        return {secret for secret in self.met if secret in joined}


@pytest.fixture(autouse=True)
def no_secrets_in_logs(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[SecretTracker]:
    """Fails every test whose logs, or those of the services that it ran, hold a secret that it used."""
    kept, records = SecretTracker(), []
    handler = logging.Handler(logging.INFO)
    handler.emit = records.append  # type: ignore[method-assign]
    opened, sent, loaded, invoked = FlaskClient.open, requests.Session.send, Settings.load, FlaskCliRunner.invoke

    def open_and_note(self: FlaskClient, *args: Any, **kwargs: Any) -> Any:
        answer = opened(self, *args, **kwargs)
        kept.sent(answer.request.headers)
        if answer.mimetype == "application/json":
            kept.meet(answer.get_data(as_text=True))
        return answer

    def send_and_note(self: requests.Session, *args: Any, **kwargs: Any) -> requests.Response:
        answer = sent(self, *args, **kwargs)
        kept.sent(answer.request.headers)
        if answer.headers.get("Content-Type") == "application/json":
            kept.meet(answer.text)
        return answer

    def load_and_note(source: Mapping[str, Any]) -> Settings:
        kept.given(source)
        return loaded(source)

    def invoke_and_note(self: FlaskCliRunner, *args: Any, **kwargs: Any) -> Any:
        result = invoked(self, *args, **kwargs)
        kept.meet(result.output)
        return result

    monkeypatch.setattr(Settings, "load", load_and_note)
    monkeypatch.setattr(FlaskCliRunner, "invoke", invoke_and_note)
    monkeypatch.setattr(FlaskClient, "open", open_and_note)
    monkeypatch.setattr(requests.Session, "send", send_and_note)
    for noted in (processes.OUTPUTS, processes.PRINTED, processes.PROCESS_SETTINGS):
        noted.clear()
    logging.getLogger().addHandler(handler)
    yield kept
    logging.getLogger().removeHandler(handler)
    for settings in processes.PROCESS_SETTINGS:
        kept.given(settings)
    kept.meet("\n".join(processes.PRINTED))
    format_ = logging.Formatter("%(name)s %(message)s").format
    told = kept.leaked_in([*map(format_, records), *processes.OUTPUTS])
    # How many and how long they are is said, not what they are.
    assert not told, f"The logs tell {len(told)} secrets, of {sorted(map(len, told))} characters."


class Clock:
    """The service's clock, which a test moves forward."""

    def __init__(self) -> None:
        self.ahead = 0

    def time(self) -> float:
        """As time.time, and ahead of it."""
        return time.time() + self.ahead

    def forward(self, seconds: int) -> None:
        """Let that much time pass."""
        self.ahead += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The service's clock. The store has its own, which nobody moves."""
    moved = Clock()
    monkeypatch.setattr("storage.clock.time", moved)
    return moved


@pytest.fixture
def service(app: Flask) -> Service:
    """The service of `app`."""
    return cast(Service, app.extensions["loadbay"]["loadbay"])


@pytest.fixture
def receiver() -> Iterator[Any]:
    """A receiver of webhooks that takes everything."""
    from support.webhook_receiver import Receiver

    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def webhook_secret(receiver: Any, service: Service, no_secrets_in_logs: SecretTracker) -> str:
    """The secret of a webhook that leads to the receiver."""
    secret, _ = endpoints.add(service, receiver.url)
    no_secrets_in_logs.met |= {secret, "a-secret-of-the-url"}
    return secret


@pytest.fixture
def worker(service: Service) -> Iterator[Worker]:
    """A worker of this process, which does a step when it is asked to."""
    worker = Worker([service], sweeps=False)
    yield worker
    worker.stop()
    worker.run()


class Bucket:
    """The bucket as boto3 sees it: what lies there, beside whatever the service says."""

    def __init__(self, endpoint: str):
        self.s3 = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
        )

    def get(self, key: str) -> bytes | None:
        """The object's bytes, or None where there is none."""
        try:
            return bytes(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        except self.s3.exceptions.NoSuchKey:
            return None

    def head(self, key: str) -> dict[str, Any]:
        """What the store tells of the object."""
        return dict(self.s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED"))

    def keys(self, prefix: str) -> list[str]:
        """The keys below `prefix`."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@pytest.fixture
def bucket(store_endpoint: str) -> Bucket:
    """The run's bucket, seen through boto3."""
    return Bucket(store_endpoint)


def new_session(client: FlaskClient, **payload: Any) -> dict[str, Any]:
    """Create a session and return the answer."""
    answer = client.post("/v1/upload_session", json={"collection_id": COLLECTION, **payload})
    assert answer.status_code == 200, answer.text
    return dict(answer.json)


def new_track(client: FlaskClient, session_id: str, file_name: str = "track-1.mp3", **payload: Any) -> dict[str, Any]:
    """Register a track and return the answer."""
    answer = client.post(
        f"/v1/upload/{session_id}/track", json={"file_name": file_name, "cover_fields": True, **payload}
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json)


# What a session's id opens, whoever asks, and what has a credential of its own.
OPEN = (("POST", "/v1/upload_session"), ("POST", "/v1/store_event"))


def full_key_routes(app: Flask, **ids: object) -> list[tuple[str, str]]:
    """Method and path of every route that asks for a full key, with these ids in it: all that has no session's id."""
    return [
        (method, re.sub(r"<(\w+)>", lambda name: str(ids[name[1]]), rule.rule))
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        if rule.rule.startswith("/v1/")
        and "upload_session_id" not in rule.arguments
        and (method, rule.rule) not in OPEN
    ]


def send(method: str, url: str, **payload: Any) -> requests.Response:
    """A request to the store. A busy one may refuse a connection, once in some thousands: nothing was sent then."""
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=Retry(total=None, connect=3, read=0, backoff_factor=0.2)))
        return session.request(method, url, timeout=10, **payload)


def put(upload: Mapping[str, Any], body: bytes, **headers: str) -> requests.Response:
    """Send a body to a `track_upload`, with its headers and these."""
    return send("PUT", upload["upload_url"], data=body, headers={**upload["headers"], **headers})


def post_cover(
    upload: Mapping[str, Any], body: bytes, content_type: str = "image/jpeg", **fields: str
) -> requests.Response:
    """Send a cover to a `track_cover_upload`, with its fields and these."""
    form = {**upload["fields"], **fields}
    return send("POST", upload["upload_url"], data=form, files={"file": ("cover.jpg", body, content_type)})


def staged_key(upload: Mapping[str, Any]) -> str:
    """Return the object key that a `track_upload`, or the form of a `track_cover_upload`, leads to."""
    key = upload.get("fields", {}).get("key") or urlsplit(upload["upload_url"]).path.partition(f"/{BUCKET}/")[2]
    return str(key)


def assert_error(answer: Any, status: int, code: str, *names: str) -> None:
    """The answer is an error in the one shape that errors have, and its message holds each of `names`."""
    body = answer.get_json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert body["ok"] is False
    assert body["api_request_id"] == answer.headers["X-Request-ID"]
    for name in names:
        assert name in body["message"]
