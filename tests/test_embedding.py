"""Embedding: under a prefix, and as a blueprint of another application, held to WSGI by wsgiref's validator."""

from __future__ import annotations

from typing import Any
from wsgiref.validate import validator

import pytest
from flask import Blueprint, Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from app import create_app, loadbay
from conftest import COLLECTION, assert_error, put
from files import wav


@pytest.fixture
def other(settings: dict[str, Any], tmp_path: Any) -> dict[str, Any]:
    """Settings with a database of their own."""
    return {**settings, "DATABASE_URL": f"sqlite:///{tmp_path}/other.db"}


def make(application: Any) -> Client:
    """A client that goes through the validator."""
    return Client(validator(application))


def upload(client: Client, prefix: str) -> tuple[str, dict[str, Any]]:
    """Open a session with a track below `prefix`; returns the session's path and the answer."""
    with client.post(f"{prefix}/v1/upload_session", json={"collection_id": COLLECTION}) as answer:
        assert answer.status_code == 200, answer.text
        session_id = answer.json["upload_session_id"]
    with client.post(f"{prefix}/v1/upload/{session_id}/track", json={"file_name": "a.wav"}) as answer:
        return f"{prefix}/v1/upload_session/{session_id}", dict(answer.json)


def status(client: Client, path: str) -> int:
    """The status of a GET."""
    with client.get(path) as answer:
        return answer.status_code


def test_under_a_prefix(settings, bucket):
    """Mounted by DispatcherMiddleware, all works below the prefix, and errors keep their shape."""
    client = make(DispatcherMiddleware(Flask("host"), {"/uploads": create_app(settings)}))
    path, made = upload(client, "/uploads")
    assert put(made["track_upload"], wav()).status_code == 200
    assert bucket.get(made["track"]["path"]) == wav()
    assert status(client, path) == 200
    with client.get("/uploads/nothing") as answer:
        assert_error(answer, 404, "not_found")


def test_relay_url_below_a_prefix(settings):
    """A URL of our own names the prefix, too."""
    client = make(DispatcherMiddleware(Flask("host"), {"/uploads": create_app({**settings, "COVER_UPLOAD": "relay"})}))
    _, made = upload(client, "/uploads")
    assert made["track_cover_upload"]["upload_url"].startswith("http://localhost/uploads/v1/upload/")


def test_blueprint(settings, bucket):
    """Registered in a host's application, it serves below the host's prefix and leaves the rest to the host."""
    host = Flask("host")
    host.add_url_rule("/", "home", lambda: "home")
    host.register_blueprint(loadbay, url_prefix="/media", config=settings)
    client = make(host)
    path, made = upload(client, "/media")
    assert put(made["track_upload"], wav()).status_code == 200
    assert status(client, path) == 200
    with client.get("/") as answer:
        assert answer.text == "home"
    with client.post("/media/v1/upload_session", json={}) as answer:
        assert_error(answer, 400, "invalid_request", "collection_id")


def test_slashes_in_a_host(settings):
    """A host's application leads to paths with fewer or more slashes, in its own and not in ours."""
    host = Flask("host")
    host.register_blueprint(loadbay, url_prefix="/media", config=settings)
    host.add_url_rule("/a/b", "own", lambda: "own")
    client = make(host)
    assert status(client, "/a//b") == 308
    paths = ("/media/v1//upload_session/x", "/media//docs", "/media")
    assert [status(client, path) for path in paths] == [404, 404, 200]
    with client.options("/media/v1/upload_session") as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    mounted = make(DispatcherMiddleware(Flask("host"), {"/uploads": create_app(settings)}))
    assert status(mounted, "/uploads") == 200


def test_two_in_one_host(settings, other):
    """Registered twice in one application, each has its own database."""
    host = Flask("host")
    host.register_blueprint(loadbay, url_prefix="/one", config=settings)
    host.register_blueprint(loadbay, url_prefix="/two", name="second", config=other)
    client = make(host)
    for mine, theirs in (("/one", "/two"), ("/two", "/one")):
        path, _ = upload(client, mine)
        assert status(client, path) == 200
        assert status(client, path.replace(mine, theirs)) == 404


def test_two_applications(settings, other):
    """Two applications in one process do not know of each other."""
    first, second = make(create_app(settings)), make(create_app(other))
    path, _ = upload(first, "")
    assert status(first, path) == 200
    assert status(second, path) == 404


def test_within_a_blueprint_of_the_host(settings):
    """A host may nest the blueprint in one of its own."""
    area = Blueprint("area", __name__, url_prefix="/area")
    area.register_blueprint(loadbay, config=settings)
    host = Flask("host")
    host.register_blueprint(area)
    path, _ = upload(make(host), "/area")
    assert status(make(host), path) == 200
