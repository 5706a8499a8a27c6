"""Files and the rules of their session: what each end says of them. Page, command and service are held to one table."""

from __future__ import annotations

from typing import Any, NamedTuple

from support.audio_samples import audio
from support.sample_files import aiff, flac, mp3, wav


class RuleCase(NamedTuple):
    """A file, the session's rules for audio, and the code of the rule that it breaks, or None.

    `page` and `command` say whether these know it before a byte is sent; the service decides in any case.
    """

    rules: dict[str, Any]
    name: str
    body: bytes
    code: str | None
    page: bool = True
    command: bool = False


RULE_CASES = [
    RuleCase({"max_file_size": 1000}, "a.wav", wav(1), "rule_file_size", command=True),
    RuleCase({"containers": ["wav"]}, "a.mp3", mp3(), "rule_container", command=True),
    RuleCase({"containers": ["mp3"]}, "named-wrongly.mp3", wav(), "rule_container", command=True),
    RuleCase({"containers": ["wav", "aiff"]}, "a.m4a", audio()["faststart.m4a"], "rule_container", command=True),
    RuleCase({"containers": ["flac"]}, "a.opus", audio()["opus.opus"], "rule_container", command=True),
    RuleCase({"codecs": ["flac", "alac"]}, "a.wav", wav(), "rule_codec"),
    RuleCase({"codecs": ["alac"]}, "a.m4a", audio()["faststart.m4a"], "rule_codec", page=False),
    RuleCase({"sample_rates": [44_100]}, "a.wav", wav(1, rate=48_000), "rule_sample_rate"),
    RuleCase({"bit_depths": [24]}, "a.flac", flac(), "rule_bit_depth"),
    RuleCase({"bit_depths": [16]}, "a.mp3", mp3(), "rule_bit_depth"),
    RuleCase({"channels": [2]}, "a.aiff", aiff(1, channels=1), "rule_channels"),
    RuleCase({"min_duration": 30}, "a.wav", wav(2), "rule_duration"),
    RuleCase({"max_duration": 1}, "a.wav", wav(2.5), "rule_duration"),
    RuleCase({"max_duration": 0.1}, "a.opus", audio()["opus.opus"], "rule_duration", page=False),
    RuleCase({"containers": ["mp3"]}, "named-wrongly.wav", mp3(), None),
    RuleCase({"containers": ["webm"]}, "named-wrongly.mp3", audio()["opus.webm"], None),
    RuleCase({"containers": ["wav"], "bit_depths": [16], "min_duration": 1}, "a.wav", wav(1), None),
    RuleCase({"containers": ["mp3", "wav"], "bit_depths": [24]}, "a.mp3", mp3(), None),
]
