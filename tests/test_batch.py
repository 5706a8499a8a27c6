"""POST /v1/upload/:upload_session_id/tracks, Idempotency-Key, and the limits of a session."""

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
    """The id of an open session."""
    return str(new_session(client)["upload_session_id"])


def count_table_rows(app: Flask, table: str = "track") -> int:
    """Count the rows of a table."""
    return int(query(app, f"SELECT COUNT(*) FROM loadbay_{table}")[0][0])


def post_concurrently(app: Flask, count: int, path: str, **request: Any) -> list[Any]:
    """Send `count` equal POSTs at the same moment, and return their responses."""
    start, responses = threading.Barrier(count), []

    def send_request() -> None:
        client = app.test_client()
        start.wait()
        responses.append(client.post(path, **request))

    threads = [threading.Thread(target=send_request) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return responses


def test_registers_many_tracks_in_one_request(app, client, bucket, session_id):
    """A batch registers its tracks in order, each with its own URLs."""
    items = [{"file_name": f"{n}.wav", "file_size": len(wav()), "metadata": {"n": n}} for n in range(1000)]
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": items})
    assert response.status_code == 200
    created = response.json["tracks"]
    assert [item["track"]["file_name"] for item in created] == [item["file_name"] for item in items]
    assert len({item["track"]["path"] for item in created}) == count_table_rows(app) == response.json["count"] == 1000
    single = new_track(client, session_id)
    assert set(single) - {"ok", "api_request_id"} == set(created[0])
    assert put(created[617]["track_upload"], wav()).status_code == 200
    assert bucket.get(staged_key(created[617]["track_upload"])) == wav()
    listed = client.get(f"/v1/upload/{session_id}/track?limit=200&offset=800").json
    assert [track["metadata"]["n"] for track in listed["tracks"][:-1]] == list(range(800, 1000))[:199]


def test_batch_is_all_or_nothing(app, client, session_id):
    """If one item is invalid, no track is registered, and each error has the index of its item."""
    items: list[Any] = [{"file_name": "a.wav"}, {"file_name": ""}, {"file_name": "b.wav", "file_size": "1"}, 7]
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": items})
    assert_error(response, 400, "invalid_request", "file_name", "file_size")
    assert [error["index"] for error in response.json["errors"]] == [1, 2, 3]
    assert "file_size" in response.json["errors"][1]["message"]
    items = [{"file_name": "a.wav"}, {"file_name": "b.wav", "file_size": 2**42}]
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": items})
    assert [(error["index"], error["code"]) for error in response.json["errors"]] == [(1, "too_large")]
    assert count_table_rows(app) == 0


@pytest.mark.parametrize("tracks", [None, [], {}, "x", [{"file_name": "a"}] * 1001])
def test_rejects_batches_of_wrong_size(client, session_id, tracks):
    """A batch must have 1 to 1,000 tracks."""
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": tracks})
    assert_error(response, 400, "invalid_request", "tracks")


def test_rejects_a_batch_over_the_track_limit(app, client):
    """A batch that exceeds the session's limit is rejected as a whole."""
    session_id = new_session(client, max_tracks=5)["upload_session_id"]
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": [{"file_name": "a"}] * 6})
    assert_error(response, 409, "track_limit_reached", "upload_session_id")
    assert count_table_rows(app) == 0
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": [{"file_name": "a"}] * 5})
    assert response.status_code == 200


def test_max_tracks_is_exact(app, client):
    """Of fifty concurrent requests for seven tracks, exactly seven succeed."""
    session_id = new_session(client, max_tracks=7)["upload_session_id"]
    responses = post_concurrently(app, 50, f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3"})
    assert sorted(response.status_code for response in responses) == [200] * 7 + [409] * 43
    assert {response.json["code"] for response in responses if response.status_code == 409} == {"track_limit_reached"}
    assert count_table_rows(app) == 7


def test_max_bytes_is_exact(app, client):
    """Of fifty concurrent requests for the bytes of nine tracks, exactly nine succeed."""
    session_id = new_session(client, max_bytes=1000)["upload_session_id"]
    responses = post_concurrently(
        app, 50, f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3", "file_size": 107}
    )
    assert sorted(response.status_code for response in responses) == [200] * 9 + [409] * 41
    assert {response.json["code"] for response in responses if response.status_code == 409} == {"byte_limit_reached"}
    session = client.get(f"/v1/upload_session/{session_id}").json["upload_session"]
    assert (session["declared_bytes"], session["track_count"]) == (963, 9)


def test_max_bytes_requires_declared_sizes(client):
    """With max_bytes, every track must declare its size, which the store then enforces."""
    session_id = new_session(client, max_bytes=1000)["upload_session_id"]
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3"})
    assert_error(response, 400, "invalid_request", "file_size", "max_bytes")
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": [{"file_name": "a.mp3"}]})
    assert_error(response, 400, "invalid_request", "file_size", "max_bytes")


def test_setting_limits_the_tracks_of_every_session(app, settings, client):
    """MAX_TRACKS_PER_SESSION applies if the session requests no limit, or a higher one."""
    client = create_app({**settings, "MAX_TRACKS_PER_SESSION": "2"}).test_client()
    for payload in ({}, {"max_tracks": 100}):
        session = new_session(client, **payload)
        assert session["upload_session"]["max_tracks"] == 2


def test_repeated_session_request_creates_one_session(app, client):
    """The same key and payload return the same session and track, without a second row."""
    payload = {"collection_id": COLLECTION, "track": {"file_name": "a.mp3"}}
    headers = {"Idempotency-Key": '"first"'}
    first, second = (client.post("/v1/upload_session", json=payload, headers=headers).json for _ in range(2))
    assert first["upload_session_id"] == second["upload_session_id"]
    assert first["track_id"] == second["track_id"]
    assert set(first) == set(second)
    assert (count_table_rows(app, "upload_session"), count_table_rows(app)) == (1, 1)


@pytest.mark.parametrize("path", ["track", "tracks"])
def test_concurrent_repeats_create_one_track(app, client, session_id, path):
    """Ten concurrent requests with the same key create one row and return the same ids."""
    payload = {"file_name": "a.mp3"} if path == "track" else {"tracks": [{"file_name": "a"}, {"file_name": "b"}]}
    url, headers = f"/v1/upload/{session_id}/{path}", {"Idempotency-Key": "k1"}
    responses = post_concurrently(app, 10, url, json=payload, headers=headers)
    assert {response.status_code for response in responses} == {200}
    ids = [[t["track_id"] for t in response.json.get("tracks", [response.json])] for response in responses]
    assert ids == [ids[0]] * 10
    assert count_table_rows(app) == len(ids[0])


def test_repeated_response_has_working_urls(client, bucket, session_id):
    """The URLs of a repeated response work; once the track is uploaded, there are none."""
    url, headers = f"/v1/upload/{session_id}/track", {"Idempotency-Key": "k"}
    client.post(url, json={"file_name": "a.wav"}, headers=headers)
    repeated = client.post(url, json={"file_name": "a.wav"}, headers=headers).json
    assert put(repeated["track_upload"], wav()).status_code == 200
    assert client.post(f"{url}/{repeated['track_id']}/complete").json["track"]["status"] == "uploaded"
    after = client.post(url, json={"file_name": "a.wav"}, headers=headers).json
    assert (after["track"]["status"], after["track_upload"], after["track_cover_upload"]) == ("uploaded", None, None)


def test_repeated_multipart_request_creates_one_upload(app, client, bucket, session_id):
    """A repeated multipart track is one track and one multipart upload in the store."""
    url, headers = f"/v1/upload/{session_id}/track", {"Idempotency-Key": "k"}
    payload = {"file_name": "a.wav", "file_size": 6 * 2**20, "multipart": True}
    responses = post_concurrently(app, 4, url, json=payload, headers=headers)
    assert len({response.json["track_id"] for response in responses}) == count_table_rows(app) == 1
    path = responses[0].json["track"]["path"]
    assert [u["Key"] for u in bucket.s3.list_multipart_uploads(Bucket="tracks").get("Uploads", []) if u["Key"] == path]


def test_key_with_another_payload_is_a_conflict(app, client, session_id):
    """The same key with another payload is 409 and creates nothing; keys are scoped to their session."""
    url, headers = f"/v1/upload/{session_id}/track", {"Idempotency-Key": "k"}
    client.post(url, json={"file_name": "a.mp3"}, headers=headers)
    response = client.post(url, json={"file_name": "b.mp3"}, headers=headers)
    assert_error(response, 409, "idempotency_key_reused", "Idempotency-Key")
    other = new_session(client)["upload_session_id"]
    assert client.post(f"/v1/upload/{other}/track", json={"file_name": "b.mp3"}, headers=headers).status_code == 200
    assert count_table_rows(app) == 2


def test_rejected_request_does_not_use_up_its_key(client, session_id):
    """A rejected request may be corrected and sent again with its key."""
    url, headers = f"/v1/upload/{session_id}/track", {"Idempotency-Key": "k"}
    assert client.post(url, json={"file_name": ""}, headers=headers).status_code == 400
    assert client.post(url, json={"file_name": "a.mp3", "file_size": 2**42}, headers=headers).status_code == 413
    assert client.post(url, json={"file_name": "a.mp3"}, headers=headers).status_code == 200


def test_idempotency_key_expires(app, client, session_id):
    """After 24 hours, a key may be used for a new request."""
    url, headers = f"/v1/upload/{session_id}/track", {"Idempotency-Key": "k"}
    first = client.post(url, json={"file_name": "a.mp3"}, headers=headers).json
    query(app, f"UPDATE loadbay_idempotency_key SET created_at = created_at - {TTL_SECONDS}")
    assert client.post(url, json={"file_name": "a.mp3"}, headers=headers).json["track_id"] != first["track_id"]


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "tab\there", "käse"])
def test_rejects_an_invalid_idempotency_key(client, session_id, key):
    """An invalid Idempotency-Key is rejected by name."""
    headers = {"Idempotency-Key": key}
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3"}, headers=headers)
    assert_error(response, 400, "invalid_request", "Idempotency-Key")
