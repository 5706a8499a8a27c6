"""A service that is killed loses no track that it acknowledged, and tells no lie when it is back."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from app import create_app
from conftest import COLLECTION, Bucket
from dev.store import free_port
from storage.uploads import sweeper
from support.sample_files import HTML, png, wav
from test_complete import expire_session

ROOT = Path(__file__).resolve().parent.parent


class Killable:
    """The service in a process of its own, to be killed and started again on the same port and database."""

    def __init__(self, settings: dict[str, Any]):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self.env = {"PATH": os.environ["PATH"], "PYTHONPATH": path, **settings}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *point: str) -> None:
        """Start it, armed to die at `point`."""
        command = [sys.executable, str(ROOT / "tests" / "support" / "crash_server.py"), str(self.port), *point]
        self.process = subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 15
        while True:
            try:
                requests.get(self.url, timeout=1)
                return
            except requests.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.03)

    def kill(self) -> None:
        """End it as a power cut does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def call(self, method: str, path: str, **payload: Any) -> dict[str, Any] | None:
        """The answer, or None where there was none."""
        try:
            answer = requests.request(method, self.url + path, json=payload or None, timeout=5)
        except requests.RequestException:
            return None
        assert answer.status_code in (200, 404, 409, 410), answer.text
        return dict(answer.json())


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """A prefix of its own: this test sweeps."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


@pytest.fixture
def killable(settings: dict[str, Any]) -> Iterator[Killable]:
    """The service, not started yet."""
    killable = Killable(settings)
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


@pytest.mark.parametrize(
    ("point", "body", "action"),
    [
        *(
            (f"{place}:{side}", "good", "complete")
            for place in ("move", "copy", "remove")
            for side in ("before", "after")
        ),
        *((f"{place}:{side}", "bad", "complete") for place in ("move", "remove") for side in ("before", "after")),
        *((f"{place}:{side}", "good", "cancel") for place in ("move", "remove") for side in ("before", "after")),
        *((f"join:{side}", "parts", "complete") for side in ("before", "after")),
        *((f"abort:{side}", "parts", "cancel") for side in ("before", "after")),
        *((f"move:{side}", "parts", "complete") for side in ("before", "after")),
    ],
)
def test_killed_at(killable, settings, bucket, point, body, action):
    """Killed on either side of each change, the service finds its way to a true end."""
    killable.start()
    session_id = killable.call("POST", "/v1/upload_session", collection_id=COLLECTION)["upload_session_id"]
    sent = {"good": wav(), "bad": HTML, "parts": wav(0.1)}[body]
    payload = {"file_size": len(sent), "multipart": True} if body == "parts" else {}
    made = killable.call("POST", f"/v1/upload/{session_id}/track", file_name="a.wav", **payload)
    upload = made["track_multipart_upload"]["parts"][0] if body == "parts" else made["track_upload"]
    assert requests.put(upload["upload_url"], data=sent, headers=upload["headers"], timeout=5).status_code == 200
    killable.kill()
    killable.start(point)
    path = f"/v1/upload/{session_id}/track/{made['track_id']}"
    answer = killable.call("POST", path + "/complete") if action == "complete" else killable.call("DELETE", path)
    assert answer is None, "it should have died"
    killable.kill()
    killable.start()
    if action == "complete":
        answer = killable.call("POST", path + "/complete")
        assert answer["track"]["status"] == ("failed" if body == "bad" else "uploaded")
        if body != "bad":
            assert bucket.get(answer["track"]["path"]) == sent
    else:
        assert killable.call("DELETE", path)["track"]["status"] == "cancelled"
    found = settle(settings, [session_id], bucket)
    last = answer["track"]["status"] if action == "complete" else "cancelled"
    assert found[made["track_id"]]["status"] == last


@pytest.mark.parametrize("point", ["insert:before", "insert:after", "begin:before", "begin:after"])
def test_killed_while_registering(killable, settings, bucket, point):
    """A track that nobody was told of is whole or not there, and leaves nothing behind."""
    killable.start()
    session_id = killable.call("POST", "/v1/upload_session", collection_id=COLLECTION)["upload_session_id"]
    killable.kill()
    killable.start(point)
    payload = {"file_size": 100, "multipart": True} if point.startswith("begin") else {}
    assert killable.call("POST", f"/v1/upload/{session_id}/track", file_name="a.wav", **payload) is None
    killable.kill()
    found = settle(settings, [session_id], bucket)
    assert [track["status"] for track in found.values()] == (["expired"] if point == "insert:after" else [])


def test_killed_under_load(killable, settings, bucket):
    """Killed again and again under load: every acknowledged track is there, and no status is a lie."""
    acknowledged: dict[str, str] = {}
    told: dict[str, str] = {}
    sessions: list[str] = []
    over = threading.Event()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while not over.is_set():
            made = killable.call("POST", "/v1/upload_session", collection_id=COLLECTION, track={"file_name": "a.wav"})
            if made is None:
                time.sleep(0.02)
                continue
            session_id, track_id = made["upload_session_id"], made["track_id"]
            sessions.append(session_id)
            acknowledged[track_id] = session_id
            path = f"/v1/upload/{session_id}/track/{track_id}"
            upload = made["track_upload"]
            requests.put(upload["upload_url"], data=chance.choice([wav(seed=seed), HTML]), timeout=5)
            if chance.random() < 0.5:
                cover = made["track_cover_upload"]
                requests.post(cover["upload_url"], data=cover["fields"], files={"file": png()}, timeout=5)
            answer = killable.call(*chance.choice([("POST", path + "/complete"), ("DELETE", path), ("GET", path)]))
            if answer is not None and answer["track"]["status"] in ("uploaded", "failed", "cancelled"):
                told[track_id] = answer["track"]["status"]

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
