"""The messages of the page, for what the service renders itself: from the same catalogs as the component's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

CATALOGS = Path(__file__).resolve().parents[2] / "static" / "messages"
DEFAULT_LANGUAGE = "en"
RIGHT_TO_LEFT = {"ar"}
TRADITIONAL_CHINESE = {"hant", "tw", "hk", "mo"}


@cache
def languages() -> list[str]:
    """List the languages that have a catalog, as BCP 47 tags."""
    return sorted(path.stem for path in CATALOGS.glob("*.js"))


@cache
def catalog(language: str) -> dict[str, Any]:
    """Read a catalog: JSON behind `export default`."""
    text = (CATALOGS / f"{language}.js").read_text(encoding="utf-8")
    return dict(json.loads(text.removeprefix("export default ")))


def translate(language: str, key: str, **values: str) -> str:
    """Return a message with its placeholders filled."""
    return str(catalog(language)[key]).format(**values)


def choose_language(tags: Iterable[str | None]) -> str:
    """Return the first language that has a catalog, as the component chooses it, or else English."""
    matches = (match_language(tag) for tag in tags if tag)
    return next((language for language in matches if language), DEFAULT_LANGUAGE)


def match_language(tag: str) -> str | None:
    """Return the catalog's language for a tag such as "de-AT"."""
    primary, *subtags = tag.lower().replace("_", "-").split("-")
    if primary == "zh" and not TRADITIONAL_CHINESE.isdisjoint(subtags):
        return None
    exact = (language for language in languages() if language.lower() == tag.lower())
    alike = (language for language in languages() if language.split("-")[0] == primary)
    return next(exact, None) or next(alike, None)


def text_direction(language: str) -> str:
    """Return "rtl" or "ltr"."""
    return "rtl" if language in RIGHT_TO_LEFT else "ltr"
