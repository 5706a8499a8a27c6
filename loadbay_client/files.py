"""Which files a path means, and which picture is whose cover."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        return self.name or self.path.name


def media_type(path: Path) -> str | None:
    """The media type that a file's name says, if it says one."""
    return mimetypes.guess_type(path.name)[0]


def find(paths: Iterable[Path]) -> tuple[list[File], list[tuple[Path, str]]]:
    """The files that `paths` mean, folders with all that is in them; and what is left out, each with the reason.

    `metadata["path"]` tells each by its place below the folder that holds all of `paths`. Raises FileNotFoundError.
    """
    given = [path.absolute() for path in paths]
    base = Path(os.path.commonpath([path.parent for path in given]))
    found, left_out = [], []
    for path in dict.fromkeys(each for one in given for each in _below(one)):
        if reason := _unfit(path):
            left_out.append((path, reason))
        else:
            found.append(path)
    covers = _covers(found)
    used = set(covers.values())
    files = []
    for path in found:
        if path.suffix.lower() not in PICTURES:
            place = path.relative_to(base).as_posix()
            files.append(File(path, cover=covers.get(path), content_type=media_type(path), metadata={"path": place}))
        elif path not in used:
            left_out.append((path, "a picture that is no track's cover"))
    return files, left_out


def _below(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        path.stat()
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names))


def _unfit(path: Path) -> str | None:
    if path.name.startswith("."):
        return "hidden"
    if not path.is_file():
        return "not a file"
    if not os.access(path, os.R_OK):
        return "not readable"
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
