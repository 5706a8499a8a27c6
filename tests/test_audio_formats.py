"""Audio by its own bytes: what it is, what it says of itself, and how little is read for that."""

from __future__ import annotations

import random
import re
import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadbay_client.files import RULES
from storage.errors import StorageUnavailable
from storage.formats import audio
from storage.formats.audio import HEAD_BYTES, MAX_BYTES, Identification, identify, open_reader
from storage.formats.ranged import RangedReader
from support import audio_samples
from support.audio_samples import OTHERS, id3, noise
from support.sample_files import wav

MEDIA_TYPES = {
    "aac": "audio/aac", "ac3": "audio/ac3", "aif": "audio/aiff", "aiff": "audio/aiff", "au": "audio/basic",
    "caf": "audio/x-caf", "dts": "audio/vnd.dts", "eac3": "audio/eac3", "flac": "audio/flac", "flv": "video/x-flv",
    "m4a": "audio/mp4", "mka": "audio/x-matroska", "mov": "audio/mp4", "mp2": "audio/mpeg", "mp3": "audio/mpeg",
    "mpc": "audio/x-musepack", "oga": "audio/ogg", "ogg": "audio/ogg", "opus": "audio/ogg",
    "rm": "audio/x-pn-realaudio",
    "sbc": "audio/x-sbc", "spx": "audio/ogg", "thd": "audio/true-hd", "ts": "video/mp2t", "tta": "audio/x-tta",
    "voc": "audio/x-voc", "w64": "audio/x-w64", "wav": "audio/wav", "webm": "audio/webm", "wma": "audio/x-ms-wma",
    "wv": "audio/x-wavpack", "3gp": "audio/3gpp", "avi": "video/x-msvideo",
}  # fmt: skip
PRE_SKIP = 0.0066
"""Seconds of Opus that are not heard, which ffprobe counts."""

ESTIMATED = ("creative.voc", "cover.wma")
"""Files whose duration ffprobe estimates from their size and bit rate."""

CODECS = {
    "aac_latm": "aac",
    "wmav2": "wma",
    "musepack8": "musepack",
    "adpcm_ima_wav": "adpcm",
    "pcm_f32le": "pcm_float",
}
CBR = audio_samples.audio()["bare.mp3"]
FLAC = audio_samples.audio()["flac.flac"]


def page_extensions() -> list[str]:
    """The extensions of audio files that the page knows."""
    return list(RULES["audio"])


def reader_of(body: bytes, head_bytes: int = HEAD_BYTES) -> RangedReader:
    """A reader of bytes, of which the first ones are known."""
    return open_reader(lambda offset, length: body[offset : offset + length], body[:head_bytes], len(body))


def identified(body: bytes, name: str, content_type: str | None = None) -> Identification:
    """The identification of a file, within its budget."""
    reader = reader_of(body)
    result = identify(reader, name, content_type)
    assert reader.requests <= 3
    assert reader.bytes_read + HEAD_BYTES <= MAX_BYTES
    return result


# --- Audio ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", audio_samples.audio())
def test_recognizes_audio(name):
    """Every kind of audio is recognized, whatever its name claims, with its own media type."""
    body = audio_samples.audio()[name]
    for file_name in (name, "song.mp3", "song.wav", "song", "song.ul"):
        result = identified(body, file_name)
        assert (result.verdict, result.media_type) == ("audio", MEDIA_TYPES[name.rpartition(".")[2]])


@pytest.mark.parametrize("name", audio_samples.audio())
def test_facts_agree_with_ffprobe(name):
    """Duration (within 1%, or not `exact`), rate, channels, depth and codec are those that ffprobe reports."""
    facts, expected = identified(audio_samples.audio()[name], name).facts, audio_samples.probed()[name]
    if expected["duration"] is not None and facts.exact and name not in ESTIMATED:
        assert facts.duration == pytest.approx(float(expected["duration"]), rel=0.01, abs=PRE_SKIP)
    if expected["sample_rate"] is not None and facts.sample_rate is not None:
        assert (facts.sample_rate, facts.channels) == (int(expected["sample_rate"]), expected["channels"])
    if int(expected["bit_depth"] or 0):
        assert facts.bit_depth == int(expected["bit_depth"])
    if expected["codec"] is not None and facts.codec is not None:
        plain = "pcm" if re.match(r"pcm_[su]", expected["codec"]) else expected["codec"]
        assert facts.codec == CODECS.get(plain, plain)


@pytest.mark.parametrize(
    "name", ["cbr.mp3", "id3v23.mp3", "end.m4a", "faststart.m4a", "vorbis.ogg", "opus.opus", "flac.flac", "vorbis.mka"]
)
def test_reads_tags(name):
    """Title, artist, album, track and disc number are read from the tags of each container."""
    tags = identified(audio_samples.audio()[name], name).facts.tags
    expected = {"title": "Título", "artist": "Artist", "album": "Album", "track_number": 3, "disc_number": 1}
    assert {key: tags.get(key) for key in expected} == expected


@pytest.mark.parametrize("name", ["vorbis.ogg", "flac.flac", "tools.flac", "cbr.mp3"])
def test_reads_the_isrc(name):
    """An ISRC is read, without hyphens."""
    tags = identified(audio_samples.audio()[name], name).facts.tags
    assert tags.get("isrc", "USRC17607839") == "USRC17607839"
    if name == "tools.flac":
        assert tags["isrc"] == "USRC17607839"


def test_reads_the_isrc_of_a_wav_and_of_a_caf():
    """FFmpeg writes the code into the chunk that is named so in a WAV, and by its name into a CAF."""
    info = b"LIST" + struct.pack("<I", 26) + b"INFOISRC" + struct.pack("<I", 13) + b"USRC17607839\0\0"
    body = wav(0.1)
    place = body.index(b"data")
    assert identified(body[:place] + info + body[place:], "a.wav").facts.tags == {"isrc": "USRC17607839"}
    texts = b"ISRC\0US-RC1-76-07839\0disc\x002\0"
    described = b"caff\0\1\0\0desc" + struct.pack(">Qd4sIIIII", 32, 44_100, b"lpcm", 0, 4, 1, 2, 16)
    chunk = b"info" + struct.pack(">QI", 4 + len(texts), 2) + texts
    body = described + chunk + b"data" + struct.pack(">QI", 4004, 0) + noise(4000)
    assert identified(body, "a.caf").facts.tags == {"isrc": "USRC17607839", "disc_number": 2}


@pytest.mark.parametrize("name", ["cover.mp3", "cover.flac", "cover.m4a", "tools.flac", "lame.mp3"])
def test_finds_the_embedded_cover(name):
    """Type, offset and size of an embedded cover are those of the picture's own bytes."""
    body = audio_samples.audio()[name]
    picture = identified(body, name).facts.picture
    assert picture.media_type == "image/jpeg"
    image = body[picture.offset : picture.offset + picture.size]
    assert image.startswith(b"\xff\xd8\xff")
    assert image.endswith(b"\xff\xd9")


def test_tells_a_cover_that_is_not_in_one_piece():
    """A cover in an Ogg file is in base64, across pages: it has type and size, but no offset."""
    picture = identified(audio_samples.audio()["tools.opus"], "a.opus").facts.picture
    assert (picture.media_type, picture.offset) == ("image/jpeg", None)
    assert picture.size > 100


IN_FRONT = {
    "zeros": bytes(417), "many zeros": bytes(20_000), "one zero": b"\0", "ones": b"\xff" * 8, "one": b"\xff",
    "three ones": b"\xff" * 3, "noise": noise(48), "a tag": id3(1000), "two tags": id3(300) + id3(300, version=4),
    "a tag and noise": id3(70) + noise(48), "a tag of the wrong size": id3(1000)[:600],
    "a tag and ones": id3(32) + b"\xff" * 8,
    "a picture in a tag": id3(2500, b"APIC" + struct.pack(">I", 2000) + b"\0\0\0image/webp\0\3\0RIFF\0\0\0\0WEBP"),
    "a document in a tag": id3(3000, b"GEOB" + struct.pack(">I", 2000) + b"\0\0\0application/pdf\0x\0y\0%PDF-1.4\n"),
}  # fmt: skip


@pytest.mark.parametrize("before", IN_FRONT)
def test_recognizes_frames_behind_something_else(before):
    """MPEG audio is found behind tags, padding, and the remains of what was cut off."""
    for name in ("bare.mp3", "mpeg25.mp3", "layer2.mp2", "freeformat.mp3"):
        result = identified(IN_FRONT[before] + audio_samples.audio()[name], name)
        assert (result.verdict, result.media_type) == ("audio", "audio/mpeg")


def test_recognizes_audio_behind_a_tag():
    """An ID3 tag in front hides neither FLAC nor ADTS, nor a tag's own text."""
    tag = id3(60_010, b"TIT2" + struct.pack(">I", 5) + b"\0\0\0Song")
    for name, media_type in (("flac.flac", "audio/flac"), ("adts.aac", "audio/aac"), ("tools.wv", "audio/x-wavpack")):
        result = identified(tag + audio_samples.audio()[name], name)
        assert (result.media_type, result.facts.tags["title"]) == (media_type, "Song")


def test_recognizes_a_stream_that_was_cut_anywhere():
    """A recording of a stream may begin in the middle of a frame."""
    for cut in range(1, 600, 37):
        assert identified(CBR[cut:], "a.mp3").verdict == "audio"


def test_recognizes_frames_behind_a_large_picture():
    """With 700 KB of cover art in front, frames and tags are found with few requests."""
    picture = b"\xff\xd8\xff\xe0" + noise(700_000)
    art = b"APIC" + struct.pack(">I", 14 + len(picture)) + b"\0\0" + b"\0image/jpeg\0\3\0" + picture
    title = b"TIT2" + struct.pack(">I", 5) + b"\0\0\0Song"
    body = id3(10 + len(art) + len(title) + 50, art + title) + CBR * 40
    reader = reader_of(body)
    result = identify(reader, "a.mp3")
    assert result.facts.tags["title"] == "Song"
    assert (result.facts.picture.size, result.verdict) == (len(picture), "audio")
    assert reader.requests <= 2


def test_reads_sizes_that_recorders_leave():
    """A WAV without a size, from a pipe or a recorder that crashed, has a duration that is not exact."""
    whole = identified(wav(0.5), "a.wav").facts
    assert (whole.duration, whole.exact, whole.sample_rate, whole.channels, whole.bit_depth) == (0.5, True, 8000, 1, 16)
    for size in (0, 0xFFFFFFFF):
        body = wav(0.5)
        crashed = body[:4] + struct.pack("<I", size) + body[8:40] + struct.pack("<I", size) + body[44:]
        facts = identified(crashed, "a.wav").facts
        assert (facts.duration, facts.exact) == (0.5, False)


def test_recognizes_amr():
    """AMR of both kinds begins with a line, and its frames tell the duration."""
    narrow, wide = b"#!AMR\n" + (b"\x04" + bytes(12)) * 50, b"#!AMR-WB\n" + (b"\x04" + bytes(17)) * 50
    result = identified(narrow, "a.amr", "audio/AMR")
    assert (result.media_type, result.facts.duration, result.facts.sample_rate) == ("audio/AMR", 1.0, 8000)
    assert identified(wide, "a.awb").media_type == "audio/AMR-WB"


def test_tells_no_type_that_is_not_certain():
    """Noise under a headerless format's name passes, without a type and without facts."""
    for name in ("a.ul", "a.alaw", "a.l16", "a.pcm", "a.g722", "a.gsm", "a.mod"):
        assert identified(noise(20_000), name) == Identification(None, "unknown")
    assert identified(bytes(4000) + noise(20_000), "a.l16").verdict == "unknown"


def test_believes_no_name_and_no_type():
    """Noise is no audio where a format that shows itself is claimed, by the name or by the media type."""
    assert identified(noise(20_000), "a.mp3").verdict == "not_audio"
    assert identified(noise(20_000), "a", "audio/mpeg").verdict == "not_audio"
    assert identified(noise(20_000), "a", "audio/x-unheard-of").verdict == "unknown"
    assert identified(noise(20_000), "a.bin").verdict == "unknown"


# --- Other files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OTHERS)
def test_refuses_other_files(kind):
    """A file that is no audio is refused under every audio ending that the page knows, and has no audio type."""
    for ending in (*page_extensions(), "au", "amr", "mpga", "m4b", "weba", "mpc"):
        result = identified(OTHERS[kind], f"song.{ending}")
        assert result.verdict == "not_audio", ending
        assert result.reason
        assert not (result.media_type or "").startswith("audio/")
        assert result.facts is None


@pytest.mark.parametrize(
    "kind", ["html", "text", "text in UTF-16", "zip", "program for Linux", "pdf", "png", "git lfs pointer", "json"]
)
def test_refuses_what_is_certainly_something_else_under_headerless_names(kind):
    """A headerless format's name does not make audio of a document or of a program."""
    for ending in ("ul", "alaw", "gsm", "l16"):
        assert identified(OTHERS[kind], f"a.{ending}").verdict == "not_audio"


@pytest.mark.parametrize("name", audio_samples.videos())
def test_refuses_videos(name):
    """A video is refused under an audio name, since its container names a video track."""
    body = audio_samples.videos()[name]
    for ending in page_extensions():
        result = identified(body, f"song.{ending}")
        assert result.verdict == "not_audio"
        assert re.match("video/|application/vnd.rn-realmedia", result.media_type)


def test_reads_the_end_of_a_long_video():
    """The tracks of an MP4 that lie behind 4 MB of samples are read by their offset."""
    reader = reader_of(stretched(audio_samples.videos()["video.mp4"]))
    assert identify(reader, "song.m4a").verdict == "not_audio"
    assert reader.requests == 1


def test_keeps_pictures_of_chapters_apart_from_videos():
    """An audio book's chapters may have a picture each: that is no video, unless there are several a second."""
    body = audio_samples.videos()["video.mov"]
    assert identified(body, "book.m4b").verdict == "not_audio"
    sizes = body.index(b"stsz", body.index(b"jpeg")) + 12
    assert identified(body[:sizes] + struct.pack(">I", 1) + body[sizes + 4 :], "book.m4b").verdict == "audio"


# --- Bounds -----------------------------------------------------------------------------------------------------------


AT_THE_END = {
    "oga": "duration", "ogg": "duration", "opus": "duration", "spx": "duration", "mpc": "tags", "tta": "tags",
    "wv": "tags",
}  # fmt: skip
"""What a format has at its end alone, by extension: worth one request."""


@pytest.mark.parametrize("name", [name for name in audio_samples.audio() if name != "sound.ts"])
def test_reads_of_a_long_file_only_what_its_format_has_at_the_end(name):
    """A file of which four megabytes follow the first bytes needs one request, except where its end is needed."""
    reader = reader_of(audio_samples.audio()[name] + bytes(4_000_000))
    assert identify(reader, name).verdict == "audio"
    assert reader.requests == (name.rpartition(".")[2] in AT_THE_END)


def stretched(body: bytes) -> bytes:
    """An MP4 whose samples are four megabytes longer."""
    place = body.index(b"mdat") - 4
    (size,) = struct.unpack(">I", body[place : place + 4])
    middle = struct.pack(">I", size + 4_000_000) + body[place + 4 : place + size] + bytes(4_000_000)
    return body[:place] + middle + body[place + size :]


@pytest.mark.parametrize(("name", "requests"), [("faststart.m4a", 0), ("end.m4a", 1), ("cover.m4a", 1)])
def test_reads_the_tracks_of_a_long_file_wherever_they_are(name, requests):
    """An M4A whose tracks lie behind four megabytes of sound needs one request more, for tracks and tags."""
    reader = reader_of(stretched(audio_samples.audio()[name]))
    facts = identify(reader, name).facts
    assert facts.tags == identified(audio_samples.audio()[name], name).facts.tags
    assert facts.duration
    assert reader.requests == requests


@pytest.mark.parametrize("numbered", [True, False])
def test_reads_behind_a_cover_only_for_numbers(numbered):
    """Behind a large cover in an M4A, encoders write at most the numbers: without them, one request looks for them."""
    body = audio_samples.audio()["faststart.m4a"]
    cover = struct.pack(">I4sI4sII", 300_024, b"covr", 300_016, b"data", 13, 0) + b"\xff\xd8\xff" + bytes(299_997)
    title = struct.pack(">I4sI4sII", 25, b"\xa9nam", 17, b"data", 1, 0) + b"T"
    number = struct.pack(">I4sI4sIIHH", 28, b"trkn", 20, b"data", 0, 0, 0, 7)
    items = title + (number + cover if numbered else cover + number)
    parts = struct.pack(">I4s", 8 + len(items), b"ilst") + items
    meta = struct.pack(">I4sI", 12 + len(parts), b"meta", 0) + parts
    place = body.index(b"moov") - 4
    (size,) = struct.unpack(">I", body[place : place + 4])
    movie = body[place : place + size].replace(b"udta", b"free")
    extra = struct.pack(">I4s", 8 + len(meta), b"udta") + meta
    movie = struct.pack(">I", size + len(extra)) + movie[4:] + extra
    reader = reader_of(body[:place] + movie + body[place + size :])
    facts = identify(reader, "song.m4a").facts
    assert (facts.tags, facts.picture.size) == ({"title": "T", "track_number": 7}, 300_000)
    assert reader.requests == (0 if numbered else 1)


def test_reads_the_tag_behind_the_sound_of_an_aiff():
    """An ID3 tag that follows the sound of an AIFF takes one request; what lies behind its picture takes none."""
    picture = b"APIC" + struct.pack(">I", 300_014) + b"\0\0" + b"\0image/jpeg\0\3\0\xff\xd8\xff" + bytes(299_997)
    tag = id3(400_000, b"TIT2\0\0\0\2\0\0\0T" + picture + b"TPE1\0\0\0\2\0\0\0A")
    common = b"COMM" + struct.pack(">IHIH", 18, 1, 100_000, 16) + bytes.fromhex("400eac44000000000000")
    sound = b"SSND" + struct.pack(">I", 200_008) + bytes(200_008)
    body = b"AIFF" + common + sound + b"ID3 " + struct.pack(">I", len(tag)) + tag
    reader = reader_of(b"FORM" + struct.pack(">I", len(body)) + body)
    facts = identify(reader, "song.aiff").facts
    assert (facts.tags, facts.picture.size, reader.requests) == ({"title": "T"}, 300_000, 1)


def test_estimates_the_duration_of_a_voc_of_many_blocks():
    """The blocks of a VOC that were not fetched are not counted: its duration is estimated from the file's size."""
    block = b"\1" + (4002).to_bytes(3, "little") + bytes((156, 0)) + noise(4000)
    body = b"Creative Voice File\x1a" + struct.pack("<HHH", 26, 0x010A, 0x1129) + block * 100 + b"\0"
    facts = identified(body, "a.voc").facts
    assert facts.duration == pytest.approx(40, rel=0.01)
    assert not facts.exact


def test_bounds_texts_and_numbers():
    """Tags have no control characters and at most 255 characters; impossible numbers are left out."""
    long = b"\0" + b"A\x07\x1b" * 400
    frames = (
        b"TIT2" + struct.pack(">I", len(long)) + b"\0\0" + long + b"TRCK" + struct.pack(">I", 7) + b"\0\0\x0099999/"
    )
    body = id3(4000, frames) + CBR
    tags = identified(body, "a.mp3").facts.tags
    assert tags == {"title": "A" * 255}
    huge = bytearray(wav(0.1))
    huge[24:28] = b"\xff\xff\xff\xff"
    facts = identified(bytes(huge), "a.wav").facts
    assert facts.sample_rate is None


def test_passes_on_what_the_store_raises():
    """An outage in the middle of a file is an outage, not a broken file."""

    def fetch(offset: int, length: int) -> bytes:
        raise StorageUnavailable

    body = audio_samples.audio()["vorbis.ogg"]
    with pytest.raises(StorageUnavailable):
        identify(open_reader(fetch, body[:4000], len(body)), "a.ogg")


SEEDS = {**audio_samples.audio(), **audio_samples.videos(), "wav": wav()}


def mutated(body: bytes, source: random.Random) -> bytes:
    """A file of which some bytes are changed, and perhaps a part is cut out, or put in twice."""
    changed = bytearray(body[: source.choice((len(body), len(body), 2000, 300))])
    for _ in range(source.choice((1, 3, 10, 60))):
        place = source.randrange(min(len(changed), source.choice((64, 1000, len(changed)))))
        changed[place] = source.choice((0, 0xFF, 0x7F, 0x80, source.randrange(256)))
    if source.random() < 0.3:
        start, end = sorted(source.randrange(len(changed)) for _ in range(2))
        changed[start:end] = source.choice((b"", changed[start:end] * 2))
    return bytes(changed)


@pytest.mark.parametrize("name", SEEDS)
def test_survives_broken_files(name):
    """No change to a file raises an error, reads more than the budget, or takes long."""
    source = random.Random(name)
    for _ in range(40):
        body = mutated(SEEDS[name], source)
        started = time.process_time()
        result = identified(body, f"a.{name.rpartition('.')[2]}")
        assert time.process_time() - started < 1
        assert result.verdict in ("audio", "not_audio", "unknown")


STARTS = [
    b"",
    b"RIFF",
    b"fLaC",
    b"OggS\0\2",
    b"\x1aE\xdf\xa3",
    b"ID3\4\0",
    b"\0\0\0\x18ftypM4A ",
    b"FORM",
    b"caff",
    b"\xff\xfb\x90",
]
STARTS += [b"MAC ", b"wvpk", b"MPCK", b"G", b"FLV\1", b".RMF\0", audio.asf.HEADER, b"\0\0\1\xba", b"DSD ", b".snd",
]  # fmt: skip


@given(st.sampled_from(STARTS), st.binary(max_size=400), st.integers(1, 400))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_survives_any_bytes(start, rest, times):
    """No bytes raise an error, whatever format they seem to be."""
    assert identified(start + rest * times, "a.mp3").verdict in ("audio", "not_audio", "unknown")
