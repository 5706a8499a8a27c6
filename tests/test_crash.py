"""A service that is killed loses no track that it acknowledged, and tells no lie when it is back."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests

from app import create_app
from storage.uploads import sweeper
from support.api import COLLECTION, expire_session
from support.crash_service import CrashableService
from support.sample_files import HTML, png, wav
from support.store import Bucket


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """A prefix of its own: this test sweeps."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


@pytest.fixture
def killable(settings: dict[str, Any]) -> Iterator[CrashableService]:
    """The service, not started yet."""
    killable = CrashableService(settings)
    yield killable
    killable.kill()


def settle(settings: dict[str, Any], sessions: list[str], bucket: Bucket) -> dict[str, dict[str, Any]]:
    """What the tracks are after everything is over and swept; and that the bucket holds what they say, no more."""
    app = create_app(settings)
    for session_id in sessions:
        expire_session(app, session_id)
    sweeper.sweep(app.extensions["loadbay"]["loadbay"])
    client, found = app.test_client(), {}
    for session_id in sessions:
        for track in client.post(f"/v1/upload_session/{session_id}/close").json["manifest"]["tracks"]:
            found[track["id"]] = track
    kept = []
    for track in found.values():
        assert track["status"] != "initialized"
        if track["status"] == "uploaded":
            kept.append(track["path"])
            assert bucket.head(track["path"])["ETag"].strip('"') == track["etag"]
            if track["cover"]["status"] == "uploaded":
                kept.append(track["cover"]["path"])
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == sorted(kept)
    return found


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
def test_killed_at(killable, settings, bucket, point, body, action):
    """Killed on either side of each change, the service finds its way to a true end."""
    killable.start()
    session_id = killable.call("POST", "/v1/upload_session", collection_id=COLLECTION)["upload_session_id"]
    sent = {"good": wav(), "bad": HTML, "parts": wav(0.1)}[body]
    payload = {"file_size": len(sent), "multipart": True} if body == "parts" else {}
    created = killable.call("POST", f"/v1/upload/{session_id}/track", file_name="a.wav", **payload)
    upload = created["track_multipart_upload"]["parts"][0] if body == "parts" else created["track_upload"]
    assert requests.put(upload["upload_url"], data=sent, headers=upload["headers"], timeout=5).status_code == 200
    killable.kill()
    killable.start(point)
    path = f"/v1/upload/{session_id}/track/{created['track_id']}"
    response = killable.call("POST", path + "/complete") if action == "complete" else killable.call("DELETE", path)
    assert response is None, "it should have died"
    killable.kill()
    killable.start()
    if action == "complete":
        response = killable.call("POST", path + "/complete")
        assert response["track"]["status"] == ("failed" if body == "bad" else "uploaded")
        if body != "bad":
            assert bucket.get(response["track"]["path"]) == sent
    else:
        assert killable.call("DELETE", path)["track"]["status"] == "cancelled"
    found = settle(settings, [session_id], bucket)
    last = response["track"]["status"] if action == "complete" else "cancelled"
    assert found[created["track_id"]]["status"] == last


@pytest.mark.parametrize(
    "point", ["register:before", "register:after", "create_multipart:before", "create_multipart:after"]
)
def test_killed_while_registering(killable, settings, bucket, point):
    """A track that nobody was told of is whole or not there, and leaves nothing behind."""
    killable.start()
    session_id = killable.call("POST", "/v1/upload_session", collection_id=COLLECTION)["upload_session_id"]
    killable.kill()
    killable.start(point)
    payload = {"file_size": 100, "multipart": True} if point.startswith("create_multipart") else {}
    assert killable.call("POST", f"/v1/upload/{session_id}/track", file_name="a.wav", **payload) is None
    killable.kill()
    found = settle(settings, [session_id], bucket)
    assert [track["status"] for track in found.values()] == (["expired"] if point == "register:after" else [])


def test_killed_under_load(killable, settings, bucket):
    """Killed again and again under load: every acknowledged track is there, and no status is a lie."""
    acknowledged: dict[str, str] = {}
    told: dict[str, str] = {}
    sessions: list[str] = []
    over = threading.Event()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while not over.is_set():
            created = killable.call(
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
            requests.put(upload["upload_url"], data=chance.choice([wav(seed=seed), HTML]), timeout=5)
            if chance.random() < 0.5:
                cover = created["track_cover_upload"]
                requests.post(cover["upload_url"], data=cover["fields"], files={"file": png()}, timeout=5)
            response = killable.call(*chance.choice([("POST", path + "/complete"), ("DELETE", path), ("GET", path)]))
            if response is not None and response["track"]["status"] in ("uploaded", "failed", "cancelled"):
                told[track_id] = response["track"]["status"]

    killable.start()
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for wait in (0.7, 0.5, 0.9, 0.6):
        time.sleep(wait)
        killable.kill()
        killable.start()
    time.sleep(0.5)
    over.set()
    for thread in threads:
        thread.join()
    killable.kill()
    assert len(acknowledged) > 20
    found = settle(settings, sessions, bucket)
    assert set(acknowledged) <= set(found)
    assert told == {track_id: found[track_id]["status"] for track_id in told}
