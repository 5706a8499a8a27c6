"""Noticing of uploads by the worker alone: a client that knows the contract sends a PUT and nothing else."""

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
    """A prefix of its own, so that a listing sees only this test's objects."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


@pytest.fixture
def session_id(client: Any) -> str:
    """An open session."""
    return str(new_session(client)["upload_session_id"])


@pytest.fixture
def store_calls(service: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations of the store that the service calls, in order."""
    calls: list[str] = []
    monkeypatch.setattr(service.bucket, "_observer", lambda operation, outcome, seconds: calls.append(operation))
    return calls


def poll(service: Any, **options: Any) -> polling.PollSummary:
    """Poll once."""
    return polling.poll(service, lambda: None, **options)


def test_worker_notices_a_put_and_nothing_else(client, settings, bucket, processes, tmp_path):
    """Without `complete` and without events a file is final within a minute, whichever way it was uploaded."""
    session_id = new_session(client)["upload_session_id"]
    body = wav(0.1)
    plain, bad = new_track(client, session_id, "a.wav"), new_track(client, session_id, "b.wav")
    once = new_track(client, session_id, "c.wav", write_once=True)
    parts = new_track(client, session_id, "d.wav", file_size=len(body), multipart=True)
    never = new_track(client, session_id, "e.wav")
    bucket.s3.put_object(Bucket=BUCKET, Key=staged_key(plain["track_upload"]).rpartition("/")[0] + "/odd", Body=b"x")
    env = {**settings, "CREATE_MISSING": "0"}
    with processes.start("flask", "--app", "app", "worker", env=env, log=tmp_path / "worker") as process:
        process.wait_for_output("Worker started")
        began = time.monotonic()
        put(plain["track_upload"], wav())
        put(bad["track_upload"], HTML)
        put(once["track_upload"], wav())
        part = parts["track_multipart_upload"]["parts"][0]
        put({"upload_url": part["upload_url"], "headers": part["headers"]}, body)
        expected = {"uploaded": 3, "failed": 1, "initialized": 1}
        wait_until(lambda: count_tracks(client, session_id) == expected, "The worker did not notice all.")
        assert time.monotonic() - began < 60
        assert process.stop(signal.SIGTERM) == 0, process.output()
    assert bucket.get(plain["track"]["path"]) == wav()
    assert client.get(track_url(session_id, never)).json["track"]["status"] == "initialized"
    assert "Traceback" not in process.output()


def test_cover_follows_its_track(client, service, session_id, store_calls):
    """A cover is noticed after its track; one that was rejected is not requested at each poll."""
    made = new_track(client, session_id, "a.wav")
    post_cover(made["track_cover_upload"], png(), "image/png")
    assert str(poll(service)) == ""
    assert store_calls == ["ListObjectsV2"]
    put(made["track_upload"], wav())
    assert poll(service).uploaded == 1
    assert client.get(track_url(session_id, made)).json["track"]["cover"]["status"] == "uploaded"
    rejected = new_track(client, session_id, "b.wav")
    put(rejected["track_upload"], wav())
    post_cover(rejected["track_cover_upload"], HTML, "image/png")
    poll(service)
    store_calls.clear()
    poll(service)
    assert store_calls == ["ListObjectsV2"]


def test_cost_depends_on_arrivals(client, service, session_id, store_calls):
    """A poll lists once, whatever is pending, and asks by key for direct tracks alone, old ones less often."""
    for number in range(5):
        new_track(client, session_id, f"{number}.wav")
    direct = new_track(client, session_id, "direct.wav", write_once=True)
    poll(service, include_old=False)
    assert store_calls == ["ListObjectsV2", "GetObject"]
    Track.update(created_at=clock_now() - polling.YOUNG_SECONDS - 1).execute(service.database)
    store_calls.clear()
    poll(service, include_old=False)
    assert store_calls == ["ListObjectsV2"]
    put(direct["track_upload"], wav())
    assert poll(service, include_old=False).uploaded == 0
    assert poll(service).uploaded == 1


@pytest.mark.sqlite
def test_pending_direct_tracks_are_found_by_their_index(client, service, session_id):
    """The search for direct tracks does not read those that are final."""
    plan = f"EXPLAIN QUERY PLAN {polling.DIRECT}"
    lines = " ".join(str(row) for row in service.execute(plan, (2**62, 0, 10)).fetchall())
    assert "loadbay_track_pending_direct" in lines


def test_late_arrivals_are_removed(client, service, bucket, session_id, settings):
    """What is uploaded to the staging key of a final track is removed by the next poll, and the file stays."""
    made = new_track(client, session_id, "a.wav")
    put(made["track_upload"], wav())
    path = complete(client, session_id, made)["path"]
    poll(service)
    put(made["track_upload"], wav(seed=2))
    assert poll(service).removed == 1
    assert bucket.keys(settings["S3_PREFIX"]) == [path]
    assert bucket.get(path) == wav()


def test_strange_objects_stop_nothing(client, service, bucket, session_id, settings):
    """Objects that the service did not make are left, and the uploads beside them are noticed."""
    made = new_track(client, session_id, "z.wav")
    folder = staged_key(made["track_upload"]).rpartition("/")[0]
    index = new_uuid7_and_index()[1]
    strangers = [f"{folder}/{name}" for name in ("%00", f"{index}.0", f"{index}.99999999999", f"{index}.0.cover", "ä")]
    for key in strangers:
        bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    put(made["track_upload"], wav())
    assert poll(service).uploaded == 1
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == sorted([made["track"]["path"], *strangers])


def test_fault_of_one_track_is_passed(client, service, session_id, monkeypatch, caplog):
    """A track whose verification raises is logged with its id, and the others are final."""
    made = [new_track(client, session_id, f"{number}.wav") for number in range(4)]
    for track in made:
        put(track["track_upload"], wav())
    verify, culprit = verification.verify, made[1]["track_id"]

    def faulty(service, rows, **options):
        if any(row["id"] == culprit for row in rows):
            raise RuntimeError("a fault")
        return verify(service, rows, **options)

    monkeypatch.setattr("storage.uploads.verification.verify", faulty)
    assert poll(service).uploaded == 3
    assert f"Verification of track {culprit} failed: RuntimeError" in caplog.text


def test_outage_is_logged_once(service, monkeypatch, caplog):
    """While the store is unreachable each poll ends, and only the first says so."""

    def unreachable(*_: object, **__: object) -> None:
        raise StorageUnavailable

    caplog.set_level(logging.INFO)
    worker = Worker([service], sweeps=False)
    job = worker._jobs(service)[0]
    with monkeypatch.context() as patch:
        patch.setattr(service.bucket, "list_page", unreachable)
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
    """Bytes that a verification chose, and did not copy, are brought to their end after its lease."""
    made = new_track(client, session_id, "a.wav")
    put(made["track_upload"], wav())
    (row,) = tracks.read_many(service, [made["track_id"]])
    etag = bucket.head(staged_key(made["track_upload"]))["ETag"].strip('"')
    tracks.update(
        service, row, "attempt = ?", (0,),
        {"chosen_source": "incoming", "chosen_etag": etag, "size": len(wav()), "lease": str(uuid4()),
         "lease_expires_at": clock_now() + 30},
    )  # fmt: skip
    assert polling.resume(service, lambda: None).uploaded == 0
    clock.forward(31)
    assert polling.resume(service, lambda: None).uploaded == 1
    assert bucket.get(made["track"]["path"]) == wav()


def test_service_says_that_no_worker_runs(client, service, caplog):
    """A process logs once what is missing without a worker, and nothing where one has run lately."""
    new_session(client)
    service.worker_check_at = 0.0
    for _ in range(2):
        new_session(client)
    assert caplog.text.count("No 'flask worker' has run") == 1
    jobs.claim_job(service, "poll", 0)
    service.worker_check_at = 0.0
    new_session(client)
    assert caplog.text.count("No 'flask worker' has run") == 1
