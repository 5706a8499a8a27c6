"""Limits of what clients can make the service do: time of a request, requests about a track, bytes of an API key."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from app import create_app
from storage import clock as service_clock
from storage.db.connection import open_database
from storage.db.errors import DATABASE_ERRORS
from storage.errors import StorageUnavailable
from storage.s3.bucket import Bucket
from storage.settings import Settings
from storage.uploads import covers, tracks, verification
from support.api import (
    COLLECTION,
    assert_error,
    bearer,
    complete,
    create_key,
    new_session,
    new_track,
    track_url,
)
from support.database import query, run_statement
from support.sample_files import HTML, png, wav
from support.store import put

GIB = 2**30


@pytest.fixture
def limited() -> Any:
    """Limit the time of what the test does: `limited(seconds)`."""
    tokens = []
    yield lambda seconds: tokens.append(service_clock.limit_time(seconds))
    for token in reversed(tokens):
        service_clock.unlimit_time(token)


# --- Time of a request ------------------------------------------------------------------------------------------------


@pytest.fixture
def silent_store():
    """The endpoint of a store that accepts requests and does not answer, and the number of its connections."""
    listener, connections = socket.create_server(("127.0.0.1", 0)), list[socket.socket]()

    def accept() -> None:
        while True:
            try:
                connections.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", connections
    listener.close()


def test_store_calls_end_with_the_time_of_the_request(settings, silent_store, limited):
    """However long a call may wait, it ends when the request has to; the next one is not sent."""
    endpoint, connections = silent_store
    bucket = Bucket(Settings.load({**settings, "S3_ENDPOINT": endpoint}))
    started = time.monotonic()
    limited(0.5)
    with pytest.raises(StorageUnavailable):
        bucket.copy("a", "b", "etag", "audio/wav")
    assert 0.4 < time.monotonic() - started < 1.5
    sent = len(connections)
    for call in (bucket.head, bucket.remove, lambda key: bucket.list_parts(key, "upload")):
        with pytest.raises(StorageUnavailable):
            call("a")
    assert (len(connections), time.monotonic() - started < 2) == (sent, True)


def test_database_gives_up_with_the_time_of_the_request(service, settings, limited):
    """A statement that waits for a lock is given up with the request, on PostgreSQL after a second at the latest."""
    other = open_database(settings["DATABASE_URL"])
    service.database.execute_sql("SELECT 1")
    with other.connection_context(), other.atomic():
        other.execute_sql("UPDATE loadbay_job SET due_at = 0")
        limited(0.2)
        started = time.monotonic()
        with pytest.raises(DATABASE_ERRORS):
            service.database.execute_sql("UPDATE loadbay_job SET due_at = 1")
        assert 0.15 < time.monotonic() - started < 1.3


@pytest.mark.sqlite
def test_each_request_has_a_limit_of_its_own(client, monkeypatch):
    """A view has ten seconds, a relayed cover more; nothing is limited outside of requests."""
    left, head, store = [], Bucket.stat_and_read, Bucket.put
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav", cover_fields=False)

    def record(function):
        def call(*args, **kwargs):
            left.append(service_clock.seconds_left(100))
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(Bucket, "stat_and_read", record(head))
    monkeypatch.setattr(Bucket, "put", record(store))
    assert client.get(track_url(session_id, created)).status_code == 200
    response = client.post(track_url(session_id, created, "cover"), data={"file": (png_file(), "a.png", "image/png")})
    assert response.status_code == 200
    assert 8 < left[0] <= service_clock.REQUEST_SECONDS < 50 < left[1] <= 55
    assert service_clock.seconds_left(100) == 100


def png_file() -> Any:
    """Return a picture as a file."""
    from io import BytesIO

    return BytesIO(png())


# --- Requests about a track -------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """The keys of the objects that the store is asked about."""
    keys, stat = list[str](), Bucket.stat_and_read

    def record(self, key, *args):
        keys.append(key)
        return stat(self, key, *args)

    monkeypatch.setattr(Bucket, "stat_and_read", record)
    return keys


def test_checks_of_a_track_are_limited(client, service, monkeypatch, calls):
    """After so many checks in vain the store is not asked for a client any more; the worker still does its work."""
    monkeypatch.setattr(tracks, "MAX_CHECKS", 4)
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    for _ in range(2):
        assert_error(client.post(track_url(session_id, created, "complete")), 409, "not_uploaded")
        assert client.get(track_url(session_id, created)).json["track"]["status"] == "initialized"
    assert len(calls) == 4
    assert_error(client.post(track_url(session_id, created, "complete")), 409, "not_uploaded", "too often")
    assert client.get(track_url(session_id, created)).json["track"]["status"] == "initialized"
    batch = client.post(f"/v1/upload/{session_id}/complete", json={}).json["tracks"]
    assert [result["status"] for result in batch] == ["not_uploaded"]
    assert len(calls) == 4
    put(created["track_upload"], wav())
    row = tracks.read(service, session_id, created["track_id"])
    assert verification.verify(service, [row], background=True)[0].status == "uploaded"
    assert complete(client, session_id, created)["status"] == "uploaded"


def test_successful_checks_do_not_count(client, service):
    """A check that ends with a result, or changes the track, does not count."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav", cover_fields=False)
    put(created["track_upload"], wav())
    for _ in range(3):
        complete(client, session_id, created)
        client.get(track_url(session_id, created))
    assert tracks.read(service, session_id, created["track_id"])["checks"] == 0


def test_covers_and_parts_count_as_checks(app, client, monkeypatch):
    """A pending cover that is asked for, a relayed one and a list of parts count, too."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    complete(client, session_id, created)
    client.get(track_url(session_id, created))
    assert query(app, "SELECT checks FROM loadbay_track") == [(1,)]
    monkeypatch.setattr(tracks, "MAX_CHECKS", 2 * covers.RELAY_CHECKS + 1)
    codes = [
        client.post(track_url(session_id, created, "cover"), data={"file": (png_file(), "a.png", "image/png")})
        for _ in range(3)
    ]
    assert [response.status_code for response in codes] == [200, 200, 409]
    parts = new_track(client, session_id, "b.wav", file_size=6 * 2**20, multipart=True)
    monkeypatch.setattr(tracks, "MAX_CHECKS", 2)
    codes = [client.get(track_url(session_id, parts, "parts")).status_code for _ in range(3)]
    assert codes == [200, 200, 409]


def test_attempts_of_a_track_are_limited(client, monkeypatch):
    """A track that has failed too often cannot be renewed."""
    monkeypatch.setattr(tracks, "MAX_ATTEMPTS", 1)
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    for expected in (200, 409):
        put(created["track_upload"], HTML)
        complete(client, session_id, created)
        response = client.post(track_url(session_id, created, "renew"))
        assert response.status_code == expected
        created = response.json if expected == 200 else created
    assert_error(response, 409, "track_state_conflict", "too often")


# --- API keys with limits ---------------------------------------------------------------------------------------------


@pytest.fixture
def uploader(app) -> Any:
    """Create an uploader's key with limits, and return the headers that carry it."""

    def create(*options: str) -> dict[str, str]:
        return bearer(create_key(app, "--role", "uploader", "--collection", COLLECTION, *options))

    return create


def open_session(client, headers, **payload: Any) -> Any:
    """Open a session with a key, and return the response."""
    return client.post("/v1/upload_session", json=payload, headers=headers)


def test_open_sessions_of_a_key_are_limited(client, uploader, clock):
    """A key has only so many open sessions; those that are closed or expired do not count, nor those of other keys."""
    headers, other = uploader("--max-open-sessions", "2"), uploader("--max-open-sessions", "2")
    first = open_session(client, headers).json["upload_session_id"]
    assert open_session(client, headers, expires_in=60, track={"file_name": "a.wav"}).status_code == 200
    response = open_session(client, headers)
    assert_error(response, 429, "key_limit_reached", "2 open")
    assert int(response.headers["Retry-After"]) == 60
    assert open_session(client, other).status_code == 200
    client.post(f"/v1/upload_session/{first}/close")
    assert open_session(client, headers).status_code == 200
    assert_error(open_session(client, headers), 429, "key_limit_reached")
    clock.forward(61)
    assert open_session(client, headers).status_code == 200


def test_bytes_of_a_key_are_limited_by_the_day(app, client, uploader, count_rows):
    """A track that would exceed the day's bytes is rejected in every request that registers it, and is not counted."""
    headers = uploader("--max-bytes-per-day", str(3 * GIB))
    sessions = [open_session(client, headers).json["upload_session_id"] for _ in range(2)]
    path = f"/v1/upload/{sessions[0]}/track"
    assert client.post(path, json={"file_name": "a.wav", "file_size": GIB}).status_code == 200
    rows = count_rows()
    requests = [
        lambda: client.post(path, json={"file_name": "a.wav", "file_size": 2 * GIB + 1}),
        lambda: client.post(f"{path}s", json={"tracks": [{"file_name": "a.wav", "file_size": GIB}] * 3}),
        lambda: open_session(client, headers, track={"file_name": "a.wav", "file_size": 3 * GIB}),
        lambda: client.post(path, json={"file_name": "a.wav", "file_size": 3 * GIB, "multipart": True}),
    ]
    for request in requests:
        response = request()
        assert_error(response, 429, "key_limit_reached", "bytes")
        assert 0 < int(response.headers["Retry-After"]) <= 86_400
    assert count_rows() == rows
    assert (
        client.post(f"/v1/upload/{sessions[1]}/track", json={"file_name": "b", "file_size": 2 * GIB}).status_code == 200
    )
    assert_error(open_session(client, headers), 429, "key_limit_reached")
    query(app, "UPDATE loadbay_api_key SET used_day = used_day - 1")
    assert open_session(client, headers).status_code == 200
    assert client.post(path, json={"file_name": "a.wav", "file_size": GIB}).status_code == 200
    assert query(app, "SELECT used_bytes FROM loadbay_api_key") == [(GIB,)]


def test_tracks_without_a_size_count_as_an_estimate(app, client, uploader):
    """A track whose size is not declared counts as 100 MiB."""
    headers = uploader("--max-bytes-per-day", str(250 * 2**20))
    session_id = open_session(client, headers).json["upload_session_id"]
    codes = [client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.wav"}).status_code for _ in range(3)]
    assert codes == [200, 200, 429]


def test_concurrent_requests_cannot_exceed_a_limit(app, uploader):
    """Of many requests at once, exactly as many pass as the limits of the key allow."""
    headers, codes = uploader("--max-open-sessions", "3", "--max-bytes-per-day", "5"), list[int]()
    session_id = open_session(app.test_client(), headers).json["upload_session_id"]

    def send() -> None:
        client = app.test_client()
        codes.append(open_session(client, headers).status_code)
        codes.append(client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a", "file_size": 1}).status_code)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (codes.count(200), codes.count(429)) == (2 + 5, 9)


def test_keys_without_limits_write_nothing(app, client, settings):
    """Sessions of a full key have no key's row, and their tracks count against nothing."""
    headers = bearer(create_key(app))
    response = open_session(client, headers, collection_id=COLLECTION, track={"file_name": "a.wav", "file_size": GIB})
    assert response.status_code == 200
    assert query(app, "SELECT api_key_seq FROM loadbay_upload_session") == [(None,)]
    assert run_statement(settings["DATABASE_URL"], "SELECT used_bytes FROM loadbay_api_key") == [(0,)]


def test_list_keys_tells_limits_and_use(app, client, uploader):
    """list-keys shows what of each limit is used; an uploader's key has limits by default."""
    headers = uploader()
    open_session(client, headers, track={"file_name": "a.wav", "file_size": 12345})
    output = app.test_cli_runner().invoke(args=["list-keys"]).output
    assert f"12345 of {2**40}" in output
    assert "1 of 1000" in output


def test_api_creates_keys_with_limits(settings):
    """POST /v1/api_key takes limits, returns them, and has defaults."""
    client = create_app({**settings, "API_KEYS": "a-full-key-0123456789"}).test_client()
    headers, payload = bearer("a-full-key-0123456789"), {"name": "app", "collection_id": COLLECTION}
    limits = {"max_bytes_per_day": 5, "max_open_sessions": 7}
    key = client.post("/v1/api_key", json={**payload, **limits}, headers=headers).json["api_key"]
    assert limits.items() <= key.items()
    key = client.post("/v1/api_key", json=payload, headers=headers).json["api_key"]
    assert (key["max_bytes_per_day"], key["max_open_sessions"]) == (2**40, 1000)
    for name in limits:
        assert_error(
            client.post("/v1/api_key", json={**payload, name: 0}, headers=headers), 400, "invalid_request", name
        )
