"""Tests of races at the end of a session, each played in its worst order."""

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
    """A prefix of its own, so that a sweep sees only this test's objects."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


@pytest.fixture
def run_before(monkeypatch):
    """`run_before(owner, name, happens)`: `happens()` comes right before the next call of `owner.name`, once."""

    def set_up(owner, name, happens):
        original = getattr(owner, name)

        def call(*args, **kwargs):
            monkeypatch.setattr(owner, name, original)
            happens()
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    return set_up


def read(service, created):
    """The row of a track."""
    return tracks.read(service, created["upload_session_id"], created["track_id"])


def check(service, created):
    """Have a track checked; returns its row, which must say of the store what is there."""
    row = verification.complete(service, read(service, created))
    there = {"track": (row["status"], row["path"], row["etag"])}
    there["cover"] = (row["cover_status"], row["cover_path"], row["cover_etag"])
    for status, path, etag in there.values():
        if status == "uploaded":
            found = service.bucket.head(path)
            assert found is not None, path
            assert found.etag == etag
    return row


def with_bytes(service, client, session_id):
    """A track that is uploaded, without a cover."""
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    assert check(service, created)["status"] == "uploaded"
    return created


@pytest.fixture
def session_id(client):
    """An open session."""
    return new_session(client, expires_in=60)["upload_session_id"]


# --- The end of a session --------------------------------------------------------------------------------------------

WORDS = {"file_name": "late.wav"}
OVER = 61 + staging.LATE_UPLOAD_GRACE
"""Seconds after which a session of a minute is swept."""


@pytest.fixture
def late(client, service, session_id, clock, run_before, receiver, webhook_secret):
    """`late(module)`: whatever in that module asks for the time is so slow after it that a sweep ends the session."""
    new_track(client, session_id)

    def sweep() -> None:
        clock.forward(OVER)
        assert sweeper.sweep(service).expired == 1
        assert [row["type"] for row in outbox_rows(service)][-1] == "upload_session.completed"
        clock.forward(-OVER)

    def over(module):
        run_before(module, "clock_now", sweep)
        return lambda: clock.forward(OVER)

    return over


@pytest.mark.parametrize("many", [False, True], ids=["one", "batch"])
def test_track_of_a_session_that_was_swept(client, service, session_id, late, run_before, many):
    """No track comes into a session of which it was told that it is completed."""
    later = late(tracks)
    run_before(sessions, "rejection_reason", later)
    told = len(outbox_rows(service))
    path = f"/v1/upload/{session_id}/track{'s' if many else ''}"
    response = client.post(path, json={"tracks": [WORDS]} if many else WORDS)
    assert (response.status_code, response.json["code"]) == (410, SessionExpired.code)
    assert client.get(f"/v1/upload_session/{session_id}").json["upload_session"]["track_count"] == 1
    assert len(outbox_rows(service)) == told + 2


def test_close_of_a_session_that_was_swept(client, service, session_id, late, run_before):
    """A session that has ended by itself is not closed, too: it is completed once."""
    later = late(sessions)
    run_before(sessions, "read", later)
    response = client.post(f"/v1/upload_session/{session_id}/close")
    assert response.json["upload_session"]["status"] == "expired"
    assert [row["type"] for row in outbox_rows(service)].count("upload_session.completed") == 1
