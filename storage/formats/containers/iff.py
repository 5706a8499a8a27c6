"""IFF and its relatives: AIFF, AIFF-C, 8SVX, MAUD, DSDIFF; and Apple's CAF."""

from __future__ import annotations

import math
import struct

from storage.formats.containers.riff import BIG, Layout, chunks, decode_text
from storage.formats.containers.tags import NAMES, parse_id3
from storage.formats.media import Media, read_exactly, read_layout
from storage.formats.ranged import RangedReader, contained

FORMS = {
    b"8SVX": ("audio/x-8svx", "8svx"), b"16SV": ("audio/x-16sv", "16sv"), b"MAUD": ("audio/x-maud", "maud"),
}  # fmt: skip
OTHER_FORMS = {b"ILBM": "image/x-ilbm", b"PBM ": "image/x-ilbm", b"DJVU": "image/vnd.djvu", b"DJVM": "image/vnd.djvu"}
AIFC_CODECS = {
    b"NONE": "pcm", b"sowt": "pcm", b"twos": "pcm", b"raw ": "pcm", b"in24": "pcm", b"in32": "pcm",
    b"fl32": "pcm_float", b"FL32": "pcm_float", b"fl64": "pcm_float", b"FL64": "pcm_float",
    b"ulaw": "mulaw", b"ULAW": "mulaw", b"alaw": "alaw", b"ALAW": "alaw", b"ima4": "adpcm", b"GSM ": "gsm",
    b"MAC3": "mace", b"MAC6": "mace",
}  # fmt: skip
CAF_CODECS = {
    b"lpcm": "pcm", b"aac ": "aac", b"aach": "aac", b"aacp": "aac", b"alac": "alac", b"opus": "opus", b"flac": "flac",
    b"ima4": "adpcm", b"ulaw": "mulaw", b"alaw": "alaw", b".mp3": "mp3", b".mp2": "mp2", b".mp1": "mp1",
    b"ac-3": "ac3", b"samr": "amr", b"ilbc": "ilbc", b"QDM2": "qdm2",
}  # fmt: skip
TEXT_CHUNKS = {b"NAME": "title", b"AUTH": "artist"}
WIDE_BIG, CAF = Layout(">4sQ", 12, 2), Layout(">4sQ", 12, 1)
UNKNOWN_SIZE = 2**64 - 1


def extended_float(data: bytes) -> float:
    """Return an 80-bit number, as AIFF has its sampling rate.

    >>> extended_float(bytes.fromhex("400eac44000000000000"))
    44100.0
    """
    exponent, mantissa = struct.unpack(">HQ", data)
    return math.ldexp(mantissa, min((exponent & 0x7FFF) - 16_446, 900))


def parse(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse a file that begins with FORM."""
    form = read_exactly(reader, offset, 12)[8:]
    if form in (b"AIFF", b"AIFC"):
        return _parse_aiff(reader, offset + 12, form, media)
    if form in OTHER_FORMS:
        media.other_type = OTHER_FORMS[form]
        return True
    if form not in FORMS:
        return False
    media.media_type, media.container = FORMS[form]
    media.has_audio = True
    if form == b"8SVX":
        _parse_8svx(reader, offset + 12, media)
    elif form == b"MAUD":
        _parse_maud(reader, offset + 12, media)
    return True


def _parse_aiff(reader: RangedReader, offset: int, form: bytes, media: Media) -> bool:
    compressed = form == b"AIFC"
    media.media_type, media.container = "audio/aiff", "aiff"
    for chunk in chunks(reader, offset, reader.size, BIG):
        if chunk.id == b"COMM":
            _parse_common(reader, chunk.start, compressed, media)
        elif chunk.id in TEXT_CHUNKS:
            text = reader.read(chunk.start, min(chunk.size, 4096))
            media.set_tag(TEXT_CHUNKS[chunk.id], decode_text(text))
        elif chunk.id == b"ID3 ":
            # Behind the sound, in most files: a request of its own, only where there is such a chunk.
            with contained(reader):
                parse_id3(reader, chunk.start, media)
    return media.has_audio


def _parse_common(reader: RangedReader, offset: int, compressed: bool, media: Media) -> None:
    channels, samples, depth = read_layout(reader, ">HIH", offset)
    rate = extended_float(read_exactly(reader, offset + 8, 10))
    kind = read_exactly(reader, offset + 18, 4) if compressed else b"NONE"
    media.codec, media.has_audio = AIFC_CODECS.get(kind), True
    media.channels, media.sample_rate = channels, rate
    if media.codec == "adpcm":
        # `samples` are packets of 64.
        samples, depth = samples * 64, 4
    media.bit_depth = depth
    media.set_duration(samples, rate)
    if media.codec in ("pcm", "pcm_float", "mulaw", "alaw"):
        depth = 8 if media.codec in ("mulaw", "alaw") else (depth + 7) // 8 * 8
        media.bit_depth = 8 if media.codec in ("mulaw", "alaw") else media.bit_depth
        media.bit_rate = rate * channels * depth


def _parse_8svx(reader: RangedReader, offset: int, media: Media) -> None:
    for chunk in chunks(reader, offset, reader.size, BIG):
        if chunk.id == b"VHDR":
            rate, _, compression = read_layout(reader, ">12xHBB", chunk.start)
            media.codec = "pcm" if not compression else "adpcm"
            media.sample_rate, media.bit_depth = rate, 8
            media.channels = media.channels or 1
        elif chunk.id == b"CHAN":
            media.channels = 2 if read_layout(reader, ">I", chunk.start)[0] == 6 else 1
        elif chunk.id in TEXT_CHUNKS:
            media.set_tag(TEXT_CHUNKS[chunk.id], decode_text(reader.read(chunk.start, min(chunk.size, 4096))))
        elif chunk.id == b"BODY":
            if media.codec == "pcm" and media.sample_rate:
                media.set_duration(chunk.size / (media.channels or 1), media.sample_rate)
                media.bit_rate = media.sample_rate * 8 * (media.channels or 1)
            return


def _parse_maud(reader: RangedReader, offset: int, media: Media) -> None:
    for chunk in chunks(reader, offset, reader.size, BIG):
        if chunk.id == b"MHDR":
            samples, _, depth, clock, divisor, _, channels = read_layout(reader, ">IHHIHHH", chunk.start)
            rate = clock / max(divisor, 1)
            media.codec, media.sample_rate, media.channels, media.bit_depth = "pcm", rate, channels, depth
            media.set_duration(samples / max(channels, 1), rate)
            media.bit_rate = rate * channels * depth
            return


def parse_dsdiff(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse Philips' DSDIFF, which begins with FRM8."""
    if read_exactly(reader, offset, 16)[12:] != b"DSD ":
        return False
    media.media_type, media.container = "audio/x-dff", "dff"
    for chunk in chunks(reader, offset + 16, reader.size, WIDE_BIG):
        if chunk.id == b"PROP":
            for item in chunks(reader, chunk.start + 4, min(chunk.start + chunk.size, reader.size), WIDE_BIG):
                if item.id == b"FS  ":
                    media.sample_rate = read_layout(reader, ">I", item.start)[0]
                elif item.id == b"CHNL":
                    media.channels = read_layout(reader, ">H", item.start)[0]
                elif item.id == b"CMPR":
                    media.codec = "dsd" if reader.read(item.start, 4) == b"DSD " else "dst"
        elif chunk.id in (b"DSD ", b"DST "):
            media.has_audio, media.bit_depth = True, 1
            if media.codec == "dsd" and media.channels and media.sample_rate:
                media.set_duration(chunk.size * 8 / media.channels, media.sample_rate)
                media.bit_rate = media.channels * media.sample_rate
            break
    return media.has_audio


def parse_caf(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse Apple's Core Audio Format."""
    if read_exactly(reader, offset, 12)[8:] != b"desc":
        return False
    media.media_type, media.container = "audio/x-caf", "caf"
    rate, kind, flags, packet_bytes, packet_frames, channels, depth = read_layout(reader, ">d4sIIIII", offset + 20)
    media.codec, media.has_audio = CAF_CODECS.get(kind), True
    media.sample_rate, media.channels = rate, channels
    if kind == b"lpcm" and flags & 1:
        media.codec = "pcm_float"
    if media.codec in ("pcm", "pcm_float", "mulaw", "alaw"):
        media.bit_depth, media.bit_rate = depth, rate * packet_bytes * 8 / max(packet_frames, 1)
    elif media.codec == "adpcm":
        media.bit_depth = 4
    for chunk in chunks(reader, offset + 52, reader.size, CAF):
        if chunk.id == b"data":
            size = min(chunk.size - 4, reader.size - chunk.start - 4)
            if packet_bytes:
                media.set_duration(size // packet_bytes * packet_frames, rate, exact=chunk.size != UNKNOWN_SIZE)
        elif chunk.id == b"pakt":
            packets, valid, _, _ = read_layout(reader, ">QQII", chunk.start)
            # Files differ in whether they count what the encoder added.
            exact = packets * packet_frames == valid
            media.set_duration(valid, rate, exact=exact)
        elif chunk.id == b"kuki" and media.codec == "alac":
            _parse_alac_cookie(reader.read(chunk.start, min(chunk.size, 64)), media)
        elif chunk.id == b"info":
            _parse_caf_info(reader.read(chunk.start, min(chunk.size, 8192)), media)
    return True


def _parse_alac_cookie(cookie: bytes, media: Media) -> None:
    # Either the bare ALACSpecificConfig, or within the atoms `frma` and `alac`.
    start = 24 if cookie[4:8] == b"frma" else 0
    if len(cookie) >= start + 24:
        media.bit_depth = cookie[start + 5]


def _parse_caf_info(data: bytes, media: Media) -> None:
    texts = data[4:].split(b"\0")
    for name, value in zip(texts[0::2], texts[1::2], strict=False):
        if tag := NAMES.get(name.decode("latin-1").lower().replace(" ", "")):
            media.set_tag(tag, value.decode("utf-8", "replace"))
