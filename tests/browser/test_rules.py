"""Rules of a session on the page: shown beforehand, compared before a byte is sent, and told as the service tells."""

from __future__ import annotations

import base64

import pytest
from playwright.sync_api import expect

from browser.helpers import expect_received, file_payload
from storage.formats.audio import identify, open_reader
from support import audio_samples
from support.rule_cases import RULE_CASES
from support.sample_files import aiff, flac, mp3, png, wav

READ_FACTS = """
async ([module, name, data]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const facts = await (await import(`/loadbay/${module}-facts.js`))[name](new File([bytes], "a"));
  return facts && Object.fromEntries(Object.entries(facts));
}
"""
DESCRIBE = "async (rules) => (await import('/loadbay/rules.js')).describeRules(rules)"
CHECK = """
async ([rules, name, data]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const broken = await (await import("/loadbay/rules.js")).checkAudio(rules, new File([bytes], name));
  return broken && broken.code;
}
"""
WAV_RULES = {"audio": {"containers": ["wav"], "sample_rates": [44_100]}}


@pytest.fixture
def evaluate(service, page):
    """Run a function in a page of the service."""

    def run(script, argument):
        if page.url == "about:blank":
            page.goto(f"{service.base}/u/{service.open_session()}")
        return page.evaluate(script, argument)

    return run


@pytest.fixture
def requests(page):
    """The requests that the page sends, but for GET."""
    sent = []
    page.on("request", lambda request: request.method == "GET" or sent.append(request.url))
    return sent


def id3(size):
    """Return an ID3v2 tag with this many bytes of padding."""
    return b"ID3\x04\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        (wav(2, rate=48_000, channels=2, bits=24), ("wav", "pcm", 48_000, 2, 24, 2)),
        (flac(2, 96_000, 1, 24), ("flac", "flac", 96_000, 1, 24, 47 * 4096 / 96_000)),
        (id3(20_000) + flac(1, 44_100), ("flac", "flac", 44_100, 2, 16, 11 * 4096 / 44_100)),
        (aiff(2, 44_100, 1, 16), ("aiff", "pcm", 44_100, 1, 16, 2)),
        (mp3(1, 48_000), ("mp3", "mp3", 48_000, 2, None, None)),
        (id3(500) + b"\xff\xff\0" + mp3(1, 44_100), ("mp3", "mp3", 44_100, 2, None, None)),
        (b"OggS" + bytes(40), ("ogg", None, None, None, None, None)),
        (b"\0\0\0\x20ftypM4A " + bytes(40), ("mp4", None, None, None, None, None)),
        (wav()[:20], ("wav", None, None, None, None, None)),
        (b"RIFF\xff\xff\xff\xffWAVE" + b"LIST\xff\xff\xff\xff" * 4, ("wav", None, None, None, None, None)),
        (b"fLaC\0\0", ("flac", "flac", None, None, None, None)),
        (mp3(1)[:800], None),
        (b"\xff\xfb\x90\0" * 200, None),
        (b"", None),
    ],
)
def test_reads_facts_from_headers(evaluate, body, facts):
    """Facts of WAV, FLAC, AIFF and MP3 are read; of other kinds the container; of broken files, what is certain."""
    result = evaluate(READ_FACTS, ["audio", "readAudioFacts", base64.b64encode(body).decode()])
    names = ("container", "codec", "sampleRate", "channels", "bitDepth", "duration")
    assert (result and tuple(result.get(name) for name in names)) == (facts and pytest.approx(facts, nan_ok=True))


def test_facts_are_those_of_the_service(evaluate):
    """The facts that the page reads are those that the service reads; it may read less."""
    count = 0
    for name, body in audio_samples.audio().items():
        facts = identify(open_reader(None, body, len(body)), name).facts
        page = evaluate(READ_FACTS, ["audio", "readAudioFacts", base64.b64encode(body).decode()]) or {}
        # WebM begins as Matroska does.
        container = facts.container.replace("webm", "matroska")
        expected = {
            "container": container, "codec": facts.codec, "sampleRate": facts.sample_rate, "channels": facts.channels,
            "bitDepth": facts.bit_depth, "duration": pytest.approx(facts.duration or 0, rel=0.01),
        }  # fmt: skip
        known = {key: value for key, value in page.items() if value is not None}
        assert known == {key: expected[key] for key in known}, name
        count += len(known)
    assert count > 50


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        (png(30, 20), {"type": "image/png", "width": 30, "height": 20}),
        (b"II*\0" + bytes(20), {"type": "image/tiff", "width": 0, "height": 0}),
        (b"<svg/>", {"type": "", "width": 0, "height": 0}),
        (b"", {"type": "", "width": 0, "height": 0}),
    ],
)
def test_reads_facts_of_images(evaluate, body, facts):
    """The type of an image is that of its first bytes; one that the browser cannot show has no size."""
    assert evaluate(READ_FACTS, ["image", "readImageFacts", base64.b64encode(body).decode()]) == facts


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        (None, ""),
        ({}, ""),
        ({"audio": None, "cover": {"a_rule_of_later": 1}}, ""),
        (
            {
                "audio": {
                    "containers": ["wav", "mp4"], "codecs": ["pcm", "alac"], "sample_rates": [44_100, 48_000],
                    "bit_depths": [16, 24], "channels": [1, 2, 6], "min_duration": 30, "max_duration": 3725.5,
                    "max_file_size": 500_000_000,
                },
                "cover": {"types": ["image/jpeg", "image/png"], "square": True, "min_side": 1400, "max_side": 6000},
            },
            "Tracks: WAV or M4A, PCM or ALAC, 44.1 or 48 kHz, 16 or 24-bit, mono, stereo or 6-channel, at least 30"
            " secs, at most 62:05.5, at most 500 MB. Covers: JPEG or PNG, square, at least 1400 × 1400 pixels, at most"
            " 6000 × 6000 pixels.",
        ),
    ],
)  # fmt: skip
def test_describes_rules_in_words(evaluate, rules, text):
    """Rules are described in an artist's words; those that the page does not know are left out."""
    assert evaluate(DESCRIBE, rules) == text


def test_page_shows_the_rules_beforehand(service, visit, page):
    """The page says what the session accepts where files are dropped."""
    visit(service, service.open_session(rules=WAV_RULES))
    expect(page.get_by_text("Audio files, and images for their covers. Tracks: WAV, 44.1 kHz.")).to_be_visible()


def test_page_says_what_the_service_would_say(evaluate):
    """The page refuses a file of the table only with the service's code, and leaves to it what it cannot know."""
    for case in RULE_CASES:
        arguments = [{"audio": case.rules}, case.name, base64.b64encode(case.body).decode()]
        assert evaluate(CHECK, arguments) == (case.code if case.page else None), case[:2]


@pytest.mark.parametrize(
    ("rules", "name", "body", "message"),
    [
        (WAV_RULES["audio"], "a.mp3", mp3(1, 48_000), "48 kHz MP3; this upload asks for 44.1 kHz WAV."),
        (WAV_RULES["audio"], "a.wav", wav(), "8 kHz WAV; this upload asks for 44.1 kHz audio."),
        ({"containers": ["wav", "flac"]}, "a.m4a", b"\0\0\0 ftypM4A ", "M4A; this upload asks for WAV or FLAC."),
        ({"containers": ["wav"]}, "a.mp3", b"something else", "MP3; this upload asks for WAV."),
        ({"containers": ["wav"]}, "a.wav", mp3(), "MP3; this upload asks for WAV."),
        ({"codecs": ["flac", "alac"]}, "a.wav", wav(), "PCM WAV; this upload asks for FLAC or ALAC audio."),
        ({"bit_depths": [24]}, "a.flac", flac(), "16-bit FLAC; this upload asks for 24-bit audio."),
        ({"bit_depths": [24]}, "a.mp3", mp3(), "MP3; this upload asks for 24-bit audio."),
        ({"channels": [2]}, "a.wav", wav(), "Mono WAV; this upload asks for stereo audio."),
        ({"min_duration": 90}, "a.aiff", aiff(61.5, 8000, 1), "1:01.5 long; this upload asks for at least 1:30."),
        ({"max_duration": 1}, "a.wav", wav(2), "2 secs long; this upload asks for at most 1 sec."),
        ({"max_file_size": 20_000}, "a.wav", wav(2), "32 kB; this upload asks for at most 20 kB."),
        ({"max_file_size": 32_043}, "a.wav", wav(2), "32,044 bytes; this upload asks for at most 32,043 bytes."),
        (
            {"sample_rates": [44_100], "channels": [2], "bit_depths": [24], "min_duration": 30, "max_file_size": 100},
            "a.wav",
            wav(2),
            "32 kB, 8 kHz 16-bit mono WAV, 2 secs long; this upload asks for at most 100 bytes, 44.1 kHz 24-bit stereo"
            " audio, at least 30 secs.",
        ),
    ],
)
def test_file_that_breaks_a_rule_is_not_sent(service, visit, requests, rules, name, body, message):
    """A file that breaks a rule is listed as not accepted with the reason, and nothing of it is sent."""
    session_id = service.open_session(rules={"audio": rules})
    uploader = visit(service, session_id)
    uploader.choose(file_payload(name, body))
    expect(uploader.row(name)).to_contain_text("Not accepted")
    expect(uploader.row(name)).to_contain_text(message)
    expect(uploader.summary).to_contain_text("1 file not accepted")
    expect(uploader.status).to_contain_text(f"{name} is not accepted: {message}")
    assert requests == []
    uploader.press("Remove all")
    expect(uploader.summary).not_to_be_visible()


@pytest.mark.parametrize(
    ("rules", "name", "body"),
    [
        ({"containers": ["matroska"]}, "a.mka", b"\x1a\x45\xdf\xa3" + bytes(60)),
        ({"sample_rates": [44_100]}, "a.alac", b"something else"),
        ({"sample_rates": [44_100], "channels": [2], "bit_depths": [16]}, "a.opus", b"OggS" + bytes(60)),
        ({"min_duration": 60}, "a.mp3", mp3()),
        ({"bit_depths": [24], "containers": ["wav", "mp3"]}, "a.mp3", mp3()),
        ({"a_rule_of_later": [1]}, "a.wav", wav()),
    ],
)
def test_page_does_not_refuse_what_it_cannot_know(service, visit, page, rules, name, body):
    """A file whose headers tell the page too little is ready to upload: the service decides."""
    uploader = visit(service, service.open_session())
    page.route("**/v1/upload_session/*", lambda route: fulfill_with_rules(route, {"audio": rules}))
    page.reload()
    expect(page.get_by_text("Open until")).to_be_visible()
    uploader.choose(file_payload(name, body, "audio/x-any"))
    expect(uploader.summary).to_contain_text("1 file ready to upload")
    expect(uploader.row(name)).not_to_contain_text("Not accepted")


def fulfill_with_rules(route, rules):
    """Answer the read of a session with these rules in it."""
    response = route.fetch()
    body = response.json()
    body["upload_session"]["rules"] = rules
    route.fulfill(response=response, json=body)


def test_accepted_files_are_uploaded_without_the_others(service, visit, page):
    """Files that keep the rules are uploaded; the page counts those that do not, and is complete without them."""
    session_id = service.open_session(rules={"audio": {"max_file_size": 20_000}})
    uploader = visit(service, session_id)
    page.evaluate("addEventListener('session-complete', (event) => { window.complete = event.detail.tracks.length })")
    page.evaluate("addEventListener('file-failed', (event) => { window.failed = event.detail })")
    uploader.choose(file_payload("good.wav", wav()), file_payload("large.wav", wav(2)))
    expect(uploader.summary).to_contain_text("1 file ready to upload, 1 not accepted")
    uploader.upload(1)
    expect_received(uploader.row("good.wav"))
    expect(uploader.summary).to_contain_text("Done: 1 file received, 1 not accepted")
    expect(uploader.summary).to_contain_text("See each file for the reason.")
    assert [track["file_name"] for track in service.tracks(session_id)] == ["good.wav"]
    assert page.evaluate("window.complete") == 1
    failed = page.evaluate("window.failed")
    assert (failed["file_name"], failed["track_id"], failed["code"]) == ("large.wav", None, "rule_file_size")


def test_files_added_before_the_session_is_read_are_compared_later(service, visit, page):
    """Files that were chosen before the page knew the rules are compared with them as soon as it does."""
    uploader = visit(service, service.open_session(rules=WAV_RULES))
    held = []
    page.route("**/v1/upload_session/*", lambda route: held.append(route))
    page.reload()
    uploader.choose(file_payload("a.mp3", mp3()))
    expect(uploader.summary).to_contain_text("1 file ready to upload")
    held[0].continue_()
    expect(uploader.row("a.mp3")).to_contain_text("MP3; this upload asks for WAV.")


def test_file_that_the_service_refuses_is_not_accepted(service, visit, page):
    """A rule that only the service could check is shown with its sentence, and the file is not sent again."""
    session_id = service.open_session(rules={"audio": {"max_file_size": 100}})
    page.route("**/v1/upload_session/*", lambda route: fulfill_with_rules(route, None))
    page.route("**/v1/upload/*/tracks", forget_size)
    page.route("**/v1/upload/*/track", forget_size)
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.wav", wav()))
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text("Not accepted")
    text = f"The file has {len(wav())} bytes; this session accepts at most 100 bytes."
    expect(uploader.row("a.wav")).to_contain_text(text)
    expect(page.get_by_role("button", name="Retry a.wav")).not_to_be_visible()


def forget_size(route):
    """Let a registration declare no size, as a page that knows no rules might."""
    if route.request.method != "POST":
        route.continue_()
        return
    body = route.request.post_data_json
    for track in body.get("tracks", [body]):
        del track["file_size"]
    route.continue_(post_data=body)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"types": ["image/jpeg"]}, "PNG; this upload asks for JPEG."),
        ({"square": True}, "30 × 20 pixels; this upload asks for a square image."),
        ({"min_side": 25}, "30 × 20 pixels; this upload asks for at least 25 × 25 pixels."),
        (
            {"square": True, "max_side": 10},
            "30 × 20 pixels; this upload asks for a square image, at most 10 × 10 pixels.",
        ),
    ],
)
def test_cover_that_breaks_a_rule_is_not_sent(service, visit, requests, rules, message):
    """A cover that breaks a rule is named with the reason; its track is received without it."""
    session_id = service.open_session(rules={"cover": rules})
    uploader = visit(service, session_id)
    uploader.choose(file_payload("one.wav", wav()), file_payload("one.png", png(30, 20), "image/png"))
    expect(uploader.row("one.wav")).to_contain_text(f"Cover: {message}")
    uploader.upload()
    expect_received(uploader.row("one.wav"))
    expect(uploader.summary).to_contain_text("Done: 1 file received, without its cover")
    expect(uploader.row("one.wav")).to_contain_text(f"Cover: {message}")
    (track,) = service.tracks(session_id)
    assert track["cover"] is None
    assert not [url for url in requests if url.endswith("/cover") or ("tracks/" not in url and "/v1/" not in url)]


def test_better_cover_is_accepted_before_and_after_the_upload(service, visit, bucket, page):
    """Another cover that keeps the rules replaces one that does not, also after the track was received."""
    session_id = service.open_session(rules={"cover": {"square": True}})
    uploader = visit(service, session_id)
    uploader.choose(
        file_payload("one.wav", wav()), file_payload("one.png", png(30, 20), "image/png"),
        file_payload("two.wav", wav(seed=2)), file_payload("two.png", png(30, 20), "image/png"),
    )  # fmt: skip
    expect(uploader.row("one.wav")).to_contain_text("square")
    better = file_payload("better.png", png(9, 9), "image/png")
    page.get_by_label("Cover for one.wav: one.png").set_input_files(better)
    expect(uploader.row("one.wav")).not_to_contain_text("square")
    uploader.upload(2)
    expect(uploader.summary).to_contain_text("Done: 2 files received, 1 without its cover")
    page.get_by_label("Cover for two.wav: two.png").set_input_files(file_payload("bad.png", png(8, 9), "image/png"))
    expect(uploader.row("two.wav")).to_contain_text("8 × 9 pixels")
    with page.expect_response(lambda response: response.url.endswith("/complete")):
        page.get_by_label("Cover for two.wav: bad.png").set_input_files(better)
    expect(uploader.row("two.wav")).not_to_contain_text("square")
    expect(page.get_by_label("Cover for two.wav: better.png")).to_be_disabled()
    assert [bucket.get(track["cover"]["path"]) for track in service.tracks(session_id)] == [png(9, 9)] * 2
