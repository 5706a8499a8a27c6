"""Embedding: under a prefix, and as a blueprint of another application, checked by wsgiref's WSGI validator."""

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
from support.store import put, staged_key


@pytest.fixture
def other_settings(settings: dict[str, Any], tmp_path: Any) -> dict[str, Any]:
    """Settings with a database of their own."""
    return {**settings, "DATABASE_URL": f"sqlite:///{tmp_path}/other.db"}


def make_validated_client(application: Any) -> Client:
    """Return a client that goes through the validator."""
    return Client(validator(application))


def create_session_and_track(client: Client, prefix: str) -> tuple[str, dict[str, Any]]:
    """Create a session with a track below `prefix`; return the session's path and the track's response."""
    with client.post(f"{prefix}/v1/upload_session", json={"collection_id": COLLECTION}) as response:
        assert response.status_code == 200, response.text
        session_id = response.json["upload_session_id"]
    with client.post(f"{prefix}/v1/upload/{session_id}/track", json={"file_name": "a.wav"}) as response:
        return f"{prefix}/v1/upload_session/{session_id}", dict(response.json)


def get_status(client: Client, path: str) -> int:
    """Return the status of a GET."""
    with client.get(path) as response:
        return response.status_code


def test_works_under_a_prefix(settings, bucket):
    """Mounted by DispatcherMiddleware, everything works below the prefix, and errors keep their format."""
    client = make_validated_client(DispatcherMiddleware(Flask("host"), {"/uploads": create_app(settings)}))
    path, created = create_session_and_track(client, "/uploads")
    assert put(created["track_upload"], wav()).status_code == 200
    assert get_status(client, path) == 200
    assert bucket.get(staged_key(created["track_upload"])) == wav()
    with client.get("/uploads/nothing") as response:
        assert_error(response, 404, "not_found")


def test_relay_urls_have_the_prefix(settings):
    """The relay URL of a cover has the prefix."""
    client = make_validated_client(
        DispatcherMiddleware(Flask("host"), {"/uploads": create_app({**settings, "COVER_UPLOAD": "relay"})})
    )
    _, created = create_session_and_track(client, "/uploads")
    assert created["track_cover_upload"]["upload_url"].startswith("http://localhost/uploads/v1/upload/")


def test_works_as_a_blueprint(settings, bucket):
    """Registered in a host application, it serves below the host's prefix and leaves the rest to the host."""
    host = Flask("host")
    host.add_url_rule("/", "home", lambda: "home")
    host.register_blueprint(loadbay, url_prefix="/media", config=settings)
    client = make_validated_client(host)
    path, created = create_session_and_track(client, "/media")
    assert put(created["track_upload"], wav()).status_code == 200
    assert get_status(client, path) == 200
    with client.get("/") as response:
        assert response.text == "home"
    with client.post("/media/v1/upload_session", json={}) as response:
        assert_error(response, 400, "invalid_request", "collection_id")


def test_strict_slashes_apply_to_our_paths_only(settings):
    """A host redirects paths with duplicate slashes as usual, but ours are strict."""
    host = Flask("host")
    host.register_blueprint(loadbay, url_prefix="/media", config=settings)
    host.add_url_rule("/a/b", "own", lambda: "own")
    client = make_validated_client(host)
    assert get_status(client, "/a//b") == 308
    paths = ("/media/v1//upload_session/x", "/media//docs", "/media")
    assert [get_status(client, path) for path in paths] == [404, 404, 200]
    with client.options("/media/v1/upload_session") as response:
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    mounted_client = make_validated_client(DispatcherMiddleware(Flask("host"), {"/uploads": create_app(settings)}))
    assert get_status(mounted_client, "/uploads") == 200


def test_two_services_in_one_host(settings, other_settings):
    """Registered twice in one application, each service has its own database."""
    host = Flask("host")
    host.register_blueprint(loadbay, url_prefix="/one", config=settings)
    host.register_blueprint(loadbay, url_prefix="/two", name="second", config=other_settings)
    client = make_validated_client(host)
    for prefix, other_prefix in (("/one", "/two"), ("/two", "/one")):
        path, _ = create_session_and_track(client, prefix)
        assert get_status(client, path) == 200
        assert get_status(client, path.replace(prefix, other_prefix)) == 404


def test_two_applications_share_nothing(settings, other_settings):
    """Two applications in one process are independent."""
    first, second = make_validated_client(create_app(settings)), make_validated_client(create_app(other_settings))
    path, _ = create_session_and_track(first, "")
    assert get_status(first, path) == 200
    assert get_status(second, path) == 404


def test_nested_in_a_blueprint_of_the_host(settings):
    """A host may nest the blueprint in one of its own."""
    area = Blueprint("area", __name__, url_prefix="/area")
    area.register_blueprint(loadbay, config=settings)
    host = Flask("host")
    host.register_blueprint(area)
    path, _ = create_session_and_track(make_validated_client(host), "/area")
    assert get_status(make_validated_client(host), path) == 200


def test_requests_that_the_host_rejects_are_counted(settings):
    """A request that the host rejects before our view is logged and counted all the same."""
    host = Flask("host")
    config = {**settings, "LOG_REQUESTS": "1", "METRICS_TOKEN": "t" * 16}
    host.register_blueprint(loadbay, url_prefix="/<tenant>", config=config)

    @host.url_value_preprocessor
    def tenant(_endpoint: str | None, values: dict[str, Any] | None) -> None:
        if values is None or values.pop("tenant") != "known":
            abort(404)

    client = make_validated_client(host)
    assert get_status(client, "/unknown/docs") == 404
    assert get_status(client, "/known/docs") == 200
    with client.get("/known/metrics", headers={"Authorization": "Bearer " + "t" * 16}) as response:
        assert 'route="/<tenant>/docs",status="404"' in response.text


def test_host_may_read_the_body(settings):
    """A body that the host has read is still available to the service."""
    host = Flask("host")
    host.before_request(lambda: print(request.get_data()))
    host.register_blueprint(loadbay, config=settings)
    client = make_validated_client(host)
    path, _ = create_session_and_track(client, "")
    assert get_status(client, path) == 200


def test_host_sessions_are_saved(settings):
    """Sessions that a host adds to the application are saved."""
    app = create_app(settings)
    app.secret_key, app.session_interface = "secret", SecureCookieSessionInterface()
    app.before_request(lambda: session.update(visited=True))
    with make_validated_client(app).get("/docs") as response:
        assert "session=" in response.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("trusted", "expected"),
    [(None, 200), (["loadbay.example"], 200), ("loadbay.example", 200), ([], 200), (["other"], 400)],
)
def test_trusted_hosts_work_as_in_flask(settings, trusted, expected):
    """TRUSTED_HOSTS has Flask's own meaning."""
    app = create_app(settings)
    app.config["TRUSTED_HOSTS"] = trusted
    with make_validated_client(app).get("/docs", headers={"Host": "loadbay.example"}) as response:
        assert response.status_code == expected
