"""Who may create sessions."""

from __future__ import annotations

import pytest

from app import create_app
from support.api import COLLECTION, assert_error, new_session, new_track

KEY = "a-key-of-full-access-0123"
WORDS = {"collection_id": COLLECTION}


@pytest.fixture
def closed(settings):
    """A client of a service that nobody opened."""
    return create_app({**settings, "ALLOW_ANONYMOUS": ""}).test_client()


@pytest.fixture
def keyed(settings):
    """A client of a service with two keys."""
    return create_app({**settings, "ALLOW_ANONYMOUS": "", "API_KEYS": f"another-key-0123456789,{KEY}"}).test_client()


def test_closed_by_default(closed):
    """Without a key and without ALLOW_ANONYMOUS nobody creates a session."""
    response = closed.post("/v1/upload_session", json=WORDS)
    assert_error(response, 401, "unauthorized", "Authorization")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_key(keyed):
    """A key of API_KEYS opens a session, whose id is all that is needed from there on."""
    response = keyed.post("/v1/upload_session", json=WORDS, headers={"Authorization": f"Bearer {KEY}"})
    assert response.status_code == 200
    new_track(keyed, response.json["upload_session_id"])


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY}x", "Bearer käse"])
def test_wrong_key(keyed, header):
    """Anything else is refused, and not repeated in the answer."""
    response = keyed.post("/v1/upload_session", json=WORDS, headers={"Authorization": header})
    assert_error(response, 401, "unauthorized", "Authorization")
    assert KEY not in response.text


def test_wrong_key_where_none_is_needed(client):
    """A wrong key is wrong even where none is needed; no key is fine there."""
    response = client.post("/v1/upload_session", json=WORDS, headers={"Authorization": "Bearer wrong"})
    assert_error(response, 401, "unauthorized")
    new_session(client)
