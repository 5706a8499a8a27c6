"""Matroska and WebM: https://www.rfc-editor.org/rfc/rfc9559, on EBML, https://www.rfc-editor.org/rfc/rfc8794."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from storage.formats.containers import flac
from storage.formats.containers.tags import NAMES
from storage.formats.media import Media, Truncated
from storage.formats.ranged import RangedReader, contained

EBML, DOC_TYPE = 0x1A45DFA3, 0x4282
SEGMENT, SEEK_HEAD, INFO, TRACKS, TAGS, ATTACHMENTS, CLUSTER = (
    0x18538067, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1254C367, 0x1941A469, 0x1F43B675,
)  # fmt: skip
SEEK, SEEK_ID, SEEK_POSITION = 0x4DBB, 0x53AB, 0x53AC
TIMECODE_SCALE, DURATION, TITLE = 0x2AD7B1, 0x4489, 0x7BA9
TRACK_ENTRY, TRACK_TYPE, CODEC_ID, CODEC_PRIVATE, AUDIO = 0xAE, 0x83, 0x86, 0x63A2, 0xE1
SAMPLING_FREQUENCY, OUTPUT_FREQUENCY, CHANNELS, BIT_DEPTH = 0xB5, 0x78B5, 0x9F, 0x6264
TAG, SIMPLE_TAG, TAG_NAME, TAG_STRING = 0x7373, 0x67C8, 0x45A3, 0x4487
TARGETS, TARGET_TYPE = 0x63C0, 0x68CA
ATTACHED_FILE, FILE_NAME, FILE_TYPE, FILE_DATA = 0x61A7, 0x466E, 0x4660, 0x465C
VIDEO_TRACK, AUDIO_TRACK = 1, 2
ALBUM_LEVEL = 50
MAX_ELEMENTS = 400
MAX_VALUE = 4096
CODECS = {
    "A_AAC": "aac", "A_OPUS": "opus", "A_VORBIS": "vorbis", "A_FLAC": "flac", "A_MPEG/L3": "mp3", "A_MPEG/L2": "mp2",
    "A_MPEG/L1": "mp1", "A_AC3": "ac3", "A_EAC3": "eac3", "A_DTS": "dts", "A_PCM/INT": "pcm",
    "A_PCM/FLOAT": "pcm_float", "A_ALAC": "alac", "A_TTA1": "tta", "A_WAVPACK4": "wavpack", "A_TRUEHD": "truehd",
    "A_MLP": "mlp", "A_REAL": "realaudio",
}  # fmt: skip
LOSSLESS = ("flac", "pcm", "pcm_float", "alac", "tta", "wavpack")


class Element(NamedTuple):
    """An element: its id, and the offsets of its data and of what follows it."""

    id: int
    start: int
    end: int


def _number(reader: RangedReader, offset: int, *, keep_marker: bool) -> tuple[int, int, bool]:
    """Return a variable-size number, its length in bytes, and whether all its bits are set: an unknown size."""
    first = reader.read(offset, 1)
    if not first or not first[0]:
        raise Truncated
    length = 9 - first[0].bit_length()
    data = reader.read(offset, length)
    if len(data) < length:
        raise Truncated
    value = int.from_bytes(data, "big")
    bits = value & (1 << 7 * length) - 1
    return (value if keep_marker else bits), length, bits == (1 << 7 * length) - 1


def elements(reader: RangedReader, offset: int, end: int) -> Iterator[Element]:
    """Yield the elements between two offsets. Raises Truncated where one is broken."""
    for _ in range(MAX_ELEMENTS):
        if offset >= end:
            return
        kind, id_length, _ = _number(reader, offset, keep_marker=True)
        size, size_length, unknown = _number(reader, offset + id_length, keep_marker=False)
        start = offset + id_length + size_length
        stop = end if unknown else start + size
        yield Element(kind, start, min(stop, end))
        offset = stop


def _bytes(reader: RangedReader, element: Element, limit: int = MAX_VALUE) -> bytes:
    return reader.read(element.start, min(element.end - element.start, limit))


def _integer(reader: RangedReader, element: Element) -> int:
    return int.from_bytes(_bytes(reader, element, 8), "big")


def _float(reader: RangedReader, element: Element) -> float:
    data = _bytes(reader, element, 8)
    return float(struct.unpack(">f" if len(data) == 4 else ">d", data)[0]) if len(data) in (4, 8) else 0.0


def _text(reader: RangedReader, element: Element) -> str:
    return _bytes(reader, element).rstrip(b"\0").decode("utf-8", "replace")


def parse(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse a file that begins with an EBML header."""
    header = next(elements(reader, offset, reader.size))
    if header.id != EBML or header.end - header.start > MAX_VALUE:
        return False
    doc_types = [_text(reader, item) for item in elements(reader, header.start, header.end) if item.id == DOC_TYPE]
    webm = doc_types == ["webm"]
    if not webm and doc_types != ["matroska"]:
        return False
    media.media_type, media.container = "audio/webm" if webm else "audio/x-matroska", "webm" if webm else "matroska"
    media.other_type = "video/webm" if webm else "video/x-matroska"
    segment = next(elements(reader, header.end, reader.size))
    if segment.id != SEGMENT:
        return False
    later = _parse_segment(reader, segment, media)
    for wanted in (TRACKS, INFO, TAGS):
        if wanted in later:
            for item in elements(reader, later[wanted], reader.size):
                _parse_level(reader, item, media)
                break
    if not media.has_audio and not media.has_video:
        media.media_type = None
    return True


def _parse_segment(reader: RangedReader, segment: Element, media: Media) -> dict[int, int]:
    """Parse what comes before the first cluster; return the offsets of what the index says comes later."""
    present, later = set(), {}
    for item in elements(reader, segment.start, segment.end):
        if item.id == CLUSTER:
            break
        present.add(item.id)
        with contained(reader):
            if item.id == SEEK_HEAD:
                later.update(_seek_positions(reader, item, segment.start))
            else:
                _parse_level(reader, item, media)
    return {wanted: place for wanted, place in later.items() if wanted not in present and place < reader.size}


def _seek_positions(reader: RangedReader, seek_head: Element, base: int) -> dict[int, int]:
    positions = {}
    for seek in elements(reader, seek_head.start, seek_head.end):
        if seek.id != SEEK:
            continue
        values = {item.id: _integer(reader, item) for item in elements(reader, seek.start, seek.end)}
        if SEEK_ID in values and SEEK_POSITION in values:
            positions[values[SEEK_ID]] = base + values[SEEK_POSITION]
    return positions


def _parse_level(reader: RangedReader, item: Element, media: Media) -> None:
    if item.id == INFO:
        _parse_info(reader, item, media)
    elif item.id == TRACKS:
        for entry in elements(reader, item.start, item.end):
            if entry.id == TRACK_ENTRY:
                _parse_track(reader, entry, media)
    elif item.id == TAGS:
        for tag in elements(reader, item.start, item.end):
            if tag.id == TAG:
                _parse_tag(reader, tag, media)
    elif item.id == ATTACHMENTS:
        for attached in elements(reader, item.start, item.end):
            if attached.id == ATTACHED_FILE:
                _parse_attachment(reader, attached, media)


def _parse_info(reader: RangedReader, info: Element, media: Media) -> None:
    scale, duration = 1_000_000, 0.0
    for item in elements(reader, info.start, info.end):
        if item.id == TIMECODE_SCALE:
            scale = _integer(reader, item)
        elif item.id == DURATION:
            duration = _float(reader, item)
        elif item.id == TITLE:
            media.set_tag("title", _text(reader, item))
    media.set_duration(duration * scale, 1e9)


def _parse_track(reader: RangedReader, entry: Element, media: Media) -> None:
    fields = {item.id: item for item in elements(reader, entry.start, entry.end)}
    kind = _integer(reader, fields[TRACK_TYPE]) if TRACK_TYPE in fields else 0
    codec = _text(reader, fields[CODEC_ID]) if CODEC_ID in fields else ""
    media.has_video = media.has_video or kind == VIDEO_TRACK
    if kind != AUDIO_TRACK or media.has_audio:
        return
    media.has_audio = True
    media.codec = next((name for prefix, name in CODECS.items() if codec.startswith(prefix)), None)
    media.sample_rate, media.channels = 8000.0, 1
    if AUDIO in fields:
        _parse_audio(reader, fields[AUDIO], media)
    if media.codec == "opus":
        media.sample_rate = 48_000
    private = _bytes(reader, fields[CODEC_PRIVATE]) if CODEC_PRIVATE in fields else b""
    if media.codec == "flac" and private.startswith(b"fLaC"):
        flac.parse_streaminfo(private[8:], media)
    if media.codec not in LOSSLESS:
        media.bit_depth = None


def _parse_audio(reader: RangedReader, audio: Element, media: Media) -> None:
    for item in elements(reader, audio.start, audio.end):
        if item.id == SAMPLING_FREQUENCY:
            media.sample_rate = _float(reader, item)
        elif item.id == CHANNELS:
            media.channels = _integer(reader, item)
        elif item.id == BIT_DEPTH:
            media.bit_depth = _integer(reader, item)
    for item in elements(reader, audio.start, audio.end):
        if item.id == OUTPUT_FREQUENCY:
            media.sample_rate = _float(reader, item)


def _parse_tag(reader: RangedReader, tag: Element, media: Media) -> None:
    level = 0
    for item in elements(reader, tag.start, tag.end):
        if item.id == TARGETS:
            targets = {field.id: field for field in elements(reader, item.start, item.end)}
            level = _integer(reader, targets[TARGET_TYPE]) if TARGET_TYPE in targets else 0
        elif item.id == SIMPLE_TAG:
            fields = {field.id: field for field in elements(reader, item.start, item.end)}
            if TAG_NAME in fields and TAG_STRING in fields:
                name = _text(reader, fields[TAG_NAME]).lower()
                name = "album" if name == "title" and level == ALBUM_LEVEL else name
                if name in NAMES:
                    media.set_tag(NAMES[name], _text(reader, fields[TAG_STRING]))


def _parse_attachment(reader: RangedReader, attached: Element, media: Media) -> None:
    fields = {item.id: item for item in elements(reader, attached.start, attached.end)}
    if FILE_DATA in fields and FILE_TYPE in fields:
        data = fields[FILE_DATA]
        name = _text(reader, fields[FILE_NAME]).lower() if FILE_NAME in fields else ""
        kind = 3 if name.startswith("cover.") else 0
        media.add_picture(kind, _text(reader, fields[FILE_TYPE]), b"", data.start, data.end - data.start)
