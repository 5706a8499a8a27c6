"""Three invariants of any sequence of requests and sweeps.

A track that is `uploaded` is in the bucket, with its size and ETag; an uploaded object is never deleted or changed;
and a sweep after the expiry leaves no other object.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from itertools import cycle
from pathlib import Path
from typing import Any, ClassVar, cast
from uuid import uuid4

import pytest
import requests
from flask.testing import FlaskClient
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from app import create_app
from storage.service import Service
from storage.uploads import sweeper
from support.api import expire_session, new_session
from support.sample_files import HTML, png, wav
from support.store import Bucket

# Examples per run; more if requested.
EXAMPLES = int(os.environ.get("INVARIANTS_EXAMPLES", "20"))
BODIES = [wav(), wav(seed=1), wav(0.1, seed=2), HTML, b""]
COVERS = [png(), png(5, 7), HTML]


class UploadMachine(RuleBasedStateMachine):
    """Clients and the sweeper, acting on sessions and tracks in any order."""

    settings: ClassVar[dict[str, Any]]
    bucket: ClassVar[Bucket]
    instances: ClassVar[int]

    sessions = Bundle("sessions")
    tracks = Bundle("tracks")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="loadbay-invariants-")
        self.prefix = f"{uuid4()}/"
        database = self.settings["DATABASE_URL"]
        if database.startswith("sqlite"):
            database = f"sqlite:///{Path(self.folder) / 'invariants.db'}"
        payload = {**self.settings, "S3_PREFIX": self.prefix, "DATABASE_URL": database}
        self.apps = [create_app(payload) for _ in range(self.instances)]
        self.app = self.apps[0]
        self.clients = cycle([app.test_client() for app in self.apps])
        self.all_sessions: list[str] = []
        self.expired: set[str] = set()
        self.uploaded: dict[str, dict[str, Any]] = {}

    @property
    def client(self) -> FlaskClient:
        """A client of the next application in turn."""
        return next(self.clients)

    @property
    def service(self) -> Service:
        """The service of the next application in turn."""
        return cast(Service, self.client.application.extensions["loadbay"]["loadbay"])

    def record(self, response: Any) -> None:
        """Record a track that is reported as uploaded, and compare it with the earlier reports."""
        assert response.status_code in (200, 404, 409, 410), response.text
        track = (response.json or {}).get("track")
        if track and track["status"] == "uploaded":
            earlier = self.uploaded.setdefault(track["id"], track)
            assert (track["path"], track["etag"], track["size"]) == (earlier["path"], earlier["etag"], earlier["size"])

    def valid_upload(self, created: dict[str, Any], upload: str) -> Any:
        """Return an upload's URLs, or None if the session is expired: the store still accepts them in this test."""
        return None if created.get("upload_session_id") in self.expired else created.get(upload)

    @rule(target=sessions)
    def open(self) -> str:
        session_id = str(new_session(self.client)["upload_session_id"])
        self.all_sessions.append(session_id)
        return session_id

    @rule(target=tracks, session_id=sessions, mode=st.sampled_from(["plain", "once", "parts"]))
    def create(self, session_id: str, mode: str) -> dict[str, Any]:
        payload: dict[str, Any] = {"file_name": "a.wav", "cover_fields": True}
        payload |= {"plain": {}, "once": {"write_once": True}, "parts": {"multipart": True, "file_size": 844}}[mode]
        response = self.client.post(f"/v1/upload/{session_id}/track", json=payload)
        self.record(response)
        return dict(response.json, path=f"/v1/upload/{session_id}/track/{response.json.get('track_id', uuid4())}")

    @rule(created=tracks, body=st.sampled_from(BODIES))
    def upload(self, created: dict[str, Any], body: bytes) -> None:
        upload = self.valid_upload(created, "track_upload")
        parts = self.valid_upload(created, "track_multipart_upload")
        if parts:
            upload = parts["parts"][0]
        if upload:
            # The body's own length: a store would wait for the rest of a longer one.
            headers = {name: value for name, value in upload["headers"].items() if name != "Content-Length"}
            requests.put(upload["upload_url"], data=body, headers=headers, timeout=10)

    @rule(created=tracks, body=st.sampled_from(COVERS))
    def send_cover(self, created: dict[str, Any], body: bytes) -> None:
        if cover := self.valid_upload(created, "track_cover_upload"):
            requests.post(cover["upload_url"], data=cover["fields"], files={"file": body}, timeout=10)

    @rule(created=tracks)
    def complete(self, created: dict[str, Any]) -> None:
        self.record(self.client.post(created["path"] + "/complete"))

    @rule(created=tracks)
    def read(self, created: dict[str, Any]) -> None:
        self.record(self.client.get(created["path"]))

    @rule(created=tracks)
    def renew(self, created: dict[str, Any]) -> None:
        response = self.client.post(created["path"] + "/renew")
        self.record(response)
        if response.status_code == 200:
            created.update(response.json)

    @rule(created=tracks)
    def cancel(self, created: dict[str, Any]) -> None:
        self.record(self.client.delete(created["path"]))

    @rule(session_id=sessions)
    def close(self, session_id: str) -> None:
        assert self.client.post(f"/v1/upload_session/{session_id}/close").status_code == 200

    @rule(session_id=sessions)
    def expire(self, session_id: str) -> None:
        expire_session(self.app, session_id)
        self.expired.add(session_id)

    @rule()
    def sweep(self) -> None:
        sweeper.sweep(self.service)

    @invariant()
    def uploaded_objects_exist(self) -> None:
        for track in self.uploaded.values():
            head = self.bucket.head(track["path"])
            assert (head["ContentLength"], head["ETag"].strip('"')) == (track["size"], track["etag"])

    def teardown(self) -> None:
        for session_id in self.all_sessions:
            expire_session(self.app, session_id)
        sweeper.sweep(self.service)
        # What a URL that is still valid may leave behind is removed once it has expired.
        self.service.execute("UPDATE loadbay_removal SET due_at = ?", (0,))
        sweeper.sweep(self.service)
        expected_keys = []
        for session_id in self.all_sessions:
            response = self.client.post(f"/v1/upload_session/{session_id}/close").json
            statuses = [track["status"] for track in response["manifest"]["tracks"]]
            for name, count in response["upload_session"]["tracks"].items():
                assert statuses.count(name) == count
            assert "initialized" not in statuses
            for track in response["manifest"]["tracks"]:
                if track["status"] == "uploaded":
                    expected_keys += [
                        track["path"],
                        *([track["cover"]["path"]] if track["cover"]["status"] == "uploaded" else []),
                    ]
                else:
                    assert track["id"] not in self.uploaded
        assert sorted(self.bucket.keys(self.prefix)) == sorted(expected_keys)
        self.uploaded_objects_exist()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("instances", [1, 2])
def test_invariants_hold_for_random_sequences(settings: dict[str, Any], bucket: Bucket, instances: int) -> None:
    """The invariants hold for random sequences of actions, on one instance and on two."""
    UploadMachine.settings, UploadMachine.bucket, UploadMachine.instances = settings, bucket, instances
    run_state_machine_as_test(
        UploadMachine,
        settings=hypothesis_settings(
            max_examples=EXAMPLES // instances,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
