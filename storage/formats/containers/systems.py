"""Containers of broadcasts, discs and the early web: MPEG transport and program streams, Flash Video, RealMedia."""

from __future__ import annotations

import struct

from storage.formats.containers import frames
from storage.formats.containers.aac import Bits, parse_config
from storage.formats.media import Media, read_exactly, read_layout, unpack, window
from storage.formats.ranged import BudgetExceeded, RangedReader

WINDOW, ENOUGH = 65_536, 16_384
PACKET = 188
TS_VIDEO = {0x01, 0x02, 0x10, 0x1B, 0x20, 0x24, 0x42, 0xD1, 0xEA}
TS_AUDIO = {0x03: "mp1", 0x04: "mp2", 0x0F: "aac", 0x11: "aac", 0x81: "ac3", 0x87: "eac3", 0x82: "dts", 0x83: "truehd"}
"""Stream types of ISO/IEC 13818-1, table 2-34, and of ATSC."""

MAX_PACKETS = 512
MAX_OBJECTS = 32
FLV_CODECS = {0: "pcm", 1: "adpcm", 2: "mp3", 3: "pcm", 7: "alaw", 8: "mulaw", 10: "aac", 11: "speex", 14: "mp3"}
REAL_CODECS = {
    b"14_4": "ra_144", b"lpcJ": "ra_144", b"28_8": "ra_288", b"dnet": "ac3", b"cook": "cook", b"sipr": "sipr",
    b"raac": "aac", b"racp": "aac", b"ralf": "ralf", b"atrc": "atrac3",
}  # fmt: skip


def parse_transport_stream(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse an MPEG transport stream by its program map, in packets of 188, 192 or 204 bytes."""
    data = window(reader, offset, WINDOW, ENOUGH)
    for step, start in ((188, 0), (192, 4), (204, 0)):
        count = min((len(data) - start) // step, MAX_PACKETS)
        positions = range(start, start + count * step, step)
        if count >= 5 and all(data[n] == 0x47 for n in positions):
            media.media_type = media.other_type = "video/mp2t"
            media.container = "mpegts"
            _parse_programs([data[n : n + PACKET] for n in positions], media)
            return True
    return False


def _parse_programs(packets: list[bytes], media: Media) -> None:
    maps: set[int] = set()
    for packet in packets:
        pid = _pid(packet)
        section = _section(packet)
        if section is None:
            continue
        if pid == 0 and section[0] == 0x00:
            maps |= {(section[n + 2] & 0x1F) << 8 | section[n + 3] for n in range(8, len(section) - 7, 4)}
        elif pid in maps and section[0] == 0x02:
            sound = _parse_map(section, media)
            if sound is not None:
                _parse_sound(b"".join(_payload(item) for item in packets if _pid(item) == sound), media)
            return


def _pid(packet: bytes) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]


def _payload(packet: bytes) -> bytes:
    start = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    if packet[1] & 0x40 and packet[start : start + 3] == b"\0\0\1" and start + 9 <= len(packet):
        start += 9 + packet[start + 8]
    return packet[start:]


def _parse_sound(data: bytes, media: Media) -> None:
    """Read the frames of a stream; its duration would be that of the first packets."""
    inner = Media()
    if frames.search(RangedReader(_no_fetch, data, len(data)), 0, inner):
        media.codec, media.sample_rate, media.channels = inner.codec, inner.sample_rate, inner.channels
        media.bit_rate = inner.bit_rate


def _no_fetch(offset: int, length: int) -> bytes:
    raise BudgetExceeded


def _section(packet: bytes) -> bytes | None:
    """Return the section that begins in a packet, or None."""
    if not packet[1] & 0x40 or not packet[3] & 0x10:
        return None
    start = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    if start >= len(packet):
        return None
    start += 1 + packet[start]
    if start + 12 > len(packet):
        return None
    length = (packet[start + 1] & 0x0F) << 8 | packet[start + 2]
    return packet[start : start + 3 + length]


def _parse_map(section: bytes, media: Media) -> int | None:
    """Read which streams there are; return the packet id of the first one with sound."""
    sound = None
    position = 12 + ((section[10] & 0x0F) << 8 | section[11])
    while position + 5 <= len(section) - 4:
        kind = section[position]
        media.has_video = media.has_video or kind in TS_VIDEO
        if kind in TS_AUDIO and not media.has_audio:
            media.has_audio, media.codec = True, TS_AUDIO[kind]
            sound = (section[position + 1] & 0x1F) << 8 | section[position + 2]
        position += 5 + ((section[position + 3] & 0x0F) << 8 | section[position + 4])
    return sound


def parse_program_stream(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse an MPEG program stream, or a bare video stream, by the start codes in its first bytes."""
    data = window(reader, offset, WINDOW, ENOUGH)
    media.media_type = media.other_type = "video/mpeg"
    media.container = "mpeg"
    position = 0
    for _ in range(MAX_PACKETS):
        position = data.find(b"\0\0\1", position)
        if position < 0 or position + 6 > len(data):
            break
        code = data[position + 3]
        if 0xE0 <= code <= 0xEF or code in (0xB3, 0xB8):
            media.has_video = True
        elif 0xC0 <= code <= 0xDF:
            media.has_audio = True
        position += 6 + (unpack(">H", data, position + 4)[0] if code >= 0xBB else 0)
    return media.has_video or media.has_audio


def parse_flash_video(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse Flash Video, by the types of its first tags: the header's flags are often wrong."""
    version, start = read_layout(reader, ">3xBxI", offset)
    if version != 1 or not 9 <= start <= 64:
        return False
    media.media_type = media.other_type = "video/x-flv"
    media.container = "flv"
    position = offset + start + 4
    for _ in range(MAX_OBJECTS):
        if position + 12 > reader.size:
            break
        kind, size = read_layout(reader, ">B3s", position)
        first = read_exactly(reader, position + 11, 1)[0]
        if kind == 9:
            media.has_video = True
        elif kind == 8 and not media.has_audio:
            media.has_audio, media.codec = True, FLV_CODECS.get(first >> 4)
            if media.codec == "aac":
                parse_config(Bits(reader.read(position + 13, 16)), media)
            else:
                media.sample_rate, media.channels = (5_512, 11_025, 22_050, 44_100)[first >> 2 & 3], (first & 1) + 1
        elif kind == 18:
            _parse_metadata(reader.read(position + 11, min(int.from_bytes(size, "big"), 4096)), media)
        position += 15 + int.from_bytes(size, "big")
    return media.has_video or media.has_audio


def _parse_metadata(data: bytes, media: Media) -> None:
    """Read numbers of `onMetaData`: name, type 0, and a double."""
    values = {}
    for name in (b"duration", b"audiosamplerate", b"audiodatarate"):
        position = data.find(struct.pack(">H", len(name)) + name + b"\0")
        if position >= 0:
            values[name] = unpack(">d", data, position + 3 + len(name))[0]
    media.set_duration(values.get(b"duration", 0), 1)
    media.sample_rate = media.sample_rate or values.get(b"audiosamplerate")
    # FFmpeg, which most of these files are from, counts 1024 bits as a kilobit.
    media.bit_rate = values.get(b"audiodatarate", 0) * 1024 or None


def parse_real_media(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse RealMedia by its media properties."""
    media.container, media.other_type = "realmedia", "application/vnd.rn-realmedia"
    position = offset
    for _ in range(MAX_OBJECTS):
        if position + 10 > reader.size:
            break
        name, size = read_layout(reader, ">4sI", position)
        if size < 10 or name == b"DATA":
            break
        if name == b"PROP":
            media.set_duration(read_layout(reader, ">30xI", position)[0], 1000)
        elif name == b"MDPR":
            _parse_properties(reader.read(position + 10, min(size, 1024)), media)
        position += size
    media.media_type = "audio/x-pn-realaudio" if media.has_audio else None
    return media.has_audio or media.has_video


def _parse_properties(data: bytes, media: Media) -> None:
    average = unpack(">6xI", data)[0]
    start = 31 + data[30]
    end = start + 1 + data[start]
    kind = data[start + 1 : end]
    media.has_video = media.has_video or kind.startswith(b"video/")
    if kind.startswith(b"audio/") and not media.has_audio:
        media.has_audio, media.bit_rate = True, average or None
        _parse_real_header(data[end + 4 :], media)


def _parse_real_header(data: bytes, media: Media) -> None:
    """Read the header of RealAudio, versions 3 to 5, as FFmpeg's `rmdec.c` understands it."""
    (version,) = unpack(">4xH", data)
    if version == 3:
        media.codec, media.sample_rate, media.channels = "ra_144", 8000, 1
    elif version in (4, 5):
        start = 48 if version == 4 else 54
        media.sample_rate, media.channels = unpack(">H4xH", data, start)
        # In version 4 there are two texts of four bytes, with their lengths.
        name = data[start + 14 : start + 18] if version == 4 else data[start + 12 : start + 16]
        media.codec = REAL_CODECS.get(name)


def parse_real_audio(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse RealAudio of versions 3 to 5, without RealMedia around it."""
    (version,) = read_layout(reader, ">4xH", offset)
    if not 3 <= version <= 5:
        return False
    media.media_type, media.container, media.has_audio = "audio/x-pn-realaudio", "realaudio", True
    _parse_real_header(reader.read(offset, 128), media)
    return True
