"""`flask worker` as people run it: processes that are stopped, killed and run beside each other."""

from __future__ import annotations

import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
import requests

from app import create_app
from storage import jobs
from storage.db.models import Track, UploadSession
from storage.errors import StorageUnavailable
from storage.webhooks import outbox
from storage.worker import Worker
from support.api import count_tracks, new_session, new_track, track_url, upload_track
from support.crash_service import CrashableService
from support.database import outbox_rows
from support.processes import wait_until
from support.sample_files import wav
from support.webhook_receiver import drain

WORKER = ("flask", "--app", "app", "worker")


@pytest.fixture
def settings(settings):
    """A prefix of its own, so that a sweep sees only this test's objects."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


def many(client, service, count):
    """Events of that many tracks."""
    session_id = new_session(client)["upload_session_id"]
    created = [new_track(client, session_id, "a.wav") for _ in range(count)]
    ids = [track["track_id"] for track in created]
    Track.update(status="expired").where(Track.id.in_(ids)).execute(service.database)
    return ids


@pytest.fixture
def start_worker(processes, settings, tmp_path):
    """Run `flask worker` for the duration of a `with` block."""

    def start(name="worker", *options):
        env = {**settings, "CREATE_MISSING": "0"}
        return processes.start(*WORKER, *options, env=env, log=tmp_path / name)

    return start


def test_delivers_and_stops(client, service, receiver, webhook_secret, start_worker):
    """The worker delivers what happens while it runs, and stops at once when it has nothing to do."""
    with start_worker() as process:
        process.wait_for_output("Worker started")
        upload_track(client, new_session(client)["upload_session_id"])
        wait_until(lambda: receiver.accepted, "Nothing came.")
        assert receiver.accepted[0].verify(webhook_secret)["type"] == "track.uploaded"
        wait_until(lambda: not outbox_rows(service), "It was not forgotten.")
        began = time.monotonic()
        assert process.stop(signal.SIGINT) == 0, process.output()
        assert time.monotonic() - began < 5
    assert "(localhost): track.uploaded" in process.output()
    assert "Traceback" not in process.output()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_stopped_in_the_middle(client, service, receiver, webhook_secret, sign, start_worker):
    """A worker that is told to stop brings what it is delivering to its end, and begins nothing new."""
    going_on = threading.Event()
    receiver.respond = lambda handler, message: going_on.wait(20) and 204
    many(client, service, 6)
    with start_worker("worker", "--no-sweep") as process:
        wait_until(lambda: len(receiver.received) == outbox.MAX_IN_FLIGHT, "Nothing came.")
        process.process.send_signal(sign)
        time.sleep(0.5)
        assert process.process.poll() is None
        going_on.set()
        assert process.process.wait(15) == 0, process.output()
    assert len(receiver.received) == len(receiver.accepted) == outbox.MAX_IN_FLIGHT
    assert [row["attempts"] for row in outbox_rows(service)] == [0, 0]


def test_killed_in_the_middle(client, service, receiver, webhook_secret, worker, clock, start_worker):
    """What a killed worker was delivering is delivered again when its lease is over, and not before."""
    going_on = threading.Event()
    receiver.respond = lambda handler, message: going_on.wait(20) and 204
    ids = many(client, service, 3)
    with start_worker() as process:
        wait_until(lambda: len(receiver.received) == 3, "Nothing came.")
        process.process.kill()
        process.process.wait()
    going_on.set()
    receiver.respond = lambda handler, message: 204
    drain(worker)
    assert len(receiver.received) == 3
    clock.forward(outbox.LEASE_SECONDS + 1)
    drain(worker)
    assert len(receiver.received) == 6
    assert {message.data["track_id"] for message in receiver.received[3:]} == set(ids)
    assert {message.id for message in receiver.received[3:]} == {message.id for message in receiver.received[:3]}
    assert outbox_rows(service) == []


def test_two_workers_one_killed(client, service, receiver, webhook_secret, worker, clock, start_worker):
    """Two workers share the work: nothing is lost though one is killed, and what comes twice was in its hands."""
    chance = random.Random(7)
    receiver.respond = lambda handler, message: time.sleep(0.02) or (500 if chance.random() < 0.05 else 204)
    ids = many(client, service, 150)
    with start_worker("first") as first, start_worker("second") as second:
        wait_until(lambda: len(receiver.received) > 20, "Nothing came.")
        first.process.kill()
        first.process.wait()
        wait_until(lambda: len(receiver.accepted) > 90, "The other one does not go on.")
        assert second.stop(signal.SIGTERM) == 0, second.output()
    clock.forward(1000)
    receiver.respond = lambda handler, message: 204
    for _ in range(100):
        drain(worker)
        clock.forward(10)
    taken = [message.data["track_id"] for message in receiver.accepted]
    assert set(taken) == set(ids)
    assert len(taken) - len(set(taken)) <= outbox.MAX_IN_FLIGHT
    assert outbox_rows(service) == []


def test_two_workers_deliver_once(client, service, receiver, webhook_secret, start_worker):
    """While nobody is killed nothing is delivered twice."""
    with start_worker("first") as first, start_worker("second") as second:
        for each in (first, second):
            each.wait_for_output("Worker started")
        ids = many(client, service, 100)
        wait_until(lambda: not outbox_rows(service), "Not all is delivered.")
        assert [each.stop(signal.SIGTERM) for each in (first, second)] == [0, 0]
    assert sorted(message.data["track_id"] for message in receiver.received) == sorted(ids)


@pytest.mark.parametrize("point", ["finalize:before", "respond:before"])
def test_service_killed_at_the_change(settings, service, webhook_secret, point, tmp_path):
    """A service that is killed right before a change keeps no event, and right after it the one."""
    killable = CrashableService(settings)
    try:
        killable.start(point)
        created = killable.call("POST", "/v1/upload_session", collection_id=str(uuid4()), track={"file_name": "a.wav"})
        upload_url = created["track_upload"]["upload_url"]
        assert requests.put(upload_url, data=wav(), timeout=5).status_code == 200
        path = f"/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/complete"
        assert killable.call("POST", path) is None, "It should have died."
    finally:
        killable.kill()
    status = Track.select(Track.status).where(Track.id == created["track_id"]).tuples().execute(service.database)
    expected = {"finalize:before": ("initialized", []), "respond:before": ("uploaded", ["track.uploaded"])}[point]
    assert (next(iter(status))[0], [row["type"] for row in outbox_rows(service)]) == expected


def test_database_away_for_a_while(client, service, receiver, webhook_secret, start_worker):
    """A worker waits for a database that does not answer, and loses nothing of what it was delivering."""
    going_on = threading.Event()
    receiver.respond = lambda handler, message: going_on.wait(20) and 204
    many(client, service, 2)
    with start_worker() as process:
        wait_until(lambda: len(receiver.received) == 2, "Nothing came.")
        service.database.execute_sql("ALTER TABLE loadbay_webhook_delivery RENAME TO away")
        going_on.set()
        process.wait_for_output("Waiting for the database")
        service.database.execute_sql("ALTER TABLE away RENAME TO loadbay_webhook_delivery")
        process.wait_for_output("Database connection restored.")
        wait_until(lambda: not outbox_rows(service), "It was not settled.")
        assert len(receiver.received) == 2
        assert process.stop(signal.SIGTERM) == 0


def test_waits_for_its_tables(settings, make_database, processes, start_worker):
    """A worker that is started before the release has run waits for it."""
    settings["DATABASE_URL"] = make_database(empty=True)
    with start_worker() as process:
        process.wait_for_output("Waiting for the database and its tables")
        assert processes.run("flask", "--app", "app", "prepare", env=settings).returncode == 0
        process.wait_for_output("Database connection restored.")
        assert process.stop(signal.SIGTERM) == 0


# --- Sweeping --------------------------------------------------------------------------------------------------------


def test_sweeps(client, service, start_worker):
    """The worker sweeps when it is started, and so once in SWEEP_INTERVAL seconds."""
    session_id = new_session(client)["upload_session_id"]
    new_track(client, session_id)
    UploadSession.update(expires_at=1).execute(service.database)
    with start_worker() as process:
        process.wait_for_output("Sweep finished: sessions: 1, expired: 1")
        assert count_tracks(client, session_id) == {"expired": 1}
        assert process.stop(signal.SIGTERM) == 0
    assert not jobs.claim_job(service, "sweep", 3600)


def test_one_of_all_sweeps(service, clock):
    """However many workers ask, one of them sweeps, and the next time when it is time."""

    def ask(_):
        try:
            return jobs.claim_job(service, "sweep", 3600)
        finally:
            service.database.close()

    for expected in (1, 0):
        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(ask, range(32))) == expected
    clock.forward(3601)
    assert jobs.claim_job(service, "sweep", 3600)


def test_sweep_without_a_store(service, clock, monkeypatch, caplog):
    """A sweep that the store cuts short is tried again soon, and holds up no delivery."""

    def away(*args, **kwargs):
        raise StorageUnavailable

    monkeypatch.setattr("storage.worker.sweeper.sweep", away)
    worker = Worker([service])
    worker.step(0)
    wait_until(lambda: "will be retried" in caplog.text, "Nothing was said.")
    worker.stop()
    worker.run()
    assert not jobs.claim_job(service, "sweep", 3600)
    clock.forward(61)
    assert jobs.claim_job(service, "sweep", 3600)


def test_stopped_in_a_sweep(client, service, monkeypatch):
    """A worker that is stopped while it sweeps lets another one begin anew at once."""
    reached = threading.Event()
    session_id = new_session(client)["upload_session_id"]
    created = [new_track(client, session_id) for _ in range(3)]
    UploadSession.update(expires_at=1).execute(service.database)
    worker = Worker([service], notices=False)

    def look(*_):
        reached.set()
        worker.stopping.wait(10)

    monkeypatch.setattr(service.bucket, "stat_and_read", look)
    monkeypatch.setattr("storage.uploads.verification.CHUNK", 1)
    worker.step(0)
    assert reached.wait(10)
    worker.stop()
    worker.run()
    assert [client.get(track_url(session_id, track)).json["track"]["status"] for track in created].count(
        "initialized"
    ) == 2
    assert jobs.claim_job(service, "sweep", 3600)


# --- Commands --------------------------------------------------------------------------------------------------------


def test_commands(app, client, service, receiver, no_secrets_in_logs, worker, clock):
    """A webhook is added, tried, listed, replayed and removed by command."""

    def flask(*payload, status=0):
        result = app.test_cli_runner().invoke(args=["webhooks", *payload])
        assert result.exit_code == status, result.output
        return result.output

    added = flask("add", receiver.url)
    secret = added.split()[-1]
    id_ = added.partition("webhooks test ")[2].split()[0]
    assert secret.startswith("whsec_")
    assert "Delivered to localhost: status 204 after " in flask("test", id_)
    assert receiver.accepted[0].verify(secret)["data"] == {"webhook_id": id_}
    receiver.respond = lambda handler, message: 500
    assert "Error: Not delivered to localhost: response status 500." in flask("test", id_, status=1)
    upload_track(client, new_session(client)["upload_session_id"])
    listed = flask("list")
    assert id_ in listed
    assert "a-secret-of-the-url" not in listed
    assert secret not in listed
    assert listed.splitlines()[1].split()[2:5] == ["active", "1", "0"]
    while outbox.backlog(service)[0]:
        drain(worker)
        clock.forward(40_000)
    message_id = receiver.received[-1].id
    assert f"{message_id}  {id_}  track.uploaded" in flask("dead-letters")
    assert "failing since" in flask("list")
    assert "Requeued 1 of 2 deliveries" in flask("replay", message_id, "msg_unknown", status=1)
    assert "Requeued 0 deliveries" in flask("replay", "--all")
    flask("replay", status=2)
    flask("remove", id_)
    assert "No such webhook." in flask("remove", id_, status=1)
    assert len(flask("list").splitlines()) == 1
    assert outbox_rows(service) == []


def test_refused_urls(settings):
    """A URL that no webhook may have is refused; one that leads nowhere public is kept with a warning."""
    runner = create_app({**settings, "WEBHOOK_ALLOW_PRIVATE": ""}).test_cli_runner()
    for url in ("http://example.com/", "https://user:password@example.com/", "nonsense"):
        result = runner.invoke(args=["webhooks", "add", url])
        assert result.exit_code == 1
        assert "Error: url: must" in result.output
    result = runner.invoke(args=["webhooks", "add", "https://127.0.0.1/"])
    assert result.exit_code == 0
    assert "currently unreachable: the host has an address that is not public" in result.output
