"""Events and messages at the end of uploads, each of them once."""

from __future__ import annotations

import base64
import re

import pytest
from playwright.sync_api import expect

from browser.helpers import expect_received, file_payload, random_wav
from support.processes import wait_until
from support.sample_files import HTML, png, wav

RECORD_EVENTS = """
window.firedEvents = [];
for (const name of ["file-uploaded", "file-failed", "session-complete"]) {
  const files = (detail) => detail.file_name ?? detail.tracks.map((track) => track.file_name);
  document.addEventListener(name, (event) => firedEvents.push([name, files(event.detail)]));
}
"""


@pytest.fixture
def events(page):
    """The events that the page has fired so far."""
    page.add_init_script(RECORD_EVENTS)
    return lambda: page.evaluate("firedEvents")


def test_session_end_fails_pending_files_once(service, visit, events, slow_network):
    """Pending files fail once at the end of the session; failed and canceled ones keep their reason."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(file_payload("bad.wav", HTML), file_payload("off.wav", random_wav(400_000)))
    uploader.upload(2)
    uploader.press("Cancel off.wav")
    expect(uploader.row("bad.wav")).to_contain_text("Failed")
    expect(uploader.row("bad.wav")).to_contain_text("This is not an audio file, although its name says so.")
    slow_network.limit(-1)
    names = [f"late {number}.wav" for number in range(5)]
    uploader.choose(*(file_payload(name, wav(seed=number)) for number, name in enumerate(names)))
    service.expire(session_id)
    uploader.press("Upload 5 files")
    expect(uploader.files.get_by_text("The link expired before this file was received.")).to_have_count(5)
    expect(uploader.row("bad.wav")).to_contain_text("This is not an audio file")
    expect(uploader.row("off.wav")).to_contain_text("Canceled")
    failed = [["file-failed", name] for name in ("bad.wav", *names)]
    assert sorted(events()) == failed
    for label in ("Retry", "Upload again"):
        expect(uploader.page.get_by_role("button", name=re.compile(f"^{label}"))).to_have_count(0)


def test_canceling_the_last_file_completes_the_session(service, visit, events, slow_network):
    """Canceling the last pending file completes the session; uploading it after all completes it again."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    # Slow enough that b.wav is still being sent when a.wav has been verified, even on a busy machine.
    slow_network.limit(50_000)
    uploader.choose(file_payload("a.wav", wav()), file_payload("b.wav", random_wav(800_000)))
    uploader.upload(2)
    expect_received(uploader.row("a.wav"))
    uploader.press("Cancel b.wav")
    expect(uploader.status).to_have_text("Done: 1 file received")
    assert events() == [["file-uploaded", "a.wav"], ["session-complete", ["a.wav"]]]
    slow_network.limit(-1)
    uploader.press("Upload again b.wav")
    expect_received(uploader.row("b.wav"))
    expect(uploader.status).to_have_text("Done: 2 files received")
    assert events()[2:] == [["file-uploaded", "b.wav"], ["session-complete", ["a.wav", "b.wav"]]]


def test_deleted_cover_does_not_fail_its_track(service, visit, bucket, page, tmp_path):
    """An image deleted after it was selected fails alone; its track is received, and the summary says so."""
    session_id, image = service.open_session(), tmp_path / "a.png"
    image.write_bytes(png())
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.wav", wav()))
    page.get_by_label("Add cover for a.wav").set_input_files(image)
    expect(page.get_by_label("Cover for a.wav: a.png")).to_be_attached()
    image.unlink()
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    expect(uploader.row("a.wav")).to_contain_text("Cover: The file was changed or moved after you chose it.")
    expect(uploader.summary).to_contain_text("Done: 1 file received, without its cover")
    expect(uploader.summary).not_to_contain_text("Every file has been verified")
    expect(uploader.status).to_have_text("Done: 1 file received, without its cover")
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == wav()


@pytest.mark.parametrize("when", ["running", "done"])
def test_late_cover_is_uploaded(service, visit, bucket, slow_network, when):
    """An image added while its track is uploading, or after that, becomes its cover."""
    session_id, body = service.open_session(), random_wav(1_200_000)
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.wav", body), file_payload("b.wav", wav()))
    uploader.upload(2)
    expect(uploader.row("a.wav")).to_contain_text("left")
    if when == "done":
        slow_network.limit(-1)
        expect_received(uploader.row("a.wav"))
    expect_received(uploader.row("b.wav"))
    uploader.choose(*(file_payload(f"{name}.png", png(), "image/png") for name in "axy"))
    expect(uploader.page.get_by_text("1 cover added. No track matches x.png, y.png.").first).to_be_visible()
    slow_network.limit(-1)
    expect_received(uploader.row("a.wav"))

    def read_covers():
        return {track["file_name"]: track["cover"] for track in service.tracks(session_id)}

    def is_received():
        cover = read_covers()["a.wav"]
        return cover and cover["status"] == "uploaded"

    wait_until(is_received, "The cover was not received")
    covers = read_covers()
    assert covers["b.wav"] is None
    assert bucket.get(covers["a.wav"]["path"]) == png()


def test_only_one_late_cover_is_in_flight(service, visit, bucket, page):
    """While a cover is sent to a received track, another one is ignored, so that the two do not mix."""
    session_id = service.open_session()
    uploader, methods = visit(service, session_id), []
    page.on("request", lambda request: methods.append(request.method) if "X-Amz" not in request.url else None)
    uploader.choose(file_payload("a.wav", wav()))
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    methods.clear()
    with page.expect_response(lambda response: response.url.endswith("/complete")):
        page.get_by_label("Add cover for a.wav").evaluate(
            """(input, images) => {
              for (const image of images) {
                const data = new DataTransfer();
                const bytes = Uint8Array.from(atob(image), (c) => c.charCodeAt(0));
                data.items.add(new File([bytes], "cover.png", { type: "image/png" }));
                input.files = data.files;
                input.dispatchEvent(new Event("change"));
              }
            }""",
            [base64.b64encode(image).decode() for image in (png(), png(9, 9))],
        )
    expect(page.get_by_label("Cover for a.wav: cover.png")).to_be_disabled()
    (track,) = service.tracks(session_id)
    assert bucket.get(track["cover"]["path"]) == png()
    assert methods.count("POST") == 2
    expect(uploader.row("a.wav")).not_to_contain_text("Cover:")
