"""`resume_key`: a mark of the file that its client declares, by which another device finds the track to go on."""

import pytest

from support.api import assert_error, new_session, new_track

KEY = "song.wav:4000000:Nq8kW2"


@pytest.fixture
def session_id(client):
    """The id of an open session."""
    return new_session(client)["upload_session_id"]


def test_list_has_the_resume_key(client, session_id):
    """The track's list, the track and its registration have the key as it was declared, or null."""
    created = new_track(client, session_id, resume_key=KEY)
    other = new_track(client, session_id)
    assert (created["track"]["resume_key"], other["track"]["resume_key"]) == (KEY, None)
    listed = client.get(f"/v1/upload/{session_id}/track").json["tracks"]
    assert [track["resume_key"] for track in listed] == [KEY, None]
    assert client.get(f"/v1/upload/{session_id}/track/{created['track_id']}").json["track"]["resume_key"] == KEY


def test_batches_and_parts_have_the_resume_key(client, session_id):
    """A batch's tracks and a multipart track have theirs; two tracks may have the same."""
    batch = [{"file_name": "a.wav", "resume_key": KEY}, {"file_name": "b.wav", "resume_key": KEY}]
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": batch})
    assert [item["track"]["resume_key"] for item in response.json["tracks"]] == [KEY, KEY]
    new_track(client, session_id, resume_key="é" * 128, multipart=True, file_size=6 * 2**20)
    listed = client.get(f"/v1/upload/{session_id}/track").json["tracks"]
    assert [track["resume_key"] for track in listed] == [KEY, KEY, "é" * 128]


@pytest.mark.parametrize("value", ["", "x" * 129, 7, "a\nb", ["a"]])
def test_rejects_an_invalid_resume_key(client, session_id, value):
    """A key that is not one line of 1 to 128 characters is rejected by name."""
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.wav", "resume_key": value})
    assert_error(response, 400, "invalid_request", "resume_key")
