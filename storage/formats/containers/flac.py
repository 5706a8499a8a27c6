"""FLAC: https://www.rfc-editor.org/rfc/rfc9639."""

from __future__ import annotations

from storage.formats.containers.tags import flac_picture, parse_vorbis_comment
from storage.formats.media import Media, read_exactly
from storage.formats.ranged import RangedReader, contained

STREAMINFO, VORBIS_COMMENT, PICTURE = 0, 4, 6
MAX_BLOCKS = 64
MAX_COMMENT = 65_536


def parse(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse a file that begins with `fLaC`."""
    header = read_exactly(reader, offset, 42)
    if header[4] & 0x7F != STREAMINFO or header[5:8] != b"\0\0\x22":
        return False
    if not parse_streaminfo(header[8:], media):
        return False
    media.media_type, media.container = "audio/flac", "flac"
    position, last = offset + 4, False
    for _ in range(MAX_BLOCKS):
        if last or (media.tags and not reader.cached(position, 4)):
            break
        block = read_exactly(reader, position, 4)
        size, last = int.from_bytes(block[1:], "big"), bool(block[0] & 0x80)
        if position + 4 + size > reader.size:
            break
        with contained(reader):
            _parse_block(reader, block[0] & 0x7F, position + 4, size, media)
        position += 4 + size
    return True


def parse_streaminfo(data: bytes, media: Media) -> bool:
    """Read the STREAMINFO block; return False where it is none."""
    bits = int.from_bytes(data[10:18], "big")
    rate, channels = bits >> 44, (bits >> 41 & 7) + 1
    if len(data) < 34 or not 0 < rate <= 1_048_575 or int.from_bytes(data[:2], "big") < 16:
        return False
    media.codec, media.has_audio = "flac", True
    media.sample_rate, media.channels, media.bit_depth = rate, channels, (bits >> 36 & 31) + 1
    if media.duration is None:
        media.set_duration(bits & (1 << 36) - 1, rate)
    return True


def _parse_block(reader: RangedReader, kind: int, offset: int, size: int, media: Media) -> None:
    if kind == VORBIS_COMMENT:
        parse_vorbis_comment(reader.read(offset, min(size, MAX_COMMENT)), media)
    elif kind == PICTURE:
        head = reader.read(offset, min(size, 1024))
        picture_kind, declared, start, length = flac_picture(head)
        if start + length <= size:
            media.add_picture(picture_kind, declared, head[start:], offset + start, length)
