"""Ogg: https://www.rfc-editor.org/rfc/rfc3533, with Vorbis, Opus, Speex and FLAC, or a video."""

from __future__ import annotations

from typing import NamedTuple

from storage.formats.containers import flac
from storage.formats.containers.tags import parse_vorbis_comment
from storage.formats.media import Media, unpack, window
from storage.formats.ranged import RangedReader, contained

HEAD, TAIL = 65_536, 65_536
"""Bytes that are read: the largest page has 65,307."""

ENOUGH = 16_384
MAX_PAGES = 64
FIRST_PAGE = 0x02
NO_GRANULE = 2**64 - 1
VIDEO_SIGNATURES = (b"\x80theora", b"\x01video\0", b"BBCD\0", b"YUV4MPEG")
MAX_START_SECONDS = 10
"""The first page with sound ends within this time, unless the stream was cut out of a longer one."""


class Page(NamedTuple):
    """A page: `granule` is its position in samples, `end` the offset behind it."""

    flags: int
    granule: int
    serial: int
    data: bytes
    end: int


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        crc = value << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()


def checksum(page: bytes) -> int:
    """Return the checksum of a page whose own checksum field is zero."""
    crc = 0
    for byte in page:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC[crc >> 24 ^ byte]
    return crc


def read_page(data: bytes, offset: int) -> Page | None:
    """Return the page at an offset of the data, or None; its data may be cut off."""
    if data[offset : offset + 5] != b"OggS\0" or offset + 27 > len(data):
        return None
    flags, granule, serial, _, _, count = unpack("<BQIIIB", data, offset + 5)
    start = offset + 27 + count
    end = start + sum(data[offset + 27 : start])
    return Page(flags, granule, serial, data[start:end], end)


def is_intact(data: bytes, offset: int) -> bool:
    """Return True for a whole page with the right checksum."""
    page = read_page(data, offset)
    if page is None or page.end > len(data):
        return False
    raw = data[offset : page.end]
    return bool(checksum(raw[:22] + bytes(4) + raw[26:]) == unpack("<I", raw, 22)[0])


def parse(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse a file that begins with a page."""
    data = window(reader, offset, HEAD, ENOUGH)
    if not is_intact(data, 0):
        return False
    media.media_type, media.container = "audio/ogg", "ogg"
    position, packets, first = 0, b"", None
    skipped = 0
    serial = None
    for _ in range(MAX_PAGES):
        page = read_page(data, position)
        if page is None:
            break
        if page.flags & FIRST_PAGE:
            started = media.has_audio
            skipped += _parse_stream(page.data, media)
            if media.has_audio and not started:
                serial = page.serial
        elif page.serial == serial:
            if page.granule not in (0, NO_GRANULE):
                first = page.granule
                break
            packets += page.data
        position = page.end
    if not media.has_audio and not media.has_video:
        media.media_type = "application/ogg"
    if media.has_video:
        media.other_type = "video/ogg"
    elif serial is not None:
        with contained(reader):
            _parse_comments(packets, media)
        _set_duration(reader, serial, skipped, first or 0, media)
    return True


def _parse_stream(data: bytes, media: Media) -> int:
    """Read the first packet of a stream; return how many samples at its start are not heard."""
    skipped = 0
    if data.startswith(VIDEO_SIGNATURES):
        media.has_video = True
    elif data.startswith(b"\x01vorbis"):
        media.codec, (media.channels, media.sample_rate) = "vorbis", unpack("<BI", data, 11)
        nominal = unpack("<i", data, 20)[0]
        media.bit_rate = nominal if nominal > 0 else None
    elif data.startswith(b"OpusHead"):
        media.codec, media.channels, media.sample_rate = "opus", unpack("<B", data, 9)[0], 48_000
        skipped = int(unpack("<H", data, 10)[0])
    elif data.startswith(b"Speex   "):
        media.codec, media.sample_rate, media.channels = "speex", unpack("<I", data, 36)[0], unpack("<I", data, 48)[0]
        rate = unpack("<i", data, 52)[0]
        media.bit_rate = rate if rate > 0 else None
    elif data.startswith(b"\x7fFLAC"):
        flac.parse_streaminfo(data[17:], media)
    elif data.startswith((b"PCM     ", b"CELT    ")):
        media.codec = data[:4].strip().decode().lower()
    media.has_audio = media.has_audio or media.codec is not None
    return skipped


def _parse_comments(packets: bytes, media: Media) -> None:
    starts = {"vorbis": b"\x03vorbis", "opus": b"OpusTags", "speex": b"", "flac": b"\x84"}
    name = starts.get(media.codec or "")
    if media.codec == "flac" and packets[:1] == b"\x04":
        name = b"\x04"
    if name is not None and packets.startswith(name):
        parse_vorbis_comment(packets[len(name) + (3 if media.codec == "flac" else 0) :], media)


def _set_duration(reader: RangedReader, serial: int, skipped: int, first: int, media: Media) -> None:
    """Take the duration from the position of the last page."""
    rate = media.sample_rate or 0
    last = _last_granule(reader, serial)
    if last is None or not rate:
        # What FLAC's own header says still stands.
        return
    start = first if first > MAX_START_SECONDS * rate else 0
    # Speex does not tell how many samples its encoder added.
    exact = not start and media.codec != "speex"
    media.set_duration(last - start - (0 if start else skipped), rate, exact=exact)


def _last_granule(reader: RangedReader, serial: int) -> int | None:
    tail_start = max(0, reader.size - TAIL)
    tail = reader.read(tail_start, TAIL)
    position = tail.rfind(b"OggS\0")
    for _ in range(MAX_PAGES):
        if position < 0:
            return None
        page = read_page(tail, position)
        if page is not None and page.serial == serial and page.granule != NO_GRANULE:
            return page.granule
        position = tail.rfind(b"OggS\0", 0, position)
    return None
