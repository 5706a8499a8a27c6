"""The API's own description: complete, valid, and shown without any other server."""

from __future__ import annotations

import inspect
import re

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from app import create_app
from schemas import idempotency_key
from storage import errors
from support.api import COLLECTION, new_session, new_track
from web.openapi.examples import REQUESTS
from web.openapi.spec import ERRORS_BY_CODE, IDEMPOTENCY_KEY_PATTERN, OPERATIONS

pytestmark = pytest.mark.sqlite


@pytest.fixture
def document(client):
    """The document, as a program gets it."""
    response = client.get("/openapi.json")
    assert response.status_code == 200
    return response.json


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
        for status, response in operation["responses"].items() if status != "200"
        for code in response["content"]["application/json"]["schema"]["allOf"][1]["properties"]["code"]["enum"]
    }  # fmt: skip
    # A key is revoked by command only.
    assert {kind.code for kind in kinds} - told == {"api_key_not_found", "webhook_not_found"}
    assert told - set(ERRORS_BY_CODE) == {"method_not_allowed"}


def test_below_a_prefix(settings):
    """Below a prefix it names the prefix as its server."""
    client = Client(DispatcherMiddleware(Flask("host"), {"/uploads": create_app(settings)}))
    with client.get("/uploads/openapi.json") as response:
        assert response.json["servers"] == [{"url": "/uploads"}]


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


@pytest.mark.parametrize("name", [name for name, said in OPERATIONS.items() if said.body is not None])
def test_request_examples(document, name):
    """Every body has an example, and it is a request that the route takes."""
    (told,) = (o for methods in document["paths"].values() for o in methods.values() if o["operationId"] == name)
    example = told["requestBody"]["content"]["application/json"]["example"]
    assert example == REQUESTS[name]
    loaded = OPERATIONS[name].body().load(example)
    assert {key: loaded[key] for key in example if key != "tracks"} == {
        k: v for k, v in example.items() if k != "tracks"
    }


def test_parameter_examples(document):
    """Every parameter has an example that is as its schema says, and every header of an answer; every body has one."""
    checked = 0
    for operation in (operation for methods in document["paths"].values() for operation in methods.values()):
        told = [*operation["parameters"], *(h for a in operation["responses"].values() for h in a["headers"].values())]
        for item in told:
            assert list(Draft202012Validator(item["schema"]).iter_errors(item["example"])) == [], item
            checked += 1
        for media in operation.get("requestBody", {}).get("content", {}).values():
            assert media["example"]
        names = {parameter["name"] for parameter in operation["parameters"]}
        assert names >= {"X-Request-ID", "traceparent"}
    assert checked > 500


def test_headers(make_client, document):
    """What answers of a deploy with limits carry, right and wrong, is described with them."""
    client = make_client(RATE_LIMIT_TRACKS="1/hour", ALLOW_ANONYMOUS="1")
    path = f"/v1/upload/{new_session(client)['upload_session_id']}/track"
    operation = document["paths"]["/v1/upload/{upload_session_id}/track"]["post"]
    statuses = []
    for payload in ({}, {"file_name": "a.wav"}):
        response = client.post(path, json=payload)
        statuses.append(response.status_code)
        told = operation["responses"][str(response.status_code)]["headers"]
        assert {name for name, _ in response.headers} - {"Content-Type", "Content-Length"} <= set(told)
    assert statuses == [400, 429]


def test_repeated_after_the_end(client, clock, document):
    """What a repeated request meets when its track is gone or its session over is among the answers told of."""
    payload = {"collection_id": COLLECTION, "track": {"file_name": "a.wav"}}
    send = lambda: client.post("/v1/upload_session", json=payload, headers={"Idempotency-Key": "a key"})  # noqa: E731
    created = send().json
    clock.forward(4000)
    over = send()
    client.application.extensions["loadbay"]["loadbay"].execute(
        "DELETE FROM loadbay_track WHERE id = ?", (created["track_id"],)
    )
    for response, status in ((over, 410), (send(), 404)):
        told = document["paths"]["/v1/upload_session"]["post"]["responses"][str(status)]
        assert response.status_code == status
        assert (
            response.json["code"]
            in told["content"]["application/json"]["schema"]["allOf"][1]["properties"]["code"]["enum"]
        )


@pytest.mark.parametrize(
    ("key", "well"),
    [("a", True), ("two words", True), ('"quoted"', True), ('"', True), ('""', False), ("a ", True), ("é", False)],
)
def test_idempotency_key(key, well):
    """The pattern of an Idempotency-Key is that of what is taken, as it comes: without the space around it."""
    told = re.search(IDEMPOTENCY_KEY_PATTERN, key.strip()) is not None
    assert told is well
    if well:
        assert idempotency_key(key.strip())
    else:
        with pytest.raises(ValueError, match="must be"):
            idempotency_key(key)


def test_media_type_with_parameters(document):
    """A content type may have parameters, as the service takes it; and an uploader's key needs no collection."""
    properties = document["components"]["schemas"]["CreateTrack"]["properties"]
    assert re.search(properties["content_type"]["pattern"], 'audio/ogg; codecs="opus,vorbis"; rate=48000')
    assert "required" not in document["components"]["schemas"]["CreateUploadSessionAsUploader"]


def test_answer_examples(document):
    """Every answer, errors too, has an example, and it is as its schema says."""
    checked = 0
    for methods in document["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                content = response["content"]["application/json"]
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
