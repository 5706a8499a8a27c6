"""API keys: creation, lookup by prefix, expiry and revocation."""

from __future__ import annotations

from uuid import uuid4

import pytest

from app import create_app
from storage import api_keys
from support.api import COLLECTION, assert_error, bearer, create_key, full_key_routes
from support.database import query

PAYLOAD = {"collection_id": COLLECTION}
CREATE_KEY = ("flask", "--app", "app", "create-key", "--name")


@pytest.fixture
def settings(settings):
    """Settings without anonymous access."""
    return {**settings, "ALLOW_ANONYMOUS": ""}


def create_key_in_a_process(processes, settings, *options):
    """Create a key with the command, in a process of its own, and return it."""
    result = processes.run(*CREATE_KEY, "a test", *options, env=settings)
    assert result.returncode == 0, result.stdout
    return result.stdout.split()[-1]


def invoke(app, *arguments):
    """Run a command in this process, and return its result."""
    return app.test_cli_runner().invoke(args=arguments)


def open_session(client, key, **payload):
    """Request a session with a key, and return the response."""
    return client.post("/v1/upload_session", json=payload, headers=bearer(key))


def test_new_key_works_in_a_running_service(settings, processes):
    """A key that the command prints creates a session in a service that is already running."""
    client = create_app(settings).test_client()
    key = create_key_in_a_process(processes, settings)
    assert key.startswith("loadbay_full_")
    assert open_session(client, key, **PAYLOAD).status_code == 200
    assert_error(open_session(client, key[:-1] + ("a" if key[-1] != "a" else "b"), **PAYLOAD), 401, "unauthorized")


def test_database_stores_only_a_hash(app, settings):
    """The database stores the key's prefix and hash, not the key."""
    key = create_key(app)
    rows = str(query(app, "SELECT * FROM loadbay_api_key"))
    assert key.split("_")[2] in rows
    assert key.split("_")[3] not in rows


def test_revoked_key_is_rejected_at_once(app, client, settings):
    """A revoked key is rejected at once, even by a service that has just accepted it."""
    key = create_key(app)
    other = create_app(settings).test_client()
    assert [open_session(instance, key, **PAYLOAD).status_code for instance in (client, other)] == [200, 200]
    result = invoke(app, "revoke-key", key.split("_")[2])
    assert result.exit_code == 0, result.output
    for instance in (client, other):
        assert_error(open_session(instance, key, **PAYLOAD), 401, "unauthorized")
    assert "revoked" in invoke(app, "list-keys").output
    assert invoke(app, "revoke-key", key.split("_")[2]).exit_code == 0


def test_revoking_an_unknown_key_fails(app):
    """Revoking a key that does not exist is an error of the command."""
    result = invoke(app, "revoke-key", "nothing")
    assert result.exit_code == 1
    assert "No such API key" in result.output


def test_expired_key_is_rejected(app, client, clock):
    """A key is rejected after its expiry."""
    key = create_key(app, "--expires", "1h")
    assert open_session(client, key, **PAYLOAD).status_code == 200
    clock.forward(3500)
    assert open_session(client, key, **PAYLOAD).status_code == 200
    clock.forward(101)
    assert_error(open_session(client, key, **PAYLOAD), 401, "unauthorized", "expired")
    assert "expired" in invoke(app, "list-keys").output


@pytest.mark.parametrize(
    "options",
    [
        ("--role", "uploader"),
        ("--collection", COLLECTION),
        ("--organization", "us"),
        ("--expires", "soon"),
        ("--expires", "2020-01-01"),
        ("--expires", "999999w"),
        ("--expires", "9999-12-31"),
        ("--role", "owner"),
    ],
)
def test_rejects_invalid_options(app, options):
    """Invalid options are rejected with an error, and no key is created."""
    result = invoke(app, "create-key", "--name", "a test", *options)
    assert result.exit_code in (1, 2), result.output
    assert "Error" in result.output
    assert len(invoke(app, "list-keys").output.splitlines()) == 1


@pytest.mark.parametrize("seconds", [2**62, 253_402_300_800, -(2**62)])
def test_lists_keys_with_any_expiry(app, seconds):
    """An expiry beyond the calendar does not prevent the list of the other keys."""
    create_key(app)
    query(app, f"UPDATE loadbay_api_key SET expires_at = {seconds}")
    create_key(app, "--expires", "10w")
    result = invoke(app, "list-keys")
    assert (result.exit_code, len(result.output.splitlines())) == (0, 3), result.output
    assert "after 9999" in result.output or seconds < 0


def test_keys_last_ten_years_at_most(app, client):
    """A key may be valid for ten years, whether created by command or by request."""
    full = create_key(app, "--expires", "3650d")
    payload = {"name": "app", **PAYLOAD}
    for seconds, status in ((api_keys.MAX_LIFETIME, 200), (api_keys.MAX_LIFETIME + 1, 400), (10**400, 400)):
        response = client.post("/v1/api_key", json={**payload, "expires_in": seconds}, headers=bearer(full))
        assert response.status_code == status, seconds


def test_uploader_key_creates_sessions_only(app, client):
    """An uploader key creates sessions of its collection, named or not, and can do nothing else."""
    key = create_key(app, "--role", "uploader", "--collection", COLLECTION)
    for payload in ({}, PAYLOAD, {"collection_id": None}):
        response = open_session(client, key, **payload)
        assert response.json["upload_session"]["collection_id"] == COLLECTION
    assert_error(open_session(client, key, collection_id=str(uuid4())), 403, "forbidden", "collection_id")
    assert_error(open_session(client, key, collection_id=7), 400, "invalid_request", "collection_id")
    for method, path in full_key_routes(app, track_id=uuid4(), collection_id=COLLECTION):
        response = client.open(path, method=method, json={} if method == "POST" else None, headers=bearer(key))
        assert_error(response, 403, "forbidden")


def test_full_key_must_name_the_collection(app, client):
    """A session that a full key creates must name its collection."""
    assert_error(open_session(client, create_key(app)), 400, "invalid_request", "collection_id")


def test_full_key_creates_an_uploader_key(app, client):
    """A full key creates an uploader key of its own organization."""
    organization = str(uuid4())
    full = create_key(app, "--organization", organization)
    payload = {"name": "app", "collection_id": COLLECTION, "expires_in": 3600}
    response = client.post("/v1/api_key", json=payload, headers=bearer(full))
    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    api_key = response.json["api_key"]
    assert (api_key["role"], api_key["organization_id"], api_key["collection_id"]) == (
        "uploader",
        organization,
        COLLECTION,
    )
    assert open_session(client, response.json["key"]).status_code == 200
    sessions = client.get("/v1/upload_session", headers=bearer(full)).json
    assert sessions["count"] == 1


@pytest.mark.parametrize(
    "payload",
    [{}, {"name": "x"}, {"name": " ", **PAYLOAD}, {"name": "x", **PAYLOAD, "role": "full"}, {"name": 1, **PAYLOAD}],
)
def test_request_creates_no_other_key(app, client, payload):
    """No request creates a full key, or one without a name or collection."""
    response = client.post("/v1/api_key", json=payload, headers=bearer(create_key(app)))
    assert_error(response, 400, "invalid_request")


def test_session_routes_ignore_keys(app, client):
    """A route that the session's id authorizes ignores keys, valid or not."""
    session = open_session(client, create_key(app), **PAYLOAD).json["upload_session_id"]
    for header in ({}, bearer("wrong"), bearer(create_key(app))):
        assert client.get(f"/v1/upload_session/{session}", headers=header).status_code == 200


def test_missing_tables_are_an_error_of_the_command(settings, tmp_path, processes):
    """Before `flask prepare`, the command fails with an error instead of a traceback."""
    env = {**settings, "CREATE_MISSING": "", "DATABASE_URL": f"sqlite:///{tmp_path}/new.db"}
    result = processes.run(*CREATE_KEY, "x", env=env)
    assert result.returncode == 1
    assert "Traceback" not in result.stdout
    assert "no such table" in result.stdout
