"""Streams of frames without a container: MPEG audio, ADTS, LOAS, AC-3, E-AC-3, DTS, TrueHD and MLP, SBC, GSM, AMR.

A sync word of 11 to 16 bits proves nothing: any file has some by chance. A stream is recognized by consecutive frames,
each of which begins where the one before it ends, with the same constant fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from storage.formats.containers.aac import AAC_RATES, parse_stream_config
from storage.formats.media import Media, unpack, window
from storage.formats.ranged import RangedReader

WINDOW = 65_536
"""Bytes in which a stream is searched."""

ENOUGH, ENOUGH_TO_SEARCH = 8192, 16_384
"""Bytes that suffice where they were fetched already: four frames of nearly any kind."""

MIN_FRAMES = 4
"""Consecutive frames that prove a stream: the chance of four in 64 KiB of noise is below one in 10**12."""

LONG_RUN = 16
"""Consecutive frames that are believed wherever they are; fewer only up to the last TAIL_TAGS bytes."""

TAIL_TAGS = 512
MIN_VARIETY = 4
"""Different bytes that any frame has, even one of silence; a file of one repeated byte is no stream."""

MAX_CANDIDATES = 1000
MAX_WALK = 10_000


class Frame(NamedTuple):
    """One frame's header: `length` in bytes, `samples` per channel, and `key`, which all frames of a stream share."""

    length: int
    samples: int
    sample_rate: int
    key: tuple[object, ...]
    codec: str
    channels: int | None = None
    bit_rate: int | None = None
    bit_depth: int | None = None


FrameParser = Callable[[bytes, int], Frame | None]
"""Returns the frame whose header is at an offset of the data, or None. A header near the end of the data is None."""


@dataclass(frozen=True)
class Format:
    """A kind of stream: its media type and container, its sync words, and the parser of its headers."""

    media_type: str
    container: str
    sync: re.Pattern[bytes]
    parse: FrameParser
    min_frames: int = MIN_FRAMES


# --- Headers ----------------------------------------------------------------------------------------------------------

MPEG_RATES = (44_100, 48_000, 32_000)
MPEG_BIT_RATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates in kbit/s by version and layer; layers II and III of the low sampling rates share theirs."""

AAC_CHANNELS = (None, 1, 2, 3, 4, 5, 6, 8, None, None, None, 7, 8, None, 8)
AC3_RATES = (48_000, 44_100, 32_000)
AC3_BIT_RATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
AC3_CHANNELS = (2, 1, 2, 3, 3, 4, 4, 5)
TRUEHD_CHANNELS = (2, 1, 1, 2, 2, 2, 2, 1, 1, 2, 2, 1, 1)
"""Channels by the bits of a channel assignment."""

MLP_CHANNELS = (1, 2, 3, 4, 3, 4, 5, 3, 4, 5, 4, 5, 6, 4, 5, 4, 5, 6, 5, 5, 6)
DTS_RATES = {
    1: 8_000, 2: 16_000, 3: 32_000, 6: 11_025, 7: 22_050, 8: 44_100, 11: 12_000, 12: 24_000, 13: 48_000,
}  # fmt: skip
DTS_CHANNELS = (1, 2, 2, 2, 2, 3, 3, 4, 4, 5, 6, 6, 6, 7, 8, 8)


def mpeg_header(data: bytes, offset: int) -> tuple[int, int, int, int, int, int] | None:
    """Return version (1, 2 or 3 for 2.5), layer, bit rate in kbit/s (0 is free), sample rate, padding and channels."""
    if offset + 4 > len(data) or data[offset] != 0xFF:
        return None
    second, third, fourth = data[offset + 1 : offset + 4]
    version, layer = (3, 0, 2, 1)[second >> 3 & 3], (0, 3, 2, 1)[second >> 1 & 3]
    rate, bit_rate = third >> 2 & 3, third >> 4
    if second & 0xE0 != 0xE0 or not version or not layer or rate == 3 or bit_rate == 15:
        return None
    table = MPEG_BIT_RATES[(1, layer) if version == 1 else (2, min(layer, 2))]
    sample_rate = MPEG_RATES[rate] >> (version - 1)
    return version, layer, table[bit_rate], sample_rate, third >> 1 & 1, 1 if fourth >> 6 == 3 else 2


def mpeg_samples(version: int, layer: int) -> int:
    """Return the samples in a frame."""
    if layer == 1:
        return 384
    return 576 if layer == 3 and version > 1 else 1152


def mpeg_frame(data: bytes, offset: int) -> Frame | None:
    """Parse a frame of ISO/IEC 11172-3 or 13818-3, layers I to III, or of MPEG 2.5."""
    header = mpeg_header(data, offset)
    if header is None or header[2] == 0:
        return None
    version, layer, bit_rate, rate, padding, channels = header
    samples = mpeg_samples(version, layer)
    if layer == 1:
        length = (12_000 * bit_rate // rate + padding) * 4
    else:
        length = samples // 8 * 1000 * bit_rate // rate + padding
    return Frame(length, samples, rate, (version, layer, rate), f"mp{layer}", channels, bit_rate * 1000)


def adts_frame(data: bytes, offset: int) -> Frame | None:
    """Parse a frame of ISO/IEC 13818-7, 6.2."""
    if offset + 7 > len(data) or data[offset] != 0xFF or data[offset + 1] & 0xF6 != 0xF0:
        return None
    third, fourth, fifth, sixth, seventh = data[offset + 2 : offset + 7]
    index, channels = third >> 2 & 15, (third & 1) << 2 | fourth >> 6
    length = (fourth & 3) << 11 | fifth << 3 | sixth >> 5
    if index >= len(AAC_RATES) or length < 8:
        return None
    samples = 1024 * ((seventh & 3) + 1)
    key = (data[offset + 1], third & 0xFD, channels)
    return Frame(length, samples, AAC_RATES[index], key, "aac", AAC_CHANNELS[channels])


def loas_frame(data: bytes, offset: int) -> Frame | None:
    """Parse an AudioSyncStream of ISO/IEC 14496-3, 1.7.2."""
    if offset + 3 > len(data) or data[offset] != 0x56 or data[offset + 1] & 0xE0 != 0xE0:
        return None
    length = (data[offset + 1] & 0x1F) << 8 | data[offset + 2]
    return Frame(length + 3, 1024, 0, (), "aac") if length > 2 else None


def ac3_frame(data: bytes, offset: int) -> Frame | None:
    """Parse a frame of ATSC A/52, AC-3 or (annex E) E-AC-3."""
    if offset + 8 > len(data) or data[offset : offset + 2] != b"\x0bw":
        return None
    stream = data[offset + 5] >> 3
    if 10 < stream <= 16:
        return _eac3_frame(data, offset)
    rate_code, size_code = data[offset + 4] >> 6, data[offset + 4] & 63
    if stream > 10 or rate_code == 3 or size_code >= 38:
        return None
    bit_rate, rate = AC3_BIT_RATES[size_code >> 1], AC3_RATES[rate_code]
    half = 96_000 * bit_rate // rate + (size_code & 1 if rate == 44_100 else 0)
    bits = data[offset + 6] << 8 | data[offset + 7]
    mode = bits >> 13
    position = 3 + 2 * (mode & 1 and mode != 1) + 2 * bool(mode & 4) + 2 * (mode == 2)
    channels = AC3_CHANNELS[mode] + (bits >> (15 - position) & 1)
    shift = max(stream - 8, 0)
    key = ("ac3", stream, rate_code, mode)
    return Frame(half * 2, 1536, rate >> shift, key, "ac3", channels, bit_rate * 1000 >> shift)


def _eac3_frame(data: bytes, offset: int) -> Frame | None:
    kind, length = data[offset + 2] >> 6, ((data[offset + 2] & 7) << 8 | data[offset + 3]) * 2 + 2
    rate_code, blocks_code = data[offset + 4] >> 6, data[offset + 4] >> 4 & 3
    rate = AC3_RATES[rate_code] if rate_code < 3 else (24_000, 22_050, 16_000, 0)[blocks_code]
    if not rate or kind == 3 or length < 8:
        return None
    samples = 256 * (6 if rate_code == 3 else (1, 2, 3, 6)[blocks_code])
    channels = AC3_CHANNELS[data[offset + 4] >> 1 & 7] + (data[offset + 4] & 1)
    return Frame(length, samples, rate, ("eac3", rate), "eac3", channels, length * 8 * rate // samples)


def dts_frame(data: bytes, offset: int) -> Frame | None:
    """Parse a core frame of ETSI TS 102 114, 5.3: of 16 bits a word, big-endian."""
    if data[offset : offset + 4] != b"\x7f\xfe\x80\x01" or offset + 12 > len(data):
        return None
    bits = int.from_bytes(data[offset + 4 : offset + 12], "big")
    blocks, length = (bits >> 50 & 0x7F) + 1, (bits >> 36 & 0x3FFF) + 1
    mode, rate = bits >> 30 & 0x3F, DTS_RATES.get(bits >> 26 & 0xF)
    if rate is None or blocks < 6 or length < 96:
        return None
    channels = DTS_CHANNELS[mode] + (1 if bits >> 9 & 3 else 0) if mode < len(DTS_CHANNELS) else None
    samples = blocks * 32
    return Frame(length, samples, rate, (mode, rate), "dts", channels, length * 8 * rate // samples)


def mlp_frame(data: bytes, offset: int) -> Frame | None:
    """Parse an access unit of TrueHD or MLP that begins with a major sync."""
    if data[offset + 4 : offset + 7] != b"\xf8\x72\x6f" or offset + 12 > len(data):
        return None
    kind = data[offset + 7]
    if kind not in (0xBA, 0xBB):
        return None
    length = (data[offset] << 8 | data[offset + 1]) & 0x0FFF
    bits = int.from_bytes(data[offset + 8 : offset + 12], "big")
    if kind == 0xBA:
        code, depth, codec = bits >> 28, 24, "truehd"
        wide, narrow = bits & 0x1FFF, bits >> 15 & 0x1F
        channels = sum(count for n, count in enumerate(TRUEHD_CHANNELS) if (wide or narrow) >> n & 1)
    else:
        code, depth, codec = bits >> 20 & 15, (16, 20, 24)[min(bits >> 28, 2)], "mlp"
        arrangement = bits & 0x1F
        channels = MLP_CHANNELS[arrangement] if arrangement < len(MLP_CHANNELS) else 0
    rate = (44_100 if code & 8 else 48_000) << (code & 7)
    return Frame(length * 2, 40 << (code & 7), rate, (kind, code), codec, channels or None, None, depth)


def sbc_frame(data: bytes, offset: int) -> Frame | None:
    """Parse a frame of Bluetooth's A2DP specification, 12.9."""
    if offset + 4 > len(data) or data[offset] != 0x9C:
        return None
    second, pool = data[offset + 1], data[offset + 2]
    rate, blocks = (16_000, 32_000, 44_100, 48_000)[second >> 6], ((second >> 4 & 3) + 1) * 4
    mode, bands = second >> 2 & 3, 8 if second & 1 else 4
    channels = 1 if mode == 0 else 2
    if not 2 <= pool <= 250:
        return None
    bits = blocks * channels * pool if mode < 2 else (bands if mode == 3 else 0) + blocks * pool
    length = 4 + bands * channels // 2 + (bits + 7) // 8
    return Frame(length, blocks * bands, rate, (second, pool), "sbc", channels, length * 8 * rate // (blocks * bands))


def gsm_frame(data: bytes, offset: int) -> Frame | None:
    """Parse a frame of GSM 06.10 full rate, which begins with the four bits 1101."""
    if offset >= len(data) or data[offset] >> 4 != 0xD:
        return None
    return Frame(33, 160, 8000, (), "gsm", 1, 13_200)


MPEG = Format("audio/mpeg", "mp3", re.compile(rb"\xff(?=[\xe2-\xff])"), mpeg_frame)
ADTS = Format("audio/aac", "aac", re.compile(rb"\xff(?=[\xf0\xf1\xf8\xf9])"), adts_frame)
LOAS = Format("audio/aac", "aac", re.compile(rb"\x56(?=[\xe0-\xff])"), loas_frame, 6)
AC3 = Format("audio/ac3", "ac3", re.compile(rb"\x0bw"), ac3_frame)
DTS = Format("audio/vnd.dts", "dts", re.compile(rb"\x7f\xfe\x80\x01"), dts_frame, 3)
FORMATS = (MPEG, ADTS, AC3, LOAS, DTS)
MLP = Format("audio/mlp", "mlp", re.compile(rb"(?<=....)\xf8\x72\x6f"), mlp_frame, 1)
SBC = Format("audio/x-sbc", "sbc", re.compile(rb"\x9c"), sbc_frame, 8)
GSM = Format("audio/gsm", "gsm", re.compile(rb"[\xd0-\xdf]"), gsm_frame, 12)

# --- Streams ----------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """Consecutive frames from `start` to `end`: their number, their samples, and the first one."""

    start: int
    end: int
    frames: int
    samples: int
    first: Frame
    constant: bool


def follow(data: bytes, start: int, parse: FrameParser, limit: int = MAX_WALK) -> Run | None:
    """Return the run of at most `limit` frames that begins at `start`. Its last frame may reach beyond the data."""
    first = parse(data, start)
    if first is None:
        return None
    position, count, samples, constant = start, 0, 0, True
    frame: Frame | None = first
    while frame is not None and frame.key == first.key and count < limit:
        position, count, samples = position + frame.length, count + 1, samples + frame.samples
        constant = constant and frame.bit_rate == first.bit_rate
        frame = parse(data, position)
    return Run(start, position, count, samples, first, constant)


def is_stream(data: bytes, run: Run | None, kind: Format, at_end: bool) -> bool:
    """Return True where a run is long enough, or is all there is: as short as two frames that end with the file."""
    if run is None or len(set(data[run.start : run.start + 2048])) < MIN_VARIETY:
        return False
    return run.frames >= kind.min_frames or (at_end and run.frames >= 2)


def parse_at(kind: Format, reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse a stream that begins exactly at `offset`."""
    data = window(reader, offset, WINDOW, ENOUGH)
    run = follow(data, 0, kind.parse)
    if run is None or not is_stream(data, run, kind, offset + run.end == reader.size):
        return False
    _describe(reader, offset, data, run, kind, media)
    return True


def search(reader: RangedReader, offset: int, media: Media) -> bool:
    """Search a stream in the WINDOW from `offset`, behind bytes that are of no format: remains of a tag, or of a frame
    where a recording was cut.
    """
    data = window(reader, offset, WINDOW, ENOUGH_TO_SEARCH)
    for kind in FORMATS:
        run = _search(data, kind)
        if run is not None:
            _describe(reader, offset, data, run, kind, media)
            return True
    return _search_free_format(data, media) or _search_swapped(reader, offset, data, media)


def _search(data: bytes, kind: Format) -> Run | None:
    for tried, match in enumerate(kind.sync.finditer(data)):
        if tried > MAX_CANDIDATES:
            return None
        run = follow(data, match.start(), kind.parse, kind.min_frames)
        if run is not None and run.frames >= kind.min_frames:
            whole = follow(data, match.start(), kind.parse)
            # A few frames may as well be part of something else.
            varied = len(set(data[match.start() : match.start() + 2048])) >= MIN_VARIETY
            if whole is not None and varied and (whole.frames >= LONG_RUN or whole.end >= len(data) - TAIL_TAGS):
                return whole
    return None


def _search_free_format(data: bytes, media: Media) -> bool:
    """Search MPEG audio of a free bit rate: its headers tell no length, but all its frames have the same."""
    for tried, match in enumerate(_free_sync.finditer(data)):
        if tried > MAX_CANDIDATES // 25:
            return False
        header = mpeg_header(data, match.start())
        if header is not None and (length := _free_length(data, match.start(), header)):
            version, layer, _, rate, _, channels = header
            media.media_type, media.container, media.codec = "audio/mpeg", "mp3", f"mp{layer}"
            media.sample_rate, media.channels, media.has_audio = rate, channels, True
            media.bit_rate = length * 8 * rate / mpeg_samples(version, layer)
            return True
    return False


_free_sync = re.compile(rb"\xff(?=[\xe2-\xe5\xf2-\xf5\xfa-\xfd][\x00-\x0b])")


def _free_length(data: bytes, start: int, header: tuple[int, ...]) -> int | None:
    sync = data[start : start + 2]
    position = data.find(sync, start + 32)
    for _ in range(32):
        length = position - start
        if position < 0 or length > 8192:
            return None
        if all(_has_header(data, start + n * length, n, header) for n in range(1, 2 * MIN_FRAMES)):
            return length
        position = data.find(sync, position + 1)
    return None


def _has_header(data: bytes, position: int, padding: int, header: tuple[int, ...]) -> bool:
    """Return True where the same header is at a position, give or take a byte of padding for each frame before it."""
    places = range(position - padding, position + padding + 1)
    return any((mpeg_header(data, n) or ())[:4] == header[:4] for n in places)


def _search_swapped(reader: RangedReader, offset: int, data: bytes, media: Media) -> bool:
    """Search AC-3 and DTS whose words are little-endian."""
    if b"\x77\x0b" not in data[:WINDOW] and b"\xfe\x7f\x01\x80" not in data:
        return False
    even = data[: len(data) // 2 * 2]
    swapped = bytearray(len(even))
    swapped[0::2], swapped[1::2] = even[1::2], even[0::2]
    for kind in (AC3, DTS):
        run = _search(bytes(swapped), kind)
        if run is not None:
            _describe(reader, offset, bytes(swapped), run, kind, media)
            return True
    return False


def _describe(reader: RangedReader, offset: int, data: bytes, run: Run, kind: Format, media: Media) -> None:
    first, start = run.first, offset + run.start
    media.media_type, media.container, media.codec, media.has_audio = kind.media_type, kind.container, first.codec, True
    if first.codec in ("eac3", "truehd"):
        media.media_type = {"eac3": "audio/eac3", "truehd": "audio/true-hd"}[first.codec]
    media.sample_rate, media.channels = first.sample_rate or None, first.channels
    media.bit_depth = first.bit_depth
    if kind is LOAS:
        parse_stream_config(data[run.start + 3 : run.start + 35], media)
    if kind is MPEG and _describe_xing(data, run, media):
        return
    if not first.sample_rate or kind is MLP:
        return
    size = reader.size - start
    if offset + run.end >= reader.size and run.frames < MAX_WALK:
        # Behind junk, it is anybody's guess what was cut off.
        media.set_duration(run.samples, first.sample_rate, exact=run.start == 0)
    else:
        mean = (run.end - run.start) / run.samples
        media.set_duration(size / mean, first.sample_rate, exact=False)
    if first.bit_rate and run.constant and kind is not ADTS:
        media.bit_rate = first.bit_rate
    else:
        media.bit_rate = (run.end - run.start) * 8 * first.sample_rate / run.samples


def _describe_xing(data: bytes, run: Run, media: Media) -> bool:
    """Read the number of frames that encoders leave in the first frame: Xing, Info or VBRI."""
    frame = data[run.start : run.start + run.first.length]
    following = mpeg_frame(data, run.start + run.first.length)
    for name in (b"Xing", b"Info"):
        place = frame.find(name, 4, 64)
        if place > 0 and unpack(">I", frame, place + 4)[0] & 1:
            frames = unpack(">I", frame, place + 8)[0]
            size = unpack(">I", frame, place + 12)[0] if frame[place + 7] & 2 else 0
            return _set_frames(media, run, following, frames, size, constant=name == b"Info")
    if frame[36:40] == b"VBRI":
        size, frames = unpack(">II", frame, 46)
        return _set_frames(media, run, following, frames, size, constant=False)
    return False


def _set_frames(media: Media, run: Run, following: Frame | None, frames: int, size: int, *, constant: bool) -> bool:
    if not frames:
        return False
    media.set_duration(frames * run.first.samples, run.first.sample_rate)
    # The frame with this header may have a bit rate of its own.
    if following is not None and constant:
        media.bit_rate = following.bit_rate
    elif size and media.duration:
        media.bit_rate = size * 8 / media.duration
    return True


def parse_amr(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse AMR or AMR-WB (RFC 4867, section 5)."""
    head = reader.read(offset, WINDOW)
    wide = head.startswith(b"#!AMR-WB\n")
    if not wide and not head.startswith(b"#!AMR\n"):
        return False
    sizes = (17, 23, 32, 36, 40, 46, 50, 58, 60, 5) if wide else (12, 13, 15, 17, 19, 20, 26, 31, 5)
    media.media_type, media.container = "audio/AMR-WB" if wide else "audio/AMR", "amr"
    media.codec, media.has_audio = "amr", True
    media.sample_rate, media.channels = 16_000 if wide else 8_000, 1
    start = position = 9 if wide else 6
    count = 0
    while position < len(head) and count < MAX_WALK:
        kind = head[position] >> 3 & 15
        following = position + 1 + (sizes[kind] if kind < len(sizes) else 0)
        if offset + following > reader.size:
            break
        position, count = following, count + 1
    if count:
        whole = offset + len(head) >= reader.size
        frames = count if whole else (reader.size - offset - start) * count / (position - start)
        media.set_duration(frames, 50, exact=whole)
        media.bit_rate = (position - start) * 400 / count
    return count > 0
