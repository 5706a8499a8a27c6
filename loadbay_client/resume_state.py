"""State of an unfinished upload on disk, and the plan to continue it.

The state contains session ids, which grant access to the sessions, so only its owner can read the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import click

from .api import MAX_VERIFIED_TRACKS, VERIFYING
from .batch import PER_TRACK_STATUSES, RegisteredFile
from .client import Client, Session
from .errors import APIError
from .files import File, stat_signature
from .payloads import Track


def _state_folder() -> Path:
    """Return the folder of all states. https://specifications.freedesktop.org/basedir-spec/latest/"""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "loadbay"


@dataclass
class ResumeState:
    """State of one upload: its session ids in order, and by file path the latest track id with `stat_signature`."""

    path: Path
    sessions: list[str] = field(default_factory=list)
    tracks: dict[str, tuple[str, list[int]]] = field(default_factory=dict)
    write_failed: bool = False
    """Set once a failure to write was reported."""

    @classmethod
    def load(cls, server: str, collection_id: str | None, paths: Iterable[Path]) -> ResumeState:
        """Return the state of an earlier upload of the same paths, or an empty one."""
        identity = json.dumps([server, collection_id, sorted(str(path.absolute()) for path in paths)])
        path = _state_folder() / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.json"
        try:
            state = json.loads(path.read_text())
            tracks = {str(file): (str(track_id), list(stat)) for file, (track_id, stat) in state["tracks"].items()}
            return cls(path, [str(session_id) for session_id in state["sessions"]], tracks)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(path)

    def add_session(self, session_id: str, *, restart: bool) -> None:
        """Add a session; `restart` discards the earlier ones and their tracks."""
        if restart:
            self.sessions, self.tracks = [], {}
        self.sessions.append(session_id)
        self._write()

    def add_tracks(self, files: Iterable[RegisteredFile]) -> None:
        """Add the tracks of registered files."""
        self.tracks |= {str(item.file.path): (item.track_id, item.stat_signature) for item in files}
        self._write()

    def find_track(self, file: File) -> tuple[str | None, bool]:
        """Return the file's latest track id, or None, and whether the file is unchanged since its registration."""
        track_id, signature = self.tracks.get(str(file.path), (None, None))
        try:
            return track_id, signature == stat_signature(file.path)
        except OSError:
            return track_id, False

    def delete(self) -> None:
        """Delete the state of a finished upload."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = self.path.with_suffix(f".{os.getpid()}")
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps({"sessions": self.sessions, "tracks": self.tracks}))
            temporary.replace(self.path)
        except OSError as e:
            if not self.write_failed:
                folder = self.path.parent
                click.echo(f"--resume will not be possible: cannot write to {folder}: {e.strerror}.", err=True)
            self.write_failed = True


class ResumePlan(NamedTuple):
    """Continuation of an upload: the session if it is still open, and the files that need no new track.

    `existing_tracks` has the ids of tracks that still accept the file, `uploaded` the finished tracks, and
    `missing_cover` session and id of tracks uploaded without their cover.
    """

    session: Session | None
    existing_tracks: dict[File, str]
    uploaded: dict[File, Track]
    missing_cover: dict[File, tuple[Session, str]]


class SessionSnapshot(NamedTuple):
    """A session as the service reported it, with its tracks by id."""

    session: Session
    is_open: bool
    tracks: dict[str, Track]


def empty_plan() -> ResumePlan:
    """Return the plan of an upload from the start."""
    return ResumePlan(None, {}, {}, {})


def plan_resume(client: Client, state: ResumeState, files: Iterable[File]) -> ResumePlan:
    """Return the plan to continue the upload of `files`; cancels tracks that are no longer needed.

    Raises APIError, ConnectionFailed.
    """
    if not state.sessions:
        click.echo("No unfinished upload of these paths was found. Starting a new one.", err=True)
        return empty_plan()
    snapshots = [_fetch_session(client, session_id) for session_id in state.sessions]
    current = snapshots[-1]
    plan = ResumePlan(current.session if current.is_open else None, {}, {}, {})
    for file in files:
        _plan_file(plan, state, snapshots, file)
    if plan.uploaded:
        click.echo(f"Already uploaded: {len(plan.uploaded)} files.", err=True)
    if current.is_open:
        _cancel_unneeded(current, plan.existing_tracks)
    else:
        click.echo("The session of the unfinished upload has ended. Using a new one for the remaining files.", err=True)
    return plan


def _plan_file(plan: ResumePlan, state: ResumeState, snapshots: list[SessionSnapshot], file: File) -> None:
    track_id, is_unchanged = state.find_track(file)
    snapshot = next((snapshot for snapshot in snapshots if track_id in snapshot.tracks), None)
    if track_id is None or snapshot is None:
        return
    track = snapshot.tracks[track_id]
    if not is_unchanged:
        click.echo(f"Uploading again, as it changed since the last run: {file.upload_name}", err=True)
    elif track["status"] == "uploaded" and _has_cover(file, track):
        plan.uploaded[file] = track
    elif track["status"] == "uploaded":
        plan.missing_cover[file] = snapshot.session, track_id
    elif plan.session is snapshot.session and _is_resumable(track):
        plan.existing_tracks[file] = track_id


def _has_cover(file: File, track: Track) -> bool:
    return file.cover is None or (track["cover"] is not None and track["cover"]["status"] == "uploaded")


def _is_resumable(track: Track) -> bool:
    """Return whether the track may still become `uploaded`.

    One that is `verifying` needs no upload. A failed one accepts none if it came in parts, which have no SHA-256.
    """
    return track["status"] in ("initialized", VERIFYING) or (
        track["status"] == "failed" and bool(track["checksum_sha256"])
    )


def _cancel_unneeded(current: SessionSnapshot, existing_tracks: Mapping[File, str]) -> None:
    """Cancel tracks that no file belongs to any more, so that the session can be completed."""
    for track_id in current.tracks.keys() - set(existing_tracks.values()):
        if current.tracks[track_id]["status"] == "initialized":
            current.session.cancel(track_id)


def _fetch_session(client: Client, session_id: str) -> SessionSnapshot:
    """Return a session with its tracks; an unknown or deleted one is closed and empty."""
    session = client.resume(session_id)
    try:
        is_open = session.is_open()
        if is_open:
            _verify_sent(session)
        return SessionSnapshot(session, is_open, {track["id"]: track for track in session.tracks()})
    except APIError as e:
        if e.status not in (404, 410):
            raise
        return SessionSnapshot(session, False, {})


def _verify_sent(session: Session) -> None:
    """Have the tracks verified that were sent before the interruption, so that they are not sent again."""
    ids = [track["id"] for track in session.tracks() if track["status"] == "initialized"]
    try:
        for start in range(0, len(ids), MAX_VERIFIED_TRACKS):
            session.api.complete_tracks(session.id, ids[start : start + MAX_VERIFIED_TRACKS])
    except APIError as e:
        if e.status not in PER_TRACK_STATUSES:
            raise
