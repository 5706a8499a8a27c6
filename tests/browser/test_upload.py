"""The upload page in a real browser, on a real store: what arrives is looked at in the bucket, byte for byte."""

from __future__ import annotations

from playwright.sync_api import expect

from files import wav


def file(name, body, content_type="audio/wav"):
    """A file to choose."""
    return {"name": name, "mimeType": content_type, "buffer": body}


def test_one_file(serve, visit, bucket):
    """A file that is chosen and sent arrives, and is said to have arrived once the service has checked it."""
    service = serve()
    session_id = service.open_session()
    uploader, body = visit(service, session_id), wav()
    uploader.choose(file("01 - First Track.wav", body))
    uploader.upload()
    expect(uploader.row("First Track")).to_contain_text("✓ Arrived")
    expect(uploader.batch).to_contain_text("It has arrived")
    (track,) = service.tracks(session_id)
    assert (track["status"], track["file_name"]) == ("uploaded", "01 - First Track.wav")
    assert track["metadata"] == {"title": "First Track", "track_number": 1}
    assert bucket.get(track["path"]) == body
