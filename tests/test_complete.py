"""The lifecycle of a track: complete, read, renew and cancel, and the status of its session."""

from __future__ import annotations

import threading

import pytest
from flask.testing import FlaskClient

from app import create_app
from storage.uploads import removals, tracks
from support.api import assert_error, complete, count_tracks, expire_session, new_session, new_track, track_url
from support.sample_files import HTML, digest, jpeg, png, wav
from support.store import post_cover, put, staged_key


@pytest.fixture
def session_id(client: FlaskClient) -> str:
    """The id of an open session."""
    return str(new_session(client)["upload_session_id"])


def test_completes_an_uploaded_track(client, bucket, session_id):
    """A complete upload becomes `uploaded`, with the store's size and ETag; repeating the request changes nothing."""
    body = wav()
    created = new_track(client, session_id, "a.wav", file_size=len(body), checksum_sha256=digest(body), write_once=True)
    assert created["track"]["status"] == "initialized"
    assert put(created["track_upload"], body).status_code == 200
    track = complete(client, session_id, created)
    assert (track["status"], track["size"], track["failure"]) == ("uploaded", len(body), None)
    assert track["etag"] == bucket.head(track["path"])["ETag"].strip('"')
    assert track["detected_type"].startswith("audio/")
    assert track["verified_at"].endswith("Z")
    assert complete(client, session_id, created) == track
    assert client.get(track_url(session_id, created)).json["track"] == track
    session = client.get(f"/v1/upload_session/{session_id}").json["upload_session"]
    assert (session["tracks"]["uploaded"], session["uploaded_bytes"]) == (1, len(body))


@pytest.mark.parametrize(
    ("options", "operations"),
    [
        ({}, ["GetObject", "CopyObject"]),
        ({"write_once": True}, ["GetObject"]),
        ({"write_once": True, "checksum_sha256": digest(wav())}, ["GetObject", "HeadObject"]),
        ({"multipart": True, "file_size": len(wav())}, ["ListParts", "CompleteMultipartUpload", "GetObject"]),
        ({"cover_fields": True}, ["GetObject", "CopyObject", "GetObject"]),
    ],
    ids=["plain", "write once", "with a checksum", "in parts", "with fields for a cover"],
)
def test_verification_sends_few_store_requests(client, service, session_id, monkeypatch, options, operations):
    """A verification sends the necessary requests to the store, and none once the track is final."""
    created = new_track(client, session_id, "a.wav", **{"cover_fields": False, **options})
    parts = created["track_multipart_upload"]
    assert put(parts["parts"][0] if parts else created["track_upload"], wav()).status_code == 200
    calls: list[str] = []
    monkeypatch.setattr(service.bucket, "_observer", lambda operation, outcome, seconds: calls.append(operation))
    assert complete(client, session_id, created)["status"] == "uploaded"
    assert calls == operations
    calls.clear()
    complete(client, session_id, created)
    assert calls == (["GetObject"] if "cover_fields" in options else [])


def test_complete_before_the_upload_is_a_conflict(client, session_id):
    """Completing a track before its upload is 409 `not_uploaded`, and it stays `initialized`."""
    created = new_track(client, session_id)
    assert_error(client.post(track_url(session_id, created, "complete")), 409, "not_uploaded", "track_id")
    assert count_tracks(client, session_id) == {"initialized": 1}


def test_reading_a_track_verifies_it(client, session_id):
    """Reading a track that was not completed checks the store for it."""
    created = new_track(client, session_id, "a.wav")
    assert client.get(track_url(session_id, created)).json["track"]["status"] == "initialized"
    put(created["track_upload"], wav())
    assert client.get(track_url(session_id, created)).json["track"]["status"] == "uploaded"


@pytest.mark.parametrize(
    ("name", "payload", "body", "reason"),
    [
        ("a.mp3", {}, HTML, "not audio: its content is text/html"),
        ("a.bin", {"content_type": "audio/mpeg"}, b"%PDF-1.7\n" + bytes(200), "not audio"),
        ("a.flac", {}, png(), "image/png"),
        ("a.mp3", {}, b"", "empty"),
    ],
)
def test_rejects_content_that_is_not_as_declared(client, service, bucket, session_id, name, payload, body, reason):
    """An upload that is not as declared becomes `failed` with a reason, and never gets to `path`."""
    created = new_track(client, session_id, name, **payload)
    assert put(created["track_upload"], body).status_code == 200
    track = complete(client, session_id, created)
    assert track["status"] == "failed"
    assert reason in track["failure"]
    assert bucket.get(track["path"]) is None
    removals.work_off(service)
    assert bucket.get(staged_key(created["track_upload"])) is None
    assert complete(client, session_id, created)["status"] == "failed"
    assert count_tracks(client, session_id) == {"failed": 1}


def test_rejects_a_track_over_the_size_limit(settings, bucket):
    """A size that no URL bound, since none was declared, is checked against MAX_TRACK_BYTES."""
    client = create_app({**settings, "MAX_TRACK_BYTES": 50}).test_client()
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "notes.bin")
    put(created["track_upload"], bytes(51))
    track = complete(client, session_id, created)
    assert track["failure"] == "The file has 51 bytes, more than the 50 that a track may have."
    assert bucket.get(track["path"]) is None


@pytest.mark.parametrize(("name", "status"), [("a.l16", "uploaded"), ("a.bin", "uploaded"), ("a.mp3", "failed")])
def test_accepts_unknown_content(client, session_id, name, status):
    """Unknown bytes may be audio without a header, but no format that always shows itself."""
    created = new_track(client, session_id, name)
    put(created["track_upload"], bytes(range(7, 250)))
    assert complete(client, session_id, created)["status"] == status


def test_late_put_does_not_change_an_uploaded_track(client, bucket, session_id):
    """A plain PUT URL still works after `uploaded`, but no longer writes the track's object."""
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    track = complete(client, session_id, created)
    assert track["path"] == created["track"]["path"]
    assert put(created["track_upload"], wav(seed=1)).status_code == 200
    assert bucket.get(track["path"]) == wav()
    assert complete(client, session_id, created) == track


def test_write_once_url_rejects_a_second_put(client, bucket, session_id):
    """A write-once URL rejects a second PUT, so that the object can stay at its key."""
    created = new_track(client, session_id, "a.wav", write_once=True)
    assert created["track_upload"]["headers"] == {"If-None-Match": "*"}
    put(created["track_upload"], wav())
    track = complete(client, session_id, created)
    assert track["path"] == created["track"]["path"]
    assert put(created["track_upload"], wav(seed=1)).status_code == 412
    assert bucket.get(track["path"]) == wav()


def test_uploads_to_staging_if_write_once_is_disabled(settings, bucket):
    """With WRITE_ONCE_PUT=0, a track that requests write_once is uploaded to staging instead."""
    client = create_app({**settings, "WRITE_ONCE_PUT": "0"}).test_client()
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav", write_once=True)
    assert created["track_upload"]["headers"] == {}
    put(created["track_upload"], wav())
    track = complete(client, session_id, created)
    put(created["track_upload"], wav(seed=1))
    assert bucket.get(track["path"]) == wav()


def test_disabling_write_once_applies_to_registered_tracks(settings, client, bucket, session_id):
    """With WRITE_ONCE_PUT=0, an upload by a write-once URL is not verified, since the URL could overwrite it."""
    created = new_track(client, session_id, "a.wav", write_once=True)
    without = create_app({**settings, "WRITE_ONCE_PUT": "0"}).test_client()
    assert_error(without.post(track_url(session_id, created, "renew")), 409, "track_state_conflict", "register")
    put(created["track_upload"], wav())
    track = complete(without, session_id, created)
    assert (track["status"], "WRITE_ONCE_PUT=0" in track["failure"]) == ("failed", True)
    assert_error(without.post(track_url(session_id, created, "renew")), 409, "track_state_conflict", "register")


def test_verifies_a_cover_with_its_track(client, bucket, session_id):
    """A cover is verified with its track: it must be an image, and gets its size in pixels and its final path."""
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    assert post_cover(created["track_cover_upload"], png(30, 20), "image/png").status_code == 204
    cover = complete(client, session_id, created)["cover"]
    assert (cover["status"], cover["content_type"], cover["width"], cover["height"]) == (
        "uploaded",
        "image/png",
        30,
        20,
    )
    post_cover(created["track_cover_upload"], png(1, 1), "image/png")
    assert cover["path"] == created["track"]["cover_path"]
    assert bucket.get(cover["path"]) == png(30, 20)
    assert complete(client, session_id, created)["cover"] == cover


def test_finds_the_size_of_a_cover_behind_its_metadata(client, bucket, session_id):
    """The size of a JPEG is found behind two megabytes of metadata, by ranged reads."""
    created = new_track(client, session_id, "a.wav", cover_fields=True)
    put(created["track_upload"], wav())
    picture = jpeg(640, 480, before=2 * 2**20)
    assert post_cover(created["track_cover_upload"], picture).status_code == 204
    cover = complete(client, session_id, created)["cover"]
    assert (cover["content_type"], cover["width"], cover["height"]) == ("image/jpeg", 640, 480)
    assert bucket.get(cover["path"]) == picture


def test_verifies_no_cover_that_is_replaced_while_it_is_read(client, bucket, session_id, service, monkeypatch):
    """Ranges are of one object: a cover that is replaced between two of them is verified later."""
    created = new_track(client, session_id, "a.wav", cover_fields=True)
    put(created["track_upload"], wav())
    post_cover(created["track_cover_upload"], jpeg(640, 480, before=2**20))
    read_range = service.bucket.read_range

    def replace_first(*args):
        monkeypatch.setattr(service.bucket, "read_range", read_range)
        post_cover(created["track_cover_upload"], jpeg(320, 240, before=2**20))
        return read_range(*args)

    monkeypatch.setattr(service.bucket, "read_range", replace_first)
    assert complete(client, session_id, created)["cover"] is None
    assert complete(client, session_id, created)["cover"]["width"] == 320


def test_rejects_a_cover_that_is_not_an_image(client, bucket, session_id):
    """A cover that is no image fails and is deleted; another one may follow."""
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    assert post_cover(created["track_cover_upload"], HTML).status_code == 204
    cover = complete(client, session_id, created)["cover"]
    assert (cover["status"], cover["failure"]) == (
        "failed",
        "The cover is not a PNG, JPEG, GIF, WebP, AVIF, HEIC, TIFF or BMP picture.",
    )
    assert bucket.get(created["track"]["cover_path"]) is None
    post_cover(created["track_cover_upload"], png())
    assert complete(client, session_id, created)["cover"]["status"] == "uploaded"


def test_renews_urls_until_the_upload(client, bucket, session_id):
    """Renewing returns new URLs for the same track and key, until it is uploaded."""
    created = new_track(client, session_id, "a.wav")
    renewed = client.post(track_url(session_id, created, "renew")).json
    assert renewed["track"]["path"] == created["track"]["path"]
    assert set(renewed) == set(created)
    put(renewed["track_upload"], wav())
    assert complete(client, session_id, created)["status"] == "uploaded"
    assert_error(client.post(track_url(session_id, created, "renew")), 409, "track_state_conflict", "uploaded")


def test_renews_a_failed_track_with_a_new_staging_key(client, service, bucket, session_id):
    """A failed track may be uploaded again: its path stays, and its new URL has another staging key."""
    created = new_track(client, session_id, "a.mp3")
    put(created["track_upload"], HTML)
    assert complete(client, session_id, created)["status"] == "failed"
    renewed = client.post(track_url(session_id, created, "renew")).json
    assert (renewed["track"]["status"], renewed["track"]["failure"]) == ("initialized", None)
    assert renewed["track"]["path"] == created["track"]["path"]
    assert staged_key(renewed["track_upload"]) != staged_key(created["track_upload"])
    removals.work_off(service)
    put(created["track_upload"], wav(seed=2))
    put(renewed["track_upload"], wav())
    track = complete(client, session_id, created)
    assert (track["status"], bucket.get(track["path"])) == ("uploaded", wav())
    assert count_tracks(client, session_id) == {"uploaded": 1}


def test_renews_a_failed_write_once_track_with_staging(client, service, bucket, session_id, clock):
    """The next attempt of a failed write-once track goes to staging, and replaces the failed object."""
    created = new_track(client, session_id, "a.wav", write_once=True)
    put(created["track_upload"], HTML)
    assert complete(client, session_id, created)["status"] == "failed"
    renewed = client.post(track_url(session_id, created, "renew")).json
    assert renewed["track_upload"]["headers"] == {}
    assert staged_key(renewed["track_upload"]) != created["track"]["path"]
    assert put(created["track_upload"], HTML).status_code == 412
    put(renewed["track_upload"], wav())
    assert complete(client, session_id, created)["path"] == created["track"]["path"]
    clock.forward(100_000)
    removals.work_off(service)
    assert bucket.get(created["track"]["path"]) == wav()
    assert put(created["track_upload"], HTML).status_code == 412


def test_renews_nothing_in_an_expired_session(app, client, session_id):
    """An expired session issues no URLs."""
    created = new_track(client, session_id)
    expire_session(app, session_id)
    assert_error(client.post(track_url(session_id, created, "renew")), 410, "session_expired")


def test_cancels_a_track(client, bucket, session_id):
    """Canceling deletes the object and is final; repeating it is harmless."""
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    for _ in range(2):
        assert client.delete(track_url(session_id, created)).json["track"]["status"] == "cancelled"
    assert bucket.get(staged_key(created["track_upload"])) is None
    assert_error(client.post(track_url(session_id, created, "renew")), 409, "track_state_conflict", "cancelled")
    assert client.post(track_url(session_id, created, "complete")).json["track"]["status"] == "cancelled"
    assert count_tracks(client, session_id) == {"cancelled": 1}


def test_cancels_no_uploaded_track(client, bucket, session_id):
    """An uploaded track cannot be cancelled."""
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    track = complete(client, session_id, created)
    assert_error(client.delete(track_url(session_id, created)), 409, "track_state_conflict", "uploaded")
    assert bucket.get(track["path"]) == wav()


def test_concurrent_complete_and_cancel_agree(app, client, service, bucket, session_id, clock):
    """Concurrent changes of a track agree on its final status, and so does the store."""
    for number in range(10):
        created = new_track(client, session_id, f"{number}.wav", write_once=bool(number % 2))
        put(created["track_upload"], wav())
        start = threading.Barrier(3)

        def send_request(method: str, path: str, start: threading.Barrier = start) -> None:
            start.wait()
            app.test_client().open(path, method=method)

        jobs = [("POST", track_url(session_id, created, "complete"))] * 2 + [("DELETE", track_url(session_id, created))]
        threads = [threading.Thread(target=send_request, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        track = client.get(track_url(session_id, created)).json["track"]
        assert track["status"] in ("uploaded", "cancelled")
        clock.forward(tracks.LEASE_SECONDS + 2)
        removals.work_off(service)
        clock.forward(-tracks.LEASE_SECONDS - 2)
        assert bucket.get(track["path"]) == (wav() if track["status"] == "uploaded" else None)


def test_lists_tracks_in_pages(client, session_id):
    """Tracks are listed in the order of their registration, in pages."""
    ids = [new_track(client, session_id, f"{n}.mp3")["track_id"] for n in range(5)]
    response = client.get(f"/v1/upload/{session_id}/track?limit=2&offset=1").json
    assert [track["id"] for track in response["tracks"]] == ids[1:3]
    assert (response["count"], response["limit"], response["offset"]) == (5, 2, 1)
    assert len(client.get(f"/v1/upload/{session_id}/track").json["tracks"]) == 5


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=-1", "limit=x", "offset=1.5", "offset=99999999999"])
def test_rejects_invalid_pagination(client, session_id, query):
    """An invalid limit or offset is rejected by name."""
    response = client.get(f"/v1/upload/{session_id}/track?{query}")
    assert_error(response, 400, "invalid_request", query.partition("=")[0])


def test_closes_a_session(client, bucket, session_id):
    """A closed session accepts no tracks, lets existing ones finish, and returns the manifest."""
    uploaded, pending = new_track(client, session_id, "a.wav"), new_track(client, session_id, "b.wav")
    put(uploaded["track_upload"], wav())
    complete(client, session_id, uploaded)
    for _ in range(2):
        response = client.post(f"/v1/upload_session/{session_id}/close").json
        assert response["upload_session"]["status"] == "closed"
        assert [t["status"] for t in response["manifest"]["tracks"]] == ["uploaded", "initialized"]
        assert {"path", "size", "etag", "checksum_sha256", "status", "cover"} <= set(response["manifest"]["tracks"][0])
    rejected = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "c.mp3"})
    assert_error(rejected, 410, "session_closed", "upload_session_id")
    put(pending["track_upload"], wav())
    assert complete(client, session_id, pending)["status"] == "uploaded"


def test_expired_session_has_a_manifest(app, client, session_id):
    """An expired session has the status `expired`, and its manifest."""
    new_track(client, session_id)
    expire_session(app, session_id)
    assert client.get(f"/v1/upload_session/{session_id}").json["upload_session"]["status"] == "expired"
    response = client.post(f"/v1/upload_session/{session_id}/close").json
    assert (response["upload_session"]["status"], len(response["manifest"]["tracks"])) == ("expired", 1)


@pytest.mark.parametrize("action", ["complete", "renew", "parts"])
def test_rejects_a_track_of_another_session(client, session_id, action):
    """A track is accessible through its own session only."""
    created = new_track(client, session_id)
    other = new_session(client)["upload_session_id"]
    response = client.post(track_url(other, created, action), json={"part_numbers": [1]})
    assert_error(response, 404, "track_not_found", "track_id")
    assert_error(client.get(track_url(other, created)), 404, "track_not_found", "track_id")
    assert_error(client.delete(track_url(other, created)), 404, "track_not_found", "track_id")
