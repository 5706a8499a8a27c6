"""The facts about a file while it is parsed, and the bounds that they are held to before anybody sees them."""

from __future__ import annotations

import re
import struct
import unicodedata
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from storage.formats.facts import AudioFacts, EmbeddedPicture
from storage.formats.ranged import RangedReader

MAX_TEXT = 255
MAX_SECONDS = 10_000_000
LIMITS = {"sample_rate": 100_000_000, "channels": 1024, "bit_depth": 64, "bit_rate": 2**31 - 1}
TEXT_TAGS = ("title", "artist", "album")
NUMBER_TAGS = ("track_number", "disc_number")
MAX_NUMBER = 9999
FRONT_COVER = 3
"""The picture type of a front cover, in ID3 and in everything that follows it."""

PICTURE_TYPES = {
    "image/jpeg": "image/jpeg", "image/jpg": "image/jpeg", "jpg": "image/jpeg", "jpeg": "image/jpeg",
    "image/png": "image/png", "png": "image/png", "image/gif": "image/gif", "gif": "image/gif",
    "image/webp": "image/webp", "image/bmp": "image/bmp", "bmp": "image/bmp", "image/tiff": "image/tiff",
    "image/avif": "image/avif", "image/heic": "image/heic",
}  # fmt: skip
"""Media types of embedded pictures by what files call them."""

PICTURE_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)
# Control characters, lone surrogates, line separators and the characters that reorder text.
_dropped = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")
_isrc = re.compile(r"[A-Z]{2}[A-Z0-9]{3}[0-9]{7}")


class Truncated(Exception):
    """The file ends, or its head does, before what is to be read."""


def clean_text(value: str) -> str:
    """Return a tag's text without control characters, at most MAX_TEXT characters.

    >>> clean_text(" First\\x00\\u202eTrack ")
    'FirstTrack'
    """
    short = _dropped.sub("", value[: 4 * MAX_TEXT])
    return unicodedata.normalize("NFC", short)[:MAX_TEXT].strip()


def number(value: str | int) -> int | None:
    """Return the number of "3", "03" or "3/12", or None.

    >>> number("3/12")
    3
    """
    match = re.match(r"\s*([0-9]{1,9})(?![0-9])", str(value)[:20])
    return int(match[1]) if match and 0 < int(match[1]) <= MAX_NUMBER else None


def unpack(layout: str, data: bytes, offset: int = 0) -> tuple[Any, ...]:
    """Unpack by struct. Raises Truncated where `data` is too short."""
    if offset < 0 or offset + struct.calcsize(layout) > len(data):
        raise Truncated
    return struct.unpack_from(layout, data, offset)


def read_exactly(reader: RangedReader, offset: int, length: int) -> bytes:
    """Return `length` bytes from `offset`. Raises Truncated where the file ends before, and BudgetExceeded."""
    data = reader.read(offset, length)
    if len(data) < length:
        raise Truncated
    return data


def read_layout(reader: RangedReader, layout: str, offset: int) -> tuple[Any, ...]:
    """Read and unpack by struct. Raises Truncated, BudgetExceeded."""
    return struct.unpack(layout, read_exactly(reader, offset, struct.calcsize(layout)))


def window(reader: RangedReader, offset: int, length: int, enough: int) -> bytes:
    """Return up to `length` bytes from `offset`: those that were fetched, if they are `enough` or end the file."""
    data = reader.cached(offset, length)
    if len(data) >= min(enough, reader.size - offset):
        return data
    return reader.read(offset, length)


@dataclass
class Media:
    """The facts that parsers have found so far; the fields are those of AudioFacts, not yet bounded.

    `has_audio` and `has_video` say which tracks the container names, `other_type` what it is if not audio.
    """

    media_type: str | None = None
    container: str = ""
    codec: str | None = None
    duration: float | None = None
    exact: bool = False
    sample_rate: int | float | None = None
    channels: int | None = None
    bit_depth: int | None = None
    bit_rate: int | float | None = None
    tags: dict[str, str | int] = field(default_factory=dict)
    pictures: list[tuple[int, EmbeddedPicture]] = field(default_factory=list)
    has_audio: bool = False
    has_video: bool = False
    other_type: str | None = None

    def set_tag(self, name: str, value: str | int) -> None:
        """Set a tag unless an earlier one of the same name stands."""
        if name in self.tags:
            return
        if name in TEXT_TAGS:
            cleaned: str | int | None = clean_text(str(value))
        elif name in NUMBER_TAGS:
            cleaned = number(value)
        else:
            code = clean_text(str(value)).upper().replace("-", "").replace(" ", "")
            cleaned = code if _isrc.fullmatch(code) else None
        if cleaned:
            self.tags[name] = cleaned

    def add_picture(self, kind: int, declared: str, start: bytes, offset: int | None, size: int) -> None:
        """Add an embedded picture: its type by its own first bytes, if these are known, else by what is declared."""
        media_type = _picture_type(declared, start)
        if media_type and size > 0 and len(self.pictures) < 16:
            self.pictures.append((kind, EmbeddedPicture(media_type, offset, size)))

    def set_duration(self, samples: float, rate: float, *, exact: bool = True) -> None:
        """Set the duration from a number of samples, and whether it is exact, where both make sense."""
        if samples > 0 and rate > 0:
            self.duration, self.exact = samples / rate, exact

    def facts(self, size: int) -> AudioFacts:
        """Return the facts about a file of `size` bytes, each within its bounds."""
        duration = self.duration if self.duration and isfinite(self.duration) else 0
        duration = duration if 0 < duration <= MAX_SECONDS else 0
        if self.bit_rate is None and duration:
            self.bit_rate = size * 8 / duration
        pictures = sorted(self.pictures, key=lambda item: item[0] != FRONT_COVER)
        return AudioFacts(
            container=self.container,
            codec=self.codec,
            duration=round(duration, 6) or None,
            exact=self.exact and duration > 0,
            sample_rate=self._bounded("sample_rate"),
            channels=self._bounded("channels"),
            bit_depth=self._bounded("bit_depth"),
            bit_rate=self._bounded("bit_rate"),
            tags=dict(self.tags),
            picture=pictures[0][1] if pictures else None,
        )

    def _bounded(self, name: str) -> int | None:
        value: float | None = getattr(self, name)
        if value is None or not isfinite(value) or not 1 <= value <= LIMITS[name]:
            return None
        return round(value)


def _picture_type(declared: str, start: bytes) -> str | None:
    for signature, media_type in PICTURE_SIGNATURES:
        if start.startswith(signature):
            return media_type
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image/webp"
    return PICTURE_TYPES.get(declared.strip("\0 ").lower())
