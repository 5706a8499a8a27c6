"""The same folders on the page and by the command: the same tracks, covers, names and parts."""

from __future__ import annotations

import unicodedata

import pytest

from loadbay_client.files import RULES, discover, upload_name
from loadbay_client.registration import MIB, usual_part_size
from support.sample_files import flac, jpeg, png, wav

SORT = """
async (files) => {
  const { classifyFile, isIgnoredFolder, matchCovers } = await import("/loadbay/file-names.js");
  const named = [];
  for (const { path, bytes } of files) {
    const folders = path.split("/").slice(0, -1);
    if (folders.slice(1).some(isIgnoredFolder)) continue;
    const file = new File([new Uint8Array(bytes)], path.split("/").at(-1));
    named.push({ path, name: file.name, folder: folders.join("/"), kind: await classifyFile(file) });
  }
  const pick = (kind) => named.filter((file) => file.kind === kind);
  const { covers, unmatched } = matchCovers(pick("track"), pick("image"));
  return {
    tracks: pick("track").map((file) => [file.path, covers.get(file)?.path ?? null]),
    unused: unmatched.map((file) => file.path),
    skipped: pick("other").map((file) => file.path),
  };
}
"""
COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "01 Für Elise") for form in ("NFC", "NFD"))
FOLDERS = {
    "nfd": {f"{COMPOSED}.flac": flac(), f"{DECOMPOSED}.jpg": jpeg()},
    "case": {"01 SONG.FLAC": flac(), "01 song.PNG": png(), "Cover.JPG": jpeg(), "02.flac": flac()},
    "usual names": {"a.wav": wav(), "artwork.png": png(), "scan.png": png(), "Front.jpg": jpeg(), "album.gif": b"GIF8"},
    "one picture": {"a.wav": wav(), "b.wav": wav(), "b.png": png(), "whatever.jpg": jpeg()},
    "many pictures": {"a.wav": wav(), "1.jpg": jpeg(), "2.jpg": jpeg()},
    "twins": {
        "a.wav": wav(), "cover.heic": b"x", "COVER.png": png(), "cover.jpg": jpeg(), "a.tiff": b"x", "a.JPEG": b"x",
    },
    "ripper": {
        "01.flac": flac(), "album.cue": b"x", "rip.log": b"x", "album.m3u8": b"#EXTM3U", "booklet.pdf": b"%PDF-1.7",
        "album.nfo": b"x", "01.lrc": b"x", "Folder.jpg": jpeg(), "AlbumArtSmall.jpg": jpeg(), "cover.bmp": b"BM",
    },
    "litter": {
        "01.flac": flac(), ".DS_Store": b"x", "._01.flac": b"x", "Thumbs.db": b"x", "desktop.ini": b"x", "Icon\r": b"x",
        "~$notes.docx": b"x", "__MACOSX/01.flac": flac(), "@eaDir/01.flac/SYNOAUDIO_01APIC_03.jpg": jpeg(),
        "#recycle/old.flac": flac(), "$RECYCLE.BIN/x.flac": flac(), "System Volume Information/x.flac": flac(),
        ".Trashes/x.flac": flac(), "lost+found/x.flac": flac(), "02.flac.part": flac(), "03.flac.crdownload": flac(),
    },
    "no endings": {"AIFF": b"FORM\0\0\0\0AIFF", "WAVE": wav(), "README": b"RIFF is a word", "utf-16": b"\xff\xfea\0"},
    "odd endings": {"a.": wav(), ".flac": flac(), "a.b.c.Wav": wav(), "a .wav": wav(), "take.wav.gz": b"\x1f\x8b"},
}  # fmt: skip


@pytest.fixture
def evaluate(service, page):
    """Run a function in a page of the service."""
    page.goto(f"{service.base}/u/{service.open_session()}")
    return page.evaluate


def test_folders_give_the_same_on_the_page_and_by_the_command(evaluate, tmp_path):
    """Tracks, their covers, unused pictures and skipped files of each folder are the same on both sides."""
    files = {f"{folder}/{name}": body for folder, names in FOLDERS.items() for name, body in names.items()}
    for path, body in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(body)
    discovered = discover([tmp_path / folder for folder in FOLDERS])
    page = evaluate(SORT, [{"path": path, "bytes": list(body)} for path, body in files.items()])

    def relative(path):
        return path and path.relative_to(tmp_path).as_posix()

    assert discovered.unreadable == []
    assert dict(page["tracks"]) == {relative(file.path): relative(file.cover) for file in discovered.files}
    assert sorted(page["unused"]) == sorted(map(relative, discovered.unused_pictures))
    assert sorted(page["skipped"]) == sorted(map(relative, discovered.skipped))
    covers = dict(page["tracks"])
    assert covers["nfd/" + COMPOSED + ".flac"] == f"nfd/{DECOMPOSED}.jpg"
    assert covers["twins/a.wav"] == "twins/a.JPEG"
    assert covers["usual names/a.wav"] == "usual names/Front.jpg"


def test_names_and_parts_are_the_same_on_the_page_and_by_the_command(evaluate):
    """A file gets the same name, and is sent in parts of the same size, on both sides."""
    names = ["a/b\u202e\n\t.wav", "x" * 300 + ".wav", "\U0001f3b5" * 300 + ".flac", "y" * 255, "z." + "e" * 300]
    sizes = [8 * MIB, 320 * MIB, 321 * MIB, 1024 * MIB, 2**37, 2**40, 5 * 2**40]
    call = """async ([names, sizes]) => {
      const { uploadName, partSize, needsParts } = await import("/loadbay/file-names.js");
      return [names.map(uploadName), sizes.map((size) => partSize(size)), sizes.map((size) => needsParts(size - 1))];
    }"""
    page_names, page_sizes, page_parts = evaluate(call, [names, sizes])
    assert page_names == [upload_name(name) for name in names]
    assert page_sizes == [usual_part_size(size) for size in sizes]
    assert page_parts == [size - 1 >= RULES["parts"]["threshold"] for size in sizes]


def test_the_same_responses_are_retried_on_the_page(evaluate):
    """The page retries exactly the statuses of the table, as the client does."""
    call = """async (statuses) => {
      const { ServiceError } = await import("/loadbay/errors.js");
      return statuses.filter((status) => new ServiceError(status, {}, 0).retryable);
    }"""
    assert evaluate(call, list(range(400, 600))) == sorted(RULES["retry"]["service"])
