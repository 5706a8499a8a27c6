"""POST /v1/store_event: what the store tells leads to the same check as a client's word."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from flask import Flask
from werkzeug.serving import make_server

from app import create_app
from dev.store import free_port
from support.api import assert_error, new_session, new_track
from support.sample_files import wav
from support.store import BUCKET, put, start_store

SECRET = "a-secret-of-the-store"
AUTHORIZED = {"Authorization": f"Bearer {SECRET}"}

WEBHOOK = """
[notification.webhook]
enabled = true
endpoint = "http://127.0.0.1:{port}/v1/store_event"
bearer_token = "{secret}"
timeout_seconds = 5
max_retries = 3
backoff_seconds = 1
max_backoff_seconds = 2
workers = 2
buffer_size = 1000
path_prefixes = ["/buckets/tracks/"]
event_types = ["create", "update", "rename"]
"""


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """With a secret for the store."""
    return {**settings, "STORE_EVENT_SECRET": SECRET}


@pytest.fixture
def created(client: Any) -> dict[str, Any]:
    """A track whose bytes have come."""
    created = new_track(client, new_session(client)["upload_session_id"], "my song.wav")
    put(created["track_upload"], wav())
    return created


def counts(client: Any, created: dict[str, Any]) -> dict[str, int]:
    """The session's tracks by status; unlike reading the track, this asks nobody else."""
    return dict(client.get(f"/v1/upload_session/{created['upload_session_id']}").json["upload_session"]["tracks"])


def s3_event(key: str, bucket: str = BUCKET) -> dict[str, Any]:
    """An event as AWS and MinIO send it."""
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key), "size": 1024}},
    }
    return {"EventName": "s3:ObjectCreated:Put", "Key": f"{bucket}/{key}", "Records": [record]}


def test_s3_event(client, created):
    """AWS's and MinIO's event: the track is checked, once and for all."""
    for _ in range(2):
        response = client.post("/v1/store_event", json=s3_event(created["track"]["path"]), headers=AUTHORIZED)
        assert (response.status_code, response.json["count"]) == (200, 1)
        assert counts(client, created)["uploaded"] == 1


def test_event_is_only_a_hint(client):
    """An event about bytes that are not there changes nothing."""
    created = new_track(client, new_session(client)["upload_session_id"])
    response = client.post("/v1/store_event", json=s3_event(created["track"]["path"]), headers=AUTHORIZED)
    assert response.status_code == 200
    assert counts(client, created)["initialized"] == 1


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"Records": None},
        {"Records": [None, 1, [], {"s3": None}, {"s3": {"bucket": [], "object": "x"}}, {"s3": {"object": {"key": 1}}}]},
        {"key": 7},
        {"key": "/buckets/tracks/../../etc/passwd"},
        s3_event("%00%ff"),
        s3_event("123e4567-e89b-12d3-a456-426614174000/AAAAAAAAAAAAAAAAAAAAAA/x.mp3"),
    ],
)
def test_strange_events(client, event):
    """What is not understood, or not ours, is passed over."""
    response = client.post("/v1/store_event", json=event, headers=AUTHORIZED)
    assert (response.status_code, response.json["count"]) == (200, 0)


def test_other_bucket(client, created):
    """An event about another bucket is not about us."""
    event = s3_event(created["track"]["path"], "elsewhere")
    assert client.post("/v1/store_event", json=event, headers=AUTHORIZED).json["count"] == 0


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": SECRET}])
def test_secret(client, created, headers):
    """Only who has the secret is heard."""
    response = client.post("/v1/store_event", json=s3_event(created["track"]["path"]), headers=headers)
    assert_error(response, 401, "unauthorized", "Authorization")
    assert counts(client, created)["initialized"] == 1


def test_no_secret_no_events(settings):
    """Without STORE_EVENT_SECRET nobody is heard."""
    client = create_app({**settings, "STORE_EVENT_SECRET": ""}).test_client()
    response = client.post("/v1/store_event", json={}, headers={"Authorization": "Bearer "})
    assert_error(response, 401, "unauthorized")


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> Iterator[Flask]:
    """An application on a port, and a store of its own that is set up to tell it of changes."""
    port = free_port()
    # SeaweedFS reads its notifications from the folder in which it is started.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notification.toml").write_text(WEBHOOK.format(port=port, secret=SECRET))
    store = start_store(tmp_path / "store")
    app = create_app({**settings, "S3_ENDPOINT": store.endpoint})
    server = make_server("127.0.0.1", port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield app
    server.shutdown()
    thread.join()
    server.server_close()
    store.stop(signal.SIGKILL)


def test_real_events(told):
    """SeaweedFS tells of a file by itself, and without a word of the client it is uploaded."""
    client = told.test_client()
    created = new_track(client, new_session(client)["upload_session_id"], "my song.wav", write_once=True)
    assert put(created["track_upload"], wav()).status_code == 200
    deadline = time.monotonic() + 20
    while not counts(client, created)["uploaded"]:
        assert time.monotonic() < deadline, json.dumps(counts(client, created))
        time.sleep(0.1)
