"""The upload page when requests, storage, files or the session fail: nothing is lost, and the page gives the reason."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from signal import SIGKILL

import pytest
import requests
from playwright.sync_api import expect

from browser.helpers import MIB, expect_received, file_payload, random_wav
from support.api import COLLECTION
from support.processes import wait_until
from support.sample_files import wav
from support.store import Bucket, start_store

PART = 5 * MIB


@pytest.fixture
def large_file(tmp_path):
    """A file of six parts on disk, which can be selected again."""
    path = tmp_path / "long set.wav"
    path.write_bytes(random_wav(5 * PART + 12_345))
    return path


@pytest.fixture
def own_store(tmp_path):
    """A store that the test may stop."""
    store = start_store(tmp_path / "store")
    yield store
    store.stop(SIGKILL)


def test_upload_survives_a_store_restart(serve, visit, own_store, slow_network, large_file):
    """Uploads wait while the store is down; parts it had received are not sent again."""
    service = serve(S3_ENDPOINT=own_store.endpoint)
    session_id, small = service.open_session(), large_file.with_name("small.wav")
    small.write_bytes(random_wav(300_000))
    uploader = visit(service, session_id, part_size=str(PART), retry_delay="300")
    uploader.choose(small, large_file)
    slow_network.limit(8 * MIB)
    uploader.upload(2)
    expect_received(uploader.row("small.wav"))
    track = next(track for track in service.tracks(session_id) if track["file_name"] == "long set.wav")
    wait_until(lambda: service.parts(session_id, track["id"]), "No part was received.")
    own_store.stop(SIGKILL)
    expect(uploader.row("long set.wav")).to_contain_text("Retrying…")
    own_store.start()
    expect_received(uploader.row("long set.wav"))
    bucket = Bucket(own_store.endpoint)
    stored = {track["file_name"]: bucket.get(track["path"]) for track in service.tracks(session_id)}
    assert stored == {path.name: path.read_bytes() for path in (small, large_file)}


def test_upload_gives_up_and_can_be_retried(service, visit, bucket, page):
    """An upload fails after the last attempt, with the reason; a retry by hand completes it."""
    session_id, body, attempts = service.open_session(), wav(), []

    def reject(route):
        attempts.append(time.monotonic())
        route.abort("connectionrefused")

    uploader = visit(service, session_id, retry_delay="20")
    uploader.choose(file_payload("a.wav", body))
    page.route(re.compile("X-Amz-Signature"), reject)
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text("Failed")
    expect(uploader.row("a.wav")).to_contain_text("Cannot reach the storage server.")
    expect(uploader.status).to_contain_text("a.wav failed")
    gaps = [later - earlier for earlier, later in pairwise(attempts)]
    assert len(gaps) == 7
    assert sum(gaps[4:]) > 2 * sum(gaps[:3])
    page.unroute_all()
    uploader.press("Retry 1 failed file")
    expect_received(uploader.row("a.wav"))
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


@pytest.mark.parametrize(("status", "body"), [(404, ""), (409, ""), (400, "<Code>RequestTimeout</Code>")])
def test_responses_of_a_starting_store_are_retried(service, visit, bucket, page, status, body):
    """Responses of a store that is starting up or busy are not final."""
    session_id, methods = service.open_session(), []

    def reject(route):
        methods.append(route.request.method)
        route.fulfill(status=status, body=body, headers={"Access-Control-Allow-Origin": "*"})

    uploader = visit(service, session_id, retry_delay="20")
    page.route(re.compile("X-Amz-Signature"), reject, times=2)
    uploader.choose(file_payload("a.wav", wav()))
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    assert methods == ["PUT", "PUT"]
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == wav()


def test_expired_url_is_renewed(serve, visit, bucket, page):
    """A URL that expires before it is used is rejected by the store and renewed without notice."""
    service = serve(UPLOAD_URL_TTL="3")
    session_id, body, responses = service.open_session(), wav(), []
    uploader = visit(service, session_id)
    page.on("response", lambda response: responses.append((response.request.method, response.status, response.url)))

    def deliver_late(route):
        if route.request.method != "POST":
            # The page may still be listing the tracks.
            return route.continue_()
        response = route.fetch()
        time.sleep(4.2)
        return route.fulfill(response=response)

    page.route("**/track", deliver_late)
    uploader.choose(file_payload("a.wav", body))
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    assert [status for method, status, _ in responses if method == "PUT"] == [403, 200]
    assert any(url.endswith("/renew") for _, _, url in responses)
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_expired_part_urls_are_signed_again(serve, visit, bucket, page, large_file):
    """URLs of parts that expire before they are used are signed again; each part is stored once."""
    service = serve(UPLOAD_URL_TTL="5")
    session_id, responses = service.open_session(), []
    uploader = visit(service, session_id, part_size=str(PART))
    page.on("response", lambda response: responses.append((response.request.method, response.status, response.url)))

    def deliver_late(route):
        response = route.fetch()
        # Delays the list of parts and the first signed URLs, until one of them was used.
        if not any(method == "PUT" for method, _, _ in responses):
            time.sleep(5.7)
        route.fulfill(response=response)

    page.route("**/track/*/parts", deliver_late)
    uploader.choose(large_file)
    uploader.upload()
    expect_received(uploader.row("long set.wav"))
    puts = [(status, re.search(r"partNumber=(\d+)", url)[1]) for method, status, url in responses if method == "PUT"]
    assert 403 in dict(puts)
    assert sorted(number for status, number in puts if status == 200) == list("123456")
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == large_file.read_bytes()


def test_url_that_expires_during_a_pause_is_renewed(serve, visit, bucket, slow_network):
    """After a pause that outlasts the URL, the upload resumes with a new one."""
    service = serve(UPLOAD_URL_TTL="1")
    session_id, body = service.open_session(), random_wav(300_000)
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.wav", body))
    uploader.upload()
    uploader.press("Pause a.wav")
    uploader.page.wait_for_timeout(1500)
    slow_network.limit(-1)
    uploader.press("Resume a.wav")
    expect_received(uploader.row("a.wav"))
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_large_file_resumes_after_a_reload(service, visit, bucket, slow_network, large_file, page):
    """After a reload the same file resumes: received parts are not sent again."""
    session_id = service.open_session()
    page.on("dialog", lambda dialog: dialog.accept())
    slow_network.limit(6 * MIB)
    uploader = visit(service, session_id, part_size=str(PART))
    uploader.choose(large_file)
    uploader.page.get_by_label("Title for long set.wav").fill("The long set")
    uploader.upload()
    wait_until(lambda: service.tracks(session_id), "The track was not registered.")
    (track,) = service.tracks(session_id)
    wait_until(lambda: len(service.parts(session_id, track["id"])) >= 2, "No part was received.")
    uploader = visit(service, session_id, part_size=str(PART))
    before = service.parts(session_id, track["id"])
    assert 0 < len(before) < 6
    expect(page.get_by_role("region", name="Unfinished uploads")).to_contain_text("“long set.wav”")
    sent = []
    page.on("request", lambda request: sent.extend(re.findall(r"partNumber=(\d+)", request.url)))
    slow_network.limit(-1)
    uploader.choose(large_file)
    expect(uploader.row("long set.wav")).to_contain_text(re.compile(r"Resumes at [1-9]\d%"))
    expect(page.get_by_label("Title for long set.wav")).to_have_value("The long set")
    # A part in flight at the reload may still be received, so the page's own list counts.
    with page.expect_response(
        lambda response: response.request.method == "GET" and response.url.endswith("/parts")
    ) as listing:
        uploader.upload()
    stored = {part["part_number"] for part in listing.value.json()["parts"]}
    expect_received(uploader.row("long set.wav"))
    assert before <= stored
    assert set(map(int, sent)) == set(range(1, 7)) - stored
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == large_file.read_bytes()


def test_upload_waits_while_offline(service, visit, bucket, slow_network):
    """An upload waits while the browser is offline, for any length of time."""
    session_id, body = service.open_session(), random_wav(2_000_000)
    uploader = visit(service, session_id, retry_delay="5")
    uploader.choose(file_payload("a.wav", body))
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text("left")
    slow_network.limit(-1, offline=True)
    expect(uploader.row("a.wav")).to_contain_text("You are offline.")
    # Longer than all delays between attempts together.
    uploader.page.wait_for_timeout(2000)
    expect(uploader.row("a.wav")).to_contain_text("You are offline.")
    slow_network.limit(-1)
    expect_received(uploader.row("a.wav"))
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_lost_responses_register_one_track(service, visit, bucket, page):
    """If the responses to registration and upload are lost, one track is registered and received."""
    session_id, body, dropped = service.open_session(), wav(), []

    def drop_response(route):
        dropped.append((route.request.method, route.fetch().status))
        route.abort()

    uploader = visit(service, session_id)
    page.route("**/v1/upload/*/track", drop_response, times=1)
    page.route(re.compile("X-Amz-Signature"), drop_response, times=1)
    uploader.choose(file_payload("a.wav", body))
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    assert dropped == [("POST", 200), ("PUT", 200)]
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_session_expires_during_a_visit(service, visit, bucket, slow_network):
    """Received files stay after the session has expired; the others fail with the reason."""
    session_id, body = service.open_session(), wav()
    uploader = visit(service, session_id)
    uploader.choose(file_payload("early.wav", body))
    uploader.upload()
    expect_received(uploader.row("early.wav"))
    uploader.choose(file_payload("late.wav", wav(seed=1)), file_payload("later.wav", wav(seed=2)))
    service.expire(session_id)
    uploader.press("Upload 2 files")
    expect(uploader.page.get_by_role("heading", name="This link has expired")).to_be_visible()
    for name in ("late.wav", "later.wav"):
        expect(uploader.row(name)).to_contain_text("The link expired before this file was received.")
    expect(uploader.summary).to_contain_text("1 of 3 files received, 2 failed")
    expect(uploader.page.get_by_text("Drop tracks")).to_be_hidden()
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


@pytest.mark.parametrize(("end", "title"), [("expire", "This link has expired"), ("close", "This upload is closed")])
def test_ended_session_shows_received_files(service, visit, page, end, title):
    """The link of an ended session says so, and has a receipt of the received files."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.wav", wav()))
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    if end == "expire":
        service.expire(session_id)
    else:
        requests.post(f"{service.base}/v1/upload_session/{session_id}/close", timeout=10)
    page.goto(f"{service.base}/u/{session_id}")
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    expect(page.get_by_role("region", name="Receipt")).to_contain_text("a.wav")
    expect(page.get_by_role("heading", name="Received earlier: 1 file")).to_be_hidden()
    expect(page.get_by_role("button")).to_have_text(["Save receipt", "Print"])


@pytest.mark.parametrize("session_id", [COLLECTION, "cut-off", "%3Cscript%3E"])
def test_unknown_session_shows_an_invalid_link(service, page, session_id):
    """An unknown session id leads to a page that says so."""
    response = page.goto(f"{service.base}/u/{session_id}")
    assert response.status == 404
    expect(page.get_by_role("heading", name="This link is not valid")).to_be_visible()


def test_session_that_others_have_filled_accepts_no_file(service, visit):
    """A file for which others have left no room is not accepted, in plain words, and cannot be retried."""
    session_id = service.open_session(max_tracks=1)
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.wav", wav()))
    requests.post(f"{service.base}/v1/upload/{session_id}/track", json={"file_name": "b.wav"}, timeout=10)
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text("Not accepted")
    expect(uploader.row("a.wav")).to_contain_text("This upload accepts no more files.")
    expect(uploader.page.get_by_role("button", name="Retry a.wav")).to_have_count(0)


def test_file_deleted_on_disk_fails_with_the_reason(service, visit, tmp_path):
    """A file deleted after it was selected fails with the reason."""
    session_id, path = service.open_session(), tmp_path / "a.wav"
    path.write_bytes(wav())
    uploader = visit(service, session_id)
    uploader.choose(path)
    expect(uploader.row("a.wav")).to_be_visible()
    path.unlink()
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text("The file was changed or moved after you chose it.")


def test_title_edited_after_a_lost_response_is_registered(service, visit, bucket, page):
    """A title edited while a registration is unconfirmed makes a new request."""
    session_id, body, statuses = service.open_session(), wav(), []

    def withhold_response(route):
        statuses.append(route.fetch().status)

    uploader = visit(service, session_id)
    page.route("**/v1/upload/*/track", withhold_response, times=1)
    uploader.choose(file_payload("a.wav", body))
    uploader.upload()
    wait_until(lambda: statuses or page.wait_for_timeout(50), "The track was not registered.")
    uploader.press("Pause a.wav")
    page.get_by_label("Title for a.wav").fill("Another")
    uploader.press("Resume a.wav")
    expect_received(uploader.row("a.wav"))
    track = service.tracks(session_id)[-1]
    assert (track["status"], track["metadata"]) == ("uploaded", {"title": "Another"})
    assert bucket.get(track["path"]) == body


def test_reason_of_a_wait_is_announced_once(service, visit, page):
    """The reason of a wait is announced to screen readers once for all files and attempts."""
    uploader = visit(service, service.open_session())
    uploader.status.evaluate(
        """(status) => {
          window.announcements = [];
          new MutationObserver(() => announcements.push(status.textContent)).observe(status, { childList: true });
        }"""
    )
    uploader.choose(*(file_payload(f"{name}.wav", wav(seed=ord(name))) for name in "abc"))
    page.route(re.compile("X-Amz-Signature"), lambda route: route.abort(), times=12)
    uploader.upload(3)
    expect(uploader.summary).to_contain_text("Done: 3 files received")
    announcements = page.evaluate("announcements")
    assert announcements.count("Cannot reach the storage server. Retrying…") == 1, announcements
