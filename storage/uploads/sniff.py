"""Content sniffing: the media type of a file from its first bytes."""

from __future__ import annotations

import io

import imagesize  # type: ignore[import-untyped]
import puremagic

SNIFF_BYTES = 4096
# In a JPEG the dimensions follow previews and color profiles, which may be long.
COVER_SNIFF_BYTES = 512 * 1024
# Below this, a match rests on two or three bytes, which any audio frame may begin with by chance.
MIN_CONFIDENCE = 0.3
MAX_PIXELS = 2**31 - 1
"""The largest width and height that the database's INTEGER holds."""


def media_type(head: bytes) -> str | None:
    """Return the media type of a file that begins with `head`, or None where the signature is not conclusive."""
    for match in _matches(head):
        if match.mime_type and match.confidence >= MIN_CONFIDENCE:
            return str(match.mime_type)
    return None


def image_info(head: bytes) -> tuple[str, int, int] | None:
    """Return media type, width and height (pixels) where `head` begins an image, else None.

    SVG does not count as an image: it is a document that may carry scripts.
    """
    detected = media_type(head[:SNIFF_BYTES])
    if detected is None or not detected.startswith("image/") or detected.startswith("image/svg"):
        return None
    try:
        width, height = imagesize.get(io.BytesIO(head))
    except Exception:
        # The parser of a hostile header may raise anything.
        return None
    return (detected, width, height) if 0 < width <= MAX_PIXELS and 0 < height <= MAX_PIXELS else None


def _matches(head: bytes) -> tuple[puremagic.PureMagicWithConfidence, ...]:
    try:
        return tuple(puremagic.magic_string(head)) if head else ()
    except Exception:
        # No match is an error there, and the parser of a hostile header may raise anything.
        return ()
