"""The end of a session on its page: what arrived is changed, "I'm done" asks once, and a receipt is shown and saved."""

from __future__ import annotations

import json
import re

import pytest
import requests
from joserfc import jws
from joserfc.jwk import KeySet
from playwright.sync_api import expect

from browser.helpers import expect_received, file_payload, random_wav
from support.sample_files import HTML, png, wav


@pytest.fixture
def received(page):
    """The list of what arrived on earlier visits."""
    return page.locator("section.received")


def status_of(service, session_id):
    """Return the session's status."""
    response = requests.get(f"{service.base}/v1/upload_session/{session_id}", timeout=10).json()
    return response["upload_session"]["status"]


def verified_lines(service, path):
    """Return what each line of a saved receipt says, with its signature verified."""
    keys = KeySet.import_key_set(requests.get(f"{service.base}/.well-known/jwks.json", timeout=10).json())
    lines = path.read_text().splitlines()
    return [json.loads(jws.deserialize_compact(line, keys, algorithms=["EdDSA"]).payload) for line in lines]


def test_done_closes_the_session_and_shows_a_receipt(service, visit, page, tmp_path):
    """With nothing missing, "I'm done" closes without a question; the receipt is saved, and there after a reload."""
    session_id, bodies = service.open_session(), {"a.wav": wav(seed=1), "b.wav": wav(seed=2)}
    uploader = visit(service, session_id)
    done = page.get_by_role("button", name="I’m done")
    uploader.choose(*(file_payload(name, body) for name, body in bodies.items()))
    expect(done).to_be_hidden()
    uploader.upload(2)
    expect(uploader.summary).to_contain_text("Done: 2 files received")
    done.click()
    expect(page.get_by_role("heading", name="Receipt")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert status_of(service, session_id) == "closed"
    rows = page.get_by_role("region", name="Receipt").get_by_role("row")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text("a.wav")
    expect(rows.nth(1)).to_contain_text(re.compile(r"CRC-32C|ETag"))
    with page.expect_download() as download:
        page.get_by_role("button", name="Save receipt").click()
    assert re.fullmatch(r"receipt-\d{4}-\d\d-\d\d\.jws", download.value.suggested_filename)
    download.value.save_as(tmp_path / "receipt.jws")
    (receipt,) = verified_lines(service, tmp_path / "receipt.jws")
    assert [(track["file_name"], track["size"]) for track in receipt["tracks"]] == [
        (name, len(body)) for name, body in bodies.items()
    ]
    page.reload()
    expect(page.get_by_role("heading", name="This upload is closed")).to_be_visible()
    expect(rows).to_have_count(3)
    expect(done).to_be_hidden()
    page.emulate_media(media="print")
    expect(rows.nth(1)).to_be_visible()
    expect(page.get_by_role("button", name="Save receipt")).to_be_hidden()


def test_done_asks_once_when_something_is_missing(service, visit, page, slow_network):
    """Files that have not arrived, failed ones and required values are named; what is given up is canceled."""
    session_id = service.open_session(fields=[{"name": "isrc", "label": "ISRC", "required": True}])
    uploader = visit(service, session_id)
    slow_network.limit(-1)
    uploader.choose(file_payload("a.wav", wav()), file_payload("bad.wav", HTML))
    uploader.upload(2)
    expect_received(uploader.row("a.wav"))
    expect(uploader.row("bad.wav")).to_contain_text("Failed")
    slow_network.limit(50_000)
    uploader.choose(file_payload("late.wav", random_wav(2_000_000)), file_payload("later.wav", wav(seed=3)))
    page.get_by_role("button", name=re.compile(r"^Upload 2 (more )?files$")).click()
    expect(uploader.row("late.wav")).to_contain_text("%")
    page.get_by_role("button", name="I’m done").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("not arrived.")
    expect(dialog).to_contain_text("1 file failed.")
    expect(dialog).to_contain_text("1 track lacks ISRC.")
    dialog.get_by_role("button", name="Go back").click()
    assert status_of(service, session_id) == "open"
    page.get_by_role("button", name="I’m done").click()
    dialog.get_by_role("button", name="Finish anyway").click()
    expect(page.get_by_role("heading", name="Receipt")).to_be_visible()
    assert status_of(service, session_id) == "closed"
    # A closed session without a track in progress is complete: its webhook is sent at once.
    assert {track["status"] for track in service.tracks(session_id)} <= {"uploaded", "failed", "cancelled"}


def test_earlier_arrivals_are_renamed_replaced_and_removed(service, visit, bucket, page, received):
    """Files of an earlier visit get another title, another file, or are removed, before the end."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(
        *(file_payload(f"0{n} {name}.wav", wav(seed=n)) for n, name in enumerate(["One", "Two", "Six"], 1)),
        file_payload("02 Two.png", png(), "image/png"),
    )
    uploader.upload(3)
    expect(uploader.summary).to_contain_text("Done: 3 files received")
    page.reload()
    expect(received).to_contain_text("Received earlier: 3 files")
    received.get_by_label("Title for 01 One.wav").fill("Better")
    page.keyboard.press("Enter")
    expect(uploader.status).to_contain_text("Saved: Better.")
    tracks = {track["file_name"]: track for track in service.tracks(session_id)}
    assert tracks["01 One.wav"]["metadata"] == {"title": "Better", "track_number": 1}

    uploader.press("Remove Six")
    page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
    expect(received).to_contain_text("Received earlier: 3 files")
    uploader.press("Remove Six")
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(received).to_contain_text("Received earlier: 2 files")
    assert bucket.get(tracks["03 Six.wav"]["path"]) is None

    body = wav(seed=9)
    with page.expect_file_chooser() as chooser:
        uploader.press("Replace Two")
    chooser.value.set_files([file_payload("two, final.wav", body)])
    expect(uploader.status).to_contain_text("Two will be removed once the new file has arrived, and its cover with it")
    expect(received).to_contain_text("Received earlier: 1 file")
    tracks = {track["file_name"]: track for track in service.tracks(session_id)}
    assert set(tracks) == {"01 One.wav", "two, final.wav"}
    assert bucket.get(tracks["two, final.wav"]["path"]) == body
    assert tracks["two, final.wav"]["metadata"] == {"title": "Two", "track_number": 2}


def test_rows_are_replaced_and_removed(service, visit, bucket, page):
    """A file received on this visit is replaced, with its cover, or removed."""
    session_id, body = service.open_session(), wav(seed=5)
    uploader = visit(service, session_id)
    uploader.choose(
        file_payload("a.wav", wav()), file_payload("b.wav", wav(seed=2)), file_payload("a.png", png(), "image/png")
    )
    uploader.upload(2)
    expect(uploader.summary).to_contain_text("Done: 2 files received")
    with page.expect_file_chooser() as chooser:
        uploader.press("Replace a.wav")
    chooser.value.set_files([file_payload("new.wav", body)])
    expect_received(uploader.row("new.wav"))
    expect(uploader.files.get_by_role("listitem")).to_have_count(2)
    uploader.press("Remove b.wav")
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(uploader.files.get_by_role("listitem")).to_have_count(1)
    (track,) = service.tracks(session_id)
    assert (track["file_name"], track["metadata"]["title"]) == ("new.wav", "a")
    assert (bucket.get(track["path"]), bucket.get(track["cover"]["path"])) == (body, png())


def test_page_may_forbid_changes(service, visit, page, received):
    """With `allow_changes` false, what has arrived has no fields and no buttons."""
    session_id = service.open_session(page={"allow_changes": False})
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.wav", wav()))
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    expect(page.get_by_role("button", name=re.compile("^(Replace|Remove)"))).to_have_count(0)
    page.reload()
    expect(received).to_contain_text("Received earlier: 1 file")
    expect(received.get_by_role("button")).to_have_count(0)
    expect(received.get_by_role("textbox")).to_have_count(0)


def test_component_ends_sessions_only_where_it_is_asked_to(service, visit, page):
    """Without the attribute `finish`, a site's visitors cannot close its session."""
    session_id = service.open_session()
    page.add_init_script(
        "addEventListener('DOMContentLoaded', () => {"
        " document.querySelector('loadbay-uploader').removeAttribute('finish') })"
    )
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.wav", wav()))
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    expect(page.get_by_role("button", name="I’m done")).to_be_hidden()
