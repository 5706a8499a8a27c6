"""Audio samples of our own making (dev/audio_samples.py), and files that are no audio."""

from __future__ import annotations

import binascii
import bz2
import gzip
import io
import json
import lzma
import random
import sqlite3
import struct
import tarfile
import zipfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from support.sample_files import HTML, png

ARCHIVE = Path(__file__).with_name("audio_samples.tar.xz")
VIDEO = "video"
"""What the names of videos begin with."""


@cache
def archive() -> dict[str, bytes]:
    """Return the files of the archive by their names."""
    with tarfile.open(ARCHIVE) as packed:
        return {item.name: packed.extractfile(item).read() for item in packed.getmembers()}


def audio() -> dict[str, bytes]:
    """Return the audio files of the archive."""
    return {name: body for name, body in archive().items() if not name.startswith((VIDEO, "ffprobe"))}


def videos() -> dict[str, bytes]:
    """Return the videos of the archive."""
    return {name: body for name, body in archive().items() if name.startswith(VIDEO)}


def probed() -> dict[str, dict[str, Any]]:
    """Return what ffprobe says of each file of the archive."""
    return json.loads(archive()["ffprobe.json"])


def noise(size: int, seed: int = 1) -> bytes:
    """Return random bytes, the same ones at each call."""
    return random.Random(seed).randbytes(size)


def id3(size: int, frames: bytes = b"", version: int = 3) -> bytes:
    """Return an ID3v2 tag of `size` bytes in all."""
    count = size - 10
    length = bytes(count >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([version, 0, 0]) + length + frames.ljust(count, b"\0")


def _zip(name: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(name, "text")
    return packed.getvalue()


def _tar() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        item = tarfile.TarInfo("a.mp3")
        item.size = 5
        file.addfile(item, io.BytesIO(b"hello"))
    return packed.getvalue()


def _sqlite() -> bytes:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE a (b)")
        return database.serialize()


def _box(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


TEXT = "A letter: not a song, though it has a few lines.\n" * 40
OTHERS: dict[str, bytes] = {
    "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer<<>>\n%%EOF\n",
    "pdf behind blanks": b" " * 700 + b"%PDF-1.4\n%%EOF\n",
    "html": HTML,
    "html behind a bom": b"\xef\xbb\xbf\r\n" + HTML,
    "html behind a comment": b"<!-- saved -->\n" + HTML,
    "html behind an ID3 tag": id3(40) + HTML,
    "html and then noise": HTML + noise(60_000),
    "error page of a proxy": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "json": json.dumps({"ok": False, "message": "not found"}).encode(),
    "text": TEXT.encode(),
    "text in UTF-16": TEXT.encode("utf-16"),
    "text in UTF-16 without a mark": TEXT.encode("utf-16-be"),
    "text in Latin-1": ("Größe: nicht groß genug für Änderungen\n" * 40).encode("latin-1"),
    "text in Japanese": ("これは音楽ではありません。\n" * 60).encode(),
    "text that begins as a signature does": b"MAC addresses\nRIFF is a word\nFORM\nfLaC\n" * 20,
    "playlist": b"#EXTM3U\n#EXTINF:1,x\nhttp://example.com/a.mp3\n",
    "cue sheet": b'FILE "a.wav" WAVE\r\n  TRACK 01 AUDIO\r\n    INDEX 01 00:00:00\r\n' * 3,
    "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n",
    "script": b"#!/bin/sh\nexec true\n",
    "windows script": b"@echo off\r\npause\r\n" * 20,
    "python": b'"""A module."""\nimport os\n' * 20,
    "python, compiled": b"\xa7\r\r\n" + bytes(12) + b"\xe3" + noise(900),
    "zip": _zip("a.txt"),
    "document": _zip("word/document.xml"),
    "zip, empty": b"PK\5\6" + bytes(18),
    "zip of an album": _zip("a.mp3") + noise(100_000),
    "gzip": gzip.compress(noise(4000)),
    "bzip2": bz2.compress(noise(4000)),
    "xz": lzma.compress(noise(4000)),
    "zstandard": b"\x28\xb5\x2f\xfd" + noise(3000),
    "7z": b"7z\xbc\xaf\x27\x1c\0\4" + noise(3000),
    "rar": b"Rar!\x1a\7\1\0" + noise(3000),
    "tar": _tar(),
    "encrypted": noise(150_000),
    "encrypted, short": noise(300),
    "program for Windows": b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + noise(8000),
    "program for DOS": b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff" + noise(3000),
    "program for Linux": b"\x7fELF\x02\x01\x01" + bytes(9) + noise(9000),
    "program for macOS": b"\xcf\xfa\xed\xfe\7\0\0\1" + noise(9000),
    "class": b"\xca\xfe\xba\xbe\0\0\0\x34" + noise(2000),
    "web assembly": b"\0asm\1\0\0\0",
    "flash": b"FWS\5" + struct.pack("<I", 5000) + noise(5000),
    "sqlite": _sqlite(),
    "ole document": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + noise(2000),
    "apple double": b"\0\5\x16\7\0\2\0\0Mac OS X        \0\2" + bytes(100),
    "folder settings": b"\0\0\0\1Bud1" + bytes(4) + noise(4000),
    "shortcut": b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F" + bytes(200),
    "property list": b"bplist00" + noise(400),
    "torrent": b"d8:announce20:http://x/announce e",
    "disc image": bytes(0x8000) + b"\1CD001\1" + noise(5000),
    "zeros": bytes(5000),
    "zeros, many": bytes(300_000),
    "ones": b"\xff" * 100_000,
    "repeated": b"\xdd" * 100_000,
    "counting": bytes(range(256)) * 400,
    "png": png(),
    "png with much in it": png() + noise(70_000),
    "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + noise(50_000),
    "gif": b"GIF89a\1\0\1\0\0\0\0;",
    "webp": b"RIFF" + struct.pack("<I", 1000) + b"WEBPVP8 " + noise(1000),
    "avif": _box(b"ftyp", b"avif\0\0\0\0avifmif1miaf") + _box(b"meta", bytes(60)),
    "heic": _box(b"ftyp", b"heic\0\0\0\0mif1heic") + _box(b"meta", bytes(60)),
    "tiff": b"II*\0\x08\0\0\0" + noise(500),
    "photoshop": b"8BPS\0\1" + noise(500),
    "bitmap": b"BM" + struct.pack("<IHHI", 3126, 0, 0, 54) + noise(3112),
    "font": b"\0\1\0\0\0\x10\1\0\0\4\0\0" + noise(3000),
    "cursor that moves": b"RIFF\x24\0\0\0ACONanih" + bytes(60),
    "track of a disc": b"RIFF\x24\0\0\0CDDAfmt \x18\0\0\0" + bytes(24),
    "mp4 without tracks": _box(b"ftyp", b"isom\0\0\2\0isom") + _box(b"free") + _box(b"mdat", noise(5000)),
    "wav without a format": b"RIFF" + struct.pack("<I", 5000) + b"WAVEdata" + struct.pack("<I", 4980) + noise(4980),
    "wav of text": b"RIFF" + struct.pack("<I", 2000) + b"WAVE" + TEXT.encode()[:1996],
    "flac of text": b"fLaC" + TEXT.encode(),
    "ogg of text": b"OggS\0" + TEXT.encode(),
    "id3 of nothing": id3(400),
    "id3 and noise": id3(400) + noise(40_000),
    "email": b"From: a@example.com\r\nSubject: hello\r\n\r\nHello\r\n",
    "certificate": b"-----BEGIN CERTIFICATE-----\n" + b"MIIB" * 300 + b"\n-----END CERTIFICATE-----\n",
    "postscript": b"%!PS-Adobe-3.0\n" + b"showpage\n" * 100,
    "parquet": b"PAR1" + noise(2000) + b"PAR1",
    "blanks": b" " * 3000,
    "CAF of noise": b"caff\0\1\0\0" + noise(3000),
    "ASF of noise": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + noise(3000),
    "Matroska of noise": bytes.fromhex("1a45dfa3934286810142f7810142f281044282886d6174726f736b61") + noise(3000),
    "EBML of another kind": b"\x1aE\xdf\xa3\x87\x42\x82\x84abcd" + noise(3000),
    "pickle": b"\x80\4\x95" + noise(3000),
    "virtual disk": b"QFI\xfb\0\0\0\3" + noise(4000),
    "letters for DOS": b"\xdb\xdb\xb2\xb1\xb0 RELEASE \xb0\xb1\xb2\xdb\r\n" * 40,
    "text in Shift JIS": ("曲名は秘密です。これは長い文章です。\r\n" * 20).encode("shift-jis"),
    "base64": binascii.b2a_base64(noise(3000)),
    "pcap": b"\xd4\xc3\xb2\xa1\2\0\4\0" + noise(2000),
}
"""Files that are no audio, by what they are."""
