"""The pages of the documentation, their fenced blocks, and a comparison of examples with responses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from support.processes import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "bench" / "README.md"])
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
API = (DOCS / "api.md").read_text()


class Snippet(NamedTuple):
    """A fenced block of a page: the line where it starts, its language and its text."""

    page: str
    line: int
    language: str
    text: str


def snippets() -> Iterator[Snippet]:
    """Yield every fenced block of every page."""
    for path, name in zip(PAGES, NAMES, strict=True):
        text = path.read_text()
        for match in re.finditer(r"^```([\w ]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            yield Snippet(name, text.count("\n", 0, match.start()) + 1, match[1], match[2])


SNIPPETS = list(snippets())


def shape_differences(shown: Any, actual: Any, path: str = "") -> list[str]:
    """Compare an example with a response: keys, types, and values that are words of the API.

    `"..."` as a key of an object stands for keys that the example leaves out. Returns the paths that differ.
    """
    if isinstance(shown, dict):
        if not isinstance(actual, dict) or not shown.keys() - {"..."} <= actual.keys():
            return [path]
        extra = [f"{path}.{key}" for key in actual.keys() - shown.keys()] if "..." not in shown else []
        inner = [shape_differences(value, actual[key], f"{path}.{key}") for key, value in shown.items() if key != "..."]
        return sum(inner, extra)
    if isinstance(shown, list):
        if not isinstance(actual, list) or bool(shown) != bool(actual):
            return [path]
        return shape_differences(shown[0], actual[0], f"{path}[0]") if shown else []
    word = path.endswith((".status", ".method", ".role", ".type", ".ok", ".limit", ".part_count", ".count"))
    return [path] if type(shown) is not type(actual) or (word and shown != actual) else []
