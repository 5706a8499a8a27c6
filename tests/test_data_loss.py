"""Unknown objects are kept: with a new database, with a restored one, and beside another deployment."""

from __future__ import annotations

import shutil
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from app import create_app
from storage.ids import new_uuid7_and_index
from storage.noticing import polling
from storage.uploads import arrivals, removals, staging, sweeper
from support.api import complete, expire_session, new_session, new_track, service_of, track_url
from support.sample_files import HTML, png, wav
from support.store import BUCKET, Bucket, post_cover, put


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with a prefix of the test's own, which its deployments share."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


@pytest.fixture
def other_app(settings, make_database) -> Flask:
    """Another deployment on the same bucket and prefix, with a database of its own."""
    return create_app({**settings, "DATABASE_URL": make_database()})


def upload_tracks(app: Flask) -> str:
    """Upload tracks in every mode and to every final status; return the session's id."""
    client = app.test_client()
    session_id = new_session(client)["upload_session_id"]
    for options in ({}, {"write_once": True}, {"multipart": True, "file_size": len(wav())}):
        for verified in (True, False):
            created = new_track(client, session_id, "a.wav", **options)
            parts = created["track_multipart_upload"]
            put(parts["parts"][0] if parts else created["track_upload"], wav())
            post_cover(created["track_cover_upload"], png(), "image/png")
            if verified:
                assert complete(client, session_id, created)["cover"]["status"] == "uploaded"
    failed, cancelled = new_track(client, session_id, "a.mp3", write_once=True), new_track(client, session_id, "b.wav")
    put(failed["track_upload"], HTML)
    assert complete(client, session_id, failed)["status"] == "failed"
    put(cancelled["track_upload"], wav())
    client.delete(track_url(session_id, cancelled))
    return session_id


def remove_objects(app: Flask) -> None:
    """Run everything that removes objects: a worker's poll, sweeps, and the command."""
    service = service_of(app)
    polling.poll(service, lambda: None)
    polling.resume(service, lambda: None)
    for _ in range(2):
        sweeper.sweep(service)
    removals.work_off(service)
    assert app.test_cli_runner().invoke(args=["sweep"]).exit_code == 0


@pytest.fixture
def long_after(monkeypatch):
    """A grace period that makes every object in the bucket older than any session."""
    monkeypatch.setattr(arrivals, "UNKNOWN_GRACE", -3600)


def test_new_database_removes_nothing(app, other_app, bucket, settings, long_after):
    """A service with a new database removes no object that an earlier database knows."""
    upload_tracks(app)
    keys_before = bucket.keys(settings["S3_PREFIX"])
    assert len(keys_before) > 10
    remove_objects(other_app)
    assert bucket.keys(settings["S3_PREFIX"]) == keys_before


def test_deployments_share_a_bucket(app, other_app, bucket, settings, clock):
    """Two deployments with one bucket and prefix remove their own objects, and keep each other's."""
    sessions = [(deployment, upload_tracks(deployment)) for deployment in (app, other_app)]
    for deployment, session_id in sessions:
        expire_session(deployment, session_id)
    clock.forward(2 * staging.LATE_UPLOAD_GRACE)
    for deployment, _ in sessions:
        remove_objects(deployment)
    expected_keys = [key for deployment, session_id in sessions for key in verified_keys(deployment, session_id)]
    assert len(expected_keys) == 2 * 12
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == sorted(expected_keys)


def verified_keys(app: Flask, session_id: str) -> list[str]:
    """Return the keys that a session's tracks name."""
    closed = app.test_client().post(f"/v1/upload_session/{session_id}/close").json
    tracks = [track for track in closed["manifest"]["tracks"] if track["status"] == "uploaded"]
    return [track["path"] for track in tracks] + [track["cover"]["path"] for track in tracks]


def test_keeps_foreign_objects(app, bucket, settings, long_after):
    """Objects with keys like the service's own are kept."""
    index, prefix = new_uuid7_and_index()[1], settings["S3_PREFIX"]
    deployment = service_of(app).deployment_id
    names = [f"{uuid4()}/{index}/a.wav", f"{uuid4()}/{index}.cover", f"{uuid4()}/{'x' * 22}/song.mp3", "readme.txt"]
    names += [f"incoming/{index}.0", f"incoming/{'A' * 22}/{index}.0", f"incoming/{deployment}", f"x/incoming/{index}"]
    foreign = [prefix + name for name in names]
    for key in foreign:
        bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=b"mine")
    session_id = upload_tracks(app)
    expire_session(app, session_id)
    remove_objects(app)
    assert sorted(bucket.keys(prefix)) == sorted([*foreign, *verified_keys(app, session_id)])


@pytest.mark.sqlite
def test_restored_database_removes_no_verified_file(app, bucket: Bucket, settings, tmp_path, clock, long_after):
    """A database from before the uploads expires its tracks, but keeps their files."""
    client, path = app.test_client(), settings["DATABASE_URL"].removeprefix("sqlite:///")
    session_id = new_session(client)["upload_session_id"]
    options = ({}, {"write_once": True}, {"multipart": True, "file_size": len(wav())})
    created = [new_track(client, session_id, "a.wav", **track_options) for track_options in options]
    failed = new_track(client, session_id, "b.wav", write_once=True)
    put(failed["track_upload"], HTML)
    assert complete(client, session_id, failed)["status"] == "failed"
    service_of(app).database.checkpoint()
    backup = shutil.copy(path, tmp_path / "backup.db")
    # Life after the backup.
    for track in created:
        parts = track["track_multipart_upload"]
        put(parts["parts"][0] if parts else track["track_upload"], wav())
        post_cover(track["track_cover_upload"], png(), "image/png")
        assert complete(client, session_id, track)["status"] == "uploaded"
    put(client.post(track_url(session_id, failed, "renew")).json["track_upload"], wav())
    assert complete(client, session_id, failed)["status"] == "uploaded"
    later = new_track(client, session_id, "c.wav")
    put(later["track_upload"], wav())
    assert complete(client, session_id, later)["status"] == "uploaded"
    removals.work_off(service_of(app))
    files = {key: bucket.get(key) for key in bucket.keys(settings["S3_PREFIX"])}
    assert {track["track"]["path"] for track in (*created, failed, later)} <= files.keys()
    # The restored database is older than all of that.
    restored = create_app({**settings, "DATABASE_URL": f"sqlite:///{backup}"})
    for _ in range(2):
        remove_objects(restored)
        expire_session(restored, session_id)
        clock.forward(2 * staging.LATE_UPLOAD_GRACE)
    assert {key: bucket.get(key) for key in bucket.keys(settings["S3_PREFIX"])} == files
