"""The rules for files that the client and the upload page share: one table, read by both."""

from __future__ import annotations

import json

import pytest

from dev.docs import FILE_RULES, FILE_RULES_SCRIPT, file_rules_script
from loadbay_client.files import RULES, discover, match_covers, split_extension, upload_name
from loadbay_client.registration import MIB, usual_part_size
from schemas.fields import FileName
from schemas.rules import CONTAINERS, COVER_TYPES
from schemas.tracks import MAX_PARTS, MIN_PART_BYTES
from support.sample_files import flac, png, wav

pytestmark = pytest.mark.sqlite


def test_page_and_client_have_the_same_table():
    """The page's module holds the client's table, as `python -m dev.docs` writes it."""
    script = FILE_RULES_SCRIPT.read_text()
    assert script == file_rules_script(script)
    assert json.loads(script.partition("export const FILE_RULES = ")[2].removesuffix(";\n")) == RULES
    assert json.loads(FILE_RULES.read_text()) == RULES


def test_table_agrees_with_the_service():
    """Containers, types of covers, sizes of parts and lengths of names are those that the service accepts."""
    assert {name for audio in RULES["audio"].values() for name in audio["containers"]} <= set(CONTAINERS)
    assert set(RULES["pictures"].values()) == set(COVER_TYPES)
    parts = RULES["parts"]
    assert (parts["smallest"], parts["most"]) == (MIN_PART_BYTES, MAX_PARTS)
    assert parts["threshold"] == 8 * MIB
    assert RULES["maxName"] == FileName.json_schema["maxLength"]


@pytest.mark.parametrize(
    ("size", "expected"), [(8 * MIB, 5 * MIB), (500 * MIB, 8 * MIB), (5000 * MIB, 16 * MIB), (2**39, 53 * MIB)]
)
def test_parts_are_small_and_not_too_many(size, expected):
    """Parts of a song are small, so that a pause loses little, and no file has more than the service accepts."""
    assert usual_part_size(size) == expected
    assert -(-size // expected) <= MAX_PARTS


def test_names_are_made_acceptable():
    """Forbidden characters are replaced, and a name that is too long keeps its extension."""
    assert upload_name("a/b\u202e\n.wav") == "a_b__.wav"
    assert upload_name("\U0001f3b5" * 300 + ".wav") == "\U0001f3b5" * 251 + ".wav"
    assert [split_extension(name) for name in ("a.B", ".a", "a.", "a")] == [
        ("a", "b"), (".a", ""), ("a", ""), ("a", ""),
    ]  # fmt: skip


def test_folders_give_tracks_covers_and_the_rest(tmp_path):
    """Audio is known by extension or first bytes; system folders are not entered, and what is left out is named."""
    files = {
        "01.flac": flac(), "no ending": wav(), "notes.txt": b"x", "list.m3u8": b"#EXTM3U", "a.wav.part": wav(),
        "artwork.jpg": png(), "back.png": png(), "@eaDir/01.flac": flac(), "__MACOSX/._01.flac": b"x", "~$a.doc": b"x",
    }  # fmt: skip
    for name, body in files.items():
        (tmp_path / "album" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "album" / name).write_bytes(body)
    discovered = discover([tmp_path / "album"])
    assert [(file.path.name, file.cover and file.cover.name) for file in discovered.files] == [
        ("01.flac", "artwork.jpg"), ("no ending", "artwork.jpg"),
    ]  # fmt: skip
    assert [path.name for path in discovered.unused_pictures] == ["back.png"]
    assert [path.name for path in discovered.skipped] == ["a.wav.part", "list.m3u8", "notes.txt"]
    named = discover([tmp_path / "album" / "notes.txt"])
    assert [file.path.name for file in named.files] == ["notes.txt"]


def test_cover_of_a_stem_is_the_one_that_every_browser_shows(tmp_path):
    """Of two pictures with one stem, the more common type is chosen, whatever their order."""
    track, pictures = tmp_path / "a.wav", [tmp_path / "cover.heic", tmp_path / "Cover.JPG"]
    assert match_covers([track], pictures) == match_covers([track], reversed(pictures)) == {track: pictures[1]}
