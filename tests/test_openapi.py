"""The API's own description: complete, valid, and shown without any other server."""

from __future__ import annotations

import inspect
import re
from html import unescape

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

import schemas
from app import create_app
from schemas import idempotency_key
from storage import errors
from support.api import COLLECTION, assert_error, new_session, new_track
from web.contract import Contract
from web.openapi import routes
from web.openapi.spec import IDEMPOTENCY_KEY_PATTERN

pytestmark = pytest.mark.sqlite


@pytest.fixture
def document(client):
    """The document, as a program gets it."""
    response = client.get("/openapi.json")
    assert response.status_code == 200
    return response.json


def operations(document):
    """All operations of the document."""
    return [operation for methods in document["paths"].values() for operation in methods.values()]


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
    documented = {
        code
        for methods in document["paths"].values()
        for operation in methods.values()
        for status, response in operation["responses"].items() if status != "200"
        for code in response["content"]["application/json"]["schema"]["allOf"][1]["properties"]["code"]["enum"]
    }  # fmt: skip
    # API keys and webhooks are managed by commands only.
    assert {kind.code for kind in kinds} - documented == {"api_key_not_found", "webhook_not_found"}
    assert documented - {kind.code for kind in kinds} == {"method_not_allowed"}


def test_below_a_prefix(settings):
    """Below a prefix it names the prefix as its server."""
    client = Client(DispatcherMiddleware(Flask("host"), {"/uploads": create_app(settings)}))
    with client.get("/uploads/openapi.json") as response:
        assert response.json["servers"] == [{"url": "/uploads"}]


def test_reference_loads_nothing_from_elsewhere(client):
    """The page of the API reference loads its scripts and styles from this service, under a strict policy."""
    page = client.get("/docs")
    assert page.mimetype == "text/html"
    links = re.findall(r'(?:href|src)="([^"]*)"', page.text)
    assert "docs/swagger-ui-bundle.js" in links
    for link in links:
        with client.get(f"/{link}") as file:
            assert file.status_code == 200, link
    assert page.headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


def test_reference_serves_only_its_own_files(client):
    """Other files of the package, and paths that lead out of it, are not found."""
    for name in ("LICENSE", "index.css", "../__init__.py", "%2e%2e/__init__.py"):
        assert_error(client.get(f"/docs/{name}"), 404, "not_found")


def test_reference_without_swagger_ui(client, document, monkeypatch):
    """Without the package, the page lists all routes and names what to install; it has no script."""
    monkeypatch.setattr(routes, "READER_PACKAGE", "loadbay_has_no_such_package")
    page = client.get("/docs")
    assert "requirements-docs.txt" in page.text
    assert "<script" not in page.text
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"<code>{method.upper()} {path}</code>: {operation['summary']}" in unescape(page.text)
    assert_error(client.get("/docs/swagger-ui.css"), 404, "not_found")


def test_page_reflects_nothing(client):
    """What a request says of itself does not come back, as markup or otherwise."""
    for path in ("/docs", "/openapi.json"):
        page = client.get(f"{path}?<script>", headers={"Host": 'evil.example.com"><script>alert(1)</script>'})
        assert "<script>" not in page.text
        assert "evil" not in page.text


def test_request_examples_are_valid(app, document):
    """Every body has an example, and it is a request that the route accepts."""
    checked = set()
    for operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        contract = app.view_functions[f"loadbay.{operation['operationId']}"].contract
        if contract.body is not None:
            example = content["application/json"]["example"]
            loaded = contract.body().load(example)
            assert {key: loaded[key] for key in example if key != "tracks"} == {
                key: value for key, value in example.items() if key != "tracks"
            }
            checked.add(operation["operationId"])
    assert len(checked) == 8


def test_parameter_examples(document):
    """Every parameter has an example that is as its schema says, and every header of an answer; every body has one."""
    checked = 0
    for operation in operations(document):
        told = [*operation["parameters"], *(h for a in operation["responses"].values() for h in a["headers"].values())]
        for item in told:
            example = item["example"] if "example" in item else item["schema"]["example"]
            assert list(Draft202012Validator(item["schema"]).iter_errors(example)) == [], item
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
    assert "required" not in document["components"]["schemas"]["CreateUploadSession"]


def examples_of(content):
    """The examples of a response: one for a success, one for each code of an error."""
    return [content["example"]] if "example" in content else [item["value"] for item in content["examples"].values()]


def test_answer_examples(document):
    """Every answer, errors too, has an example, and it is as its schema says."""
    checked = 0
    for operation in operations(document):
        for response in operation["responses"].values():
            content = response["content"]["application/json"]
            schema = {**content["schema"], "components": document["components"]}
            for example in examples_of(content):
                assert list(Draft202012Validator(schema).iter_errors(example)) == []
                checked += 1
    assert checked > 150


def test_every_field_is_described(document):
    """Every key of a request, a response and a webhook has a description, and so has every parameter and tag."""
    schemas = dict(document["components"]["schemas"])
    for name, item in document["webhooks"].items():
        message = item["post"]["requestBody"]["content"]["application/json"]["schema"]
        schemas |= {name: message, f"{name} data": message["properties"]["data"]}
    assert len(schemas) > 35
    for name, schema in schemas.items():
        for key, value in schema["properties"].items():
            assert value.get("description"), f"{name}.{key}"
    parameters = [parameter for operation in operations(document) for parameter in operation["parameters"]]
    assert [parameter["name"] for parameter in parameters if not parameter.get("description")] == []
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert {tag for operation in operations(document) for tag in operation["tags"]} == tags


def test_contract_without_its_own_errors():
    """The errors of loading, authentication, idempotency and rate limits come from the contract itself."""
    contract = Contract(
        tag="Tracks",
        body=schemas.CreateTrack,
        response=schemas.TrackResponse,
        auth="full_key",
        idempotent=True,
        rate_limit="sessions",
    )
    codes = {error.code for error in contract.all_errors}
    assert codes == {
        "unauthorized", "forbidden", "not_json", "too_large", "idempotency_key_reused", "too_many_requests",
    }  # fmt: skip


def test_example_of_a_track(document, client):
    """An answer's example has the keys of a real one."""
    real = new_track(client, new_session(client)["upload_session_id"])
    operation = document["paths"]["/v1/upload/{upload_session_id}/track"]["post"]
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert example.keys() == real.keys()
    for key in ("track", "track_upload", "track_cover_upload"):
        assert example[key].keys() == real[key].keys()
    assert example["track_cover_upload"]["method"] == real["track_cover_upload"]["method"]
