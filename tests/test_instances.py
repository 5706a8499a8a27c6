"""Two instances on one database and one store act as one service."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from app import create_app
from support.api import new_session, new_track
from support.database import query
from support.sample_files import wav
from support.store import put

CONCURRENT = 8


@pytest.fixture
def instances(settings):
    """Clients of two instances that share only the database and the store."""
    return [create_app(settings).test_client() for _ in range(2)]


def call_concurrently(*calls):
    """Make all calls at the same moment, and return their results."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def registration(instance, session, **headers):
    """Return a call that registers a track, through a client of its own, since clients are not thread-safe."""
    path = f"/v1/upload/{session}/track"
    client = instance.application.test_client()
    return partial(client.post, path, json={"file_name": "a.wav"}, headers=headers)


def test_one_instance_completes_what_another_registered(instances):
    """A track of one instance can be completed and read through the other."""
    first, second = instances
    session = new_session(first)["upload_session_id"]
    created = new_track(second, session, "a.wav")
    assert put(created["track_upload"], wav()).status_code == 200
    path = f"/v1/upload/{session}/track/{created['track_id']}"
    assert first.post(f"{path}/complete").json["track"]["status"] == "uploaded"
    assert second.get(path).json["track"]["status"] == "uploaded"


def test_track_limit_is_exact_across_instances(instances):
    """However many requests both instances get at once, they register no more than max_tracks."""
    session = new_session(instances[0], max_tracks=5)["upload_session_id"]
    responses = call_concurrently(*(registration(instances[number % 2], session) for number in range(2 * CONCURRENT)))
    codes = sorted(response.status_code for response in responses)
    assert codes == [200] * 5 + [409] * (2 * CONCURRENT - 5)
    assert query(instances[0].application, "SELECT track_count FROM loadbay_upload_session") == [(5,)]
    assert query(instances[0].application, "SELECT count(*) FROM loadbay_track") == [(5,)]


def test_idempotency_key_is_shared(instances):
    """The same Idempotency-Key in requests to both instances creates one track."""
    session = new_session(instances[0])["upload_session_id"]
    headers = {"Idempotency-Key": "the-same"}
    responses = call_concurrently(
        *(registration(instances[number % 2], session, **headers) for number in range(CONCURRENT))
    )
    assert {response.status_code for response in responses} == {200}
    assert len({response.json["track_id"] for response in responses}) == 1


def test_manifest_is_final(instances):
    """The manifest of a closed session has every track that is ever registered."""
    for _ in range(5):
        session = new_session(instances[0])["upload_session_id"]
        closing_client = instances[1].application.test_client()
        close = partial(closing_client.post, f"/v1/upload_session/{session}/close")
        *responses, closed = call_concurrently(*(registration(instances[0], session) for _ in range(CONCURRENT)), close)
        registered = {response.json["track_id"] for response in responses if response.status_code == 200}
        assert {response.status_code for response in responses} <= {200, 410}
        assert {track["id"] for track in closed.json["manifest"]["tracks"]} == registered


def test_concurrent_complete_and_cancel_agree(instances):
    """A track that is completed and cancelled at the same moment ends with one of both statuses."""
    for _ in range(5):
        session = new_session(instances[0])["upload_session_id"]
        created = new_track(instances[0], session, "a.wav")
        put(created["track_upload"], wav())
        path = f"/v1/upload/{session}/track/{created['track_id']}"
        first, second = (instance.application.test_client() for instance in instances)
        responses = call_concurrently(partial(first.post, f"{path}/complete"), partial(second.delete, path))
        statuses = {response.json["track"]["status"] for response in responses if response.status_code == 200}
        final_status = instances[0].get(path).json["track"]["status"]
        assert final_status in ("uploaded", "cancelled")
        assert final_status in statuses
