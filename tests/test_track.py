"""POST /v1/upload/:upload_session_id/track"""

from conftest import new_session, new_track, put


def test_bytes_arrive_at_path(client, bucket):
    """A PUT to upload_url puts exactly these bytes at track.path."""
    made = new_track(client, new_session(client)["upload_session_id"])
    assert put(made["track_upload"], b"some audio").status_code == 200
    assert bucket.get(made["track"]["path"]) == b"some audio"
