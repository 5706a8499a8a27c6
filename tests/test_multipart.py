"""Multipart uploads of large files, resumable part by part."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient

from app import create_app
from storage.uploads import removals, tracks
from support.api import assert_error, new_session, new_track
from support.database import query
from support.sample_files import digest, wav
from support.store import BUCKET, put, staged_key

MIB = 2**20
BODY = wav(0.5) + bytes(range(256)) * 4 * 1024 * 11 + b"the end"
PART = 5 * MIB


@pytest.fixture
def session_id(client: FlaskClient) -> str:
    """The id of an open session."""
    return str(new_session(client)["upload_session_id"])


@pytest.fixture
def created(client: FlaskClient, session_id: str) -> dict[str, Any]:
    """A track of three parts."""
    payload = {"multipart": True, "part_size": PART, "content_type": "audio/wav"}
    return new_track(client, session_id, "long set.wav", file_size=len(BODY), **payload)


def action_url(created: dict[str, Any], action: str) -> str:
    """Return the path of one of the track's actions."""
    return f"/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/{action}"


def part_body(number: int) -> bytes:
    """Return the bytes of one part."""
    return BODY[(number - 1) * PART : number * PART]


def put_part(part: dict[str, Any], body: bytes | None = None) -> requests.Response:
    """Upload one part."""
    body = part_body(part["part_number"]) if body is None else body
    return requests.put(part["upload_url"], data=body, headers=part["headers"], timeout=20)


def test_parts_are_assembled_to_the_file(client, bucket, created):
    """The parts, in any order, are assembled to exactly the file; the client needs no ETags."""
    upload = created["track_multipart_upload"]
    assert (upload["part_size"], upload["part_count"]) == (PART, 3)
    assert [part["size"] for part in upload["parts"]] == [PART, PART, len(BODY) - 2 * PART]
    for part in reversed(upload["parts"]):
        assert put_part(part).status_code == 200
    track = client.post(action_url(created, "complete")).json["track"]
    assert (track["status"], track["size"]) == ("uploaded", len(BODY))
    assert bucket.get(track["path"]) == BODY
    assert bucket.head(track["path"])["ContentType"] == "audio/wav"
    assert client.post(action_url(created, "complete")).json["track"] == track


def test_uploaded_file_cannot_be_changed(client, bucket, created):
    """After `uploaded`, neither a part's URL nor the single PUT changes the file."""
    parts = created["track_multipart_upload"]["parts"]
    for part in parts:
        put_part(part)
    track = client.post(action_url(created, "complete")).json["track"]
    assert put_part(parts[0], part_body(2)).status_code >= 400
    assert put(created["track_upload"], bytes(len(BODY))).status_code == 200
    assert client.post(action_url(created, "complete")).json["track"] == track
    assert bucket.get(track["path"]) == BODY


def test_resumes_an_interrupted_upload(client, created):
    """A client can list the uploaded parts, and request new URLs for the others."""
    put_part(created["track_multipart_upload"]["parts"][1])
    listed = client.get(action_url(created, "parts")).json
    assert [(part["part_number"], part["size"]) for part in listed["parts"]] == [(2, PART)]
    assert (listed["part_size"], listed["part_count"]) == (PART, 3)
    response = client.post(action_url(created, "complete"))
    assert_error(response, 409, "not_uploaded", "2 of 3 parts are missing: 1, 3.")
    signed = client.post(action_url(created, "parts"), json={"part_numbers": [1, 3]}).json["parts"]
    for part in signed:
        assert put_part(part).status_code == 200
    assert client.post(action_url(created, "complete")).json["track"]["status"] == "uploaded"


def test_store_rejects_a_part_of_another_size(created):
    """The store rejects a part that is longer or shorter than its URL was signed for."""
    part = created["track_multipart_upload"]["parts"][0]
    assert put_part(part, part_body(1) + b"x").status_code == 403
    assert put_part(part, part_body(1)[:-1]).status_code == 403


def test_cancel_aborts_the_upload(client, bucket, created):
    """Canceling deletes the parts, and their URLs become invalid."""
    part = created["track_multipart_upload"]["parts"][0]
    put_part(part)
    assert client.delete(action_url(created, "")[:-1]).json["track"]["status"] == "cancelled"
    assert put_part(part).status_code == 404
    uploads = bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=created["track"]["path"])
    assert "Uploads" not in uploads
    response = client.post(action_url(created, "parts"), json={"part_numbers": [1]})
    assert_error(response, 409, "track_state_conflict", "cancelled")


def test_content_of_the_parts_is_verified(client, session_id, bucket, service):
    """Parts that are assembled to a file of another type than audio fail like a single PUT."""
    body = b"%PDF-1.7\n" + bytes(100)
    created = new_track(client, session_id, "a.mp3", file_size=len(body), multipart=True)
    put_part(created["track_multipart_upload"]["parts"][0], body)
    assert client.post(action_url(created, "complete")).json["track"]["status"] == "failed"
    removals.work_off(service)
    assert bucket.get(created["track"]["path"]) is None
    assert_error(client.post(action_url(created, "renew")), 409, "track_state_conflict", "register")


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        ({}, "file_size"),
        ({"file_size": 6 * MIB, "part_size": MIB}, "part_size"),
        ({"file_size": 100_000 * MIB, "part_size": 5 * MIB}, "too_large"),
        ({"file_size": 6 * MIB, "checksum_sha256": digest(b"")}, "checksum_sha256"),
    ],
)
def test_rejects_impossible_parts(client, session_id, payload, name):
    """A file that cannot be split into such parts is rejected by field name."""
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.wav", "multipart": True, **payload})
    assert response.status_code in (400, 413)
    assert name in response.text


def test_large_files_use_multipart_automatically(settings):
    """A file over the threshold uses multipart upload without a request: up to 5 TiB in 10,000 parts."""
    client = create_app({**settings, "MAX_TRACK_BYTES": str(5 * 2**40)}).test_client()
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav", file_size=5 * 2**40)
    upload = created["track_multipart_upload"]
    assert upload["part_count"] <= 10_000
    assert upload["part_size"] * upload["part_count"] >= 5 * 2**40
    last = client.post(action_url(created, "parts"), json={"part_numbers": [upload["part_count"]]}).json["parts"][0]
    assert last["size"] == 5 * 2**40 - upload["part_size"] * (upload["part_count"] - 1)
    response = client.post(action_url(created, "parts"), json={"part_numbers": [upload["part_count"] + 1]})
    assert_error(response, 400, "invalid_request", "part_numbers")
    assert new_track(client, session_id, file_size=5 * 2**30)["track_multipart_upload"] is None


def test_single_part_track_has_no_parts(client, session_id):
    """The parts of a track without multipart upload cannot be listed or signed."""
    created = new_track(client, session_id)
    assert created["track_multipart_upload"] is None
    assert_error(client.get(action_url(created, "parts")), 400, "invalid_request", "track_id")
    assert_error(
        client.post(action_url(created, "parts"), json={"part_numbers": [1]}), 400, "invalid_request", "track_id"
    )


def test_renew_signs_the_parts_again(client, created):
    """Renewing a multipart track returns new URLs of the same upload."""
    put_part(created["track_multipart_upload"]["parts"][0])
    renewed = client.post(action_url(created, "renew")).json
    for part in renewed["track_multipart_upload"]["parts"][1:]:
        put_part(part)
    assert client.post(action_url(created, "complete")).json["track"]["status"] == "uploaded"


def test_single_put_replaces_the_parts(client, service, bucket, created):
    """A client that uses only `track_upload` may upload a multipart track with one PUT."""
    assert put(created["track_upload"], BODY).status_code == 200
    assert created["track_upload"]["headers"] == {"Content-Length": str(len(BODY)), "Content-Type": "audio/wav"}
    track = client.post(action_url(created, "complete")).json["track"]
    assert (track["status"], bucket.get(track["path"])) == ("uploaded", BODY)
    removals.work_off(service)
    assert bucket.get(staged_key(created["track_upload"])) is None
    assert "Uploads" not in bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=track["path"])


def test_aborts_the_upload_of_a_track_that_was_not_inserted(client, service, session_id, bucket, monkeypatch):
    """A multipart upload whose process crashed before it inserted the track is aborted after a day."""
    monkeypatch.setattr(tracks, "register", interrupted)
    monkeypatch.setattr(service.bucket, "abort_multipart_upload", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        new_track(client, session_id, "a.wav", file_size=6 * MIB, multipart=True)
    monkeypatch.undo()
    ((key,),) = query(client.application, "SELECT key FROM loadbay_removal")
    assert len(bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=key)["Uploads"]) == 1
    assert removals.work_off(service) == (0, 0)
    monkeypatch.setattr("storage.uploads.removals.clock_now", lambda: time.time() + tracks.ABANDONED_AFTER + 1)
    assert removals.work_off(service) == (0, 1)
    assert "Uploads" not in bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=key)
    assert query(client.application, "SELECT key FROM loadbay_removal") == []


def interrupted(*_: object) -> None:
    """End a request as a signal does."""
    raise KeyboardInterrupt


def test_keeps_the_uploads_of_registered_tracks(client, created):
    """A track that was inserted leaves no removal of its multipart upload."""
    assert query(client.application, "SELECT key FROM loadbay_removal") == []


def test_restored_database_finds_the_completed_file(client, service, created, bucket):
    """A multipart upload that was completed without this database's knowledge is found at its path."""
    for part in created["track_multipart_upload"]["parts"]:
        put_part(part)
    upload_id = tracks.read(service, created["upload_session_id"], created["track_id"])["upload_id"]
    parts = service.bucket.list_parts(created["track"]["path"], upload_id)
    service.bucket.complete_multipart_upload(created["track"]["path"], upload_id, parts)
    track = client.post(action_url(created, "complete")).json["track"]
    assert (track["status"], track["size"], bucket.get(track["path"])) == ("uploaded", len(BODY), BODY)
