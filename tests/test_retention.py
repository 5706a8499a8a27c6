"""Retention: rows that need not be kept are deleted in short transactions, and files never."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from app import create_app
from storage.db import batches
from storage.db.models import Job
from storage.errors import StorageUnavailable
from storage.uploads import retention, sweeper
from support.api import (
    COLLECTION,
    assert_error,
    bearer,
    complete,
    count_tracks,
    create_key,
    expire_session,
    new_session,
    new_track,
    service_of,
    track_url,
    upload_track,
)
from support.database import query
from support.sample_files import HTML, png, wav
from support.store import post_cover, put

DAY = 86_400


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with a prefix of the test's own, so that a sweep sees no other objects."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


def counts(summary: sweeper.SweepSummary) -> tuple[int, int]:
    """Return the numbers of deleted sessions and tracks."""
    return summary.sessions_deleted, summary.tracks_deleted


def sweep_twice(service: Any) -> list[tuple[int, int]]:
    """Sweep twice, and return what each sweep deleted: the first may have ended the sessions."""
    return [counts(sweeper.sweep(service)) for _ in range(2)]


def test_sessions_without_tracks_are_deleted_after_a_month(app, client, service, count_rows, clock):
    """Sessions that ended long ago without a track are gone after a sweep, and those of this month are not."""
    for _ in range(5):
        expire_session(app, new_session(client)["upload_session_id"])
    assert sweep_twice(service) == [(0, 0), (0, 0)]
    clock.forward(20 * DAY)
    recent = new_session(client, expires_in=60)["upload_session_id"]
    clock.forward(7200)
    assert sweep_twice(service) == [(0, 0), (0, 0)]
    clock.forward(10 * DAY)
    assert counts(sweeper.sweep(service)) == (5, 0)
    assert count_rows() == {"upload_session": 1, "track": 0}
    assert sweep_twice(service) == [(0, 0), (0, 0)]
    clock.forward(20 * DAY)
    assert counts(sweeper.sweep(service)) == (1, 0)
    assert_error(client.get(f"/v1/upload_session/{recent}"), 404, "session_not_found")


def mixed_session(client) -> dict[str, Any]:
    """Create a session with an uploaded track that has a cover, and one failed, cancelled and missing track each."""
    session_id = new_session(client)["upload_session_id"]
    uploaded = new_track(client, session_id, "a.wav")
    put(uploaded["track_upload"], wav())
    post_cover(uploaded["track_cover_upload"], png())
    complete(client, session_id, uploaded)
    failed = new_track(client, session_id, "b.wav")
    put(failed["track_upload"], HTML)
    complete(client, session_id, failed)
    client.delete(track_url(session_id, new_track(client, session_id, "c.wav")))
    new_track(client, session_id, "d.wav")
    return {"id": session_id, "track": client.get(track_url(session_id, uploaded)).json["track"]}


def test_uploaded_tracks_are_kept_for_ever_by_default(app, client, service, bucket, settings, clock):
    """Of a session with an uploaded track, only the tracks that came to nothing are deleted."""
    session = mixed_session(client)
    expire_session(app, session["id"])
    assert sweep_twice(service) == [(0, 0), (0, 0)]
    clock.forward(30 * DAY)
    assert sweep_twice(service) == [(0, 3), (0, 0)]
    assert count_tracks(client, session["id"]) == {"uploaded": 1}
    row = client.get(f"/v1/upload_session/{session['id']}").json["upload_session"]
    assert (row["track_count"], row["uploaded_bytes"]) == (1, session["track"]["size"])
    paths = [session["track"]["path"], session["track"]["cover"]["path"]]
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == sorted(paths)


def test_keep_sessions_deletes_uploaded_rows_and_no_files(settings, bucket, clock):
    """With KEEP_SESSIONS, all rows of a session are deleted so many days after its end; its files stay."""
    app = create_app({**settings, "KEEP_SESSIONS": "90"})
    client, service = app.test_client(), service_of(app)
    session = mixed_session(client)
    clock.forward(3 * 3600)
    assert sweep_twice(service) == [(0, 0), (0, 0)]
    clock.forward(88 * DAY)
    assert sweep_twice(service) == [(0, 0), (0, 0)]
    clock.forward(2 * DAY)
    assert counts(sweeper.sweep(service)) == (1, 4)
    assert query(app, "SELECT count(*) FROM loadbay_track") == [(0,)]
    paths = [session["track"]["path"], session["track"]["cover"]["path"]]
    clock.forward(10 * DAY)
    sweeper.sweep(service)
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == sorted(paths)
    assert bucket.get(session["track"]["path"]) == wav()


def test_session_whose_cover_may_be_replaced_is_kept(settings, clock):
    """A session is not deleted while a URL for a new cover of one of its tracks is valid."""
    app = create_app({**settings, "KEEP_SESSIONS": "1", "UPLOAD_URL_TTL": str(7 * DAY)})
    client, service = app.test_client(), service_of(app)
    created = upload_track(client, new_session(client)["upload_session_id"])
    headers = bearer(create_key(app))
    upload = client.post(f"/v1/track/{created['track_id']}/cover", headers=headers).json["track_cover_upload"]
    for _ in range(3):
        clock.forward(2 * DAY)
        assert sweep_twice(service) == [(0, 0), (0, 0)]
    assert post_cover(upload, png()).ok
    clock.forward(2 * DAY)
    assert sweep_twice(service) == [(1, 1), (0, 0)]


def test_replacement_of_a_cover_survives_the_end_of_its_session(app, client, service, clock):
    """A cover that was sent to replace another is verified, though its session is swept before."""
    session_id = new_session(client, expires_in=60)["upload_session_id"]
    created = upload_track(client, session_id)
    headers = bearer(create_key(app))
    clock.forward(3500)
    upload = client.post(f"/v1/track/{created['track_id']}/cover", headers=headers).json["track_cover_upload"]
    assert post_cover(upload, png()).ok
    service.database.execute_sql("UPDATE loadbay_track SET cover_rejected_etag = NULL")
    sweeper._end_sessions(service, [row[0] for row in query(app, "SELECT seq FROM loadbay_upload_session")])
    clock.forward(3600)
    sweeper.sweep(service)
    clock.forward(3700)
    sweeper.sweep(service)
    track = client.get(f"/v1/track/{created['track_id']}", headers=headers).json["track"]
    assert track["cover"]["status"] == "uploaded"


def test_dry_run_deletes_nothing(app, client, service, count_rows):
    """A dry run counts the rows that would be deleted."""
    expire_session(app, new_session(client)["upload_session_id"])
    expire_session(app, mixed_session(client)["id"])
    rows = count_rows()
    sweeper.sweep(service, dry_run=True)
    assert count_rows() == rows
    query(app, "UPDATE loadbay_upload_session SET swept_at = 1000000001")
    query(app, "UPDATE loadbay_track SET status = 'expired' WHERE status = 'initialized'")
    assert counts(sweeper.sweep(service, dry_run=True)) == (1, 3)
    assert count_rows() == rows


def test_worker_walks_once_a_day_and_goes_on_after_an_interruption(app, client, service, count_rows, monkeypatch):
    """An interrupted walk is continued at once, from the page at which it stopped; a finished one a day later."""
    monkeypatch.setattr(retention, "PAGE", 2)
    for _ in range(7):
        expire_session(app, new_session(client)["upload_session_id"])
    seqs = [seq for (seq,) in query(app, "SELECT seq FROM loadbay_upload_session ORDER BY seq")]
    query(app, "UPDATE loadbay_upload_session SET swept_at = 1000000001")

    def stop_at_fourth(items, total):
        for number, item in enumerate(items):
            if number == 3:
                raise StorageUnavailable
            yield item

    with pytest.raises(StorageUnavailable):
        retention.apply(service, watch=stop_at_fourth)
    position = Job.select(Job.position).where(Job.name == retention.JOB).bind(service.database).scalar()
    assert position == seqs[1]
    assert retention.apply(service).sessions > 0
    assert count_rows()["upload_session"] == 0
    expire_session(app, new_session(client)["upload_session_id"])
    query(app, "UPDATE loadbay_upload_session SET swept_at = 1000000001")
    assert retention.apply(service).sessions == 0
    assert retention.apply(service, force=True).sessions == 1


@pytest.fixture
def changes(service, monkeypatch) -> list[int]:
    """The number of rows that each statement of the service changes."""
    execute_sql, numbers = type(service.database).execute_sql, list[int]()

    def record(self, sql, *args):
        cursor = execute_sql(self, sql, *args)
        if sql.split()[0] in ("DELETE", "UPDATE"):
            numbers.append(cursor.rowcount)
        return cursor

    monkeypatch.setattr(type(service.database), "execute_sql", record)
    return numbers


def test_transactions_are_small(app, client, service, monkeypatch, changes, count_rows, clock):
    """However many rows are due, a statement changes no more than its share of them."""
    monkeypatch.setattr(batches, "MAX_ROWS", 8)
    monkeypatch.setattr(batches, "FIRST_ROWS", 8)
    session_id = new_session(client)["upload_session_id"]
    tracks = {"tracks": [{"file_name": f"{number}.wav"} for number in range(50)]}
    for number in range(30):
        response = client.post(
            "/v1/upload_session", json={"collection_id": COLLECTION}, headers={"Idempotency-Key": f"key {number}"}
        )
        expire_session(app, response.json["upload_session_id"])
    assert client.post(f"/v1/upload/{session_id}/tracks", json=tracks).status_code == 200
    query(app, "UPDATE loadbay_track SET status = 'failed'")
    query(app, "UPDATE loadbay_idempotency_key SET created_at = 0")
    expire_session(app, session_id)
    changes.clear()
    assert sweeper.sweep(service).idempotency_keys_purged == 30
    clock.forward(30 * DAY)
    assert counts(sweeper.sweep(service)) == (31, 50)
    assert count_rows() == {"upload_session": 0, "track": 0}
    assert 0 < max(changes) <= 8


def test_pace_follows_the_duration_of_transactions(service, monkeypatch):
    """A transaction that takes long halves the number of rows of the next, a short one doubles it."""
    pace, sizes = batches.Pace(), list[int]()
    for seconds in (0.001, 0.001, 0.3, 0.3, 0.01, *[1.0] * 12, *[0.0] * 12):
        ticks = iter((0.0, seconds))
        monkeypatch.setattr(batches.time, "monotonic", lambda ticks=ticks: next(ticks))
        pace._observe(seconds)
        sizes.append(pace.rows)
    assert sizes[:5] == [100, 200, 100, 50, 50]
    assert (min(sizes), sizes[-1]) == (1, batches.MAX_ROWS)


def test_sweep_command_prints_what_was_deleted(app, client):
    """The command names the sessions that were deleted."""
    for _ in range(3):
        expire_session(app, new_session(client)["upload_session_id"])
    query(app, "UPDATE loadbay_upload_session SET swept_at = 1000000001")
    output = app.test_cli_runner().invoke(args=["sweep"]).output
    assert "sessions deleted: 3" in output
