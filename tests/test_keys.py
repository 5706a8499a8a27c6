"""API keys that are kept: made once, found by their look-up part, ended at once."""

from __future__ import annotations

from uuid import uuid4

import pytest

from app import create_app
from storage import api_keys
from support.api import COLLECTION, assert_error, bearer, create_key, full_key_routes
from support.database import query

WORDS = {"collection_id": COLLECTION}
MAKE = ("flask", "--app", "app", "create-key", "--name")


@pytest.fixture
def settings(settings):
    """A closed service."""
    return {**settings, "ALLOW_ANONYMOUS": ""}


def make(processes, settings, *options):
    """Make a key by command; returns it."""
    done = processes.run(*MAKE, "a test", *options, env=settings)
    assert done.returncode == 0, done.stdout
    return done.stdout.split()[-1]


def invoke(app, *payload):
    """Run a command in this process; returns its result."""
    return app.test_cli_runner().invoke(args=payload)


def opened(client, key, **payload):
    """The answer to opening a session."""
    return client.post("/v1/upload_session", json=payload, headers=bearer(key))


def test_full_key(settings, processes):
    """A key that the command prints opens a session in a service that runs already."""
    client = create_app(settings).test_client()
    key = make(processes, settings)
    assert key.startswith("loadbay_full_")
    assert opened(client, key, **WORDS).status_code == 200
    assert_error(opened(client, key[:-1] + ("a" if key[-1] != "a" else "b"), **WORDS), 401, "unauthorized")


def test_digest_only(app, settings):
    """The key itself stands nowhere in the database."""
    key = create_key(app)
    kept = str(query(app, "SELECT * FROM loadbay_api_key"))
    assert key.split("_")[2] in kept
    assert key.split("_")[3] not in kept


def test_revoked(app, client, settings):
    """A revoked key stops working at once, in a service that took it a moment ago, too."""
    key = create_key(app)
    other = create_app(settings).test_client()
    assert [opened(each, key, **WORDS).status_code for each in (client, other)] == [200, 200]
    result = invoke(app, "revoke-key", key.split("_")[2])
    assert result.exit_code == 0, result.output
    for each in (client, other):
        assert_error(opened(each, key, **WORDS), 401, "unauthorized")
    assert "revoked" in invoke(app, "list-keys").output
    assert invoke(app, "revoke-key", key.split("_")[2]).exit_code == 0


def test_revoke_unknown(app):
    """A key that is not there cannot be revoked, and the command says so."""
    result = invoke(app, "revoke-key", "nothing")
    assert result.exit_code == 1
    assert "No such API key" in result.output


def test_expired(app, client, clock):
    """A key stops working when its time is over."""
    key = create_key(app, "--expires", "1h")
    assert opened(client, key, **WORDS).status_code == 200
    clock.forward(3500)
    assert opened(client, key, **WORDS).status_code == 200
    clock.forward(101)
    assert_error(opened(client, key, **WORDS), 401, "unauthorized", "expired")
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
def test_wrong_options(app, options):
    """What makes no sense is refused with a sentence, and no key is made."""
    result = invoke(app, "create-key", "--name", "a test", *options)
    assert result.exit_code in (1, 2), result.output
    assert "Error" in result.output
    assert len(invoke(app, "list-keys").output.splitlines()) == 1


@pytest.mark.parametrize("seconds", [2**62, 253_402_300_800, -(2**62)])
def test_list_of_any_key(app, seconds):
    """A moment that no calendar has does not hide the other keys."""
    create_key(app)
    query(app, f"UPDATE loadbay_api_key SET expires_at = {seconds}")
    create_key(app, "--expires", "10w")
    result = invoke(app, "list-keys")
    assert (result.exit_code, len(result.output.splitlines())) == (0, 3), result.output
    assert "after 9999" in result.output or seconds < 0


def test_longest_life(app, client):
    """A key may be made for ten years, by command as by request."""
    full = create_key(app, "--expires", "3650d")
    payload = {"name": "app", **WORDS}
    for seconds, status in ((api_keys.MAX_LIFETIME, 200), (api_keys.MAX_LIFETIME + 1, 400), (10**400, 400)):
        response = client.post("/v1/api_key", json={**payload, "expires_in": seconds}, headers=bearer(full))
        assert response.status_code == status, seconds


def test_uploader(app, client):
    """An uploader's key opens sessions of its collection, named or not, and does nothing else."""
    key = create_key(app, "--role", "uploader", "--collection", COLLECTION)
    for payload in ({}, WORDS, {"collection_id": None}):
        response = opened(client, key, **payload)
        assert response.json["upload_session"]["collection_id"] == COLLECTION
    assert_error(opened(client, key, collection_id=str(uuid4())), 403, "forbidden", "collection_id")
    assert_error(opened(client, key, collection_id=7), 400, "invalid_request", "collection_id")
    for method, path in full_key_routes(app, track_id=uuid4(), collection_id=COLLECTION):
        response = client.open(path, method=method, json={} if method == "POST" else None, headers=bearer(key))
        assert_error(response, 403, "forbidden")


def test_collection_is_needed(app, client):
    """A full key names the collection."""
    assert_error(opened(client, create_key(app)), 400, "invalid_request", "collection_id")


def test_key_by_request(app, client):
    """A full key makes an uploader's key, of its own organisation."""
    organization = str(uuid4())
    full = create_key(app, "--organization", organization)
    payload = {"name": "app", "collection_id": COLLECTION, "expires_in": 3600}
    response = client.post("/v1/api_key", json=payload, headers=bearer(full))
    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    told = response.json["api_key"]
    assert (told["role"], told["organization_id"], told["collection_id"]) == ("uploader", organization, COLLECTION)
    assert opened(client, response.json["key"]).status_code == 200
    mine = client.get("/v1/upload_session", headers=bearer(full)).json
    assert mine["count"] == 1


@pytest.mark.parametrize(
    "payload", [{}, {"name": "x"}, {"name": " ", **WORDS}, {"name": "x", **WORDS, "role": "full"}, {"name": 1, **WORDS}]
)
def test_no_other_key_by_request(app, client, payload):
    """No request makes a full key, or one without name or collection."""
    response = client.post("/v1/api_key", json=payload, headers=bearer(create_key(app)))
    assert_error(response, 400, "invalid_request")


def test_key_where_none_is_needed(app, client):
    """A key on a route that the session's id opens is not asked for, right or wrong."""
    session = opened(client, create_key(app), **WORDS).json["upload_session_id"]
    for header in ({}, bearer("wrong"), bearer(create_key(app))):
        assert client.get(f"/v1/upload_session/{session}", headers=header).status_code == 200


def test_no_tables(settings, tmp_path, processes):
    """Before `flask prepare` has run, the command says what is wrong instead of a traceback."""
    env = {**settings, "CREATE_MISSING": "", "DATABASE_URL": f"sqlite:///{tmp_path}/new.db"}
    done = processes.run(*MAKE, "x", env=env)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    assert "no such table" in done.stdout
