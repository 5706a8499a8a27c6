"""Formats whose facts stand in one header of fixed layout: most lossless codecs, and the files of older systems."""

from __future__ import annotations

import re
from collections.abc import Callable

from storage.formats.containers.tags import parse_ape_footer, parse_id3
from storage.formats.media import Media, read_exactly, read_layout, unpack
from storage.formats.ranged import RangedReader, contained

WAVPACK_RATES = (
    6_000, 8_000, 9_600, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000,
    192_000,
)  # fmt: skip
MUSEPACK_RATES = (44_100, 48_000, 37_800, 32_000)
AU_CODECS = {
    1: ("mulaw", 8), 2: ("pcm", 8), 3: ("pcm", 16), 4: ("pcm", 24), 5: ("pcm", 32), 6: ("pcm_float", 32),
    7: ("pcm_float", 64), 23: ("adpcm", 4), 27: ("alaw", 8),
}  # fmt: skip
IRCAM_CODECS = {
    1: ("pcm", 8), 2: ("pcm", 16), 3: ("pcm", 24), 4: ("pcm_float", 32), 8: ("pcm_float", 64), 0x10001: ("alaw", 8),
    0x20001: ("mulaw", 8), 0x40004: ("pcm", 32),
}  # fmt: skip
CODEC2_RATES = (3200, 2400, 1600, 1400, 1400, 1200, 800, 800, 800)
"""Bit rates of the modes of Codec 2, whose frames fill whole bytes."""

VOC_HEADERS = {1: 2, 2: 0, 9: 12}
"""Bytes before the sound in each kind of block that has some."""

TAIL = 8192
"""Bytes at the end of a file in which an APE tag is looked for."""


def _is(media: Media, media_type: str, container: str, codec: str | None = None) -> None:
    media.media_type, media.container, media.codec, media.has_audio = media_type, container, codec, True


def _read_tail(reader: RangedReader, media: Media) -> None:
    """Read the APE tag at the end of a file: these formats have their tags nowhere else."""
    with contained(reader):
        parse_ape_footer(reader, reader.read(max(0, reader.size - TAIL), TAIL), media)


def parse_wavpack(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse a WavPack block (https://www.wavpack.com/WavPack5FileFormat.pdf)."""
    size, version, high, samples, _, count, flags = read_layout(reader, "<4xIHxBIIII", offset)
    if not 0x402 <= version <= 0x410 or not 24 <= size <= 2**24 or count > 2**20:
        return False
    _is(media, "audio/x-wavpack", "wavpack", "wavpack")
    code = flags >> 23 & 15
    media.sample_rate = WAVPACK_RATES[code] if code < len(WAVPACK_RATES) else None
    media.channels, media.bit_depth = 1 if flags & 4 else 2, ((flags & 3) + 1) * 8 - (flags >> 13 & 31)
    total = samples | high << 32
    if samples != 0xFFFFFFFF and not flags & 1 << 31:
        media.set_duration(total, media.sample_rate or 0)
    elif flags & 1 << 31:
        media.bit_depth = 1
    if not flags & 1 << 12:
        # More blocks carry further channels.
        media.channels = None
    _read_tail(reader, media)
    return True


def parse_monkey(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse Monkey's Audio."""
    version = read_layout(reader, "<4xH", offset)[0]
    if not 3_000 <= version <= 4_999:
        return False
    _is(media, "audio/x-ape", "ape", "ape")
    if version >= 3_980:
        descriptor, header = read_layout(reader, "<8xII", offset)
        if not 24 <= descriptor <= 4096 or header < 24:
            return True
        values = read_layout(reader, "<4xIIIHHI", offset + descriptor)
        per_frame, last, frames, depth, channels, rate = values
    else:
        level, flags, channels, rate, _, _, frames, last = read_layout(reader, "<6xHHHIIIII", offset)
        per_frame = 73_728 * 4 if version >= 3_950 else 73_728 if version >= 3_900 or level == 4000 else 9_216
        depth = 8 if flags & 1 else 24 if flags & 8 else 16
    media.channels, media.sample_rate, media.bit_depth = channels, rate, depth
    if frames > 0:
        media.set_duration((frames - 1) * per_frame + last, rate)
    _read_tail(reader, media)
    return True


def parse_tta(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse True Audio."""
    kind, channels, depth, rate, samples = read_layout(reader, "<4xHHHII", offset)
    if kind not in (1, 2, 3) or not channels:
        return False
    _is(media, "audio/x-tta", "tta", "tta")
    media.channels, media.bit_depth, media.sample_rate = channels, depth, rate
    media.set_duration(samples, rate)
    _read_tail(reader, media)
    return True


def parse_musepack7(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse Musepack, stream version 7."""
    version, frames, flags = read_layout(reader, "<3xBII", offset)
    if version & 15 != 7:
        return False
    _is(media, "audio/x-musepack", "musepack", "musepack")
    media.channels, media.sample_rate = 2, MUSEPACK_RATES[flags >> 16 & 3]
    media.set_duration(frames * 1152 - 576, media.sample_rate, exact=False)
    _read_tail(reader, media)
    return True


def parse_musepack8(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse Musepack, stream version 8: packets, of which SH has the stream's header."""
    _is(media, "audio/x-musepack", "musepack", "musepack")
    data = reader.read(offset, 256)
    position = 4
    for _ in range(8):
        key, (size, start) = data[position : position + 2], _varint(data, position + 2)
        if not key.isalpha() or size < 3:
            return position > 4
        if key == b"SH":
            samples, after = _varint(data, start + 5)
            silence, after = _varint(data, after)
            first, second = unpack(">BB", data, after)
            media.sample_rate, media.channels = MUSEPACK_RATES[first >> 5 & 3], (second >> 4) + 1
            media.set_duration(samples - silence, media.sample_rate)
            _read_tail(reader, media)
            return True
        position += size
    return False


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for _ in range(9):
        (byte,) = unpack("B", data, position)
        position, value = position + 1, value << 7 | byte & 0x7F
        if not byte & 0x80:
            break
    return value, position


def parse_tak(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse TAK: a metadata block with the stream's header comes first."""
    kind, size = read_layout(reader, "<4xBHx", offset)
    if kind != 1 or size < 10:
        return False
    _is(media, "audio/x-tak", "tak", "tak")
    bits = int.from_bytes(reader.read(offset + 8, 10), "little")
    samples, rate = bits >> 14 & (1 << 35) - 1, (bits >> 52 & (1 << 18) - 1) + 6000
    depth, channels = (bits >> 70 & 31) + 8, (bits >> 75 & 15) + 1
    if bits >> 49 & 7 == 0 and rate <= 200_000:
        media.sample_rate, media.bit_depth, media.channels = rate, depth, channels
        media.set_duration(samples, rate)
    return True


def parse_optimfrog(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse OptimFROG."""
    (size,) = read_layout(reader, "<4xI", offset)
    if not 12 <= size <= 64:
        return False
    _is(media, "audio/x-optimfrog", "optimfrog", "optimfrog")
    low, high, kind, channels, rate = read_layout(reader, "<8xIHBBI", offset)
    if kind < 16 and channels < 8 and 0 < rate < 1_000_000:
        media.channels, media.sample_rate, media.bit_depth = channels + 1, rate, (kind // 2 + 1) * 8
        media.set_duration((low | high << 32) // (channels + 1), rate, exact=False)
    return True


def parse_shorten(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse Shorten, whose header is coded like its sound."""
    if not 1 <= read_exactly(reader, offset, 5)[4] <= 3:
        return False
    _is(media, "audio/x-shorten", "shorten", "shorten")
    return True


def parse_dsf(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse Sony's DSD stream file."""
    header, tags_at, name = read_layout(reader, "<4xQ8xQ4s", offset)
    if header != 28 or name != b"fmt ":
        return False
    _is(media, "audio/x-dsf", "dsf", "dsd")
    layout = "<8xIIIIIIQ"
    version, kind, _, channels, rate, _, samples = read_layout(reader, layout, offset + 32)
    media.channels, media.sample_rate, media.bit_depth = channels, rate, 1
    media.bit_rate = channels * rate
    media.set_duration(samples, rate)
    if tags_at:
        with contained(reader):
            parse_id3(reader, tags_at, media)
    return bool(version == 1 and kind == 0)


def parse_au(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse Sun's and NeXT's file."""
    order = ">" if read_exactly(reader, offset, 4) == b".snd" else "<"
    start, size, kind, rate, channels = read_layout(reader, f"{order}4xIIIII", offset)
    if not 24 <= start <= 2**20 or not 0 < channels <= 64 or not rate:
        return False
    codec, depth = AU_CODECS.get(kind, (None, None))
    _is(media, "audio/basic", "au", codec)
    media.channels, media.sample_rate, media.bit_depth = channels, rate, depth
    _set_plain_duration(reader, offset + start, None if size == 0xFFFFFFFF else size, media)
    return True


def _set_plain_duration(reader: RangedReader, start: int, size: int | None, media: Media) -> None:
    """Take the duration from the bytes of uncompressed sound, which the file's end bounds."""
    available = reader.size - start
    exact = size is not None and 0 < size <= available
    used = size if exact and size else available
    if media.bit_depth and media.sample_rate and media.channels:
        media.bit_rate = media.bit_depth * media.channels * media.sample_rate
        media.set_duration(used * 8, media.bit_rate, exact=exact)


def parse_voc(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse Creative's file, by its first block of sound, and the others as far as they were fetched."""
    start = read_layout(reader, "<20xH", offset)[0]
    _is(media, "audio/x-voc", "voc")
    position, total, exact = offset + start, 0, True
    while position + 4 <= reader.size:
        header = reader.cached(position, 4)
        if len(header) < 4:
            total, exact = reader.size - offset - start, False
            break
        kind, size = header[0], int.from_bytes(header[1:], "little")
        if kind == 0:
            break
        if kind in (1, 8, 9) and media.sample_rate is None:
            _parse_voc_block(reader, kind, position + 4, media)
        total += size - VOC_HEADERS[kind] if kind in VOC_HEADERS else 0
        position += 4 + size
    if media.codec == "pcm" and media.bit_rate:
        media.set_duration(total * 8, media.bit_rate, exact=exact)
    return True


def _parse_voc_block(reader: RangedReader, kind: int, offset: int, media: Media) -> None:
    if kind == 9:
        rate, depth, channels, codec = read_layout(reader, "<IBBH", offset)
        media.codec = {0: "pcm", 4: "pcm", 6: "alaw", 7: "mulaw"}.get(codec, "adpcm")
        media.sample_rate, media.bit_depth, media.channels = rate, depth, channels
    elif kind == 8:
        divisor, codec, stereo = read_layout(reader, "<HBB", offset)
        media.codec = "pcm" if codec == 0 else "adpcm"
        media.channels, media.bit_depth = stereo + 1, 8
        media.sample_rate = 256_000_000 // ((65_536 - divisor) * (stereo + 1))
    else:
        divisor, codec = read_layout(reader, "<BB", offset)
        media.codec = "pcm" if codec == 0 else "adpcm"
        media.sample_rate, media.channels, media.bit_depth = 1_000_000 // (256 - divisor), 1, 8
    media.bit_rate = (media.sample_rate or 0) * (media.channels or 0) * (media.bit_depth or 0)


def parse_nist(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse NIST SPHERE, whose header is text."""
    text = reader.read(offset, 1024)
    fields = dict(re.findall(rb"(\w{1,40}) -[irs]\d* ([^\n]{1,40})", text))
    if b"sample_count" not in fields:
        return False
    coding = fields.get(b"sample_coding", b"pcm")
    codec = {b"pcm": "pcm", b"ulaw": "mulaw", b"mu-law": "mulaw", b"alaw": "alaw"}.get(coding.split(b",")[0])
    _is(media, "audio/x-nist", "nist", codec)
    media.sample_rate, media.channels = int(fields.get(b"sample_rate", b"0")), int(fields.get(b"channel_count", b"0"))
    media.bit_depth = 8 * int(fields.get(b"sample_n_bytes", b"0"))
    if codec is not None:
        media.bit_rate = media.bit_depth * media.channels * media.sample_rate
    media.set_duration(int(fields[b"sample_count"]), media.sample_rate)
    return True


def parse_ircam(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse IRCAM's (Berkeley's) sound file."""
    order = "<" if read_exactly(reader, offset, 1) == b"\x64" else ">"
    rate, channels, kind = read_layout(reader, f"{order}4xfII", offset)
    if not 100 <= rate <= 1_000_000 or not 0 < channels <= 64 or kind not in IRCAM_CODECS:
        return False
    codec, depth = IRCAM_CODECS[kind]
    _is(media, "audio/x-ircam", "ircam", codec)
    media.sample_rate, media.channels, media.bit_depth = rate, channels, depth
    _set_plain_duration(reader, offset + 1024, reader.size - offset - 1024, media)
    return True


def parse_avr(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse Audio Visual Research's file."""
    mono, depth, rate, samples = read_layout(reader, ">12xHH6xII", offset)
    rate &= 0xFFFFFF
    if depth not in (8, 16) or not rate:
        return False
    _is(media, "audio/x-avr", "avr", "pcm")
    media.channels, media.bit_depth, media.sample_rate = 1 if mono == 0 else 2, depth, rate
    media.bit_rate = rate * depth * media.channels
    media.set_duration(samples, rate)
    return True


def parse_paf(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse Ensoniq's PARIS audio file."""
    order = ">" if read_exactly(reader, offset, 4) == b" paf" else "<"
    version, rate, kind, channels = read_layout(reader, f"{order}4xI4xIII", offset)
    if version != 0 or not rate or kind > 2 or not 0 < channels <= 64:
        return False
    _is(media, "audio/x-paf", "paf", "pcm")
    media.sample_rate, media.channels, media.bit_depth = rate, channels, (16, 24, 8)[kind]
    if kind != 1:
        _set_plain_duration(reader, offset + 2048, reader.size - offset - 2048, media)
    return True


def parse_adx(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse CRI's ADX."""
    start, encoding, block, depth, channels, rate, samples = read_layout(reader, ">2xHBBBBII", offset)
    if reader.read(offset + start - 2, 6) != b"(c)CRI":
        return False
    _is(media, "audio/x-adx", "adx", "adpcm")
    media.channels, media.sample_rate = channels, rate
    if encoding in (2, 3, 4) and block > 2 and depth == 4:
        media.bit_rate = block * 8 * channels * rate // 32
        media.set_duration(samples, rate)
    return True


def parse_codec2(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse Codec 2."""
    major, mode = read_layout(reader, "3xBxB", offset)
    if major != 0 or mode >= len(CODEC2_RATES):
        return False
    _is(media, "audio/x-codec2", "codec2", "codec2")
    media.sample_rate, media.channels, media.bit_rate = 8000, 1, CODEC2_RATES[mode]
    return True


def parse_adif(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse AAC in ADIF (ISO/IEC 13818-7, 6.2), which is too rare for its facts to be worth their code."""
    read_exactly(reader, offset, 32)
    _is(media, "audio/aac", "aac", "aac")
    return True


Parser = Callable[[RangedReader, int, Media], bool]
PARSERS: dict[bytes, Parser] = {
    b"wvpk": parse_wavpack, b"MAC ": parse_monkey, b"MACF": parse_monkey, b"TTA1": parse_tta, b"TTA2": parse_tta,
    b"MP+": parse_musepack7, b"MPCK": parse_musepack8, b"tBaK": parse_tak, b"OFR ": parse_optimfrog,
    b"ajkg": parse_shorten, b"DSD ": parse_dsf, b".snd": parse_au, b"dns.": parse_au,
    b"Creative Voice File\x1a": parse_voc, b"NIST_1A\n": parse_nist, b"\x64\xa3\x01\x00": parse_ircam,
    b"\x64\xa3\x02\x00": parse_ircam, b"\x64\xa3\x03\x00": parse_ircam, b"\x00\x01\xa3\x64": parse_ircam,
    b"\x00\x02\xa3\x64": parse_ircam, b"2BIT": parse_avr, b" paf": parse_paf, b"fap ": parse_paf,
    b"\x80\x00": parse_adx, b"\xc0\xde\xc2": parse_codec2, b"ADIF": parse_adif,
}  # fmt: skip
"""Parsers by the bytes that a file begins with."""
