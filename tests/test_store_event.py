"""POST /v1/store_event: notifications of the store lead to the same verification as `complete`."""

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
from dev import store as dev_store
from dev.store import free_port
from support.api import assert_error, complete, new_session, new_track
from support.sample_files import png, wav
from support.store import BUCKET, post_cover, put, staged_key, start_store

SECRET = "a-secret-of-the-store"
AUTHORIZED = {"Authorization": f"Bearer {SECRET}"}


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


def s3_event(*keys: str, bucket: str = BUCKET, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    """A notification as AWS and MinIO send it."""
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "eventName": name,
                "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key), "size": 1024}},
            }
            for key in keys
        ]
    }


def minio_event(key: str) -> dict[str, Any]:
    """A notification of MinIO's webhook target, which adds two keys of its own."""
    event = s3_event(key, name="s3:ObjectCreated:Put")
    return {"EventName": "s3:ObjectCreated:Put", "Key": f"{BUCKET}/{key}", **event}


def eventbridge_event(key: str, detail_type: str = "Object Created") -> dict[str, Any]:
    """An event as EventBridge delivers it to an API destination; its key is not encoded."""
    detail = {"version": "0", "bucket": {"name": BUCKET}, "object": {"key": key, "size": 1024}}
    return {"version": "0", "detail-type": detail_type, "source": "aws.s3", "detail": detail}


def seaweedfs_event(key: str) -> dict[str, Any]:
    """An event of SeaweedFS's webhook notifier."""
    return {"key": f"/buckets/{BUCKET}/{key}", "event_type": "create", "message": {}}


def send_event(client: Any, event: dict[str, Any]) -> int:
    """Send a notification, and return the number of tracks that it was about."""
    response = client.post("/v1/store_event", json=event, headers=AUTHORIZED)
    assert response.status_code == 200, response.text
    return int(response.json["count"])


@pytest.mark.parametrize("shape", [s3_event, minio_event, eventbridge_event, seaweedfs_event])
def test_each_format_is_understood(client, created, shape):
    """A notification verifies its track; another one for the same upload finds nothing to do."""
    event = shape(staged_key(created["track_upload"]))
    assert send_event(client, event) == 1
    assert counts(client, created)["uploaded"] == 1
    assert send_event(client, event) == 0


def test_detail_of_eventbridge_alone(client, created):
    """An API destination may send the event's `detail` by an input path."""
    assert send_event(client, {"detail": eventbridge_event(staged_key(created["track_upload"]))["detail"]}) == 1


def test_write_once_upload_is_named_by_its_path(client):
    """A write-once upload lies at the final key, which a client may write."""
    created = new_track(client, new_session(client)["upload_session_id"], "my song.wav", write_once=True)
    put(created["track_upload"], wav())
    assert send_event(client, s3_event(created["track"]["path"])) == 1
    assert counts(client, created)["uploaded"] == 1


def test_own_copies_are_passed_over(client, service, created, monkeypatch):
    """A final key that only the service writes triggers no request to the store."""
    monkeypatch.setattr(service.bucket, "_quick", None)
    assert send_event(client, s3_event(created["track"]["path"])) == 0
    assert send_event(client, s3_event(created["track"]["path"].rpartition("/")[0] + ".cover")) == 0


@pytest.mark.parametrize("event", [s3_event, eventbridge_event])
def test_deletions_are_passed_over(client, created, event):
    """Only a new object is a reason to look."""
    key = staged_key(created["track_upload"])
    removed = event(key, name="ObjectRemoved:Delete") if event is s3_event else event(key, detail_type="Object Deleted")
    assert send_event(client, removed) == 0


def test_several_keys_are_one_batch(client):
    """All tracks that a notification names are verified by one request."""
    session_id = new_session(client)["upload_session_id"]
    many = [new_track(client, session_id, f"{number}.wav") for number in range(20)]
    for track in many:
        put(track["track_upload"], wav())
    assert send_event(client, s3_event(*[staged_key(track["track_upload"]) for track in many])) == 20
    assert counts(client, many[0])["uploaded"] == 20


def test_cover_is_verified(client, created):
    """The notification of a cover's upload verifies it, once its track is uploaded."""
    post_cover(created["track_cover_upload"], png(), "image/png")
    cover = s3_event(staged_key(created["track_cover_upload"]))
    assert send_event(client, cover) == 0
    complete(client, created["upload_session_id"], created)
    late = new_track(client, created["upload_session_id"], "late.wav")
    put(late["track_upload"], wav())
    complete(client, created["upload_session_id"], late)
    post_cover(late["track_cover_upload"], png(), "image/png")
    assert send_event(client, s3_event(staged_key(late["track_cover_upload"]))) == 1


def test_event_is_only_a_hint(client):
    """An event about bytes that are not there changes nothing."""
    created = new_track(client, new_session(client)["upload_session_id"])
    assert send_event(client, s3_event(staged_key(created["track_upload"]))) == 1
    assert counts(client, created)["initialized"] == 1


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"Records": None},
        {"Records": [None, 1, [], {"s3": None}, {"s3": {"bucket": [], "object": "x"}}, {"s3": {"object": {"key": 1}}}]},
        {"Records": [{"eventName": 7, "s3": 7}]},
        {"detail": 7},
        {"detail-type": [], "detail": {}},
        {"key": 7},
        {"key": "/buckets/tracks/../../etc/passwd"},
        s3_event("%00%ff"),
        s3_event("123e4567-e89b-12d3-a456-426614174000/AAAAAAAAAAAAAAAAAAAAAA/x.mp3"),
    ],
)
def test_strange_events(client, event):
    """What is not understood, or of others, is passed over."""
    assert send_event(client, event) == 0


def test_other_bucket(client, created):
    """An event about another bucket is passed over."""
    assert send_event(client, s3_event(staged_key(created["track_upload"]), bucket="elsewhere")) == 0


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": SECRET}])
def test_secret(client, created, headers):
    """Only who has the secret is heard."""
    response = client.post("/v1/store_event", json=s3_event(staged_key(created["track_upload"])), headers=headers)
    assert_error(response, 401, "unauthorized", "Authorization")
    assert counts(client, created)["initialized"] == 1


def test_no_secret_no_events(settings):
    """Without STORE_EVENT_SECRET nobody is heard."""
    client = create_app({**settings, "STORE_EVENT_SECRET": ""}).test_client()
    response = client.post("/v1/store_event", json={}, headers={"Authorization": "Bearer "})
    assert_error(response, 401, "unauthorized")


@pytest.fixture
def notified_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> Iterator[Flask]:
    """An application on a port, and a store of its own that is set up to tell it of changes."""
    port = free_port()
    notifications = dev_store.notifications(f"http://127.0.0.1:{port}/v1/store_event", SECRET, BUCKET)
    for name, value in notifications.items():
        monkeypatch.setenv(name, value)
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


def test_real_events(notified_app):
    """SeaweedFS tells of a file by itself, and without a word of the client it is uploaded."""
    client = notified_app.test_client()
    created = new_track(client, new_session(client)["upload_session_id"], "my song.wav")
    assert put(created["track_upload"], wav()).status_code == 200
    deadline = time.monotonic() + 20
    while not counts(client, created)["uploaded"]:
        assert time.monotonic() < deadline, json.dumps(counts(client, created))
        time.sleep(0.1)
