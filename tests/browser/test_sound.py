"""Sound: each row plays its file, one at a time, and says what its header says."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from browser.helpers import expect_received, file_payload
from support.sample_files import HTML, aiff, flac, mp3, wav

UNKNOWN = "Neither this page nor this browser recognizes this as audio. It may not be accepted."

UNPLAYABLE = "This browser cannot play this file. You can upload it all the same."


def button(uploader, action: str, name: str):
    """Return the button that plays or stops a row."""
    return uploader.page.get_by_role("button", name=f"{action} {name}", exact=True)


@pytest.mark.parametrize(
    ("name", "body", "facts"),
    [
        ("a.wav", wav(2, rate=44_100, channels=2, bits=24), "0:02 · 44.1 kHz · 24-bit · stereo"),
        ("a.wav", wav(65), "1:05 · 8 kHz · 16-bit · mono"),
        ("a.flac", flac(3, 48_000, 2, 16), "0:03 · 48 kHz · 16-bit · stereo"),
        ("a.aiff", aiff(61, 44_100, 1, 24), "1:01 · 44.1 kHz · 24-bit · mono"),
        # The duration is not in the header: the browser knows it.
        ("a.mp3", mp3(4, 48_000), "0:04 · 48 kHz · stereo"),
    ],
)
def test_row_says_what_the_header_says(service, visit, name, body, facts):
    """Duration, sample rate, bit depth and channels are shown when a file is added."""
    uploader = visit(service, service.open_session())
    uploader.choose(file_payload(name, body))
    expect(uploader.row(name).locator(".sound")).to_have_text(facts)
    expect(uploader.row(name).locator(".note")).not_to_be_visible()


def test_one_row_plays_at_a_time(service, visit):
    """A row plays from where it was stopped, and stops when another one is played."""
    uploader = visit(service, service.open_session())
    uploader.choose(*(file_payload(f"{name}.wav", wav(30, seed)) for seed, name in enumerate("ab")))
    button(uploader, "Play", "a.wav").click()
    expect(button(uploader, "Stop playing", "a.wav")).to_be_visible()
    expect(uploader.row("a.wav").locator(".sound")).to_contain_text(re.compile(r"^0:0[2-9] / 0:30 · 8 kHz"))
    button(uploader, "Stop playing", "a.wav").click()
    expect(button(uploader, "Play", "a.wav")).to_be_visible()
    expect(uploader.row("a.wav").locator(".sound")).to_contain_text(re.compile(r"^0:0[2-9] / 0:30"))
    button(uploader, "Play", "a.wav").click()
    expect(button(uploader, "Stop playing", "a.wav")).to_be_visible()
    button(uploader, "Play", "b.wav").click()
    expect(button(uploader, "Stop playing", "b.wav")).to_be_visible()
    expect(button(uploader, "Play", "a.wav")).to_be_visible()
    expect(uploader.row("a.wav").locator(".sound")).to_contain_text(re.compile(r"^0:30 · 8 kHz"))


def test_row_plays_after_its_upload_and_to_its_end(service, visit):
    """A file that has arrived is played as before, and can be played again after its end."""
    uploader = visit(service, service.open_session())
    uploader.choose(file_payload("a.wav", wav(1)))
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    for _ in range(2):
        button(uploader, "Play", "a.wav").click()
        expect(button(uploader, "Stop playing", "a.wav")).to_be_visible()
        expect(button(uploader, "Play", "a.wav")).to_be_visible()
    expect(uploader.row("a.wav").locator(".sound")).to_have_text("0:01 · 8 kHz · 16-bit · mono")


def test_upload_goes_on_while_a_row_plays(service, visit, bucket):
    """Playing, uploading and removing do not disturb each other."""
    session_id, body = service.open_session(), wav(30)
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.wav", body))
    button(uploader, "Play", "a.wav").click()
    expect(button(uploader, "Stop playing", "a.wav")).to_be_visible()
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    expect(button(uploader, "Stop playing", "a.wav")).to_be_visible()
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body
    uploader.press("Remove a.wav")
    uploader.page.get_by_role("dialog").get_by_role("button", name="Remove", exact=True).click()
    expect(uploader.files.get_by_role("listitem")).to_have_count(0)


def test_unknown_file_says_so_when_it_is_added(service, visit):
    """A file that neither header nor browser knows says so at once, and cannot be played; the others can."""
    uploader = visit(service, service.open_session())
    uploader.choose(file_payload("a.wav", HTML), file_payload("b.wav", wav()))
    expect(uploader.row("a.wav")).to_contain_text(UNKNOWN)
    expect(button(uploader, "Play", "a.wav")).to_have_count(0)
    expect(button(uploader, "Play", "b.wav")).to_be_visible()
    expect(uploader.row("b.wav")).not_to_contain_text("recognizes")


def test_browser_that_cannot_play_a_file_says_so(service, visit):
    """A known file that this browser cannot play says so when it is played, and is uploaded all the same."""
    uploader = visit(service, service.open_session())
    uploader.choose(file_payload("a.aiff", aiff()))
    button(uploader, "Play", "a.aiff").click()
    expect(uploader.row("a.aiff")).to_contain_text(
        "This browser cannot play this file. You can upload it all the same."
    )
    expect(button(uploader, "Play", "a.aiff")).to_have_count(0)
    uploader.upload()
    expect_received(uploader.row("a.aiff"))


def test_rules_are_those_of_whoever_asks(service, visit):
    """A file that breaks a rule is refused in the name of the page's sender, before a byte goes."""
    rules = {"audio": {"containers": ["wav"], "sample_rates": [44_100]}}
    session_id = service.open_session(rules=rules, page={"sender": "Tidewater Records"})
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.mp3", mp3(1, 48_000)))
    expect(uploader.row("a.mp3")).to_contain_text("48 kHz MP3; Tidewater Records asks for 44.1 kHz WAV.")
    assert service.tracks(session_id) == []
