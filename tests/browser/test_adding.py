"""Files come into the page: dropped folders, what is skipped and why, covers, and what the session has room for."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from browser.helpers import expect_received, file_payload
from support.sample_files import jpeg, png, wav

LOCK = """
// Chromium does not name the class of folders.
const getAsEntry = DataTransferItem.prototype.webkitGetAsEntry;
DataTransferItem.prototype.webkitGetAsEntry = function () {
  const entry = getAsEntry.call(this);
  const folder = Object.getPrototypeOf(entry);
  const createReader = folder.createReader;
  folder.createReader = function () {
    if (!this.name.startsWith("locked")) return createReader.call(this);
    return { readEntries: (_, fail) => fail(new DOMException("locked", "NotReadableError")) };
  };
  return entry;
};
"""
SLOW_FILE = """
const slice = File.prototype.slice;
File.prototype.slice = function (...range) {
  const blob = slice.apply(this, range);
  if (this.name === "1.wav") {
    blob.arrayBuffer = async () => {
      await new Promise((resolve) => setTimeout(resolve, 500));
      return Blob.prototype.arrayBuffer.call(blob);
    };
  }
  return blob;
};
"""
DROP_ODD_ITEMS = """(body) => {
  const transfer = new DataTransfer();
  transfer.items.add("a title", "text/plain");
  transfer.items.add(new File([new Uint8Array(body)], "a.wav"));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
TIFF = b"II*\0\x08\0\0\0" + bytes(40)


@pytest.fixture
def tree(tmp_path):
    """Create files below a folder by their paths."""

    def make(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(wav(seed=len(path)))
        return tmp_path

    return make


def skipped(uploader):
    """Return the list of what was not added."""
    return uploader.page.get_by_role("region", name="Skipped")


def test_unreadable_folder_loses_nothing_else(service, visit, page, network, tree):
    """Of a drop, everything that can be read is added, and what cannot is named."""
    page.add_init_script(LOCK)
    root = tree("A/1.wav", "A/locked/2.wav", "A/B/3.wav", "C/4.wav", "locked too/5.wav")
    uploader = visit(service, service.open_session())
    network.drop(root / "A", root / "locked too", root / "C")
    expect(uploader.files.get_by_role("listitem")).to_have_count(3)
    expect(uploader.files).to_contain_text("A / B / 3.wav")
    expect(uploader.files).to_contain_text("C / 4.wav")
    expect(skipped(uploader).get_by_role("listitem")).to_have_text(
        ["A/locked This cannot be read.", "locked too This cannot be read."]
    )


def test_text_among_what_is_dropped_is_passed_over(service, visit, page, network, tree):
    """A text beside a folder, and files that a script made, change nothing of what is dropped."""
    root = tree("Album/1.wav", "Album/2.wav")
    uploader = visit(service, service.open_session())
    network.drop(root / "Album", text="a title")
    expect(uploader.files.get_by_role("listitem")).to_have_count(2)
    expect(uploader.files).to_contain_text("Album / 1.wav")
    page.evaluate(DROP_ODD_ITEMS, list(wav()))
    expect(uploader.files.get_by_role("listitem")).to_have_count(3)


def test_system_folders_are_not_entered(service, visit, network, tree, page):
    """Folders that systems hide are not entered, whether a folder is dropped or chosen."""
    names = (".Trashes", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX")
    root = tree("Album/1.wav", *(f"Album/{name}/deep/2.wav" for name in names))
    uploader = visit(service, service.open_session())
    network.drop(root / "Album")
    expect(uploader.row("Album / 1.wav")).to_be_visible()
    uploader.press("Remove all")
    page.locator("loadbay-uploader input[webkitdirectory]").set_input_files(root / "Album")
    expect(uploader.row("Album / 1.wav")).to_be_visible()
    expect(uploader.files.get_by_role("listitem")).to_have_count(1)
    expect(skipped(uploader)).to_be_hidden()


def test_what_is_not_audio_is_listed_until_it_is_dismissed(service, visit):
    """Playlists, texts and the like are listed in full with the reason, whatever the browser calls them."""
    uploader = visit(service, service.open_session())
    names = ["list.m3u", "album.cue", "notes.txt", "booklet.pdf", "rip.log"]
    files = [file_payload(name, b"#EXTM3U", "audio/x-mpegurl") for name in names]
    uploader.choose(*files, file_payload("empty.wav", b""), file_payload("a.wav", wav()))
    expect(uploader.files.get_by_role("listitem")).to_have_count(1)
    expect(skipped(uploader).get_by_role("heading")).to_have_text("Skipped: 6")
    for name in names:
        expect(skipped(uploader)).to_contain_text(f"{name} This is neither audio nor an image.")
    expect(skipped(uploader)).to_contain_text("empty.wav The file is empty.")
    uploader.choose(file_payload("more.nfo", b"x"), files[0])
    expect(skipped(uploader).get_by_role("heading")).to_have_text("Skipped: 7")
    uploader.press("Dismiss")
    expect(skipped(uploader)).to_be_hidden()


def test_files_are_added_in_turn(service, visit, page):
    """Files that take longer to read are added before those that were chosen after them: covers depend on it."""
    page.add_init_script(SLOW_FILE)
    uploader = visit(service, service.open_session())
    uploader.choose(file_payload("1.wav", wav(seed=1)))
    others = [file_payload(f"{number}.wav", wav(seed=number)) for number in (2, 3)]
    uploader.choose(*others, file_payload("1.png", png(), "image/png"))
    expect(uploader.files.get_by_role("listitem")).to_have_count(3)
    expect(uploader.row("1.wav").locator("img")).to_be_visible()
    expect(uploader.files.locator("li img:not([hidden])")).to_have_count(1)


def test_covers_are_judged_when_they_are_added(service, visit, bucket):
    """No image, or a damaged one, is skipped at once, with what to do; one that this browser cannot show is sent."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(
        file_payload("a.wav", wav()), file_payload("a.jpg", jpeg()[:20], "image/jpeg"),
        file_payload("b.wav", wav(seed=1)), file_payload("b.png", b"<html>", "image/png"),
        file_payload("c.wav", wav(seed=2)), file_payload("c.heic", HEIC, ""),
        file_payload("d.wav", wav(seed=3)), file_payload("d.jpg", png(), "image/jpeg"),
    )  # fmt: skip
    expect(skipped(uploader)).to_contain_text("a.jpg This image is damaged. Use another one, such as a JPEG or PNG.")
    expect(skipped(uploader)).to_contain_text("b.png This is not an image that can be a cover. Use a JPEG or PNG.")
    expect(uploader.page.get_by_text("4 files and 2 covers added.").first).to_be_visible()
    expect(uploader.row("c.wav").locator(".placeholder")).to_have_text("HEIC")
    expect(uploader.row("c.wav").locator("img")).to_be_hidden()
    expect(uploader.row("d.wav").locator("img")).to_be_visible()
    uploader.page.get_by_label("Add cover for b.wav").set_input_files(
        file_payload("mine.tif", b"II but no TIFF", "image/tiff")
    )
    expect(uploader.row("b.wav")).to_contain_text("Cover: This is not an image that can be a cover. Use a JPEG or PNG.")
    uploader.upload(4)
    expect(uploader.summary).to_contain_text("Done: 4 files received")
    covers = {track["file_name"]: track["cover"] for track in service.tracks(session_id)}
    assert bucket.get(covers["d.wav"]["path"]) == png()
    assert (covers["a.wav"], covers["b.wav"]) == (None, None)


def test_limits_are_said_before_they_are_met(service, visit):
    """Room for tracks and bytes is shown as files are added, and those beyond it are skipped with the reason."""
    session_id = service.open_session(max_tracks=2, max_bytes=10_000_000)
    uploader = visit(service, session_id)
    limits = uploader.page.locator(".limits")
    expect(limits).to_have_text("0 of 2 tracks, 10 MB left")
    uploader.choose(file_payload("big.wav", wav() + bytes(10_000_001)))
    expect(skipped(uploader)).to_contain_text("big.wav This is larger than the 10 MB that this upload has room for.")
    uploader.choose(
        *(file_payload(f"{name}.wav", wav() + bytes(4_000_000)) for name in "ab"), file_payload("c.wav", wav())
    )
    expect(limits).to_have_text("2 of 2 tracks, 2 MB left")
    expect(skipped(uploader)).to_contain_text("c.wav There is not enough room left for this file.")
    uploader.press("Remove a.wav")
    expect(limits).to_have_text("1 of 2 tracks, 6 MB left")
    uploader.upload()
    expect_received(uploader.row("b.wav"))
    uploader.choose(file_payload("c.wav", wav()))
    uploader.upload()
    expect_received(uploader.row("c.wav"))
    expect(limits).to_have_text("2 of 2 tracks, 6 MB left")


@pytest.mark.parametrize("name", ["x" * 249 + "🎵🎵🎵🎵🎵🎵.wav", "🎵" * 300 + ".wav", "cut \ud83c.wav"])
def test_long_names_with_emoji_arrive(service, visit, page, name):
    """A name that is too long is not cut within a character, and halves of characters are replaced."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    add = "(element, [name, body]) => element.addFiles([new File([new Uint8Array(body)], name)])"
    page.locator("loadbay-uploader").evaluate(add, [name, list(wav())])
    uploader.upload()
    expect_received(uploader.files.get_by_role("listitem").first)
    (track,) = service.tracks(session_id)
    assert track["file_name"].endswith(".wav")
    assert len(track["file_name"]) == min(len(name), 255)
