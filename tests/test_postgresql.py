"""PostgreSQL that restarts, freezes or never responds."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import requests
from peewee import OperationalError

from app import create_app
from storage.db import postgres
from storage.db.connection import open_database
from storage.http.exchange import Exchanges
from storage.uploads import tracks
from support.api import COLLECTION, complete, new_session, new_track, service_of
from support.database import outbox_rows
from support.live_server import serve
from support.postgres import Postgres, new_database
from support.processes import wait_until
from support.sample_files import wav
from support.store import put

pytestmark = pytest.mark.postgresql


def open_session(url):
    """Request a session."""
    return requests.post(f"{url}/v1/upload_session", json={"collection_id": COLLECTION}, timeout=10)


@pytest.fixture
def session_id(client):
    """The id of an open session."""
    return new_session(client)["upload_session_id"]


@pytest.fixture
def server(monkeypatch):
    """A server of the test's own, even if TEST_DATABASE_URL is set."""
    monkeypatch.delenv("TEST_DATABASE_URL", raising=False)
    server = Postgres()
    server.start()
    yield server
    server.stop()


def test_recovers_after_a_restart(server, settings, make_database):
    """While the server is down, requests are 503 and quick; afterwards they succeed."""
    with new_database(server.url) as database, serve(create_app({**settings, "DATABASE_URL": database})) as url:
        assert open_session(url).status_code == 200
        server.pause()
        for _ in range(3):
            started = time.monotonic()
            response = open_session(url)
            assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
            assert int(response.headers["Retry-After"]) > 0
            assert time.monotonic() - started < 2
        server.resume()
        assert [open_session(url).status_code for _ in range(5)] == [200] * 5


def test_request_holds_no_connection_while_it_waits_for_the_store(app, client, session_id, monkeypatch):
    """A request to the store is sent without a connection to the database, which serves other requests meanwhile."""
    database, send, sent = service_of(app).database, Exchanges.send, []

    def record(self, method, *args):
        sent.append((method, database.is_closed()))
        return send(self, method, *args)

    monkeypatch.setattr(Exchanges, "send", record)
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    assert complete(client, session_id, created)["status"] == "uploaded"
    assert ("GET", True) in sent
    assert ("PUT", True) in sent
    assert not [method for method, is_closed in sent if not is_closed]


def test_gives_up_a_server_that_never_responds(make_database):
    """Connecting to a server that accepts connections but never responds times out once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        database = open_database(f"postgresql://127.0.0.1:{listener.getsockname()[1]}/loadbay")
        started = time.monotonic()
        with pytest.raises(OperationalError, match="timeout"):
            database.execute_sql("SELECT 1")
        assert time.monotonic() - started < 3


def test_frozen_server_is_unavailable(server, settings, make_database):
    """A frozen server is unavailable within seconds, on open connections and on new ones."""
    with new_database(server.url) as database, serve(create_app({**settings, "DATABASE_URL": database})) as url:
        assert open_session(url).status_code == 200
        server.freeze()
        try:
            for _ in range(2):
                started = time.monotonic()
                assert open_session(url).json()["code"] == "database_unavailable"
                assert time.monotonic() - started < 2.5
        finally:
            server.thaw()
        wait_until(lambda: open_session(url).status_code == 200, "The service does not recover.")


def test_statement_timeout_discards_the_connection(server, make_database, monkeypatch):
    """A statement without a response is given up with its connection; the next one uses a new connection."""
    monkeypatch.setattr(postgres, "STATEMENT_TIMEOUT", 1)
    with new_database(server.url) as url:
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


def test_lock_timeout_is_set_by_a_statement(server, make_database):
    """The lock timeout is set by a statement, since PgBouncer rejects connection options; those of the URL apply."""
    with new_database(server.url) as url:
        for options, lock, statement in (("", "1500ms", "0"), ("statement_timeout%3D7s", "1500ms", "7s")):
            more = f"{'&' if '?' in url else '?'}options=-c%20{options}" if options else ""
            database = open_database(url + more)
            shown = [database.execute_sql(f"SHOW {name}_timeout").fetchone()[0] for name in ("lock", "statement")]
            assert shown == [lock, statement]
            assert "lock_timeout" not in database.connection().info.options
            database.close()
            database.close_idle()


def test_quick_restart_costs_one_request_per_connection(server, settings, make_database):
    """A restart between two requests fails at most one request per connection."""
    with new_database(server.url) as database, serve(create_app({**settings, "DATABASE_URL": database})) as url:
        workers = [threading.Thread(target=open_session, args=(url,)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        server.pause()
        server.resume()
        codes = [open_session(url).status_code for _ in range(10)]
        assert codes.count(503) <= 4
        assert codes[-6:] == [200] * 6


def test_concurrent_deletion_of_a_webhook_drops_its_event(client, service, receiver, webhook_secret, settings):
    """A track's transition waits for the concurrent deletion of the webhook, and writes no event."""
    created = new_track(client, new_session(client)["upload_session_id"])
    row = tracks.read(service, created["upload_session_id"], created["track_id"])
    other = open_database(settings["DATABASE_URL"])

    def expire():
        with service.database.connection_context():
            return tracks.update(service, row, "status = 'initialized'", (), {"status": "expired"})

    with ThreadPoolExecutor(1) as pool:
        with other.connection_context(), other.atomic():
            other.execute_sql("DELETE FROM loadbay_webhook")
            transition = pool.submit(expire)
            time.sleep(0.5)
            assert not transition.done()
        assert transition.result()
    other.close_idle()
    assert outbox_rows(service) == []


def test_changes_of_the_same_sessions_do_not_wait_for_each_other(client, service):
    """Of two transactions that change tracks of the same sessions in opposite orders, both succeed."""
    session_ids = [new_session(client)["upload_session_id"] for _ in range(2)]
    rows = [tracks.read(service, id, new_track(client, id)["track_id"]) for id in [*session_ids, *session_ids]]
    first_changes = threading.Barrier(2)

    def expire(row, _):
        expired = tracks.update(service, row, "status = 'initialized'", (), {"status": "expired"})
        with suppress(threading.BrokenBarrierError):
            # Where the transactions take turns, the second one does not come here before the first one ends.
            first_changes.wait(0.5)
        return expired

    def expire_all(rows):
        with service.database.connection_context():
            return tracks.change_each(service, [(row, None) for row in rows], expire)

    with ThreadPoolExecutor(2) as pool:
        transactions = [pool.submit(expire_all, some) for some in ((rows[0], rows[1]), (rows[3], rows[2]))]
        assert [transaction.result() for transaction in transactions] == [[True, True]] * 2


def test_server_logs_no_session_id(server, settings):
    """A session that is full, of tracks or of bytes, is no error for the server, which would log its row."""
    with new_database(server.url) as database:
        app = create_app({**settings, "DATABASE_URL": database})
        client = app.test_client()
        session_ids = []
        for limit in ({"max_tracks": 1}, {"max_bytes": 5}):
            body = {"collection_id": COLLECTION, **limit, "track": {"file_name": "a.wav", "file_size": 5}}
            response = client.post("/v1/upload_session", json=body)
            assert response.status_code == 200
            session_ids.append(response.json["upload_session_id"])
        track = {"file_name": "b.wav", "file_size": 5}
        for path, body in (("track", track), ("tracks", {"tracks": [track, track]})):
            statuses = [client.post(f"/v1/upload/{id}/{path}", json=body).json["code"] for id in session_ids]
            assert statuses == ["track_limit_reached", "byte_limit_reached"]
    log = "".join(path.read_text() for path in (server.folder / "data").glob("*log*") if path.is_file())
    assert "database system is ready" in log
    for session_id in session_ids:
        assert session_id not in log
