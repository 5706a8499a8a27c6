"""Titles, numbers and discs of tracks: from the tags in a file, else from its name and the others of its folder."""

from __future__ import annotations

import base64
import struct

import pytest
from playwright.sync_api import expect

from browser.helpers import expect_received, file_payload
from storage.formats.audio import identify, open_reader
from support import audio_samples
from support.audio_samples import id3
from support.sample_files import wav

# Names of a folder's files, with the title, number and disc of each.
FOLDERS = [
    {"7 Rings.wav": ("7 Rings", None, None)},
    {"99 Problems.mp3": ("99 Problems", None, None)},
    {"50 Cent Song.mp3": ("50 Cent Song", None, None)},
    {"101 Dalmatians.mp3": ("101 Dalmatians", None, None)},
    {"50-Cent.wav": ("50 Cent", None, None)},
    {"808 - Drums.wav": ("808 - Drums", None, None)},
    {"7-11 Store.mp3": ("7-11 Store", None, None)},
    {"24-7 People.mp3": ("24-7 People", None, None)},
    {"01.02.2024 Session.wav": ("01.02.2024 Session", None, None)},
    {"Blink-182 - What.mp3": ("Blink-182 - What", None, None)},
    {"[03] X.wav": ("X", 3, None)},
    {"(3) X.wav": ("X", 3, None)},
    {"Artist - 03 - Song.wav": ("Song", 3, None)},
    {"Artist - Album - 03 Song.wav": ("Song", 3, None)},
    {"Blink 182 - 03 - What.mp3": ("What", 3, None)},
    {"1-01 X.wav": ("X", 1, 1)},
    {"CD 2 - 03 - Song.wav": ("Song", 3, 2)},
    {"2-03-Second-Song.wav": ("Second Song", 3, 2)},
    {"01 - 99 Problems.mp3": ("99 Problems", 1, None)},
    {"01 7 Rings.mp3": ("7 Rings", 1, None)},
    {"7 Rings.wav": ("7 Rings", None, None), "8 Mile.wav": ("8 Mile", None, None)},
    {"1 A.wav": ("1 A", None, None), "7 Rings.wav": ("7 Rings", None, None)},
    {"01 A.wav": ("A", 1, None), "99 Problems.wav": ("99 Problems", None, None)},
    {"1 One.wav": ("One", 1, None), "2 Two.wav": ("Two", 2, None), "3 Three.wav": ("Three", 3, None)},
    {"09 X.wav": ("X", 9, None), "10 Y.wav": ("Y", 10, None)},
    {"A1 X.wav": ("X", 1, None), "A2 Y.wav": ("Y", 2, None), "B1 Z.wav": ("Z", 3, None)},
    {"A1 X.wav": ("X", 1, None)},
    {"B2 Bomber.wav": ("B2 Bomber", None, None)},
    {"101 A.wav": ("A", 1, 1), "102 B.wav": ("B", 2, 1), "201 C.wav": ("C", 1, 2), "202 D.wav": ("D", 2, 2)},
    {"1-01 A.wav": ("A", 1, 1), "1-12 B.wav": ("B", 12, 1), "2-01 C.wav": ("C", 1, 2)},
]


@pytest.fixture
def evaluate(service, page):
    """Run a function in a page of the service."""
    page.goto(f"{service.base}/u/{service.open_session()}")
    return page.evaluate


def text_frame(name, value, encoding=3):
    """Return an ID3v2.3 text frame."""
    codec = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}[encoding]
    body = bytes([encoding]) + value.encode(codec)
    return name.encode() + struct.pack(">IH", len(body), 0) + body


def tagged(title, number=None, disc=None, encoding=1):
    """Return a WAV with an ID3v2 chunk."""
    frames = text_frame("TIT2", title, encoding)
    frames += text_frame("TRCK", number, 0) if number else b""
    frames += text_frame("TPOS", disc, 0) if disc else b""
    tag = id3(len(frames) + 10, frames)
    body = wav() + b"id3 " + struct.pack("<I", len(tag)) + tag + bytes(len(tag) % 2)
    return body[:4] + struct.pack("<I", len(body) - 8) + body[8:]


def test_folders_are_read_as_a_person_reads_them(evaluate):
    """Titles, numbers and discs are guessed from the names of a folder: a number counts if it is clearly one."""
    call = """async (folders) => {
      const { guessTitles } = await import("/loadbay/track-names.js");
      return folders.map((names) => guessTitles(names.map((name) => ({ name, folder: "" }))));
    }"""
    guessed = evaluate(call, [list(folder) for folder in FOLDERS])
    read = [
        {name: (item["title"], item["number"], item["disc"]) for name, item in zip(folder, items, strict=True)}
        for folder, items in zip(FOLDERS, guessed, strict=True)
    ]
    assert read == FOLDERS


READ_TAGS = """async (files) => {
  const { readTags } = await import("/loadbay/audio-tags.js");
  const bytes = (data) => Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  return Promise.all(files.map((data) => readTags(new Blob([bytes(data)]))));
}"""


def test_tags_are_those_that_the_service_reads(evaluate):
    """Of every sample that the page reads, title, number and disc are what the service reads."""
    samples = audio_samples.audio()
    read = evaluate(READ_TAGS, [base64.b64encode(body).decode() for body in samples.values()])
    compared = 0
    for (name, body), tags in zip(samples.items(), read, strict=True):
        known = identify(open_reader(None, body, len(body)), name).facts.tags
        keys = {"title": "title", "number": "track_number", "disc": "disc_number"}
        assert not tags or tags == {key: known[name] for key, name in keys.items() if name in known}, name
        compared += bool(tags)
    assert compared > 25


@pytest.mark.parametrize(
    ("body", "tags"),
    [
        (tagged("Ünï 🎵", "3/12", "2/2"), {"title": "Ünï 🎵", "number": 3, "disc": 2}),
        (tagged("Größe", encoding=0), {"title": "Größe"}),
        (
            id3(600_000, text_frame("APIC", "x" * 400_000) + text_frame("TIT2", "Behind a picture")),
            {"title": "Behind a picture"},
        ),
        (id3(60, text_frame("TIT2", "a\u202eb\n\0c")), {"title": "ab"}),
        (id3(60, text_frame("TRCK", "99999")), {}),
        (id3(20, b"TIT2\xff\xff\xff\xff\0\0\x03"), {}),
        (b"fLaC\x84\xff\xff\xff" + b"\xff" * 40, {}),
        (b"OggS" + b"\xff" * 200, {}),
        (struct.pack(">I", 8) + b"ftyp" + struct.pack(">I4s", 0, b"moov") + bytes(40), {}),
        (b"RIFF\0\0\0\0WAVELIST\xff\xff\xff\xffINFOINAM\xff\xff\xff\xffx", {"title": "x"}),
        (b"", {}),
    ],
)
def test_odd_tags_are_read_or_passed_over(evaluate, body, tags):
    """Encodings, large pictures and damaged tags: what can be read is read, and nothing fails."""
    assert evaluate(READ_TAGS, [base64.b64encode(body).decode()]) == [tags]


def test_tags_go_before_names_and_reach_the_service(service, visit):
    """Two discs in one folder are two: title, number and disc are shown, can be edited, and are registered."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(
        file_payload("x.wav", tagged("Eins", "1", "1/2")),
        file_payload("01 y.wav", tagged("Uno", "1", "2/2")),
        file_payload("03 z.wav", wav()),
    )
    number = uploader.page.get_by_label("Track number for 01 y.wav")
    expect(number).to_have_value("2-01")
    expect(uploader.page.get_by_label("Title for x.wav")).to_have_value("Eins")
    uploader.page.get_by_label("Track number for 03 z.wav").fill("2-02")
    uploader.upload(3)
    for name in ("x.wav", "01 y.wav", "03 z.wav"):
        expect_received(uploader.row(name))
    metadata = {track["file_name"]: track["metadata"] for track in service.tracks(session_id)}
    assert metadata == {
        "x.wav": {"title": "Eins", "track_number": 1, "disc_number": 1},
        "01 y.wav": {"title": "Uno", "track_number": 1, "disc_number": 2},
        "03 z.wav": {"title": "z", "track_number": 2, "disc_number": 2},
    }


def test_title_of_a_whole_folder_is_none(service, visit):
    """A title that several files of a folder have in their tags, as a project's name, is not used."""
    uploader = visit(service, service.open_session())
    uploader.choose(file_payload("Bass.wav", tagged("Mix 3")), file_payload("Drums.wav", tagged("Mix 3")))
    for name in ("Bass", "Drums"):
        expect(uploader.page.get_by_label(f"Title for {name}.wav")).to_have_value(name)
