"""Webhook events: written in one transaction with their change, and delivered with a signature to a real receiver."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from storage import probes
from storage.db.models import Track, UploadSession, WebhookDelivery
from storage.uploads import sessions, sweeper, tracks
from storage.webhooks import dead_letters, endpoints, environment, outbox
from storage.worker import Worker
from support.api import COLLECTION, new_session, new_track, track_url, upload_track
from support.database import outbox_rows
from support.processes import ROOT
from support.sample_files import HTML, wav
from support.store import put
from support.webhook_receiver import drain


@pytest.fixture
def settings(settings):
    """Settings with a prefix of the test's own, so that a sweep sees no other objects."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


def expire_in_the_past(service, session_id):
    """Move the session's expiry into the past."""
    UploadSession.update(expires_at=1).where(UploadSession.id == session_id).execute(service.database)


# --- Events ---


def test_delivers_a_signed_event_of_an_upload(client, service, receiver, webhook_secret, worker):
    """An uploaded track is delivered as one signed event, and nothing remains in the outbox."""
    payload = {"organization_index": "ours-7", "metadata": {"title": "Erste", "n": 2**60, "nested": [{"a": None}]}}
    session_id = new_session(client)["upload_session_id"]
    created = upload_track(client, session_id, **payload)
    drain(worker)
    drain(worker)
    (message,) = receiver.accepted
    event = message.verify(webhook_secret)
    track = client.get(track_url(session_id, created)).json["track"]
    assert event["type"] == "track.uploaded"
    assert event["timestamp"].endswith("Z")
    assert event["data"].pop("track_id") == track["id"]
    assert event["data"].pop("upload_session_id") == session_id
    assert event["data"].pop("collection_id") == COLLECTION
    assert event["data"] == {name: track[name] for name in event["data"]}
    assert {"path", "status", "size", "index", "organization_index", "metadata", "failure"} <= set(event["data"])
    assert message.headers["content-type"] == "application/json"
    assert message.path == "/hooks?token=a-secret-of-the-url"
    assert message.headers["host"] == f"localhost:{receiver.port}"
    assert outbox_rows(service) == []
    assert outbox.backlog(service) == (0, 0)


def test_delivers_all_events_of_a_session(client, service, receiver, webhook_secret, worker):
    """Failed and expired tracks are reported, and finally the completed session with its counts."""
    session_id = new_session(client, metadata={"batch": 1})["upload_session_id"]
    upload_track(client, session_id)
    upload_track(client, session_id, HTML)
    missing = new_track(client, session_id, "never.wav")
    expire_in_the_past(service, session_id)
    sweeper.sweep(service)
    sweeper.sweep(service)
    drain(worker)
    drain(worker)
    assert sorted(receiver.types()[:3]) == ["track.expired", "track.failed", "track.uploaded"]
    assert receiver.types()[3:] == ["upload_session.completed"]
    data = {message.type: message.verify(webhook_secret)["data"] for message in receiver.accepted}
    assert data["track.expired"]["track_id"] == missing["track_id"]
    assert data["track.failed"]["failure"] == "The file is not audio: its content is text/html."
    completed = data["upload_session.completed"]
    assert (completed["status"], completed["metadata"], completed["uploaded_bytes"]) == (
        "expired",
        {"batch": 1},
        len(wav()),
    )
    counts = ("track_count", "uploaded", "failed", "expired", "cancelled")
    assert [completed[name] for name in counts] == [3, 1, 1, 1, 0]


@pytest.mark.parametrize("last", ["close", "complete", "cancel"])
def test_session_is_completed_by_its_last_change(client, service, webhook_secret, last):
    """A closed session is completed at once, or as soon as its last track reaches a final status."""
    session_id = new_session(client)["upload_session_id"]
    upload_track(client, session_id)
    created = new_track(client, session_id, "b.wav")
    put(created["track_upload"], wav())
    steps = {
        "complete": lambda: client.post(track_url(session_id, created, "complete")),
        "cancel": lambda: client.delete(track_url(session_id, created)),
        "close": lambda: client.post(f"/v1/upload_session/{session_id}/close"),
    }
    order = ("complete", "close") if last == "close" else ("close", last)
    for step in order:
        assert [row["type"] for row in outbox_rows(service)].count("upload_session.completed") == 0
        assert steps[step]().status_code == 200
    steps["close"]()
    client.delete(track_url(session_id, created))
    expire_in_the_past(service, session_id)
    sweeper.sweep(service)
    assert [row["type"] for row in outbox_rows(service)].count("upload_session.completed") == 1


def change(service, row, **changes):
    """Change a track that is still `initialized`; return whether it was."""
    return tracks.update(service, row, "status = ?", ("initialized",), changes)


def test_concurrent_changes_complete_a_session_once(client, app, service, webhook_secret):
    """Under concurrent requests of every kind, each session is completed once, as its last event."""
    steps = ("cancel", "cancel", "close", "register", "register", "renew")

    def run_step(step):
        number, (session_id, created, barrier) = step
        action, track, thread_client = steps[number], created[number % 2], app.test_client()
        barrier.wait()
        {
            "cancel": lambda: thread_client.delete(track_url(session_id, track)),
            "close": lambda: thread_client.post(f"/v1/upload_session/{session_id}/close"),
            "register": lambda: thread_client.post(f"/v1/upload/{session_id}/track", json={"file_name": "late.wav"}),
            "renew": lambda: thread_client.post(track_url(session_id, created[2], "renew")),
        }[action]()
        service.database.close()

    with ThreadPoolExecutor(len(steps)) as threads:
        for _ in range(15):
            session_id = new_session(client)["upload_session_id"]
            created = [new_track(client, session_id, "a.wav") for _ in range(3)]
            change(service, tracks.read(service, session_id, created[2]["track_id"]), status="failed", size=1)
            list(threads.map(run_step, enumerate([(session_id, created, threading.Barrier(len(steps)))] * len(steps))))
            for row in tracks.list_tracks(service, session_id, 1000).rows:
                if row["status"] == "initialized":
                    client.delete(track_url(session_id, {"track_id": row["id"]}))
            session = sessions.read(service, session_id)
            events = [row for row in outbox_rows(service) if row["session_seq"] == session["seq"]]
            assert [row["type"] for row in events].count("upload_session.completed") == 1
            data = json.loads(events[-1]["data"])
            assert data["track_count"] == session["track_count"]
            assert sum(data[name] for name in ("uploaded", "failed", "expired", "cancelled")) == session["track_count"]


def test_writes_no_events_without_a_webhook(client, service, settings):
    """An organization without a webhook gets no rows in the outbox."""
    endpoints.add(service, "https://example.com/hooks", str(uuid4()))
    session_id = new_session(client)["upload_session_id"]
    upload_track(client, session_id)
    client.post(f"/v1/upload_session/{session_id}/close")
    assert outbox_rows(service) == []


def test_every_webhook_gets_every_event(client, service, receiver, webhook_secret, worker):
    """Each webhook gets each event, until it is removed."""
    _, row = endpoints.add(service, receiver.url)
    upload_track(client, new_session(client)["upload_session_id"])
    drain(worker)
    assert len(receiver.accepted) == 2
    assert receiver.accepted[0].id != receiver.accepted[1].id
    upload_track(client, new_session(client)["upload_session_id"])
    endpoints.remove(service, row["id"])
    drain(worker)
    assert len(receiver.accepted) == 3
    assert receiver.accepted[2].verify(webhook_secret)["type"] == "track.uploaded"


WEBHOOK_SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBlbnZpcm9ubWVudCBvZiB0aGlzIHRlc3Q="


@pytest.fixture
def env_webhook_client(make_client, receiver, no_secrets_in_logs):
    """A client of a service with WEBHOOK_URL."""
    no_secrets_in_logs.secrets.add(WEBHOOK_SECRET)
    return make_client(WEBHOOK_URL=receiver.url, WEBHOOK_SECRET=WEBHOOK_SECRET)


def test_webhook_of_the_environment(env_webhook_client, make_client, receiver):
    """WEBHOOK_URL and WEBHOOK_SECRET define a webhook without an organization, until they are unset."""
    client = env_webhook_client
    service = client.application.extensions["loadbay"]["loadbay"]
    worker = Worker([service], sweeps=False)
    upload_track(client, new_session(client)["upload_session_id"])
    drain(worker)
    assert [message.verify(WEBHOOK_SECRET)["type"] for message in receiver.accepted] == ["track.uploaded"]
    assert environment.sync_env_webhook(service) == []
    without = make_client()
    upload_track(without, new_session(without)["upload_session_id"])
    assert outbox_rows(service) == []
    worker.senders.shutdown()


def test_unset_webhook_url_dead_letters_its_events(env_webhook_client, make_client):
    """Events for a WEBHOOK_URL that is unset become dead letters, which do not count as backlog and can be replayed."""
    service = env_webhook_client.application.extensions["loadbay"]["loadbay"]
    environment.sync_env_webhook(service)
    upload_track(env_webhook_client, new_session(env_webhook_client)["upload_session_id"])
    assert outbox.backlog(service)[0] == 1
    environment.sync_env_webhook(make_client().application.extensions["loadbay"]["loadbay"])
    assert outbox.backlog(service) == (0, 0)
    assert [row["error"] for row in dead_letters.list_dead_letters(service)] == ["WEBHOOK_URL is not set"]
    assert dead_letters.replay(service) == 0
    assert outbox.backlog(service) == (0, 0)
    environment.sync_env_webhook(service)
    assert dead_letters.replay(service) == 1
    assert len(outbox.claim(service, 1, {})) == 1


def test_concurrent_starts_create_one_environment_webhook(env_webhook_client, monkeypatch):
    """Workers that start at the same moment create one webhook of the environment."""
    service = env_webhook_client.application.extensions["loadbay"]["loadbay"]
    insert = endpoints.insert

    def insert_twice(*args, **values):
        insert(*args, **values)
        return insert(*args, **values)

    monkeypatch.setattr(environment, "insert", insert_twice)
    assert environment.sync_env_webhook(service) == []
    assert [row["from_environment"] for row in endpoints.list_webhooks(service)] == [True]


# --- Transactions ---


def test_event_is_written_with_its_change(client, service, webhook_secret):
    """An event is stored if and only if its change is."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    row = tracks.read(service, session_id, created["track_id"])
    with service.database.atomic() as transaction:
        assert change(service, dict(row), status="expired")
        assert len(outbox_rows(service)) == 1
        transaction.rollback()
    assert outbox_rows(service) == []
    assert change(service, dict(row), status="expired")
    assert not change(service, dict(row), status="failed"), "Another process changed it first."
    assert [event["type"] for event in outbox_rows(service)] == ["track.expired"]


def test_event_has_the_state_of_its_time(client, service, receiver, webhook_secret, worker):
    """An event has the track's state at the time of the change, even if the track is deleted since."""
    session_id = new_session(client)["upload_session_id"]
    created = upload_track(client, session_id, HTML)
    assert client.post(track_url(session_id, created, "renew")).status_code == 200
    client.delete(track_url(session_id, created))
    Track.delete().where(Track.id == created["track_id"]).execute(service.database)
    drain(worker)
    (message,) = receiver.accepted
    assert (message.type, message.data["status"], message.data["size"]) == ("track.failed", "failed", len(HTML))


def test_gauges_count_pending_events_and_dead_letters(client, service, webhook_secret):
    """The gauges have the number and age of pending events, and the number of dead letters."""
    session_id = new_session(client)["upload_session_id"]
    for _ in range(3):
        upload_track(client, session_id)
    WebhookDelivery.update(created_at=WebhookDelivery.created_at - 100).execute(service.database)
    WebhookDelivery.update(due_at=None).where(WebhookDelivery.id == outbox_rows(service)[0]["id"]).execute(
        service.database
    )
    deliveries, oldest = probes.webhook_gauges(service)
    assert deliveries.values == {"pending": 2, "dead_letter": 1}
    assert 100 <= oldest.values[""] < 130
    assert outbox.backlog(service) == (2, pytest.approx(oldest.values[""], abs=5))


def test_example_of_a_receiver(client, receiver, webhook_secret, worker, tmp_path):
    """The receiver in docs/webhooks.md accepts what is signed, and rejects what is not."""
    page = (ROOT / "docs" / "webhooks.md").read_text()
    example = re.search(r"```python\n(from flask import Flask, request\nfrom standardwebhooks.*?)```", page, re.DOTALL)
    upload_track(client, new_session(client)["upload_session_id"])
    drain(worker)
    (message,) = receiver.accepted
    (tmp_path / "example.py").write_text(example[1])
    program = (
        "import ast, os, sys\nfrom example import app\nclient = app.test_client()\n"
        "body, headers = ast.literal_eval(sys.stdin.read())\n"
        "print(client.post('/hooks', data=body, headers=headers).status_code,"
        " client.post('/hooks', data=body + b' ', headers=headers).status_code)\n"
    )
    env = {"WEBHOOK_SECRET": webhook_secret, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], input=repr((message.body, message.headers)), env=env, cwd=tmp_path,
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "204 400"
