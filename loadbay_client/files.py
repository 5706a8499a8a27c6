"""Which files a path means, and which picture is whose cover."""

from __future__ import annotations

import mimetypes
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif"}
FOLDER_COVERS = {"cover", "folder", "front"}
# What systems leave in folders, beside what is hidden.
IGNORED_FILES = {"desktop.ini", "thumbs.db"}
# What the service takes in no name: separators, control characters, marks that turn the reading direction.
FORBIDDEN_CHARACTERS = re.compile("[/\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class File:
    """A file to upload. `name` is what the service is told; its own `cover` is a picture's path."""

    path: Path
    name: str = ""
    cover: Path | None = None
    content_type: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def upload_name(self) -> str:
        """The name that the service is told."""
        return self.name or FORBIDDEN_CHARACTERS.sub("_", readable(self.path.name))


def readable(name: str | Path) -> str:
    """A file's name as text: what is no UTF-8 in it, which neither JSON nor a terminal takes, becomes U+FFFD."""
    return os.fsencode(name).decode(errors="replace")


def stat_signature(path: Path) -> list[int]:
    """What tells that a file was changed: its size in bytes and the time of its last change in nanoseconds.

    Raises OSError.
    """
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def media_type(path: Path) -> str | None:
    """The media type that a file's name says, if it says one."""
    return mimetypes.guess_type(path.name)[0]


def stamp_or_none(path: Path) -> list[int] | None:
    """The stamp of a file, or None where there is none: whoever reads it will say why."""
    try:
        return stat_signature(path)
    except OSError:
        return None


class DiscoveredFiles(NamedTuple):
    """What paths mean: files to upload; pictures that are no cover; and what cannot be sent, each with the reason."""

    files: list[File]
    left_out: list[Path]
    at_fault: list[tuple[File, str]]


def discover(paths: Iterable[Path]) -> DiscoveredFiles:
    """The files that `paths` mean, folders with all that is in them but what is hidden.

    `metadata["path"]` tells each by its place below the folder that holds all of `paths`. Raises FileNotFoundError.
    """
    given = [path.absolute() for path in paths]
    base = Path(os.path.commonpath([path.parent for path in given]))
    closed: list[Path] = []
    faults = {path: _unreadable_reason(path) for one in given for path in _walk(one, closed)}
    faults |= dict.fromkeys(closed, "It cannot be read.")
    good = [path for path, fault in faults.items() if fault is None]
    covers = _covers(good)
    used = set(covers.values())

    def file(path: Path) -> File:
        place = readable(path.relative_to(base).as_posix())
        return File(path, cover=covers.get(path), content_type=media_type(path), metadata={"path": place})

    return DiscoveredFiles(
        [file(path) for path in good if not _is_picture(path)],
        [path for path in good if _is_picture(path) and path not in used],
        [(file(path), fault) for path, fault in faults.items() if fault],
    )


def _walk(path: Path, closed: list[Path]) -> Iterator[Path]:
    if not path.is_dir():
        path.stat()
        yield path
        return
    for folder, folders, names in os.walk(path, onerror=lambda error: closed.append(Path(error.filename))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        # A linked folder is not walked into: it may lead to where it came from.
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        yield from (Path(folder, name) for name in sorted([*names, *linked]) if not _is_ignored(name))


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in IGNORED_FILES


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES


def _unreadable_reason(path: Path) -> str | None:
    """Why a file cannot be uploaded, if that is so."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return "It is a link that leads nowhere."
    except OSError:
        return "It cannot be read."
    if stat.S_ISDIR(found.st_mode):
        return "It is a link to a folder; name that folder itself."
    if not stat.S_ISREG(found.st_mode):
        return "It is not a file."
    if not os.access(path, os.R_OK):
        return "It cannot be read."
    return None if found.st_size else "It is empty."


def _covers(paths: Iterable[Path]) -> dict[Path, Path]:
    """The cover of each file that has one: the picture of its own name, or else the folder's."""
    pictures = {(path.parent, path.stem.lower()): path for path in paths if _is_picture(path)}
    found = {}
    for path in paths:
        if not _is_picture(path):
            names = (path.stem.lower(), *sorted(FOLDER_COVERS))
            cover = next((pictures[path.parent, name] for name in names if (path.parent, name) in pictures), None)
            if cover is not None:
                found[path] = cover
    return found
