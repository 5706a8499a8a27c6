"""Crashes: a service that is killed loses no acknowledged track, and reports no wrong status afterwards."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
import requests

from app import create_app
from storage.uploads import sweeper
from support.api import COLLECTION, expire_session
from support.crash_service import CrashableService
from support.database import run_statement
from support.sample_files import HTML, png, wav
from support.store import Bucket


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with a prefix of the test's own, so that a sweep sees no other objects."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


@pytest.fixture
def crashable(settings: dict[str, Any]) -> Iterator[CrashableService]:
    """The service, not yet started."""
    crashable = CrashableService(settings)
    yield crashable
    crashable.kill()


def sweep_and_check(settings: dict[str, Any], sessions: list[str], bucket: Bucket) -> dict[str, dict[str, Any]]:
    """Expire and sweep the sessions, compare the bucket with the uploaded tracks, and return all tracks by id."""
    app = create_app(settings)
    for session_id in sessions:
        expire_session(app, session_id)
    # Those who held a lease are dead; a sweep would wait for its end.
    run_statement(settings["DATABASE_URL"], "UPDATE loadbay_track SET lease_expires_at = 1 WHERE lease IS NOT NULL")
    sweeper.sweep(app.extensions["loadbay"]["loadbay"])
    client, tracks = app.test_client(), {}
    for session_id in sessions:
        for track in client.post(f"/v1/upload_session/{session_id}/close").json["manifest"]["tracks"]:
            tracks[track["id"]] = track
    expected_keys = []
    for track in tracks.values():
        assert track["status"] not in ("initialized", "verifying")
        if track["status"] == "uploaded":
            expected_keys.append(track["path"])
            assert bucket.head(track["path"])["ETag"].strip('"') == track["etag"]
            if track["cover"]["status"] == "uploaded":
                expected_keys.append(track["cover"]["path"])
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == sorted(expected_keys)
    return tracks


def expire_leases(settings: dict[str, Any]) -> None:
    """Expire the leases of the killed process, which others would wait for."""
    run_statement(settings["DATABASE_URL"], "UPDATE loadbay_track SET lease_expires_at = 1 WHERE lease IS NOT NULL")


CRASHES = {
    ("good", "complete"): ("finalize", "respond", "copy"),
    ("bad", "complete"): ("respond",),
    ("good", "cancel"): ("end", "remove"),
    ("parts", "complete"): ("complete_multipart", "finalize"),
    ("parts", "cancel"): ("abort_multipart",),
}
"""The operations at which the service is killed, by the body of the upload and the request."""


@pytest.mark.parametrize(
    ("point", "body", "action"),
    [
        (f"{operation}:{side}", body, action)
        for (body, action), operations in CRASHES.items()
        for operation in operations
        for side in ("before", "after")
    ],
)
def test_recovers_from_a_crash_at_any_operation(crashable, settings, bucket, point, body, action):
    """A service that is killed before or after any operation reaches the right final status."""
    crashable.start()
    session_id = crashable.call("POST", "/v1/upload_session", collection_id=COLLECTION)["upload_session_id"]
    data = {"good": wav(), "bad": HTML, "parts": wav(0.1)}[body]
    payload = {"file_size": len(data), "multipart": True} if body == "parts" else {}
    created = crashable.call("POST", f"/v1/upload/{session_id}/track", file_name="a.wav", **payload)
    upload = created["track_multipart_upload"]["parts"][0] if body == "parts" else created["track_upload"]
    assert requests.put(upload["upload_url"], data=data, headers=upload["headers"], timeout=5).status_code == 200
    crashable.kill()
    crashable.start(point)
    path = f"/v1/upload/{session_id}/track/{created['track_id']}"
    response = crashable.call("POST", path + "/complete") if action == "complete" else crashable.call("DELETE", path)
    assert response is None, "the service was not killed"
    crashable.kill()
    expire_leases(settings)
    crashable.start()
    if action == "complete":
        response = crashable.call("POST", path + "/complete")
        assert response["track"]["status"] == ("failed" if body == "bad" else "uploaded")
        if body != "bad":
            assert bucket.get(response["track"]["path"]) == data
    else:
        assert crashable.call("DELETE", path)["track"]["status"] == "cancelled"
    tracks = sweep_and_check(settings, [session_id], bucket)
    final_status = response["track"]["status"] if action == "complete" else "cancelled"
    assert tracks[created["track_id"]]["status"] == final_status


@pytest.mark.parametrize(
    "point", ["register:before", "register:after", "create_multipart:before", "create_multipart:after"]
)
def test_crash_during_registration_leaves_no_partial_track(crashable, settings, bucket, point):
    """A track whose registration crashed exists completely or not at all, and leaves no objects."""
    crashable.start()
    session_id = crashable.call("POST", "/v1/upload_session", collection_id=COLLECTION)["upload_session_id"]
    crashable.kill()
    crashable.start(point)
    payload = {"file_size": 100, "multipart": True} if point.startswith("create_multipart") else {}
    assert crashable.call("POST", f"/v1/upload/{session_id}/track", file_name="a.wav", **payload) is None
    crashable.kill()
    tracks = sweep_and_check(settings, [session_id], bucket)
    assert [track["status"] for track in tracks.values()] == (["expired"] if point == "register:after" else [])


def test_crashes_under_load_lose_no_track(crashable, settings, bucket):
    """After repeated crashes under load, every acknowledged track exists, and no reported status was wrong."""
    acknowledged: dict[str, str] = {}
    reported: dict[str, str] = {}
    sessions: list[str] = []
    stopped = threading.Event()

    def send_requests(seed: int) -> None:
        generator = random.Random(seed)
        while not stopped.is_set():
            created = crashable.call(
                "POST", "/v1/upload_session", collection_id=COLLECTION, track={"file_name": "a.wav"}
            )
            if created is None:
                time.sleep(0.02)
                continue
            session_id, track_id = created["upload_session_id"], created["track_id"]
            sessions.append(session_id)
            acknowledged[track_id] = session_id
            path = f"/v1/upload/{session_id}/track/{track_id}"
            upload = created["track_upload"]
            requests.put(upload["upload_url"], data=generator.choice([wav(seed=seed), HTML]), timeout=5)
            if generator.random() < 0.5:
                with suppress(requests.ConnectionError):
                    # The service relays it, which may be killed meanwhile.
                    requests.post(created["track_cover_upload"]["upload_url"], files={"file": png()}, timeout=5)
            response = crashable.call(
                *generator.choice([("POST", path + "/complete"), ("DELETE", path), ("GET", path)])
            )
            if response is not None and response["track"]["status"] in ("uploaded", "failed", "cancelled"):
                reported[track_id] = response["track"]["status"]

    crashable.start()
    threads = [threading.Thread(target=send_requests, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for delay in (0.7, 0.5, 0.9, 0.6):
        time.sleep(delay)
        crashable.kill()
        crashable.start()
    time.sleep(0.5)
    stopped.set()
    for thread in threads:
        thread.join()
    crashable.kill()
    assert len(acknowledged) > 20
    tracks = sweep_and_check(settings, sessions, bucket)
    assert set(acknowledged) <= set(tracks)
    assert reported == {track_id: tracks[track_id]["status"] for track_id in reported}
