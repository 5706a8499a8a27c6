"""Two instances on one database and one store act as one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app import create_app
from conftest import new_session, new_track, put, query
from support.sample_files import wav

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
    made = new_track(second, session, "a.wav")
    assert put(made["track_upload"], wav()).status_code == 200
    path = f"/v1/upload/{session}/track/{made['track_id']}"
    assert first.post(f"{path}/complete").json["track"]["status"] == "uploaded"
    assert second.get(path).json["track"]["status"] == "uploaded"


def test_last_place(both):
    """However many ask both for the last places, no more are given than there are."""
    session = new_session(both[0], max_tracks=5)["upload_session_id"]
    answers = race(*(register(both[number % 2], session) for number in range(2 * AT_ONCE)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] * 5 + [409] * (2 * AT_ONCE - 5)
    assert query(both[0].application, "SELECT track_count FROM loadbay_upload_session") == [(5,)]
    assert query(both[0].application, "SELECT count(*) FROM loadbay_track") == [(5,)]


def test_same_key(both):
    """The same Idempotency-Key at both makes one track."""
    session = new_session(both[0])["upload_session_id"]
    headers = {"Idempotency-Key": "the-same"}
    answers = race(*(register(both[number % 2], session, **headers) for number in range(AT_ONCE)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json["track_id"] for answer in answers}) == 1


def test_close(both):
    """Closed is closed: the manifest has every track that was, or ever will be, registered."""
    for _ in range(5):
        session = new_session(both[0])["upload_session_id"]
        close = lambda: both[1].application.test_client().post(f"/v1/upload_session/{session}/close")  # noqa: B023, E731
        *answers, closed = race(*(register(both[0], session) for _ in range(AT_ONCE)), close)
        given = {answer.json["track_id"] for answer in answers if answer.status_code == 200}
        assert {answer.status_code for answer in answers} <= {200, 410}
        assert {track["id"] for track in closed.json["manifest"]["tracks"]} == given


def test_complete_and_cancel(both):
    """Completed here and cancelled there, a track becomes one of both, and stays it."""
    for _ in range(5):
        session = new_session(both[0])["upload_session_id"]
        made = new_track(both[0], session, "a.wav")
        put(made["track_upload"], wav())
        path = f"/v1/upload/{session}/track/{made['track_id']}"
        first, second = (instance.application.test_client() for instance in both)
        done = race(lambda: first.post(f"{path}/complete"), lambda: second.delete(path))  # noqa: B023
        told = {answer.json["track"]["status"] for answer in done if answer.status_code == 200}
        final = both[0].get(path).json["track"]["status"]
        assert final in ("uploaded", "cancelled")
        assert final in told
