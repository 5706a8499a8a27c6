"""What an interrupted upload leaves behind, so that it can go on: the session, and which files it has seen.

The session's id opens the session, so the file is for its owner's eyes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .files import File


def _folder() -> Path:
    """https://specifications.freedesktop.org/basedir-spec/latest/"""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "loadbay"


def _stamp(file: File) -> list[int]:
    """What tells that a file was changed: its size in bytes and the time of its last change in nanoseconds."""
    found = file.path.stat()
    return [found.st_size, found.st_mtime_ns]


@dataclass
class Progress:
    """An upload's record on disk."""

    path: Path
    session_id: str | None = None
    stamps: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, server: str, collection_id: str | None, paths: Iterable[Path]) -> Progress:
        """The record of the upload of `paths`, as it was left, or a new one."""
        named = json.dumps([server, collection_id, sorted(str(path.absolute()) for path in paths)])
        path = _folder() / f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.json"
        try:
            kept = json.loads(path.read_text())
            return cls(path, str(kept["session_id"]), dict(kept["stamps"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path)

    def begin(self, session_id: str) -> None:
        """Forget what was, and note a new session."""
        self.session_id, self.stamps = session_id, {}
        self._write()

    def note(self, files: Iterable[File]) -> None:
        """Note files that have become tracks."""
        self.stamps |= {str(file.path): _stamp(file) for file in files}
        self._write()

    def unchanged(self, file: File) -> bool:
        """Whether a file is as it was when it became a track."""
        return self.stamps.get(str(file.path)) == _stamp(file)

    def end(self) -> None:
        """There is nothing left to go on with."""
        self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = self.path.with_suffix(f".{os.getpid()}")
        beside.touch(mode=0o600)
        beside.write_text(json.dumps({"session_id": self.session_id, "stamps": self.stamps}))
        beside.replace(self.path)
