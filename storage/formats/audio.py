"""Identification of audio: what a file is by its structure, and what its headers say of it.

A file counts as audio where its structure proves it: a container whose tracks, or whose own headers, are read, or
consecutive frames. It counts as something else where a signature, a container's video track or its text proves that. A
name alone proves nothing, but it claims a format: if that format always shows itself, and nothing of it or of any other
audio is found, the claim is false. Formats without headers, such as A-law, cannot be told apart from noise: they pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal

from storage.formats import signatures
from storage.formats.containers import asf, flac, frames, headers, iff, matroska, mp4, ogg, riff, systems
from storage.formats.containers.tags import ape_end, id3_end, parse_ape, parse_ape_footer, parse_id3, parse_id3v1
from storage.formats.facts import AudioFacts
from storage.formats.media import Media, window
from storage.formats.ranged import BudgetExceeded, Fetch, RangedReader, contained

HEAD_BYTES = 65_536
"""Bytes that the first request reads: enough to recognize most files, and for their facts."""

MAX_REQUESTS, MAX_BYTES = 4, 512 * 1024
"""Requests and bytes for one file, the first ones included."""

MAX_READS = 20_000
"""Steps of a parser."""

MAX_TAGS_IN_FRONT = 8
EMBEDDED_WITHIN = 4096
MAX_EMBEDDED = 8
ID3V1_BYTES = 128 + 32
"""An ID3v1 tag, and the footer of an APE tag before it."""

Verdict = Literal["audio", "not_audio", "unknown"]

EXTENSIONS = frozenset((
    "3ga", "8svx", "aa", "aa3", "aac", "aax", "ac3", "adts", "aif", "aifc", "aiff", "alac", "amr",
    "ape", "asf", "au", "awb", "bwf", "bw64", "caf", "dff", "dsf", "dts", "dtshd", "eac3", "ec3", "f4a", "f4b",
    "flac", "it", "kar", "la", "m4a", "m4b", "m4p", "m4r", "mid", "midi", "mka", "mlp", "mp+", "mp1", "mp2",
    "mp3", "mpa", "mpc", "mpga", "mpp", "nist", "oga", "ofr", "ogg", "oma", "opus", "qcp", "ra", "rf64", "s3m",
    "shn", "sph", "spx", "tak", "thd", "tta", "voc", "w64", "wav", "wave", "weba", "wma", "wv", "xm",
))  # fmt: skip
"""Extensions of audio formats that always show themselves."""

HEADERLESS = frozenset((
    "al", "alaw", "aptx", "c2", "cdda", "g722", "g723", "g726", "g729", "gsm", "l16", "l24", "lpc", "mod",
    "nsp", "pcm", "raw", "s16", "s16be", "s16le", "s24", "s24le", "s32", "s8", "sbc", "sln", "snd", "u8", "ul",
    "ulaw", "vox",
))  # fmt: skip
"""Extensions of formats of which some files, or all, have no header."""

VISIBLE_TYPES = frozenset((
    "audio/3gpp", "audio/3gpp2", "audio/aac", "audio/ac3", "audio/aiff", "audio/amr", "audio/amr-wb",
    "audio/ape", "audio/eac3", "audio/flac", "audio/m4a", "audio/matroska", "audio/mid", "audio/midi",
    "audio/mp3", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/opus", "audio/vorbis", "audio/vnd.dts",
    "audio/vnd.wave", "audio/wav", "audio/wave", "audio/webm", "audio/x-aac", "audio/x-aiff", "audio/x-aifc",
    "audio/x-ape", "audio/x-caf", "audio/x-flac", "audio/x-m4a", "audio/x-m4b", "audio/x-matroska",
    "audio/x-mp3", "audio/x-mpeg", "audio/x-ms-wma", "audio/x-tta", "audio/x-wav", "audio/x-wavpack",
))  # fmt: skip
"""Media types of audio formats that always show themselves."""

ALIASES = {
    "audio/x-wav": "audio/wav", "audio/wave": "audio/wav", "audio/vnd.wave": "audio/wav", "audio/x-aiff": "audio/aiff",
    "audio/x-flac": "audio/flac", "audio/mp3": "audio/mpeg", "audio/x-mp3": "audio/mpeg", "audio/x-mpeg": "audio/mpeg",
    "audio/m4a": "audio/mp4", "audio/x-m4a": "audio/mp4", "audio/x-m4b": "audio/mp4", "audio/x-aac": "audio/aac",
    "audio/aacp": "audio/aac", "audio/opus": "audio/ogg", "audio/vorbis": "audio/ogg", "application/ogg": "audio/ogg",
    "audio/matroska": "audio/x-matroska", "audio/x-aifc": "audio/aiff", "audio/x-ac3": "audio/ac3",
}  # fmt: skip
"""Other names of media types, as stores and browsers give them to a file by its name."""

AMBIGUOUS = frozenset(("c2", "lpc", "mod", "nsp", "raw", "s16", "s24", "s32", "s8", "u8"))
"""Extensions that other files have, too: they claim nothing."""

LINEAR = frozenset(("cdda", "l16", "l24", "pcm", "raw", "s16", "s16be", "s16le", "s24", "s24le", "s32", "s8", "snd"))
"""Those of HEADERLESS in which silence is zeros."""

Parser = Callable[[RangedReader, int, Media], bool]
CONTAINERS: tuple[tuple[re.Pattern[bytes], Parser], ...] = (
    (re.compile(rb"RIFF|RIFX|RF64|BW64|riff\x2e\x91\xcf\x11"), riff.parse),
    (re.compile(rb"FORM"), iff.parse),
    (re.compile(rb"FRM8"), iff.parse_dsdiff),
    (re.compile(rb"caff"), iff.parse_caf),
    (re.compile(rb"fLaC"), flac.parse),
    (re.compile(rb"OggS\0"), ogg.parse),
    (re.compile(rb"\x1aE\xdf\xa3"), matroska.parse),
    (re.compile(re.escape(asf.HEADER)), asf.parse),
    (re.compile(rb"....(?:" + rb"|".join(mp4.TOP_LEVEL) + rb")", re.DOTALL), mp4.parse),
    (re.compile(rb"#!AMR(?:-WB)?\n"), frames.parse_amr),
    (re.compile(rb"FLV\x01"), systems.parse_flash_video),
    (re.compile(rb"\.RMF\0"), systems.parse_real_media),
    (re.compile(rb"\.ra\xfd"), systems.parse_real_audio),
    (re.compile(rb"\0\0\x01[\xba\xb3]"), systems.parse_program_stream),
    (re.compile(rb"G|....G", re.DOTALL), systems.parse_transport_stream),
    *((re.compile(re.escape(name)), parser) for name, parser in headers.PARSERS.items()),
)
"""Parsers by what a file begins with. A parser may still find that the file is something else."""

_embedded = re.compile(rb"fLaC[\0\x80]\0\0\x22|OggS\0|RIFF....WAVE|FORM....AIF[FC]|wvpk", re.DOTALL)


@dataclass(frozen=True)
class Identification:
    """The kind of a file: its media type, or None where that is not certain, and whether it is audio.

    `reason` says of a file that is no audio what it is instead, as the end of a sentence. Only audio has facts.
    """

    media_type: str | None
    verdict: Verdict
    reason: str | None = None
    facts: AudioFacts | None = None


def open_reader(fetch: Fetch, head: bytes, size: int) -> RangedReader:
    """Return a reader within the budget for one file, of which the first request has read `head`."""
    left = MAX_BYTES - len(head)
    return RangedReader(
        fetch, head, size, max_requests=MAX_REQUESTS - 1, max_bytes=left, min_fetch=HEAD_BYTES, max_reads=MAX_READS
    )


def identify(reader: RangedReader, file_name: str, content_type: str | None = None) -> Identification:
    """Identify a file by its bytes, and by what its name and its declared media type claim.

    Raises what the reader's `fetch` raises; no bytes make it raise anything else.
    """
    claimed = _claims_visible_format(file_name, content_type)
    search = _Search(reader, thorough=claimed)
    try:
        recognized = search.run()
    except BudgetExceeded:
        recognized = bool(search.media.container)
    if not recognized and extension(file_name) in HEADERLESS - LINEAR and not any(reader.head):
        return Identification(None, "not_audio", "it begins with nothing but zeros")
    return _conclude(reader.size, search.media, recognized, claimed)


def _conclude(size: int, media: Media, recognized: bool, claimed: bool) -> Identification:
    if media.other_type and (media.has_video or not media.container):
        return Identification(media.other_type, "not_audio", f"its content is {media.other_type}")
    if recognized and media.has_audio:
        return Identification(media.media_type, "audio", facts=media.facts(size))
    if recognized or not claimed:
        # A container whose tracks are not known, or nothing that is.
        return Identification(media.media_type if recognized and media.container == "ogg" else None, "unknown")
    return Identification(None, "not_audio", "its content is that of no audio format")


class _Search:
    """The search for what a file is: in `media` there is what was found so far."""

    def __init__(self, reader: RangedReader, *, thorough: bool):
        self.reader, self.thorough = reader, thorough
        self.media = Media()
        self.tags, self.pictures = self.media.tags, self.media.pictures

    def run(self) -> bool:
        """Search in the order of the evidence's strength; return whether anything was recognized."""
        offset = self._read_tags_in_front()
        head = window(self.reader, offset, HEAD_BYTES, signatures.TEXT_BYTES)
        return (
            self._try_containers(offset, head)
            or self._try_streams(offset)
            or self._try_other(head)
            or self._try(signatures.audio_signature, offset)
            or self._try_behind_junk(offset, head)
            or (self.thorough and self._try_middle(offset))
        )

    def _try(self, parser: Parser, offset: int) -> bool:
        """Run a parser with a Media of its own, which stays if it finds something."""
        self.media = Media(tags=self.tags, pictures=self.pictures)
        with contained(self.reader):
            if parser(self.reader, offset, self.media):
                return True
        # It may have failed behind the point where it knew what this is.
        if self.media.has_audio or self.media.has_video:
            self.media.duration = None
            return True
        self.media = Media(tags=self.tags, pictures=self.pictures)
        return False

    def _read_tags_in_front(self) -> int:
        """Read ID3 and APE tags at the start; return the offset behind them."""
        offset = 0
        for _ in range(MAX_TAGS_IN_FRONT):
            header = self.reader.read(offset, 32)
            end = id3_end(header, offset)
            if end is not None:
                with contained(self.reader):
                    parse_id3(self.reader, offset, self.media, in_front=True)
            elif (end := ape_end(header, offset)) is not None:
                with contained(self.reader):
                    parse_ape(self.reader, offset + 32, min(end, self.reader.size), self.media)
            if end is None:
                break
            # A tag that claims to be longer than the file is not believed.
            offset = end if end < self.reader.size else offset + 10
        return offset

    def _try_containers(self, offset: int, head: bytes) -> bool:
        return any(self._try(parser, offset) for start, parser in CONTAINERS if start.match(head))

    def _try_streams(self, offset: int) -> bool:
        for kind in (*frames.FORMATS, frames.MLP, frames.SBC, frames.GSM):
            if self._try(partial(frames.parse_at, kind), offset):
                self._read_tags_behind()
                return True
        return False

    def _try_other(self, head: bytes) -> bool:
        self.media.other_type = signatures.other_type(head)
        return self.media.other_type is not None

    def _try_behind_junk(self, offset: int, head: bytes) -> bool:
        for match in islice(_embedded.finditer(head[:EMBEDDED_WITHIN]), MAX_EMBEDDED):
            place = match.start()
            if self._try_containers(offset + place, head[place:]):
                return True
        if self._try(frames.search, offset):
            self._read_tags_behind()
            return True
        return False

    def _try_middle(self, offset: int) -> bool:
        """Search in the middle of a file whose first bytes tell nothing, such as zeros."""
        return self.reader.size > offset + 2 * HEAD_BYTES and self._try(frames.search, self.reader.size // 2)

    def _read_tags_behind(self) -> None:
        """Read an ID3v1 or APE tag at the end, where there is none in front and the end was fetched anyway."""
        tail = self.reader.cached(self.reader.size - ID3V1_BYTES, ID3V1_BYTES)
        if not self.media.tags and len(tail) == ID3V1_BYTES:
            with contained(self.reader):
                parse_ape_footer(self.reader, tail, self.media)
                parse_id3v1(tail, self.media)


def is_same_type(media_type: str | None, other: str | None) -> bool:
    """Return whether two media types name the same format.

    >>> is_same_type("audio/x-wav", "audio/wav")
    True
    """
    return media_type is not None and ALIASES.get(media_type, media_type) == ALIASES.get(other or "", other)


def extension(file_name: str) -> str:
    """Return a file name's extension in lower case, without the dot, or ""."""
    return file_name.lower().rpartition(".")[2] if "." in file_name else ""


def claims_audio(file_name: str, content_type: str | None) -> bool:
    """Return whether a file is declared to be audio, by its media type or its name."""
    ending = extension(file_name)
    return (content_type or "").lower().startswith("audio/") or ending in EXTENSIONS or ending in HEADERLESS - AMBIGUOUS


def _claims_visible_format(file_name: str, content_type: str | None) -> bool:
    ending = extension(file_name)
    if ending in HEADERLESS:
        return False
    return ending in EXTENSIONS or (content_type or "").partition(";")[0].strip().lower() in VISIBLE_TYPES
