"""Pictures: media type, width and height of a cover, from its own headers.

A picture is recognized by its magic at the first byte and by the fields around its size, not by its name. Nothing is
decoded. The reader's limits bound requests, bytes and steps, whatever the input: at most 50 ms and 8 MiB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from struct import calcsize, iter_unpack, unpack
from typing import NamedTuple
from zlib import crc32

from storage.formats.ranged import BudgetExceeded, Fetch, RangedReader

HEAD_BYTES = 64 * 1024
MIN_FETCH, GROWTH, MAX_BYTES = 256 * 1024, 4, 4 * 2**20
"""With requests of 256 KiB, 1 MiB and what is left, the size of a JPEG is found behind four megabytes of metadata."""

MAX_READS = 5000

MAX_SIDE, MAX_PIXELS = 65_535, 2**29
"""A larger picture would exhaust the memory of whatever shows it. JPEG and GIF have no longer sides."""

ACCEPTED = "PNG, JPEG, GIF, WebP, AVIF, HEIC, TIFF or BMP"


class Picture(NamedTuple):
    """A picture's media type, and its width and height in pixels as it is displayed, after its rotation."""

    media_type: str
    width: int
    height: int


class InvalidPicture(Exception):
    """The headers contradict the format, or end too early."""


def identify(fetch: Fetch, head: bytes, size: int) -> Picture | None:
    """Return the picture in a file of `size` bytes that begins with `head`, or None where it is none.

    `head` has the first HEAD_BYTES, or the whole file. Raises what `fetch` raises.
    """
    parse = _parser(head)
    if parse is None:
        return None
    reader = RangedReader(
        fetch, head, size, max_bytes=MAX_BYTES, min_fetch=MIN_FETCH, growth=GROWTH, max_reads=MAX_READS
    )
    try:
        picture = parse(reader)
    except (InvalidPicture, BudgetExceeded):
        return None
    width, height = picture.width, picture.height
    is_plausible = 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS
    return picture if is_plausible else None


def identify_bytes(content: bytes) -> Picture | None:
    """Return the picture that `content` is, or None."""
    return identify(_fetch_nothing, content, len(content))


def _fetch_nothing(offset: int, length: int) -> bytes:
    raise BudgetExceeded


def _parser(head: bytes) -> Callable[[RangedReader], Picture] | None:
    for magic, parse in PARSERS:
        if head.startswith(magic):
            return parse
    return _heif if head[4:8] == b"ftyp" else None


def _require(condition: bool) -> None:
    if not condition:
        raise InvalidPicture


def _exactly(reader: RangedReader, offset: int, length: int) -> bytes:
    """Return `length` bytes. Raises InvalidPicture where the file ends before."""
    content = reader.read(offset, length)
    _require(len(content) == length)
    return content


def _oriented(media_type: str, width: int, height: int, quarter_turned: bool) -> Picture:
    return Picture(media_type, height, width) if quarter_turned else Picture(media_type, width, height)


# --- PNG: https://www.w3.org/TR/png-3/ -------------------------------------------------------------------------------

APPLE_CHUNK = b"\x00\x00\x00\x04CgBI"
"""Precedes IHDR in the pictures of iOS apps."""


def _png(reader: RangedReader) -> Picture:
    offset = 8 + 16 if _exactly(reader, 8, 8) == APPLE_CHUNK else 8
    chunk = _exactly(reader, offset, 25)
    length, name, width, height, depth, color, compression, filter_method, interlace, checksum = unpack(
        ">I4sIIBBBBBI", chunk
    )
    _require(length == 13 and name == b"IHDR" and checksum == crc32(chunk[4:21]))
    _require(depth in (1, 2, 4, 8, 16) and color in (0, 2, 3, 4, 6))
    _require(compression == 0 and filter_method == 0 and interlace in (0, 1))
    # IHDR alone is no picture: another chunk follows.
    _require(_exactly(reader, offset + 25, 8)[4:].isalpha())
    return Picture("image/png", width, height)


# --- JPEG: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, Annex B ------------------------------------------------------

FRAME_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
STANDALONE_MARKERS = {0x01, *range(0xD0, 0xD8)}
INVALID_MARKERS = {*range(0xC0), 0xD8, 0xD9, 0xDA}
"""Not defined, or after the frame's header: the end of the image, a scan."""

MAX_SEGMENTS, MAX_EXTRANEOUS = 512, 2048
"""Segments before the frame's header, and bytes before one of them, which decoders skip."""

_marker = re.compile(rb"\xff([^\x00\xff])")


def _jpeg(reader: RangedReader) -> Picture:
    offset, turned = 2, None
    for _ in range(MAX_SEGMENTS):
        offset, marker = _next_marker(reader, offset)
        if marker in STANDALONE_MARKERS:
            continue
        _require(marker not in INVALID_MARKERS)
        (length,) = unpack(">H", _exactly(reader, offset, 2))
        _require(length >= 2)
        if marker in FRAME_MARKERS:
            width, height = _frame_size(reader, offset, length)
            return _oriented("image/jpeg", width, height, bool(turned))
        if marker == 0xE1 and turned is None and reader.read(offset + 2, 6) == b"Exif\0\0":
            turned = _is_turned_by_exif(reader.read(offset + 8, length - 8))
        offset += length
    raise InvalidPicture


def _next_marker(reader: RangedReader, offset: int) -> tuple[int, int]:
    """Return the offset after the next marker, and its code."""
    match = _marker.match(_exactly(reader, offset, 2)) or _marker.search(reader.read(offset, MAX_EXTRANEOUS))
    if match is None:
        raise InvalidPicture
    return offset + match.end(), match[1][0]


def _frame_size(reader: RangedReader, offset: int, length: int) -> tuple[int, int]:
    precision, height, width, components = unpack(">BHHB", _exactly(reader, offset + 2, 6))
    _require(2 <= precision <= 16 and 1 <= components <= 4 and length == 8 + 3 * components)
    _exactly(reader, offset + length, 2)
    return width, height


def _is_turned_by_exif(content: bytes) -> bool:
    # A picture with broken Exif is displayed all the same.
    try:
        reader = RangedReader(_fetch_nothing, content, len(content))
        return _tiff_tags(reader).get(ORIENTATION, 1) in QUARTER_TURNS
    except InvalidPicture:
        return False


# --- GIF: https://www.w3.org/Graphics/GIF/spec-gif89a.txt -------------------------------------------------------------

IMAGE_SEPARATOR, EXTENSION_INTRODUCER = 0x2C, 0x21
EXTENSION_LABELS = {0x01, 0xF9, 0xFE, 0xFF}


def _gif(reader: RangedReader) -> Picture:
    width, height, flags = unpack("<HHB", _exactly(reader, 6, 5))
    colors = 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
    introducer, label = _exactly(reader, 13 + colors, 2)
    is_extension = introducer == EXTENSION_INTRODUCER and label in EXTENSION_LABELS
    _require(introducer == IMAGE_SEPARATOR or is_extension)
    return Picture("image/gif", width, height)


# --- WebP: https://developers.google.com/speed/webp/docs/riff_container -----------------------------------------------


def _webp(reader: RangedReader) -> Picture:
    header = _exactly(reader, 0, 30)
    chunk, content = header[12:16], header[20:30]
    _require(header[8:12] == b"WEBP")
    if chunk == b"VP8 ":
        # A key frame: https://www.rfc-editor.org/rfc/rfc6386#section-9.1
        _require(content[0] & 1 == 0 and content[3:6] == b"\x9d\x01\x2a")
        width, height = (side & 0x3FFF for side in unpack("<HH", content[6:]))
    elif chunk == b"VP8L":
        bits = int.from_bytes(content[1:5], "little")
        _require(content[0] == 0x2F and bits >> 29 == 0)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        _require(chunk == b"VP8X" and header[16:20] == b"\x0a\0\0\0")
        width, height = (int.from_bytes(side, "little") + 1 for side in (content[4:7], content[7:10]))
    return Picture("image/webp", width, height)


# --- BMP: https://learn.microsoft.com/windows/win32/gdi/bitmap-header-types -------------------------------------------

BMP_HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}
OS2_HEADER_SIZE = 12


def _bmp(reader: RangedReader) -> Picture:
    pixels, header_size = unpack("<II", _exactly(reader, 10, 8))
    _require(header_size in BMP_HEADER_SIZES and 14 + header_size <= pixels < reader.size)
    layout = "<HHHH" if header_size == OS2_HEADER_SIZE else "<iiHH"
    width, height, planes, depth = unpack(layout, _exactly(reader, 18, 8 if header_size == OS2_HEADER_SIZE else 12))
    _require(planes == 1 and depth in (1, 2, 4, 8, 16, 24, 32))
    # The height of a picture that is stored from top to bottom is negative.
    return Picture("image/bmp", width, abs(height))


# --- TIFF 6.0, and BigTIFF: https://www.awaresystems.be/imaging/tiff/bigtiff.html -------------------------------------

WIDTH, HEIGHT, ORIENTATION = 256, 257, 274
QUARTER_TURNS = (5, 6, 7, 8)
INTEGER_TYPES = {3: 2, 4: 4, 16: 8}
"""Bytes of a value, by its type: SHORT, LONG, LONG8."""

MAX_ENTRIES = 512
"""Entries are ordered by their tags, and these have low ones."""


def _tiff(reader: RangedReader) -> Picture:
    tags = _tiff_tags(reader)
    turned = tags.get(ORIENTATION, 1) in QUARTER_TURNS
    return _oriented("image/tiff", tags.get(WIDTH, 0), tags.get(HEIGHT, 0), turned)


def _tiff_tags(reader: RangedReader) -> dict[int, int]:
    """Return the width, height and orientation that the first directory has."""
    header = _exactly(reader, 0, 8)
    order = "<" if header.startswith(b"II") else ">"
    magic, directory = unpack(f"{order}2xHI", header)
    _require(magic in (42, 43))
    count_layout, entry_layout = f"{order}H", f"{order}HHI4s"
    if magic == 43:
        count_layout, entry_layout = f"{order}Q", f"{order}HHQ8s"
        (directory,) = unpack(count_layout, _exactly(reader, 8, 8))
    count_size, entry_size = calcsize(count_layout), calcsize(entry_layout)
    (count,) = unpack(count_layout, _exactly(reader, directory, count_size))
    entries = _exactly(reader, directory + count_size, min(count, MAX_ENTRIES) * entry_size)
    tags: dict[int, int] = {}
    for tag, kind, values, value in iter_unpack(entry_layout, entries):
        if tag in (WIDTH, HEIGHT, ORIENTATION) and kind in INTEGER_TYPES and values == 1:
            tags[tag] = int.from_bytes(value[: INTEGER_TYPES[kind]], "little" if order == "<" else "big")
    return tags


# --- HEIF and AVIF: ISO/IEC 23008-12, https://aomediacodec.github.io/av1-avif/ ----------------------------------------

AVIF_BRANDS = {b"avif", b"avis"}
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
HEIF_BRANDS = {b"mif1", b"mif2", b"msf1"}
MAX_BRANDS = 64


class Box(NamedTuple):
    """A box of an ISO base media file: its type, and the range of its content."""

    name: bytes
    start: int
    end: int


def _heif(reader: RangedReader) -> Picture:
    boxes = _boxes(reader, 0, reader.size)
    media_type = _heif_type(reader, next(boxes))
    meta = _find_box(boxes, b"meta")
    parts = list(_boxes(reader, meta.start + 4, meta.end))
    handler = _find_box(parts, b"hdlr")
    _require(_exactly(reader, handler.start + 8, 4) == b"pict")
    container = _find_box(parts, b"iprp")
    tables = list(_boxes(reader, container.start, container.end))
    listed = _find_box(tables, b"ipco")
    properties = list(_boxes(reader, listed.start, listed.end))
    indexes = _property_indexes(reader, tables, _primary_item(reader, _find_box(parts, b"pitm")))
    return _heif_picture(reader, media_type, [properties[i - 1] for i in indexes if 1 <= i <= len(properties)])


def _boxes(reader: RangedReader, offset: int, end: int) -> Iterator[Box]:
    """Yield the boxes from `offset` to `end`. Raises InvalidPicture for one that does not fit."""
    while offset < end:
        size, name = unpack(">I4s", _exactly(reader, offset, 8))
        start = offset + 8
        if size == 1:
            (size,) = unpack(">Q", _exactly(reader, start, 8))
            start += 8
        stop = end if size == 0 else offset + size
        _require(start <= stop <= end)
        yield Box(name, start, stop)
        offset = stop


def _find_box(boxes: Iterator[Box] | list[Box], name: bytes) -> Box:
    for box in boxes:
        if box.name == name:
            return box
    raise InvalidPicture


def _heif_type(reader: RangedReader, box: Box) -> str:
    length = box.end - box.start
    _require(8 <= length <= 8 + 4 * MAX_BRANDS)
    content = _exactly(reader, box.start, length)
    major, *compatible = [content[i : i + 4] for i in (0, *range(8, length, 4))]
    for brands in ({major}, set(compatible)):
        if brands & AVIF_BRANDS:
            return "image/avif"
        if brands & HEIC_BRANDS:
            return "image/heic"
    _require(bool({major, *compatible} & HEIF_BRANDS))
    return "image/heif"


def _primary_item(reader: RangedReader, box: Box) -> int:
    wide = _exactly(reader, box.start, 1) != b"\0"
    return int.from_bytes(_exactly(reader, box.start + 4, 4 if wide else 2), "big")


def _property_indexes(reader: RangedReader, tables: list[Box], item: int) -> list[int]:
    """Return the indexes (from 1) of the item's properties, in their order."""
    for box in tables:
        if box.name == b"ipma":
            version, flags = unpack(">B2xB", _exactly(reader, box.start, 4))
            id_size, index_size = 4 if version else 2, 2 if flags & 1 else 1
            offset = box.start + 8
            while offset < box.end:
                *id_bytes, count = _exactly(reader, offset, id_size + 1)
                offset += id_size + 1
                if int.from_bytes(id_bytes, "big") == item:
                    content = _exactly(reader, offset, count * index_size)
                    # The highest bit says that the property is essential.
                    return [
                        index & (0x7FFF if flags & 1 else 0x7F)
                        for index in unpack(f">{count}{'BH'[flags & 1]}", content)
                    ]
                offset += count * index_size
    raise InvalidPicture


def _heif_picture(reader: RangedReader, media_type: str, properties: list[Box]) -> Picture:
    """Return the picture whose extent (`ispe`), clean aperture (`clap`) and rotation (`irot`) are in `properties`."""
    width = height = 0
    turned = False
    for box in properties:
        if box.name == b"ispe":
            width, height = unpack(">4xII", _exactly(reader, box.start, 12))
        elif box.name == b"clap":
            aperture = unpack(">IIII", _exactly(reader, box.start, 16))
            _require(aperture[1] > 0 and aperture[3] > 0)
            width, height = min(width, aperture[0] // aperture[1]), min(height, aperture[2] // aperture[3])
        elif box.name == b"irot":
            turned = _exactly(reader, box.start, 1)[0] & 1 == 1
    return _oriented(media_type, width, height, turned)


PARSERS: tuple[tuple[bytes, Callable[[RangedReader], Picture]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"RIFF", _webp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"II+\0", _tiff),
    (b"MM\0+", _tiff),
    (b"BM", _bmp),
)
