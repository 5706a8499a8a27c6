"""What the page remembers of files between visits: it goes on where it stopped, and never with another file's bytes."""

from __future__ import annotations

import os
import re

import pytest
import requests
from playwright.sync_api import expect

from browser.test_upload import MIB, arrived, sound
from support.processes import wait_until
from support.sample_files import wav

PART = 5 * MIB


@pytest.fixture
def twins(tmp_path):
    """Make two files of one name, size and time of change in two folders."""

    def make(size):
        paths = [tmp_path / folder / "01.wav" for folder in ("CD1", "CD2")]
        for path in paths:
            path.parent.mkdir()
            path.write_bytes(sound(size))
            os.utime(path, (1_700_000_000, 1_700_000_000))
        return paths

    return make


def test_twin_of_one_that_has_arrived(service, visit, bucket, line, twins):
    """A file that looks like one that has arrived from another folder is sent all the same."""
    session_id, (first, second) = service.open_session(), twins(5000)
    uploader = visit(service, session_id)
    line.drop(first.parent)
    uploader.upload()
    arrived(uploader.row("CD1 / 01.wav"))
    uploader = visit(service, session_id)
    expect(uploader.page.get_by_role("heading", name="Arrived earlier: 1 file")).to_be_visible()
    line.drop(first.parent, second.parent)
    expect(uploader.page.get_by_text("Arrived earlier: 01.wav.").first).to_be_visible()
    uploader.upload()
    arrived(uploader.row("CD2 / 01.wav"))
    tracks = service.tracks(session_id)
    assert [bucket.get(track["path"]) for track in tracks] == [first.read_bytes(), second.read_bytes()]


def test_twin_of_one_that_is_half_sent(service, visit, bucket, slow, twins):
    """Parts of one file are never joined with those of another that looks like it."""
    session_id, (first, second) = service.open_session(), twins(5 * PART + 12_345)
    slow.limit(6 * MIB)
    uploader = visit(service, session_id, part_size=str(PART))
    uploader.page.on("dialog", lambda dialog: dialog.accept())
    slow.drop(first.parent)
    uploader.upload()
    wait_until(lambda: service.tracks(session_id), "It was never registered.")
    (track,) = service.tracks(session_id)
    wait_until(lambda: len(service.parts(session_id, track["id"])) >= 2, "No parts have arrived.")
    uploader = visit(service, session_id, part_size=str(PART))
    slow.limit(-1)
    for twin in (second, first):
        slow.drop(twin.parent)
        uploader.press("Upload 1 file")
        arrived(uploader.row(f"{twin.parent.name} / 01.wav"))
    tracks = service.tracks(session_id)
    assert [bucket.get(track["path"]) for track in tracks] == [first.read_bytes(), second.read_bytes()]


def test_clock_that_is_ahead(service, visit, slow, twins, page):
    """A machine whose clock is ahead of the session's end still remembers what it has begun in it."""
    session_id = service.open_session()
    page.on("dialog", lambda dialog: dialog.accept())
    slow.limit(6 * MIB)
    uploader = visit(service, session_id, part_size=str(PART))
    uploader.choose(twins(5 * PART)[0])
    uploader.upload()
    wait_until(lambda: service.tracks(session_id), "It was never registered.")
    page.add_init_script("const now = Date.now; Date.now = () => now() + 2 * 3600 * 1000")
    uploader = visit(service, session_id, part_size=str(PART))
    expect(page.get_by_role("region", name="Not finished yet")).to_contain_text("“01.wav”")


def test_recall_that_comes_late(service, visit, bucket, page, tmp_path):
    """What is told of an earlier visit once the file runs again makes nobody forget the track that it is now."""
    session_id, path, held, sent = service.open_session(), tmp_path / "a.wav", [], []
    path.write_bytes(wav())
    uploader = visit(service, session_id)
    page.route(re.compile("X-Amz-Signature"), lambda route: sent.append(route))
    uploader.choose(path)
    page.on("dialog", lambda dialog: dialog.accept())
    uploader.upload()
    wait_until(lambda: sent or page.wait_for_timeout(50), "It was never registered.")
    (track,) = service.tracks(session_id)
    uploader = visit(service, session_id)
    page.get_by_role("heading", name="Not finished yet").wait_for()
    requests.delete(f"{service.base}/v1/upload/{session_id}/track/{track['id']}", timeout=10)
    page.route(f"**/track/{track['id']}", lambda route: held.append(route), times=1)
    uploader.choose(path)
    uploader.upload()
    wait_until(lambda: len(sent) == 2 or page.wait_for_timeout(50), "It was never registered anew.")
    with page.expect_response(f"**/track/{track['id']}"):
        held[0].continue_()
    page.wait_for_timeout(200)
    sent[1].continue_()
    arrived(uploader.row("a.wav"))
    assert [each["status"] for each in service.tracks(session_id)] == ["cancelled", "uploaded"]
