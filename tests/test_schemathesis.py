"""The API compared with its own OpenAPI document: thousands of valid and invalid requests."""

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
EXAMPLES = 50 if os.environ.get("NOTHING_SKIPPED") else 40
MIN_REQUESTS = 1000 if os.environ.get("NOTHING_SKIPPED") else 600
# Some rules have no JSON Schema: no NUL in any key, metadata of a limited depth, file_size with multipart.
EXCLUDED_CHECK = openapi_checks.positive_data_acceptance
SESSION_PAYLOAD = {"collection_id": "123e4567-e89b-12d3-a456-426614174000", "track": {"file_name": "track-1.mp3"}}
GENERATED_HEADERS = ("Authorization", "Idempotency-Key")
GENERATE_ONLY = limits(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)


@pytest.fixture
def service(settings):
    """An application with a key and without anonymous access."""
    return create_app(
        {**settings, "ALLOW_ANONYMOUS": "", "API_KEYS": KEY, "STORE_EVENT_SECRET": SECRET, "COVER_UPLOAD": "relay"}
    )


def headers_for(operation, key):
    """Return the authorization that an operation requires."""
    schemes = [name for scheme in operation.definition.raw["security"] for name in scheme]
    if not schemes or not key:
        return {}
    return {"Authorization": f"Bearer {SECRET if 'store_event_secret' in schemes else KEY}"}


def send_random_requests(operation, key, ids=None):
    """Send many requests to one operation, with these ids if given; return the number of responses by status."""
    headers, statuses = headers_for(operation, key), Counter()

    @GENERATE_ONLY
    @given(case=operation.as_strategy())
    def check(case):
        names = set(case.path_parameters or {}) & set(ids or {})
        case.path_parameters = {**(case.path_parameters or {}), **{name: ids[name] for name in names}}
        response = case.call(headers={**(case.headers or {}), **headers})
        case.validate_response(response, headers=headers, excluded_checks=[EXCLUDED_CHECK])
        statuses[response.status_code] += 1

    check()
    return statuses


@pytest.mark.parametrize("key", [True, False], ids=["with a key", "without"])
def test_responses_match_the_document(service, key):
    """Random requests to a route get a response that its description has."""
    schema = schemathesis.openapi.from_wsgi("/openapi.json", service)
    statuses = Counter()
    for result in schema.get_all_operations():
        statuses += send_random_requests(result.ok(), key)
    assert statuses.total() >= MIN_REQUESTS / 2
    assert not [status for status in statuses if status >= 500]


def test_responses_for_existing_tracks_match_the_document(service):
    """Random requests for an existing session and track are mostly accepted, and their responses match."""
    schema = schemathesis.openapi.from_wsgi("/openapi.json", service)
    client = service.test_client()
    accepted = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        created = client.post(
            "/v1/upload_session", json=SESSION_PAYLOAD, headers={"Authorization": f"Bearer {KEY}"}
        ).json
        ids = {name: created[name] for name in ("upload_session_id", "track_id")}
        ids["collection_id"] = SESSION_PAYLOAD["collection_id"]
        statuses = send_random_requests(operation, key=True, ids=ids)
        assert not [status for status in statuses if status >= 500]
        accepted[operation.definition.raw["operationId"]] = statuses[200]
    # Nothing is uploaded, and the track has no parts, so these operations cannot succeed.
    # A message of Amazon SNS has a signature, and a store's event the secret in its path.
    expected_failures = {"complete_track", "list_parts", "sign_parts", "relay_cover", "download_track", "replace_cover"}
    expected_failures |= {"receive_sns_message", "receive_store_event_by_path", "replace_own_cover"}
    # The session is open.
    expected_failures |= {"read_receipt"}
    assert {name for name, count in accepted.items() if not count} <= expected_failures, accepted


def test_links_lead_to_valid_requests(service):
    """The links of a response lead to requests that are accepted."""
    schema = schemathesis.openapi.from_wsgi("/openapi.json", service)
    operations = {result.ok().definition.raw["operationId"]: result.ok() for result in schema.get_all_operations()}
    client, links = service.test_client(), 0
    for operation in operations.values():
        for target, link in operation.definition.raw["responses"]["200"].get("links", {}).items():
            path = operation.path
            if "{" in path:
                created = client.post(
                    "/v1/upload_session", json=SESSION_PAYLOAD, headers={"Authorization": f"Bearer {KEY}"}
                )
                path = path.format(**created.json)
            body = client.post(path, json=example_of(operation), headers=headers_for(operation, key=True)).json
            ids = {key: body[value.removeprefix("$response.body#/")] for key, value in link["parameters"].items()}
            assert ids
            statuses = send_random_requests(operations[target], key=True, ids=ids)
            # Nothing is uploaded, and the track has no parts.
            assert statuses[200] or target in {"complete_track", "list_parts", "download_track", "replace_cover"}, (
                target
            )
            # A removed track is not found the second time.
            assert not statuses[404] or target in {"cancel_track", "delete_track"}, target
            links += 1
    assert links >= 13


def example_of(operation):
    """Return the document's example request of an operation."""
    return operation.definition.raw["requestBody"]["content"]["application/json"]["example"]


def run_walks(service, monkeypatch, key, *operation_ids):
    """Send chains of requests that follow links; return the number of responses by operation and status."""
    schema = schemathesis.openapi.from_wsgi("/openapi.json", service)
    schema = schema.include(operation_id=list(operation_ids)) if operation_ids else schema
    schema.config.generation.update(modes=[schemathesis.GenerationMode.POSITIVE])
    counts, service = Counter(), service.extensions["loadbay"]["loadbay"]
    # Random ids do not exist, so only our own links are followed.
    schema.config.phases.stateful.inference.algorithms = []
    generator = random.Random()

    class Walk(schema.as_state_machine()):
        def setup(self):
            # Hypothesis repeats walks, which must then see the same ids.
            generator.seed(1)
            with service.database.connection_context():
                for table in (Track, IdempotencyKey, UploadSession):
                    service.database.execute_sql(f'DELETE FROM "{table._meta.table_name}"')

        def before_call(self, case):
            drawn = {name: value for name, value in (case.headers or {}).items() if name not in GENERATED_HEADERS}
            case.headers = {**drawn, **headers_for(case.operation, key)}
            # A walk needs a session and a track to continue.
            name = case.operation.definition.raw["operationId"]
            if name in ("create_upload_session", "create_track"):
                case.body = dict(example_of(case.operation))

        def validate_response(self, response, case, additional_checks=None, **kwargs):
            # A cancelled track can still be read. If no key is required to create a session, none is missing.
            excluded = [
                EXCLUDED_CHECK,
                *([openapi_checks.use_after_free] if case.path.startswith("/v1/upload/") else []),
            ]
            excluded += [] if key else [openapi_checks.ignored_auth, openapi_checks.negative_data_rejection]
            headers = headers_for(case.operation, key)
            case.validate_response(response, headers=headers, excluded_checks=excluded, recorder=self.recorder)
            counts[case.operation.definition.raw["operationId"], response.status_code] += 1

    monkeypatch.setattr("storage.ids.os.urandom", generator.randbytes)
    monkeypatch.setattr("storage.ids.time", SimpleNamespace(time_ns=lambda: 1_800_000_000 * 10**9))
    Walk.run(settings=limits(GENERATE_ONLY, max_examples=60, stateful_step_count=12, derandomize=True))
    return counts


@pytest.mark.parametrize("key", [True, False], ids=["with a key", "without"])
def test_chains_of_requests_match_the_document(service, settings, monkeypatch, key):
    """Random chains of requests, with a key and without, get responses that the document has."""
    counts = run_walks(service if key else create_app({**settings, "COVER_UPLOAD": "relay"}), monkeypatch, key)
    assert not [status for _, status in counts if status >= 500]
    # These operations need an id that is not found by chance.
    reached = {name for name, status in counts if status == 200} - {"create_upload_session", "list_upload_sessions"}
    assert len(reached) > 3, counts
    assert ("delete_track", 200 if key else 401) in counts


def test_walks_detect_a_deleted_track_that_is_readable(service, monkeypatch):
    """The walks detect an error that they are meant to: a track that can be read after it was deleted."""
    monkeypatch.setattr("storage.uploads.organization.delete", organization.find_track)
    with pytest.raises(FailureGroup, match="previously deleted"):
        run_walks(service, monkeypatch, True, "create_upload_session", "create_track", "get_track", "delete_track")
