"""A session's rules: validation, comparison with a file's facts, and the sentences of what breaks them."""

from __future__ import annotations

import pytest

from schemas.rules import CODECS, CONTAINERS, COVER_TYPES, MAX_ITEMS
from storage.errors import Failure
from storage.formats.audio import identify, open_reader
from storage.formats.facts import AudioFacts
from storage.formats.rules import check_audio, check_cover, check_size, parse
from support import audio_samples

pytestmark = pytest.mark.sqlite

WAV = AudioFacts("wav", "pcm", 60.0, exact=True, sample_rate=48_000, channels=2, bit_depth=24)
MP3 = AudioFacts("mp3", "mp3", 60.0, exact=True, sample_rate=44_100, channels=2)
UNREAD = AudioFacts("ogg")

# The rules, facts that keep them, facts that break them, and the failure.
AUDIO_CASES = [
    ({"containers": ["wav", "flac"]}, WAV, MP3, (
        "rule_container", "The file is MP3; this session accepts WAV or FLAC.",
    )),
    ({"containers": ["wav"]}, WAV, None, (
        "rule_container", "The kind of file cannot be read; this session accepts WAV.",
    )),
    ({"codecs": ["pcm"]}, WAV, MP3, ("rule_codec", "The codec is MP3; this session accepts PCM.")),
    ({"codecs": ["opus", "vorbis"]}, AudioFacts("ogg", "opus"), UNREAD, (
        "rule_codec", "The codec cannot be read; this session accepts Opus or Vorbis.",
    )),
    ({"sample_rates": [44_100]}, MP3, WAV, (
        "rule_sample_rate", "The sample rate is 48000 Hz; this session accepts 44100 Hz.",
    )),
    ({"sample_rates": [44_100, 48_000, 96_000]}, WAV, UNREAD, (
        "rule_sample_rate", "The sample rate cannot be read; this session accepts 44100, 48000 or 96000 Hz.",
    )),
    ({"bit_depths": [24]}, WAV, AudioFacts("wav", "pcm", bit_depth=16), (
        "rule_bit_depth", "The bit depth is 16 bits; this session accepts 24 bits.",
    )),
    ({"bit_depths": [24]}, WAV, MP3, ("rule_bit_depth", "MP3 has no bit depth; this session accepts 24 bits.")),
    ({"bit_depths": [24]}, WAV, AudioFacts("flac", "flac"), (
        "rule_bit_depth", "The bit depth cannot be read; this session accepts 24 bits.",
    )),
    ({"bit_depths": [24], "containers": ["wav", "mp3"]}, MP3, AudioFacts("wav", "pcm", bit_depth=16), (
        "rule_bit_depth", "The bit depth is 16 bits; this session accepts 24 bits.",
    )),
    ({"bit_depths": [24], "codecs": ["alac", "mp3"]}, MP3, AudioFacts("mp4", "alac", bit_depth=16), (
        "rule_bit_depth", "The bit depth is 16 bits; this session accepts 24 bits.",
    )),
    ({"channels": [2]}, WAV, AudioFacts("wav", channels=1), (
        "rule_channels", "The number of channels is 1; this session accepts 2.",
    )),
    ({"channels": [1, 2]}, WAV, UNREAD, (
        "rule_channels", "The number of channels cannot be read; this session accepts 1 or 2.",
    )),
    ({"min_duration": 60}, WAV, AudioFacts("wav", duration=59.996, exact=True), (
        "rule_duration", "The duration is 59.996 seconds; this session accepts at least 60 seconds.",
    )),
    ({"max_duration": 60}, WAV, AudioFacts("wav", duration=61.25, exact=True), (
        "rule_duration", "The duration is 61.25 seconds; this session accepts at most 60 seconds.",
    )),
    ({"min_duration": 1, "max_duration": 90}, WAV, UNREAD, (
        "rule_duration", "The duration cannot be read; this session accepts at least 1 second.",
    )),
    ({"max_duration": 90}, WAV, UNREAD, (
        "rule_duration", "The duration cannot be read; this session accepts at most 90 seconds.",
    )),
    ({"min_duration": 30}, AudioFacts("aac", duration=27.5), AudioFacts("aac", duration=12.0), (
        "rule_duration", "The duration is about 12 seconds; this session accepts at least 30 seconds.",
    )),
    ({"max_duration": 30}, AudioFacts("aac", duration=32.5), AudioFacts("aac", duration=34.0), (
        "rule_duration", "The duration is about 34 seconds; this session accepts at most 30 seconds.",
    )),
]  # fmt: skip
COVER_CASES = [
    ({"types": ["image/jpeg", "image/png"]}, ("image/png", 3, 2), ("image/gif", 3, 2), (
        "rule_type", "The cover is image/gif; this session accepts image/jpeg or image/png.",
    )),
    ({"square": True}, ("image/png", 3, 3), ("image/png", 3, 2), (
        "rule_square", "The cover has 3 x 2 pixels; this session accepts only square covers.",
    )),
    ({"min_side": 1400}, ("image/png", 1400, 1400), ("image/png", 1400, 1399), (
        "rule_dimensions", "The cover has 1400 x 1399 pixels; this session accepts at least 1400 x 1400.",
    )),
    ({"max_side": 3000}, ("image/png", 3000, 3000), ("image/png", 3001, 10), (
        "rule_dimensions", "The cover has 3001 x 10 pixels; this session accepts at most 3000 x 3000.",
    )),
    ({"square": False}, ("image/png", 3, 2), None, None),
]  # fmt: skip


# --- Comparison ---


@pytest.mark.parametrize(("rules", "good", "bad", "failure"), AUDIO_CASES)
def test_each_audio_rule_is_met_and_broken(rules, good, bad, failure):
    """A file that keeps a rule passes, and one that breaks it fails with the rule's code and sentence."""
    assert check_audio(rules, good) is None
    assert check_audio(rules, bad) == Failure(*failure)


@pytest.mark.parametrize(("rules", "good", "bad", "failure"), COVER_CASES)
def test_each_cover_rule_is_met_and_broken(rules, good, bad, failure):
    """A cover that keeps a rule passes, and one that breaks it fails with the rule's code and sentence."""
    assert check_cover(rules, *good) is None
    if bad is not None:
        assert check_cover(rules, *bad) == Failure(*failure)


def test_largest_file_is_compared_by_its_size_alone():
    """A file that is too large is refused with the rule's code and sentence, whatever it is."""
    rules = {"max_file_size": 999, "containers": ["wav"]}
    text = "The file has 1000 bytes; this session accepts at most 999 bytes."
    assert check_size(rules, 1000) == Failure("rule_file_size", text)
    assert check_size(rules, 999) is None


def test_longest_sentences_fit_their_column():
    """The longest lists that rules may have give sentences that are stored in full."""
    facts = AudioFacts("another", "another", sample_rate=1)
    containers, codecs = (sorted(names, key=len)[-MAX_ITEMS:] for names in (CONTAINERS, CODECS))
    rates = [100_000_000 - number for number in range(MAX_ITEMS)]
    for rules in ({"containers": containers}, {"codecs": codecs}, {"sample_rates": rates}):
        assert len(check_audio(rules, facts).message) <= 255
    assert len(check_cover({"types": list(COVER_TYPES)}, "image/another", 1, 1).message) <= 255


def test_rules_know_the_names_that_the_parsers_use():
    """Rules can name the container and the codec of every sample, but for kinds that nobody sends to a label."""
    facts = [identify(open_reader(None, body, len(body)), name).facts for name, body in audio_samples.audio().items()]
    assert {item.container for item in facts} - set(CONTAINERS) <= {"avi", "flv", "mpegts", "realmedia", "sbc"}
    assert {item.codec for item in facts if item.codec} - set(CODECS) <= {"sbc"}


def test_no_rules_accept_anything():
    """A session without rules has none to break, and an empty object neither."""
    assert parse(None) == {}
    assert check_size({}, 2**40) is None
    assert check_audio({}, None) is None
    assert check_cover({}, "image/gif", 1, 2) is None
