"""A session's `fields`: what the page asks for with each track, and the values that a track may have."""

import pytest

from support.api import COLLECTION, assert_error, new_session, new_track

FIELDS = [
    {"name": "isrc", "label": "ISRC", "required": True},
    {"name": "explicit", "one_of": ["yes", "no"]},
]
LOADED = [
    {"name": "isrc", "label": "ISRC", "required": True, "one_of": None},
    {"name": "explicit", "label": "explicit", "required": False, "one_of": ["yes", "no"]},
]


@pytest.fixture
def session_id(client):
    """The id of an open session with fields."""
    return new_session(client, fields=FIELDS)["upload_session_id"]


def register(client, session_id, metadata, **payload):
    """Register a track with this metadata, and return the response."""
    payload = {"file_name": "a.wav", "metadata": metadata, **payload}
    return client.post(f"/v1/upload/{session_id}/track", json=payload)


def test_session_has_its_fields(client, session_id):
    """Fields are returned with all of their members; a session without any has null."""
    assert client.get(f"/v1/upload_session/{session_id}").json["upload_session"]["fields"] == LOADED
    assert new_session(client)["upload_session"]["fields"] is None
    assert new_session(client, fields=[])["upload_session"]["fields"] is None


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "fields"),
        ([{}], "fields.0.name"),
        ([{"name": "1a"}], "fields.0.name"),
        ([{"name": "a"}, {"name": "a"}], "fields"),
        ([{"name": "a", "one_of": []}], "fields.0.one_of"),
        ([{"name": "a", "one_of": ["x", "x"]}], "fields.0.one_of"),
        ([{"name": "a", "one_of": [1]}], "fields.0.one_of"),
        ([{"name": "a", "required": "yes"}], "fields.0.required"),
        ([{"name": "a", "label": ""}], "fields.0.label"),
        ([{"name": f"a{n}"} for n in range(33)], "fields"),
        (["isrc"], "fields.0"),
        ([{"name": f"a{n}", "label": "é" * 150} for n in range(32)], "fields"),
    ],
)
def test_rejects_invalid_fields(client, fields, name):
    """Fields that are not as they must be are rejected by name."""
    response = client.post("/v1/upload_session", json={"collection_id": COLLECTION, "fields": fields})
    assert_error(response, 400, "invalid_request", name)


@pytest.mark.parametrize("metadata", [None, {}, {"explicit": "no", "isrc": "X"}, {"explicit": ""}, {"explicit": None}])
def test_accepts_a_value_of_the_list_or_none(client, session_id, metadata):
    """A value of the list is accepted, and so is none yet, also of a required field."""
    response = register(client, session_id, metadata)
    assert response.status_code == 200
    assert response.json["track"]["metadata"] == (metadata or {})


@pytest.mark.parametrize("value", ["maybe", "YES", 1, ["yes"], {"a": 1}, True])
def test_rejects_another_value(client, session_id, value):
    """A value that is not in the list is rejected: of a single track, one with parts, and in a batch by index."""
    assert_error(register(client, session_id, {"explicit": value}), 400, "invalid_request", "metadata.explicit")
    parts = register(client, session_id, {"explicit": value}, multipart=True, file_size=6 * 2**20)
    assert_error(parts, 400, "invalid_request", "metadata.explicit")
    batch = [{"file_name": "a.wav"}, {"file_name": "b.wav", "metadata": {"explicit": value}}]
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": batch})
    assert_error(response, 400, "invalid_request", "1 of 2")
    assert [error["index"] for error in response.json["errors"]] == [1]
    assert client.get(f"/v1/upload_session/{session_id}").json["upload_session"]["track_count"] == 0


def test_first_track_is_compared_with_the_fields(client):
    """A first track with another value creates no session."""
    track = {"file_name": "a.wav", "metadata": {"explicit": "maybe"}}
    body = {"collection_id": COLLECTION, "fields": FIELDS, "track": track}
    assert_error(client.post("/v1/upload_session", json=body), 400, "invalid_request", "metadata.explicit")
    track["metadata"] = {"explicit": "yes"}
    assert client.post("/v1/upload_session", json=body).status_code == 200


def test_limits_and_ends_of_sessions_with_fields(client):
    """The errors of a full and of a closed session are those of any other."""
    session_id = new_session(client, fields=FIELDS, max_tracks=1)["upload_session_id"]
    new_track(client, session_id)
    assert_error(register(client, session_id, None), 409, "track_limit_reached")
    client.post(f"/v1/upload_session/{session_id}/close")
    assert_error(register(client, session_id, {"explicit": "maybe"}), 410, "session_closed")
