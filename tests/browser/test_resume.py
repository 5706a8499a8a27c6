"""Uploads resumed on a later visit, never with another file's bytes."""

from __future__ import annotations

import os
import re
from itertools import combinations

import pytest
import requests
from playwright.sync_api import expect

from browser.helpers import MIB, Uploader, expect_received, file_payload, random_wav
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
    expect(uploader.page.get_by_label("Title for other.wav")).to_have_count(3)


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


def test_wrong_clock_loses_no_unfinished_upload(service, visit, slow_network, twins, page):
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


@pytest.fixture
def song(tmp_path):
    """A song of 12 MiB, as a file."""
    path = tmp_path / "01 Song.wav"
    path.write_bytes(random_wav(12 * MIB))
    return path


def percent(text):
    """Return the percentage in a text."""
    return int(re.search(r"(\d+)%", text)[1])


def start_and_stop_after_a_part(service, uploader, network, session_id, path):
    """Upload a song until storage has its first part, and pause it; return the percentage that is shown then."""
    network.limit(3 * MIB)
    uploader.choose(path)
    uploader.upload()
    wait_until(lambda: service.tracks(session_id), "The track was not registered.")
    (track,) = service.tracks(session_id)
    wait_until(lambda: service.parts(session_id, track["id"]), "No part was received.")
    # Until the page has its response.
    uploader.page.wait_for_timeout(500)
    uploader.press(f"Pause {path.name}")
    status = uploader.row(path.name).locator(".status")
    expect(status).to_contain_text("Paused at")
    return percent(status.text_content())


def test_song_goes_on_from_where_it_was_paused(service, visit, bucket, slow_network, song, page):
    """A pause shows what storage has, and the upload goes on from there without sending it again."""
    session_id = service.open_session()
    uploader, sent = visit(service, session_id), []
    page.on("request", lambda request: sent.extend(re.findall(r"partNumber=(\d+)", request.url)))
    shown = start_and_stop_after_a_part(service, uploader, slow_network, session_id, song)
    (track,) = service.tracks(session_id)
    stored = service.parts(session_id, track["id"])
    # A part may have arrived whose response had not.
    sizes = [{1: 5, 2: 5, 3: 2}[number] for number in stored]
    sums = {sum(some) for count in range(len(sizes) + 1) for some in combinations(sizes, count)}
    assert shown in {100 * total // 12 for total in sums}
    sent.clear()
    slow_network.limit(-1)
    uploader.press("Resume 01 Song.wav")
    expect_received(uploader.row("01 Song.wav"))
    assert not stored & set(map(int, sent))
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == song.read_bytes()


def test_small_file_promises_no_resumption(service, visit, slow_network, page):
    """A paused file that is not sent in parts shows no percentage: it starts again."""
    uploader = visit(service, service.open_session())
    uploader.choose(file_payload("a.wav", random_wav(900_000)))
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text("left")
    uploader.press("Pause a.wav")
    expect(uploader.row("a.wav").locator(".status")).to_have_text("Paused")


def test_another_device_goes_on_with_the_same_file(service, visit, bucket, browser, slow_network, song):
    """Another browser with the link and the same file sends only what is missing, and knows what was received."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    start_and_stop_after_a_part(service, uploader, slow_network, session_id, song)
    (track,) = service.tracks(session_id)
    profile = browser.new_context()
    try:
        page = profile.new_page()
        page.goto(f"{service.base}/u/{session_id}")
        expect(page.get_by_role("region", name="Unfinished uploads")).to_contain_text("“01 Song.wav”")
        sent, other = [], Uploader(page)
        page.on("request", lambda request: sent.extend(re.findall(r"partNumber=(\d+)", request.url)))
        other.choose(song)
        expect(other.row("01 Song.wav")).to_contain_text(re.compile(r"Resumes at [1-9]\d%"))
        stored = service.parts(session_id, track["id"])
        other.upload()
        expect_received(other.row("01 Song.wav"))
        assert not stored & set(map(int, sent))
        page.reload()
        page.get_by_role("heading", name="Received earlier: 1 file").wait_for()
        other.choose(song)
        expect(page.get_by_text("Already received: 01 Song.wav.").first).to_be_visible()
    finally:
        profile.close()
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == song.read_bytes()


def test_file_that_differs_in_its_middle_is_another(service, visit, bucket, slow_network, song, tmp_path):
    """A file with the name, size, beginning and end of an unfinished one is another: both arrive as they are."""
    session_id, body = service.open_session(), bytearray(song.read_bytes())
    uploader = visit(service, session_id)
    start_and_stop_after_a_part(service, uploader, slow_network, session_id, song)
    body[6 * MIB] ^= 1
    twin = tmp_path / "twin" / song.name
    twin.parent.mkdir()
    twin.write_bytes(body)
    uploader = visit(service, session_id)
    slow_network.limit(-1)
    for path in (twin, song):
        uploader.page.reload()
        uploader.page.get_by_text("Open until").wait_for()
        uploader.choose(path)
        uploader.upload()
        expect_received(uploader.row(path.name))
    tracks = service.tracks(session_id)
    assert [bucket.get(track["path"]) for track in tracks] == [song.read_bytes(), bytes(body)]


def test_two_files_of_one_name_size_and_time_are_two(service, visit, bucket, twins):
    """Two different files that look alike are both added, though they are chosen without their folders."""
    session_id, (first, second) = service.open_session(), twins(5000)
    uploader = visit(service, session_id)
    uploader.choose(first)
    expect(uploader.files.get_by_role("listitem")).to_have_count(1)
    uploader.choose(second)
    expect(uploader.files.get_by_role("listitem")).to_have_count(2)
    uploader.choose(first)
    expect(uploader.page.get_by_text("Already in the list: 01.wav.").first).to_be_visible()
    uploader.upload(2)
    expect(uploader.summary).to_contain_text("Done: 2 files received")
    stored = {bucket.get(track["path"]) for track in service.tracks(session_id)}
    assert stored == {first.read_bytes(), second.read_bytes()}


def test_late_progress_response_is_ignored(service, visit, bucket, slow_network, song, page):
    """A late response about an earlier visit does not reset an upload that was started meanwhile."""
    session_id, held_routes = service.open_session(), []
    start_and_stop_after_a_part(service, visit(service, session_id), slow_network, session_id, song)
    uploader = visit(service, session_id)
    page.get_by_role("heading", name="Unfinished uploads").wait_for()
    slow_network.limit(-1)
    page.route("**/parts", lambda route: held_routes.append(route), times=1)
    uploader.choose(song)
    wait_until(lambda: held_routes or page.wait_for_timeout(50), "The parts were not listed.")
    uploader.upload()
    expect_received(uploader.row("01 Song.wav"))
    with page.expect_response("**/parts"):
        held_routes[0].continue_()
    page.wait_for_timeout(200)
    expect_received(uploader.row("01 Song.wav"))
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == song.read_bytes()
