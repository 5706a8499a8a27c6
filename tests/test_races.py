"""Races at the end of a session, each played in its worst order."""

from __future__ import annotations

from uuid import uuid4

import pytest

from storage.errors import SessionExpired
from storage.uploads import sessions, staging, sweeper, tracks, verification
from support.api import new_session, new_track
from support.database import outbox_rows
from support.sample_files import wav
from support.store import put


@pytest.fixture
def settings(settings):
    """Settings with a prefix of the test's own, so that a sweep sees no other objects."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


@pytest.fixture
def run_before(monkeypatch):
    """Run a function right before the next call of an attribute, once: `run_before(owner, name, function)`."""

    def patch(owner, name, function):
        original = getattr(owner, name)

        def call(*args, **kwargs):
            monkeypatch.setattr(owner, name, original)
            function()
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    return patch


def read_row(service, created):
    """Return the row of a track."""
    return tracks.read(service, created["upload_session_id"], created["track_id"])


def verify_track(service, created):
    """Verify a track and return its row, after comparing the row with the store."""
    row = verification.complete(service, read_row(service, created))
    objects = {"track": (row["status"], row["path"], row["etag"])}
    objects["cover"] = (row["cover_status"], row["cover_path"], row["cover_etag"])
    for status, path, etag in objects.values():
        if status == "uploaded":
            head = service.bucket.head(path)
            assert head is not None, path
            assert head.etag == etag
    return row


def uploaded_track(service, client, session_id):
    """Create a track that is uploaded, without a cover."""
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    assert verify_track(service, created)["status"] == "uploaded"
    return created


@pytest.fixture
def session_id(client):
    """The id of an open session."""
    return new_session(client, expires_in=60)["upload_session_id"]


# --- The end of a session ---

PAYLOAD = {"file_name": "late.wav"}
SWEPT_AFTER = 61 + staging.LATE_UPLOAD_GRACE
"""Seconds after which a sweep ends a session of one minute."""


@pytest.fixture
def slow_module(client, service, session_id, clock, run_before, receiver, webhook_secret):
    """Make a module so slow after it reads the clock that a sweep ends the session meanwhile: `slow_module(module)`."""
    new_track(client, session_id)

    def sweep() -> None:
        clock.forward(SWEPT_AFTER)
        assert sweeper.sweep(service).expired == 1
        assert [row["type"] for row in outbox_rows(service)][-1] == "upload_session.completed"
        clock.forward(-SWEPT_AFTER)

    def patch(module):
        run_before(module, "clock_now", sweep)
        return lambda: clock.forward(SWEPT_AFTER)

    return patch


@pytest.mark.parametrize("batch", [False, True], ids=["one", "batch"])
def test_swept_session_gets_no_track(client, service, session_id, slow_module, run_before, batch):
    """A session that was reported as completed gets no further track."""
    forward = slow_module(tracks)
    run_before(sessions, "rejection_reason", forward)
    events_before = len(outbox_rows(service))
    path = f"/v1/upload/{session_id}/track{'s' if batch else ''}"
    response = client.post(path, json={"tracks": [PAYLOAD]} if batch else PAYLOAD)
    assert (response.status_code, response.json["code"]) == (410, SessionExpired.code)
    assert client.get(f"/v1/upload_session/{session_id}").json["upload_session"]["track_count"] == 1
    assert len(outbox_rows(service)) == events_before + 2


def test_swept_session_is_completed_once(client, service, session_id, slow_module, run_before):
    """A session that has expired is not closed as well: it is completed once."""
    forward = slow_module(sessions)
    run_before(sessions, "read", forward)
    response = client.post(f"/v1/upload_session/{session_id}/close")
    assert response.json["upload_session"]["status"] == "expired"
    assert [row["type"] for row in outbox_rows(service)].count("upload_session.completed") == 1
