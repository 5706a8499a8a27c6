"""What a file's first bytes say it is."""

from __future__ import annotations

import io
from functools import lru_cache

import imagesize  # type: ignore[import-untyped]
import puremagic

SNIFF_BYTES = 4096
# A JPEG's size stands behind its previews and color profiles, which may be long.
COVER_SNIFF_BYTES = 512 * 1024
# Below this a match rests on two or three bytes, which any audio frame may begin with by chance.
MIN_CONFIDENCE = 0.3
AUDIO_PREFIXES = ("audio/", "video/", "application/ogg")


def media_type(first: bytes) -> str | None:
    """The media type that `first` begins with, or None where that is not plain."""
    for match in _matches(first):
        if match.mime_type and match.confidence >= MIN_CONFIDENCE:
            return str(match.mime_type)
    return None


def conflicting_type(first: bytes) -> str | None:
    """The media type of `first` where it is plainly not audio, else None.

    Containers that hold either sound or pictures (MP4, Ogg, ASF) pass as audio, and so does what nobody knows.
    """
    if any(match.mime_type.startswith(AUDIO_PREFIXES) for match in _matches(first)):
        return None
    return media_type(first)


def image_info(first: bytes) -> tuple[str, int, int] | None:
    """Media type, width and height (pixels) where `first` is the beginning of a picture, else None.

    SVG is not taken for one: it is a document that may carry scripts.
    """
    found = media_type(first[:SNIFF_BYTES])
    if found is None or not found.startswith("image/") or found.startswith("image/svg"):
        return None
    try:
        width, height = imagesize.get(io.BytesIO(first))
    except Exception:
        # Whatever a hostile header makes the reader do, it is no picture that we could show.
        return None
    return (found, width, height) if width > 0 and height > 0 else None


# Each file is asked about twice: what it is, and what it is not.
@lru_cache(maxsize=4)
def _matches(first: bytes) -> tuple[puremagic.PureMagicWithConfidence, ...]:
    if not first:
        return ()
    try:
        return tuple(puremagic.magic_string(first))
    except (puremagic.PureError, ValueError):
        return ()
