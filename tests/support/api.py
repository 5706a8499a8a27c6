"""Requests to the service under test, and checks of its responses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from flask import Flask
from flask.testing import FlaskClient

from storage.service import Service
from support.database import query
from support.sample_files import wav
from support.store import put

COLLECTION = "123e4567-e89b-12d3-a456-426614174000"
# Routes that need no full key and have no session's id in their path.
PUBLIC_ROUTES = (
    ("POST", "/v1/upload_session"),
    ("POST", "/v1/store_event"),
    ("POST", "/v1/store_event/sns"),
    ("POST", "/v1/store_event/<store_token>"),
)


def service_of(app: Flask) -> Service:
    """Return the service of an application."""
    return cast(Service, app.extensions["loadbay"]["loadbay"])


def new_session(client: FlaskClient, **payload: Any) -> dict[str, Any]:
    """Create a session and return the response's body."""
    response = client.post("/v1/upload_session", json={"collection_id": COLLECTION, **payload})
    assert response.status_code == 200, response.text
    return dict(response.json)


def new_track(client: FlaskClient, session_id: str, file_name: str = "track-1.mp3", **payload: Any) -> dict[str, Any]:
    """Register a track and return the response's body."""
    payload = {"file_name": file_name, "cover_fields": True, **payload}
    response = client.post(f"/v1/upload/{session_id}/track", json=payload)
    assert response.status_code == 200, response.text
    return dict(response.json)


def track_url(session_id: str, created: Mapping[str, Any], action: str = "") -> str:
    """Return the path of a track, or of one of its actions."""
    return f"/v1/upload/{session_id}/track/{created['track_id']}{action and '/' + action}"


def complete(client: FlaskClient, session_id: str, created: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a track and return it."""
    response = client.post(track_url(session_id, created, "complete"))
    assert response.status_code == 200, response.text
    return dict(response.json["track"])


def upload_track(client: FlaskClient, session_id: str, body: bytes | None = None, **payload: Any) -> dict[str, Any]:
    """Register a track, upload its bytes and complete it; return the response of the registration."""
    created = new_track(client, session_id, "a.wav", **payload)
    assert put(created["track_upload"], body or wav()).status_code == 200
    complete(client, session_id, created)
    return created


def count_tracks(client: FlaskClient, session_id: str) -> dict[str, int]:
    """Count the session's tracks by status, without the zeros."""
    tracks = client.get(f"/v1/upload_session/{session_id}").json["upload_session"]["tracks"]
    return {status: count for status, count in tracks.items() if count}


def expire_session(app: Flask, session_id: str) -> None:
    """Move the session's expiry far into the past."""
    query(app, f"UPDATE loadbay_upload_session SET expires_at = 1000000000 WHERE id = '{session_id}'")


def bearer(key: str) -> dict[str, str]:
    """Return the header that carries a key."""
    return {"Authorization": f"Bearer {key}"}


def create_key(app: Flask, *options: str) -> str:
    """Create an API key with `flask create-key`, in this process, and return it."""
    result = app.test_cli_runner().invoke(args=["create-key", "--name", "a test", *options])
    assert result.exit_code == 0, result.output
    return str(result.output.split()[-1])


def full_key_routes(app: Flask, **ids: object) -> list[tuple[str, str]]:
    """Return method and path, with these ids in it, of every route that requires a full key."""
    return [
        (method, re.sub(r"<(\w+)>", lambda name: str(ids[name[1]]), rule.rule))
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        if rule.rule.startswith("/v1/")
        and "upload_session_id" not in rule.arguments
        and (method, rule.rule) not in PUBLIC_ROUTES
    ]


def assert_error(response: Any, status: int, code: str, *texts: str) -> None:
    """Check that the response is an error in the common format, with each of `texts` in its message."""
    body = response.get_json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert body["ok"] is False
    assert body["api_request_id"] == response.headers["X-Request-ID"]
    for text in texts:
        assert text in body["message"]
