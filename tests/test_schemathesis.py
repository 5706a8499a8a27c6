"""The API against its own description: thousands of requests, right and wrong, each answered as it says."""

from __future__ import annotations

import os
import random
from collections import Counter
from types import SimpleNamespace

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as limits
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks as openapi_checks

from app import create_app
from storage.db.models import IdempotencyKey, Track, UploadSession
from storage.uploads import organization

pytestmark = pytest.mark.sqlite

KEY = "a-key-of-full-access-0123"
SECRET = "the-store-secret-0123456789"
EXAMPLES = 130 if os.environ.get("NOTHING_SKIPPED") else 40
LEAST = 2000 if os.environ.get("NOTHING_SKIPPED") else 600
# Some rules no JSON Schema can tell: no NUL in any key, metadata of a bounded depth, file_size with multipart.
BEYOND = openapi_checks.positive_data_acceptance
FIRST = {"collection_id": "123e4567-e89b-12d3-a456-426614174000", "track": {"file_name": "track-1.mp3"}}
DRAWN = ("Authorization", "Idempotency-Key")
QUIET = limits(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])


@pytest.fixture
def service(settings):
    """A service with a key, in which nobody is anonymous."""
    return create_app(
        {**settings, "ALLOW_ANONYMOUS": "", "API_KEYS": KEY, "STORE_EVENT_SECRET": SECRET, "COVER_UPLOAD": "relay"}
    )


def headers_for(operation, key):
    """The key that an operation asks for."""
    schemes = [name for scheme in operation.definition.raw["security"] for name in scheme]
    if not schemes or not key:
        return {}
    return {"Authorization": f"Bearer {SECRET if 'store_event_secret' in schemes else KEY}"}


def hammer(operation, key, ids=None):
    """Send many requests to one operation, about `ids` where given; returns how many had which status."""
    headers, statuses = headers_for(operation, key), Counter()

    @QUIET
    @given(case=operation.as_strategy())
    def check(case):
        names = set(case.path_parameters or {}) & set(ids or {})
        case.path_parameters = {**(case.path_parameters or {}), **{name: ids[name] for name in names}}
        response = case.call(headers={**(case.headers or {}), **headers})
        case.validate_response(response, headers=headers, excluded_checks=[BEYOND])
        statuses[response.status_code] += 1

    check()
    return statuses


@pytest.mark.parametrize("key", [True, False], ids=["with a key", "without"])
def test_each_route(service, key):
    """Whatever is sent to a route, the answer is one that its description has."""
    schema = schemathesis.openapi.from_wsgi("/openapi.json", service)
    statuses = Counter()
    for found in schema.get_all_operations():
        statuses += hammer(found.ok(), key)
    assert statuses.total() >= LEAST / 2
    assert not [status for status in statuses if status >= 500]


def test_each_route_of_what_is_there(service):
    """The same about a session and a track that are there: most requests are taken, and answered as it says."""
    schema = schemathesis.openapi.from_wsgi("/openapi.json", service)
    client = service.test_client()
    taken = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        opened = client.post("/v1/upload_session", json=FIRST, headers={"Authorization": f"Bearer {KEY}"}).json
        ids = {name: opened[name] for name in ("upload_session_id", "track_id")}
        ids["collection_id"] = FIRST["collection_id"]
        statuses = hammer(operation, key=True, ids=ids)
        assert not [status for status in statuses if status >= 500]
        taken[operation.definition.raw["operationId"]] = statuses[200]
    # Nothing has come to the store, and this track comes in no parts: these have nothing to answer.
    nothing = {"complete_track", "list_parts", "sign_parts", "relay_cover", "download_track", "replace_cover"}
    assert {name for name, count in taken.items() if not count} <= nothing, taken


def test_links(service):
    """What an answer gives for another request, by its links, fits there."""
    schema = schemathesis.openapi.from_wsgi("/openapi.json", service)
    operations = {found.ok().definition.raw["operationId"]: found.ok() for found in schema.get_all_operations()}
    client, followed = service.test_client(), 0
    for operation in operations.values():
        for target, link in operation.definition.raw["responses"]["200"].get("links", {}).items():
            path = operation.path
            if "{" in path:
                opened = client.post("/v1/upload_session", json=FIRST, headers={"Authorization": f"Bearer {KEY}"})
                path = path.format(**opened.json)
            answer = client.post(path, json=example_of(operation), headers=headers_for(operation, key=True)).json
            ids = {key: answer[value.removeprefix("$response.body#/")] for key, value in link["parameters"].items()}
            assert ids
            statuses = hammer(operations[target], key=True, ids=ids)
            # Nothing was sent, and not in parts.
            assert statuses[200] or target in {"complete_track", "list_parts", "download_track", "replace_cover"}, (
                target
            )
            # What is deleted is gone the second time.
            assert not statuses[404] or target == "delete_track", target
            followed += 1
    assert followed >= 13


def example_of(operation):
    """The request that the document shows for an operation."""
    return operation.definition.raw["requestBody"]["content"]["application/json"]["example"]


def walk(service, monkeypatch, key, *only):
    """Go chains of requests, each by what an earlier one answered; returns how many had which answer."""
    schema = schemathesis.openapi.from_wsgi("/openapi.json", service)
    schema = schema.include(operation_id=list(only)) if only else schema
    schema.config.generation.update(modes=[schemathesis.GenerationMode.POSITIVE])
    met, service = Counter(), service.extensions["loadbay"]["loadbay"]
    # An id that is drawn leads nowhere: it is our own links that are followed.
    schema.config.phases.stateful.inference.algorithms = []
    dice = random.Random()

    class Walk(schema.as_state_machine()):
        def setup(self):
            # The same walk has to meet the same ids, for it to be repeated: so they are no accident here.
            dice.seed(1)
            with service.database.connection_context():
                for table in (Track, IdempotencyKey, UploadSession):
                    service.database.execute_sql(f'DELETE FROM "{table._meta.table_name}"')

        def before_call(self, case):
            drawn = {name: value for name, value in (case.headers or {}).items() if name not in DRAWN}
            case.headers = {**drawn, **headers_for(case.operation, key)}
            # Without a session and a track there is no way to go on.
            name = case.operation.definition.raw["operationId"]
            if name in ("create_upload_session", "create_track"):
                case.body = dict(example_of(case.operation))

        def validate_response(self, response, case, additional_checks=None, **kwargs):
            # A track that was cancelled by way of its session is still told of. Where nobody needs a key to open a
            # session, none is missing.
            excluded = [BEYOND, *([openapi_checks.use_after_free] if case.path.startswith("/v1/upload/") else [])]
            excluded += [] if key else [openapi_checks.ignored_auth, openapi_checks.negative_data_rejection]
            headers = headers_for(case.operation, key)
            case.validate_response(response, headers=headers, excluded_checks=excluded, recorder=self.recorder)
            met[case.operation.definition.raw["operationId"], response.status_code] += 1

    monkeypatch.setattr("storage.ids.os.urandom", dice.randbytes)
    monkeypatch.setattr("storage.ids.time", SimpleNamespace(time_ns=lambda: 1_800_000_000 * 10**9))
    Walk.run(settings=limits(QUIET, max_examples=max(EXAMPLES, 100), stateful_step_count=12, derandomize=True))
    return met


@pytest.mark.parametrize("key", [True, False], ids=["with a key", "without"])
def test_walks(service, settings, monkeypatch, key):
    """Whatever chain of requests is gone, by whoever has a key or needs none, each is answered as it says."""
    met = walk(service if key else create_app({**settings, "COVER_UPLOAD": "relay"}), monkeypatch, key)
    assert not [status for _, status in met if status >= 500]
    # These take an id that no chance finds.
    led = {name for name, status in met if status == 200} - {"create_upload_session", "list_upload_sessions"}
    assert len(led) > 3, met
    assert ("delete_track", 200 if key else 401) in met


def test_walks_find_what_is_not_gone(service, monkeypatch):
    """What those chains are for: a track that is told of after it was deleted is seen."""
    monkeypatch.setattr("storage.uploads.organization.delete", organization.find_track)
    with pytest.raises(FailureGroup, match="previously deleted"):
        walk(service, monkeypatch, True, "create_upload_session", "create_track", "get_track", "delete_track")
