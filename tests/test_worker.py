"""`flask worker` as a process: stopping, killing, and several workers at once."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
import requests

from app import create_app
from commands.worker import NICENESS
from storage import jobs
from storage.db.models import Track, UploadSession
from storage.errors import StorageUnavailable
from storage.webhooks import outbox
from storage.worker import Worker
from support.api import count_tracks, new_session, new_track, track_url, upload_track
from support.crash_service import CrashableService
from support.database import outbox_rows, run_statement
from support.processes import ROOT, wait_until
from support.sample_files import wav
from support.webhook_receiver import drain

WORKER = ("flask", "--app", "app", "worker")


@pytest.fixture
def settings(settings):
    """Settings with a prefix of the test's own, so that a sweep sees no other objects."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


def create_events(client, service, count):
    """Create the events of that many tracks, and return the tracks' ids."""
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


def test_delivers_events_and_stops_when_idle(client, service, receiver, webhook_secret, start_worker):
    """A worker delivers events while it runs, and stops at once when it is idle."""
    with start_worker() as process:
        process.wait_for_output("Worker started")
        upload_track(client, new_session(client)["upload_session_id"])
        wait_until(lambda: receiver.accepted, "No event is delivered.")
        assert receiver.accepted[0].verify(webhook_secret)["type"] == "track.uploaded"
        wait_until(lambda: not outbox_rows(service), "The event remains in the outbox.")
        started = time.monotonic()
        assert process.stop(signal.SIGINT) == 0, process.output()
        assert time.monotonic() - started < 15
    assert "(localhost): track.uploaded" in process.output()
    assert "Traceback" not in process.output()


HANGING_HOST = """
import time
from app import create_app
from storage import worker
from storage.webhooks import signals

worker.DELIVERY_GRACE = 0.5

@signals.track_uploaded.connect
def receive(_service, **_event):
    print("Called.", flush=True)
    time.sleep(600)

app = create_app()
"""


def test_stops_though_a_receiver_hangs(settings, processes, tmp_path):
    """A worker whose host's receiver does not return stops all the same, and says that it is called again."""
    (tmp_path / "host.py").write_text(HANGING_HOST)
    settings = {**settings, "SIGNALS": "1"}
    client = create_app(settings).test_client()
    upload_track(client, new_session(client)["upload_session_id"])
    command, env = ("flask", "--app", str(tmp_path / "host.py"), "worker"), {**settings, "PYTHONPATH": str(ROOT)}
    with processes.start(*command, env=env, log=tmp_path / "log") as process:
        process.wait_for_output("Called.")
        assert process.stop(signal.SIGTERM) == 0
    assert "Deliveries that are not finished, and will be sent again: 1" in process.output()
    ((due_at,),) = run_statement(settings["DATABASE_URL"], "SELECT due_at FROM loadbay_webhook_delivery")
    assert due_at > time.time(), "Its lease has not ended."


def test_yields_to_requests(client, start_worker):
    """A worker has a lower priority than the service beside it."""
    with start_worker() as process:
        process.wait_for_output("Worker started.")
        lowered = os.getpriority(os.PRIO_PROCESS, process.process.pid)
    assert lowered == min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_finishes_deliveries_in_flight_before_stopping(client, service, receiver, webhook_secret, sign, start_worker):
    """A worker that is stopped finishes its deliveries in flight, and starts no others."""
    released = threading.Event()
    receiver.respond = lambda handler, message: released.wait(20) and 204
    create_events(client, service, 6)
    with start_worker("worker", "--no-sweep") as process:
        wait_until(lambda: len(receiver.received) == outbox.MAX_IN_FLIGHT, "No event is delivered.")
        process.process.send_signal(sign)
        time.sleep(0.5)
        assert process.process.poll() is None
        released.set()
        assert process.process.wait(15) == 0, process.output()
    assert len(receiver.received) == len(receiver.accepted) == outbox.MAX_IN_FLIGHT
    assert [row["attempts"] for row in outbox_rows(service)] == [0, 0]


def test_killed_worker_leaves_deliveries_to_others(
    client, service, receiver, webhook_secret, worker, clock, start_worker
):
    """The deliveries of a killed worker are repeated after their lease, and not before."""
    released = threading.Event()
    receiver.respond = lambda handler, message: released.wait(20) and 204
    ids = create_events(client, service, 3)
    with start_worker() as process:
        wait_until(lambda: len(receiver.received) == 3, "No event is delivered.")
        process.process.kill()
        process.process.wait()
    released.set()
    receiver.respond = lambda handler, message: 204
    drain(worker)
    assert len(receiver.received) == 3
    clock.forward(outbox.LEASE_SECONDS + 1)
    drain(worker)
    assert len(receiver.received) == 6
    assert {message.data["track_id"] for message in receiver.received[3:]} == set(ids)
    assert {message.id for message in receiver.received[3:]} == {message.id for message in receiver.received[:3]}
    assert outbox_rows(service) == []


def test_no_event_is_lost_if_one_of_two_workers_is_killed(
    client, service, receiver, webhook_secret, worker, clock, start_worker
):
    """If one of two workers is killed, no event is lost, and only its deliveries in flight are repeated."""
    generator = random.Random(7)
    receiver.respond = lambda handler, message: time.sleep(0.02) or (500 if generator.random() < 0.05 else 204)
    ids = create_events(client, service, 150)
    with start_worker("first") as first, start_worker("second") as second:
        wait_until(lambda: len(receiver.received) > 20, "No event is delivered.")
        first.process.kill()
        first.process.wait()
        wait_until(lambda: len(receiver.accepted) > 90, "The other worker does not continue.")
        assert second.stop(signal.SIGTERM) == 0, second.output()
    clock.forward(1000)
    receiver.respond = lambda handler, message: 204
    for _ in range(100):
        drain(worker)
        clock.forward(10)
    accepted = [message.data["track_id"] for message in receiver.accepted]
    assert set(accepted) == set(ids)
    assert len(accepted) - len(set(accepted)) <= outbox.MAX_IN_FLIGHT
    assert outbox_rows(service) == []


def test_two_workers_deliver_each_event_once(client, service, receiver, webhook_secret, start_worker):
    """Two running workers deliver each event once."""
    with start_worker("first") as first, start_worker("second") as second:
        for process in (first, second):
            process.wait_for_output("Worker started")
        ids = create_events(client, service, 100)
        wait_until(lambda: not outbox_rows(service), "Some events are not delivered.")
        assert [process.stop(signal.SIGTERM) for process in (first, second)] == [0, 0]
    assert sorted(message.data["track_id"] for message in receiver.received) == sorted(ids)


@pytest.mark.parametrize("point", ["finalize:before", "respond:before"])
def test_killed_service_writes_event_and_change_together(settings, service, webhook_secret, point, tmp_path):
    """A service that is killed before a change writes no event, and after it exactly one."""
    crashable = CrashableService(settings)
    try:
        crashable.start(point)
        created = crashable.call("POST", "/v1/upload_session", collection_id=str(uuid4()), track={"file_name": "a.wav"})
        upload_url = created["track_upload"]["upload_url"]
        assert requests.put(upload_url, data=wav(), timeout=5).status_code == 200
        path = f"/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/complete"
        assert crashable.call("POST", path) is None, "The service was not killed."
    finally:
        crashable.kill()
    status = Track.select(Track.status).where(Track.id == created["track_id"]).tuples().execute(service.database)
    expected = {"finalize:before": ("initialized", []), "respond:before": ("uploaded", ["track.uploaded"])}[point]
    assert (next(iter(status))[0], [row["type"] for row in outbox_rows(service)]) == expected


def test_waits_for_the_database(client, service, receiver, webhook_secret, start_worker):
    """A worker waits for a database that is unavailable, and repeats no delivery."""
    released = threading.Event()
    receiver.respond = lambda handler, message: released.wait(20) and 204
    create_events(client, service, 2)
    with start_worker() as process:
        wait_until(lambda: len(receiver.received) == 2, "No event is delivered.")
        service.database.execute_sql("ALTER TABLE loadbay_webhook_delivery RENAME TO hidden")
        released.set()
        process.wait_for_output("Waiting for the database")
        service.database.execute_sql("ALTER TABLE hidden RENAME TO loadbay_webhook_delivery")
        process.wait_for_output("The database and its tables are available.")
        wait_until(lambda: not outbox_rows(service), "The result is not recorded.")
        assert len(receiver.received) == 2
        assert process.stop(signal.SIGTERM) == 0


def test_waits_for_the_tables(settings, make_database, processes, start_worker):
    """A worker that is started before `flask prepare` waits for the tables."""
    settings["DATABASE_URL"] = make_database(empty=True)
    with start_worker() as process:
        process.wait_for_output("Waiting for the database and its tables")
        assert processes.run("flask", "--app", "app", "prepare", env=settings).returncode == 0
        process.wait_for_output("The database and its tables are available.")
        assert process.stop(signal.SIGTERM) == 0


# --- Sweeps ---


def test_sweeps_at_start(client, service, start_worker):
    """A worker sweeps at its start, and then once per SWEEP_INTERVAL."""
    session_id = new_session(client)["upload_session_id"]
    new_track(client, session_id)
    UploadSession.update(expires_at=1).execute(service.database)
    with start_worker() as process:
        process.wait_for_output("Sweep finished: sessions: 1, expired: 1")
        assert count_tracks(client, session_id) == {"expired": 1}
        assert process.stop(signal.SIGTERM) == 0
    assert not jobs.claim_job(service, "sweep", 3600)


def test_one_worker_claims_a_sweep(service, clock):
    """Of any number of workers, one claims the sweep, and again after the interval."""

    def claim(_):
        try:
            return jobs.claim_job(service, "sweep", 3600)
        finally:
            service.database.close()

    for expected in (1, 0):
        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(claim, range(32))) == expected
    clock.forward(3601)
    assert jobs.claim_job(service, "sweep", 3600)


def test_failed_sweep_is_retried_soon(service, clock, monkeypatch, caplog):
    """A sweep that fails for the store is retried after a minute."""

    def fail(*args, **kwargs):
        raise StorageUnavailable

    monkeypatch.setattr("storage.worker.sweeper.sweep", fail)
    worker = Worker([service])
    worker.step(0)
    wait_until(lambda: "will be retried" in caplog.text, "The failure is not logged.")
    worker.stop()
    worker.run()
    assert not jobs.claim_job(service, "sweep", 3600)
    clock.forward(61)
    assert jobs.claim_job(service, "sweep", 3600)


def test_stopped_sweep_is_left_to_another_worker(client, service, monkeypatch):
    """A worker that is stopped during a sweep leaves it to another one at once."""
    reached = threading.Event()
    session_id = new_session(client)["upload_session_id"]
    created = [new_track(client, session_id) for _ in range(3)]
    UploadSession.update(expires_at=1).execute(service.database)
    worker = Worker([service], notices=False)

    def wait_for_stop(*_):
        reached.set()
        worker.stopping.wait(10)

    monkeypatch.setattr(service.bucket, "stat_and_read", wait_for_stop)
    monkeypatch.setattr("storage.uploads.verification.CHUNK", 1)
    worker.step(0)
    assert reached.wait(10)
    worker.stop()
    worker.run()
    assert [client.get(track_url(session_id, track)).json["track"]["status"] for track in created].count(
        "initialized"
    ) == 2
    assert jobs.claim_job(service, "sweep", 3600)


# --- Commands ---


def test_webhooks_are_managed_by_commands(app, client, service, receiver, no_secrets_in_logs, worker, clock):
    """A webhook is added, tested, listed, replayed and removed by commands."""

    def flask(*arguments, status=0):
        result = app.test_cli_runner().invoke(args=["webhooks", *arguments])
        assert result.exit_code == status, result.output
        return result.output

    added = flask("add", receiver.url)
    secret = added.split()[-1]
    webhook_id = added.partition("webhooks test ")[2].split()[0]
    assert secret.startswith("whsec_")
    assert "Delivered to localhost: status 204 after " in flask("test", webhook_id)
    assert receiver.accepted[0].verify(secret)["data"] == {"webhook_id": webhook_id}
    receiver.respond = lambda handler, message: 500
    assert "Error: Not delivered to localhost: response status 500." in flask("test", webhook_id, status=1)
    upload_track(client, new_session(client)["upload_session_id"])
    listed = flask("list")
    assert webhook_id in listed
    assert "a-secret-of-the-url" not in listed
    assert secret not in listed
    assert listed.splitlines()[1].split()[2:5] == ["active", "1", "0"]
    while outbox.backlog(service)[0]:
        drain(worker)
        clock.forward(40_000)
    message_id = receiver.received[-1].id
    assert f"{message_id}  {webhook_id}  track.uploaded" in flask("dead-letters")
    assert "failing since" in flask("list")
    assert "Requeued 1 of 2 deliveries" in flask("replay", message_id, "msg_unknown", status=1)
    assert "Requeued 0 deliveries" in flask("replay", "--all")
    flask("replay", status=2)
    flask("remove", webhook_id)
    assert "No such webhook." in flask("remove", webhook_id, status=1)
    assert len(flask("list").splitlines()) == 1
    assert outbox_rows(service) == []


def test_add_rejects_invalid_urls(settings):
    """An invalid URL is rejected; a private one is saved with a warning."""
    runner = create_app({**settings, "WEBHOOK_ALLOW_PRIVATE": ""}).test_cli_runner()
    for url in ("http://example.com/", "https://user:password@example.com/", "nonsense"):
        result = runner.invoke(args=["webhooks", "add", url])
        assert result.exit_code == 1
        assert "Error: url: must" in result.output
    result = runner.invoke(args=["webhooks", "add", "https://127.0.0.1/"])
    assert result.exit_code == 0
    assert "currently unreachable: the host has an address that is not public" in result.output
