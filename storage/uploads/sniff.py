"""Content sniffing: the media type of a file from its first bytes."""

from __future__ import annotations

from functools import lru_cache

import puremagic

SNIFF_BYTES = 4096
# Below this, a match rests on two or three bytes, which any audio frame may begin with by chance.
MIN_CONFIDENCE = 0.3
AUDIO_PREFIXES = ("audio/", "video/", "application/ogg")


def media_type(head: bytes) -> str | None:
    """Return the media type of a file that begins with `head`, or None where the signature is not conclusive."""
    for match in _matches(head):
        if match.mime_type and match.confidence >= MIN_CONFIDENCE:
            return str(match.mime_type)
    return None


def conflicting_type(head: bytes) -> str | None:
    """Return the media type of `head` where it is conclusively not audio, else None.

    Containers that hold either audio or video (MP4, Ogg, ASF) pass as audio, and so does unknown content.
    """
    if any(match.mime_type.startswith(AUDIO_PREFIXES) for match in _matches(head)):
        return None
    return media_type(head)


# Each file is matched twice: for its own type, and for a type that conflicts with audio.
@lru_cache(maxsize=4)
def _matches(head: bytes) -> tuple[puremagic.PureMagicWithConfidence, ...]:
    try:
        return tuple(puremagic.magic_string(head)) if head else ()
    except Exception:
        # No match is an error there, and the parser of a hostile header may raise anything.
        return ()
