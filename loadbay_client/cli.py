"""The command that uploads files and folders."""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

from .client import Client, Outcome, Session, Track, file_error
from .errors import APIError, ClientError, ConnectionFailed, FileError, UploadCancelled, VerificationFailed
from .files import File, discover, readable
from .progress import ProgressDisplay
from .resume_state import ResumeState
from .retry import OnRetry

DAY = 86_400
INTERRUPTED = 130
RETRY_MESSAGE_INTERVAL = 30
"""Seconds before the same fault is told again."""


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--collection", type=click.UUID, help="The collection that the files belong to.")
@click.option("--server", envvar="LOADBAY_SERVER", default="http://127.0.0.1:5000", show_default=True)
@click.option(
    "--key", envvar="LOADBAY_KEY", help="An API key; better given as LOADBAY_KEY, which no process list shows."
)
@click.option("--parallel", type=click.IntRange(1, 32), default=4, show_default=True, help="Files at a time.")
@click.option(
    "--multipart-from", type=click.IntRange(1), default=64, show_default=True, help="MiB; larger go in parts."
)
@click.option("--resume", is_flag=True, help="Go on with an upload of the same paths that was interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def upload(
    paths: Sequence[Path],
    collection: uuid.UUID | None,
    server: str,
    key: str | None,
    parallel: int,
    multipart_from: int,
    resume: bool,
    as_json: bool,
) -> None:
    """Upload files, and folders with all that is in them, into a session of their own.

    A picture of a file's name, or cover.jpg beside it, becomes its cover. Exit status: 0 if all arrived, 1 if not.
    """
    try:
        files, left_out, at_fault = discover(paths)
    except KeyboardInterrupt:
        _interrupted()
    for path in left_out:
        click.echo(f"Left out: {readable(path.name)}: a picture that is no track's cover.", err=True)
    failed = [Outcome(file, None, FileError(reason)) for file, reason in at_fault]
    if not files and not failed:
        raise click.ClickException("There is nothing to upload.")
    try:
        client = Client(server, key, multipart_from * 2**20, on_retry=_retry_reporter())
    except ValueError as e:
        raise click.UsageError(str(e)) from e
    kept = ResumeState.of(client.server, str(collection) if collection else None, paths)
    try:
        tracks = _upload(client, kept, collection, files, parallel, resume, failed) if files else []
    except (KeyboardInterrupt, UploadCancelled):
        _interrupted()
    except APIError as e:
        hint = " Set LOADBAY_KEY or give --key." if e.status == 401 else ""
        raise click.ClickException(f"{e}{hint}") from e
    except ConnectionFailed as e:
        raise click.ClickException(f"{e} What has arrived is kept: go on with --resume.") from e
    _print(_json(tracks, failed) if as_json else _table(tracks, failed))
    sys.exit(1 if failed else 0)


def _retry_reporter() -> OnRetry:
    """Tells of a fault the first time, and then once in a while: several files meet the same one."""
    told: dict[str, float] = {}

    def tell(error: ClientError, pause: float) -> None:
        now, text = time.monotonic(), str(error)
        if now - told.get(text, -RETRY_MESSAGE_INTERVAL) >= RETRY_MESSAGE_INTERVAL:
            told[text] = now
            click.echo(f"{text} Trying again in {max(1, round(pause))} s.", err=True)

    return tell


def _upload(
    client: Client,
    kept: ResumeState,
    collection: uuid.UUID | None,
    files: list[File],
    parallel: int,
    resume: bool,
    failed: list[Outcome],
) -> list[Track]:
    """Upload; returns the tracks that arrived, and adds what failed to `failed`."""
    session, known, arrived, bare = _earlier(client, kept, files) if resume else (None, {}, {}, {})
    if kept.sessions and not resume:
        click.echo("An earlier upload of these paths was not finished; --resume would have gone on with it.", err=True)
    waiting, tracks = [file for file in files if file not in arrived.keys() | bare.keys()], list(arrived.values())
    if waiting and session is None:
        session = client.session(str(collection) if collection else None, expires_in=DAY)
        kept.begin(session.id, anew=not resume)
    for outcome in (_cover(file, *where) for file, where in bare.items()):
        _keep(outcome, tracks, failed)
    if session is not None:
        bars = ProgressDisplay(waiting, parallel)
        try:
            for outcome in session.upload_all(
                waiting, parallel=parallel, advance=bars.advance, registered=kept.add_tracks, known=known
            ):
                bars.outcome(outcome)
                _keep(outcome, tracks, failed)
        finally:
            bars.close()
    if failed:
        click.echo("Not all arrived. The session stays open: try the rest again with --resume.", err=True)
    else:
        if session is not None:
            session.close()
        kept.end()
    return tracks


def _keep(outcome: Outcome, tracks: list[Track], failed: list[Outcome]) -> None:
    if outcome.track is None:
        failed.append(outcome)
    else:
        tracks.append(outcome.track)


def _cover(file: File, session: Session, track_id: str) -> Outcome:
    """Try once more to bring its cover to a track that has arrived without it."""
    try:
        return Outcome(file, session.send_cover(file, track_id), None)
    except APIError as e:
        bare = VerificationFailed("without its cover", "only a full API key may send it now")
        return Outcome(file, None, bare if e.status in (401, 403) else e)
    except OSError as e:
        return Outcome(file, None, file_error(e))
    except ClientError as e:
        return Outcome(file, None, e)


class ResumePlan(NamedTuple):
    """What an interrupted upload left: the session, if it is still open; the tracks in it that some files are already;
    those that have arrived, in whichever session; and those that have without their covers."""

    session: Session | None
    known: dict[File, str]
    arrived: dict[File, Track]
    missing_cover: dict[File, tuple[Session, str]]


def _earlier(client: Client, kept: ResumeState, files: list[File]) -> ResumePlan:
    if not kept.sessions:
        click.echo("There is no interrupted upload of these paths. It begins anew.", err=True)
        return ResumePlan(None, {}, {}, {})
    looked = [_fetch_session(client, session_id) for session_id in kept.sessions]
    session, is_open, service = looked[-1]
    tracks = {track_id: (where, track) for where, _, found in looked for track_id, track in found.items()}
    left = ResumePlan(session if is_open else None, {}, {}, {})
    for file in files:
        track_id, unchanged = kept.track_of(file)
        if track_id is None or track_id not in tracks:
            continue
        where, track = tracks[track_id]
        if not unchanged:
            click.echo(f"Changed since: {file.upload_name}. It is uploaded again.", err=True)
        elif track["status"] == "uploaded" and _has_cover(file, track):
            left.arrived[file] = track
        elif track["status"] == "uploaded":
            left.missing_cover[file] = where, track_id
        elif is_open and track_id in service and _is_resumable(track):
            left.known[file] = track_id
    if left.arrived:
        click.echo(f"{len(left.arrived)} of {len(files)} have arrived already.", err=True)
    if not is_open:
        click.echo("The session of the interrupted upload is over. What is left goes into a new one.", err=True)
        return left
    for track_id in service.keys() - set(left.known.values()):
        # Nobody will send it any more: its file was changed, or is not wanted now.
        if service[track_id]["status"] == "initialized":
            session.cancel(track_id)
    return left


def _has_cover(file: File, track: Track) -> bool:
    return file.cover is None or (track["cover"] or {}).get("status") == "uploaded"


def _is_resumable(track: Track) -> bool:
    """Whether the track takes bytes. One that failed begins anew unless it came in parts, which have no checksum."""
    return track["status"] == "initialized" or (track["status"] == "failed" and bool(track["checksum_sha256"]))


def _fetch_session(client: Client, session_id: str) -> tuple[Session, bool, dict[str, Track]]:
    """A session, whether it still takes tracks, and those that it has; none where nobody knows it any more."""
    session = client.resume(session_id)
    try:
        return session, session.is_open(), {track["id"]: track for track in session.tracks()}
    except APIError as e:
        if e.status not in (404, 410):
            raise
        return session, False, {}


def _interrupted() -> NoReturn:
    click.echo("\nInterrupted. What has arrived is kept: go on with the same command and --resume.", err=True)
    sys.stdout.flush()
    # Threads may be waiting for a slow store; what they do is safe to break off.
    os._exit(INTERRUPTED)


def _print(text: str) -> None:
    """Print what came of it, also where the output's encoding lacks a file's letters."""
    encoding = sys.stdout.encoding or "ascii"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))


def _json(tracks: list[Track], failed: list[Outcome]) -> str:
    errors = [{"file": readable(each.file.path), "error": str(each.error)} for each in failed]
    in_letters = (sys.stdout.encoding or "").lower() in ("utf-8", "utf8")
    return json.dumps({"tracks": tracks, "failed": errors}, indent=2, ensure_ascii=not in_letters)


def _table(tracks: list[Track], failed: list[Outcome]) -> str:
    lines: list[tuple[Any, ...]] = [("status", "bytes", "file", "stored as")]

    def by_place(track: Track) -> str:
        return str((track["metadata"] or {}).get("path", ""))

    lines += [(each["status"], each["size"], by_place(each), each["path"]) for each in sorted(tracks, key=by_place)]
    lines += [("FAILED", "", each.file.metadata.get("path", each.file.upload_name), each.error) for each in failed]
    widths = [max(len(str(line[n])) for line in lines) for n in range(3)]
    row = "{0!s:<{w[0]}}  {1!s:>{w[1]}}  {2!s:<{w[2]}}  {3!s}"
    return "\n".join(row.format(*line, w=widths).rstrip() for line in lines)
