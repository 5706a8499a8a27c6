"""Big files in parts, resumable."""

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
    """An open session."""
    return str(new_session(client)["upload_session_id"])


@pytest.fixture
def created(client: FlaskClient, session_id: str) -> dict[str, Any]:
    """A track of three parts."""
    payload = {"multipart": True, "part_size": PART, "content_type": "audio/wav"}
    return new_track(client, session_id, "long set.wav", file_size=len(BODY), **payload)


def of(created: dict[str, Any], action: str) -> str:
    """The path of something that can be done with a track."""
    return f"/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/{action}"


def cut(number: int) -> bytes:
    """The bytes of one part."""
    return BODY[(number - 1) * PART : number * PART]


def send(part: dict[str, Any], body: bytes | None = None) -> requests.Response:
    """PUT one part."""
    body = cut(part["part_number"]) if body is None else body
    return requests.put(part["upload_url"], data=body, headers=part["headers"], timeout=20)


def test_parts_make_the_file(client, bucket, created):
    """All parts, in any order, make exactly the file; the client never reads an ETag."""
    upload = created["track_multipart_upload"]
    assert (upload["part_size"], upload["part_count"]) == (PART, 3)
    assert [part["size"] for part in upload["parts"]] == [PART, PART, len(BODY) - 2 * PART]
    for part in reversed(upload["parts"]):
        assert send(part).status_code == 200
    track = client.post(of(created, "complete")).json["track"]
    assert (track["status"], track["size"]) == ("uploaded", len(BODY))
    assert bucket.get(track["path"]) == BODY
    assert bucket.head(track["path"])["ContentType"] == "audio/wav"
    assert client.post(of(created, "complete")).json["track"] == track


def test_sealed(client, bucket, created):
    """Once uploaded, neither a part's URL nor the single PUT changes the file."""
    parts = created["track_multipart_upload"]["parts"]
    for part in parts:
        send(part)
    track = client.post(of(created, "complete")).json["track"]
    assert send(parts[0], cut(2)).status_code >= 400
    assert put(created["track_upload"], bytes(len(BODY))).status_code == 200
    assert client.post(of(created, "complete")).json["track"] == track
    assert bucket.get(track["path"]) == BODY


def test_resume(client, created):
    """A client that was killed learns what the store has, and goes on with fresh URLs for the rest."""
    send(created["track_multipart_upload"]["parts"][1])
    found = client.get(of(created, "parts")).json
    assert [(part["part_number"], part["size"]) for part in found["parts"]] == [(2, PART)]
    assert (found["part_size"], found["part_count"]) == (PART, 3)
    response = client.post(of(created, "complete"))
    assert_error(response, 409, "not_uploaded", "2 of 3 parts are missing: 1, 3.")
    signed = client.post(of(created, "parts"), json={"part_numbers": [1, 3]}).json["parts"]
    for part in signed:
        assert send(part).status_code == 200
    assert client.post(of(created, "complete")).json["track"]["status"] == "uploaded"


def test_part_of_another_size(created):
    """The store refuses a part that is longer or shorter than it was signed for."""
    part = created["track_multipart_upload"]["parts"][0]
    assert send(part, cut(1) + b"x").status_code == 403
    assert send(part, cut(1)[:-1]).status_code == 403


def test_abort(client, bucket, created):
    """Canceling drops the parts; their URLs are dead."""
    part = created["track_multipart_upload"]["parts"][0]
    send(part)
    assert client.delete(of(created, "")[:-1]).json["track"]["status"] == "cancelled"
    assert send(part).status_code == 404
    uploads = bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=created["track"]["path"])
    assert "Uploads" not in uploads
    response = client.post(of(created, "parts"), json={"part_numbers": [1]})
    assert_error(response, 409, "track_state_conflict", "cancelled")


def test_content_is_checked(client, session_id, bucket, service):
    """Parts that make something else than audio fail like a single PUT."""
    body = b"%PDF-1.7\n" + bytes(100)
    created = new_track(client, session_id, "a.mp3", file_size=len(body), multipart=True)
    send(created["track_multipart_upload"]["parts"][0], body)
    assert client.post(of(created, "complete")).json["track"]["status"] == "failed"
    removals.work_off(service)
    assert bucket.get(created["track"]["path"]) is None
    assert_error(client.post(of(created, "renew")), 409, "track_state_conflict", "register")


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        ({}, "file_size"),
        ({"file_size": 6 * MIB, "part_size": MIB}, "part_size"),
        ({"file_size": 100_000 * MIB, "part_size": 5 * MIB}, "too_large"),
        ({"file_size": 6 * MIB, "checksum_sha256": digest(b"")}, "checksum_sha256"),
    ],
)
def test_refused(client, session_id, payload, name):
    """What cannot be cut into parts is refused by name."""
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.wav", "multipart": True, **payload})
    assert response.status_code in (400, 413)
    assert name in response.text


def test_by_size(settings):
    """A file that is too big for one PUT comes in parts, asked or not: up to 5 TiB in 10,000 parts."""
    client = create_app({**settings, "MAX_TRACK_BYTES": str(5 * 2**40)}).test_client()
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav", file_size=5 * 2**40)
    upload = created["track_multipart_upload"]
    assert upload["part_count"] <= 10_000
    assert upload["part_size"] * upload["part_count"] >= 5 * 2**40
    last = client.post(of(created, "parts"), json={"part_numbers": [upload["part_count"]]}).json["parts"][0]
    assert last["size"] == 5 * 2**40 - upload["part_size"] * (upload["part_count"] - 1)
    response = client.post(of(created, "parts"), json={"part_numbers": [upload["part_count"] + 1]})
    assert_error(response, 400, "invalid_request", "part_numbers")
    assert new_track(client, session_id, file_size=5 * 2**30)["track_multipart_upload"] is None


def test_not_in_parts(client, session_id):
    """A track that comes in one piece has no parts."""
    created = new_track(client, session_id)
    assert created["track_multipart_upload"] is None
    assert_error(client.get(of(created, "parts")), 400, "invalid_request", "track_id")
    assert_error(client.post(of(created, "parts"), json={"part_numbers": [1]}), 400, "invalid_request", "track_id")


def test_renew(client, created):
    """Renewing a track in parts signs its parts afresh, for the same upload."""
    send(created["track_multipart_upload"]["parts"][0])
    renewed = client.post(of(created, "renew")).json
    for part in renewed["track_multipart_upload"]["parts"][1:]:
        send(part)
    assert client.post(of(created, "complete")).json["track"]["status"] == "uploaded"


def test_single_put(client, service, bucket, created):
    """A client that knows only `track_upload` may send a track in parts with one PUT."""
    assert put(created["track_upload"], BODY).status_code == 200
    assert created["track_upload"]["headers"] == {"Content-Length": str(len(BODY)), "Content-Type": "audio/wav"}
    track = client.post(of(created, "complete")).json["track"]
    assert (track["status"], bucket.get(track["path"])) == ("uploaded", BODY)
    removals.work_off(service)
    assert bucket.get(staged_key(created["track_upload"])) is None
    assert "Uploads" not in bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=track["path"])


def test_upload_of_a_track_that_was_never_inserted(client, service, session_id, bucket, monkeypatch):
    """A multipart upload whose process died before its track was inserted is aborted after a day."""
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


def test_registered_uploads_are_not_removed(client, created):
    """A track that was inserted leaves no removal of its multipart upload."""
    assert query(client.application, "SELECT key FROM loadbay_removal") == []


def test_parts_of_a_restored_database(client, service, created, bucket):
    """A file whose parts were joined without this database's knowledge is found at its path."""
    for part in created["track_multipart_upload"]["parts"]:
        send(part)
    upload_id = tracks.read(service, created["upload_session_id"], created["track_id"])["upload_id"]
    parts = service.bucket.list_parts(created["track"]["path"], upload_id)
    service.bucket.complete_multipart_upload(created["track"]["path"], upload_id, parts)
    track = client.post(of(created, "complete")).json["track"]
    assert (track["status"], track["size"], bucket.get(track["path"])) == ("uploaded", len(BODY), BODY)
