"""POST /v1/upload/:upload_session_id/complete, which verifies many tracks at once."""

from __future__ import annotations

from uuid import uuid4

import pytest
from peewee import IntegrityError

from storage.uploads import tracks, verification
from support import audio_samples
from support.api import assert_error, count_tracks, new_session, new_track
from support.sample_files import HTML, png, wav
from support.store import post_cover, put


@pytest.fixture
def session_id(client):
    """The id of an open session."""
    return new_session(client)["upload_session_id"]


def complete_tracks(client, session_id, *ids):
    """Verify these tracks, or all that are not final, and return their results by track id."""
    payload = {"track_ids": list(ids)} if ids else {}
    response = client.post(f"/v1/upload/{session_id}/complete", json=payload)
    assert response.status_code == 200, response.text
    assert response.json["count"] == len(response.json["tracks"])
    return {result["track_id"]: result for result in response.json["tracks"]}


def test_verifies_each_track_of_a_batch(client, bucket, session_id):
    """Each track gets its own result, with its cover; a track without a file stays as it is."""
    good, once, bad, missing = (
        new_track(client, session_id, name, **options)
        for name, options in (
            ("good.wav", {"cover_fields": True}), ("once.wav", {"write_once": True}), ("bad.mp3", {}), ("none.wav", {}),
        )
    )  # fmt: skip
    put(good["track_upload"], wav())
    post_cover(good["track_cover_upload"], png(), "image/png")
    put(once["track_upload"], wav(0.2))
    put(bad["track_upload"], HTML)
    results = complete_tracks(client, session_id, *(track["track_id"] for track in (good, once, bad, missing)))
    statuses = [results[track["track_id"]]["status"] for track in (good, once, bad, missing)]
    assert statuses == ["uploaded", "uploaded", "failed", "not_uploaded"]
    assert results[good["track_id"]]["track"]["cover"]["status"] == "uploaded"
    assert bucket.get(good["track"]["path"]) == wav()
    assert bucket.get(once["track"]["path"]) == wav(0.2)
    assert bucket.get(bad["track"]["path"]) is None
    assert count_tracks(client, session_id) == {"uploaded": 2, "failed": 1, "initialized": 1}


@pytest.mark.parametrize("write_once", [False, True])
def test_returns_what_a_later_read_shows(client, service, write_once):
    """The rows of a verification are those of the database, whether it has finalized them or not."""
    session_id = new_session(client, embedded_cover=True)["upload_session_id"]
    picture = audio_samples.audio()["cover.mp3"]
    bodies = {"plain.wav": wav(), "covered.wav": wav(), "picture.mp3": picture, "bad.wav": HTML, "none.wav": None}
    metadata = {"title": "Träumerei"}
    for name, body in bodies.items():
        created = new_track(client, session_id, name, write_once=write_once, metadata=metadata)
        if body is not None:
            assert put(created["track_upload"], body).status_code == 200
        if name == "covered.wav":
            post_cover(created["track_cover_upload"], png(), "image/png")
    outcomes = verification.verify(service, tracks.read_unfinished(service, session_id, None, 10), counted=False)
    assert [outcome.status for outcome in outcomes] == ["uploaded"] * 3 + ["failed", "not_uploaded"]
    assert [bool(outcome.row["cover"]) for outcome in outcomes] == [False, True, True, False, False]
    rows = tracks.read_many(service, [outcome.row["id"] for outcome in outcomes])
    assert [outcome.row for outcome in outcomes] == rows
    assert rows[0]["audio"]["codec"]


def test_row_of_a_rejected_change_stays_as_it_was(client, service, session_id):
    """Rows in memory are those of the database where it rejects a change, also those that were changed before."""
    ids = [new_track(client, session_id, name)["track_id"] for name in ("a.wav", "b.wav", "c.wav")]
    rows, calls = tracks.read_many(service, ids), []

    def change(row, _):
        calls.append(row["file_name"])
        tracks.update(service, row, "status = 'initialized'", (), {"status": "expired"})
        # The batch is rejected at the second track, and then the first two are.
        if calls in (["a.wav", "b.wav"], ["a.wav", "b.wav", "a.wav"], ["a.wav", "b.wav", "a.wav", "b.wav"]):
            raise IntegrityError

    results = tracks.change_each(service, [(row, None) for row in rows], change)
    assert [type(result) for result in results] == [IntegrityError, IntegrityError, type(None)]
    assert [row["status"] for row in rows] == ["initialized", "initialized", "expired"]
    assert rows == tracks.read_many(service, ids)


def test_verifies_all_unfinished_tracks_without_ids(client, session_id):
    """Without ids, the session's tracks that are not final are verified, and those only."""
    created = [new_track(client, session_id, f"{number}.wav", cover_fields=False) for number in range(3)]
    for track in created[:2]:
        put(track["track_upload"], wav())
    assert complete_tracks(client, session_id, created[0]["track_id"]).keys() == {created[0]["track_id"]}
    results = complete_tracks(client, session_id)
    assert [result["status"] for result in results.values()] == ["uploaded", "not_uploaded"]
    assert created[0]["track_id"] not in results


def test_rejects_unknown_tracks(client, session_id):
    """An id of no track, or of another session's, is an error that names it, and nothing is verified."""
    own, other = new_track(client, session_id), new_track(client, new_session(client)["upload_session_id"])
    put(own["track_upload"], wav())
    for unknown in (str(uuid4()), other["track_id"]):
        payload = {"track_ids": [own["track_id"], unknown]}
        response = client.post(f"/v1/upload/{session_id}/complete", json=payload)
        assert_error(response, 404, "track_not_found", unknown)
    assert count_tracks(client, session_id) == {"initialized": 1}


@pytest.mark.parametrize("ids", [[], ["x"], "all", [str(uuid4())] * 1001])
def test_rejects_invalid_lists_of_ids(client, session_id, ids):
    """`track_ids` must be a list of 1 to 1,000 UUIDs."""
    response = client.post(f"/v1/upload/{session_id}/complete", json={"track_ids": ids})
    assert_error(response, 400, "invalid_request", "track_ids")


def test_rejects_an_unknown_session(client):
    """An unknown session is not found."""
    assert_error(client.post(f"/v1/upload/{uuid4()}/complete", json={}), 404, "session_not_found")
