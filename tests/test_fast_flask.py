"""FastFlask behaves as Flask does, in the same order, with whatever a host registers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, after_this_request, request, signals

from web.blueprint import StrictBlueprint
from web.fast_flask import FastFlask

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
    record = lambda step: calls.append(f"{name} {kind} {step}")  # noqa: E731

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


@pytest.mark.parametrize("with_signals", [True, False])
@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_hooks_run_as_in_flask(method, path, with_signals):
    """Hooks, views, errors and signals run in Flask's order, in the first request and in later ones."""
    results = []
    for kind, blueprint in ((Flask, Blueprint), (FastFlask, StrictBlueprint)):
        calls: list[str] = []
        app = build_app(kind, blueprint, calls)
        with ExitStack() as stack:
            for name in SIGNALS if with_signals else ():
                record_signal = lambda sender, calls=calls, name=name, **_: calls.append(name)  # noqa: E731
                stack.enter_context(getattr(signals, name).connected_to(record_signal, app))
            responses = []
            for _ in range(3):
                response = app.test_client().open(path, method=method)
                responses.append((response.status_code, response.text, response.headers.getlist("X-After")))
        results.append((responses, calls))
    assert results[0] == results[1]
    assert results[0][1]


def test_early_context_caches_no_hooks():
    """A context that is pushed during setup does not hide hooks that are registered later."""
    app = FastFlask("host", static_folder=None)
    app.add_url_rule("/", "view", lambda: "answer")
    with app.test_request_context("/"):
        assert app.preprocess_request() is None
    app.before_request(lambda: "earlier")
    assert app.test_client().get("/").text == "earlier"
