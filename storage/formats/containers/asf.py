"""ASF, the container of Windows Media: Advanced Systems Format Specification, revision 01.20."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from storage.formats.containers.riff import parse_format
from storage.formats.media import Media, number, read_layout, unpack
from storage.formats.ranged import RangedReader, contained


def _guid(text: str) -> bytes:
    return UUID(text).bytes_le


HEADER = _guid("75B22630-668E-11CF-A6D9-00AA0062CE6C")
FILE_PROPERTIES = _guid("8CABDCA1-A947-11CF-8EE4-00C00C205365")
STREAM_PROPERTIES = _guid("B7DC0791-A9B7-11CF-8EE6-00C00C205365")
HEADER_EXTENSION = _guid("5FBF03B5-A92E-11CF-8EE3-00C00C205365")
CONTENT_DESCRIPTION = _guid("75B22633-668E-11CF-A6D9-00AA0062CE6C")
EXTENDED_DESCRIPTION = _guid("D2D0A440-E307-11D2-97F0-00A0C95EA850")
METADATA_LIBRARY = _guid("44231C94-9498-49D1-A141-1D134E457054")
AUDIO_STREAM = _guid("F8699E40-5B4D-11CF-A8FD-00805F5C442B")
VIDEO_STREAM = _guid("BC19EFC0-5B4D-11CF-A8FD-00805F5C442B")
NAMES = {
    "Author": "artist", "Title": "title", "WM/AlbumTitle": "album", "WM/TrackNumber": "track_number",
    "WM/PartOfSet": "disc_number", "WM/ISRC": "isrc", "ISRC": "isrc",
}  # fmt: skip
STILL_CODECS = (b"MJPG", b"JPEG", b"PNG ", b"MPNG", b"PNG1")
MAX_OBJECTS = 64
MAX_TEXT = 1024
UNICODE, BYTES = 0, 1
INTEGERS = {2: "<I", 3: "<I", 4: "<Q", 5: "<H"}


class Part(NamedTuple):
    """An object of the header: its GUID, and the offsets of its content and of what follows it."""

    guid: bytes
    start: int
    end: int


def _parts(reader: RangedReader, offset: int, end: int) -> Iterator[Part]:
    for _ in range(MAX_OBJECTS):
        if offset + 24 > end:
            return
        guid, size = read_layout(reader, "<16sQ", offset)
        if size < 24:
            return
        yield Part(guid, offset + 24, min(offset + size, end))
        offset += size


def parse(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse a file that begins with the header object's GUID."""
    size = read_layout(reader, "<16xQ", offset)[0]
    media.media_type, media.container, media.other_type = "audio/x-ms-wma", "asf", "video/x-ms-wmv"
    for part in _parts(reader, offset + 30, min(offset + size, reader.size)):
        if part.guid == FILE_PROPERTIES:
            duration, preroll = read_layout(reader, "<40xQ8xQ", part.start)
            media.set_duration(duration - preroll * 10_000, 10_000_000)
        elif part.guid == STREAM_PROPERTIES:
            _parse_stream(reader, part, media)
        else:
            with contained(reader):
                _parse_tags(reader, part, media)
    return media.has_audio or media.has_video


def _parse_tags(reader: RangedReader, part: Part, media: Media) -> None:
    if part.guid == CONTENT_DESCRIPTION:
        _parse_description(reader, part, media)
    elif part.guid == EXTENDED_DESCRIPTION:
        _parse_extended(reader, part, media)
    elif part.guid == HEADER_EXTENSION:
        for inner in _parts(reader, part.start + 22, part.end):
            if inner.guid == METADATA_LIBRARY:
                _parse_library(reader, inner, media)


def _parse_stream(reader: RangedReader, part: Part, media: Media) -> None:
    kind = reader.read(part.start, 16)
    if kind == VIDEO_STREAM:
        # A cover may be a stream of one picture: its format is a BITMAPINFOHEADER behind 11 bytes.
        media.has_video = media.has_video or reader.read(part.start + 54 + 11 + 16, 4).upper() not in STILL_CODECS
    elif kind == AUDIO_STREAM and not media.has_audio:
        parse_format(reader.read(part.start + 54, 64), media)


def _parse_description(reader: RangedReader, part: Part, media: Media) -> None:
    lengths = read_layout(reader, "<5H", part.start)
    position = part.start + 10
    for name, length in zip(("title", "artist"), lengths, strict=False):
        media.set_tag(name, _text(reader.read(position, min(length, MAX_TEXT))))
        position += length


def _parse_extended(reader: RangedReader, part: Part, media: Media) -> None:
    position = part.start + 2
    for _ in range(min(read_layout(reader, "<H", part.start)[0], 256)):
        length = read_layout(reader, "<H", position)[0]
        name = _text(reader.read(position + 2, min(length, 256)))
        kind, size = read_layout(reader, "<HH", position + 2 + length)
        position += 6 + length
        _parse_value(reader, name, kind, position, size, media)
        position += size


def _parse_library(reader: RangedReader, part: Part, media: Media) -> None:
    position = part.start + 2
    for _ in range(min(read_layout(reader, "<H", part.start)[0], 256)):
        name_length, kind, size = read_layout(reader, "<4xHHI", position)
        name = _text(reader.read(position + 12, min(name_length, 256)))
        position += 12 + name_length
        _parse_value(reader, name, kind, position, size, media)
        position += size


def _parse_value(reader: RangedReader, name: str, kind: int, offset: int, size: int, media: Media) -> None:
    if name in NAMES:
        data = reader.read(offset, min(size, MAX_TEXT))
        value = _text(data) if kind == UNICODE else str(unpack(INTEGERS.get(kind, "<I"), data)[0])
        media.set_tag(NAMES[name], value)
    elif name == "WM/Track" and "track_number" not in media.tags:
        # Counted from zero.
        data = reader.read(offset, min(size, MAX_TEXT))
        count = number(_text(data)) if kind == UNICODE else unpack(INTEGERS.get(kind, "<I"), data)[0]
        media.set_tag("track_number", (count or 0) + 1)
    elif name == "WM/Picture" and kind == BYTES:
        _parse_picture(reader, offset, size, media)


def _parse_picture(reader: RangedReader, offset: int, size: int, media: Media) -> None:
    head = reader.read(offset, min(size, 1024))
    kind, length = unpack("<BI", head)
    position = 5
    texts = []
    for _ in range(2):
        end = next(n for n in range(position, len(head) - 1, 2) if head[n : n + 2] == b"\0\0")
        texts.append(head[position:end].decode("utf-16-le", "replace"))
        position = end + 2
    if position + length <= size:
        media.add_picture(kind, texts[0], head[position:], offset + position, length)


def _text(data: bytes) -> str:
    return data[: len(data) // 2 * 2].decode("utf-16-le", "replace").partition("\0")[0]
