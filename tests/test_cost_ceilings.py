"""The table of costs in SECURITY.md: each route of the API is tried at its worst, and stays below its ceilings."""

from __future__ import annotations

import json
import re
import time
import tracemalloc
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient

from storage.clock import REQUEST_SECONDS
from storage.service import Service
from storage.uploads import multipart
from support.api import COLLECTION, assert_error, bearer, create_key, new_session, new_track, track_url
from support.database import query
from support.processes import ROOT
from support.sample_files import png, wav
from support.store import post_cover, put

pytestmark = pytest.mark.sqlite

KIB, MIB = 2**10, 2**20
UNITS = {"": 1, "KiB": KIB, "MiB": MIB}
SECRET = "a-secret-of-the-store-0123"
LARGE_METADATA = {"a": "é" * 8000}
LARGE_PAGE = {
    **dict.fromkeys(("title", "sender"), "\U0001f3b5" * 200),
    "greeting": "\U0001f3b5" * 2000,
    **dict.fromkeys(("terms_url", "privacy_url", "help_url"), f"https://example.com/{'x' * 1000}"),
}
LARGE_FIELDS = [{"name": f"field_{n}", "one_of": [f"{m}" * 20 for m in range(10)]} for n in range(24)]
LARGE_TRACK = {"file_name": "x" * 251 + ".wav", "organization_index": "é" * 255, "metadata": LARGE_METADATA}


class Ceiling(NamedTuple):
    """A row of the table: bytes of the body, rows, requests to the store, bytes of the response and of memory."""

    body: int
    rows: int
    store_requests: int
    response: int
    memory: int


def read_table() -> dict[str, Ceiling]:
    """Return the table in SECURITY.md by route."""
    text = (ROOT / "SECURITY.md").read_text()
    rows = re.findall(r"^\| `((?:GET|POST|PATCH|DELETE) /v1/\S+)` \| (.*) \|$", text, re.MULTILINE)
    return {route: Ceiling(*map(parse_number, cells.split(" | "))) for route, cells in rows}


def parse_number(text: str) -> int:
    """Return a number, or a number of bytes with its unit; `–` is 0."""
    number, _, unit = text.replace(",", "").partition(" ")
    return 0 if number == "–" else int(number) * UNITS[unit]


TABLE = read_table()


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with a store's secret and a prefix of the test's own."""
    return {**settings, "STORE_EVENT_SECRET": SECRET, "S3_PREFIX": f"{uuid4()}/", "MAX_TRACK_BYTES": str(2**42)}


def api_routes(app: Flask) -> Iterator[tuple[str, Any]]:
    """Yield each route of the API with its contract."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) & {"GET", "POST", "PATCH", "DELETE"}):
            if rule.rule.startswith("/v1/"):
                yield f"{method} {rule.rule}", app.view_functions[rule.endpoint].contract  # type: ignore[attr-defined]


def test_table_has_every_route(app):
    """The table has each route of the API, with the body that its contract accepts."""
    bodies = {route: contract.max_body_bytes if contract.body else 0 for route, contract in api_routes(app)}
    cover = "POST /v1/upload/<upload_session_id>/track/<track_id>/cover"
    bodies[cover] = 10 * MIB + 64 * KIB
    assert {route: ceiling.body for route, ceiling in TABLE.items()} == bodies


# --- What a request costs ---------------------------------------------------------------------------------------------


class Costs:
    """The rows that the service reads and writes, and its requests to the store."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch):
        self.rows = self.store_requests = 0
        monkeypatch.setattr(service.bucket, "_observer", self._observe, raising=True)
        connection = service.database.connection()
        connection.row_factory = self._count_row
        self.connection = connection

    def _observe(self, *_: Any) -> None:
        self.store_requests += 1

    def _count_row(self, _: Any, row: Any) -> Any:
        self.rows += 1
        return row


@pytest.fixture
def measure(app: Flask, service: Service, monkeypatch) -> Callable[..., Any]:
    """Send the request of a route, and compare what it costs with the ceilings: `measure(route, path, **options)`."""
    service.database.connect(reuse_if_open=True)

    def send(route: str, path: str, status: int = 200, **options: Any) -> Any:
        costs, client, ceiling = Costs(service, monkeypatch), app.test_client(), TABLE[route]
        changed = costs.connection.total_changes
        tracemalloc.start()
        started = time.process_time()
        response = client.open(path, method=route.split()[0], **options)
        seconds, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert response.status_code == status, response.text[:500]
        rows = costs.rows + costs.connection.total_changes - changed
        assert rows <= ceiling.rows
        assert costs.store_requests <= ceiling.store_requests
        assert len(response.data) <= ceiling.response
        assert peak <= ceiling.memory
        assert seconds < REQUEST_SECONDS
        return response

    return send


def body_of(payload: Any, size: int) -> dict[str, Any]:
    """Return the options for a request with a JSON body of exactly `size` bytes."""
    text = json.dumps(payload, ensure_ascii=False).encode()
    assert len(text) <= size
    return {"data": text.ljust(size), "content_type": "application/json"}


@pytest.fixture
def session_id(client: FlaskClient) -> str:
    """The id of a session with 300 tracks of much metadata, whose files have not arrived."""
    session = new_session(client, metadata=LARGE_METADATA, page=LARGE_PAGE, fields=LARGE_FIELDS)
    session_id = str(session["upload_session_id"])
    for _ in range(3):
        body = body_of({"tracks": [LARGE_TRACK] * 100}, 2 * MIB)
        assert client.post(f"/v1/upload/{session_id}/tracks", **body).status_code == 200
    return session_id


@pytest.fixture
def track_id(client: FlaskClient, session_id: str) -> str:
    """The id of the session's first track."""
    return str(client.get(f"/v1/upload/{session_id}/track?limit=1").json["tracks"][0]["id"])


SESSION_ROUTES = [
    ("GET /v1/upload_session/<upload_session_id>", 200),
    ("POST /v1/upload_session/<upload_session_id>/close", 200),
    ("GET /v1/upload/<upload_session_id>/track", 200),
    ("GET /v1/upload/<upload_session_id>/track/<track_id>", 200),
    ("POST /v1/upload/<upload_session_id>/track/<track_id>/complete", 409),
    ("POST /v1/upload/<upload_session_id>/track/<track_id>/renew", 200),
    ("DELETE /v1/upload/<upload_session_id>/track/<track_id>", 200),
]


@pytest.mark.parametrize(("route", "status"), SESSION_ROUTES)
def test_routes_of_a_session_without_a_body(measure, session_id, track_id, route, status):
    """In a large session, each route stays below its ceilings."""
    path = route.split()[1].replace("<upload_session_id>", session_id).replace("<track_id>", track_id)
    measure(route, path + ("?limit=200" if route.endswith("/track") else ""), status)


@pytest.mark.parametrize("multipart_upload", [False, True])
def test_registering_a_track(measure, client, multipart_upload):
    """A track with the most metadata, alone, and with an upload in parts."""
    session_id = new_session(client)["upload_session_id"]
    payload = {**LARGE_TRACK, "file_size": 2**40, "multipart": multipart_upload}
    payload = payload if multipart_upload else LARGE_TRACK
    route = "POST /v1/upload/<upload_session_id>/track"
    measure(route, f"/v1/upload/{session_id}/track", **body_of(payload, 256 * KIB))


def test_creating_a_session(measure):
    """A session with the most metadata, and a first track."""
    payload = {"collection_id": COLLECTION, "metadata": LARGE_METADATA, "track": LARGE_TRACK}
    payload |= {"page": LARGE_PAGE, "fields": LARGE_FIELDS}
    measure("POST /v1/upload_session", "/v1/upload_session", **body_of(payload, 256 * KIB))


@pytest.mark.parametrize("tracks", [[LARGE_TRACK] * 110, [{"file_name": "x" * 255}] * 1000])
def test_registering_a_batch(measure, client, tracks):
    """A batch of the most bytes, and one of the most tracks."""
    session_id = new_session(client)["upload_session_id"]
    route = "POST /v1/upload/<upload_session_id>/tracks"
    measure(route, f"/v1/upload/{session_id}/tracks", **body_of({"tracks": tracks}, 2 * MIB))


HOSTILE_BODIES = {
    "many objects": b'{"tracks":[' + b"{}," * 690_000 + b"{}]}",
    "many lists": b'{"tracks":[' + b"[]," * 690_000 + b"[]]}",
    "many numbers": b'{"tracks":[' + b"1," * 1_000_000 + b"1]}",
    "many keys": b'{"a":{' + b",".join(b'"%d":1' % n for n in range(190_000)) + b"}}",
    "a duplicate after many keys": b'{"a":{' + b",".join(b'"%d":1' % n for n in range(189_000)) + b',"188999":1}}',
    "many empty tracks": b'{"tracks":[' + b"{}," * 999 + b"{}]}",
    "one long string": b'{"a":"' + b"x" * (2 * MIB - 10) + b'"}',
    "escapes": b'{"a":"' + b"\\u0041" * 340_000 + b'"}',
    "deep": b'{"a":' + b"[" * 199 + b"]" * 199 + b"}",
}


@pytest.mark.parametrize("kind", HOSTILE_BODIES)
def test_hostile_batch(measure, client, kind):
    """A body that is small in bytes and large in work is rejected below the ceilings."""
    session_id, body = new_session(client)["upload_session_id"], HOSTILE_BODIES[kind]
    assert len(body) <= 2 * MIB
    route = "POST /v1/upload/<upload_session_id>/tracks"
    measure(route, f"/v1/upload/{session_id}/tracks", 400, data=body, content_type="application/json")


def test_completing_many_tracks(measure, client, session_id):
    """The most tracks, none of which has a file; and some that have files and covers."""
    route = "POST /v1/upload/<upload_session_id>/complete"
    measure(route, f"/v1/upload/{session_id}/complete", **body_of({}, 256 * KIB))
    many = str(new_session(client)["upload_session_id"])
    for _ in range(10):
        client.post(f"/v1/upload/{many}/tracks", **body_of({"tracks": [LARGE_TRACK] * 100}, 2 * MIB))
    response = measure(route, f"/v1/upload/{many}/complete", **body_of({}, 256 * KIB))
    assert {result["track"]["metadata"] for result in response.json["tracks"]} == {None}
    assert response.json["count"] == 1000
    other = new_session(client, embedded_cover=True)["upload_session_id"]
    for number in range(20):
        created = new_track(client, other, f"{number}.wav", metadata=LARGE_METADATA)
        put(created["track_upload"], wav(seed=number))
        post_cover(created["track_cover_upload"], png())
    response = measure(route, f"/v1/upload/{other}/complete", **body_of({}, 256 * KIB))
    assert [result["status"] for result in response.json["tracks"]] == ["uploaded"] * 20


def test_completing_one_track_with_its_cover(measure, client):
    """A track whose file and cover are verified and copied."""
    session_id = new_session(client, embedded_cover=True)["upload_session_id"]
    created = new_track(client, session_id, "a.wav", metadata=LARGE_METADATA)
    put(created["track_upload"], wav())
    post_cover(created["track_cover_upload"], png())
    route = "POST /v1/upload/<upload_session_id>/track/<track_id>/complete"
    measure(route, track_url(session_id, created, "complete"))


def test_parts_of_the_largest_file(measure, client):
    """The list of parts, and URLs for a thousand of ten thousand."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav", file_size=2**42, multipart=True)
    assert created["track_multipart_upload"]["part_count"] <= multipart.MAX_PARTS
    path, route = track_url(session_id, created, "parts"), "/v1/upload/<upload_session_id>/track/<track_id>/parts"
    measure(f"GET {route}", path)
    measure(f"POST {route}", path, **body_of({"part_numbers": list(range(1, 1001))}, 256 * KIB))


def test_relaying_a_cover(measure, client):
    """A cover of the largest size through the service."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav", cover_fields=False)
    cover = BytesIO(png() + bytes(10 * MIB - len(png())))
    route = "POST /v1/upload/<upload_session_id>/track/<track_id>/cover"
    measure(route, track_url(session_id, created, "cover"), data={"file": (cover, "a.png", "image/png")})


ORGANIZATION_ROUTES = [
    ("GET /v1/upload_session", "/v1/upload_session?limit=200", {}),
    ("GET /v1/collection/<collection_id>/track", f"/v1/collection/{COLLECTION}/track?limit=200&order=-duration", {}),
    ("GET /v1/track/<track_id>", "/v1/track/{}", {}),
    ("GET /v1/track/<track_id>/download", "/v1/track/{}/download", {}),
    ("POST /v1/track/<track_id>/cover", "/v1/track/{}/cover", {}),
    ("DELETE /v1/track/<track_id>", "/v1/track/{}", {}),
    ("POST /v1/api_key", "/v1/api_key", body_of({"name": "a", "collection_id": COLLECTION}, 256 * KIB)),
]


@pytest.mark.parametrize(("route", "path", "options"), ORGANIZATION_ROUTES, ids=[r[0] for r in ORGANIZATION_ROUTES])
def test_routes_of_an_organization(app, measure, client, session_id, route, path, options):
    """With a full key, in an organization with large sessions, each route stays below its ceilings."""
    for _ in range(200):
        new_session(client, metadata=LARGE_METADATA, page=LARGE_PAGE, fields=LARGE_FIELDS)
    created = new_track(client, session_id, "a.wav", metadata=LARGE_METADATA)
    put(created["track_upload"], wav())
    client.post(track_url(session_id, created, "complete"))
    measure(route, path.format(created["track_id"]), headers=bearer(create_key(app)), **options)


def test_changes_of_a_session_and_its_tracks(app, measure, client, session_id, track_id):
    """A change of all that a session has, of a track's metadata, and of the cover and the file that have arrived."""
    payload = {"metadata": LARGE_METADATA, "page": LARGE_PAGE, "fields": LARGE_FIELDS, "expires_in": 3000}
    route, path = "/v1/upload_session/<upload_session_id>", f"/v1/upload_session/{session_id}"
    measure(f"PATCH {route}", path, headers=bearer(create_key(app)), **body_of(payload, 256 * KIB))
    route, path = "/v1/upload/<upload_session_id>/track/<track_id>", f"/v1/upload/{session_id}/track/{track_id}"
    measure(f"PATCH {route}", path, **body_of({"metadata": LARGE_METADATA}, 256 * KIB))
    created = new_track(client, session_id, "a.wav", metadata=LARGE_METADATA)
    put(created["track_upload"], wav())
    client.post(track_url(session_id, created, "complete"))
    measure(f"POST {route}/cover_upload", track_url(session_id, created, "cover_upload"))
    measure(f"DELETE {route}", f"{track_url(session_id, created)}?uploaded=true")


def test_receipt_of_many_tracks(app, measure, client):
    """The longest page of the receipt of a session with 10,000 uploaded tracks."""
    session_id = new_session(client)["upload_session_id"]
    for _ in range(10):
        body = body_of({"tracks": [{"file_name": "é" * 255}] * 1000}, 2 * MIB)
        assert client.post(f"/v1/upload/{session_id}/tracks", **body).status_code == 200
    query(app, f"UPDATE loadbay_track SET status = 'uploaded', size = 1, etag = '{'a' * 32}', verified_at = 1")
    client.post(f"/v1/upload_session/{session_id}/close")
    after = client.get(f"/v1/upload/{session_id}/track?limit=1&offset=8998").json["tracks"][0]["id"]
    path = f"/v1/upload/{session_id}/receipt?limit=1000&after={after}"
    response = measure("GET /v1/upload/<upload_session_id>/receipt", path)
    assert response.json["next_after"] is not None


def test_events_of_the_store(measure, client, session_id):
    """An event of the most bytes, with the secret in the header, in the path, and without it."""
    record = {"s3": {"bucket": {"name": "tracks"}, "object": {"key": "x" * 1000}}}
    body = body_of({"Records": [record] * 6500}, 8 * MIB)
    measure("POST /v1/store_event", "/v1/store_event", headers=bearer(SECRET), **body)
    measure("POST /v1/store_event/<store_token>", f"/v1/store_event/{SECRET}", **body)
    measure("POST /v1/store_event/<store_token>", "/v1/store_event/another-secret", 401, **body)
    message = body_of({"Type": "Notification", "Message": "x" * 200_000}, 256 * KIB)
    response = client.post("/v1/store_event/sns", **message)
    assert response.status_code in (400, 401)
    measure("POST /v1/store_event/sns", "/v1/store_event/sns", response.status_code, **message)


def test_larger_bodies_are_rejected(app, client, session_id):
    """A byte more than the table says is 413."""
    for route, ceiling in TABLE.items():
        method, path = route.split()
        path = path.replace("<upload_session_id>", session_id).replace("<store_token>", SECRET)
        if ceiling.body and "<" not in path:
            body = b"{}".ljust(ceiling.body + 1)
            headers = bearer(SECRET) if "event" in path else bearer(create_key(app))
            response = client.open(path, method=method, data=body, content_type="application/json", headers=headers)
            assert_error(response, 413, "too_large")
