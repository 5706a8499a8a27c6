"""A session's rules for files and covers: comparison with what a file tells of itself. Pure; nothing is read here.

Rules are a JSON object that schemas/rules.py has validated: `audio`, `cover`, or both. An absent rule allows anything.
A fact that a file does not tell breaks the rule that asks for it. The page has the same comparison in static/rules.js.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypedDict, cast

import orjson

from storage.errors import Failure
from storage.formats.facts import AudioFacts


class AudioRules(TypedDict, total=False):
    """Rules for audio files. Durations are in seconds, sizes in bytes, sample rates in Hz."""

    containers: list[str]
    codecs: list[str]
    sample_rates: list[int]
    bit_depths: list[int]
    channels: list[int]
    min_duration: float
    max_duration: float
    max_file_size: int


class CoverRules(TypedDict, total=False):
    """Rules for covers: media types, and the least and greatest width and height in pixels."""

    types: list[str]
    square: bool
    min_side: int
    max_side: int


class Rules(TypedDict, total=False):
    """The rules of a session."""

    audio: AudioRules
    cover: CoverRules


LOSSY_CODECS = {
    "aac", "ac3", "amr", "atrac3", "codec2", "dts", "eac3", "gsm", "mp1", "mp2", "mp3", "musepack", "opus", "sbc",
    "speex", "vorbis", "wma",
}  # fmt: skip
"""Codecs whose files have no bit depth."""

NO_FACTS = AudioFacts("")

ESTIMATE_MARGIN = 0.1
"""Share by which an estimated duration may miss its limit: an estimate alone is no evidence."""

SPELLING = {
    "alaw": "A-law", "asf": "WMA", "matroska": "Matroska", "mp4": "M4A", "mulaw": "\u03bc-law", "musepack": "Musepack",
    "ogg": "Ogg", "opus": "Opus", "pcm_float": "PCM in floating point", "shorten": "Shorten", "speex": "Speex",
    "vorbis": "Vorbis", "wavpack": "WavPack", "webm": "WebM", "wma_lossless": "WMA Lossless",
}  # fmt: skip
"""Names of containers and codecs as people write them, where these are not in capitals."""


@lru_cache(maxsize=256)
def parse(text: str | None) -> Rules:
    """Return the rules in a session's row; none for None. The result is shared and must not be changed."""
    return cast(Rules, orjson.loads(text)) if text else {}


def check_size(rules: AudioRules, size: int) -> Failure | None:
    """Return the rule that a file of `size` bytes breaks before anything of it is read, or None."""
    if size <= rules.get("max_file_size", size):
        return None
    accepted = f"this session accepts at most {rules['max_file_size']} bytes"
    return Failure("rule_file_size", f"The file has {size} bytes; {accepted}.")


def check_audio(rules: AudioRules, facts: AudioFacts | None) -> Failure | None:
    """Return the first rule that a file with these facts breaks, or None. Without facts, the file told nothing."""
    return next(_audio_failures(rules, facts or NO_FACTS), None)


def check_cover(rules: CoverRules, media_type: str, width: int, height: int) -> Failure | None:
    """Return the first rule that a cover of `width` by `height` pixels breaks, or None."""
    return next(_cover_failures(rules, media_type, width, height), None)


# --- Audio -----------------------------------------------------------------------------------------------------------


def _audio_failures(rules: AudioRules, facts: AudioFacts) -> Iterator[Failure]:
    yield from _container_and_codec_failures(rules, facts)
    if "sample_rates" in rules and facts.sample_rate not in rules["sample_rates"]:
        text = _observed("The sample rate", facts.sample_rate, " Hz")
        yield Failure("rule_sample_rate", f"{text}; {_accepts(rules['sample_rates'], 'Hz')}.")
    if "bit_depths" in rules and facts.bit_depth not in rules["bit_depths"] and not _needs_no_bit_depth(rules, facts):
        lossy = facts.codec in LOSSY_CODECS
        text = f"{display_name(facts.codec)} has no bit depth" if lossy else _bits(facts.bit_depth)
        yield Failure("rule_bit_depth", f"{text}; {_accepts(rules['bit_depths'], 'bits')}.")
    if "channels" in rules and facts.channels not in rules["channels"]:
        text = _observed("The number of channels", facts.channels)
        yield Failure("rule_channels", f"{text}; {_accepts(rules['channels'])}.")
    yield from _duration_failures(rules, facts)


def _container_and_codec_failures(rules: AudioRules, facts: AudioFacts) -> Iterator[Failure]:
    if "containers" in rules and facts.container not in rules["containers"]:
        accepted = _accepts(map(display_name, rules["containers"]))
        text = f"The file is {display_name(facts.container)}" if facts.container else "The kind of file cannot be read"
        yield Failure("rule_container", f"{text}; {accepted}.")
    if "codecs" in rules and facts.codec not in rules["codecs"]:
        text = _observed("The codec", facts.codec and display_name(facts.codec))
        yield Failure("rule_codec", f"{text}; {_accepts(map(display_name, rules['codecs']))}.")


def _duration_failures(rules: AudioRules, facts: AudioFacts) -> Iterator[Failure]:
    shortest, longest = rules.get("min_duration"), rules.get("max_duration")
    if shortest is None and longest is None:
        return
    margin = 1 if facts.exact else 1 + ESTIMATE_MARGIN
    too_short = shortest is not None and (facts.duration or 0) * margin < shortest
    too_long = longest is not None and facts.duration is not None and facts.duration > longest * margin
    if facts.duration is None or too_short or too_long:
        limit = f"at most {_seconds(longest)}" if too_long or shortest is None else f"at least {_seconds(shortest)}"
        text = "The duration cannot be read"
        if facts.duration is not None:
            text = f"The duration is {'' if facts.exact else 'about '}{_seconds(facts.duration)}"
        yield Failure("rule_duration", f"{text}; this session accepts {limit}.")


def _needs_no_bit_depth(rules: AudioRules, facts: AudioFacts) -> bool:
    """Return True for a lossy file, which has no bit depth, where the rules name its codec or its container."""
    named = facts.codec in rules.get("codecs", ()) or facts.container in rules.get("containers", ())
    return facts.codec in LOSSY_CODECS and facts.bit_depth is None and named


# --- Covers ----------------------------------------------------------------------------------------------------------


def _cover_failures(rules: CoverRules, media_type: str, width: int, height: int) -> Iterator[Failure]:
    if "types" in rules and media_type not in rules["types"]:
        yield Failure("rule_type", f"The cover is {media_type}; {_accepts(rules['types'])}.")
    text = f"The cover has {width} x {height} pixels; this session accepts"
    if rules.get("square") and width != height:
        yield Failure("rule_square", f"{text} only square covers.")
    if min(width, height) < rules.get("min_side", 0):
        yield Failure("rule_dimensions", f"{text} at least {rules['min_side']} x {rules['min_side']}.")
    if max(width, height) > rules.get("max_side", max(width, height)):
        yield Failure("rule_dimensions", f"{text} at most {rules['max_side']} x {rules['max_side']}.")


# --- Sentences -------------------------------------------------------------------------------------------------------


def display_name(name: str | None) -> str:
    """Return a container's or codec's name as people write it.

    >>> display_name("wav"), display_name("ogg")
    ('WAV', 'Ogg')
    """
    return SPELLING.get(name or "", (name or "").upper())


def _observed(subject: str, value: str | int | None, unit: str = "") -> str:
    return f"{subject} cannot be read" if value is None else f"{subject} is {value}{unit}"


def _bits(bit_depth: int | None) -> str:
    return _observed("The bit depth", bit_depth, " bits")


def _accepts(values: Iterator[str] | Sequence[str | int], unit: str = "") -> str:
    """Return `this session accepts 16, 24 or 32 bits`."""
    *others, last = [str(value) for value in values]
    return f"this session accepts {', '.join(others)}{' or ' if others else ''}{last} {unit}".rstrip()


def _seconds(seconds: float | None) -> str:
    number = f"{seconds:.3f}".rstrip("0").rstrip(".")
    return f"{number} second{'' if number == '1' else 's'}"
