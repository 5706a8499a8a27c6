"""RIFF: WAV in all its sizes, and AVI. https://www.rfc-editor.org/rfc/rfc2361, EBU Tech 3306 (RF64), ITU-R BS.2088."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from storage.formats.containers import frames
from storage.formats.containers.tags import parse_id3
from storage.formats.media import Media, read_exactly, read_layout, unpack
from storage.formats.ranged import RangedReader, contained

FORMS = {
    b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo", b"AVIX": "video/x-msvideo", b"WEBP": "image/webp",
    b"RMID": "audio/midi", b"QLCM": "audio/qcelp", b"ACON": "application/x-navi-animation",
    b"CDDA": "application/x-cdf",
    b"sfbk": "audio/x-sfbk", b"DLS ": "audio/dls", b"CDR9": "application/vnd.corel-draw",
}  # fmt: skip
"""Media types by the form; the others are of no use here."""

W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
W64_WAVE = bytes.fromhex("77617665f3acd3118cd100c04f8edb8a")
CODECS = {
    0x0001: "pcm", 0x0003: "pcm_float", 0x0002: "adpcm", 0x0006: "alaw", 0x0007: "mulaw", 0x0011: "adpcm",
    0x0020: "adpcm", 0x0031: "gsm", 0x0040: "adpcm", 0x0045: "adpcm", 0x0050: "mp2", 0x0055: "mp3", 0x0069: "adpcm",
    0x00FF: "aac", 0x0160: "wma", 0x0161: "wma", 0x0162: "wma", 0x0163: "wma_lossless", 0x1600: "aac", 0x1602: "aac",
    0x1610: "aac", 0x2000: "ac3", 0x2001: "dts", 0xF1AC: "flac", 0x704F: "opus", 0x674F: "vorbis", 0x0270: "atrac3",
}  # fmt: skip
"""Codecs by the format tag of WAVEFORMATEX, in WAV, AVI and ASF (RFC 2361)."""

EXTENSIBLE = 0xFFFE
UNCOMPRESSED = ("pcm", "pcm_float", "alaw", "mulaw")
INFO_NAMES = {
    b"INAM": "title", b"IART": "artist", b"IPRD": "album", b"ITRK": "track_number", b"IPRT": "track_number",
    b"TRCK": "track_number", b"ISRC": "isrc",
}  # fmt: skip
MAX_CHUNKS = 128
UNKNOWN_SIZE = 0xFFFFFFFF


class Chunk(NamedTuple):
    """A chunk: its id, the offset of its data and their size, as it is declared."""

    id: bytes
    start: int
    size: int


class Layout(NamedTuple):
    """The widths of a chunk's header: struct layout of id and size, its length, and the alignment of chunks."""

    header: str
    length: int
    alignment: int
    counts_header: bool = False


LITTLE, BIG, WIDE = Layout("<4sI", 8, 2), Layout(">4sI", 8, 2), Layout("<16sQ", 24, 8, True)


def chunks(reader: RangedReader, offset: int, end: int, layout: Layout) -> Iterator[Chunk]:
    """Yield the chunks between two offsets."""
    for _ in range(MAX_CHUNKS):
        if offset + layout.length > end:
            return
        name, size = read_layout(reader, layout.header, offset)
        start = offset + layout.length
        size -= layout.length if layout.counts_header else 0
        if size < 0:
            return
        yield Chunk(name, start, size)
        offset = start + size + -size % layout.alignment


def parse(reader: RangedReader, offset: int, media: Media) -> bool:
    """Parse a file that begins with RIFF, RIFX, RF64, BW64, or Sony's Wave64."""
    head = read_exactly(reader, offset, 12)
    if head.startswith(W64_RIFF[:12]):
        return _parse_wave64(reader, offset, media)
    form = head[8:12]
    if form == b"WAVE":
        media.media_type, media.container = "audio/wav", "wav"
        layout = BIG if head[:4] == b"RIFX" else LITTLE
        return _Wave(reader, layout, media, wide=head[:4] in (b"RF64", b"BW64")).parse(offset + 12)
    if form == b"AVI ":
        return _parse_avi(reader, offset + 12, media)
    kind = FORMS.get(form)
    if kind is None:
        return False
    if kind.startswith("audio/"):
        media.media_type, media.container, media.has_audio = kind, form.decode().strip().lower(), True
    else:
        media.other_type = kind
    return True


def _parse_wave64(reader: RangedReader, offset: int, media: Media) -> bool:
    if read_exactly(reader, offset, 40)[:16] != W64_RIFF or reader.read(offset + 24, 16) != W64_WAVE:
        return False
    media.media_type, media.container = "audio/x-w64", "w64"
    return _Wave(reader, WIDE, media).parse(offset + 40)


class _Wave:
    """The chunks of a WAV file."""

    def __init__(self, reader: RangedReader, layout: Layout, media: Media, *, wide: bool = False):
        self.reader, self.layout, self.media, self.wide = reader, layout, media, wide
        self.byte_rate = self.block_size = self.samples = self.data_size_64 = 0

    def parse(self, offset: int) -> bool:
        """Parse the chunks from `offset`; return False where the format chunk is missing."""
        for chunk in chunks(self.reader, offset, self.reader.size, self.layout):
            name = chunk.id[:4].lower()
            if name == b"data":
                self._data(chunk)
                following = chunk.start + chunk.size + -chunk.size % self.layout.alignment
                # A request of its own only where there is something to read.
                if not self.media.tags and following + 8 <= self.reader.size:
                    self._tags_behind(following)
                return self.media.has_audio
            self._parse_chunk(name, chunk)
        return False

    def _parse_chunk(self, name: bytes, chunk: Chunk) -> None:
        if name == b"fmt ":
            self._format(chunk)
        elif name == b"fact" and chunk.size >= 4:
            order = ">" if self.layout is BIG else "<"
            self.samples = read_layout(self.reader, f"{order}I", chunk.start)[0]
        elif name == b"ds64" and self.wide:
            (self.data_size_64,) = read_layout(self.reader, "<8xQ", chunk.start)
        elif name in (b"list", b"id3 "):
            with contained(self.reader):
                if name == b"list":
                    _parse_info(self.reader, chunk, self.media)
                else:
                    parse_id3(self.reader, chunk.start, self.media)

    def _tags_behind(self, offset: int) -> None:
        for chunk in chunks(self.reader, offset, self.reader.size, self.layout):
            name = chunk.id[:4].lower()
            if name in (b"list", b"id3 "):
                self._parse_chunk(name, chunk)

    def _format(self, chunk: Chunk) -> None:
        order = ">" if self.layout is BIG else "<"
        data = self.reader.read(chunk.start, min(chunk.size, 64))
        self.byte_rate, self.block_size = parse_format(data, self.media, order)

    def _data(self, chunk: Chunk) -> None:
        available = self.reader.size - chunk.start
        size = self.data_size_64 if self.wide and chunk.size == UNKNOWN_SIZE else chunk.size
        # Recorders that crashed, and pipes, leave no size or the largest one.
        exact = 0 < size <= available
        size = size if exact else available
        media, rate = self.media, self.media.sample_rate or 0
        if media.codec in UNCOMPRESSED:
            media.set_duration(size // self.block_size if self.block_size else 0, rate, exact=exact)
        elif media.codec in ("mp2", "mp3") and self._parse_frames(chunk.start):
            return
        elif 0 < self.samples < UNKNOWN_SIZE:
            media.set_duration(self.samples, rate, exact=exact)
            self._check_rate(size)
        elif self.byte_rate:
            media.set_duration(size, self.byte_rate, exact=False)

    def _check_rate(self, size: int) -> None:
        """Take the duration for an estimate where the number of samples and the byte rate contradict each other."""
        expected = size / self.byte_rate if self.byte_rate else 0
        if not expected or abs(expected - (self.media.duration or 0)) > 0.01 * expected:
            self.media.exact = False

    def _parse_frames(self, offset: int) -> bool:
        inner = Media()
        if not frames.parse_at(frames.MPEG, self.reader, offset, inner):
            return False
        # Its own number of samples may differ from that of the WAV.
        self.media.duration, self.media.codec = inner.duration, inner.codec
        return True


def parse_format(data: bytes, media: Media, order: str = "<") -> tuple[int, int]:
    """Read a WAVEFORMATEX; return bytes a second, and bytes in a block of samples."""
    tag, channels, rate, byte_rate, block_size, depth = unpack(f"{order}HHIIHH", data.ljust(16, b"\0"))
    if tag == EXTENSIBLE and len(data) >= 40:
        tag = unpack(f"{order}H", data, 24)[0]
        depth = unpack(f"{order}H", data, 18)[0] or depth
    media.codec, media.has_audio = CODECS.get(tag), True
    media.channels, media.sample_rate = channels, rate
    media.bit_rate = byte_rate * 8 or None
    if media.codec in (*UNCOMPRESSED, "adpcm", "flac", "wma_lossless"):
        media.bit_depth = depth
    return byte_rate, block_size


def _parse_info(reader: RangedReader, chunk: Chunk, media: Media) -> None:
    if reader.read(chunk.start, 4) != b"INFO":
        return
    for item in chunks(reader, chunk.start + 4, min(chunk.start + chunk.size, reader.size), LITTLE):
        if item.id in INFO_NAMES:
            text = reader.read(item.start, min(item.size, 4096)).partition(b"\0")[0]
            media.set_tag(INFO_NAMES[item.id], decode_text(text))


def decode_text(text: bytes) -> str:
    """Return a text of which the encoding is not told: UTF-8 if it is that, else Windows' Latin-1."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("cp1252", "replace")


# --- AVI -------------------------------------------------------------------------------------------------------------


def _parse_avi(reader: RangedReader, offset: int, media: Media) -> bool:
    media.media_type = media.other_type = "video/x-msvideo"
    media.container = "avi"
    for chunk in chunks(reader, offset, reader.size, LITTLE):
        if chunk.id == b"LIST" and reader.read(chunk.start, 4) == b"hdrl":
            end = min(chunk.start + chunk.size, reader.size)
            for stream in chunks(reader, chunk.start + 4, end, LITTLE):
                if stream.id == b"LIST" and reader.read(stream.start, 4) == b"strl":
                    _parse_stream(reader, stream, media)
            break
    return media.has_audio or media.has_video


def _parse_stream(reader: RangedReader, stream: Chunk, media: Media) -> None:
    kind = b""
    for chunk in chunks(reader, stream.start + 4, min(stream.start + stream.size, reader.size), LITTLE):
        if chunk.id == b"strh":
            kind = reader.read(chunk.start, 4)
            media.has_video = media.has_video or kind == b"vids"
            if kind == b"auds" and not media.has_audio:
                scale, rate, length = read_layout(reader, "<20xII4xI", chunk.start)
                media.set_duration(length * scale, rate)
        elif chunk.id == b"strf" and kind == b"auds" and not media.has_audio:
            parse_format(reader.read(chunk.start, min(chunk.size, 64)), media)
