"""Local files: discovery of files and covers in folders, and reasons why a file cannot be uploaded.

A session's rules are compared as far as a file's size, first bytes and name tell; the service checks the rest.
"""

from __future__ import annotations

import json
import mimetypes
import os
import re
import stat
import unicodedata
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from .errors import FileError
from .payloads import Rules

RULES: dict[str, Any] = json.loads(Path(__file__).with_name("file_rules.json").read_text("utf-8"))
"""Rules for names of files, sizes of parts and responses to retry; the upload page has the same ones."""

# What the service rejects in file names: path separators, control characters, bidirectional formatting characters.
FORBIDDEN_CHARACTERS = re.compile(RULES["forbidden"])

CONTAINERS = {extension: set(audio["containers"]) for extension, audio in RULES["audio"].items()}
"""Containers by file extension; a file of another extension may be anything."""

SIGNATURES = (
    (re.compile(rb"(?:RIFF|RF64|BW64)....WAVE", re.DOTALL), {"wav"}), (re.compile(rb"fLaC"), {"flac"}),
    (re.compile(rb"FORM....AIF[FC]", re.DOTALL), {"aiff"}), (re.compile(rb"OggS"), {"ogg"}),
    (re.compile(rb"....ftyp", re.DOTALL), {"mp4"}), (re.compile(rb"\x1aE\xdf\xa3"), {"matroska", "webm"}),
    (re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), {"asf"}), (re.compile(rb"wvpk"), {"wavpack"}),
    (re.compile(rb"caff"), {"caf"}), (re.compile(rb"MAC "), {"ape"}), (re.compile(rb"DSD "), {"dsf"}),
    (re.compile(rb"FRM8"), {"dff"}), (re.compile(rb"#!AMR"), {"amr"}),
    (re.compile(rb"\xff[\xe2-\xff]"), {"mp3", "aac"}), (re.compile(rb"ID3"), {"mp3", "aac", "flac"}),
)  # fmt: skip
"""Containers by a file's first bytes, which count more than its name."""

MAX_EXTENSION = 16

SPELLING = {"asf": "WMA", "matroska": "Matroska", "mp4": "M4A", "ogg": "Ogg", "wavpack": "WavPack", "webm": "WebM"}


@dataclass(frozen=True)
class File:
    """A local file to upload, registered as `name` (by default the path's own) with an optional cover picture."""

    path: Path
    name: str = ""
    cover: Path | None = None
    content_type: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def upload_name(self) -> str:
        """The file name sent to the service."""
        return self.name or upload_name(readable(self.path.name))


def upload_name(name: str) -> str:
    """Return a name in a form that the service accepts: without forbidden characters, and not too long.

    >>> upload_name("a/b.wav"), len(upload_name("x" * 300 + ".wav"))
    ('a_b.wav', 255)
    """
    safe, longest = FORBIDDEN_CHARACTERS.sub("_", name), RULES["maxName"]
    if len(safe) <= longest:
        return safe
    extension = split_extension(safe)[1][:MAX_EXTENSION]
    return f"{safe[: longest - len(extension) - 1]}.{extension}"


def split_extension(name: str) -> tuple[str, str]:
    """Return a name's stem, and its extension in lower case without the dot, or "".

    >>> split_extension("01 Song.WAV"), split_extension(".hidden")
    (('01 Song', 'wav'), ('.hidden', ''))
    """
    stem, dot, extension = name.rpartition(".")
    return (stem, extension.lower()) if stem and dot else (name, "")


def readable(name: str | Path) -> str:
    """Return a file name as text that JSON and terminals accept: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(name).decode(errors="replace")


def stat_signature(path: Path) -> list[int]:
    """Return the file's size in bytes and modification time in nanoseconds, to detect changes. Raises OSError."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def stat_signature_or_none(path: Path) -> list[int] | None:
    """Return the signature of a file, or None if it cannot be read, which the upload reports."""
    try:
        return stat_signature(path)
    except OSError:
        return None


def media_type(path: Path) -> str | None:
    """Return the media type for the extension of a file, or None if it is unknown."""
    return mimetypes.guess_type(path.name)[0]


class DiscoveredFiles(NamedTuple):
    """Files to upload, pictures that are no file's cover, files that cannot be uploaded with the reason, and others.

    `skipped`: files in folders that are neither audio nor pictures.
    """

    files: list[File]
    unused_pictures: list[Path]
    unreadable: list[tuple[File, str]]
    skipped: list[Path]


class Patterns(NamedTuple):
    """Shell patterns for names, or for paths relative to the common parent of all: `*.mp3`, `album/*/demo-*`.

    `include` selects files, all if it is empty. `exclude` then leaves out files and pictures.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def select(self, path: Path, base: Path) -> bool:
        """Return whether a file or picture is selected. A picture needs no `include`: it goes with its file."""
        included = not self.include or _is_picture(path) or self._matches(path, base, self.include)
        return included and not self._matches(path, base, self.exclude)

    def _matches(self, path: Path, base: Path, patterns: Sequence[str]) -> bool:
        names = (path.name, path.relative_to(base).as_posix())
        return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


EVERYTHING = Patterns()


def discover(paths: Iterable[Path], patterns: Patterns = EVERYTHING) -> DiscoveredFiles:
    """Return the files that `paths` refer to; folders are searched recursively, without hidden entries.

    Of a folder, files are audio by their names or their first bytes, unless `patterns` include them.
    `metadata["path"]` is the file's path relative to the common parent of `paths`. Raises FileNotFoundError.
    """
    roots = [path.absolute() for path in paths]
    base = Path(os.path.commonpath([path.parent for path in roots]))
    unreadable_folders: list[Path] = []
    entries = (path for root in roots for path in _walk(root, unreadable_folders))
    reasons = {path: _unreadable_reason(path) for path in entries if patterns.select(path, base)}
    named = set(roots) if not patterns.include else reasons.keys()
    skipped = [path for path in reasons if path not in named and _is_skipped(path, reasons[path])]
    for path in skipped:
        del reasons[path]
    reasons |= dict.fromkeys(unreadable_folders, "The folder cannot be read.")
    readable_paths = [path for path, reason in reasons.items() if reason is None]
    tracks = [path for path in readable_paths if not _is_picture(path)]
    pictures = [path for path in readable_paths if _is_picture(path)]
    covers = match_covers(tracks, pictures)
    used_pictures = set(covers.values())
    return DiscoveredFiles(
        [_to_file(path, base, covers) for path in tracks],
        [path for path in pictures if path not in used_pictures],
        [(_to_file(path, base, covers), reason) for path, reason in reasons.items() if reason],
        skipped,
    )


def _to_file(path: Path, base: Path, covers: Mapping[Path, Path]) -> File:
    metadata = {"path": readable(path.relative_to(base).as_posix())}
    return File(path, cover=covers.get(path), content_type=media_type(path), metadata=metadata)


def _walk(path: Path, unreadable_folders: list[Path]) -> Iterator[Path]:
    if not path.is_dir():
        path.stat()
        yield path
        return
    for folder, folders, files in os.walk(path, onerror=lambda error: unreadable_folders.append(Path(error.filename))):
        folders[:] = sorted(name for name in folders if not _is_ignored(name, "ignoredFolders"))
        # Linked folders are not followed, as a link may lead to its own parent. They are reported instead.
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        names = sorted([*files, *links])
        yield from (Path(folder, name) for name in names if not _is_ignored(name, "ignoredFiles"))


def _is_ignored(name: str, names: str) -> bool:
    return name.startswith(tuple(RULES["ignoredPrefixes"])) or name.lower() in RULES[names]


def _is_picture(path: Path) -> bool:
    return split_extension(path.name)[1] in RULES["pictures"]


def _is_skipped(path: Path, unreadable_reason: str | None) -> bool:
    """Return whether a file is neither audio nor a picture, by its extension or else by its first bytes."""
    extension = split_extension(path.name)[1]
    if extension in RULES["audio"] or _is_picture(path) or path.is_dir():
        return False
    if extension in RULES["unfinished"]:
        return True
    return bool(unreadable_reason) or not _begins_as_audio(path)


def _begins_as_audio(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(16)
    return any(head.startswith(signature.encode(), offset) for offset, signature in RULES["signatures"])


def _unreadable_reason(path: Path) -> str | None:
    """Return the reason why a file cannot be uploaded, or None."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return "The link is broken."
    except OSError:
        return "The file cannot be read."
    if stat.S_ISDIR(status.st_mode):
        return "Links to folders are not followed; pass the folder itself."
    if not stat.S_ISREG(status.st_mode):
        return "Not a regular file."
    if not os.access(path, os.R_OK):
        return "The file cannot be read."
    return None if status.st_size else "The file is empty."


def match_covers(tracks: Iterable[Path], pictures: Iterable[Path]) -> dict[Path, Path]:
    """Return the cover of each track that has one: the picture of the same name, or else the folder's cover.

    The folder's cover is one with a usual name, or the only picture there that has no track's name.
    """
    tracks = list(tracks)
    stems = {(path.parent, _folded_stem(path)) for path in tracks}
    folders: dict[Path, dict[str, Path]] = {}
    for path in sorted(pictures, key=_picture_rank):
        folders.setdefault(path.parent, {}).setdefault(_folded_stem(path), path)
    shared = {folder: _folder_cover(folder, by_stem, stems) for folder, by_stem in folders.items()}
    covers = {path: folders.get(path.parent, {}).get(_folded_stem(path), shared.get(path.parent)) for path in tracks}
    return {path: cover for path, cover in covers.items() if cover is not None}


def _folder_cover(folder: Path, by_stem: Mapping[str, Path], track_stems: Container[tuple[Path, str]]) -> Path | None:
    others = {stem: path for stem, path in by_stem.items() if (folder, stem) not in track_stems}
    usual = [others[stem] for stem in RULES["covers"] if stem in others]
    return next(iter(usual if usual or len(others) > 1 else others.values()), None)


def _picture_rank(path: Path) -> tuple[int, str]:
    """Return the order in which pictures of one stem are chosen: first what every browser shows."""
    return list(RULES["pictures"]).index(split_extension(path.name)[1]), path.name


def _folded_stem(path: Path) -> str:
    """Return a stem that is the same for names that differ in case, or in how their accents are composed."""
    return unicodedata.normalize("NFC", split_extension(path.name)[0]).strip().upper().lower()


# --- Rules ------------------------------------------------------------------------------------------------------------


def find_broken_rule(rules: Rules | None, file: File) -> FileError | None:
    """Return the error for a file that breaks a rule by its size, its first bytes or its name, or None. Raises OSError.

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
    accepted, extension = audio.get("containers"), split_extension(file.path.name)[1]
    if accepted is None:
        return None
    observed, named = _containers_by_header(file.path), CONTAINERS.get(extension, set())
    possible = observed & named or observed or named
    if not possible or not possible.isdisjoint(accepted):
        return None
    names = [_spell(name) for name in accepted]
    kinds = [_spell(name) for name in sorted(possible)]
    reason = f"The file is {_any_of(kinds)}" if observed else f"The file's name ends in .{extension}"
    return FileError(f"{reason}; this session accepts {_any_of(names)}.", "rule_container")


def _containers_by_header(path: Path) -> set[str]:
    """Return the containers that a file may be in by its first bytes; none if these are not known. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(16)
    return next((containers for signature, containers in SIGNATURES if signature.match(head)), set())


def _spell(container: str) -> str:
    return SPELLING.get(container, container.upper())


def _any_of(values: Sequence[str]) -> str:
    *others, last = values
    return f"{', '.join(others)}{' or ' if others else ''}{last}"
