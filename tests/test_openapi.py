"""The API's own description: complete, valid, and shown without any other server."""

from __future__ import annotations

import inspect

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from app import create_app
from conftest import new_session, new_track
from describe import FAILURES, SAID
from examples import REQUESTS
from storage import errors

pytestmark = pytest.mark.sqlite


@pytest.fixture
def document(client):
    """The document, as a program gets it."""
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json


def test_valid(document):
    """It is a valid OpenAPI 3.1 document."""
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_every_route(app, document):
    """Every route of the API is in it, by the view's name, and nothing else is."""
    routes = {
        rule.endpoint.rpartition(".")[2]
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/v1/")
    }  # fmt: skip
    described = {o["operationId"] for methods in document["paths"].values() for o in methods.values()}
    assert described == routes
    assert len(described) > 20


def test_every_error(document):
    """Every failure that the service knows is the answer of some route."""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.ServiceError)]
    told = {
        code
        for methods in document["paths"].values()
        for operation in methods.values()
        for status, answer in operation["responses"].items() if status != "200"
        for code in answer["content"]["application/json"]["schema"]["allOf"][1]["properties"]["code"]["enum"]
    }  # fmt: skip
    # A key is revoked by command only.
    assert {kind.code for kind in kinds} - told == {"key_not_found", "webhook_not_found"}
    assert told - set(FAILURES) == {"method_not_allowed"}


def test_below_a_prefix(settings):
    """Below a prefix it names the prefix as its server."""
    client = Client(DispatcherMiddleware(Flask("host"), {"/uploads": create_app(settings)}))
    with client.get("/uploads/openapi.json") as answer:
        assert answer.json["servers"] == [{"url": "/uploads"}]


def test_page(client, document):
    """The page tells of every route and error, and asks nothing of anybody else."""
    page = client.get("/docs")
    assert page.mimetype == "text/html"
    for path, methods in document["paths"].items():
        assert path in page.text
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in page.text
    assert "script" not in page.text
    assert "src=" not in page.text
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


def test_page_reflects_nothing(client):
    """What a request says of itself does not come back, as markup or otherwise."""
    for path in ("/docs", "/openapi.json"):
        page = client.get(f"{path}?<script>", headers={"Host": 'evil.example.com"><script>alert(1)</script>'})
        assert "<script" not in page.text
        assert "evil" not in page.text


@pytest.mark.parametrize("name", [name for name, said in SAID.items() if said.body is not None])
def test_request_examples(document, name):
    """Every body has an example, and it is a request that the route takes."""
    (told,) = (o for methods in document["paths"].values() for o in methods.values() if o["operationId"] == name)
    example = told["requestBody"]["content"]["application/json"]["example"]
    assert example == REQUESTS[name]
    loaded = SAID[name].body().load(example)
    assert {key: loaded[key] for key in example if key != "tracks"} == {
        k: v for k, v in example.items() if k != "tracks"
    }


def test_answer_examples(document):
    """Every answer, errors too, has an example, and it is as its schema says."""
    checked = 0
    for methods in document["paths"].values():
        for operation in methods.values():
            for answer in operation["responses"].values():
                content = answer["content"]["application/json"]
                schema = {**content["schema"], "components": document["components"]}
                assert list(Draft202012Validator(schema).iter_errors(content["example"])) == []
                checked += 1
    assert checked > 100


def test_example_of_a_track(document, client):
    """An answer's example has the keys of a real one."""
    real = new_track(client, new_session(client)["upload_session_id"])
    operation = document["paths"]["/v1/upload/{upload_session_id}/track"]["post"]
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert example.keys() == real.keys()
    for key in ("track", "track_upload", "track_cover_upload"):
        assert example[key].keys() == real[key].keys()
    assert example["track_cover_upload"]["method"] == real["track_cover_upload"]["method"]
