"""Private names of libraries that the service's performance tricks lean on: an upgrade that drops one fails here."""

from __future__ import annotations

import inspect

import flask
import flask.globals
import marshmallow
import peewee
import pytest
from flask import Flask
from flask.ctx import RequestContext
from marshmallow import fields
from werkzeug.datastructures import Headers
from werkzeug.routing import MapAdapter
from werkzeug.sansio.utils import get_host
from werkzeug.wrappers import Response

pytestmark = pytest.mark.sqlite


@pytest.fixture
def context():
    """Return the context of a request to an empty application."""
    app = Flask(__name__)
    with app.test_request_context("/", method="POST", data=b"{}") as context:
        yield context


# --- web/fast_flask.py ------------------------------------------------------------------------------------------------


def test_flask_notes_its_first_request():
    """Callbacks and routes are collected once `_got_first_request` is set."""
    app = Flask(__name__)
    assert app._got_first_request is False
    app.test_client().get("/")
    assert app._got_first_request is True


def test_request_context_has_functions_to_call_after_the_request(context):
    """`after_this_request` appends to `_after_request_functions`."""
    assert context._after_request_functions == []


def test_request_context_matches_in_a_method_of_its_own():
    """A static route is found in `match_request`, which RequestContext calls."""
    assert callable(RequestContext.match_request)


@pytest.mark.parametrize(
    "name",
    [
        "request_context", "create_url_adapter", "full_dispatch_request", "preprocess_request", "dispatch_request",
        "finalize_request", "process_response", "do_teardown_request", "do_teardown_appcontext",
    ],
)  # fmt: skip
def test_flask_has_each_method_that_is_overridden(name):
    """A method that Flask no longer calls would be overridden in vain."""
    assert callable(getattr(Flask, name))


def test_map_adapter_takes_its_arguments_in_this_order():
    """The URL adapter is made without Flask's and Werkzeug's own parsing of the host."""
    names = list(inspect.signature(MapAdapter).parameters)
    assert names == [
        "map", "server_name", "script_name", "subdomain", "url_scheme", "path_info", "default_method", "query_args",
    ]  # fmt: skip


def test_get_host_takes_its_arguments_in_this_order():
    """The host is looked up with the arguments of `Request.host`."""
    assert list(inspect.signature(get_host).parameters) == ["scheme", "host_header", "server", "trusted_hosts"]


# --- web/fast/proxies.py and web/fast/body.py -------------------------------------------------------------------------


def test_proxies_give_out_their_current_object(context):
    """`_get_current_object` returns the object behind the proxy."""
    assert flask.request._get_current_object() is context.request
    assert flask.current_app._get_current_object() is context.app
    assert flask.globals.request_ctx._get_current_object() is context


def test_a_request_that_was_read_has_its_stream_among_its_attributes(context):
    """A body that the host application has read is found by `stream` in `vars(request)`."""
    present = flask.request._get_current_object()
    assert "stream" not in vars(present)
    present.get_data()
    assert "stream" in vars(present)


# --- web/fast/response.py ---------------------------------------------------------------------------------------------


def test_headers_keep_their_lines_in_a_list():
    """Trusted headers set `_list` instead of adding line by line."""
    assert Headers([("A", "b")])._list == [("A", "b")]


def test_responses_keep_their_callbacks_in_a_list():
    """A response with `call_on_close` needs Werkzeug's own iterator."""
    response = Response()
    response.call_on_close(print)
    assert response._on_close == [print]


def test_status_of_a_response_is_kept_as_text_and_number():
    """A response of status 200 sets `_status` and `_status_code` itself."""
    response = Response()
    assert (response._status, response._status_code) == ("200 OK", 200)


@pytest.mark.parametrize("name", ["calculate_content_length", "get_wsgi_headers", "get_app_iter"])
def test_responses_have_each_method_that_is_overridden(name):
    """A method that Werkzeug no longer calls would be overridden in vain."""
    assert callable(getattr(Response, name))


# --- schemas/fast_load.py and schemas/fast_dump.py --------------------------------------------------------------------


def test_fields_deserialize_in_a_method_of_their_own():
    """Requests call `_deserialize` and `validators` of a field, without marshmallow's steps around them."""
    field = fields.Integer(validate=marshmallow.validate.Range(1), load_default=5, allow_none=True)
    assert field._deserialize("3", "name", {}) == 3
    assert len(field.validators) == 1
    assert (field.load_default, field.allow_none) == (5, True)
    assert fields.String().load_default is marshmallow.missing


def test_schemas_have_their_fields_by_name():
    """Both load and dump go through `fields` once, when the schema is created."""

    class Parent(marshmallow.Schema):
        child = fields.Nested(marshmallow.Schema, data_key="key")

    field = Parent().fields["child"]
    assert field.data_key == "key"
    assert isinstance(field.schema, marshmallow.Schema)


# --- storage/db/sqlite.py ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["connect", "execute_sql", "begin", "in_transaction", "is_closed"])
def test_peewee_has_each_method_that_waits_for_locks(name):
    """A method that peewee no longer calls would be overridden in vain."""
    assert callable(getattr(peewee.SqliteDatabase, name))
