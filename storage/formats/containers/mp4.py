"""MP4, M4A, 3GP and QuickTime: ISO/IEC 14496-12, and Apple's QuickTime File Format Specification."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from storage.formats.containers.aac import Bits, parse_config
from storage.formats.media import Media, read_exactly, read_layout, unpack
from storage.formats.ranged import RangedReader, contained

TOP_LEVEL = (
    b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"sidx", b"moof", b"uuid", b"meta",
    b"udta", b"emsg", b"prft", b"junk", b"pdin", b"mfra",
)  # fmt: skip
IMAGE_BRANDS = {
    b"avif": "image/avif", b"avis": "image/avif", b"heic": "image/heic", b"heix": "image/heic", b"heim": "image/heic",
    b"heis": "image/heic", b"hevc": "image/heic", b"hevx": "image/heic", b"mif1": "image/heif", b"msf1": "image/heif",
    b"crx ": "image/x-canon-cr3", b"jp2 ": "image/jp2", b"jpx ": "image/jpx", b"jxl ": "image/jxl",
}  # fmt: skip
CODECS = {
    b"alac": "alac", b"fLaC": "flac", b"Opus": "opus", b"ac-3": "ac3", b"ec-3": "eac3", b"samr": "amr",
    b"sawb": "amr", b".mp3": "mp3", b"ms\0U": "mp3", b"sowt": "pcm", b"twos": "pcm", b"lpcm": "pcm", b"ipcm": "pcm",
    b"in24": "pcm", b"in32": "pcm", b"raw ": "pcm", b"NONE": "pcm", b"fl32": "pcm_float", b"fl64": "pcm_float",
    b"fpcm": "pcm_float", b"ulaw": "mulaw", b"alaw": "alaw", b"ima4": "adpcm", b"dtsc": "dts", b"dtsh": "dts",
    b"dtsl": "dts", b"dtse": "dts", b"ac-4": "ac4", b"mlpa": "truehd", b"QDM2": "qdm2", b"mp4a": "aac",
    b"spex": "speex",
}  # fmt: skip
DEPTHS = {b"in24": 24, b"in32": 32, b"fl32": 32, b"fl64": 64}
OBJECT_TYPES = {
    0x40: "aac", 0x66: "aac", 0x67: "aac", 0x68: "aac", 0x69: "mp3", 0x6B: "mp3", 0xA5: "ac3", 0xA6: "eac3",
    0xA9: "dts", 0xDD: "vorbis", 0xAD: "opus",
}  # fmt: skip
"""Codecs by the object type that an `esds` box names (https://mp4ra.org/registered-types/object-types)."""

MAX_STILLS = 0.2
"""Pictures a second that an audio book's chapters may have: more of them are a video."""

STILL_CODECS = (b"jpeg", b"mjpa", b"mjpb", b"png ", b"gif ", b"tiff")
TAGS = {b"\xa9nam": "title", b"\xa9ART": "artist", b"\xa9alb": "album", b"trkn": "track_number", b"disk": "disc_number"}
MAX_BOXES = 400
MAX_TEXT = 4096


class Box(NamedTuple):
    """A box: its type, and the offsets of its content and of what follows it."""

    kind: bytes
    start: int
    end: int


def boxes(reader: RangedReader, offset: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two offsets, until one is broken."""
    for _ in range(MAX_BOXES):
        if offset + 8 > end:
            return
        size, kind = read_layout(reader, ">I4s", offset)
        start = offset + 8
        if size == 1:
            size, start = read_layout(reader, ">Q", start)[0], start + 8
        elif size == 0:
            size = end - offset
        if size < start - offset:
            return
        yield Box(kind, start, min(offset + size, end))
        offset += size


def parse(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse a file that begins with a box that such files may begin with."""
    fragments = Fragments()
    recognized = has_movie = False
    for box in boxes(reader, offset, reader.size):
        if box.kind not in TOP_LEVEL:
            break
        recognized = recognized or box.kind != b"free"
        if box.kind == b"ftyp":
            brand = read_exactly(reader, box.start, 4)
            if brand in IMAGE_BRANDS:
                media.other_type = IMAGE_BRANDS[brand]
                return True
            _set_type(brand, media)
        elif box.kind == b"moov":
            has_movie = True
            _parse_movie(reader, box, media)
            fragments.start = fragments.end = box.end
        elif box.kind in (b"moof", b"sidx"):
            fragments.add(reader, box)
        # Fragments that were not fetched are not worth a request.
        if has_movie and (media.duration is not None or not reader.cached(box.end, 8)):
            break
    if has_movie:
        fragments.set_duration(reader.size, media)
        if media.media_type is None:
            _set_type(b"", media)
        return media.has_audio or media.has_video
    # A segment of a stream has no tracks of its own, and neither has a file whose end is missing.
    return recognized and fragments.count > 0


def _set_type(brand: bytes, media: Media) -> None:
    media.container = "mp4"
    media.media_type, media.other_type = "audio/mp4", "video/mp4"
    if brand[:3] == b"3gp":
        media.media_type, media.other_type = "audio/3gpp", "video/3gpp"
    elif brand[:3] == b"3g2":
        media.media_type, media.other_type = "audio/3gpp2", "video/3gpp2"
    elif brand in (b"", b"qt  "):
        media.other_type = "video/quicktime"


def _parse_movie(reader: RangedReader, movie: Box, media: Media) -> None:
    scale = 0
    for box in boxes(reader, movie.start, movie.end):
        if box.kind == b"mvhd":
            scale, duration = _times(reader, box)
            if duration:
                media.set_duration(duration, scale)
        elif box.kind == b"trak":
            _parse_track(reader, box, scale, media)
        elif box.kind == b"mvex":
            for extension in boxes(reader, box.start, box.end):
                if extension.kind == b"mehd":
                    wide = read_exactly(reader, extension.start, 1)[0] == 1
                    fragment_duration = read_layout(reader, ">Q" if wide else ">I", extension.start + 4)[0]
                    media.set_duration(fragment_duration, scale)
        elif box.kind in (b"udta", b"meta"):
            with contained(reader):
                (_parse_user_data if box.kind == b"udta" else _parse_meta)(reader, box, media)


def _times(reader: RangedReader, box: Box) -> tuple[int, int]:
    """Return time scale and duration of an `mvhd` or `mdhd` box; 0 stands for an unknown duration."""
    if read_exactly(reader, box.start, 1)[0] == 1:
        scale, duration = read_layout(reader, ">IQ", box.start + 20)
        return scale, 0 if duration == 2**64 - 1 else duration
    scale, duration = read_layout(reader, ">II", box.start + 12)
    return scale, 0 if duration == 2**32 - 1 else duration


# --- Tracks ----------------------------------------------------------------------------------------------------------


def _find(reader: RangedReader, parent: Box, *path: bytes) -> Box | None:
    """Return the box at a path below `parent`, or None."""
    box: Box | None = parent
    for kind in path:
        if box is None:
            return None
        box = next((child for child in boxes(reader, box.start, box.end) if child.kind == kind), None)
    return box


def _parse_track(reader: RangedReader, track: Box, movie_scale: int, media: Media) -> None:
    parts = _find(reader, track, b"mdia")
    children = {} if parts is None else {box.kind: box for box in boxes(reader, parts.start, parts.end)}
    if not {b"hdlr", b"mdhd", b"minf"} <= children.keys():
        return
    handler = read_exactly(reader, children[b"hdlr"].start + 8, 4)
    description = _find(reader, children[b"minf"], b"stbl", b"stsd")
    scale, duration = _times(reader, children[b"mdhd"])
    if handler not in (b"vide", b"soun") or description is None:
        return
    length, codec = read_layout(reader, ">I4s", description.start + 8)
    entry = Box(codec, description.start + 16, min(description.start + 8 + length, description.end))
    if handler == b"vide":
        still = (
            codec in STILL_CODECS and _sample_count(reader, children[b"minf"]) * scale <= MAX_STILLS * duration + scale
        )
        media.has_video = media.has_video or not still
    elif not media.has_audio:
        media.has_audio = True
        _parse_sound(reader, entry, media)
        if not media.duration and duration:
            media.set_duration(duration, scale)
        if media.bit_rate is None and duration and scale:
            media.bit_rate = _sample_bytes(reader, children[b"minf"]) * 8 * scale / duration or None


def _sample_count(reader: RangedReader, parts: Box) -> int:
    sizes = _find(reader, parts, b"stbl", b"stsz")
    return 0 if sizes is None else int(read_layout(reader, ">I", sizes.start + 8)[0])


def _sample_bytes(reader: RangedReader, parts: Box) -> int:
    """Return the bytes of a track's samples, or 0 where adding them up would need a read of its own."""
    sizes = _find(reader, parts, b"stbl", b"stsz")
    if sizes is None:
        return 0
    size, count = read_layout(reader, ">II", sizes.start + 4)
    if size:
        return int(size) * int(count)
    length = min(count, 16_384) * 4
    data = reader.cached(sizes.start + 12, length)
    if len(data) < length or not count:
        return 0
    total = sum(unpack(f">{length // 4}I", data))
    return int(total * count // (length // 4))


def _parse_sound(reader: RangedReader, entry: Box, media: Media) -> None:
    """Read an AudioSampleEntry, or QuickTime's sound description of version 1 or 2."""
    version, channels, depth, rate = read_layout(reader, ">8xH6xHH4xI", entry.start)
    media.codec, media.channels, media.sample_rate = CODECS.get(entry.kind), channels, rate >> 16
    start = entry.start + 28
    if version == 1:
        start += 16
    elif version == 2:
        media.sample_rate, media.channels, depth = read_layout(reader, ">4xdI4xI", start)
        start += 36
    if media.codec in ("pcm", "pcm_float", "mulaw", "alaw"):
        media.bit_depth = DEPTHS.get(entry.kind, depth)
    _parse_sound_boxes(reader, Box(entry.kind, start, entry.end), media)
    if media.codec == "pcm" and media.bit_depth and media.channels and media.sample_rate:
        media.bit_rate = media.bit_depth * media.channels * media.sample_rate


def _parse_sound_boxes(reader: RangedReader, parent: Box, media: Media) -> None:
    for box in boxes(reader, parent.start, parent.end):
        if box.kind == b"esds":
            _parse_esds(reader.read(box.start, min(box.end - box.start, 256))[4:], media)
        elif box.kind == b"alac" and box.end - box.start >= 28:
            media.bit_depth, media.channels, media.sample_rate = read_layout(reader, ">9xB3xB10xI", box.start)
        elif box.kind == b"dfLa":
            _parse_flac(reader.read(box.start, 42), media)
        elif box.kind == b"dOps":
            media.channels, media.sample_rate = read_layout(reader, ">xB", box.start)[0], 48_000
        elif box.kind == b"pcmC":
            media.bit_depth = read_layout(reader, ">5xB", box.start)[0]
        elif box.kind == b"sinf":
            original = _find(reader, box, b"frma")
            if original is not None:
                media.codec = CODECS.get(read_exactly(reader, original.start, 4))
        elif box.kind == b"wave":
            _parse_sound_boxes(reader, box, media)


def _parse_flac(data: bytes, media: Media) -> None:
    bits = int.from_bytes(data[18:26], "big")
    media.sample_rate, media.channels, media.bit_depth = bits >> 44, (bits >> 41 & 7) + 1, (bits >> 36 & 31) + 1


def _parse_esds(data: bytes, media: Media) -> None:
    """Read the elementary stream descriptor (ISO/IEC 14496-1, 7.2.6)."""
    position = 0
    for _ in range(8):
        tag = unpack("B", data, position)[0]
        position += 1
        for _ in range(4):
            byte = unpack("B", data, position)[0]
            position += 1
            if not byte & 0x80:
                break
        if tag == 0x03:
            position += 3
        elif tag == 0x04:
            kind, average = unpack(">B8xI", data, position)
            media.codec = OBJECT_TYPES.get(kind)
            media.bit_rate = average or None
            position += 13
        else:
            break
    if tag == 0x05 and media.codec == "aac":
        parse_config(Bits(data[position : position + 16]), media)


# --- Fragments -------------------------------------------------------------------------------------------------------


class Fragments:
    """The fragments of a file whose movie has no samples.

    Their duration is that of an index, or it is added up as far as they were fetched, from `start` to `end`.
    """

    def __init__(self) -> None:
        self.count = self.ticks = self.start = self.end = 0
        self.indexed: tuple[int, int] | None = None

    def add(self, reader: RangedReader, box: Box) -> None:
        """Add a fragment, by the samples of its first track, or an index."""
        if box.kind == b"sidx":
            self.indexed = self.indexed or _indexed_duration(reader, box)
            return
        self.count += 1
        track = _find(reader, box, b"traf")
        default = 0
        for part in boxes(reader, track.start, track.end) if track is not None else ():
            if part.kind == b"tfhd":
                default = _default_duration(reader, part)
            elif part.kind == b"trun":
                self.ticks += _run_duration(reader, part, default)
        # The samples follow in an `mdat`.
        self.end = next((following.end for following in boxes(reader, box.end, reader.size)), box.end)

    def set_duration(self, size: int, media: Media) -> None:
        """Set the duration, unless it is known; a track's ticks are its samples, in nearly all files."""
        if media.duration is not None:
            return
        if self.indexed is not None:
            media.set_duration(*self.indexed)
        elif self.ticks and media.sample_rate and self.end > self.start:
            whole = self.ticks * (size - self.start) / (self.end - self.start)
            media.set_duration(whole, media.sample_rate, exact=False)


def _default_duration(reader: RangedReader, box: Box) -> int:
    (flags,) = read_layout(reader, ">I", box.start)
    position = box.start + 8 + 8 * (flags & 1) + 4 * (flags >> 1 & 1)
    return int(read_layout(reader, ">I", position)[0]) if flags & 8 else 0


def _run_duration(reader: RangedReader, box: Box, default: int) -> int:
    flags, count = read_layout(reader, ">II", box.start)
    if not flags & 0x100:
        return int(default * count)
    width = 4 * (flags & 0xF00).bit_count()
    start = box.start + 8 + 4 * (flags & 1) + 4 * (flags >> 2 & 1)
    data = reader.read(start, min(width * min(count, 4096), box.end - start))
    return sum(unpack(">I", data, n)[0] for n in range(0, len(data) - width + 1, width))


def _indexed_duration(reader: RangedReader, box: Box) -> tuple[int, int]:
    version, scale = read_layout(reader, ">B7xI", box.start)
    (count,) = read_layout(reader, ">H", box.start + (30 if version else 22))
    start = box.start + (32 if version else 24)
    data = reader.read(start, min(12 * count, box.end - start))
    return sum(unpack(">I", data, n + 4)[0] for n in range(0, len(data) - 11, 12)), scale


# --- Tags ------------------------------------------------------------------------------------------------------------


def _parse_user_data(reader: RangedReader, user_data: Box, media: Media) -> None:
    for box in boxes(reader, user_data.start, user_data.end):
        if box.kind == b"meta":
            _parse_meta(reader, box, media)
        elif box.kind in TAGS and box.kind.startswith(b"\xa9"):
            # QuickTime: length and language, then the text.
            length = read_layout(reader, ">H", box.start)[0]
            media.set_tag(TAGS[box.kind], _decode(reader.read(box.start + 4, min(length, MAX_TEXT))))


def _parse_meta(reader: RangedReader, meta: Box, media: Media) -> None:
    # ISO's `meta` has a version in front of its boxes, QuickTime's has not.
    plain = read_exactly(reader, meta.start + 4, 4) == b"hdlr"
    for box in boxes(reader, meta.start + (0 if plain else 4), meta.end):
        if box.kind == b"ilst":
            for item in boxes(reader, box.start, box.end):
                _parse_item(reader, item, media)
                # What may lie behind a cover is worth a request only for the numbers, which some encoders write last.
                if "track_number" in media.tags and not reader.cached(item.end, 8):
                    return
            return


def _parse_item(reader: RangedReader, item: Box, media: Media) -> None:
    if item.kind == b"covr":
        for box in boxes(reader, item.start, item.end):
            if box.kind == b"data":
                kind = read_layout(reader, ">I", box.start)[0]
                declared = {13: "image/jpeg", 14: "image/png", 27: "image/bmp"}.get(kind, "")
                media.add_picture(3, declared, reader.cached(box.start + 8, 12), box.start + 8, box.end - box.start - 8)
    elif item.kind == b"----":
        _parse_free_item(reader, item, media)
    elif item.kind in TAGS:
        data = _find(reader, item, b"data")
        if data is not None:
            value = reader.read(data.start + 8, min(data.end - data.start - 8, MAX_TEXT))
            numeric = item.kind in (b"trkn", b"disk")
            media.set_tag(TAGS[item.kind], unpack(">xxH", value)[0] if numeric else _decode(value))


def _parse_free_item(reader: RangedReader, item: Box, media: Media) -> None:
    parts = {box.kind: box for box in boxes(reader, item.start, item.end)}
    if {b"name", b"data"} <= parts.keys():
        name, data = parts[b"name"], parts[b"data"]
        if reader.read(name.start + 4, min(name.end - name.start - 4, 64)).upper() == b"ISRC":
            media.set_tag("isrc", _decode(reader.read(data.start + 8, min(data.end - data.start - 8, 64))))


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "replace")
