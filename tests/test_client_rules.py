"""The client and a session's rules: what it reports before a byte is sent, and the failures it prints at the end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadbay_client import Client, File, VerificationFailed, files
from loadbay_client.cli import upload
from loadbay_client.files import find_broken_rule
from schemas.rules import CONTAINERS
from storage.errors import FAILURES
from storage.formats import rules
from support.api import COLLECTION, create_key
from support.rule_cases import RULE_CASES
from support.sample_files import HTML, mp3, png, wav

pytestmark = pytest.mark.sqlite

STATIC = Path(__file__).parent.parent / "static"

RULES = {"audio": {"containers": ["wav", "flac"], "max_file_size": 1000}}


@pytest.fixture
def make_file(tmp_path):
    """Factory of files with the given name and content."""

    def make(name, body=None):
        path = tmp_path / name
        path.write_bytes(wav() if body is None else body)
        return path

    return make


@pytest.fixture
def run(app, server, tmp_path):
    """Run the command with a key that has these rules; returns its result."""

    def run_command(rules, *arguments):
        env = {
            "LOADBAY_SERVER": server, "XDG_STATE_HOME": str(tmp_path / "state"),
            "LOADBAY_KEY": create_key(app, "--rules", json.dumps(rules)),
        }  # fmt: skip
        return CliRunner(env=env).invoke(upload, [*map(str, arguments), "--collection", COLLECTION])

    return run_command


@pytest.mark.parametrize(
    ("accepted", "name", "message"),
    [
        (None, "a.mp3", None),
        ({}, "a.mp3", None),
        ({"cover": {"square": True}}, "a.mp3", None),
        ({"audio": {"a_rule_of_later": [1]}}, "a.mp3", None),
        ({"audio": {"max_file_size": len(wav())}}, "a.wav", None),
        ({"audio": {"containers": ["wav"]}}, "a.WAV", None),
        ({"audio": {"containers": ["ogg"]}}, "a.opus", None),
        ({"audio": {"containers": ["wav"]}}, "unknown", None),
        ({"audio": {"containers": ["wav"]}}, "a.mp3", "The file's name ends in .mp3; this session accepts WAV."),
        (
            {"audio": {"containers": ["mp4", "ogg", "flac"]}},
            "a.MP3",
            "The file's name ends in .mp3; this session accepts M4A, Ogg or FLAC.",
        ),
        (
            {"audio": {"max_file_size": 100}},
            "a.wav",
            f"The file has {len(wav())} bytes; this session accepts at most 100 bytes.",
        ),
    ],
)
def test_name_and_size_are_compared_with_the_rules(make_file, accepted, name, message):
    """A file that shows no kind is not accepted by its size or its extension; the rest is left to the service."""
    error = find_broken_rule(accepted, File(make_file(name, b"?" * len(wav()))))
    assert (error and str(error)) == message


@pytest.mark.parametrize("case", RULE_CASES)
def test_command_says_what_the_service_would_say(make_file, case):
    """The command refuses a file of the table only with the service's code, and leaves to it what it cannot know."""
    error = find_broken_rule({"audio": case.rules}, File(make_file(case.name, case.body)))
    assert (error and error.code) == (case.code if case.command else None)


def test_names_of_kinds_are_those_of_the_service():
    """Service, client and page write containers and codecs alike, and expect the same ones behind an extension."""
    script = (STATIC / "rules.js").read_text()
    spelling = dict(re.findall(r'(\w+): "([^"]+)"', re.search(r"SPELLING = \{(.*?)\};", script, re.DOTALL)[1]))
    # The page has words of a language in its catalogs.
    assert spelling == {key: name for key, name in rules.SPELLING.items() if key != "pcm_float"}
    assert files.SPELLING.items() <= rules.SPELLING.items()
    lossy = re.findall(r'"(\w+)"', re.search(r"LOSSY_CODECS = \[(.*?)\];", script, re.DOTALL)[1])
    assert set(lossy) <= rules.LOSSY_CODECS
    known = set().union(*files.CONTAINERS.values(), *(names for _, names in files.SIGNATURES))
    assert known <= set(CONTAINERS)


def test_codes_of_the_page_and_of_the_client_are_those_of_the_service():
    """The page and the client use no code of a rule that the service does not have."""
    codes = set(re.findall(r'"(rule_\w+)"', (STATIC / "rules.js").read_text()))
    codes |= set(re.findall(r'"(rule_\w+)"', Path(files.__file__).read_text()))
    assert {"rule_container", "rule_file_size"} <= codes <= set(FAILURES)


def test_session_has_the_rules_it_was_opened_with(server, make_file):
    """A session that was opened, or is used again, has its rules, and checks a file by them."""
    opened = Client(server).session(COLLECTION, rules=RULES)
    resumed = Client(server).resume(opened.id)
    for session in (opened, resumed):
        assert session.rules() == RULES
        assert session.check(File(make_file("a.mp3", mp3()[:900]))).code == "rule_container"
        assert session.check(File(make_file("a.wav"))) is None
    free = Client(server).session(COLLECTION)
    assert (free.rules(), free.check(File(make_file("a.mp3", mp3()[:900])))) == (None, None)


def test_command_reports_files_before_any_is_sent(run, client, make_file):
    """Files that break a rule are reported first and not registered; the others are uploaded."""
    good, large, other = make_file("good.wav"), make_file("large.wav", wav(1)), make_file("other.mp3", mp3()[:900])
    result = run(RULES, good, large, other, "--json")
    assert result.exit_code == 1
    size = f"The file has {len(wav(1))} bytes; this session accepts at most 1000 bytes."
    assert result.stderr.splitlines()[:2] == [
        f"Not accepted: large.wav: {size}",
        "Not accepted: other.mp3: The file is MP3; this session accepts WAV or FLAC.",
    ]
    output = json.loads(result.stdout)
    assert [track["file_name"] for track in output["tracks"]] == ["good.wav"]
    assert [(failure["file"], failure["code"]) for failure in output["failed"]] == [
        (str(large), "rule_file_size"), (str(other), "rule_container"),
    ]  # fmt: skip
    session_id = output["tracks"][0]["upload_session_id"]
    session = client.get(f"/v1/upload_session/{session_id}").json["upload_session"]
    assert (session["track_count"], session["status"]) == (1, "open")


def test_command_prints_the_sentences_of_the_service(run, make_file):
    """A file that breaks a rule by its content is in the table at the end, with the service's sentence."""
    result = run({"cover": {"min_side": 100}}, make_file("a.wav"), make_file("a.png", png()), make_file("b.wav", HTML))
    assert result.exit_code == 1
    cover = "The cover has 3 x 2 pixels; this session accepts at least 100 x 100."
    assert f"a.wav  Track uploaded without its cover. {cover}" in result.stdout
    assert "b.wav  Track failed. The file is not audio: its content is text/html." in result.stdout


def test_failed_verification_has_the_code(server, make_file):
    """VerificationFailed has the code of the failure, of the file or of its cover."""
    session = Client(server, max_attempts=1).session(COLLECTION, rules={"cover": {"types": ["image/jpeg"]}})
    with pytest.raises(VerificationFailed) as error:
        session.upload(make_file("b.wav", HTML))
    assert (error.value.status, error.value.failure_code) == ("failed", "not_audio")
    with pytest.raises(VerificationFailed) as error:
        session.upload(make_file("a.wav"), cover=make_file("a.png", png()))
    assert (error.value.status, error.value.failure_code) == ("uploaded", "rule_type")
