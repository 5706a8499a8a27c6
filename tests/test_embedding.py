"""Embedding: under a prefix, and as a blueprint of another application, held to WSGI by wsgiref's validator."""

from __future__ import annotations

from typing import Any
from wsgiref.validate import validator

import pytest
from flask import Blueprint, Flask, abort, request, session
from flask.sessions import SecureCookieSessionInterface
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from app import create_app, loadbay
from support.api import COLLECTION, assert_error
from support.sample_files import wav
from support.store import put


@pytest.fixture
def other(settings: dict[str, Any], tmp_path: Any) -> dict[str, Any]:
    """Settings with a database of their own."""
    return {**settings, "DATABASE_URL": f"sqlite:///{tmp_path}/other.db"}


def make(application: Any) -> Client:
    """A client that goes through the validator."""
    return Client(validator(application))


def upload(client: Client, prefix: str) -> tuple[str, dict[str, Any]]:
    """Open a session with a track below `prefix`; returns the session's path and the answer."""
    with client.post(f"{prefix}/v1/upload_session", json={"collection_id": COLLECTION}) as response:
        assert response.status_code == 200, response.text
        session_id = response.json["upload_session_id"]
    with client.post(f"{prefix}/v1/upload/{session_id}/track", json={"file_name": "a.wav"}) as response:
        return f"{prefix}/v1/upload_session/{session_id}", dict(response.json)


def status(client: Client, path: str) -> int:
    """The status of a GET."""
    with client.get(path) as response:
        return response.status_code


def test_under_a_prefix(settings, bucket):
    """Mounted by DispatcherMiddleware, all works below the prefix, and errors keep their shape."""
    client = make(DispatcherMiddleware(Flask("host"), {"/uploads": create_app(settings)}))
    path, created = upload(client, "/uploads")
    assert put(created["track_upload"], wav()).status_code == 200
    assert bucket.get(created["track"]["path"]) == wav()
    assert status(client, path) == 200
    with client.get("/uploads/nothing") as response:
        assert_error(response, 404, "not_found")


def test_relay_url_below_a_prefix(settings):
    """A URL of our own names the prefix, too."""
    client = make(DispatcherMiddleware(Flask("host"), {"/uploads": create_app({**settings, "COVER_UPLOAD": "relay"})}))
    _, created = upload(client, "/uploads")
    assert created["track_cover_upload"]["upload_url"].startswith("http://localhost/uploads/v1/upload/")


def test_blueprint(settings, bucket):
    """Registered in a host's application, it serves below the host's prefix and leaves the rest to the host."""
    host = Flask("host")
    host.add_url_rule("/", "home", lambda: "home")
    host.register_blueprint(loadbay, url_prefix="/media", config=settings)
    client = make(host)
    path, created = upload(client, "/media")
    assert put(created["track_upload"], wav()).status_code == 200
    assert status(client, path) == 200
    with client.get("/") as response:
        assert response.text == "home"
    with client.post("/media/v1/upload_session", json={}) as response:
        assert_error(response, 400, "invalid_request", "collection_id")


def test_slashes_in_a_host(settings):
    """A host's application leads to paths with fewer or more slashes, in its own and not in ours."""
    host = Flask("host")
    host.register_blueprint(loadbay, url_prefix="/media", config=settings)
    host.add_url_rule("/a/b", "own", lambda: "own")
    client = make(host)
    assert status(client, "/a//b") == 308
    paths = ("/media/v1//upload_session/x", "/media//docs", "/media")
    assert [status(client, path) for path in paths] == [404, 404, 200]
    with client.options("/media/v1/upload_session") as response:
        assert response.headers["X-Content-Type-Options"] == "nosniff"
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


def test_host_that_refuses_before(settings):
    """A host may refuse what a path says before the request comes to us, and it is logged and counted all the same."""
    host = Flask("host")
    config = {**settings, "LOG_REQUESTS": "1", "METRICS_TOKEN": "t" * 16}
    host.register_blueprint(loadbay, url_prefix="/<tenant>", config=config)

    @host.url_value_preprocessor
    def tenant(_endpoint: str | None, values: dict[str, Any] | None) -> None:
        if values is None or values.pop("tenant") != "known":
            abort(404)

    client = make(host)
    assert status(client, "/unknown/docs") == 404
    assert status(client, "/known/docs") == 200
    with client.get("/known/metrics", headers={"Authorization": "Bearer " + "t" * 16}) as response:
        assert 'route="/<tenant>/docs",status="404"' in response.text


def test_host_that_reads_the_body(settings):
    """What a host has read of a request, it has not taken from us."""
    host = Flask("host")
    host.before_request(lambda: print(request.get_data()))
    host.register_blueprint(loadbay, config=settings)
    client = make(host)
    path, _ = upload(client, "")
    assert status(client, path) == 200


def test_host_with_sessions(settings):
    """A host that gives our application sessions of its own has them saved."""
    app = create_app(settings)
    app.secret_key, app.session_interface = "secret", SecureCookieSessionInterface()
    app.before_request(lambda: session.update(visited=True))
    with make(app).get("/docs") as response:
        assert "session=" in response.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("trusted", "expected"),
    [(None, 200), (["loadbay.example"], 200), ("loadbay.example", 200), ([], 200), (["other"], 400)],
)
def test_trusted_hosts(settings, trusted, expected):
    """TRUSTED_HOSTS is what Flask says it is."""
    app = create_app(settings)
    app.config["TRUSTED_HOSTS"] = trusted
    with make(app).get("/docs", headers={"Host": "loadbay.example"}) as response:
        assert response.status_code == expected
