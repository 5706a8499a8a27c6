"""Tags that several containers share: ID3, Vorbis comments, APE tags, and their names."""

from __future__ import annotations

import binascii
from base64 import b64decode

from storage.formats.media import Media, Truncated, read_exactly, read_layout, unpack
from storage.formats.ranged import RangedReader

MAX_FRAMES = 256
MAX_TAG_TEXT = 4096
"""Bytes of a text that are read: the rest would be cut off anyway."""

ID3_NAMES = {
    b"TIT2": "title", b"TPE1": "artist", b"TALB": "album", b"TRCK": "track_number", b"TPOS": "disc_number",
    b"TSRC": "isrc",
    b"TT2": "title", b"TP1": "artist", b"TAL": "album", b"TRK": "track_number", b"TPA": "disc_number", b"TRC": "isrc",
}  # fmt: skip
NAMES = {
    "title": "title", "artist": "artist", "album": "album", "tracknumber": "track_number", "track": "track_number",
    "discnumber": "disc_number", "disc": "disc_number", "part_number": "track_number", "isrc": "isrc",
}  # fmt: skip
"""Tags by their names in Vorbis comments and APE tags, and in Matroska."""

ENCODINGS = ("latin-1", "utf-16", "utf-16-be", "utf-8")
UNSYNCHRONIZED, EXTENDED_HEADER = 0x80, 0x40
# Frame flags, second byte: of ID3v2.3 compression and encryption; of ID3v2.4 also unsynchronization.
UNREADABLE_FRAME = {3: 0xC0, 4: 0x0E}
DATA_LENGTH = {3: 0, 4: 0x01}


def synchsafe(data: bytes) -> int:
    """Return a number of 7 bits a byte (https://id3.org/id3v2.4.0-structure, 6.2). Raises ValueError."""
    if max(data) > 0x7F:
        raise ValueError("a synchsafe number has a bit too many")
    value = 0
    for byte in data:
        value = value << 7 | byte
    return value


# --- ID3 -------------------------------------------------------------------------------------------------------------


def id3_end(header: bytes, offset: int) -> int | None:
    """Return the offset behind the ID3v2 tag that begins with these 10 bytes, or None if it is none."""
    if header[:3] != b"ID3" or len(header) < 10 or header[3] not in (2, 3, 4) or max(header[6:10]) > 0x7F:
        return None
    footer = 10 if header[3] == 4 and header[5] & 0x10 else 0
    return offset + 10 + synchsafe(header[6:10]) + footer


def parse_id3(reader: RangedReader, offset: int, media: Media, *, in_front: bool = False) -> None:
    """Read the frames of the ID3v2 tag at `offset`; broken ones end it.

    What lies behind a picture is worth a request only `in_front` of the sound, which has to be read as well.
    """
    header = read_exactly(reader, offset, 10)
    end = min(id3_end(header, offset) or 0, reader.size)
    version, flags = header[3], header[5]
    position = offset + 10
    if flags & EXTENDED_HEADER and version > 2:
        extended = read_exactly(reader, position, 4)
        position += synchsafe(extended) if version == 4 else unpack(">I", extended)[0] + 4
    header_size = 6 if version == 2 else 10
    for _ in range(MAX_FRAMES):
        if position + header_size > end or (media.tags and not in_front and not reader.cached(position, 1)):
            return
        frame = read_exactly(reader, position, header_size)
        name, size, frame_flags = _frame_header(frame, version)
        position += header_size
        if not name.isalnum() or not 0 < size <= end - position:
            return
        unsynchronized = bool(flags & UNSYNCHRONIZED) or (version == 4 and bool(frame_flags & 0x02))
        skip = 4 if version > 2 and frame_flags & DATA_LENGTH[version] else 0
        if version == 2 or not frame_flags & UNREADABLE_FRAME[version] & ~0x02:
            _id3_frame(reader, name, position + skip, size - skip, unsynchronized, media)
        position += size


def _frame_header(frame: bytes, version: int) -> tuple[bytes, int, int]:
    if version == 2:
        return frame[:3], int.from_bytes(frame[3:6], "big"), 0
    # iTunes wrote sizes of ID3v2.4 as those of ID3v2.3.
    plain = unpack(">I", frame, 4)[0]
    size = synchsafe(frame[4:8]) if version == 4 and max(frame[4:8]) <= 0x7F else plain
    return frame[:4], size, frame[9]


def _id3_frame(reader: RangedReader, name: bytes, offset: int, size: int, unsynchronized: bool, media: Media) -> None:
    if name in ID3_NAMES:
        data = reader.read(offset, min(size, MAX_TAG_TEXT))
        data = data.replace(b"\xff\x00", b"\xff") if unsynchronized else data
        media.set_tag(ID3_NAMES[name], _id3_text(data))
    elif name in (b"TXXX", b"TXX"):
        description, _, value = _id3_text(reader.read(offset, min(size, MAX_TAG_TEXT))).partition("; ")
        if description.upper() == "ISRC":
            media.set_tag("isrc", value)
    elif name in (b"APIC", b"PIC"):
        _id3_picture(reader, name, offset, size, unsynchronized, media)


def _id3_text(data: bytes) -> str:
    encoding = ENCODINGS[data[0]] if data[:1] and data[0] < len(ENCODINGS) else "latin-1"
    text = data[1:].decode(encoding, "replace")
    return "; ".join(part for part in text.split("\0") if part)


def _id3_picture(reader: RangedReader, name: bytes, offset: int, size: int, unsynchronized: bool, media: Media) -> None:
    head = reader.read(offset, min(size, 512))
    encoding = head[0]
    if name == b"PIC":
        declared, position = head[1:4], 4
    else:
        position = head.index(b"\0", 1)
        declared, position = head[1:position], position + 1
    kind = head[position]
    start = _text_end(head, position + 1, wide=encoding in (1, 2))
    place = None if unsynchronized else offset + start
    media.add_picture(kind, declared.decode("latin-1"), head[start:], place, size - start)


def _text_end(data: bytes, start: int, *, wide: bool) -> int:
    """Return the offset behind a terminated text. Raises ValueError."""
    if not wide:
        return data.index(b"\0", start) + 1
    for position in range(start, len(data) - 1, 2):
        if data[position : position + 2] == b"\0\0":
            return position + 2
    raise ValueError("the text has no end")


def parse_id3v1(tail: bytes, media: Media) -> None:
    """Read an ID3v1 tag: the last 128 bytes of a file."""
    if len(tail) < 128 or not tail.startswith(b"TAG", len(tail) - 128):
        return
    tag = tail[-128:]
    for name, start in (("title", 3), ("artist", 33), ("album", 63)):
        media.set_tag(name, tag[start : start + 30].partition(b"\0")[0].decode("latin-1"))
    if tag[125] == 0 and tag[126]:
        media.set_tag("track_number", tag[126])


# --- Vorbis comments -------------------------------------------------------------------------------------------------


def parse_vorbis_comment(data: bytes, media: Media) -> None:
    """Read a Vorbis comment (https://www.xiph.org/vorbis/doc/v-comment.html); `data` may be cut off."""
    position = 4 + unpack("<I", data)[0]
    (count,) = unpack("<I", data, position)
    position += 4
    entries: dict[str, list[str]] = {}
    for _ in range(min(count, MAX_FRAMES)):
        if position + 4 > len(data):
            break
        (length,) = unpack("<I", data, position)
        entry = data[position + 4 : position + 4 + length]
        position += 4 + length
        key, _, value = entry[:MAX_TAG_TEXT].partition(b"=")
        name = key.decode("latin-1").lower()
        if name == "metadata_block_picture":
            _base64_picture(entry[len(key) + 1 :], media)
        elif name in NAMES:
            entries.setdefault(NAMES[name], []).append(value.decode("utf-8", "replace"))
    for name, values in entries.items():
        media.set_tag(name, "; ".join(values) if name == "artist" else values[0])


def _base64_picture(text: bytes, media: Media) -> None:
    """Read the start of a picture that is stored in base64, and so not in one piece."""
    try:
        block = b64decode(text[: len(text[:4096]) // 4 * 4], validate=True)
        kind, declared, start, size = flac_picture(block)
    except (binascii.Error, Truncated):
        return
    media.add_picture(kind, declared, block[start:], None, size)


def flac_picture(block: bytes) -> tuple[int, str, int, int]:
    """Return a FLAC picture's type, media type, and the offset and size of its bytes in the block. Raises Truncated."""
    kind, length = unpack(">II", block)
    declared = block[8 : 8 + length].decode("latin-1")
    position = 8 + length
    position += 4 + unpack(">I", block, position)[0] + 16
    return kind, declared, position + 4, unpack(">I", block, position)[0]


# --- APE tags --------------------------------------------------------------------------------------------------------


def ape_end(header: bytes, offset: int) -> int | None:
    """Return the offset behind an APE tag whose header these 32 bytes are, or None if it is none."""
    if header[:8] != b"APETAGEX" or len(header) < 32:
        return None
    return offset + 32 + int(unpack("<I", header, 12)[0])


def parse_ape(reader: RangedReader, start: int, end: int, media: Media) -> None:
    """Read the items of an APE tag that lie between `start` and `end`."""
    position = start
    for _ in range(MAX_FRAMES):
        if position + 9 > end:
            return
        size, _ = read_layout(reader, "<II", position)
        name, separator, _ = reader.read(position + 8, 64).partition(b"\0")
        key, value = name.decode("latin-1").lower(), position + 8 + len(name) + 1
        if not separator or value + size > end:
            return
        if key in NAMES:
            media.set_tag(NAMES[key], reader.read(value, min(size, MAX_TAG_TEXT)).decode("utf-8", "replace"))
        elif key.startswith("cover art"):
            head = reader.read(value, min(size, 512))
            skipped = head.find(b"\0") + 1
            kind = 3 if "front" in key else 0
            media.add_picture(kind, "", head[skipped:], value + skipped, size - skipped)
        position = value + size


def parse_ape_footer(reader: RangedReader, tail: bytes, media: Media) -> None:
    """Read an APE tag at the end of a file, before an ID3v1 tag if there is one; `tail` are the file's last bytes."""
    place = tail.rfind(b"APETAGEX")
    if place < 0 or len(tail) - place not in (32, 32 + 128):
        return
    size = unpack("<I", tail, place + 12)[0]
    footer = reader.size - len(tail) + place
    parse_ape(reader, max(0, footer + 32 - size), footer, media)
