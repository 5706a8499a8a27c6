"""PostgreSQL that stops, and comes back."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from peewee import OperationalError

from app import create_app
from storage.db import postgres
from storage.db.connection import open_database
from storage.uploads import tracks
from support.api import COLLECTION, new_session, new_track
from support.database import outbox_rows
from support.live_server import serve
from support.postgres import Postgres, new_database
from support.processes import wait_until

pytestmark = pytest.mark.postgresql


def open_session(url):
    """Ask for a session."""
    return requests.post(f"{url}/v1/upload_session", json={"collection_id": COLLECTION}, timeout=10)


@pytest.fixture
def own(monkeypatch):
    """A server of the test's own, even where the run has that of TEST_DATABASE_URL."""
    monkeypatch.delenv("TEST_DATABASE_URL", raising=False)
    server = Postgres()
    server.start()
    yield server
    server.stop()


def test_restart(own, settings, make_database):
    """While the server is away the answer is 503, and quick; once it is back, every request is taken."""
    with new_database(own.url) as database, serve(create_app({**settings, "DATABASE_URL": database})) as url:
        assert open_session(url).status_code == 200
        own.pause()
        for _ in range(3):
            started = time.monotonic()
            response = open_session(url)
            assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
            assert int(response.headers["Retry-After"]) > 0
            assert time.monotonic() - started < 2
        own.resume()
        assert [open_session(url).status_code for _ in range(5)] == [200] * 5


def test_mute(make_database):
    """A server that takes connections and says nothing is waited for once."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        database = open_database(f"postgresql://127.0.0.1:{mute.getsockname()[1]}/loadbay")
        started = time.monotonic()
        with pytest.raises(OperationalError, match="timeout"):
            database.execute_sql("SELECT 1")
        assert time.monotonic() - started < 3


def test_frozen(own, settings, make_database):
    """A server that takes connections and no longer answers is away too: kept connections and new ones tell so soon."""
    with new_database(own.url) as database, serve(create_app({**settings, "DATABASE_URL": database})) as url:
        assert open_session(url).status_code == 200
        own.freeze()
        try:
            for _ in range(2):
                started = time.monotonic()
                assert open_session(url).json()["code"] == "database_unavailable"
                assert time.monotonic() - started < 2.5
        finally:
            own.thaw()
        wait_until(lambda: open_session(url).status_code == 200, "It never took a request again.")


def test_frozen_amid_a_statement(own, make_database, monkeypatch):
    """A statement that gets no answer is given up, and so is its connection; the next begins with a new one."""
    monkeypatch.setattr(postgres, "STATEMENT_TIMEOUT", 1)
    with new_database(own.url) as url:
        database = open_database(url)
        first = database.execute_sql("SELECT pg_backend_pid()").fetchone()
        started = time.monotonic()
        with pytest.raises(OperationalError, match="did not answer within 1 s"):
            database.execute_sql("SELECT pg_sleep(4)")
        assert time.monotonic() - started < 2
        assert database.is_closed()
        assert database.execute_sql("SELECT pg_backend_pid()").fetchone() != first
        database.connection().response_timeout = None
        database.execute_sql("SELECT pg_sleep(1.5)")
        database.close()
        database.close_idle()


def test_options(own, make_database):
    """How long to wait for a lock is set by a statement: PgBouncer takes the connection, and a URL's options hold."""
    with new_database(own.url) as url:
        for options, lock, statement in (("", "1500ms", "0"), ("statement_timeout%3D7s", "1500ms", "7s")):
            more = f"{'&' if '?' in url else '?'}options=-c%20{options}" if options else ""
            database = open_database(url + more)
            shown = [database.execute_sql(f"SHOW {name}_timeout").fetchone()[0] for name in ("lock", "statement")]
            assert shown == [lock, statement]
            assert "lock_timeout" not in database.connection().info.options
            database.close()
            database.close_idle()


def test_quick_restart(own, settings, make_database):
    """A restart between two requests costs at most one of them for each connection."""
    with new_database(own.url) as database, serve(create_app({**settings, "DATABASE_URL": database})) as url:
        workers = [threading.Thread(target=open_session, args=(url,)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        own.pause()
        own.resume()
        codes = [open_session(url).status_code for _ in range(10)]
        assert codes.count(503) <= 4
        assert codes[-6:] == [200] * 6


def test_webhook_that_is_deleted_meanwhile(client, service, receiver, webhook_secret, settings):
    """A track that is moved while its organization's webhook is deleted waits for that, and tells nobody."""
    created = new_track(client, new_session(client)["upload_session_id"])
    row = tracks.read(service, created["upload_session_id"], created["track_id"])
    other = open_database(settings["DATABASE_URL"])

    def move():
        with service.database.connection_context():
            return tracks.transition(service, row, "expired")

    with ThreadPoolExecutor(1) as pool:
        with other.connection_context(), other.atomic():
            other.execute_sql("DELETE FROM loadbay_webhook")
            moving = pool.submit(move)
            time.sleep(0.5)
            assert not moving.done()
        assert moving.result()
    other.close_idle()
    assert outbox_rows(service) == []
