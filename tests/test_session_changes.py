"""PATCH /v1/upload_session/:upload_session_id: changes of an open session by its owner."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from storage.uploads import sweeper
from support.api import assert_error, bearer, create_key, new_session, new_track, upload_track
from support.database import query
from support.sample_files import png, wav
from support.store import post_cover, put

DAY = 86_400


@pytest.fixture
def key(app):
    """The header of a full key."""
    return bearer(create_key(app))


@pytest.fixture
def session_id(client):
    """The id of an open session of an hour, with limits."""
    return new_session(client, max_tracks=5, max_bytes=10_000, expires_in=3600)["upload_session_id"]


@pytest.fixture
def change(client, key, session_id):
    """A function that sends changes of the session, and returns the response."""
    return lambda **payload: client.patch(f"/v1/upload_session/{session_id}", json=payload, headers=key)


def seconds(app, session_id):
    """Return the session's lifetime in seconds."""
    return query(app, f"SELECT expires_at - created_at FROM loadbay_upload_session WHERE id = '{session_id}'")[0][0]


def test_changes_what_is_given(client, change, session_id):
    """Each given member replaces the old one, and the rest stays; the response is what a read returns."""
    values = {
        "metadata": {"batch_name": "Winter"},
        "max_tracks": 7,
        "max_bytes": 20_000,
        "rules": {"audio": {"max_file_size": 5000}},
        "fields": [{"name": "isrc", "label": "ISRC", "required": True, "one_of": None}],
    }
    before = client.get(f"/v1/upload_session/{session_id}").json["upload_session"]
    for name, value in values.items():
        response = change(**{name: value})
        assert response.status_code == 200, response.text
        before[name] = value
        assert response.json["upload_session"] == before
    assert client.get(f"/v1/upload_session/{session_id}").json["upload_session"] == before
    nothing = change(metadata=None, max_bytes=None, rules=None, fields=None, max_tracks=None).json["upload_session"]
    assert [nothing[name] for name in values] == [{}, 10_000, None, None, None]
    assert change().json["upload_session"] == nothing


def test_page_is_changed_by_member(change):
    """Of the page each given member is replaced; null takes back a member, and null instead of the page all."""
    change(page={"title": "A", "sender": "B", "allow_changes": False})
    page = change(page={"title": "C", "sender": None}).json["upload_session"]["page"]
    assert (page["title"], page["sender"], page["allow_changes"]) == ("C", None, False)
    page = change(page=None).json["upload_session"]["page"]
    assert (page["title"], page["allow_changes"]) == (None, True)


def test_session_is_extended_and_shortened(app, change, session_id):
    """expires_in counts from now, expires_at is a time; URLs follow when they are signed the next time."""
    assert change(expires_in=30 * DAY).status_code == 200
    assert abs(seconds(app, session_id) - 30 * DAY) < 10
    assert change(expires_in=120).status_code == 200
    assert abs(seconds(app, session_id) - 120) < 10
    end = change(expires_in=7 * DAY).json["expires_at"]
    assert change(expires_at=end.replace("Z", "+00:00")).json["expires_at"] == end


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        ({"expires_in": 59}, "expires_in"),
        ({"expires_in": 30 * DAY + 1}, "expires_in"),
        ({"expires_in": None}, "expires_in"),
        ({"expires_at": None}, "expires_at"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59Z"}, "expires_at"),
        ({"expires_at": "0001-01-01T00:00:00+23:59"}, "expires_at"),
        ({"expires_at": "2030-13-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2030-01-01"}, "expires_at"),
        ({"expires_at": 1_900_000_000}, "expires_at"),
        ({"expires_at": "2030-01-01T00:00:00Z", "expires_in": 600}, "expires_at"),
        ({"metadata": []}, "metadata"),
        ({"max_tracks": 0}, "max_tracks"),
        ({"max_bytes": "1"}, "max_bytes"),
        ({"rules": {"video": {}}}, "rules"),
        ({"page": {"accent_color": "red"}}, "page.accent_color"),
        ({"page": {"logo_url": "none.png"}}, "page.logo_url"),
        ({"fields": [{}]}, "fields.0.name"),
    ],
)
def test_invalid_changes_change_nothing(client, change, session_id, payload, name):
    """Invalid input is rejected by name, and the valid rest of the request changes nothing."""
    before = client.get(f"/v1/upload_session/{session_id}").json["upload_session"]
    assert_error(change(**{"metadata": {"a": 1}, **payload}), 400, "invalid_request", name)
    assert client.get(f"/v1/upload_session/{session_id}").json["upload_session"] == before


def test_limits_are_at_least_what_is_there(client, change, session_id):
    """A limit below what is registered is rejected with the number; the very number is accepted, and then holds."""
    for _ in range(2):
        new_track(client, session_id, file_size=3000)
    assert_error(change(max_tracks=1), 400, "invalid_request", "max_tracks", "2")
    assert_error(change(max_bytes=5999), 400, "invalid_request", "max_bytes", "6000")
    assert change(max_bytes=6000, max_tracks=3).status_code == 200
    url, payload = f"/v1/upload/{session_id}/track", {"file_name": "a.wav", "file_size": 1}
    assert_error(client.post(url, json=payload), 409, "byte_limit_reached")
    assert change(max_bytes=6001).status_code == 200
    assert client.post(url, json=payload).status_code == 200
    assert_error(client.post(url, json=payload), 409, "track_limit_reached")


def test_rules_hold_from_now_on(client, change, session_id):
    """A declared size is compared with the new rules, and so is a file that is verified after the change."""
    created = new_track(client, session_id, "a.wav", file_size=len(wav()))
    change(rules={"audio": {"containers": ["flac"], "max_file_size": 50}})
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "b.wav", "file_size": 51})
    assert_error(response, 400, "invalid_request", "file_size")
    assert put(created["track_upload"], wav()).status_code == 200
    track = client.post(f"/v1/upload/{session_id}/track/{created['track_id']}/complete").json["track"]
    assert track["status"] == "failed"


def test_fields_hold_from_now_on(client, change, session_id):
    """Values are compared with the new fields; tracks that are registered stay as they are."""
    created = new_track(client, session_id, file_size=1, metadata={"kind": "a"})
    change(fields=[{"name": "kind", "one_of": ["b"]}])
    payload = {"file_name": "b.wav", "file_size": 1, "metadata": {"kind": "a"}}
    assert_error(client.post(f"/v1/upload/{session_id}/track", json=payload), 400, "invalid_request", "metadata.kind")
    track = client.get(f"/v1/upload/{session_id}/track/{created['track_id']}").json["track"]
    assert track["metadata"] == {"kind": "a"}
    change(fields=None)
    assert client.post(f"/v1/upload/{session_id}/track", json=payload).status_code == 200


def test_only_open_sessions_are_changed(client, clock, change, session_id):
    """A session that is closed, or has expired, cannot be changed."""
    assert change(expires_in=60).status_code == 200
    clock.forward(61)
    assert_error(change(expires_in=600), 410, "session_expired")
    clock.forward(-61)
    client.post(f"/v1/upload_session/{session_id}/close")
    assert_error(change(expires_in=600), 410, "session_closed")


def test_only_the_owner_changes_a_session(app, client, session_id):
    """A full key of the session's organization is required; to another organization the session does not exist."""
    url = f"/v1/upload_session/{session_id}"
    assert_error(client.patch(url, json={"max_tracks": 9}), 401, "unauthorized")
    collection = "123e4567-e89b-12d3-a456-426614174000"
    uploader = bearer(create_key(app, "--role", "uploader", "--collection", collection))
    assert_error(client.patch(url, json={"max_tracks": 9}, headers=uploader), 403, "forbidden")
    other = bearer(create_key(app, "--organization", "9b2f5c1e-7a43-4d0b-8c6e-1f2a3b4c5d6e"))
    assert_error(client.patch(url, json={"max_tracks": 9}, headers=other), 404, "session_not_found")
    assert client.get(url).json["upload_session"]["max_tracks"] == 5


def test_registrations_at_the_same_time_stay_within_the_limit(app, server, key):
    """While a limit is lowered again and again, no registration gets past the one that holds."""
    session_id = new_session(app.test_client(), max_tracks=100)["upload_session_id"]
    url = f"{server}/v1/upload_session/{session_id}"

    def register(_):
        return requests.post(f"{server}/v1/upload/{session_id}/track", json={"file_name": "a"}, timeout=60).status_code

    def lower(limit):
        return requests.patch(url, json={"max_tracks": limit}, headers=key, timeout=60).status_code

    with ThreadPoolExecutor(6) as pool:
        limits = [pool.submit(lower, limit) for limit in range(30, 10, -2)]
        registered = list(pool.map(register, range(40)))
        lowered = [future.result() for future in limits]
    session = requests.get(url, timeout=60).json()["upload_session"]
    assert {200, 400} >= set(lowered)
    assert lowered[0] == 200
    assert {200, 409} == set(registered)
    assert registered.count(200) == session["track_count"] <= session["max_tracks"] <= 30


def test_sweep_waits_for_urls_of_a_shortened_session(client, clock, service, change, session_id, bucket):
    """A URL that was signed before `expires_at` was brought forward stays valid: its upload is not lost track of."""
    created = new_track(client, session_id, "a.wav", write_once=True, file_size=len(wav()))
    assert change(expires_in=60).status_code == 200
    clock.forward(3700)
    assert sweeper.sweep(service).sessions == 0
    assert put(created["track_upload"], wav()).status_code == 200
    clock.forward(3600)
    summary = sweeper.sweep(service)
    assert (summary.sessions, summary.uploaded) == (1, 1)
    assert bucket.get(created["track"]["path"]) == wav()


# --- Changes by whoever has the session's id ---


def test_what_arrived_is_renamed(client, session_id, change):
    """Metadata and file name of an uploaded track are changed in full, its path is not; null clears the metadata."""
    created = upload_track(client, session_id, file_size=len(wav()), metadata={"title": "Old", "n": 1})
    url = f"/v1/upload/{session_id}/track/{created['track_id']}"
    track = client.patch(url, json={"metadata": {"title": "New"}, "file_name": "New.wav"}).json["track"]
    assert (track["metadata"], track["file_name"], track["status"]) == ({"title": "New"}, "New.wav", "uploaded")
    assert track["path"] == created["track"]["path"]
    assert client.patch(url, json={"metadata": None}).json["track"]["metadata"] == {}
    assert client.patch(url, json={}).json["track"]["file_name"] == "New.wav"
    for payload in ({"file_name": "a/b"}, {"file_name": None}, {"metadata": 7}):
        assert_error(client.patch(url, json=payload), 400, "invalid_request", next(iter(payload)))
    change(fields=[{"name": "kind", "one_of": ["b"]}])
    assert_error(client.patch(url, json={"metadata": {"kind": "a"}}), 400, "invalid_request", "metadata.kind")


def test_what_arrived_is_removed(client, session_id, bucket):
    """With uploaded=true an uploaded track is deleted with its objects, and no longer counts; without, it stays."""
    created = upload_track(client, session_id, file_size=len(wav()))
    url = f"/v1/upload/{session_id}/track/{created['track_id']}"
    assert_error(client.delete(url), 409, "track_state_conflict")
    assert_error(client.delete(f"{url}?uploaded=yes"), 400, "invalid_request", "uploaded")
    assert bucket.get(created["track"]["path"]) == wav()
    response = client.delete(f"{url}?uploaded=true")
    assert (response.status_code, response.json["track"]["status"]) == (200, "cancelled")
    assert bucket.get(created["track"]["path"]) is None
    assert_error(client.get(url), 404, "track_not_found")
    session = client.get(f"/v1/upload_session/{session_id}").json["upload_session"]
    assert (session["track_count"], session["declared_bytes"], session["uploaded_bytes"]) == (0, 0, 0)


def test_cover_of_what_arrived_is_replaced(client, session_id, bucket):
    """A verified cover is replaced by another one, whose URL does not outlive the session."""
    created = new_track(client, session_id, "a.wav", file_size=len(wav()))
    assert put(created["track_upload"], wav()).status_code == 200
    assert post_cover(created["track_cover_upload"], png(10, 10)).status_code < 300
    url = f"/v1/upload/{session_id}/track/{created['track_id']}"
    assert client.post(f"{url}/complete").json["track"]["cover"]["width"] == 10
    upload = client.post(f"{url}/cover_upload").json["track_cover_upload"]
    assert upload["ttl"] <= 3600
    assert post_cover(upload, png(20, 20)).status_code < 300
    assert client.post(f"{url}/complete").json["track"]["cover"]["width"] == 20
    assert bucket.get(created["track"]["cover_path"]) == png(20, 20)


def test_changes_may_be_disallowed(client, change, session_id):
    """With page.allow_changes false, what arrived stays as it is; what has not arrived may still be renamed."""
    arrived = upload_track(client, session_id, file_size=len(wav()))
    pending = new_track(client, session_id, file_size=5)
    change(page={"allow_changes": False})
    url = f"/v1/upload/{session_id}/track"
    for response in (
        client.patch(f"{url}/{arrived['track_id']}", json={"metadata": {}}),
        client.delete(f"{url}/{arrived['track_id']}?uploaded=true"),
        client.post(f"{url}/{arrived['track_id']}/cover_upload"),
    ):
        assert_error(response, 403, "forbidden", "allow_changes")
    assert client.patch(f"{url}/{pending['track_id']}", json={"metadata": {"a": 1}}).status_code == 200
    assert client.delete(f"{url}/{pending['track_id']}").status_code == 200
    assert_error(client.patch(f"{url}/{pending['track_id']}", json={"metadata": {}}), 409, "track_state_conflict")


def test_ended_sessions_allow_no_changes(client, session_id, bucket):
    """In a closed session what arrived cannot be renamed, replaced or removed."""
    created = upload_track(client, session_id, file_size=len(wav()))
    client.post(f"/v1/upload_session/{session_id}/close")
    url = f"/v1/upload/{session_id}/track/{created['track_id']}"
    for response in (
        client.patch(url, json={"metadata": {}}),
        client.delete(f"{url}?uploaded=true"),
        client.post(f"{url}/cover_upload"),
    ):
        assert_error(response, 410, "session_closed")
    assert bucket.get(created["track"]["path"]) == wav()
