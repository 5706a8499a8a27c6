"""Our Flask does what Flask does, in its order, for whatever a host registers."""

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


def hook(place: Any, kind: str, name: str, told: list[str]) -> None:
    """Register hooks of every kind that tell of being called."""
    told_of = lambda step: told.append(f"{name} {kind} {step}")  # noqa: E731

    def read_values(endpoint: str | None, values: dict[str, Any] | None) -> None:
        told_of(f"values {endpoint} {values}")

    def before() -> str | None:
        told_of("before")
        return None

    def after(response: Response) -> Response:
        told_of(f"after {response.status_code}")
        response.headers.add("X-After", name)
        return response

    def teardown(error: BaseException | None) -> None:
        told_of(f"teardown {type(error).__name__}")

    place.url_value_preprocessor(read_values)
    place.before_request(before)
    place.after_request(after)
    place.teardown_request(teardown)


def view(word: str) -> str:
    """Answer, or do not."""
    if word == "fails":
        raise ZeroDivisionError
    if word == "refuses":
        abort(409)

    @after_this_request
    def once(response: Response) -> Response:
        response.headers.add("X-After", "once")
        return response

    return word


def build(kind: type[Flask], blueprint: type[Blueprint], told: list[str]) -> Flask:
    """An application with hooks on itself and on blueprints, one in the other."""
    app = kind("host", static_folder=None)
    outer, inner = blueprint("outer", __name__, url_prefix="/outer"), blueprint("inner", __name__, url_prefix="/inner")
    for number in ("first", "second"):
        for name, place in (("app", app), ("outer", outer), ("inner", inner)):
            hook(place, number, name, told)
    inner.before_request(lambda: "early" if request.path.endswith("/early") else None)
    for place in (app, outer, inner):
        place.add_url_rule("/<word>", view_func=view, endpoint="view")
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
    app.teardown_appcontext(lambda error: told.append(f"app context over {error}"))
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    return app


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_hooks_run_as_in_flask(method, path, heard):
    """Hooks, views, errors and signals come in Flask's order, at the first request and at those after it."""
    seen = []
    for kind, blueprint in ((Flask, Blueprint), (FastFlask, StrictBlueprint)):
        told: list[str] = []
        app = build(kind, blueprint, told)
        with ExitStack() as stack:
            for name in SIGNALS if heard else ():
                hear = lambda sender, told=told, name=name, **_: told.append(name)  # noqa: E731
                stack.enter_context(getattr(signals, name).connected_to(hear, app))
            responses = []
            for _ in range(3):
                response = app.test_client().open(path, method=method)
                responses.append((response.status_code, response.text, response.headers.getlist("X-After")))
        seen.append((responses, told))
    assert seen[0] == seen[1]
    assert seen[0][1]


def test_what_comes_before_the_first_request_is_not_remembered():
    """A context that was pushed while the application is set up hides nothing that is registered later."""
    app = FastFlask("host", static_folder=None)
    app.add_url_rule("/", "view", lambda: "answer")
    with app.test_request_context("/"):
        assert app.preprocess_request() is None
    app.before_request(lambda: "earlier")
    assert app.test_client().get("/").text == "earlier"
