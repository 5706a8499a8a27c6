"""POST /v1/upload_session and GET /v1/upload_session/:upload_session_id"""

import re
import time
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from support.api import COLLECTION, assert_error, new_session
from support.store import put, staged_key

CREATOR = "9b2f8c1e-0000-4000-8000-00000000000a"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
PAYLOAD = {
    "collection_id": COLLECTION,
    "creator_id": CREATOR,
    "organization_index": "spring/7",
    "metadata": {"batch_name": "Summer 2024 Collection", "n": 1.5, "list": [None, True, {"é": "音"}]},
}


def timestamp(text):
    """Parse a time of the API and return it as Unix time."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def get_session(client, session_id):
    """Request a session."""
    return client.get(f"/v1/upload_session/{session_id}")


def test_contract_example_gets_the_contract_response(client):
    """The contract's example request gets the contract's response, with each key of its type."""
    response = client.post(
        "/v1/upload_session",
        json={"collection_id": COLLECTION, "metadata": {"batch_name": "Summer 2024 Collection"}},
    )
    body = response.json
    session = body["upload_session"]
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert body["ok"] is True
    assert UUID.fullmatch(body["upload_session_id"])
    assert session["id"] == body["upload_session_id"]
    assert session["collection_id"] == COLLECTION
    assert TIME.fullmatch(body["expires_at"])
    assert session["expires_at"] == body["expires_at"]


def test_returns_the_declared_fields(client):
    """A session has all of the contract's keys, with the declared values."""
    created = new_session(client, **PAYLOAD)
    response = get_session(client, created["upload_session_id"])
    assert response.status_code == 200
    assert response.json["ok"] is True
    assert response.json["upload_session_id"] == created["upload_session_id"]
    assert response.json["upload_session"] == created["upload_session"]
    assert response.json["upload_session"].items() >= PAYLOAD.items()
    assert {"id", "expires_at"} <= response.json["upload_session"].keys()


def test_absent_fields_are_null(client):
    """Optional fields that are absent are null in responses."""
    created = new_session(client)
    for session in (
        created["upload_session"],
        get_session(client, created["upload_session_id"]).json["upload_session"],
    ):
        for name in ("creator_id", "organization_index"):
            assert session[name] is None, name
        assert session["metadata"] == {}


@pytest.mark.parametrize("name", ["creator_id", "organization_index", "metadata", "expires_in", "track"])
def test_null_is_the_same_as_absent(client, name):
    """An optional field that is null is treated as absent."""
    assert new_session(client, **{name: None})["upload_session"].get(name) == ({} if name == "metadata" else None)


@pytest.mark.parametrize("metadata", [{}, {"": ""}, {"a": {}}, {"n": 2**63 - 1, "m": -(2**63) + 1, "f": 1e-300}])
def test_metadata_is_unchanged(client, metadata):
    """Metadata is returned unchanged, an empty object included."""
    created = new_session(client, metadata=metadata)
    assert get_session(client, created["upload_session_id"]).json["upload_session"]["metadata"] == metadata


def test_ignores_unknown_keys(client):
    """Unknown keys of later versions are ignored."""
    created = new_session(client, later="thing", id="mine", status="closed", expires_at="2099-01-01T00:00:00Z")
    assert created["upload_session"]["status"] == "open"
    assert created["upload_session"]["id"] != "mine"
    assert not created["expires_at"].startswith("2099")


@pytest.mark.parametrize("name", ["collection_id", "creator_id"])
def test_ids_are_lowercased(client, name):
    """UUIDs in capitals are accepted and returned in lower case."""
    created = new_session(client, **{name: "ABCDEF00-E89B-12D3-A456-42661417400F"})
    assert created["upload_session"][name] == "abcdef00-e89b-12d3-a456-42661417400f"
    assert get_session(client, created["upload_session_id"].upper()).json["upload_session"] == created["upload_session"]


def test_session_ids_are_random(client):
    """Session ids are UUIDv8, and all different."""
    ids = [new_session(client)["upload_session_id"] for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(session_id[14] == "8" and session_id[19] in "89ab" for session_id in ids)


def test_sessions_expire_after_session_ttl(make_client):
    """Without expires_in, a session expires after SESSION_TTL seconds."""
    created = new_session(make_client(SESSION_TTL="120"))
    assert timestamp(created["expires_at"]) == timestamp(created["upload_session"]["created_at"]) + 120


@pytest.mark.parametrize("expires_in", [60, 61, 86_400, 2_592_000])
def test_sessions_expire_after_expires_in(client, expires_in):
    """With expires_in, a session expires after that many seconds."""
    created = new_session(client, expires_in=expires_in)
    assert timestamp(created["expires_at"]) == timestamp(created["upload_session"]["created_at"]) + expires_in
    assert abs(timestamp(created["upload_session"]["created_at"]) - time.time()) < 5


@pytest.mark.parametrize("expires_in", [59, 0, -1, 2_592_001, 2**63, "60", 60.0, True, [60]])
def test_rejects_an_invalid_expires_in(client, expires_in):
    """An expires_in of another type, or outside of 60 to 2592000, is rejected by name."""
    response = client.post("/v1/upload_session", json={"collection_id": COLLECTION, "expires_in": expires_in})
    assert_error(response, 400, "invalid_request", "expires_in")


def test_every_response_has_a_request_id(client):
    """Every response has its own id, the same in body and header."""
    created = new_session(client)
    responses = [
        client.post("/v1/upload_session", json={"collection_id": COLLECTION}),
        get_session(client, created["upload_session_id"]),
        get_session(client, "nonsense"),
        client.get("/nowhere"),
    ]
    for response in responses:
        assert UUID.fullmatch(response.headers["X-Request-ID"])
        assert response.json["api_request_id"] == response.headers["X-Request-ID"]
        assert response.headers["Cache-Control"] == "no-store"
    assert len({response.headers["X-Request-ID"] for response in responses}) == len(responses)


def test_registers_a_first_track(client, bucket):
    """`track` in the request registers the first track, and its URLs work."""
    created = new_session(client, track={"file_name": "one.mp3", "metadata": {"n": 1}, "file_size": 5})
    assert {"upload_session", "track", "track_upload", "track_cover_upload", "track_id"} <= created.keys()
    assert created["track"]["id"] == created["track_id"]
    assert created["track"]["file_name"] == "one.mp3"
    assert created["track"]["metadata"] == {"n": 1}
    assert put(created["track_upload"], b"audio").status_code == 200
    assert bucket.get(staged_key(created["track_upload"])) == b"audio"


@pytest.mark.parametrize(
    ("track", "expected"),
    [
        ({}, (400, "invalid_request", "track.file_name")),
        ("one.mp3", (400, "invalid_request", "track")),
        ([], (400, "invalid_request", "track")),
        ({"file_name": "a/b"}, (400, "invalid_request", "track.file_name")),
        ({"file_name": "a", "metadata": 1}, (400, "invalid_request", "track.metadata")),
        ({"file_name": "a", "file_size": 10**9}, (413, "too_large", "file_size")),
    ],
)
def test_invalid_first_track_creates_no_session(make_client, count_rows, track, expected):
    """A session and its first track are created together, or not at all."""
    client = make_client(MAX_TRACK_BYTES="1000")
    rows_before = count_rows()
    response = client.post("/v1/upload_session", json={"collection_id": COLLECTION, "track": track})
    assert_error(response, *expected)
    assert count_rows() == rows_before


def test_response_without_a_track_has_no_track_keys(client):
    """Without `track` in the request, the response has no track."""
    assert not {"track", "track_id", "track_upload"} & new_session(client).keys()


def test_unknown_session_is_not_found(client):
    """A session that does not exist is 404."""
    assert_error(get_session(client, COLLECTION), 404, "session_not_found", "upload_session_id")


def test_expired_session_is_readable(client, clock):
    """An expired session can be read, and has the status `expired`."""
    created = new_session(client, expires_in=60)
    clock.forward(50)
    assert get_session(client, created["upload_session_id"]).json["upload_session"]["status"] == "open"
    clock.forward(10)
    response = get_session(client, created["upload_session_id"])
    assert response.status_code == 200
    assert response.json["upload_session"]["status"] == "expired"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@limits(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    json_values
    | st.fixed_dictionaries(
        {"collection_id": st.just(COLLECTION) | json_values},
        optional=dict.fromkeys(("creator_id", "organization_index", "metadata", "expires_in", "track"), json_values),
    )
)
def test_any_json_gets_a_defined_response(client, value):
    """Any JSON is accepted or rejected with an error of the client, never with a 500."""
    response = client.post("/v1/upload_session", json=value)
    assert response.status_code in (200, 400, 413), response.text
    assert response.json["ok"] is (response.status_code == 200)
