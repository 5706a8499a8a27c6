"""Two instances on one database and one store act as one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app import create_app
from support.api import new_session, new_track
from support.database import query
from support.sample_files import wav
from support.store import put

AT_ONCE = 8


@pytest.fixture
def both(settings):
    """Clients of two instances, which share nothing but the database and the store."""
    return [create_app(settings).test_client() for _ in range(2)]


def race(*calls):
    """Make all calls at the same moment, and return what they returned."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def register(instance, session, **headers):
    """A call that registers a track, through a client of its own, as threads share none."""
    path = f"/v1/upload/{session}/track"
    return lambda: instance.application.test_client().post(path, json={"file_name": "a.wav"}, headers=headers)


def test_one_registers_the_other_completes(both):
    """What one hands out, the other knows, checks and tells of."""
    first, second = both
    session = new_session(first)["upload_session_id"]
    created = new_track(second, session, "a.wav")
    assert put(created["track_upload"], wav()).status_code == 200
    path = f"/v1/upload/{session}/track/{created['track_id']}"
    assert first.post(f"{path}/complete").json["track"]["status"] == "uploaded"
    assert second.get(path).json["track"]["status"] == "uploaded"


def test_last_place(both):
    """However many ask both for the last places, no more are given than there are."""
    session = new_session(both[0], max_tracks=5)["upload_session_id"]
    responses = race(*(register(both[number % 2], session) for number in range(2 * AT_ONCE)))
    codes = sorted(response.status_code for response in responses)
    assert codes == [200] * 5 + [409] * (2 * AT_ONCE - 5)
    assert query(both[0].application, "SELECT track_count FROM loadbay_upload_session") == [(5,)]
    assert query(both[0].application, "SELECT count(*) FROM loadbay_track") == [(5,)]


def test_same_key(both):
    """The same Idempotency-Key at both makes one track."""
    session = new_session(both[0])["upload_session_id"]
    headers = {"Idempotency-Key": "the-same"}
    responses = race(*(register(both[number % 2], session, **headers) for number in range(AT_ONCE)))
    assert {response.status_code for response in responses} == {200}
    assert len({response.json["track_id"] for response in responses}) == 1


def test_close(both):
    """Closed is closed: the manifest has every track that was, or ever will be, registered."""
    for _ in range(5):
        session = new_session(both[0])["upload_session_id"]
        close = lambda: both[1].application.test_client().post(f"/v1/upload_session/{session}/close")  # noqa: B023, E731
        *responses, closed = race(*(register(both[0], session) for _ in range(AT_ONCE)), close)
        given = {response.json["track_id"] for response in responses if response.status_code == 200}
        assert {response.status_code for response in responses} <= {200, 410}
        assert {track["id"] for track in closed.json["manifest"]["tracks"]} == given


def test_complete_and_cancel(both):
    """Completed here and cancelled there, a track becomes one of both, and stays it."""
    for _ in range(5):
        session = new_session(both[0])["upload_session_id"]
        created = new_track(both[0], session, "a.wav")
        put(created["track_upload"], wav())
        path = f"/v1/upload/{session}/track/{created['track_id']}"
        first, second = (instance.application.test_client() for instance in both)
        done = race(lambda: first.post(f"{path}/complete"), lambda: second.delete(path))  # noqa: B023
        told = {response.json["track"]["status"] for response in done if response.status_code == 200}
        final = both[0].get(path).json["track"]["status"]
        assert final in ("uploaded", "cancelled")
        assert final in told
