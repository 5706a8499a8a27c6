"""What an interrupted upload leaves behind, so that it can go on: its sessions, and which file is which track.

A session's id opens the session, so the file is for its owner's eyes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

from .client import RegisteredFile
from .files import File, stat_signature


def _folder() -> Path:
    """https://specifications.freedesktop.org/basedir-spec/latest/"""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "loadbay"


@dataclass
class ResumeState:
    """An upload's record on disk: `sessions` from the first to the present one, and each file's latest track."""

    path: Path
    sessions: list[str] = field(default_factory=list)
    tracks: dict[str, tuple[str, list[int]]] = field(default_factory=dict)
    write_failed: bool = False
    """Whether it has been told that the record cannot be written."""

    @classmethod
    def of(cls, server: str, collection_id: str | None, paths: Iterable[Path]) -> ResumeState:
        """The record of the upload of `paths`, as it was left, or a new one."""
        named = json.dumps([server, collection_id, sorted(str(path.absolute()) for path in paths)])
        path = _folder() / f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.json"
        try:
            kept = json.loads(path.read_text())
            tracks = {str(name): (str(track_id), list(found)) for name, (track_id, found) in kept["tracks"].items()}
            return cls(path, [str(each) for each in kept["sessions"]], tracks)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(path)

    def begin(self, session_id: str, *, anew: bool) -> None:
        """Note a session; `anew` forgets those before it."""
        if anew:
            self.sessions, self.tracks = [], {}
        self.sessions.append(session_id)
        self._write()

    def add_tracks(self, made: Iterable[RegisteredFile]) -> None:
        """Note files that have become tracks."""
        self.tracks |= {str(each.file.path): (each.track_id, each.stat_signature) for each in made}
        self._write()

    def track_of(self, file: File) -> tuple[str | None, bool]:
        """The id of the track that a file has last become, and whether the file is still as it was then."""
        track_id, then = self.tracks.get(str(file.path), (None, None))
        try:
            return track_id, then == stat_signature(file.path)
        except OSError:
            return track_id, False

    def end(self) -> None:
        """There is nothing left to go on with."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside = self.path.with_suffix(f".{os.getpid()}")
            beside.touch(mode=0o600)
            beside.write_text(json.dumps({"sessions": self.sessions, "tracks": self.tracks}))
            beside.replace(self.path)
        except OSError as e:
            if not self.write_failed:
                click.echo(f"No record can be kept for --resume in {self.path.parent}: {e.strerror}.", err=True)
            self.write_failed = True
