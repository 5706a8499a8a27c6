"""Authorization to create sessions."""

from __future__ import annotations

import pytest

from app import create_app
from support.api import COLLECTION, assert_error, new_session, new_track

KEY = "a-key-of-full-access-0123"
PAYLOAD = {"collection_id": COLLECTION}


@pytest.fixture
def closed_client(settings):
    """A client of a service without keys and without ALLOW_ANONYMOUS."""
    return create_app({**settings, "ALLOW_ANONYMOUS": ""}).test_client()


@pytest.fixture
def keyed_client(settings):
    """A client of a service with two keys."""
    return create_app({**settings, "ALLOW_ANONYMOUS": "", "API_KEYS": f"another-key-0123456789,{KEY}"}).test_client()


def test_service_is_closed_by_default(closed_client):
    """Without a key and without ALLOW_ANONYMOUS, nobody can create a session."""
    response = closed_client.post("/v1/upload_session", json=PAYLOAD)
    assert_error(response, 401, "unauthorized", "Authorization")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_key_creates_a_session(keyed_client):
    """A key of API_KEYS creates a session, whose id then authorizes every further request."""
    response = keyed_client.post("/v1/upload_session", json=PAYLOAD, headers={"Authorization": f"Bearer {KEY}"})
    assert response.status_code == 200
    new_track(keyed_client, response.json["upload_session_id"])


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY}x", "Bearer käse"])
def test_rejects_a_wrong_key(keyed_client, header):
    """Any other value is rejected, and is not in the response."""
    response = keyed_client.post("/v1/upload_session", json=PAYLOAD, headers={"Authorization": header})
    assert_error(response, 401, "unauthorized", "Authorization")
    assert KEY not in response.text


def test_rejects_a_wrong_key_on_an_open_service(client):
    """A wrong key is rejected even if the service requires none; a request without a key is accepted."""
    response = client.post("/v1/upload_session", json=PAYLOAD, headers={"Authorization": "Bearer wrong"})
    assert_error(response, 401, "unauthorized")
    new_session(client)
