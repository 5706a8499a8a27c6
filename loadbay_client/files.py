"""Which files a path means, and which picture is whose cover."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif"}
FOLDER_COVERS = {"cover", "folder", "front"}


@dataclass(frozen=True)
class File:
    """A file to upload. `name` is what the service is told; its own `cover` is a picture's path."""

    path: Path
    name: str = ""
    cover: Path | None = None
    content_type: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def told_name(self) -> str:
        """The name that the service is told."""
        return self.name or readable(self.path.name)


def readable(name: str | Path) -> str:
    """A file's name as text: what is no UTF-8 in it, which neither JSON nor a terminal takes, becomes U+FFFD."""
    return os.fsencode(name).decode(errors="replace")


def stamp(path: Path) -> list[int]:
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
        return stamp(path)
    except OSError:
        return None


class Found(NamedTuple):
    """What paths mean: files to upload; what is none, each with the reason; and what cannot be read."""

    files: list[File]
    left_out: list[tuple[Path, str]]
    unreadable: list[Path]


def find(paths: Iterable[Path]) -> Found:
    """The files that `paths` mean, folders with all that is in them.

    `metadata["path"]` tells each by its place below the folder that holds all of `paths`. Raises FileNotFoundError.
    """
    given = [path.absolute() for path in paths]
    base = Path(os.path.commonpath([path.parent for path in given]))
    found, left_out, unreadable = [], [], list[Path]()
    for path in dict.fromkeys(each for one in given for each in _below(one, unreadable)):
        if reason := _unfit(path):
            left_out.append((path, reason))
        elif os.access(path, os.R_OK):
            found.append(path)
        else:
            unreadable.append(path)
    covers = _covers(found)
    used = set(covers.values())
    files = []
    for path in found:
        if path.suffix.lower() not in PICTURES:
            place = readable(path.relative_to(base).as_posix())
            files.append(File(path, cover=covers.get(path), content_type=media_type(path), metadata={"path": place}))
        elif path not in used:
            left_out.append((path, "a picture that is no track's cover"))
    return Found(files, left_out, unreadable)


def _below(path: Path, unreadable: list[Path]) -> Iterator[Path]:
    if not path.is_dir():
        path.stat()
        yield path
        return
    for folder, folders, names in os.walk(path, onerror=lambda error: unreadable.append(Path(error.filename))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names))


def _unfit(path: Path) -> str | None:
    if path.name.startswith("."):
        return "hidden"
    if not path.is_file():
        return "not a file"
    return "empty" if path.stat().st_size == 0 else None


def _covers(paths: Iterable[Path]) -> dict[Path, Path]:
    """The cover of each file that has one: the picture of its own name, or else the folder's."""
    pictures = {(path.parent, path.stem.lower()): path for path in paths if path.suffix.lower() in PICTURES}
    found = {}
    for path in paths:
        if path.suffix.lower() not in PICTURES:
            names = (path.stem.lower(), *sorted(FOLDER_COVERS))
            cover = next((pictures[path.parent, name] for name in names if (path.parent, name) in pictures), None)
            if cover is not None:
                found[path] = cover
    return found
