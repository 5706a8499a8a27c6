"""What is told when files have come to their ends, and that it is told once."""

from __future__ import annotations

import base64
import re

import pytest
from playwright.sync_api import expect

from browser.test_upload import arrived, file, sound
from support.processes import wait_until
from support.sample_files import HTML, png, wav

LISTEN = """
window.heard = [];
for (const name of ["file-uploaded", "file-failed", "session-complete"]) {
  const files = (detail) => detail.file_name ?? detail.tracks.map((track) => track.file_name);
  document.addEventListener(name, (event) => heard.push([name, files(event.detail)]));
}
"""


@pytest.fixture
def heard(page):
    """The events that the page has fired so far."""
    page.add_init_script(LISTEN)
    return lambda: page.evaluate("heard")


def test_end_of_a_session_is_told_once(service, visit, heard, slow):
    """What had failed or was cancelled keeps its reason when the session ends; the rest fails, each once."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(file("empty.wav", b""), file("bad.wav", HTML), file("off.wav", sound(400_000)))
    uploader.upload(3)
    uploader.press("Cancel off.wav")
    expect(uploader.row("bad.wav")).to_contain_text("not audio")
    slow.limit(-1)
    names = [f"late {number}.wav" for number in range(5)]
    uploader.choose(*(file(name, wav(seed=number)) for number, name in enumerate(names)))
    service.expire(session_id)
    uploader.press("Upload 5 files")
    expect(uploader.files.get_by_text("The link ran out before this file had arrived.")).to_have_count(5)
    expect(uploader.row("empty.wav")).to_contain_text("The file is empty.")
    expect(uploader.row("bad.wav")).to_contain_text("not audio")
    expect(uploader.row("off.wav")).to_contain_text("Cancelled")
    failed = [["file-failed", name] for name in ("bad.wav", "empty.wav", *names)]
    assert sorted(heard()) == failed
    for offer in ("Retry", "Upload again", "Try all"):
        expect(uploader.page.get_by_role("button", name=re.compile(f"^{offer}"))).to_have_count(0)


def test_complete_by_cancelling(service, visit, heard, slow):
    """Cancelling the last that is not there completes the rest; sending it after all completes it again."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(file("a.wav", wav()), file("b.wav", sound(800_000)))
    uploader.upload(2)
    arrived(uploader.row("a.wav"))
    uploader.press("Cancel b.wav")
    expect(uploader.status).to_have_text("All done: 1 file arrived.")
    assert heard() == [["file-uploaded", "a.wav"], ["session-complete", ["a.wav"]]]
    slow.limit(-1)
    uploader.press("Upload again b.wav")
    arrived(uploader.row("b.wav"))
    expect(uploader.status).to_have_text("All done: 2 files arrived.")
    assert heard()[2:] == [["file-uploaded", "b.wav"], ["session-complete", ["a.wav", "b.wav"]]]


def test_cover_that_is_gone(service, visit, bucket, page, tmp_path):
    """A picture that was deleted after it was chosen fails by itself; its track arrives, and the end says so."""
    session_id, picture = service.open_session(), tmp_path / "a.png"
    picture.write_bytes(png())
    uploader = visit(service, session_id)
    uploader.choose(file("a.wav", wav()))
    page.get_by_label("Cover of a.wav, none yet").set_input_files(picture)
    expect(page.get_by_label("Cover of a.wav: a.png")).to_be_attached()
    picture.unlink()
    uploader.upload()
    arrived(uploader.row("a.wav"))
    expect(uploader.row("a.wav")).to_contain_text("The cover: The file was changed or moved after it was chosen.")
    expect(uploader.batch).to_contain_text("It has arrived, without its cover")
    expect(uploader.batch).not_to_contain_text("Every file was checked")
    expect(uploader.status).to_have_text("All done: 1 file arrived, without its cover.")
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == wav()


@pytest.mark.parametrize("when", ["running", "done"])
def test_cover_that_comes_late(service, visit, bucket, slow, when):
    """A picture that is added while its track runs, or once it has arrived, becomes its cover all the same."""
    session_id, body = service.open_session(), sound(1_200_000)
    uploader = visit(service, session_id)
    uploader.choose(file("a.wav", body), file("b.wav", wav()))
    uploader.upload(2)
    expect(uploader.row("a.wav")).to_contain_text("left")
    if when == "done":
        slow.limit(-1)
        arrived(uploader.row("a.wav"))
    arrived(uploader.row("b.wav"))
    uploader.choose(*(file(f"{name}.png", png(), "image/png") for name in "axy"))
    expect(uploader.page.get_by_text("1 cover added. No track here takes it").first).to_be_visible()
    slow.limit(-1)
    arrived(uploader.row("a.wav"))

    def covers():
        found = {track["file_name"]: track["cover"] for track in service.tracks(session_id)}
        return found["a.wav"] and found["a.wav"]["status"] == "uploaded" and found

    wait_until(covers, "The cover never came.")
    assert covers()["b.wav"] is None
    assert bucket.get(covers()["a.wav"]["path"]) == png()


def test_two_covers_at_once(service, visit, bucket, page):
    """While a cover is on its way to a track that has arrived, no other one is taken, so that none is half there."""
    session_id = service.open_session()
    uploader, sent = visit(service, session_id), []
    page.on("request", lambda request: sent.append(request.method) if "X-Amz" not in request.url else None)
    uploader.choose(file("a.wav", wav()))
    uploader.upload()
    arrived(uploader.row("a.wav"))
    sent.clear()
    with page.expect_response(lambda answer: answer.url.endswith("/complete")):
        page.get_by_label("Cover of a.wav, none yet").evaluate(
            """(input, pictures) => {
              for (const picture of pictures) {
                const data = new DataTransfer();
                const bytes = Uint8Array.from(atob(picture), (c) => c.charCodeAt(0));
                data.items.add(new File([bytes], "cover.png", { type: "image/png" }));
                input.files = data.files;
                input.dispatchEvent(new Event("change"));
              }
            }""",
            [base64.b64encode(picture).decode() for picture in (png(), png(9, 9))],
        )
    expect(page.get_by_label("Cover of a.wav: cover.png")).to_be_disabled()
    (track,) = service.tracks(session_id)
    assert bucket.get(track["cover"]["path"]) == png()
    assert sent.count("POST") == 2
    expect(uploader.row("a.wav")).not_to_contain_text("The cover:")
