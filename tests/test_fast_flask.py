"""FastFlask behaves as Flask does, in the same order, with whatever a host registers; and plain Flask serves alike."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, after_this_request, request, signals

from app import create_app
from support.api import COLLECTION
from support.processes import ROOT
from web.blueprint import StrictBlueprint
from web.flask_class import flask_class

pytestmark = pytest.mark.sqlite

SIGNALS = (
    "request_started",
    "request_finished",
    "request_tearing_down",
    "appcontext_pushed",
    "appcontext_tearing_down",
    "appcontext_popped",
    "got_request_exception",
)
REQUESTS = [
    ("GET", "/outer/inner/word"),
    ("GET", "/outer/inner/early"),
    ("GET", "/outer/inner/fails"),
    ("GET", "/outer/inner/refuses"),
    ("OPTIONS", "/outer/inner/word"),
    ("HEAD", "/outer/inner/word"),
    ("POST", "/outer/inner/word"),
    ("GET", "/outer/word"),
    ("GET", "/word"),
    ("GET", "/nowhere"),
    ("GET", "/plain"),
    ("GET", "/plain/"),
    ("GET", "//plain"),
    ("HEAD", "/plain"),
    ("OPTIONS", "/plain"),
    ("POST", "/plain"),
    ("GET", "/moved"),
    ("GET", "/only-built"),
    ("GET", "/crossed"),
    ("GET", "/again"),
    ("GET", "/plain-again"),
    ("GET", "/without-view"),
]


def add_hooks(scaffold: Any, kind: str, name: str, calls: list[str]) -> None:
    """Register hooks of every kind that record their calls."""

    def record(step: str) -> None:
        calls.append(f"{name} {kind} {step}")

    def read_values(endpoint: str | None, values: dict[str, Any] | None) -> None:
        record(f"values {endpoint} {values}")

    def before() -> str | None:
        record("before")
        return None

    def after(response: Response) -> Response:
        record(f"after {response.status_code}")
        response.headers.add("X-After", name)
        return response

    def teardown(error: BaseException | None) -> None:
        record(f"teardown {type(error).__name__}")

    scaffold.url_value_preprocessor(read_values)
    scaffold.before_request(before)
    scaffold.after_request(after)
    scaffold.teardown_request(teardown)


def view(word: str) -> str:
    """Respond with the word, or fail."""
    if word == "fails":
        raise ZeroDivisionError
    if word == "refuses":
        abort(409)

    @after_this_request
    def once(response: Response) -> Response:
        response.headers.add("X-After", "once")
        return response

    return word


def build_app(kind: type[Flask], blueprint: type[Blueprint], calls: list[str]) -> Flask:
    """Return an application with hooks on itself and on two blueprints, one nested in the other."""
    app = kind("host", static_folder=None)
    outer, inner = blueprint("outer", __name__, url_prefix="/outer"), blueprint("inner", __name__, url_prefix="/inner")
    for number in ("first", "second"):
        for name, scaffold in (("app", app), ("outer", outer), ("inner", inner)):
            add_hooks(scaffold, number, name, calls)
    inner.before_request(lambda: "early" if request.path.endswith("/early") else None)
    for scaffold in (app, outer, inner):
        scaffold.add_url_rule("/<word>", view_func=view, endpoint="view")
    app.add_url_rule("/plain", "plain", lambda: "first")
    app.add_url_rule("/plain", "again", lambda: "second")
    app.add_url_rule("/crossed", "plain")
    app.add_url_rule("/again", "again")
    app.add_url_rule("/again", "plain")
    app.add_url_rule("/plain-again", "again", redirect_to="/plain")
    app.add_url_rule("/plain-again", "plain")
    app.add_url_rule("/without-view", "without view")
    app.add_url_rule("/moved", "moved", redirect_to="/plain")
    app.add_url_rule("/only-built", "built", lambda: "never", build_only=True)
    app.register_error_handler(409, lambda e: ("refused", 409))
    app.teardown_appcontext(lambda error: calls.append(f"teardown_appcontext {error}"))
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    return app


def signal_recorder(calls: list[str], name: str) -> Callable[..., None]:
    """Return a receiver that records a signal by name."""

    def record(sender: Flask, **_: object) -> None:
        calls.append(name)

    return record


@pytest.mark.parametrize("with_signals", [True, False])
@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_hooks_run_as_in_flask(method, path, with_signals):
    """Hooks, views, errors and signals run in Flask's order, in the first request and in later ones."""
    results = []
    for kind, blueprint in ((Flask, Blueprint), (flask_class(), StrictBlueprint)):
        calls: list[str] = []
        app = build_app(kind, blueprint, calls)
        with ExitStack() as stack:
            for name in SIGNALS if with_signals else ():
                stack.enter_context(getattr(signals, name).connected_to(signal_recorder(calls, name), app))
            responses = []
            for _ in range(3):
                response = app.test_client().open(path, method=method)
                responses.append((response.status_code, response.text, response.headers.getlist("X-After")))
        results.append((responses, calls))
    assert results[0] == results[1]
    assert results[0][1]


@pytest.mark.skipif(flask_class() is Flask, reason="FastFlask was not tested with this version of Flask.")
def test_early_context_caches_no_hooks():
    """A context that is pushed during setup does not hide hooks that are registered later."""
    app = flask_class()("host", static_folder=None)
    app.add_url_rule("/", "view", lambda: "answer")
    with app.test_request_context("/"):
        assert app.preprocess_request() is None
    app.before_request(lambda: "earlier")
    assert app.test_client().get("/").text == "earlier"


# --- Versions of Flask -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unknown", ["3.0.9", "3.1.4", "3.1.3.post1", "3.2.0.dev0", "3.2.0", "4.0.0", "3.1", ""])
def test_plain_flask_for_unknown_versions(unknown):
    """A version that FastFlask was not tested with gets plain Flask."""
    assert flask_class(unknown or "no version") is Flask


def test_fast_flask_for_tested_versions():
    """The versions that FastFlask was tested with get it, and the pinned version is one of them."""
    tested = version("flask") in ("3.1.0", "3.1.1", "3.1.2", "3.1.3")
    assert (flask_class().__name__ == "FastFlask") == tested
    assert "\nFlask==3.1.3\n" in (ROOT / "requirements.txt").read_text()


def test_import_leaves_flask_untouched(processes):
    """Importing the application and creating one changes no attribute of flask.Flask, and sends no warning of it."""
    code = """
import flask
before = dict(vars(flask.Flask))
import app, wsgi
changed = [name for name, value in vars(flask.Flask).items() if before.get(name) is not value]
print(changed, len(before) == len(vars(flask.Flask)))
"""
    env = {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_BUCKET": "tracks", "DATABASE_URL": "sqlite:///:memory:"}
    result = processes.run(sys.executable, "-W", "error::DeprecationWarning:app", "-c", code, env=env, cwd=ROOT)
    assert result.stdout.splitlines()[-1] == "[] True", result.stdout


def conversation(app: Flask) -> list[tuple[int, set[str], Any]]:
    """Return the status, header names and body keys of an application's responses of all kinds."""
    client = app.test_client()
    session_id = client.post("/v1/upload_session", json={"collection_id": COLLECTION}).json["upload_session_id"]
    track = f"/v1/upload/{session_id}/track"
    requests = [
        ("POST", "/v1/upload_session", {"collection_id": COLLECTION}, {"Idempotency-Key": "one"}),
        ("POST", "/v1/upload_session", {"collection_id": COLLECTION}, {"Idempotency-Key": "one"}),
        ("GET", f"/v1/upload_session/{session_id}", None, {}),
        ("HEAD", f"/v1/upload_session/{session_id}", None, {}),
        ("POST", track, {"file_name": "a.wav"}, {}),
        ("POST", track, {"file_name": 1}, {}),
        ("PUT", track, {}, {}),
        ("OPTIONS", track, None, {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}),
        ("GET", "/v1/upload_session", None, {}),
        ("GET", "/nothing", None, {}),
        ("GET", "/v1//upload_session", None, {}),
        ("GET", "/", None, {}),
        ("GET", "/docs", None, {}),
        ("GET", f"/u/{session_id}", None, {}),
        ("GET", "/loadbay/api.js", None, {}),
        ("GET", "/healthz", None, {"Host": "other.example"}),
    ]
    responses = []
    for method, path, body, headers in requests:
        with client.open(path, method=method, json=body, headers=headers) as response:
            content = response.json if response.is_json and method != "HEAD" else {}
            responses.append((response.status_code, {name for name, _ in response.headers}, sorted(content)))
    return responses


@pytest.mark.parametrize("hosts", [None, "localhost"])
def test_plain_flask_serves_alike(settings, monkeypatch, hosts):
    """With plain Flask, which every unknown version of Flask gets, all responses are as with FastFlask."""
    settings |= {"CORS_ORIGINS": "https://a.example", "LOG_REQUESTS": "1", "METRICS_TOKEN": "t" * 16}
    settings |= {"TRUSTED_HOSTS": hosts} if hosts else {}
    usual = conversation(create_app(settings))
    monkeypatch.setattr("app.flask_class", lambda: Flask)
    plain = create_app(settings)
    assert type(plain) is Flask
    assert conversation(plain) == usual
    assert {status for status, _, _ in usual} >= {200, 400, 401, 404, 405}
