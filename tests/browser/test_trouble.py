"""The upload page where something goes wrong on the way: nothing is lost, and what happened is said."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from signal import SIGKILL

import pytest
import requests
from playwright.sync_api import expect

from browser.test_upload import MIB, arrived, file, sound
from conftest import COLLECTION, Bucket, start_store
from support.processes import wait_until
from support.sample_files import wav

PART = 5 * MIB


@pytest.fixture
def big(tmp_path):
    """A file of six parts, on disk, so that it can be picked again."""
    path = tmp_path / "long set.wav"
    path.write_bytes(sound(5 * PART + 12_345))
    return path


@pytest.fixture
def own_store(tmp_path):
    """A store that may be stopped."""
    store = start_store(tmp_path / "store")
    yield store
    store.stop(SIGKILL)


def test_store_stops_and_comes_back(serve, visit, own_store, slow, big):
    """A store that goes away in the middle is waited for; what had arrived of a big file is not sent again."""
    service = serve(S3_ENDPOINT=own_store.endpoint)
    session_id, small = service.open_session(), big.with_name("small.wav")
    small.write_bytes(sound(300_000))
    uploader = visit(service, session_id, part_size=str(PART), retry_pause="300")
    uploader.choose(small, big)
    slow.limit(8 * MIB)
    uploader.upload(2)
    arrived(uploader.row("small.wav"))
    track = next(track for track in service.tracks(session_id) if track["file_name"] == "long set.wav")
    wait_until(lambda: service.parts(session_id, track["id"]), "No parts have arrived.")
    own_store.stop(SIGKILL)
    expect(uploader.row("long set.wav")).to_contain_text("Trying again.")
    own_store.start()
    arrived(uploader.row("long set.wav"))
    bucket = Bucket(own_store.endpoint)
    found = {track["file_name"]: bucket.get(track["path"]) for track in service.tracks(session_id)}
    assert found == {path.name: path.read_bytes() for path in (small, big)}


def test_giving_up_and_retry(service, visit, bucket, page):
    """A store that stays away is given up with the reason; a retry by hand brings the file there."""
    session_id, body, tries = service.open_session(), wav(), []

    def refuse(route):
        tries.append(time.monotonic())
        route.abort("connectionrefused")

    uploader = visit(service, session_id, retry_pause="20")
    uploader.choose(file("a.wav", body))
    page.route(re.compile("X-Amz-Signature"), refuse)
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text("Not arrived")
    expect(uploader.row("a.wav")).to_contain_text("The store cannot be reached.")
    expect(uploader.status).to_contain_text("a.wav has not arrived")
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert len(gaps) == 7
    assert sum(gaps[4:]) > 2 * sum(gaps[:3])
    page.unroute_all()
    uploader.press("Try it again")
    arrived(uploader.row("a.wav"))
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


@pytest.mark.parametrize(("status", "said"), [(404, ""), (409, ""), (400, "<Code>RequestTimeout</Code>")])
def test_store_that_is_coming_up(service, visit, bucket, page, status, said):
    """A store that does not know yet what it is sent, or is not ready for it, has not said its last word."""
    session_id, body, early = service.open_session(), wav(), []

    def not_yet(route):
        early.append(route.request.method)
        route.fulfill(status=status, body=said, headers={"Access-Control-Allow-Origin": "*"})

    uploader = visit(service, session_id, retry_pause="20")
    page.route(re.compile("X-Amz-Signature"), not_yet, times=2)
    uploader.choose(file("a.wav", body))
    uploader.upload()
    arrived(uploader.row("a.wav"))
    assert early == ["PUT", "PUT"]
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_expired_url(serve, visit, bucket, page):
    """A URL that has run out before it is used is refused by the store, and renewed without a word."""
    service = serve(UPLOAD_URL_TTL="3")
    session_id, body, answers = service.open_session(), wav(), []
    uploader = visit(service, session_id)
    page.on("response", lambda answer: answers.append((answer.request.method, answer.status, answer.url)))

    def deliver_late(route):
        if route.request.method != "POST":
            # The page's first look at what is there may still be on its way.
            return route.continue_()
        answer = route.fetch()
        time.sleep(4.2)
        return route.fulfill(response=answer)

    page.route("**/track", deliver_late)
    uploader.choose(file("a.wav", body))
    uploader.upload()
    arrived(uploader.row("a.wav"))
    assert [status for method, status, _ in answers if method == "PUT"] == [403, 200]
    assert any(url.endswith("/renew") for _, _, url in answers)
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_expired_urls_of_parts(serve, visit, bucket, page, big):
    """URLs of parts that have run out before they are used are signed anew; each part is taken once."""
    service = serve(UPLOAD_URL_TTL="2")
    session_id, answers = service.open_session(), []
    uploader = visit(service, session_id, part_size=str(PART))
    page.on("response", lambda answer: answers.append((answer.request.method, answer.status, answer.url)))

    def deliver_late(route):
        answer = route.fetch()
        # What has arrived so far, and then the first fresh URLs, until one of them has been used.
        if not any(method == "PUT" for method, _, _ in answers):
            time.sleep(2.7)
        route.fulfill(response=answer)

    page.route("**/track/*/parts", deliver_late)
    uploader.choose(big)
    uploader.upload()
    arrived(uploader.row("long set.wav"))
    puts = [(status, re.search(r"partNumber=(\d+)", url)[1]) for method, status, url in answers if method == "PUT"]
    assert 403 in dict(puts)
    assert sorted(number for status, number in puts if status == 200) == list("123456")
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == big.read_bytes()


def test_url_expires_during_a_pause(serve, visit, bucket, slow):
    """After a pause that outlasts the URL, the file goes on with a fresh one."""
    service = serve(UPLOAD_URL_TTL="1")
    session_id, body = service.open_session(), sound(300_000)
    uploader = visit(service, session_id)
    uploader.choose(file("a.wav", body))
    uploader.upload()
    uploader.press("Pause a.wav")
    uploader.page.wait_for_timeout(1500)
    slow.limit(-1)
    uploader.press("Resume a.wav")
    arrived(uploader.row("a.wav"))
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_reload_in_a_big_file(service, visit, bucket, slow, big, page):
    """After a reload the same file picked again goes on: the parts that had arrived are not sent a second time."""
    session_id = service.open_session()
    page.on("dialog", lambda dialog: dialog.accept())
    slow.limit(6 * MIB)
    uploader = visit(service, session_id, part_size=str(PART))
    uploader.choose(big)
    uploader.page.get_by_label("Title of long set.wav").fill("The long set")
    uploader.upload()
    wait_until(lambda: service.tracks(session_id), "It was never registered.")
    (track,) = service.tracks(session_id)
    wait_until(lambda: len(service.parts(session_id, track["id"])) >= 2, "No parts have arrived.")
    uploader = visit(service, session_id, part_size=str(PART))
    before = service.parts(session_id, track["id"])
    assert 0 < len(before) < 6
    expect(page.get_by_role("region", name="Not finished yet")).to_contain_text("“long set.wav”")
    sent = []
    page.on("request", lambda request: sent.extend(re.findall(r"partNumber=(\d+)", request.url)))
    slow.limit(-1)
    uploader.choose(big)
    expect(uploader.row("long set.wav")).to_contain_text(re.compile(r"Goes on from [1-9]\d%"))
    expect(page.get_by_label("Title of long set.wav")).to_have_value("The long set")
    # A part that was on its way at the reload may still have arrived: what counts is what the page was told.
    with page.expect_response(lambda it: it.request.method == "GET" and it.url.endswith("/parts")) as listing:
        uploader.upload()
    there = {part["part_number"] for part in listing.value.json()["parts"]}
    arrived(uploader.row("long set.wav"))
    assert before <= there
    assert set(map(int, sent)) == set(range(1, 7)) - there
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == big.read_bytes()


def test_offline(service, visit, bucket, slow):
    """Being offline is noticed and waited out, however long it takes."""
    session_id, body = service.open_session(), sound(2_000_000)
    uploader = visit(service, session_id, retry_pause="5")
    uploader.choose(file("a.wav", body))
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text("left")
    slow.limit(-1, offline=True)
    expect(uploader.row("a.wav")).to_contain_text("You are offline.")
    # Longer than all pauses of this page together.
    uploader.page.wait_for_timeout(2000)
    expect(uploader.row("a.wav")).to_contain_text("You are offline.")
    slow.limit(-1)
    arrived(uploader.row("a.wav"))
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_lost_answers(service, visit, bucket, page):
    """Where the answers to registering and to sending are lost, there is still one track, and it arrives."""
    session_id, body, lost = service.open_session(), wav(), []

    def lose(route):
        lost.append((route.request.method, route.fetch().status))
        route.abort()

    uploader = visit(service, session_id)
    page.route("**/v1/upload/*/track", lose, times=1)
    page.route(re.compile("X-Amz-Signature"), lose, times=1)
    uploader.choose(file("a.wav", body))
    uploader.upload()
    arrived(uploader.row("a.wav"))
    assert lost == [("POST", 200), ("PUT", 200)]
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_session_expires(service, visit, bucket, slow):
    """When the session's time runs out, it is said kindly; what had arrived stays, what had not is told."""
    session_id, body = service.open_session(), wav()
    uploader = visit(service, session_id)
    uploader.choose(file("early.wav", body))
    uploader.upload()
    arrived(uploader.row("early.wav"))
    uploader.choose(file("late.wav", wav(seed=1)), file("later.wav", wav(seed=2)))
    service.expire(session_id)
    uploader.press("Upload 2 files")
    expect(uploader.page.get_by_role("heading", name="This link has run out")).to_be_visible()
    for name in ("late.wav", "later.wav"):
        expect(uploader.row(name)).to_contain_text("The link ran out before this file had arrived.")
    expect(uploader.batch).to_contain_text("1 of 3 arrived, 2 did not")
    expect(uploader.page.get_by_text("Drop tracks")).to_be_hidden()
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


@pytest.mark.parametrize(("end", "payload"), [("expire", "This link has run out"), ("close", "This upload is closed")])
def test_session_is_over(service, visit, page, end, payload):
    """A link that is over says so, and shows what had arrived."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(file("a.wav", wav()))
    uploader.upload()
    arrived(uploader.row("a.wav"))
    if end == "expire":
        service.expire(session_id)
    else:
        requests.post(f"{service.base}/v1/upload_session/{session_id}/close", timeout=10)
    page.goto(f"{service.base}/u/{session_id}")
    expect(page.get_by_role("heading", name=payload)).to_be_visible()
    expect(page.get_by_role("heading", name="Arrived earlier: 1 file")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize("session_id", [COLLECTION, "cut-off", "%3Cscript%3E"])
def test_unknown_session(service, page, session_id):
    """A link that leads nowhere says so kindly."""
    answer = page.goto(f"{service.base}/u/{session_id}")
    assert answer.status == 404
    expect(page.get_by_role("heading", name="This link leads nowhere")).to_be_visible()


def test_limit_of_the_session(service, visit, bucket):
    """A session that is full says so with the file that has no place in it."""
    session_id = service.open_session(max_tracks=1)
    uploader = visit(service, session_id)
    uploader.choose(file("a.wav", wav()), file("b.wav", wav(seed=1)))
    uploader.upload(2)
    expect(uploader.batch).to_contain_text("1 of 2 arrived, 1 did not")
    expect(uploader.files).to_contain_text("already holds as many tracks as it may")
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) in (wav(), wav(seed=1))


def test_file_changes_on_disk(service, visit, tmp_path):
    """A file that was changed after it was chosen cannot be read any more, and that is what is said."""
    session_id, path = service.open_session(), tmp_path / "a.wav"
    path.write_bytes(wav())
    uploader = visit(service, session_id)
    uploader.choose(path)
    expect(uploader.row("a.wav")).to_be_visible()
    path.unlink()
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text("The file was changed or moved after it was chosen.")


def test_words_change_while_an_answer_is_lost(service, visit, bucket, page):
    """A title that is changed while it is not known whether the track was registered is another request."""
    session_id, body, held = service.open_session(), wav(), []

    def hold(route):
        held.append(route.fetch().status)

    uploader = visit(service, session_id)
    page.route("**/v1/upload/*/track", hold, times=1)
    uploader.choose(file("a.wav", body))
    uploader.upload()
    wait_until(lambda: held or page.wait_for_timeout(50), "It was never registered.")
    uploader.press("Pause a.wav")
    page.get_by_label("Title of a.wav").fill("Another")
    uploader.press("Resume a.wav")
    arrived(uploader.row("a.wav"))
    track = service.tracks(session_id)[-1]
    assert (track["status"], track["metadata"]) == ("uploaded", {"title": "Another"})
    assert bucket.get(track["path"]) == body


def test_causes_are_said_once(service, visit, page):
    """Why there is a wait is said to those who do not see it: once for all files, and however often it is tried."""
    uploader = visit(service, service.open_session())
    uploader.status.evaluate(
        """(status) => {
          window.said = [];
          new MutationObserver(() => said.push(status.textContent)).observe(status, { childList: true });
        }"""
    )
    uploader.choose(*(file(f"{name}.wav", wav(seed=ord(name))) for name in "abc"))
    page.route(re.compile("X-Amz-Signature"), lambda route: route.abort(), times=12)
    uploader.upload(3)
    expect(uploader.batch).to_contain_text("All 3 have arrived")
    said = page.evaluate("said")
    assert said.count("The store cannot be reached. Trying again.") == 1, said
