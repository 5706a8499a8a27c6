"""POST /v1/store_event: notifications of the store, which lead to the same verification as `complete`."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

from app import create_app
from dev import store as dev_store
from dev.store import free_port
from support.api import assert_error, complete, new_session, new_track
from support.sample_files import png, wav
from support.store import BUCKET, post_cover, put, staged_key, start_store
from support.store_events import eventbridge_event, minio_event, s3_event, seaweedfs_event
from web.log_format import redact

SECRET = "a-secret-of-the-store"
AUTHORIZATION = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with a secret for the store."""
    return {**settings, "STORE_EVENT_SECRET": SECRET}


@pytest.fixture
def created(client: Any) -> dict[str, Any]:
    """A track whose bytes are uploaded."""
    created = new_track(client, new_session(client)["upload_session_id"], "my song.wav")
    put(created["track_upload"], wav())
    return created


def count_by_status(client: Any, created: dict[str, Any]) -> dict[str, int]:
    """Return the session's tracks by status, which does not trigger a verification."""
    return dict(client.get(f"/v1/upload_session/{created['upload_session_id']}").json["upload_session"]["tracks"])


def send_event(client: Any, event: dict[str, Any]) -> int:
    """Send a notification, and return the number of its tracks."""
    response = client.post("/v1/store_event", json=event, headers=AUTHORIZATION)
    assert response.status_code == 200, response.text
    return int(response.json["count"])


@pytest.mark.parametrize("shape", [s3_event, minio_event, eventbridge_event, seaweedfs_event])
def test_events_of_every_format_verify_the_track(client, created, shape):
    """A notification verifies its track, and another one of the same upload changes nothing."""
    event = shape(staged_key(created["track_upload"]))
    assert send_event(client, event) == 1
    assert count_by_status(client, created)["uploaded"] == 1
    assert send_event(client, event) == 0


def test_accepts_the_detail_of_eventbridge_alone(client, created):
    """An API destination may send the event's `detail` by an input path."""
    assert send_event(client, {"detail": eventbridge_event(staged_key(created["track_upload"]))["detail"]}) == 1


def test_events_of_final_keys_verify_write_once_tracks(client):
    """A write-once upload is at the final key, which its client may write."""
    created = new_track(client, new_session(client)["upload_session_id"], "my song.wav", write_once=True)
    put(created["track_upload"], wav())
    assert send_event(client, s3_event(created["track"]["path"])) == 1
    assert count_by_status(client, created)["uploaded"] == 1


def test_ignores_events_of_own_copies(client, service, created, monkeypatch):
    """A final key that only the service writes triggers no request to the store."""
    monkeypatch.setattr(service.bucket, "_following_region", None)
    assert send_event(client, s3_event(created["track"]["path"])) == 0
    assert send_event(client, s3_event(created["track"]["path"].rpartition("/")[0] + ".cover")) == 0


@pytest.mark.parametrize("event", [s3_event, eventbridge_event])
def test_ignores_deletions(client, created, event):
    """Events of deleted objects are ignored."""
    key = staged_key(created["track_upload"])
    removed = event(key, name="ObjectRemoved:Delete") if event is s3_event else event(key, detail_type="Object Deleted")
    assert send_event(client, removed) == 0


def test_several_keys_are_verified_in_one_batch(client):
    """All tracks of a notification are verified in one batch."""
    session_id = new_session(client)["upload_session_id"]
    many = [new_track(client, session_id, f"{number}.wav") for number in range(20)]
    for track in many:
        put(track["track_upload"], wav())
    assert send_event(client, s3_event(*[staged_key(track["track_upload"]) for track in many])) == 20
    assert count_by_status(client, many[0])["uploaded"] == 20


def test_events_of_covers_verify_them(client, created):
    """A notification of a cover verifies it, once its track is uploaded."""
    post_cover(created["track_cover_upload"], png(), "image/png")
    cover = s3_event(staged_key(created["track_cover_upload"]))
    assert send_event(client, cover) == 0
    complete(client, created["upload_session_id"], created)
    late = new_track(client, created["upload_session_id"], "late.wav")
    put(late["track_upload"], wav())
    complete(client, created["upload_session_id"], late)
    post_cover(late["track_cover_upload"], png(), "image/png")
    assert send_event(client, s3_event(staged_key(late["track_cover_upload"]))) == 1


def test_event_without_an_object_changes_nothing(client):
    """An event about an object that does not exist changes nothing."""
    created = new_track(client, new_session(client)["upload_session_id"])
    assert send_event(client, s3_event(staged_key(created["track_upload"]))) == 1
    assert count_by_status(client, created)["initialized"] == 1


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
def test_ignores_unknown_events(client, event):
    """Events of another format, or about other objects, are ignored."""
    assert send_event(client, event) == 0


def test_ignores_events_of_other_buckets(client, created):
    """An event about another bucket is ignored."""
    assert send_event(client, s3_event(staged_key(created["track_upload"]), bucket="elsewhere")) == 0


def foreign_keys(service, created):
    """Return keys that look like those of a pending track's upload, and are not the one that its client may write."""
    staged, path = staged_key(created["track_upload"]), created["track"]["path"]
    own = service.deployment_id
    track, cover = staged.rpartition("/")[2], staged_key(created["track_cover_upload"])
    return {
        "another deployment's staging": staged.replace(own, own[::-1]),
        "another prefix": f"other/{staged}",
        "prefix repeated": f"incoming/{staged}",
        "a later attempt": staged.removesuffix(".0") + ".1",
        "an attempt without a number": staged.removesuffix(".0"),
        "a cover of a track that is not uploaded": cover,
        "the final key, which only the service writes": path,
        "the cover's final key": created["track"]["cover_path"],
        "another collection": "0" * 8 + path[8:],
        "another file name": path + "x",
        "a measurement": f".doctor/{own}/{track}",
        "a folder below": f"{staged}/x",
        "no index": f"incoming/{own}/x.0",
        "another bucket's key in this one": f"{BUCKET}/{staged}",
    }


@pytest.mark.parametrize("shape", [s3_event, minio_event, eventbridge_event, seaweedfs_event])
def test_ignores_keys_that_no_client_of_this_deployment_may_write(client, service, created, shape, monkeypatch):
    """Events of keys of others, or of the service's own, are passed over without a request to the store."""
    keys = foreign_keys(service, created)
    monkeypatch.setattr(service.bucket, "_following_region", None)
    handled = {name: send_event(client, shape(key)) for name, key in keys.items()}
    assert handled == dict.fromkeys(keys, 0)
    assert count_by_status(client, created)["initialized"] == 1


def test_final_key_of_another_upload_mode_is_ignored(client, service):
    """A final key counts for a write-once or multipart track that is not chosen yet, with its own path alone."""
    session_id = new_session(client)["upload_session_id"]
    once = new_track(client, session_id, "a.wav", write_once=True)
    path = once["track"]["path"]
    put(once["track_upload"], wav())
    assert send_event(client, s3_event(path.replace("a.wav", "b.wav"))) == 0
    assert send_event(client, s3_event("other/" + path)) == 0
    assert send_event(client, s3_event(path)) == 1
    assert send_event(client, s3_event(path)) == 0


def test_one_foreign_key_does_not_keep_others_from_being_verified(client, service, created):
    """Of many records in one notification those count that are of this deployment."""
    keys = [*foreign_keys(service, created).values(), staged_key(created["track_upload"])]
    assert send_event(client, s3_event(*keys)) == 1
    assert count_by_status(client, created)["uploaded"] == 1


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": SECRET}])
def test_events_require_the_secret(client, created, headers):
    """An event requires STORE_EVENT_SECRET."""
    response = client.post("/v1/store_event", json=s3_event(staged_key(created["track_upload"])), headers=headers)
    assert_error(response, 401, "unauthorized", "Authorization")
    assert count_by_status(client, created)["initialized"] == 1


def test_secret_may_be_in_the_path(client, created):
    """A store that can send no header, such as Ceph, has the secret in the path; its media type does not matter."""
    put(created["track_upload"], wav())
    event = json.dumps(s3_event(staged_key(created["track_upload"])))
    for token in ("wrong-secret-0123456789", SECRET[:-1], f"{SECRET}x"):
        response = client.post(f"/v1/store_event/{token}", data=event, content_type="text/plain")
        assert_error(response, 401, "unauthorized")
    assert count_by_status(client, created)["initialized"] == 1
    response = client.post(f"/v1/store_event/{SECRET}", data=event, content_type="text/plain")
    assert (response.status_code, response.json["count"]) == (200, 1)
    assert count_by_status(client, created)["uploaded"] == 1


def test_secret_in_the_path_is_not_logged():
    """The path of a notification is logged without the secret in it."""
    assert redact(f"POST /v1/store_event/{SECRET} HTTP/1.1") == "POST /v1/store_event/... HTTP/1.1"
    assert redact("POST /v1/store_event/sns HTTP/1.1") == "POST /v1/store_event/sns HTTP/1.1"


def test_path_is_closed_without_the_secret(settings):
    """Without STORE_EVENT_SECRET, no path is accepted."""
    client = create_app({**settings, "STORE_EVENT_SECRET": ""}).test_client()
    assert_error(client.post("/v1/store_event/anything", json={}), 401, "unauthorized")


def test_events_are_disabled_without_the_secret(settings):
    """Without STORE_EVENT_SECRET, events are rejected."""
    client = create_app({**settings, "STORE_EVENT_SECRET": ""}).test_client()
    response = client.post("/v1/store_event", json={}, headers={"Authorization": "Bearer "})
    assert_error(response, 401, "unauthorized")


@pytest.fixture
def notified_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> Iterator[Flask]:
    """An application on a port, and a store of its own that is configured to send it events."""
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


def test_seaweedfs_events_verify_the_track(notified_app):
    """SeaweedFS sends an event by itself, which verifies the track without a request of the client."""
    client = notified_app.test_client()
    created = new_track(client, new_session(client)["upload_session_id"], "my song.wav")
    assert put(created["track_upload"], wav()).status_code == 200
    deadline = time.monotonic() + 20
    while not count_by_status(client, created)["uploaded"]:
        assert time.monotonic() < deadline, json.dumps(count_by_status(client, created))
        time.sleep(0.1)
