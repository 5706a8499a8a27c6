"""The blueprint in a Flask application of someone else: neither takes from the other what is its own."""

from __future__ import annotations

import gc
import logging
import re
import sqlite3
from threading import Thread
from typing import Any
from uuid import uuid4

import click
import pytest
from flask import Flask, Response, abort, render_template, request
from flask.testing import FlaskClient
from flask_cors import CORS
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_talisman import Talisman
from flask_wtf.csrf import CSRFProtect
from marshmallow import Schema, class_registry, fields
from werkzeug.exceptions import TooManyRequests

import schemas
from app import create_app, loadbay
from storage.settings import SettingsError
from support.api import COLLECTION, assert_error, new_session, service_of, upload_track
from support.database import run_statement

SESSION = {"collection_id": COLLECTION}


@pytest.fixture
def make_host(settings, tmp_path):
    """Create a host application in a folder of its own, with the blueprint below /media or another prefix."""

    def make(prefix: str | None = "/media", extend: Any = None, **config: Any) -> Flask:
        host = Flask("host", root_path=str(tmp_path))
        host.config.update(SECRET_KEY="a-key-of-the-host", WTF_CSRF_SSL_STRICT=False)
        if extend is not None:
            extend(host)
        host.register_blueprint(loadbay, url_prefix=prefix, config={**settings, **config})
        return host

    return make


@pytest.fixture
def other_settings(settings, tmp_path):
    """Settings with a database of their own."""
    return {**settings, "DATABASE_URL": f"sqlite:///{tmp_path}/other.db"}


def read(client: FlaskClient, path: str) -> str:
    """Return the text of a response with status 200, and close the file that it may come from."""
    with client.get(path) as response:
        assert response.status_code == 200, path
        return str(response.text)


# --- Commands ---------------------------------------------------------------------------------------------------------


def test_commands_are_a_group_in_a_host(make_host):
    """The host's `worker` stays its own; ours are below `flask loadbay`."""

    def add_worker(host: Flask) -> None:
        host.cli.command("worker")(lambda: click.echo("of the host"))

    host = make_host(extend=add_worker)
    assert host.test_cli_runner().invoke(args=["worker"]).output == "of the host\n"
    result = host.test_cli_runner().invoke(args=["loadbay", "prepare"])
    assert (result.exit_code, result.output) == (0, "Nothing to do.\n")
    assert set(host.cli.commands) - {"worker"} == {"loadbay"}
    assert "Deliver webhooks" in host.test_cli_runner().invoke(args=["loadbay", "--help"]).output


def test_group_selects_the_service(make_host, settings, other_settings):
    """With two registrations, each group of commands works on its own service."""
    host = make_host()
    host.register_blueprint(loadbay, url_prefix="/second", name="second", config=other_settings)
    runner = host.test_cli_runner()
    assert runner.invoke(args=["second", "create-key", "--name", "of the second"]).exit_code == 0
    count = "SELECT count(*) FROM loadbay_api_key"
    assert run_statement(settings["DATABASE_URL"], count)[0][0] == 0
    assert run_statement(other_settings["DATABASE_URL"], count)[0][0] == 1
    assert "of the second" in runner.invoke(args=["second", "list-keys"]).output
    assert "of the second" not in runner.invoke(args=["loadbay", "list-keys"]).output


def test_messages_name_the_commands_of_the_host(make_host, other_settings, caplog):
    """Log records, and what commands print, name the commands as this host has them."""
    host = make_host(ALLOW_ANONYMOUS="")
    host.register_blueprint(
        loadbay, url_prefix="/second", name="second", config={**other_settings, "ALLOW_ANONYMOUS": ""}
    )
    for prefix, group in (("/media", "loadbay"), ("/second", "second")):
        assert host.test_client().post(f"{prefix}/v1/upload_session", json=SESSION).status_code == 401
        assert f"Create a key with: flask {group} create-key" in caplog.text
        created = host.test_cli_runner().invoke(args=[group, "create-key", "--name", "our back end"])
        assert f"To revoke it: flask {group} revoke-key " in created.output


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "unauthorized"), (403, "forbidden"), (429, "too_many_requests"), (503, "service_unavailable"),
        (502, "internal_error"), (409, "invalid_request"),
    ],
)  # fmt: skip
def test_decisions_of_the_host_keep_their_status(make_host, caplog, status, code):
    """A request that the host's hook aborts gets that status in our format, and is no internal error."""
    host = make_host()
    host.before_request(lambda: abort(status))
    assert_error(host.test_client().post("/media/v1/upload_session", json=SESSION), status, code)
    assert "Unhandled" not in caplog.text


def test_headers_of_the_host_are_kept(make_host):
    """Headers of the host's error, such as Retry-After, reach the client."""

    def refuse() -> None:
        raise TooManyRequests(retry_after=7)

    host = make_host()
    host.before_request(refuse)
    response = host.test_client().get("/media/docs")
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
    assert response.content_type == "application/json"


def test_response_of_the_host_is_sent_as_it_is(make_host):
    """`abort(response)` sends the host's response."""
    host = make_host()
    host.before_request(lambda: abort(Response("closed for today", 503)))
    assert host.test_client().get("/media/docs").text == "closed for today"


def test_exceptions_that_the_host_handles_are_its_own(make_host, caplog):
    """An exception of the host's hook goes to the host's handler; others are our internal errors."""

    class NotLoggedIn(Exception):
        """An exception of the host's own."""

    def check() -> None:
        raise NotLoggedIn if "anonymous" in request.args else KeyError("a bug")

    host = make_host()
    host.before_request(check)
    host.register_error_handler(NotLoggedIn, lambda _error: ("log in", 401))
    client = host.test_client()
    assert (client.get("/media/docs?anonymous").text, caplog.text) == ("log in", "")
    assert_error(client.get("/media/docs"), 500, "internal_error")


def test_errors_of_the_host_stay_its_own(make_host):
    """A 404 and a 500 on the host's routes are rendered by the host."""
    host = make_host()
    host.add_url_rule("/broken", "broken", lambda: 1 / 0)
    host.config["PROPAGATE_EXCEPTIONS"] = False
    client = host.test_client()
    for path, status in (("/nothing", 404), ("/broken", 500)):
        response = client.get(path)
        assert (response.status_code, response.mimetype) == (status, "text/html")


# --- Pages ------------------------------------------------------------------------------------------------------------


def test_templates_and_static_files_do_not_clash(make_host, tmp_path):
    """Without a prefix, the host's templates and static files of the same names are not ours, nor ours the host's."""
    names = {"templates": ["base.html", "docs.html", "api_docs.html", "index.html", "upload.html", "error.html"]}
    names["static"] = ["page.js", "uploader.js", "page.css"]
    for folder, files in names.items():
        (tmp_path / folder).mkdir()
        for name in files:
            (tmp_path / folder / name).write_text("of the host")
    host = make_host(prefix=None)
    host.add_url_rule("/about", "about", lambda: render_template("base.html"))
    client = host.test_client()
    session_id = new_session(client)["upload_session_id"]
    for path in ("/docs", f"/u/{session_id}"):
        page = client.get(path).text
        assert "of the host" not in page
        links = re.findall(r'(?:src|href)="([^"#]+)"', page)
        assert links
        for link in links:
            assert read(client, link if link.startswith("/") else f"/{link}") != "of the host"
    assert [read(client, path) for path in ("/about", "/static/page.js")] == ["of the host", "of the host"]


def test_routes_that_the_host_has_already_are_logged(make_host, caplog):
    """Without a prefix, a route that the host has too is logged; below a prefix there is none."""

    def add_docs(host: Flask) -> None:
        host.add_url_rule("/docs", "docs_of_the_host", lambda: "of the host")

    assert make_host(prefix=None, extend=add_docs).test_client().get("/docs").text == "of the host"
    assert [record.getMessage() for record in caplog.records] == [
        "/docs of Loadbay is not reached: the application has this route, too."
    ]
    caplog.clear()
    make_host(extend=add_docs)
    assert caplog.records == []


def test_page_keeps_its_policy_under_talisman(make_host, settings):
    """The upload page may reach the store, whatever policy the host sets; the host's own pages have the host's."""
    host = make_host()
    Talisman(host, force_https=False)
    host.add_url_rule("/", "home", lambda: "home")
    client = host.test_client()
    session_id = client.post("/media/v1/upload_session", json=SESSION).json["upload_session_id"]
    policies = [client.get(path).headers["Content-Security-Policy"] for path in (f"/media/u/{session_id}", "/")]
    assert f"connect-src 'self' {settings['S3_ENDPOINT']}" in policies[0]
    assert policies[1].startswith("default-src 'self'")


# --- Extensions -------------------------------------------------------------------------------------------------------


def test_works_beside_extensions(make_host):
    """An upload works beside Flask-CORS, Flask-Limiter, Flask-Talisman and Flask-WTF."""
    host = make_host(prefix=None)
    CORS(host)
    Limiter(get_remote_address, app=host, default_limits=["1000/minute"], storage_uri="memory://")
    Talisman(host, force_https=False)
    CSRFProtect(host).exempt(loadbay)
    client = host.test_client()
    track = upload_track(client, new_session(client)["upload_session_id"])
    assert client.get(f"/v1/track/{track['track_id']}").status_code == 401


def test_limiter_and_csrf_protection_give_clear_errors(make_host):
    """An error of an extension is rendered in our format, with the status of the extension."""
    host = make_host()
    Limiter(get_remote_address, app=host, default_limits=["1/hour"], storage_uri="memory://")
    client = host.test_client()
    assert client.get("/media/healthz").status_code == 200
    assert_error(client.get("/media/healthz"), 429, "too_many_requests")
    protected = make_host()
    CSRFProtect(protected)
    assert_error(protected.test_client().post("/media/v1/upload_session", json=SESSION), 400, "invalid_request")


def test_schema_names_stay_free():
    """marshmallow's registry has none of our schemas: a host refers to its own by name."""
    assert [name for name in class_registry._registry if name.startswith(f"{schemas.__name__}.")] == []

    class TrackSchema(Schema):
        """A schema of the host's own."""

        title = fields.String()

    class Album(Schema):
        """Refers to it by name."""

        track = fields.Nested("TrackSchema")

    assert Album().dump({"track": {"title": "First"}}) == {"track": {"title": "First"}}
    assert class_registry.get_class("TrackSchema") is TrackSchema


# --- Logs -------------------------------------------------------------------------------------------------------------


def test_development_server_logs_no_session_id(make_host, caplog):
    """The paths that a host's development server logs have no whole session id."""
    make_host()
    session_id = str(uuid4())
    caplog.set_level("INFO", "werkzeug")
    logging.getLogger("werkzeug").info('"GET /media/v1/upload_session/%s HTTP/1.1" 200', session_id)
    assert session_id[:8] in caplog.text
    assert session_id not in caplog.text


# --- Settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value"), [("TRUSTED_PROXIES", "1"), ("TRUSTED_HOSTS", "loadbay.example")])
def test_settings_of_the_whole_application_are_refused(make_host, name, value):
    """A blueprint cannot apply TRUSTED_PROXIES and TRUSTED_HOSTS, and so does not ignore them silently."""
    with pytest.raises(SettingsError, match=f"{name} must not be set for a blueprint"):
        make_host(**{name: value})


def test_says_that_metrics_are_partial(make_client, caplog):
    """Of several processes without a folder to share, /metrics says once that it has the numbers of one."""
    client = make_client(METRICS_TOKEN="t" * 16)
    for environ in ({"wsgi.multiprocess": False}, *[{"wsgi.multiprocess": True}] * 2):
        client.get("/metrics", headers={"Authorization": "Bearer " + "t" * 16}, environ_overrides=environ)
    assert caplog.text.count("set PROMETHEUS_MULTIPROC_DIR") == 1


# --- Connections ------------------------------------------------------------------------------------------------------


def test_close_ends_all_connections(settings):
    """`Service.close` closes the connections of every thread to the database, and those to the store."""
    app = create_app(settings)
    service, connections = service_of(app), []

    def work() -> None:
        app.test_client().get("/readyz")
        service.execute("SELECT 1", ())
        connections.append(service.database.connection())

    thread = Thread(target=work)
    thread.start()
    work()
    thread.join()
    service.close()
    for connection in connections:
        with pytest.raises(Exception, match="closed"):
            connection.execute("SELECT 1")
    assert all(len(pool.pools) == 0 for pool in service.bucket._pools)


@pytest.mark.sqlite
def test_ended_threads_leave_no_connection(settings):
    """The connection of a thread that has ended is closed, as a server with a thread for each request leaves many."""
    closed: list[bool] = []

    class Connection(sqlite3.Connection):
        """A connection that records its end."""

        def close(self) -> None:
            closed.append(True)
            super().close()

    service = service_of(create_app(settings))
    service.database.connect_params["factory"] = type(
        "Own", (service.database.connect_params["factory"], Connection), {}
    )
    thread = Thread(target=lambda: service.execute("SELECT 1", ()))
    thread.start()
    thread.join()
    gc.collect()
    assert closed
