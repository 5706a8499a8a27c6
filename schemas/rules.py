"""A session's rules: the files and covers that it accepts. Unknown keys are refused, unlike elsewhere in a request.

A misspelt rule that is ignored would accept what it was written to refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from marshmallow import RAISE, ValidationError, fields

from .base import RequestSchema, doc
from .fields import Choice, StrictBoolean, StrictInteger, in_range

CONTAINERS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "caf", "dff", "dsf", "dts", "flac", "matroska", "midi", "mlp",
    "mp3", "mp4", "musepack", "ogg", "optimfrog", "shorten", "tak", "tta", "voc", "w64", "wav", "wavpack", "webm",
)  # fmt: skip
"""Containers that may be allowed, by the names of storage/formats. Others can only be allowed by no rule at all."""

CODECS = (
    "aac", "ac3", "adpcm", "alac", "alaw", "amr", "ape", "dsd", "dst", "dts", "eac3", "flac", "mlp", "mp1", "mp2",
    "mp3", "mulaw", "musepack", "opus", "optimfrog", "pcm", "pcm_float", "shorten", "speex", "tak", "truehd", "tta",
    "vorbis", "wavpack", "wma", "wma_lossless",
)  # fmt: skip
COVER_TYPES = (
    "image/avif", "image/bmp", "image/gif", "image/heic", "image/jpeg", "image/png", "image/tiff", "image/webp",
)  # fmt: skip
MAX_ITEMS = 16
MAX_OBJECT_BYTES = 5 * 2**40
MAX_SIDE = 2**31 - 1
RULES = {
    "audio": {"containers": ["wav", "flac"], "sample_rates": [44_100, 48_000], "max_file_size": 500_000_000},
    "cover": {"types": ["image/jpeg", "image/png"], "square": True, "min_side": 1400},
}


class AllowList(fields.List):  # type: ignore[type-arg]
    """The allowed values of something: at least one, each once."""

    json_schema = {"minItems": 1, "maxItems": MAX_ITEMS, "uniqueItems": True}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_ITEMS:
            raise ValidationError(f"must be a list of 1 to {MAX_ITEMS} items; null allows anything.")
        items = super()._deserialize(value, attr, data, **kwargs)
        if len(set(items)) < len(items):
            raise ValidationError("must not have an item twice.")
        return items


class Seconds(fields.Float):
    """A positive number of seconds; strings and booleans are rejected."""

    json_schema = {"exclusiveMinimum": 0, "maximum": 604_800}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if type(value) not in (int, float) or not isfinite(value) or not 0 < value <= 604_800:
            raise ValidationError("must be a number of seconds above 0, at most 604800.")
        return float(value) if value % 1 else int(value)


class RuleSchema(RequestSchema):
    """Rules, each of which may be absent or null. What is loaded has those that are set."""

    LIMITS: tuple[tuple[str, str], ...] = ()
    """Pairs of rules of which the first must not exceed the second."""

    class Meta:
        unknown = RAISE
        register = False

    def load(self, data: Any, **_: Any) -> dict[str, Any]:
        """Return the rules that are set. Raises ValidationError, also for an unknown rule."""
        if isinstance(data, dict) and (unknown := [name for name in data if name not in self.fields]):
            known = f"is no rule; known are: {', '.join(self.fields)}."
            raise ValidationError({name[:64]: [known] for name in unknown[:5]})
        values = {name: value for name, value in super().load(data).items() if value not in (None, {})}
        for low, high in self.LIMITS:
            if values.get(low, 0) > values.get(high, values.get(low, 0)):
                raise ValidationError({low: [f"must not exceed {high}."]})
        return values


def _one_of(choices: Sequence[str], description: str, example: list[str]) -> AllowList:
    messages = {"invalid": "must be a string.", "null": "must not be null."}
    item = Choice(choices, error_messages=messages)
    return AllowList(item, allow_none=True, load_default=None, metadata=doc(description, example))


def _integers(low: int, high: int, description: str, example: list[int]) -> AllowList:
    item = StrictInteger(validate=in_range(low, high), error_messages={"null": "must not be null."})
    return AllowList(item, allow_none=True, load_default=None, metadata=doc(description, example))


def _integer(low: int, high: int, description: str, example: int) -> StrictInteger:
    return StrictInteger(
        allow_none=True, load_default=None, validate=in_range(low, high), metadata=doc(description, example)
    )


def _seconds(description: str, example: int) -> Seconds:
    return Seconds(allow_none=True, load_default=None, metadata=doc(description, example))


class AudioRules(RuleSchema):
    """Rules for audio files. A file that does not tell a fact which a rule asks for is not accepted."""

    LIMITS = (("min_duration", "max_duration"),)

    containers = _one_of(CONTAINERS, "Allowed containers, by the content, whatever the file's name.", ["wav", "flac"])
    codecs = _one_of(CODECS, "Allowed codecs.", ["pcm", "flac"])
    sample_rates = _integers(1, 100_000_000, "Allowed sample rates in Hz.", [44_100, 48_000])
    bit_depths = _integers(
        1,
        64,
        "Allowed bit depths. A lossy file has none: it is accepted only if `codecs` or `containers` names its kind.",
        [16, 24],
    )
    channels = _integers(1, 1024, "Allowed numbers of channels.", [1, 2])
    min_duration = _seconds("Shortest duration in seconds.", 30)
    max_duration = _seconds("Longest duration in seconds.", 1200)
    max_file_size = _integer(
        1, MAX_OBJECT_BYTES, "Largest file in bytes. A larger declared `file_size` is refused at once.", 500_000_000
    )


class CoverRules(RuleSchema):
    """Rules for covers."""

    LIMITS = (("min_side", "max_side"),)

    types = _one_of(COVER_TYPES, "Allowed media types, by the content.", ["image/jpeg", "image/png"])
    square = StrictBoolean(
        allow_none=True, load_default=None, metadata=doc("If true, width and height must be equal.", True)
    )
    min_side = _integer(1, MAX_SIDE, "Least width and height in pixels, each.", 1400)
    max_side = _integer(1, MAX_SIDE, "Greatest width and height in pixels, each.", 6000)


class Rules(RuleSchema):
    """Rules for what a session accepts. Each may be absent or null, and then allows anything."""

    audio = fields.Nested(AudioRules, allow_none=True, load_default=None, metadata=doc("Rules for audio files."))
    cover = fields.Nested(CoverRules, allow_none=True, load_default=None, metadata=doc("Rules for covers."))
