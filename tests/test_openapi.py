"""The OpenAPI document and its page: complete, valid, and served without any other server."""

from __future__ import annotations

import inspect
import re
from functools import partial
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
    """The document as a client gets it."""
    response = client.get("/openapi.json")
    assert response.status_code == 200
    return response.json


def operations(document):
    """Return all operations of the document."""
    return [operation for methods in document["paths"].values() for operation in methods.values()]


def test_document_is_valid(document):
    """The document is valid OpenAPI 3.1."""
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_document_has_every_route(app, document):
    """The document has every route of the API, by the view's name, and no others."""
    routes = {
        rule.endpoint.rpartition(".")[2]
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/v1/")
    }  # fmt: skip
    described = {o["operationId"] for methods in document["paths"].values() for o in methods.values()}
    assert described == routes
    assert len(described) > 20


def test_document_has_every_error(document):
    """Every error of the service is a response of some operation."""
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


def test_server_has_the_prefix(settings):
    """Below a prefix, the document's server is the prefix."""
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
    assert "pip install 'loadbay[docs]'" in page.text.replace("&#39;", "'")
    assert "<script" not in page.text
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"<code>{method.upper()} {path}</code>: {operation['summary']}" in unescape(page.text)
    assert_error(client.get("/docs/swagger-ui.css"), 404, "not_found")


def test_page_does_not_echo_the_request(client):
    """Neither the query nor the Host header is in the page."""
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
    assert len(checked) == 11


def test_parameter_examples_are_valid(document):
    """Every parameter and response header has a valid example, and every body has one."""
    checked = 0
    for operation in operations(document):
        documented = [
            *operation["parameters"],
            *(h for a in operation["responses"].values() for h in a["headers"].values()),
        ]
        for item in documented:
            example = item["example"] if "example" in item else item["schema"]["example"]
            assert list(Draft202012Validator(item["schema"]).iter_errors(example)) == [], item
            checked += 1
        for media in operation.get("requestBody", {}).get("content", {}).values():
            assert media["example"]
        names = {parameter["name"] for parameter in operation["parameters"]}
        assert names >= {"X-Request-ID", "traceparent"}
    assert checked > 500


def test_response_headers_are_documented(make_client, document):
    """The headers of successes and errors, with rate limits, are documented."""
    client = make_client(RATE_LIMIT_TRACKS="1/hour", ALLOW_ANONYMOUS="1")
    path = f"/v1/upload/{new_session(client)['upload_session_id']}/track"
    operation = document["paths"]["/v1/upload/{upload_session_id}/track"]["post"]
    statuses = []
    for payload in ({}, {"file_name": "a.wav"}):
        response = client.post(path, json=payload)
        statuses.append(response.status_code)
        documented = operation["responses"][str(response.status_code)]["headers"]
        assert {name for name, _ in response.headers} - {"Content-Type", "Content-Length"} <= set(documented)
    assert statuses == [400, 429]


def test_errors_of_repeated_requests_are_documented(client, clock, document):
    """The errors of a repeated request whose session has expired or whose track was deleted are documented."""
    payload = {"collection_id": COLLECTION, "track": {"file_name": "a.wav"}}
    send = partial(client.post, "/v1/upload_session", json=payload, headers={"Idempotency-Key": "a key"})
    created = send().json
    clock.forward(4000)
    expired = send()
    client.application.extensions["loadbay"]["loadbay"].execute(
        "DELETE FROM loadbay_track WHERE id = ?", (created["track_id"],)
    )
    for response, status in ((expired, 410), (send(), 404)):
        documented = document["paths"]["/v1/upload_session"]["post"]["responses"][str(status)]
        assert response.status_code == status
        assert (
            response.json["code"]
            in documented["content"]["application/json"]["schema"]["allOf"][1]["properties"]["code"]["enum"]
        )


@pytest.mark.parametrize(
    ("key", "valid"),
    [("a", True), ("two words", True), ('"quoted"', True), ('"', True), ('""', False), ("a ", True), ("é", False)],
)
def test_idempotency_key_pattern_matches_the_validation(key, valid):
    """The documented pattern of Idempotency-Key accepts the same values as the service."""
    matches = re.search(IDEMPOTENCY_KEY_PATTERN, key.strip()) is not None
    assert matches is valid
    if valid:
        assert idempotency_key(key.strip())
    else:
        with pytest.raises(ValueError, match="must be"):
            idempotency_key(key)


def test_content_type_may_have_parameters(document):
    """The documented pattern of content_type allows parameters, as the service does."""
    properties = document["components"]["schemas"]["CreateTrack"]["properties"]
    assert re.search(properties["content_type"]["pattern"], 'audio/ogg; codecs="opus,vorbis"; rate=48000')
    assert "required" not in document["components"]["schemas"]["CreateUploadSession"]


def examples_of(content):
    """Return the examples of a response: one of a success, or one of each error code."""
    return [content["example"]] if "example" in content else [item["value"] for item in content["examples"].values()]


def test_response_examples_are_valid(document):
    """Every response, errors included, has examples that match its schema."""
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


def test_track_example_has_the_keys_of_a_response(document, client):
    """The example response of a track has the keys of a real one."""
    real = new_track(client, new_session(client)["upload_session_id"])
    operation = document["paths"]["/v1/upload/{upload_session_id}/track"]["post"]
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert example.keys() == real.keys()
    for key in ("track", "track_upload", "track_cover_upload"):
        assert example[key].keys() == real[key].keys()
    assert example["track_cover_upload"]["method"] == real["track_cover_upload"]["method"]
