"""Lists page by page, by `offset` and by `after`, and responses whose size is bounded."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any
from uuid import uuid4

import pytest

from loadbay_client import Client
from storage.db.models import Track
from support.api import COLLECTION, assert_error, bearer, create_key, new_session, new_track
from support.database import query

OTHER = "00000000-0000-4000-8000-000000000001"
MIB = 2**20


@pytest.fixture
def session_id(client) -> str:
    """The id of a session with 23 tracks."""
    session_id = str(new_session(client)["upload_session_id"])
    tracks = [{"file_name": f"{number}.wav"} for number in range(23)]
    assert client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": tracks}).status_code == 200
    return session_id


def read_pages(client, path: str, key: str, parameters: str = "", headers: Any = None) -> list[list[str]]:
    """Return the ids of a list's items, page by page, following `next_after`."""
    pages, after = [], ""
    while after is not None:
        response = client.get(f"{path}?limit=5{parameters}{after and f'&after={after}'}", headers=headers)
        assert response.status_code == 200, response.text
        assert (response.json["count"] is None) <= bool(after)
        pages.append([item["id"] for item in response.json[key]])
        after = response.json["next_after"]
    return pages


def test_pages_of_a_sessions_tracks_are_the_whole_list(client, session_id):
    """The pages by `after` are those by `offset`, and the last one ends the list."""
    path = f"/v1/upload/{session_id}/track"
    whole = [track["id"] for track in client.get(f"{path}?limit=200").json["tracks"]]
    pages = read_pages(client, path, "tracks")
    assert [len(page) for page in pages] == [5, 5, 5, 5, 3]
    assert list(chain(*pages)) == whole
    by_offset = client.get(f"{path}?limit=5&offset=5").json
    assert [track["id"] for track in by_offset["tracks"]] == pages[1]
    assert by_offset["next_after"] == pages[1][-1]
    assert client.get(f"{path}?limit=5&after={pages[0][-1].upper()}").json["count"] == 23
    assert client.get(f"{path}?limit=23").json["next_after"] is None


def test_pages_do_not_shift_when_rows_are_deleted(app, client, session_id):
    """Rows that are deleted before the page leave it as it is, where an offset would skip some."""
    path = f"/v1/upload/{session_id}/track"
    first = client.get(f"{path}?limit=5").json
    expected = [track["id"] for track in client.get(f"{path}?limit=5&offset=5").json["tracks"]]
    query(app, f"DELETE FROM loadbay_track WHERE id = '{first['tracks'][0]['id']}'")
    page = client.get(f"{path}?limit=5&after={first['next_after']}").json["tracks"]
    assert [track["id"] for track in page] == expected


@pytest.mark.parametrize("parameters", ["", f"&collection_id={COLLECTION}", "&status=open"])
def test_pages_of_sessions_are_the_whole_list(app, client, parameters):
    """An organization's sessions can be read by `after`, with each filter, and nothing is counted then."""
    headers = bearer(create_key(app))
    for _ in range(12):
        new_session(client)
    whole = client.get(f"/v1/upload_session?limit=200{parameters}", headers=headers).json
    pages = read_pages(client, "/v1/upload_session", "upload_sessions", parameters, headers)
    assert list(chain(*pages)) == [session["id"] for session in whole["upload_sessions"]]
    assert (len(pages), whole["count"], whole["next_after"]) == (3, 12, None)


@pytest.mark.parametrize("order", ["registration", "duration", "-duration"])
def test_pages_of_a_collection_are_the_whole_list(app, client, service, session_id, order):
    """A collection's tracks can be read by `after` in each order, also where durations are equal or unknown."""
    headers = bearer(create_key(app))
    for number, (seq,) in enumerate(query(app, "SELECT seq FROM loadbay_track ORDER BY seq")):
        duration = None if number % 4 == 0 else float(number * 7 % 5)
        Track.update(audio_duration=duration).where(Track.seq == seq).execute(service.database)
    path, parameters = f"/v1/collection/{COLLECTION}/track", f"&order={order}"
    whole = client.get(f"{path}?limit=200{parameters}", headers=headers).json
    pages = read_pages(client, path, "tracks", parameters, headers)
    assert list(chain(*pages)) == [track["id"] for track in whole["tracks"]]
    assert (len(pages), whole["count"]) == (5, 23)


def test_rejects_an_item_of_another_list(app, client, session_id):
    """An `after` that is no item of the list is rejected, as is one beside an offset."""
    headers = bearer(create_key(app))
    foreign_headers = bearer(create_key(app, "--organization", OTHER))
    other = new_session(client, collection_id=OTHER)["upload_session_id"]
    foreign, first = (
        new_track(client, other)["track_id"],
        client.get(f"/v1/upload/{session_id}/track").json["tracks"][0],
    )
    tracks, collection = f"/v1/upload/{session_id}/track", f"/v1/collection/{COLLECTION}/track"
    for after in (foreign, str(uuid4()), "x", "", f"{first['id']}&offset=1"):
        assert_error(client.get(f"{tracks}?after={after}"), 400, "invalid_request", "after")
        assert_error(client.get(f"{collection}?after={after}", headers=headers), 400, "invalid_request", "after")
    for after, key in ((uuid4(), headers), (session_id, foreign_headers), (f"{session_id}&offset=1", headers)):
        assert_error(client.get(f"/v1/upload_session?after={after}", headers=key), 400, "invalid_request", "after")
    assert client.get(f"/v1/upload_session?after={session_id}", headers=headers).status_code == 200


# --- Bounds -----------------------------------------------------------------------------------------------------------


def test_responses_are_bounded(client):
    """Of a session with much metadata, closing and listing answer with a page of it, and verifying without it."""
    session_id = new_session(client)["upload_session_id"]
    tracks = [{"file_name": f"{number}.wav", "metadata": {"a": "é" * 8000}} for number in range(100)]
    for _ in range(5):
        body = json.dumps({"tracks": tracks}, ensure_ascii=False).encode()
        response = client.post(f"/v1/upload/{session_id}/tracks", data=body, content_type="application/json")
        assert response.status_code == 200, response.text
    responses = [
        client.post(f"/v1/upload_session/{session_id}/close"),
        client.get(f"/v1/upload/{session_id}/track?limit=200"),
        client.post(f"/v1/upload/{session_id}/complete", json={}),
        client.get(f"/v1/upload_session/{session_id}"),
    ]
    for response in responses:
        assert response.status_code == 200
        assert len(response.data) < 5 * MIB
    manifest = responses[0].json["manifest"]
    assert (len(manifest["tracks"]), manifest["next_after"]) == (200, manifest["tracks"][-1]["id"])
    assert responses[2].json["count"] == 500
    assert {result["track"]["metadata"] for result in responses[2].json["tracks"]} == {None}
    too_many = client.post(f"/v1/upload/{session_id}/complete", json={"track_ids": [str(uuid4())] * 1001})
    assert_error(too_many, 400, "invalid_request", "track_ids")


@pytest.mark.parametrize("text", ["x" * 16_370, "é" * 8185, "🎵" * 4092, '"' * 8185, "\x01" * 2728])
def test_metadata_is_bounded_in_bytes(client, text):
    """Metadata may have as many bytes of JSON as the limit, whatever its characters, and none more."""
    path = f"/v1/upload/{new_session(client)['upload_session_id']}/track"
    for metadata, status in (({"a": text}, 200), ({"a": text + text[:10]}, 400)):
        body = json.dumps({"file_name": "a.wav", "metadata": metadata}, ensure_ascii=False).encode()
        response = client.post(path, data=body, content_type="application/json")
        assert response.status_code == status, response.text
    assert_error(response, 400, "invalid_request", "metadata", "16384")


def test_large_bodies_are_not_read_for_strangers(make_client):
    """An event's body is not parsed before its secret, and SNS sends no large ones."""
    client = make_client(STORE_EVENT_SECRET="the-store-secret-0123456789")
    body = b"[" * (2 * MIB)
    assert_error(client.post("/v1/store_event/another-secret-0123456789", data=body), 401, "unauthorized")
    assert_error(client.post("/v1/store_event/sns", data=body), 413, "too_large")
    path = f"/v1/upload/{new_session(client)['upload_session_id']}/tracks"
    assert_error(client.post(path, data=body + b"[", content_type="application/json"), 413, "too_large")


def test_client_reads_all_pages(server, client):
    """The client's close() and tracks() return more tracks than a page has."""
    session = Client(server).session(COLLECTION)
    tracks = {"tracks": [{"file_name": f"{number}.wav"} for number in range(250)]}
    assert client.post(f"/v1/upload/{session.id}/tracks", json=tracks).status_code == 200
    listed = [track["file_name"] for track in session.tracks()]
    assert listed == [f"{number}.wav" for number in range(250)]
    assert [track["file_name"] for track in session.close()] == listed
