"""The command that uploads files and folders."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from .bars import Bars
from .client import Client, Outcome, Session, Track
from .errors import Refused, Unreachable
from .files import File, find
from .resume import Progress

DAY = 86_400
INTERRUPTED = 130


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
    files, left_out = find(paths)
    for path, reason in left_out:
        click.echo(f"Left out: {path.name}: {reason}.", err=True)
    if not files:
        raise click.ClickException("There is nothing to upload.")
    client = Client(server, key, multipart_from * 2**20)
    kept = Progress.of(client.server, str(collection) if collection else None, paths)
    try:
        tracks, failed = _upload(client, kept, collection, files, parallel, resume)
    except KeyboardInterrupt:
        _interrupted()
    except Refused as e:
        hint = " Set LOADBAY_KEY or give --key." if e.status == 401 else ""
        raise click.ClickException(f"{e}{hint}") from e
    except Unreachable as e:
        raise click.ClickException(f"{e} What has arrived is kept: go on with --resume.") from e
    click.echo(_json(tracks, failed) if as_json else _table(tracks, failed))
    sys.exit(1 if failed else 0)


def _upload(
    client: Client, kept: Progress, collection: uuid.UUID | None, files: list[File], parallel: int, resume: bool
) -> tuple[list[Track], list[Outcome]]:
    """Upload; returns the tracks that arrived and what failed."""
    session, known, arrived = _session(client, kept, collection, files, resume)
    waiting = [file for file in files if file not in arrived]
    bars = Bars(waiting, parallel)
    failed, tracks = [], list(arrived.values())
    try:
        for outcome in session.upload_all(
            waiting, parallel=parallel, advance=bars.advance, registered=kept.note, known=known
        ):
            bars.outcome(outcome)
            if outcome.track is None:
                failed.append(outcome)
            else:
                tracks.append(outcome.track)
    finally:
        bars.close()
    if failed:
        click.echo("Not all arrived. The session stays open: try the rest again with --resume.", err=True)
    else:
        session.close()
        kept.end()
    return tracks, failed


def _session(
    client: Client, kept: Progress, collection: uuid.UUID | None, files: list[File], resume: bool
) -> tuple[Session, dict[File, str], dict[File, Track]]:
    """The session; the tracks that some files are already, and those that have arrived."""
    if resume and kept.session_id:
        session = client.resume(kept.session_id)
        try:
            return session, *_found(session, kept, files)
        except Refused as e:
            if e.status not in (404, 410):
                raise
            click.echo(f"The interrupted upload cannot go on ({e.message}). It begins anew.", err=True)
    elif resume:
        click.echo("There is no interrupted upload of these paths. It begins anew.", err=True)
    elif kept.session_id:
        click.echo("An earlier upload of these paths was not finished; --resume would have gone on with it.", err=True)
    session = client.session(str(collection) if collection else None, expires_in=DAY)
    kept.begin(session.id)
    return session, {}, {}


def _found(session: Session, kept: Progress, files: list[File]) -> tuple[dict[File, str], dict[File, Track]]:
    """What the session already has of `files`. Raises Refused where the session takes no more."""
    overview = session.service.get(f"/v1/upload_session/{session.id}")["upload_session"]
    if overview["status"] != "open":
        raise Refused(410, "session_expired", "The upload session is over.")
    by_place = {file.metadata["path"]: file for file in files}
    known: dict[File, str] = {}
    arrived: dict[File, Track] = {}
    for track in session.tracks():
        file = by_place.get((track["metadata"] or {}).get("path"))
        if file is None or track["status"] in ("cancelled", "expired"):
            continue
        if not kept.unchanged(file):
            click.echo(f"Changed since: {file.told_name}. It is uploaded again.", err=True)
            if track["status"] == "initialized":
                session.cancel(track["id"])
        elif track["status"] == "uploaded":
            arrived[file] = track
        else:
            known[file] = track["id"]
    if arrived:
        click.echo(f"{len(arrived)} of {len(files)} have arrived already.", err=True)
    return known, arrived


def _interrupted() -> NoReturn:
    click.echo("\nInterrupted. What has arrived is kept: go on with the same command and --resume.", err=True)
    sys.stdout.flush()
    # Threads may be waiting for a slow store; what they do is safe to break off.
    os._exit(INTERRUPTED)


def _json(tracks: list[Track], failed: list[Outcome]) -> str:
    errors = [{"file": str(each.file.path), "error": str(each.error)} for each in failed]
    return json.dumps({"tracks": tracks, "failed": errors}, indent=2, ensure_ascii=False)


def _table(tracks: list[Track], failed: list[Outcome]) -> str:
    lines: list[tuple[Any, ...]] = [("status", "bytes", "file", "stored as")]

    def by_place(track: Track) -> str:
        return str((track["metadata"] or {}).get("path", ""))

    lines += [(each["status"], each["size"], by_place(each), each["path"]) for each in sorted(tracks, key=by_place)]
    lines += [("FAILED", "", each.file.metadata.get("path", each.file.told_name), each.error) for each in failed]
    widths = [max(len(str(line[n])) for line in lines) for n in range(3)]
    row = "{0!s:<{w[0]}}  {1!s:>{w[1]}}  {2!s:<{w[2]}}  {3!s}"
    return "\n".join(row.format(*line, w=widths).rstrip() for line in lines)
