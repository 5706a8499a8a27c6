"""Uploads resumed on a later visit, never with another file's bytes."""

from __future__ import annotations

import os
import re

import pytest
import requests
from playwright.sync_api import expect

from browser.helpers import MIB, expect_received, random_wav
from support.processes import wait_until
from support.sample_files import wav
from support.store import put

PART = 5 * MIB


@pytest.fixture
def twins(tmp_path):
    """Create two files of the same name, size and modification time in two folders."""

    def make(size):
        paths = [tmp_path / folder / "01.wav" for folder in ("CD1", "CD2")]
        for path in paths:
            path.parent.mkdir()
            path.write_bytes(random_wav(size))
            os.utime(path, (1_700_000_000, 1_700_000_000))
        return paths

    return make


def test_file_like_a_received_one_is_uploaded(service, visit, bucket, network, twins):
    """A file that looks like a received one from another folder is uploaded."""
    session_id, (first, second) = service.open_session(), twins(5000)
    uploader = visit(service, session_id)
    network.drop(first.parent)
    uploader.upload()
    expect_received(uploader.row("CD1 / 01.wav"))
    uploader = visit(service, session_id)
    expect(uploader.page.get_by_role("heading", name="Received earlier: 1 file")).to_be_visible()
    network.drop(first.parent, second.parent)
    expect(uploader.page.get_by_text("Already received: 01.wav.").first).to_be_visible()
    uploader.upload()
    expect_received(uploader.row("CD2 / 01.wav"))
    tracks = service.tracks(session_id)
    assert [bucket.get(track["path"]) for track in tracks] == [first.read_bytes(), second.read_bytes()]


def test_metadata_of_other_clients_breaks_no_page(service, visit):
    """A title that is no text is passed over, and so is one that JavaScript cannot convert."""
    session_id = service.open_session()
    for title in ({"toString": "x"}, ["a"], 7):
        body = {"file_name": "other.wav", "metadata": {"title": title, "track_number": {"valueOf": 1}}}
        created = requests.post(f"{service.base}/v1/upload/{session_id}/track", json=body, timeout=10).json()
        assert put(created["track_upload"], wav()).status_code == 200
    complete = requests.post(f"{service.base}/v1/upload/{session_id}/complete", json={}, timeout=30).json()
    assert [track["status"] for track in complete["tracks"]] == ["uploaded"] * 3
    uploader = visit(service, session_id)
    expect(uploader.page.get_by_role("heading", name="Received earlier: 3 files")).to_be_visible()
    expect(uploader.page.get_by_text("other.wav")).to_have_count(3)


def test_parts_of_similar_files_are_not_mixed(service, visit, bucket, slow_network, twins):
    """Parts of one file are never joined with those of another that looks like it."""
    session_id, (first, second) = service.open_session(), twins(5 * PART + 12_345)
    slow_network.limit(6 * MIB)
    uploader = visit(service, session_id, part_size=str(PART))
    uploader.page.on("dialog", lambda dialog: dialog.accept())
    slow_network.drop(first.parent)
    uploader.upload()
    wait_until(lambda: service.tracks(session_id), "The track was not registered.")
    (track,) = service.tracks(session_id)
    wait_until(lambda: len(service.parts(session_id, track["id"])) >= 2, "No part was received.")
    uploader = visit(service, session_id, part_size=str(PART))
    slow_network.limit(-1)
    for twin in (second, first):
        slow_network.drop(twin.parent)
        uploader.press("Upload 1 file")
        expect_received(uploader.row(f"{twin.parent.name} / 01.wav"))
    tracks = service.tracks(session_id)
    assert [bucket.get(track["path"]) for track in tracks] == [first.read_bytes(), second.read_bytes()]


def test_fast_clock_keeps_the_resume_state(service, visit, slow_network, twins, page):
    """A local clock ahead of the session's end does not lose the unfinished uploads."""
    session_id = service.open_session()
    page.on("dialog", lambda dialog: dialog.accept())
    slow_network.limit(6 * MIB)
    uploader = visit(service, session_id, part_size=str(PART))
    uploader.choose(twins(5 * PART)[0])
    uploader.upload()
    wait_until(lambda: service.tracks(session_id), "The track was not registered.")
    page.add_init_script("const now = Date.now; Date.now = () => now() + 2 * 3600 * 1000")
    uploader = visit(service, session_id, part_size=str(PART))
    expect(page.get_by_role("region", name="Unfinished uploads")).to_contain_text("“01.wav”")


def test_late_progress_response_is_ignored(service, visit, bucket, page, tmp_path):
    """A late response about an earlier visit does not reset an upload that was started meanwhile."""
    session_id, path = service.open_session(), tmp_path / "a.wav"
    held_routes, uploads = [], []
    path.write_bytes(wav())
    uploader = visit(service, session_id)
    page.route(re.compile("X-Amz-Signature"), lambda route: uploads.append(route))
    uploader.choose(path)
    page.on("dialog", lambda dialog: dialog.accept())
    uploader.upload()
    wait_until(lambda: uploads or page.wait_for_timeout(50), "The track was not registered.")
    (track,) = service.tracks(session_id)
    uploader = visit(service, session_id)
    page.get_by_role("heading", name="Unfinished uploads").wait_for()
    requests.delete(f"{service.base}/v1/upload/{session_id}/track/{track['id']}", timeout=10)
    page.route(f"**/track/{track['id']}", lambda route: held_routes.append(route), times=1)
    uploader.choose(path)
    uploader.upload()
    wait_until(lambda: len(uploads) == 2 or page.wait_for_timeout(50), "The track was not registered again.")
    with page.expect_response(f"**/track/{track['id']}"):
        held_routes[0].continue_()
    page.wait_for_timeout(200)
    uploads[1].continue_()
    expect_received(uploader.row("a.wav"))
    assert [track["status"] for track in service.tracks(session_id)] == ["cancelled", "uploaded"]
