"""Signatures: files that are certainly no audio, and audio of which no more is read than its name."""

from __future__ import annotations

import re

from storage.formats.media import Media
from storage.formats.ranged import RangedReader

TEXT_BYTES = 4096
"""Bytes from which text is recognized."""

OTHER = (
    (0, b"%PDF-", "application/pdf"), (0, b"PK\3\4", "application/zip"), (0, b"PK\5\6", "application/zip"),
    (0, b"PK\7\x08", "application/zip"), (0, b"\x1f\x8b\x08", "application/gzip"), (0, b"BZh", "application/x-bzip2"),
    (0, b"\xfd7zXZ\0", "application/x-xz"), (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\7", "application/vnd.rar"), (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (0, b"\x04\x22\x4d\x18", "application/x-lz4"), (0, b"LZIP", "application/x-lzip"),
    (0, b"MSCF\0\0\0\0", "application/vnd.ms-cab-compressed"), (257, b"ustar", "application/x-tar"),
    (0, b"!<arch>\n", "application/x-archive"), (0, b"\xed\xab\xee\xdb", "application/x-rpm"),
    (0, b"xar!", "application/x-xar"), (0, b"hsqs", "application/x-squashfs"), (0, b"\x7fELF", "application/x-elf"),
    (0, b"\xce\xfa\xed\xfe", "application/x-mach-binary"), (0, b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
    (0, b"\xfe\xed\xfa\xce", "application/x-mach-binary"), (0, b"\xfe\xed\xfa\xcf", "application/x-mach-binary"),
    (0, b"\xca\xfe\xba\xbe", "application/java-vm"), (0, b"\0asm\1\0\0\0", "application/wasm"),
    (0, b"dex\n0", "application/x-dex"), (0, b"L\0\0\0\1\x14\2\0", "application/x-ms-shortcut"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (0, b"SQLite format 3\0", "application/vnd.sqlite3"), (0, b"\0\5\x16\7\0", "application/applefile"),
    (0, b"\0\5\x16\0\0", "application/applefile"), (0, b"\0\0\0\1Bud1", "application/x-ds-store"),
    (0x8001, b"CD001", "application/x-iso9660-image"), (0, b"\xd4\xc3\xb2\xa1", "application/vnd.tcpdump.pcap"),
    (0, b"\x0a\x0d\x0d\x0a", "application/x-pcapng"), (0, b"bplist00", "application/x-bplist"),
    (0, b"\x89HDF\r\n\x1a\n", "application/x-hdf5"), (0, b"\x93NUMPY", "application/x-numpy"),
    (0, b"PAR1", "application/vnd.apache.parquet"), (0, b"GGUF", "application/x-gguf"),
    (0, b"LUKS\xba\xbe", "application/x-luks"), (0, b"QFI\xfb", "application/x-qemu-disk"),
    (0, b"OTTO\0", "font/otf"), (0, b"wOFF", "font/woff"), (0, b"wOF2", "font/woff2"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"), (0, b"\xff\xd8\xff", "image/jpeg"), (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"), (0, b"II*\0", "image/tiff"), (0, b"MM\0*", "image/tiff"),
    (0, b"II+\0", "image/tiff"), (0, b"MM\0+", "image/tiff"), (0, b"8BPS\0", "image/vnd.adobe.photoshop"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"), (0, b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (0, b"gimp xcf ", "image/x-xcf"), (0, b"\x76\x2f\x31\x01", "image/x-exr"), (0, b"DDS ", "image/vnd.ms-dds"),
    (0, b"AT&TFORM", "image/vnd.djvu"), (0, b"\xc5\xd0\xd3\xc6", "application/postscript"),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", "application/mxf"),
)  # fmt: skip
"""Offset, signature and media type."""

TEXTS = (
    (rb"%PDF-", "application/pdf"),
    (rb"<!doctype html|<html|<head|<body|<title|<script|<br ?/?>\s*<b>|<div|<table|<iframe|<h1", "text/html"),
    (rb"<\?php|<\?=", "application/x-php"),
    (rb"<svg|<\?xml[^>]{0,200}>\s*(?:<!--.{0,500}-->\s*)?<!doctype svg|<\?xml[^>]{0,200}>\s*<svg", "image/svg+xml"),
    (rb"<!--.{0,2000}-->\s*<(?:!doctype )?html", "text/html"),
    (rb"<\?xml", "application/xml"),
    (rb"\{\\rtf", "application/rtf"),
    (rb"%!PS", "application/postscript"),
    (rb"#!\s*/", "text/x-shellscript"),
    (rb"#EXTM3U", "application/vnd.apple.mpegurl"),
    (rb"\[playlist\]", "audio/x-scpls"),
    (rb"[{\[]\s*[\"{\[]", "application/json"),
    (rb"d\d{1,3}:[a-z]", "application/x-bittorrent"),
    (rb"-----BEGIN ", "application/x-pem-file"),
)
"""Beginnings of text files, after blanks and a byte order mark, in any case of letters."""

AUDIO = (
    (0, b"MThd\0\0\0\6", "audio/midi", "midi"), (0, b"Extended Module: ", "audio/x-xm", "xm"),
    (0, b"IMPM", "audio/x-it", "it"), (44, b"SCRM", "audio/x-s3m", "s3m"), (1080, b"M.K.", "audio/x-mod", "mod"),
    (1080, b"M!K!", "audio/x-mod", "mod"), (1080, b"FLT4", "audio/x-mod", "mod"),
    (1080, b"FLT8", "audio/x-mod", "mod"), (1080, b"4CHN", "audio/x-mod", "mod"),
    (1080, b"6CHN", "audio/x-mod", "mod"), (1080, b"8CHN", "audio/x-mod", "mod"),
    (0, b"MTM\x10", "audio/x-mtm", "mtm"), (0, b"MMD0", "audio/x-med", "med"), (0, b"MMD1", "audio/x-med", "med"),
    (0, b"OKTASONG", "audio/x-okt", "okt"), (0, b"PSID\0", "audio/prs.sid", "sid"),
    (0, b"RSID\0", "audio/prs.sid", "sid"), (0, b"NESM\x1a", "audio/x-nsf", "nsf"),
    (0, b"SNES-SPC700 Sound File Data", "audio/x-spc", "spc"), (0, b"Vgm ", "audio/x-vgm", "vgm"),
    (0, b"MMMD", "application/vnd.smaf", "smaf"), (0, b"TWIN97012000", "audio/x-twinvq", "vqf"),
    (0, b"ea3\3", "audio/x-atrac", "oma"), (0, b"EA3\1", "audio/x-atrac", "oma"),
    (4, b"\x57\x90\x75\x36", "audio/x-pn-audibleaudio", "aa"), (0, b"VAGp", "audio/x-vag", "vag"),
    (0, b"FSB5", "audio/x-fsb", "fsb"), (0, b"RSTM\xfe\xff", "audio/x-brstm", "brstm"),
    (0, b"CSTM\xff\xfe", "audio/x-bcstm", "bcstm"), (0, b"BKHD", "audio/x-wwise-bank", "bnk"),
    (0, b"DTSHDHDR", "audio/vnd.dts.hd", "dtshd"), (0, b"\x72\xf8\x1f\x4e", "audio/x-iec61937", "spdif"),
    (0, b"LA04", "audio/x-la", "la"), (0, b"\x64\x58\x20\x25", "audio/vnd.dts.hd", "dts"),
    (0, b"\x1f\xff\xe8\x00", "audio/vnd.dts", "dts"), (0, b"\xff\x1f\x00\xe8", "audio/vnd.dts", "dts"),
    (0, b"#!SILK_V3", "audio/x-silk", "silk"), (0, b"\2#!SILK_V3", "audio/x-silk", "silk"),
    (0, b"#!EVRC\n", "audio/EVRC", "evrc"), (0, b"#!SMV\n", "audio/SMV", "smv"),
    (0, b"#!AMR_MC1.0\n", "audio/AMR", "amr"), (0, b"#!AMR-WB_MC1.0\n", "audio/AMR-WB", "amr"),
)  # fmt: skip
"""Offset, signature, media type and container. Longer ones, or such as end in a control character, are no words."""

_text_bom = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_controls = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_texts = [(re.compile(pattern, re.IGNORECASE | re.DOTALL), kind) for pattern, kind in TEXTS]


def other_type(head: bytes) -> str | None:
    """Return the media type of a file that begins with `head` where it certainly is no audio, else None."""
    for offset, signature, media_type in OTHER:
        if head.startswith(signature, offset):
            return media_type
    checks = (_program_type, _bitmap_type, _icon_type, _font_type, _flash_type, text_type)
    return next((kind for check in checks if (kind := check(head))), None)


def _program_type(head: bytes) -> str | None:
    """Recognize a program of DOS or Windows, by a header that two letters alone do not make."""
    if head[:2] != b"MZ" or len(head) < 64:
        return None
    place = int.from_bytes(head[60:64], "little")
    if head[place : place + 2] in (b"PE", b"NE", b"LE", b"LX"):
        return "application/vnd.microsoft.portable-executable"
    return "application/x-dosexec" if int.from_bytes(head[8:10], "little") in range(2, 4096) else None


def _bitmap_type(head: bytes) -> str | None:
    if head[:2] != b"BM" or head[6:10] != bytes(4):
        return None
    start = int.from_bytes(head[10:14], "little")
    return "image/bmp" if 26 <= start <= 2048 else None


def _icon_type(head: bytes) -> str | None:
    """Recognize an icon or a cursor, by the offset of its first picture."""
    if head[:3] != bytes(3) or head[3:4] not in (b"\1", b"\2") or head[5:6] != b"\0" or len(head) < 22:
        return None
    count, start = head[4], int.from_bytes(head[18:22], "little")
    if not 0 < count <= 64 or (start != 6 + 16 * count and head[9] != 0):
        return None
    return "image/vnd.microsoft.icon" if head[3] == 1 else "image/x-win-cursor"


def _font_type(head: bytes) -> str | None:
    """Recognize a TrueType font, by the number of its tables and what follows from it."""
    if head[:5] != b"\0\1\0\0\0" or len(head) < 12:
        return None
    count, search_range = head[5], int.from_bytes(head[6:8], "big")
    return "font/ttf" if 4 <= count <= 64 and search_range == 16 << (count.bit_length() - 1) else None


def _flash_type(head: bytes) -> str | None:
    version = head[3:4]
    return "application/x-shockwave-flash" if head[:3] in (b"FWS", b"CWS", b"ZWS") and b"\0" < version < b"@" else None


def text_type(head: bytes) -> str | None:
    """Return the media type of text, or None where `head` is none."""
    start = head[:TEXT_BYTES]
    for bom in _text_bom:
        if start.startswith(bom):
            return _known_text(_plain(start, bom)) or ("text/plain" if _is_text(_plain(start, bom)) else None)
    known = _known_text(start)
    if known is not None and (_is_text(start) or known in ("application/pdf", "text/html", "application/x-php")):
        return known
    if _is_text(start):
        return "text/plain"
    return "text/plain" if _is_wide_text(start) else None


def _plain(start: bytes, bom: bytes) -> bytes:
    if bom == b"\xef\xbb\xbf":
        return start[3:]
    even = start[2:][: len(start[2:]) // 2 * 2]
    return even.decode("utf-16-le" if bom == b"\xff\xfe" else "utf-16-be", "replace").encode("utf-8", "replace")


def _known_text(start: bytes) -> str | None:
    text = start.lstrip()
    return next((kind for pattern, kind in _texts if pattern.match(text)), None)


def _is_text(start: bytes) -> bool:
    """Return True for at least four bytes of UTF-8, or of a one-byte encoding that is mostly ASCII, and no controls."""
    if len(start) < 4 or _controls.search(start):
        return False
    try:
        # A character may be cut off.
        (start[:-3] if len(start) == TEXT_BYTES else start).decode()
    except UnicodeDecodeError:
        letters = sum(byte < 0x80 for byte in start)
        return len(start) >= 64 and letters > 0.8 * len(start) and b" " in start
    return True


def _is_wide_text(start: bytes) -> bool:
    """Return True for UTF-16 without a byte order mark: every other byte is 0, the others are ASCII."""
    for zeros, letters in ((start[1::2], start[0::2]), (start[0::2], start[1::2])):
        if len(start) >= 32 and not any(zeros) and letters.isascii() and not _controls.search(letters):
            return True
    return False


def audio_signature(reader: RangedReader, offset: int, media: Media) -> bool:
    """Recognize audio of which only the signature is known."""
    head = reader.read(offset, 1088)
    for place, signature, media_type, container in AUDIO:
        if head.startswith(signature, place):
            media.media_type, media.container, media.has_audio = media_type, container, True
            return True
    return False
