"""Real failures: a store that is down, frozen or mute; a database that is down, locked or without tables."""

import signal
import socket
import sqlite3
import time
from contextlib import closing, contextmanager
from io import BytesIO
from threading import Timer
from urllib.parse import urlsplit

import pytest
from peewee import OperationalError

from app import create_app
from dev.store import free_port
from storage.db.connection import open_database
from support.api import COLLECTION, assert_error, new_session, new_track
from support.store import start_store

MAX_SECONDS = 2.0


@pytest.fixture
def blackhole():
    """A listener that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def closed_endpoint():
    """An endpoint at which nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def unreachable(request):
    """The endpoint that the parameter names."""
    return request.getfixturevalue(request.param)


@contextmanager
def time_limit():
    """Check that the block takes less than two seconds, even if it raises."""
    started = time.monotonic()
    try:
        yield
    finally:
        assert time.monotonic() - started < MAX_SECONDS


def within_limit(call, *args, **kwargs):
    """Return the result of `call`, which must take less than two seconds."""
    with time_limit():
        return call(*args, **kwargs)


def send_cover(client, created, size=1000):
    """Send a cover through the relay."""
    file = (BytesIO(bytes(size)), "cover.jpg", "image/jpeg")
    return client.post(urlsplit(created["track_cover_upload"]["upload_url"]).path, data={"file": file})


def assert_unavailable(response, code):
    """Check that the response is a 503 with Retry-After."""
    assert_error(response, 503, code)
    assert 1 <= int(response.headers["Retry-After"]) <= 60


class FullDisk:
    """A cursor of SQLite on a full disk, which reports it only when the statement is completed."""

    def fetchall(self):
        raise sqlite3.OperationalError("database or disk is full")

    fetchone = fetchall


# --- The store ---


@pytest.mark.parametrize("unreachable", ["closed_endpoint", "blackhole"], indirect=True)
def test_presigning_needs_no_store(make_client, unreachable):
    """Sessions and tracks are created without the store, and quickly."""
    make_client()  # Creates the tables and the bucket.
    client = make_client(S3_ENDPOINT=unreachable, CREATE_MISSING="0")
    session = within_limit(new_session, client)
    created = within_limit(new_track, client, session["upload_session_id"])
    assert created["track_upload"]["upload_url"].startswith(unreachable)
    assert within_limit(client.get, f"/v1/upload_session/{session['upload_session_id']}").status_code == 200


@pytest.mark.parametrize("unreachable", ["closed_endpoint", "blackhole"], indirect=True)
def test_starting_needs_no_store(settings, unreachable):
    """The application starts without the store, quickly, and creates its tables."""
    app = within_limit(create_app, {**settings, "S3_ENDPOINT": unreachable})
    new_track(app.test_client(), new_session(app.test_client())["upload_session_id"])


@pytest.mark.parametrize("size", [1000, 1_000_000])
@pytest.mark.parametrize("unreachable", ["closed_endpoint", "blackhole"], indirect=True)
def test_relay_without_the_store_is_unavailable(make_client, unreachable, size):
    """A cover that cannot be relayed is a 503 with Retry-After, within two seconds."""
    make_client()
    client = make_client(S3_ENDPOINT=unreachable, CREATE_MISSING="0", COVER_UPLOAD="relay")
    created = new_track(client, new_session(client)["upload_session_id"])
    assert_unavailable(within_limit(send_cover, client, created, size), "storage_unavailable")


def test_recovers_when_the_store_is_back(make_client, tmp_path):
    """A store may freeze, stop and restart: 503 meanwhile, and no restart of the service afterwards."""
    store = start_store(tmp_path / "store")
    try:
        client = make_client(S3_ENDPOINT=store.endpoint, COVER_UPLOAD="relay")
        session_id = new_session(client)["upload_session_id"]
        created = new_track(client, session_id)
        assert send_cover(client, created).status_code == 200
        store.pause()
        try:
            assert_unavailable(within_limit(send_cover, client, created), "storage_unavailable")
            within_limit(new_track, client, session_id)
        finally:
            store.resume()
        assert send_cover(client, created).status_code == 200
        store.stop()
        assert_unavailable(within_limit(send_cover, client, created), "storage_unavailable")
        within_limit(new_track, client, session_id)
        store.start()
        assert send_cover(client, created).status_code == 200
    finally:
        store.resume()
        store.stop(signal.SIGKILL)


def test_rejected_credentials_are_an_error_of_their_own(make_client):
    """A store that rejects the service's credentials is a 503 of its own, which shows no secret."""
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong-secret"}
    make_client()
    client = make_client(**wrong, CREATE_MISSING="0", COVER_UPLOAD="relay")
    created = new_track(client, new_session(client)["upload_session_id"])
    response = send_cover(client, created)
    assert_unavailable(response, "storage_rejected")
    assert not any(value in response.text for value in wrong.values())


# --- The database ---


def request_all_endpoints(client):
    """Return a response of each of the three endpoints, each within the time limit."""
    return [
        within_limit(client.post, "/v1/upload_session", json={"collection_id": COLLECTION}),
        within_limit(client.get, f"/v1/upload_session/{COLLECTION}"),
        within_limit(client.post, f"/v1/upload/{COLLECTION}/track", json={"file_name": "a.mp3"}),
    ]


@pytest.mark.sqlite
def test_missing_database_folder_is_unavailable(make_client, tmp_path):
    """A database in a missing folder is a 503 of each endpoint."""
    client = make_client(DATABASE_URL=f"sqlite:///{tmp_path}/missing/loadbay.db", CREATE_MISSING="0")
    for response in request_all_endpoints(client):
        assert_unavailable(response, "database_unavailable")


@pytest.mark.sqlite
def test_folder_as_database_is_unavailable(make_client, tmp_path):
    """A database path that is a folder is a 503 of each endpoint."""
    client = make_client(DATABASE_URL=f"sqlite:///{tmp_path}", CREATE_MISSING="0")
    for response in request_all_endpoints(client):
        assert_unavailable(response, "database_unavailable")


@pytest.mark.sqlite
def test_other_file_as_database_is_unavailable(make_client, tmp_path):
    """A file that is no database is a 503 of each endpoint."""
    (tmp_path / "text.db").write_bytes(b"this is no database, only text\n" * 100)
    client = make_client(DATABASE_URL=f"sqlite:///{tmp_path}/text.db", CREATE_MISSING="0")
    for response in request_all_endpoints(client):
        assert_unavailable(response, "database_unavailable")


@pytest.mark.sqlite
def test_database_without_tables_is_unavailable(make_client, tmp_path):
    """A database without tables is a 503 of each endpoint."""
    client = make_client(DATABASE_URL=f"sqlite:///{tmp_path}/empty.db", CREATE_MISSING="0")
    for response in request_all_endpoints(client):
        assert_unavailable(response, "database_unavailable")


@pytest.mark.sqlite
def test_dropped_table_is_unavailable(client, settings):
    """A table that is dropped under a running service is a 503, not a 500."""
    session_id = new_session(client)["upload_session_id"]
    with closing(sqlite3.connect(settings["DATABASE_URL"].removeprefix("sqlite:///"))) as database:
        database.execute("DROP TABLE loadbay_track")
        database.commit()
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3"})
    assert_unavailable(response, "database_unavailable")


@pytest.mark.sqlite
def test_locked_database_is_unavailable(client, settings, count_rows):
    """While another connection has the lock, writes are 503 within two seconds; afterwards they succeed."""
    session_id = new_session(client)["upload_session_id"]
    rows_before = count_rows()
    path = settings["DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        session = within_limit(client.post, "/v1/upload_session", json={"collection_id": COLLECTION})
        track = within_limit(client.post, f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3"})
        payload = {"collection_id": COLLECTION, "track": {"file_name": "a.mp3"}}
        first = within_limit(client.post, "/v1/upload_session", json=payload)
        assert within_limit(client.get, f"/v1/upload_session/{session_id}").status_code == 200
        connection.execute("ROLLBACK")
    for response in (session, track, first):
        assert_unavailable(response, "database_unavailable")
    assert count_rows() == rows_before
    new_track(client, session_id)


@pytest.mark.sqlite
@pytest.mark.parametrize("call", [lambda database: database.execute_sql("SELECT 1"), lambda database: database.begin()])
def test_connecting_and_writing_share_one_lock_timeout(tmp_path, call):
    """A new connection waits for a lock no longer than an open one."""
    with closing(sqlite3.connect(tmp_path / "locked.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE a (b)")
        connection.execute("BEGIN EXCLUSIVE")
        database = open_database(f"sqlite:///{tmp_path}/locked.db")
        with pytest.raises(OperationalError, match="locked"), time_limit():
            call(database)


@pytest.mark.sqlite
def test_waits_for_a_short_lock(client, settings):
    """A lock that is released within the timeout delays the write only."""
    session_id = new_session(client)["upload_session_id"]
    path = settings["DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        release = Timer(0.3, connection.execute, ["ROLLBACK"])
        release.start()
        new_track(client, session_id)
        release.join()


@pytest.mark.sqlite
def test_failed_write_is_rolled_back(client, settings, count_rows):
    """If the track cannot be stored, its session is not stored either."""
    path = settings["DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TRIGGER no_track BEFORE INSERT ON loadbay_track BEGIN SELECT no_such_function(); END")
        database.commit()
    rows_before = count_rows()
    body = {"collection_id": COLLECTION, "track": {"file_name": "a.mp3"}}
    assert_unavailable(client.post("/v1/upload_session", json=body), "database_unavailable")
    assert count_rows() == rows_before


@pytest.mark.parametrize("what", ["track", "batch"])
def test_full_disk_is_unavailable(client, monkeypatch, what):
    """A full disk is a 503; once it has space, requests succeed."""
    session_id = new_session(client)["upload_session_id"]
    requests = {
        "track": (f"/v1/upload/{session_id}/track", {"file_name": "a.mp3"}),
        "batch": (f"/v1/upload/{session_id}/tracks", {"tracks": [{"file_name": "a.mp3"}]}),
    }
    path, payload = requests[what]
    with monkeypatch.context() as full:
        full.setattr("storage.service.Service.execute", lambda *_: FullDisk())
        assert_unavailable(client.post(path, json=payload), "database_unavailable")
    assert client.post(path, json=payload).status_code == 200
