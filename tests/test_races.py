"""What happens between two steps of something else: each race is played in its worst order."""

from __future__ import annotations

from typing import Any

import pytest

from storage.db.models import Track
from storage.errors import SessionExpired
from storage.s3.bucket import Bucket
from storage.uploads import multipart, organization, sessions, sweeper, tracks, verification
from support.api import new_session, new_track
from support.database import outbox_rows
from support.sample_files import HTML, png, wav
from support.store import post_cover, put


@pytest.fixture
def settings(settings, tmp_path):
    """A prefix of its own, so that a sweep sees only this test's objects."""
    return {**settings, "S3_PREFIX": f"{tmp_path.name}/"}


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


# --- A track's bytes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step", [(multipart, "complete"), (Bucket, "complete_multipart_upload")], ids=["join", "joined"]
)
def test_one_put_while_parts_are_joined(client, service, bucket, session_id, run_before, step):
    """Parts that are joined after the single PUT was checked do not come over what it brought."""
    body, other = wav(), wav(seed=1)
    created = new_track(client, session_id, "a.wav", file_size=len(body), multipart=True)
    assert put(created["track_multipart_upload"]["parts"][0], other).status_code == 200

    def someone_else() -> None:
        assert put(created["track_upload"], body).status_code == 200
        assert check(service, created)["status"] == "uploaded"

    run_before(*step, someone_else)
    row = check(service, created)
    assert (row["status"], bucket.get(row["path"])) == ("uploaded", body)


# --- Covers ----------------------------------------------------------------------------------------------------------


def test_cover_is_sealed_during_a_sweep(client, service, session_id, run_before):
    """A sweep leaves a cover alone that is just being sealed, under a key that no row knows yet."""
    created = with_bytes(service, client, session_id)
    post_cover(created["track_cover_upload"], png(), "image/png")
    run_before(verification, "_save_cover_if_unchanged", lambda: sweeper.sweep(service))
    assert check(service, created)["cover_status"] == "uploaded"


def test_cover_that_the_sweeper_gave_up(client, service, bucket, settings, session_id, run_before):
    """A cover that the sweeper no longer waits for is not uploaded by whoever found it at the last moment."""
    created = with_bytes(service, client, session_id)
    post_cover(created["track_cover_upload"], png(), "image/png")

    def sweep_and_forget() -> None:
        Track.update(cover_status="expired").where(Track.id == created["track_id"]).execute(service.database)
        sweeper.sweep(service)

    run_before(verification, "_save_cover_if_unchanged", sweep_and_forget)
    row = check(service, created)
    assert row["cover_status"] == "expired"
    assert bucket.keys(settings["S3_PREFIX"]) == [row["path"]]


def test_cover_whose_url_is_given_out_again(client, service, bucket, session_id, run_before, clock):
    """A cover that stays where it is, as its URL is dead, is looked at anew where that URL is signed once more."""
    created = with_bytes(service, client, session_id)
    post_cover(signed_again(service, created), png(2, 3), "image/png")
    clock.forward(service.settings.upload_url_ttl + verification.LATE_UPLOAD_GRACE + 1)
    again: list[dict[str, Any]] = []
    run_before(verification, "_save_cover_if_unchanged", lambda: again.append(signed_again(service, created)))
    check(service, created)
    row = check(service, created)
    assert (row["cover_status"], row["cover_width"]) == ("uploaded", 2)
    post_cover(again[0], HTML)
    assert bucket.get(check(service, created)["cover_path"]) == png(2, 3)


def test_cover_whose_url_is_given_out_again_during_a_sweep(client, service, session_id, run_before, clock):
    """A sweep that finds no cover at a dead URL does not forget the URL where it is signed once more."""
    created = with_bytes(service, client, session_id)
    signed_again(service, created)
    clock.forward(service.settings.upload_url_ttl + verification.LATE_UPLOAD_GRACE + 1)
    sweeper.sweep(service)
    signed_again(service, created)
    clock.forward(service.settings.upload_url_ttl + verification.LATE_UPLOAD_GRACE + 1)
    again: list[dict[str, Any]] = []
    run_before(verification, "complete", lambda: again.append(signed_again(service, created)))
    sweeper.sweep(service)
    post_cover(again[0], png(), "image/png")
    assert check(service, created)["cover_status"] == "uploaded"


def signed_again(service, created):
    """Where a fresh cover of a track goes."""
    upload = organization.presign_cover_replacement(service, "", read(service, created), None)
    return {**upload, "fields": upload["fields_"]}


def test_good_cover_after_a_bad_one(client, service, session_id, run_before):
    """A cover that comes while another in its place is refused is not removed with it."""
    created = with_bytes(service, client, session_id)
    post_cover(created["track_cover_upload"], HTML)
    run_before(
        verification, "_save_cover_if_unchanged", lambda: post_cover(created["track_cover_upload"], png(), "image/png")
    )
    assert check(service, created)["cover_status"] == "failed"
    assert check(service, created)["cover_status"] == "uploaded"


# --- The end of a session --------------------------------------------------------------------------------------------

WORDS = {"file_name": "late.wav"}
OVER = 61 + verification.LATE_UPLOAD_GRACE
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
