"""The page's catalogs of messages: complete, alike, and the only place with sentences."""

from __future__ import annotations

import json
import re

import pytest

from storage.errors import FAILURES
from support.messages import CATALOGS, catalog
from support.processes import ROOT

pytestmark = pytest.mark.sqlite

STATIC = ROOT / "static"
FOR_DEVELOPERS = {"index.js", "api-docs.js", "cors.js", "owner-messages.js"}
"""Scripts of pages that only developers see, what they are told in the console, and the owner's page, in English."""
GENERAL_FAILURES = {"write_once_untrusted", "sender_headers", "unreadable"}
"""Failures that say nothing to the person with the file; they have the usual message."""
TOKENS = re.compile(
    r"(?P<skip>//[^\n]*|/\*.*?\*/|(?<=[(,=:\[!&|?{};\s])/(?![/*\s])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/[a-z]*)"
    r"|(?P<string>\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)",
    re.DOTALL,
)
CSS = re.compile(r"^\(?[a-z-]+[:(]")
"""A media query or a function."""
PROPER_NAMES = {
    "Files", "Matroska", "Musepack", "Ogg", "Opus", "Shorten", "Speex", "Vorbis", "WMA Lossless",
    "Track ${untitled[2]}", "system volume information", "button primary-button",
    "Bearer ${this.#key}", "Escape",
}  # fmt: skip
"""Names of formats, parts, keys and of the browser's interfaces, and a title as it is in the file's name."""


def placeholders(message: str | dict[str, str]) -> set[str]:
    """Return the placeholders of a message, of all its plural forms together."""
    forms = message.values() if isinstance(message, dict) else [message]
    return {name for form in forms for name in re.findall(r"\{(\w+)\}", form)}


def looks_like_a_sentence(text: str) -> bool:
    """Return whether a string is written for people: two words with a space between, or a capitalized word."""
    plain = re.sub(r"\$\{[^}]*\}", "", text)
    if CSS.match(text):
        return False
    if re.search(r"[A-Za-z’]{2,}[,.:;…]? [A-Za-z]{1,}", plain):
        return True
    return bool(re.fullmatch(r"[A-Z][a-z]+[.…]?", plain.strip()))


def strings_of(source: str) -> list[str]:
    """List the string literals of a script, without those in comments."""
    return [match["string"][1:-1] for match in TOKENS.finditer(source) if match["string"]]


ENGLISH = catalog(STATIC / "messages" / "en.js")
SCRIPTS = sorted(path for path in STATIC.glob("*.js") if path.name not in FOR_DEVELOPERS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_sentence_stands_outside_the_catalog(path):
    """No script of page and component has a string for people; all are in static/messages/."""
    sentences = [text for text in strings_of(path.read_text()) if looks_like_a_sentence(text)]
    assert [text for text in sentences if text not in PROPER_NAMES] == []


@pytest.mark.parametrize(
    "text", ["Open until", "Drop files here", "${count} files received", "Pause", "Canceled.", "Cannot reach it."]
)
def test_check_recognizes_sentences(text):
    """The check finds what it is for."""
    assert looks_like_a_sentence(text)
    assert text in strings_of(f'const a = "{text}"; // "A comment"')
    assert not looks_like_a_sentence("content-type")


@pytest.mark.parametrize("path", CATALOGS, ids=lambda path: path.stem)
def test_catalogs_are_complete(path):
    """Each catalog has all messages of the English one and no others, with the same placeholders."""
    messages = catalog(path)
    assert list(messages) == list(ENGLISH)
    for key, message in messages.items():
        assert placeholders(message) == placeholders(ENGLISH[key]), key
        assert isinstance(message, dict) == isinstance(ENGLISH[key], dict), key
        assert "" not in (message.values() if isinstance(message, dict) else [message]), key


def test_catalogs_are_those_that_the_page_offers():
    """The page offers exactly the languages that have a catalog."""
    listed = re.search(r"LANGUAGES = (\[[^\]]*\])", (STATIC / "messages.js").read_text())
    assert listed
    assert sorted(json.loads(listed[1])) == [path.stem for path in CATALOGS]


BY_CODE = re.compile(
    r"^(error|failure)(_|$)|^page_(terms|privacy|help)$|^session_(expired|closed|not_found)_(title|text|file)$"
)


def test_all_messages_are_used():
    """Each message is used somewhere; those of codes by their code."""
    sources = [*STATIC.glob("*.js"), *(ROOT / "web").glob("*.py"), *(ROOT / "templates" / "loadbay").glob("*.html")]
    text = "".join(path.read_text() for path in sources)
    by_code = re.compile(
        r"^(error|failure)(_|$)|^page_(terms|privacy|help)$|^session_(expired|closed|not_found)_(title|text|file)$"
    )
    unused = [key for key in ENGLISH if not by_code.search(key) and not re.search(rf"[\"'`]{key}[\"'`]", text)]
    assert unused == []


def test_failures_have_messages():
    """Each code of a failure has a message, or is known to say nothing to people."""
    named = {key.removeprefix("failure_") for key in ENGLISH if key.startswith("failure_")}
    assert named == set(FAILURES) - GENERAL_FAILURES
