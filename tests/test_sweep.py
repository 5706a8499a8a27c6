"""`flask sweep`: expires tracks, removes orphaned objects, and keeps uploaded ones."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from storage.errors import StorageUnavailable
from storage.ids import new_uuid7_and_index
from storage.uploads import arrivals, idempotency, staging, sweeper
from support.api import complete, count_tracks, expire_session, new_session, new_track, track_url
from support.sample_files import HTML, png, wav
from support.store import BUCKET, post_cover, put, staged_key


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with a prefix of the test's own, so that a sweep sees no other objects."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


@pytest.fixture
def session_id(client: Any) -> str:
    """The id of an open session."""
    return str(new_session(client)["upload_session_id"])


def sweep(app: Flask, **options: Any) -> sweeper.SweepSummary:
    """Run one sweep."""
    return sweeper.sweep(app.extensions["loadbay"]["loadbay"], **options)


def test_finalizes_the_tracks_of_an_expired_session(app, client, bucket, session_id, settings):
    """Missing uploads expire, uploads that were not completed are verified, and invalid ones fail."""
    missing, uncompleted, invalid = (new_track(client, session_id, name) for name in ("a.wav", "b.wav", "c.wav"))
    put(uncompleted["track_upload"], wav())
    post_cover(uncompleted["track_cover_upload"], png(), "image/png")
    put(invalid["track_upload"], HTML)
    post_cover(missing["track_cover_upload"], png())
    expire_session(app, session_id)
    summary = sweep(app)
    assert (summary.sessions, summary.expired, summary.uploaded, summary.failed) == (1, 1, 1, 1)
    assert count_tracks(client, session_id) == {"expired": 1, "uploaded": 1, "failed": 1}
    track = client.get(track_url(session_id, uncompleted)).json["track"]
    assert track["path"] == uncompleted["track"]["path"]
    assert bucket.get(track["path"]) == wav()
    assert track["cover"]["status"] == "uploaded"
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == sorted([track["path"], track["cover"]["path"]])
    assert sweep(app).lines() == []


def test_ignores_open_sessions(app, client, bucket, session_id, settings):
    """A sweep changes nothing in open sessions."""
    pending, uploaded = new_track(client, session_id, "a.wav"), new_track(client, session_id, "b.wav")
    parts = new_track(client, session_id, "c.wav", file_size=6 * 2**20, multipart=True)
    put(pending["track_upload"], wav())
    put(uploaded["track_upload"], wav())
    post_cover(uploaded["track_cover_upload"], png())
    complete(client, session_id, uploaded)
    summary = sweep(app)
    # What was copied from staging is all that goes.
    assert (summary.objects_removed, summary.lines()) == (2, ["objects removed: 2"])
    assert sweep(app).lines() == []
    assert len(bucket.keys(settings["S3_PREFIX"])) == 3
    assert count_tracks(client, session_id) == {"initialized": 2, "uploaded": 1}
    assert client.get(track_url(session_id, parts, "parts")).status_code == 200
    uploads = bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=settings["S3_PREFIX"])["Uploads"]
    assert [upload["Key"] for upload in uploads] == [parts["track"]["path"]]


def test_waits_for_uploads_in_progress(app, client, bucket, clock):
    """An upload that was in progress when its session ended may finish within an hour."""
    session_id = new_session(client, expires_in=60)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    clock.forward(60 + staging.LATE_UPLOAD_GRACE - 30)
    assert sweep(app).sessions == 0
    put(created["track_upload"], wav())
    track = complete(client, session_id, created)
    assert (track["status"], bucket.get(track["path"])) == ("uploaded", wav())
    assert put(created["track_upload"], wav(seed=1)).status_code == 200
    assert bucket.get(track["path"]) == wav()
    clock.forward(60)
    assert sweep(app).sessions == 1


def test_dry_run_changes_nothing(app, client, bucket, session_id, settings):
    """A dry run reports the changes without making them."""
    stored = new_track(client, session_id, "a.wav")
    new_track(client, session_id, "b.wav")
    put(stored["track_upload"], wav())
    expire_session(app, session_id)
    summary = sweep(app, dry_run=True)
    assert (summary.sessions, summary.uploaded, summary.expired) == (1, 1, 1)
    assert count_tracks(client, session_id) == {"initialized": 2}
    assert bucket.keys(settings["S3_PREFIX"]) == [staged_key(stored["track_upload"])]


def test_removes_late_uploads(app, client, bucket, session_id, settings):
    """Uploads to the staging keys of final tracks are removed; all other objects of the prefix are kept."""
    cancelled, done = new_track(client, session_id, "a.wav"), new_track(client, session_id, "b.wav")
    put(done["track_upload"], wav())
    track = complete(client, session_id, done)
    client.delete(track_url(session_id, cancelled))
    put(cancelled["track_upload"], wav())
    put(done["track_upload"], wav(seed=2))
    strangers = [
        f"{settings['S3_PREFIX']}{name}" for name in ("readme.txt", f"{uuid4()}/{new_uuid7_and_index()[1]}/a.wav")
    ]
    for key in strangers:
        bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    assert sweep(app).objects_removed >= 2
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == sorted([track["path"], *strangers])


def test_removes_unknown_uploads_after_two_days(app, service, bucket, settings, monkeypatch):
    """An unknown object in our staging folder is removed once it is older than any session."""
    index, prefix = new_uuid7_and_index()[1], settings["S3_PREFIX"]
    ours = f"{prefix}incoming/{service.deployment_id}/{index}.0"
    others = [f"{prefix}incoming/{'A' * 22}/{index}.0", f"{prefix}{uuid4()}/{index}/a.wav"]
    for key in (ours, *others):
        bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    assert sweep(app).objects_removed == 0
    monkeypatch.setattr(arrivals, "UNKNOWN_GRACE", -2)
    assert sweep(app).objects_removed == 1
    assert sorted(bucket.keys(prefix)) == sorted(others)


def test_aborts_stale_multipart_uploads(app, client, bucket, session_id, settings):
    """An incomplete multipart upload is aborted; a complete one is finished."""
    body = wav(0.1)
    incomplete = new_track(client, session_id, "a.wav", file_size=6 * 2**20, multipart=True)
    full = new_track(client, session_id, "b.wav", file_size=len(body), multipart=True)
    part = full["track_multipart_upload"]["parts"][0]
    put({"upload_url": part["upload_url"], "headers": part["headers"]}, body)
    expire_session(app, session_id)
    sweep(app)
    assert count_tracks(client, session_id) == {"expired": 1, "uploaded": 1}
    assert bucket.keys(settings["S3_PREFIX"]) == [full["track"]["path"]]
    assert "Uploads" not in bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=incomplete["track"]["path"])


def test_concurrent_sweeps_do_the_work_once(app, client, bucket, settings):
    """Two concurrent sweeps do the work of one."""
    for _ in range(3):
        session_id = new_session(client)["upload_session_id"]
        for number in range(4):
            created = new_track(client, session_id, f"{number}.wav")
            if number % 2:
                put(created["track_upload"], wav())
        expire_session(app, session_id)
    summaries: list[sweeper.SweepSummary] = []
    threads = [threading.Thread(target=lambda: summaries.append(sweep(app))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(summaries) == 2
    assert sum(summary.expired for summary in summaries) == 6
    assert count_tracks(client, session_id) == {"expired": 2, "uploaded": 2}
    assert len(bucket.keys(settings["S3_PREFIX"])) == 6


def test_purges_old_idempotency_keys(app, client, session_id, monkeypatch):
    """Idempotency keys are purged after a day."""
    client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a"}, headers={"Idempotency-Key": "k"})
    assert sweep(app).idempotency_keys_purged == 0
    monkeypatch.setattr(idempotency, "TTL_SECONDS", -1)
    assert sweep(app).idempotency_keys_purged == 1


def test_command_prints_the_counts(app, client, session_id):
    """The command prints a line for each count."""
    new_track(client, session_id)
    expire_session(app, session_id)
    runner = app.test_cli_runner()
    assert "expired: 1" in runner.invoke(args=["sweep", "--dry-run"]).output
    assert "expired: 1" in runner.invoke(args=["sweep"]).output
    assert "Nothing to do." in runner.invoke(args=["sweep"]).output


def test_command_fails_without_the_store(app, client, session_id, monkeypatch):
    """Without the store, the command fails, and no track expires."""

    def fail(*_: object) -> None:
        raise StorageUnavailable

    new_track(client, session_id)
    expire_session(app, session_id)
    for call in ("stat_and_read", "exists"):
        monkeypatch.setattr(app.extensions["loadbay"]["loadbay"].bucket, call, fail)
    result = app.test_cli_runner().invoke(args=["sweep"])
    assert result.exit_code == 1
    assert "store" in result.output
    assert count_tracks(client, session_id) == {"initialized": 1}
