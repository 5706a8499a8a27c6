"""POST /v1/upload/:upload_session_id/tracks, repeated requests, and the limits of a session."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import Flask

from app import create_app
from storage.uploads.idempotency import TTL_SECONDS
from support.api import COLLECTION, assert_error, new_session, new_track
from support.database import query
from support.sample_files import wav
from support.store import put, staged_key


@pytest.fixture
def session_id(client: Any) -> str:
    """An open session."""
    return str(new_session(client)["upload_session_id"])


def rows(app: Flask, table: str = "track") -> int:
    """How many rows a table has."""
    return int(query(app, f"SELECT COUNT(*) FROM loadbay_{table}")[0][0])


def at_once(app: Flask, count: int, path: str, **request: Any) -> list[Any]:
    """The answers to `count` equal POSTs, sent at the same moment."""
    start, responses = threading.Barrier(count), []

    def run() -> None:
        client = app.test_client()
        start.wait()
        responses.append(client.post(path, **request))

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return responses


def test_batch(app, client, bucket, session_id):
    """Many tracks in one request, in its order, each with its own URLs."""
    items = [{"file_name": f"{n}.wav", "file_size": len(wav()), "metadata": {"n": n}} for n in range(1000)]
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": items})
    assert response.status_code == 200
    created = response.json["tracks"]
    assert [one["track"]["file_name"] for one in created] == [item["file_name"] for item in items]
    assert len({one["track"]["path"] for one in created}) == rows(app) == response.json["count"] == 1000
    single = new_track(client, session_id)
    assert set(single) - {"ok", "api_request_id"} == set(created[0])
    assert put(created[617]["track_upload"], wav()).status_code == 200
    assert bucket.get(staged_key(created[617]["track_upload"])) == wav()
    listed = client.get(f"/v1/upload/{session_id}/track?limit=200&offset=800").json
    assert [track["metadata"]["n"] for track in listed["tracks"][:-1]] == list(range(800, 1000))[:199]


def test_all_or_none(app, client, session_id):
    """One item at fault, none is registered, and each fault is told by its place."""
    items: list[Any] = [{"file_name": "a.wav"}, {"file_name": ""}, {"file_name": "b.wav", "file_size": "1"}, 7]
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": items})
    assert_error(response, 400, "invalid_request", "file_name", "file_size")
    assert [fault["index"] for fault in response.json["errors"]] == [1, 2, 3]
    assert "file_size" in response.json["errors"][1]["message"]
    items = [{"file_name": "a.wav"}, {"file_name": "b.wav", "file_size": 2**42}]
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": items})
    assert [(fault["index"], fault["code"]) for fault in response.json["errors"]] == [(1, "too_large")]
    assert rows(app) == 0


@pytest.mark.parametrize("tracks", [None, [], {}, "x", [{"file_name": "a"}] * 1001])
def test_batch_of_wrong_size(client, session_id, tracks):
    """A batch holds 1 to 1,000 tracks."""
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": tracks})
    assert_error(response, 400, "invalid_request", "tracks")


def test_batch_over_the_limit(app, client):
    """A batch that the session cannot hold is refused whole."""
    session_id = new_session(client, max_tracks=5)["upload_session_id"]
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": [{"file_name": "a"}] * 6})
    assert_error(response, 409, "track_limit_reached", "upload_session_id")
    assert rows(app) == 0
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": [{"file_name": "a"}] * 5})
    assert response.status_code == 200


def test_max_tracks_is_exact(app, client):
    """Fifty at once for seven places: seven get one."""
    session_id = new_session(client, max_tracks=7)["upload_session_id"]
    responses = at_once(app, 50, f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3"})
    assert sorted(response.status_code for response in responses) == [200] * 7 + [409] * 43
    assert {response.json["code"] for response in responses if response.status_code == 409} == {"track_limit_reached"}
    assert rows(app) == 7


def test_max_bytes_is_exact(app, client):
    """Fifty at once for bytes that suffice for nine: nine get in."""
    session_id = new_session(client, max_bytes=1000)["upload_session_id"]
    responses = at_once(app, 50, f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3", "file_size": 107})
    assert sorted(response.status_code for response in responses) == [200] * 9 + [409] * 41
    assert {response.json["code"] for response in responses if response.status_code == 409} == {"byte_limit_reached"}
    session = client.get(f"/v1/upload_session/{session_id}").json["upload_session"]
    assert (session["declared_bytes"], session["track_count"]) == (963, 9)


def test_max_bytes_needs_sizes(client):
    """Where bytes are limited, every track declares its size, and the store holds it to that."""
    session_id = new_session(client, max_bytes=1000)["upload_session_id"]
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3"})
    assert_error(response, 400, "invalid_request", "file_size", "max_bytes")
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": [{"file_name": "a.mp3"}]})
    assert_error(response, 400, "invalid_request", "file_size", "max_bytes")


def test_max_tracks_per_session(app, settings, client):
    """MAX_TRACKS_PER_SESSION holds where the session asks for nothing, or for more."""
    client = create_app({**settings, "MAX_TRACKS_PER_SESSION": "2"}).test_client()
    for payload in ({}, {"max_tracks": 100}):
        session = new_session(client, **payload)
        assert session["upload_session"]["max_tracks"] == 2


def test_idempotent_session(app, client):
    """The same key and words again: the same session and track, and no second row."""
    payload = {"collection_id": COLLECTION, "track": {"file_name": "a.mp3"}}
    headers = {"Idempotency-Key": '"first"'}
    first, second = (client.post("/v1/upload_session", json=payload, headers=headers).json for _ in range(2))
    assert first["upload_session_id"] == second["upload_session_id"]
    assert first["track_id"] == second["track_id"]
    assert set(first) == set(second)
    assert (rows(app, "upload_session"), rows(app)) == (1, 1)


@pytest.mark.parametrize("path", ["track", "tracks"])
def test_idempotent_at_once(app, client, session_id, path):
    """Two, or ten, at the same moment make one row and give the same ids."""
    payload = {"file_name": "a.mp3"} if path == "track" else {"tracks": [{"file_name": "a"}, {"file_name": "b"}]}
    url, headers = f"/v1/upload/{session_id}/{path}", {"Idempotency-Key": "k1"}
    responses = at_once(app, 10, url, json=payload, headers=headers)
    assert {response.status_code for response in responses} == {200}
    ids = [[t["track_id"] for t in response.json.get("tracks", [response.json])] for response in responses]
    assert ids == [ids[0]] * 10
    assert rows(app) == len(ids[0])


def test_idempotent_upload_works(client, bucket, session_id):
    """The URLs of a repeated answer work; once the track is uploaded, none are given any more."""
    url, headers = f"/v1/upload/{session_id}/track", {"Idempotency-Key": "k"}
    client.post(url, json={"file_name": "a.wav"}, headers=headers)
    again = client.post(url, json={"file_name": "a.wav"}, headers=headers).json
    assert put(again["track_upload"], wav()).status_code == 200
    assert client.post(f"{url}/{again['track_id']}/complete").json["track"]["status"] == "uploaded"
    after = client.post(url, json={"file_name": "a.wav"}, headers=headers).json
    assert (after["track"]["status"], after["track_upload"], after["track_cover_upload"]) == ("uploaded", None, None)


def test_idempotent_multipart(app, client, bucket, session_id):
    """A repeated track in parts is one track and one multipart upload in the store."""
    url, headers = f"/v1/upload/{session_id}/track", {"Idempotency-Key": "k"}
    payload = {"file_name": "a.wav", "file_size": 6 * 2**20, "multipart": True}
    responses = at_once(app, 4, url, json=payload, headers=headers)
    assert len({response.json["track_id"] for response in responses}) == rows(app) == 1
    path = responses[0].json["track"]["path"]
    assert [u["Key"] for u in bucket.s3.list_multipart_uploads(Bucket="tracks").get("Uploads", []) if u["Key"] == path]


def test_idempotency_key_reused(app, client, session_id):
    """The same key with other words is a conflict, and makes nothing; a key of another session is another key."""
    url, headers = f"/v1/upload/{session_id}/track", {"Idempotency-Key": "k"}
    client.post(url, json={"file_name": "a.mp3"}, headers=headers)
    response = client.post(url, json={"file_name": "b.mp3"}, headers=headers)
    assert_error(response, 409, "idempotency_key_reused", "Idempotency-Key")
    other = new_session(client)["upload_session_id"]
    assert client.post(f"/v1/upload/{other}/track", json={"file_name": "b.mp3"}, headers=headers).status_code == 200
    assert rows(app) == 2


def test_failed_request_keeps_no_key(client, session_id):
    """A request that was refused may be mended and sent again under its key."""
    url, headers = f"/v1/upload/{session_id}/track", {"Idempotency-Key": "k"}
    assert client.post(url, json={"file_name": ""}, headers=headers).status_code == 400
    assert client.post(url, json={"file_name": "a.mp3", "file_size": 2**42}, headers=headers).status_code == 413
    assert client.post(url, json={"file_name": "a.mp3"}, headers=headers).status_code == 200


def test_idempotency_key_is_forgotten(app, client, session_id):
    """After 24 hours the key is a new one."""
    url, headers = f"/v1/upload/{session_id}/track", {"Idempotency-Key": "k"}
    first = client.post(url, json={"file_name": "a.mp3"}, headers=headers).json
    query(app, f"UPDATE loadbay_idempotency_key SET created_at = created_at - {TTL_SECONDS}")
    assert client.post(url, json={"file_name": "a.mp3"}, headers=headers).json["track_id"] != first["track_id"]


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "tab\there", "käse"])
def test_bad_idempotency_key(client, session_id, key):
    """A key that is none is refused by name."""
    headers = {"Idempotency-Key": key}
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3"}, headers=headers)
    assert_error(response, 400, "invalid_request", "Idempotency-Key")
