"""Registration and verification of several files in one request, and verifications that take time."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import expect

from browser.helpers import expect_received, file_payload
from support.processes import wait_until
from support.sample_files import png, wav

NAMES = [f"{number:02} Track.wav" for number in range(1, 13)]


def wav_files(names):
    """Return one small file for each name, all of them different."""
    return [file_payload(name, wav(seed=number)) for number, name in enumerate(names)]


@pytest.fixture
def posts(page, service):
    """Last path segments of the POST requests that the page has sent to the service."""
    sent = []

    def record(request):
        if request.method == "POST" and request.url.startswith(service.base):
            sent.append(urlsplit(request.url).path.rpartition("/")[2])

    page.on("request", record)
    return sent


@pytest.fixture
def puts(page):
    """URLs of the PUT requests that the page has sent to the store."""
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
    return sent


@pytest.fixture
def held_registrations(page):
    """Registrations of several tracks that the service has received, with responses that the test delivers."""
    held = []
    page.route("**/tracks", lambda route: held.append((route, route.fetch())), times=1)
    return held


def hold_registration(page, held):
    """Wait until the service has received the registration."""
    wait_until(lambda: held or page.wait_for_timeout(50), "The tracks were not registered.")


def answer_verifications(page, status, times):
    """Answer so many requests for verification with this status for each track."""

    def answer(route):
        tracks = [
            {"track_id": track_id, "status": status, "track": {"id": track_id, "status": "initialized", "cover": None}}
            for track_id in route.request.post_data_json["track_ids"]
        ]
        headers = {"Retry-After": "3"} if status == "verifying" else {}
        route.fulfill(json={"ok": True, "tracks": tracks}, headers=headers)

    page.route("**/complete", answer, times=times)


def test_album_takes_two_requests_after_the_session_is_open(service, visit, bucket, page, posts):
    """Twelve tracks with covers are registered in one request and verified in another."""
    stored = []
    page.on("response", lambda r: stored.append(r.status) if r.request.method != "OPTIONS" and is_stored(r) else None)
    session_id = service.open_session()
    page.clock.install()
    uploader = visit(service, session_id)
    uploader.choose(*wav_files(NAMES), file_payload("cover.png", png(), "image/png"))
    # However slow this machine is: no timer of the page ends before the last file is stored.
    page.clock.pause_at(page.evaluate("Date.now() + 1000"))
    uploader.upload(12)
    # The files are read for their checksums first, which takes no time of that clock.
    wait_until(lambda: posts or page.wait_for_timeout(100) or page.clock.run_for(10), "No file was registered.")
    wait_until(lambda: len(stored) == 24 or page.wait_for_timeout(50), "Not all files and covers were stored.")
    page.wait_for_timeout(200)
    page.clock.resume()
    expect(uploader.summary).to_contain_text("Done: 12 files received")
    assert posts == ["tracks", "complete"]
    tracks = service.tracks(session_id)
    assert [track["file_name"] for track in tracks] == NAMES
    assert [bucket.get(track["path"]) for track in tracks] == [wav(seed=number) for number in range(12)]
    assert {bucket.get(track["cover"]["path"]) for track in tracks} == {png()}


def is_stored(response):
    """Return True for the store's response to a file or to a cover."""
    return (
        response.status in (200, 201, 204) and response.request.method in ("PUT", "POST") and "/v1/" not in response.url
    )


def test_invalid_item_does_not_fail_the_others(service, visit, posts):
    """Files that cannot be registered together are registered one by one, and only those at fault fail."""
    session_id = service.open_session(max_tracks=3)
    uploader = visit(service, session_id)
    uploader.choose(*wav_files(NAMES[:3]))
    # Another visitor leaves room for two files.
    requests.post(f"{service.base}/v1/upload/{session_id}/track", json={"file_name": "other.wav"}, timeout=10)
    uploader.upload(3)
    expect(uploader.summary).to_contain_text("Done: 2 files received, 1 not accepted")
    expect(uploader.row(NAMES[2])).to_contain_text("Not accepted")
    assert posts[:4] == ["tracks", "track", "track", "track"]
    assert len(service.tracks(session_id)) == 3


def test_pause_keeps_the_registration(service, visit, page, posts, held_registrations):
    """Files paused before the response to their registration came are not registered twice."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(*wav_files(NAMES[:2]))
    uploader.upload(2)
    hold_registration(page, held_registrations)
    uploader.press("Pause all")
    expect(uploader.files.get_by_text("Paused")).to_have_count(2)
    ((route, response),) = held_registrations
    route.fulfill(response=response)
    uploader.press("Resume all")
    expect(uploader.summary).to_contain_text("Done: 2 files received")
    assert posts.count("tracks") == 1
    assert len(service.tracks(session_id)) == 2


def test_file_canceled_during_its_registration_is_canceled_at_the_service(service, visit, page, held_registrations):
    """A file canceled before the response to its registration came is canceled once that has arrived."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(*wav_files(NAMES[:2]))
    uploader.upload(2)
    hold_registration(page, held_registrations)
    uploader.press(f"Cancel {NAMES[0]}")
    ((route, response),) = held_registrations
    route.fulfill(response=response)
    expect_received(uploader.row(NAMES[1]))

    def statuses():
        return [track["status"] for track in service.tracks(session_id)]

    wait_until(lambda: statuses() == ["cancelled", "uploaded"], "The track was not canceled.")


def test_verification_in_progress_is_shown_and_asked_for_again(service, visit, page, posts, puts):
    """A file that the service is still verifying is shown as such; its result is asked for again after Retry-After."""
    session_id = service.open_session()
    uploader = visit(service, session_id, retry_delay="500")
    answer_verifications(page, "verifying", times=1)
    uploader.choose(*wav_files(NAMES[:2]))
    uploader.upload(2)
    expect(uploader.files.get_by_text("Verifying")).to_have_count(2)
    expect(uploader.summary).to_contain_text("Done: 2 files received")
    assert posts == ["tracks", "complete", "complete"]
    assert len(puts) == 2


@pytest.mark.parametrize(
    ("status", "times", "message", "sent", "sent_after_retry"),
    [
        ("verifying", 90, "The service is still verifying this file.", 1, 1),
        ("not_uploaded", 4, "The file did not arrive at the storage server.", 3, 5),
    ],
)
def test_endless_verification_fails(service, visit, page, puts, status, times, message, sent, sent_after_retry):
    """A file that stays unverified fails; one that is not in storage is sent again, three times at most."""
    session_id = service.open_session()
    uploader = visit(service, session_id, retry_delay="1")
    answer_verifications(page, status, times)
    uploader.choose(file_payload("a.wav", wav()))
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text(message)
    assert len(puts) == sent
    uploader.press("Retry a.wav")
    expect_received(uploader.row("a.wav"))
    assert len(puts) == sent_after_retry


def test_track_deleted_meanwhile_does_not_fail_the_others(service, visit, page, posts):
    """A track that the service does not know anymore fails alone."""
    session_id = service.open_session()
    uploader = visit(service, session_id)

    def replace_id(route):
        body = route.request.post_data_json
        if len(body["track_ids"]) == 2:
            body["track_ids"][0] = "0197b7a5-0000-7000-8000-000000000000"
            return route.continue_(post_data=body)
        return route.continue_()

    page.route("**/complete", replace_id)
    uploader.choose(*wav_files(NAMES[:2]))
    uploader.upload(2)
    expect(uploader.summary).to_contain_text("Done: 2 files received")
    assert posts == ["tracks", "complete", "complete", "complete"]


@pytest.mark.parametrize("changed", [False, True])
def test_cover_is_sent_as_the_answer_says(serve, visit, bucket, page, changed):
    """With COVER_UPLOAD=put a cover is PUT to the store; one that was not declared goes to the service instead."""
    service = serve(COVER_UPLOAD="put")
    session_id = service.open_session()
    uploader = visit(service, session_id)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method) if "cover" in request.url else None)
    if changed:
        # As if the cover had been another one when its track was registered.
        page.route(re.compile("/track$"), lambda route: redeclare(route))
    uploader.choose(file_payload("a.wav", wav()), file_payload("a.png", png(), "image/png"))
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    (track,) = service.tracks(session_id)
    assert bucket.get(track["cover"]["path"]) == png()
    assert [method for method in sent if method != "OPTIONS"] == (["POST"] if changed else ["PUT"])


def redeclare(route):
    """Have a registration declare a cover of another size."""
    body = route.request.post_data_json
    if body:
        body["cover_size"] += 1
    route.continue_(post_data=body)


@pytest.mark.parametrize("rejected", [False, True])
def test_cover_is_relayed_where_the_target_has_no_fields(service, visit, bucket, page, rejected):
    """A cover goes to the service in a form with `file` alone; if it is rejected, its track is received without it."""
    session_id = service.open_session()
    uploader = visit(service, session_id)

    def register(route):
        response = route.fetch()
        registration = response.json()
        registration["track_cover_upload"]["upload_url"] = f"{route.request.url}/{registration['track_id']}/cover"
        registration["track_cover_upload"]["fields"] = {}
        route.fulfill(response=response, json=registration)

    page.route(
        re.compile("/track$"), lambda route: register(route) if route.request.method == "POST" else route.continue_()
    )
    if rejected:
        error = {"ok": False, "code": "too_large", "message": "file: must have 1 to 10 bytes."}
        page.route("**/cover", lambda route: route.fulfill(status=413, json=error))
    uploader.choose(file_payload("a.wav", wav()), file_payload("a.png", png(), "image/png"))
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    track = requests.get(f"{service.base}/v1/upload/{session_id}/track", timeout=10).json()["tracks"][0]
    if rejected:
        expect(uploader.row("a.wav")).to_contain_text("Cover: The file is too large.")
        assert track["cover"] is None
    else:
        assert bucket.get(track["cover"]["path"]) == png()
