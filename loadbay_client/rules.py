"""A session's rules, as far as a file's name and size tell whether it keeps them. The service checks the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import FileError
from .files import File
from .payloads import Rules

CONTAINERS = {
    "aac": {"aac", "mp4"}, "ac3": {"ac3"}, "aif": {"aiff"}, "aifc": {"aiff"}, "aiff": {"aiff"}, "amr": {"amr"},
    "ape": {"ape"}, "caf": {"caf"}, "dff": {"dff"}, "dsf": {"dsf"}, "flac": {"flac", "ogg"}, "m4a": {"mp4"},
    "m4b": {"mp4"}, "mka": {"matroska", "webm"}, "mp3": {"mp3"}, "mp4": {"mp4"}, "oga": {"ogg"}, "ogg": {"ogg"},
    "opus": {"ogg"}, "wav": {"wav"}, "wave": {"wav"}, "webm": {"webm", "matroska"}, "wma": {"asf"}, "wv": {"wavpack"},
}  # fmt: skip
"""Containers by file extension; a file of another extension may be anything."""

SPELLING = {"asf": "WMA", "matroska": "Matroska", "mp4": "M4A", "ogg": "Ogg", "wavpack": "WavPack", "webm": "WebM"}


def find_broken_rule(rules: Rules | None, file: File) -> FileError | None:
    """Return the error for a file that breaks a rule by its size or by its name, or None. Raises OSError.

    Rules that this version does not know are left to the service.
    """
    audio = (rules or {}).get("audio") or {}
    return _size_error(audio, file) or _container_error(audio, file)


def _size_error(audio: dict[str, Any], file: File) -> FileError | None:
    limit, size = audio.get("max_file_size"), file.path.stat().st_size
    if limit is None or size <= limit:
        return None
    return FileError(f"The file has {size} bytes; this session accepts at most {limit} bytes.", "rule_file_size")


def _container_error(audio: dict[str, Any], file: File) -> FileError | None:
    extension, accepted = _extension(file.path.name), audio.get("containers")
    possible = CONTAINERS.get(extension)
    if possible is None or accepted is None or not possible.isdisjoint(accepted):
        return None
    names = [SPELLING.get(name, name.upper()) for name in accepted]
    return FileError(f"The file's name ends in .{extension}; this session accepts {_any_of(names)}.", "rule_container")


def _extension(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _any_of(values: Sequence[str]) -> str:
    *others, last = values
    return f"{', '.join(others)}{' or ' if others else ''}{last}"
