"""Detection of uploads by the worker alone, for clients that send a PUT and nothing else."""

from __future__ import annotations

import logging
import signal
import time
from typing import Any
from uuid import uuid4

import pytest

from storage import jobs
from storage.clock import now as clock_now
from storage.db.models import Track
from storage.errors import StorageUnavailable
from storage.ids import new_uuid7_and_index
from storage.noticing import polling
from storage.uploads import tracks, verification
from storage.worker import Worker
from support.api import complete, count_tracks, new_session, new_track, track_url
from support.processes import wait_until
from support.sample_files import HTML, png, wav
from support.store import BUCKET, post_cover, put, staged_key


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with a prefix of the test's own, so that a listing sees no other objects."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


@pytest.fixture
def session_id(client: Any) -> str:
    """The id of an open session."""
    return str(new_session(client)["upload_session_id"])


@pytest.fixture
def store_calls(service: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations of the store that the service calls, in order."""
    calls: list[str] = []
    monkeypatch.setattr(service.bucket, "_observer", lambda operation, outcome, seconds: calls.append(operation))
    return calls


def poll_once(service: Any, **options: Any) -> polling.PollSummary:
    """Poll once, and return the summary."""
    return polling.poll(service, lambda: None, **options)


def test_outage_ends_a_poll_of_several_chunks(client, service, session_id, monkeypatch):
    """A poll ends with the error of a store that is unreachable, which is no track's fault."""
    monkeypatch.setattr(verification, "CHUNK", 2)
    created = [new_track(client, session_id, "a.wav") for _ in range(9)]
    for track in created:
        put(track["track_upload"], wav())

    def fail(*_, **__):
        raise StorageUnavailable

    monkeypatch.setattr(service.bucket, "stat_and_read", fail)
    monkeypatch.setattr(service.bucket, "exists", fail)
    with pytest.raises(StorageUnavailable):
        poll_once(service)
    assert count_tracks(client, session_id) == {"initialized": 9}


def test_worker_detects_uploads_without_any_request(client, settings, bucket, processes, tmp_path):
    """Without `complete` and without events, an upload of any mode is verified within a minute."""
    session_id = new_session(client)["upload_session_id"]
    body = wav(0.1)
    plain, bad = new_track(client, session_id, "a.wav"), new_track(client, session_id, "b.wav")
    once = new_track(client, session_id, "c.wav", write_once=True)
    parts = new_track(client, session_id, "d.wav", file_size=len(body), multipart=True)
    missing = new_track(client, session_id, "e.wav")
    bucket.s3.put_object(Bucket=BUCKET, Key=staged_key(plain["track_upload"]).rpartition("/")[0] + "/odd", Body=b"x")
    env = {**settings, "CREATE_MISSING": "0"}
    with processes.start("flask", "--app", "app", "worker", env=env, log=tmp_path / "worker") as process:
        process.wait_for_output("Worker started")
        started = time.monotonic()
        put(plain["track_upload"], wav())
        put(bad["track_upload"], HTML)
        put(once["track_upload"], wav())
        part = parts["track_multipart_upload"]["parts"][0]
        put({"upload_url": part["upload_url"], "headers": part["headers"]}, body)
        expected = {"uploaded": 3, "failed": 1, "initialized": 1}
        wait_until(lambda: count_tracks(client, session_id) == expected, "The worker has not detected all uploads.")
        assert time.monotonic() - started < 60
        assert process.stop(signal.SIGTERM) == 0, process.output()
    assert bucket.get(plain["track"]["path"]) == wav()
    assert client.get(track_url(session_id, missing)).json["track"]["status"] == "initialized"
    assert "Traceback" not in process.output()


def test_covers_are_verified_after_their_track(client, service, session_id, store_calls):
    """A cover is detected after its track; a rejected one is not read again at each poll."""
    created = new_track(client, session_id, "a.wav")
    post_cover(created["track_cover_upload"], png(), "image/png")
    assert str(poll_once(service)) == ""
    assert store_calls == ["ListObjectsV2"]
    put(created["track_upload"], wav())
    assert poll_once(service).uploaded == 1
    assert client.get(track_url(session_id, created)).json["track"]["cover"]["status"] == "uploaded"
    rejected = new_track(client, session_id, "b.wav")
    put(rejected["track_upload"], wav())
    post_cover(rejected["track_cover_upload"], HTML, "image/png")
    poll_once(service)
    store_calls.clear()
    poll_once(service)
    assert store_calls == ["ListObjectsV2"]


def test_cost_of_a_poll_depends_on_uploads(client, service, session_id, store_calls):
    """A poll lists once, whatever is pending, and reads by key for direct tracks only, old ones less often."""
    for number in range(5):
        new_track(client, session_id, f"{number}.wav")
    direct = new_track(client, session_id, "direct.wav", write_once=True)
    poll_once(service, include_old=False)
    assert store_calls == ["ListObjectsV2", "GetObject"]
    Track.update(created_at=clock_now() - polling.YOUNG_SECONDS - 1).execute(service.database)
    store_calls.clear()
    poll_once(service, include_old=False)
    assert store_calls == ["ListObjectsV2"]
    put(direct["track_upload"], wav())
    assert poll_once(service, include_old=False).uploaded == 0
    Track.update(created_at=clock_now() - polling.OLD_SECONDS - 1).execute(service.database)
    store_calls.clear()
    assert poll_once(service, include_oldest=False).uploaded == 0
    assert store_calls == ["ListObjectsV2"]
    assert poll_once(service).uploaded == 1


@pytest.mark.sqlite
def test_pending_direct_tracks_are_found_by_their_index(client, service, session_id):
    """The query for pending direct tracks uses their index."""
    plan = f"EXPLAIN QUERY PLAN {polling.DIRECT}"
    lines = " ".join(str(row) for row in service.execute(plan, (2**62, 0, 10)).fetchall())
    assert "loadbay_track_pending_direct" in lines


def test_removes_late_uploads(client, service, bucket, session_id, settings):
    """A late upload to the staging key of a final track is removed by the next poll, and the file is kept."""
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    path = complete(client, session_id, created)["path"]
    poll_once(service)
    put(created["track_upload"], wav(seed=2))
    assert poll_once(service).removed == 1
    assert bucket.keys(settings["S3_PREFIX"]) == [path]
    assert bucket.get(path) == wav()


def test_ignores_foreign_objects(client, service, bucket, session_id, settings):
    """Foreign objects are kept, and the uploads beside them are detected."""
    created = new_track(client, session_id, "z.wav")
    folder = staged_key(created["track_upload"]).rpartition("/")[0]
    index = new_uuid7_and_index()[1]
    foreign = [f"{folder}/{name}" for name in ("%00", f"{index}.0", f"{index}.99999999999", f"{index}.0.cover", "ä")]
    for key in foreign:
        bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    put(created["track_upload"], wav())
    assert poll_once(service).uploaded == 1
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == sorted([created["track"]["path"], *foreign])


def test_failed_verification_stops_no_others(client, service, session_id, monkeypatch, caplog):
    """A verification that raises is logged with its track's id, and the others become final."""
    created = [new_track(client, session_id, f"{number}.wav") for number in range(4)]
    for track in created:
        put(track["track_upload"], wav())
    verify, culprit = verification.verify, created[1]["track_id"]

    def faulty(service, rows, **options):
        if any(row["id"] == culprit for row in rows):
            raise RuntimeError("a fault")
        return verify(service, rows, **options)

    monkeypatch.setattr("storage.uploads.verification.verify", faulty)
    assert poll_once(service).uploaded == 3
    assert f"Verification of track {culprit} failed: RuntimeError" in caplog.text


def test_outage_is_logged_once(service, monkeypatch, caplog):
    """While the store is unreachable, every poll ends, and only the first is logged."""

    def unreachable(*_: object, **__: object) -> None:
        raise StorageUnavailable

    caplog.set_level(logging.INFO)
    worker = Worker([service], sweeps=False)
    job = worker._jobs(service)[0]
    with monkeypatch.context() as patch:
        patch.setattr(service.bucket, "list_pages", unreachable)
        for _ in range(3):
            worker._run_job(service, job)
    worker._run_job(service, job)
    assert caplog.text.count("Poll interrupted") == 1
    assert caplog.text.count("answers again") == 1


def test_one_worker_polls_at_a_time(client, service, session_id, clock):
    """The job is claimed for JOB_LEASE seconds, and due again NOTICE_INTERVAL seconds after its end."""
    worker = Worker([service], sweeps=False)
    assert jobs.claim_job(service, "poll", 120)
    assert not jobs.claim_job(service, "poll", 120)
    worker._run_job(service, worker._jobs(service)[0])
    assert not jobs.claim_job(service, "poll", 120)
    clock.forward(11)
    assert jobs.claim_job(service, "poll", 120)


def test_resumes_an_abandoned_verification(client, service, bucket, session_id, clock):
    """Bytes that a verification chose but did not copy are verified again after its lease."""
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    (row,) = tracks.read_many(service, [created["track_id"]])
    etag = bucket.head(staged_key(created["track_upload"]))["ETag"].strip('"')
    tracks.update(
        service, row, "attempt = ?", (0,),
        {"chosen_source": "incoming", "chosen_etag": etag, "size": len(wav()), "lease": str(uuid4()),
         "lease_expires_at": clock_now() + 30},
    )  # fmt: skip
    assert polling.resume(service, lambda: None).uploaded == 0
    clock.forward(31)
    assert polling.resume(service, lambda: None).uploaded == 1
    assert bucket.get(created["track"]["path"]) == wav()


def test_logs_once_that_no_worker_runs(client, service, caplog):
    """A process logs once that no worker runs, and nothing if one has run lately."""
    new_session(client)
    service.worker_check_at = 0.0
    for _ in range(2):
        new_session(client)
    assert caplog.text.count("No 'flask --app app worker' has run") == 1
    jobs.claim_job(service, "poll", 0)
    service.worker_check_at = 0.0
    new_session(client)
    assert caplog.text.count("No 'flask --app app worker' has run") == 1
