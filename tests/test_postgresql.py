"""PostgreSQL that stops, and comes back."""

from __future__ import annotations

import threading
import time

import pytest
import requests

from app import create_app
from conftest import COLLECTION
from postgres import Postgres, new_database
from serving import serve

pytestmark = pytest.mark.postgresql


def open_session(url):
    """Ask for a session."""
    return requests.post(f"{url}/v1/upload_session", json={"collection_id": COLLECTION}, timeout=10)


@pytest.fixture
def own():
    """A server of the test's own."""
    server = Postgres()
    server.url = ""
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
            answer = open_session(url)
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
            assert int(answer.headers["Retry-After"]) > 0
            assert time.monotonic() - started < 2
        own.resume()
        assert [open_session(url).status_code for _ in range(5)] == [200] * 5


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
