"""The soak test's judgment of lost and forged tracks, its hostile clients, and its second clock."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from math import inf
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import requests
from minio import Minio

from app import create_app
from bench.soak import clock, foreign
from bench.soak.deployment import API_KEY
from bench.soak.hostile import HostileClient
from bench.soak.hostile_inputs import declaration, hostile_picture, hostile_request, mutate, raw_request
from bench.soak.ledger import (
    CANCELLED,
    REGISTERED,
    STORED,
    VERIFIED,
    Audit,
    Auditor,
    Entry,
    Finding,
    Forgery,
    Ledger,
    Rollback,
    find_accepted,
    judge,
)
from bench.soak.memory import peak_mib
from bench.soak.receiver import Receiver
from storage.formats.pictures import identify_bytes
from support.live_server import serve
from support.sample_files import wav
from support.store import ACCESS_KEY, BUCKET, SECRET_KEY

pytestmark = pytest.mark.sqlite

BODY = b"ID3"
SENT = (hashlib.sha256(BODY).digest(), len(BODY))
OTHER = (b"other", 3)


# --- The audit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "status", "stored", "lost", "lied"),
    [
        (VERIFIED, "uploaded", SENT, 0, 0),
        (REGISTERED, "initialized", None, 0, 0),
        (CANCELLED, "cancelled", None, 0, 0),
        (STORED, "initialized", None, 1, 0),
        (STORED, "failed", None, 1, 0),
        (STORED, "expired", None, 1, 0),
        (VERIFIED, "expired", None, 1, 0),
        (VERIFIED, "uploaded", None, 1, 0),
        (VERIFIED, "uploaded", OTHER, 0, 1),
        (CANCELLED, "uploaded", SENT, 0, 1),
        (REGISTERED, None, None, 1, 0),
    ],
)
def test_judge_finds_lost_and_wrong_tracks(state, status, stored, lost, lied):
    """A track that the service or the store has accepted must exist in the end, with its bytes and status."""
    audit = Audit()
    judge(audit, Finding("an-id", Entry("a-session", "a-path", *SENT, state), status and {"status": status}, stored))
    assert (len(audit.lost), len(audit.violations)) == (lost, lied)
    assert audit.uploaded == ({"an-id"} if status == "uploaded" else set())


@pytest.mark.parametrize(
    ("state", "status", "stored", "lost", "lied"),
    [
        (REGISTERED, None, None, 0, 0),
        (STORED, None, None, 0, 0),
        (VERIFIED, None, SENT, 0, 0),
        (VERIFIED, None, None, 1, 0),
        (VERIFIED, None, OTHER, 0, 1),
        (VERIFIED, "initialized", SENT, 0, 0),
        (VERIFIED, "initialized", None, 1, 0),
        (VERIFIED, "initialized", OTHER, 0, 1),
        (STORED, "initialized", SENT, 0, 0),
        (STORED, "initialized", None, 1, 0),
        (CANCELLED, "initialized", None, 0, 0),
        (CANCELLED, "uploaded", SENT, 0, 1),
    ],
)
def test_judge_allows_a_restored_database_to_forget(state, status, stored, lost, lied):
    """A restored database may have lost rows and statuses, but the files that were verified must be in the store."""
    audit, entry = Audit(), Entry("a-session", "a-path", *SENT, state)
    judge(audit, Finding("an-id", entry, status and {"status": status}, stored, True, True))
    assert (len(audit.lost), len(audit.violations)) == (lost, lied)


def test_only_what_was_acknowledged_after_the_backup_may_be_forgotten():
    """The database forgets what was acknowledged between backup and restoration, and nothing before or after."""
    ledger = Ledger(rollbacks=[Rollback(10, 20)])
    intervals = [(8, 9), (9, 11), (11, 12), (19, 25), (20, 21)]
    assert [ledger.is_forgettable(interval) for interval in intervals] == [False, True, True, True, False]
    ledger.rollbacks.append(Rollback(30))
    assert ledger.is_forgettable((31, 32))
    assert not ledger.is_forgettable((28, 29))


def test_a_stored_track_may_have_been_verified_later():
    """A worker may have verified what was stored at any time before the restoration."""
    ledger = Ledger(rollbacks=[Rollback(10, 20)])
    states = [(STORED, 1), (STORED, 21), (VERIFIED, 1), (VERIFIED, 11)]
    entries = [Entry("s", "p", *SENT, state, reached=(start, start + 1)) for state, start in states]
    assert [ledger.may_have_gone_back(entry) for entry in entries] == [True, False, False, True]


@pytest.mark.parametrize(("begin", "lost"), [(0, 0), (50, 2)])
def test_audit_finds_a_lost_session(begin, lost):
    """A session that the service does not know is lost with its track, unless the database was restored since."""
    ledger = Ledger(rollbacks=[Rollback(begin, 60)])
    ledger.add_session("a-session", (10, 11))
    ledger.add_track("a-track", Entry("a-session", "a-path", *SENT, registered=(10, 11)))

    def fetch(session_id):
        raise LookupError(session_id)
        yield

    auditor = Auditor(ledger, fetch, None, None, BUCKET)
    for finding in auditor.session("a-session"):
        judge(auditor.result, finding)
    assert len(auditor.result.lost) == lost


def test_internal_errors_are_violations_and_outages_without_a_fault():
    """A 500 must never be; a 503 may be while a fault is injected, or if it began during one."""
    ledger = Ledger()
    for calm_since, status in [(inf, 503), (50, 503), (10, 503), (10, 501), (10, 404)]:
        ledger.calm_since = calm_since
        ledger.add_status("read", status, "a_code", start=20)
    assert (len(ledger.violations), ledger.internal_errors) == (1, 0)
    ledger.calm_since = inf
    ledger.add_status("read", 500, "internal_error", start=20)
    assert (len(ledger.violations), ledger.internal_errors) == (2, 1)


def test_forgeries_must_not_be_accepted_in_the_end():
    """A file or a cover that was forged must not be `uploaded`, whoever verified it; an unknown track is none."""
    rows = {
        "a": {"status": "uploaded", "cover": {"status": None}},
        "b": {"status": "uploaded", "cover": {"status": "uploaded"}},
        "c": {"status": "failed", "cover": None},
    }
    forgeries = {track_id: Forgery("s", "HTML") for track_id in ("a", "c", "unknown")}
    accepted = find_accepted(forgeries, lambda session_id, track_id: rows.get(track_id))
    assert [text[0] for text in accepted] == ["a"]
    covers = {track_id: Forgery("s", "SVG", is_cover=True) for track_id in ("a", "b", "c")}
    assert [text[0] for text in find_accepted(covers, lambda _, track_id: rows[track_id])] == ["b"]


def test_receiver_tracks_missing_events():
    """A track counts as reported by its own event only."""
    receiver = Receiver()
    try:
        for event_type, track_id in (("track.uploaded", "a"), ("track.failed", "b"), ("track.uploaded", "a")):
            event = {"type": event_type, "data": {"track_id": track_id}}
            assert requests.post(receiver.url, json=event, timeout=5).status_code == 204
        assert receiver.missing({"a"}, 0) == set()
        assert receiver.missing({"a", "b"}, 0) == {"b"}
        assert receiver.events == 3
    finally:
        receiver.close()


# --- What is injected ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [60, -60])
def test_clock_of_a_process_is_moved(tmp_path, seconds):
    """A process with the environment of another clock has a time that is that much ahead or behind."""
    env = {**os.environ, **clock.environment(tmp_path, seconds)}
    command = [sys.executable, "-c", "import time; print(time.time(), time.time_ns() / 1e9)"]
    output = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert [float(value) - time.time() for value in output.split()] == pytest.approx([seconds, seconds], abs=20)


@pytest.fixture
def minio_client(store_endpoint):
    """A client of the run's store, as the soak test uses it."""
    return Minio(urlsplit(store_endpoint).netloc, ACCESS_KEY, SECRET_KEY, secure=False)


def test_touched_objects_of_others_are_found(bucket, minio_client):
    """An object of others that is gone or has other bytes is found, and no untouched one."""
    digests = foreign.put_objects(minio_client, BUCKET, seed=int(time.time()))
    assert foreign.touched(minio_client, BUCKET, digests) == []
    first, second, *_ = digests
    bucket.s3.delete_object(Bucket=BUCKET, Key=first)
    bucket.s3.put_object(Bucket=BUCKET, Key=second, Body=b"touched")
    assert foreign.touched(minio_client, BUCKET, digests) == [first, second]
    for key in digests:
        bucket.s3.delete_object(Bucket=BUCKET, Key=key)


def test_hostile_files_and_covers_are_refused(settings, minio_client):
    """None of the files and covers of the hostile clients is accepted that must not be, and no response is false."""
    app, ledger = create_app({**settings, "API_KEYS": API_KEY}), Ledger()
    with serve(app) as origin:
        deployment = SimpleNamespace(origin=origin, port=urlsplit(origin).port, store_client=lambda: minio_client)
        client = HostileClient(deployment, ledger, threading.Event(), seed=7)
        client.open_session()
        for _ in range(25):
            client.send_hostile_file()
            client.send_hostile_cover()
        client.break_off_upload()
    assert ledger.violations == []
    assert len(ledger.forgeries) > 25
    assert {"uploaded", "failed", "409 not_uploaded"} <= {outcome for _, outcome in ledger.attacks}


def test_an_accepted_forgery_is_a_violation(settings, minio_client):
    """A hostile client that is told that its false file is `uploaded` records it, and so does the audit."""
    ledger = Ledger()
    deployment = SimpleNamespace(origin="http://127.0.0.1:9", port=9, store_client=lambda: minio_client)
    client = HostileClient(deployment, ledger, threading.Event(), seed=1)
    client.check_accepted_file({"id": "an-id", "path": "a-path"}, SimpleNamespace(name="HTML", may_pass=False))
    assert len(ledger.violations) == 1


def test_hostile_pictures_are_no_pictures():
    """No picture is accepted by the service that the soak test says must not be."""
    for seed in range(100):
        picture = hostile_picture(random.Random(seed))
        assert picture.may_pass or identify_bytes(picture.body) is None, picture.name


def test_mutations_always_differ():
    """A mutated file never has the bytes that are declared."""
    rng, body = random.Random(1), wav()
    assert all(mutate(rng, body, 2) != body for _ in range(200))
    assert declaration(body)["file_size"] == len(body)


def test_hostile_requests_are_of_every_kind():
    """The seeds lead to requests of every kind."""
    session_id = "6f1c8a52-37d4-4c0e-9a3b-2f5d71e8c904"
    hostile_requests = [hostile_request(random.Random(seed), session_id, API_KEY) for seed in range(200)]
    kinds = {"odd JSON", "deep JSON", "many keys", "many values", "huge metadata", "huge batch"}
    kinds |= {"odd headers", "unknown id", "odd path or query"}
    assert {request.name for request in hostile_requests} == kinds
    assert raw_request("GET", "/", {"Host": "a"}) == b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def test_memory_of_a_process_is_its_peak():
    """The peak of this process is known; that of a process that has exited is 0."""
    assert peak_mib(os.getpid()) > 10
    assert peak_mib(0) == 0
