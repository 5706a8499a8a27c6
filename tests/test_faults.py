"""Faults, played for real: the store away, frozen or mute, the database away, locked or without its tables."""

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

LIMIT = 2.0


@pytest.fixture
def blackhole():
    """A listener that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def nobody():
    """An endpoint where nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def unreachable(request):
    """The endpoint that the parameter names."""
    return request.getfixturevalue(request.param)


@contextmanager
def in_time():
    """What is done within must take less than two seconds, however it ends."""
    began = time.monotonic()
    try:
        yield
    finally:
        assert time.monotonic() - began < LIMIT


def quickly(call, *args, **kwargs):
    """The outcome of `call`, which must take less than two seconds."""
    with in_time():
        return call(*args, **kwargs)


def send_cover(client, created, size=1000):
    """Send a cover through the relay."""
    file = (BytesIO(bytes(size)), "cover.jpg", "image/jpeg")
    return client.post(urlsplit(created["track_cover_upload"]["upload_url"]).path, data={"file": file})


def assert_away(response, code):
    """The answer is a 503 that says when to try again."""
    assert_error(response, 503, code)
    assert 1 <= int(response.headers["Retry-After"]) <= 60


class FullDisk:
    """A cursor on a disk that is found to be full when the statement comes to its end: SQLite commits only then."""

    def fetchall(self):
        raise sqlite3.OperationalError("database or disk is full")

    fetchone = fetchall


# --- The store ---


@pytest.mark.parametrize("unreachable", ["nobody", "blackhole"], indirect=True)
def test_presigning_needs_no_store(make_client, unreachable):
    """Sessions and tracks are made without the store, at once."""
    make_client()  # makes the tables, with the store there
    client = make_client(S3_ENDPOINT=unreachable, CREATE_MISSING="0")
    session = quickly(new_session, client)
    created = quickly(new_track, client, session["upload_session_id"])
    assert created["track_upload"]["upload_url"].startswith(unreachable)
    assert quickly(client.get, f"/v1/upload_session/{session['upload_session_id']}").status_code == 200


@pytest.mark.parametrize("unreachable", ["nobody", "blackhole"], indirect=True)
def test_starting_needs_no_store(settings, unreachable):
    """The application comes up without the store, soon, and makes its tables all the same."""
    app = quickly(create_app, {**settings, "S3_ENDPOINT": unreachable})
    new_track(app.test_client(), new_session(app.test_client())["upload_session_id"])


@pytest.mark.parametrize("size", [1000, 1_000_000])
@pytest.mark.parametrize("unreachable", ["nobody", "blackhole"], indirect=True)
def test_relay_without_a_store(make_client, unreachable, size):
    """A cover that cannot be passed on is a 503 within two seconds, with a time to try again."""
    make_client()
    client = make_client(S3_ENDPOINT=unreachable, CREATE_MISSING="0", COVER_UPLOAD="relay")
    created = new_track(client, new_session(client)["upload_session_id"])
    assert_away(quickly(send_cover, client, created, size), "storage_unavailable")


def test_store_that_stops_freezes_and_comes_back(make_client, tmp_path):
    """A store may freeze, stop and come back under a running service: 503 meanwhile, no restart after."""
    store = start_store(tmp_path / "store")
    try:
        client = make_client(S3_ENDPOINT=store.endpoint, COVER_UPLOAD="relay")
        session_id = new_session(client)["upload_session_id"]
        created = new_track(client, session_id)
        assert send_cover(client, created).status_code == 200
        store.pause()
        try:
            assert_away(quickly(send_cover, client, created), "storage_unavailable")
            quickly(new_track, client, session_id)
        finally:
            store.resume()
        assert send_cover(client, created).status_code == 200
        store.stop()
        assert_away(quickly(send_cover, client, created), "storage_unavailable")
        quickly(new_track, client, session_id)
        store.start()
        assert send_cover(client, created).status_code == 200
    finally:
        store.resume()
        store.stop(signal.SIGKILL)


def test_store_that_refuses(make_client):
    """A store that refuses the service is a 503 of its own kind, which tells no secret."""
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong-secret"}
    make_client()
    client = make_client(**wrong, CREATE_MISSING="0", COVER_UPLOAD="relay")
    created = new_track(client, new_session(client)["upload_session_id"])
    response = send_cover(client, created)
    assert_away(response, "storage_rejected")
    assert not any(value in response.text for value in wrong.values())


# --- The database ---


def every_endpoint(client):
    """An answer of each of the three endpoints, each asked for at once."""
    return [
        quickly(client.post, "/v1/upload_session", json={"collection_id": COLLECTION}),
        quickly(client.get, f"/v1/upload_session/{COLLECTION}"),
        quickly(client.post, f"/v1/upload/{COLLECTION}/track", json={"file_name": "a.mp3"}),
    ]


@pytest.mark.sqlite
def test_database_without_a_folder(make_client, tmp_path):
    """A database in a folder that is not there is a 503 of each endpoint."""
    client = make_client(DATABASE_URL=f"sqlite:///{tmp_path}/missing/loadbay.db", CREATE_MISSING="0")
    for response in every_endpoint(client):
        assert_away(response, "database_unavailable")


@pytest.mark.sqlite
def test_database_that_is_a_folder(make_client, tmp_path):
    """A database whose path is a folder is a 503 of each endpoint."""
    client = make_client(DATABASE_URL=f"sqlite:///{tmp_path}", CREATE_MISSING="0")
    for response in every_endpoint(client):
        assert_away(response, "database_unavailable")


@pytest.mark.sqlite
def test_database_that_is_none(make_client, tmp_path):
    """A file that is no database is a 503 of each endpoint."""
    (tmp_path / "text.db").write_bytes(b"this is no database, only text\n" * 100)
    client = make_client(DATABASE_URL=f"sqlite:///{tmp_path}/text.db", CREATE_MISSING="0")
    for response in every_endpoint(client):
        assert_away(response, "database_unavailable")


@pytest.mark.sqlite
def test_database_without_tables(make_client, tmp_path):
    """A database that was not prepared is a 503 of each endpoint."""
    client = make_client(DATABASE_URL=f"sqlite:///{tmp_path}/empty.db", CREATE_MISSING="0")
    for response in every_endpoint(client):
        assert_away(response, "database_unavailable")


@pytest.mark.sqlite
def test_table_that_goes_missing(client, settings):
    """A table that goes away under a running service is a 503, not a fault."""
    session_id = new_session(client)["upload_session_id"]
    with closing(sqlite3.connect(settings["DATABASE_URL"].removeprefix("sqlite:///"))) as database:
        database.execute("DROP TABLE loadbay_track")
        database.commit()
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3"})
    assert_away(response, "database_unavailable")


@pytest.mark.sqlite
def test_locked_database(client, settings, count_rows):
    """While somebody else holds the lock a write is a 503 within two seconds; a moment later all goes on."""
    session_id = new_session(client)["upload_session_id"]
    before = count_rows()
    path = settings["DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        session = quickly(client.post, "/v1/upload_session", json={"collection_id": COLLECTION})
        track = quickly(client.post, f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3"})
        both = {"collection_id": COLLECTION, "track": {"file_name": "a.mp3"}}
        first = quickly(client.post, "/v1/upload_session", json=both)
        assert quickly(client.get, f"/v1/upload_session/{session_id}").status_code == 200
        other.execute("ROLLBACK")
    for response in (session, track, first):
        assert_away(response, "database_unavailable")
    assert count_rows() == before
    new_track(client, session_id)


@pytest.mark.sqlite
@pytest.mark.parametrize("call", [lambda database: database.execute_sql("SELECT 1"), lambda database: database.begin()])
def test_lock_before_the_connection(tmp_path, call):
    """Who has no connection yet waits for a lock as long as who has one, not for the connection and then once more."""
    with closing(sqlite3.connect(tmp_path / "locked.db", isolation_level=None)) as other:
        other.execute("CREATE TABLE a (b)")
        other.execute("BEGIN EXCLUSIVE")
        database = open_database(f"sqlite:///{tmp_path}/locked.db")
        with pytest.raises(OperationalError, match="locked"), in_time():
            call(database)


@pytest.mark.sqlite
def test_short_lock_is_waited_for(client, settings):
    """A lock that is held for a moment only is waited for."""
    session_id = new_session(client)["upload_session_id"]
    path = settings["DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        release = Timer(0.3, other.execute, ["ROLLBACK"])
        release.start()
        new_track(client, session_id)
        release.join()


@pytest.mark.sqlite
def test_a_failed_write_keeps_nothing(client, settings, count_rows):
    """Where the track cannot be kept, its session is not either."""
    path = settings["DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TRIGGER no_track BEFORE INSERT ON loadbay_track BEGIN SELECT no_such_function(); END")
        database.commit()
    before = count_rows()
    body = {"collection_id": COLLECTION, "track": {"file_name": "a.mp3"}}
    assert_away(client.post("/v1/upload_session", json=body), "database_unavailable")
    assert count_rows() == before


@pytest.mark.parametrize("what", ["track", "batch"])
def test_full_disk(client, monkeypatch, what):
    """A disk that is full is a database that is away; with room again it goes on."""
    session_id = new_session(client)["upload_session_id"]
    requests = {
        "track": (f"/v1/upload/{session_id}/track", {"file_name": "a.mp3"}),
        "batch": (f"/v1/upload/{session_id}/tracks", {"tracks": [{"file_name": "a.mp3"}]}),
    }
    path, payload = requests[what]
    with monkeypatch.context() as full:
        full.setattr("storage.service.Service.execute", lambda *_: FullDisk())
        assert_away(client.post(path, json=payload), "database_unavailable")
    assert client.post(path, json=payload).status_code == 200
