"""What happens between two steps of something else: each race is played in its worst order."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import new_session, new_track, post_cover, put
from files import HTML, png, wav
from receiving import outbox
from storage import across, cleanup, multipart, sessions, tracks, verify
from storage.bucket import Bucket
from storage.errors import SessionExpired
from storage.models import Track
from test_multipart import send


@pytest.fixture
def settings(settings, tmp_path):
    """A prefix of its own, so that a sweep sees only this test's objects."""
    return {**settings, "S3_PREFIX": f"{tmp_path.name}/"}


@pytest.fixture
def before(monkeypatch):
    """`before(owner, name, happens)`: `happens()` comes right before the next call of `owner.name`, once."""

    def set_up(owner, name, happens):
        original = getattr(owner, name)

        def call(*args, **kwargs):
            monkeypatch.setattr(owner, name, original)
            happens()
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    return set_up


def read(here, made):
    """The row of a track."""
    return tracks.read(here, made["upload_session_id"], made["track_id"])


def check(here, made):
    """Have a track checked; returns its row, which must say of the store what is there."""
    row = verify.complete(here, read(here, made))
    there = {"track": (row["status"], row["path"], row["etag"])}
    there["cover"] = (row["cover_status"], row["cover_path"], row["cover_etag"])
    for status, path, etag in there.values():
        if status == "uploaded":
            found = here.bucket.head(path)
            assert found is not None, path
            assert found.etag == etag
    return row


def with_bytes(here, client, session_id):
    """A track that is uploaded, without a cover."""
    made = new_track(client, session_id, "a.wav")
    put(made["track_upload"], wav())
    assert check(here, made)["status"] == "uploaded"
    return made


@pytest.fixture
def session_id(client):
    """An open session."""
    return new_session(client, expires_in=60)["upload_session_id"]


# --- A track's bytes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [(multipart, "join"), (Bucket, "complete_multipart")], ids=["join", "joined"])
def test_one_put_while_parts_are_joined(client, here, bucket, session_id, before, step):
    """Parts that are joined after the single PUT was checked do not come over what it brought."""
    body, other = wav(), wav(seed=1)
    made = new_track(client, session_id, "a.wav", file_size=len(body), multipart=True)
    assert send(made["track_multipart_upload"]["parts"][0], other).status_code == 200

    def someone_else() -> None:
        assert put(made["track_upload"], body).status_code == 200
        assert check(here, made)["status"] == "uploaded"

    before(*step, someone_else)
    row = check(here, made)
    assert (row["status"], bucket.get(row["path"])) == ("uploaded", body)


# --- Covers ----------------------------------------------------------------------------------------------------------


def test_cover_is_sealed_during_a_sweep(client, here, session_id, before):
    """A sweep leaves a cover alone that is just being sealed, under a key that no row knows yet."""
    made = with_bytes(here, client, session_id)
    post_cover(made["track_cover_upload"], png(), "image/png")
    before(verify, "_keep_cover", lambda: cleanup.sweep(here))
    assert check(here, made)["cover_status"] == "uploaded"


def test_cover_that_the_sweeper_gave_up(client, here, bucket, settings, session_id, before):
    """A cover that the sweeper no longer waits for is not uploaded by whoever found it at the last moment."""
    made = with_bytes(here, client, session_id)
    post_cover(made["track_cover_upload"], png(), "image/png")

    def sweeper() -> None:
        Track.update(cover_status="expired").where(Track.id == made["track_id"]).execute(here.database)
        cleanup.sweep(here)

    before(verify, "_keep_cover", sweeper)
    row = check(here, made)
    assert row["cover_status"] == "expired"
    assert bucket.keys(settings["S3_PREFIX"]) == [row["path"]]


def test_cover_whose_url_is_given_out_again(client, here, bucket, session_id, before, clock):
    """A cover that stays where it is, as its URL is dead, is looked at anew where that URL is signed once more."""
    made = with_bytes(here, client, session_id)
    post_cover(signed_again(here, made), png(2, 3), "image/png")
    clock.forward(here.settings.upload_url_ttl + verify.UNDER_WAY + 1)
    again: list[dict[str, Any]] = []
    before(verify, "_keep_cover", lambda: again.append(signed_again(here, made)))
    check(here, made)
    row = check(here, made)
    assert (row["cover_status"], row["cover_width"]) == ("uploaded", 2)
    post_cover(again[0], HTML)
    assert bucket.get(check(here, made)["cover_path"]) == png(2, 3)


def test_cover_whose_url_is_given_out_again_during_a_sweep(client, here, session_id, before, clock):
    """A sweep that finds no cover at a dead URL does not forget the URL where it is signed once more."""
    made = with_bytes(here, client, session_id)
    signed_again(here, made)
    clock.forward(here.settings.upload_url_ttl + verify.UNDER_WAY + 1)
    cleanup.sweep(here)
    signed_again(here, made)
    clock.forward(here.settings.upload_url_ttl + verify.UNDER_WAY + 1)
    again: list[dict[str, Any]] = []
    before(verify, "complete", lambda: again.append(signed_again(here, made)))
    cleanup.sweep(here)
    post_cover(again[0], png(), "image/png")
    assert check(here, made)["cover_status"] == "uploaded"


def signed_again(here, made):
    """Where a fresh cover of a track goes."""
    upload = across.fresh_cover(here, "", read(here, made), None)
    return {**upload, "fields": upload["fields_"]}


def test_good_cover_after_a_bad_one(client, here, session_id, before):
    """A cover that comes while another in its place is refused is not removed with it."""
    made = with_bytes(here, client, session_id)
    post_cover(made["track_cover_upload"], HTML)
    before(verify, "_keep_cover", lambda: post_cover(made["track_cover_upload"], png(), "image/png"))
    assert check(here, made)["cover_status"] == "failed"
    assert check(here, made)["cover_status"] == "uploaded"


# --- The end of a session --------------------------------------------------------------------------------------------

WORDS = {"file_name": "late.wav"}
OVER = 61 + verify.UNDER_WAY
"""Seconds after which a session of a minute is swept."""


@pytest.fixture
def late(client, here, session_id, clock, before, receiver, webhook_secret):
    """`late(module)`: whatever in that module asks for the time is so slow after it that a sweep ends the session."""
    new_track(client, session_id)

    def sweep() -> None:
        clock.forward(OVER)
        assert cleanup.sweep(here).expired == 1
        assert [row["type"] for row in outbox(here)][-1] == "upload_session.completed"
        clock.forward(-OVER)

    def over(module):
        before(module, "clock_now", sweep)
        return lambda: clock.forward(OVER)

    return over


@pytest.mark.parametrize("many", [False, True], ids=["one", "batch"])
def test_track_of_a_session_that_was_swept(client, here, session_id, late, before, many):
    """No track comes into a session of which it was told that it is completed."""
    later = late(tracks)
    before(sessions, "refusal", later)
    told = len(outbox(here))
    path = f"/v1/upload/{session_id}/track{'s' if many else ''}"
    answer = client.post(path, json={"tracks": [WORDS]} if many else WORDS)
    assert (answer.status_code, answer.json["code"]) == (410, SessionExpired.code)
    assert client.get(f"/v1/upload_session/{session_id}").json["upload_session"]["track_count"] == 1
    assert len(outbox(here)) == told + 2


def test_close_of_a_session_that_was_swept(client, here, session_id, late, before):
    """A session that has ended by itself is not closed, too: it is completed once."""
    later = late(sessions)
    before(sessions, "read", later)
    answer = client.post(f"/v1/upload_session/{session_id}/close")
    assert answer.json["upload_session"]["status"] == "expired"
    assert [row["type"] for row in outbox(here)].count("upload_session.completed") == 1
