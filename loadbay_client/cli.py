"""The command `loadbay`: uploads files and folders, without anything of the service.

The commands of a session's owner are in command_line/owner.py.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class

from . import __version__
from .batch import Outcome
from .client import Client, Session
from .command_line.console import cli_errors, key_option, make_client, print_text, server_option
from .command_line.owner import get, link, list_files
from .errors import APIError, ClientError, ConnectionFailed, FileError, VerificationFailed, file_error
from .files import DiscoveredFiles, File, Patterns, discover, readable
from .payloads import Track
from .progress import ProgressDisplay
from .resume_state import ResumePlan, ResumeState, empty_plan, plan_resume

DAY = 86_400
UPLOADER_KEY = "loadbay_uploader_"
"""The beginning of an uploader's key, which belongs to one collection."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="loadbay")
def loadbay() -> None:
    """Upload files to a Loadbay service, and fetch what has arrived."""


for command in (link, list_files, get):
    loadbay.add_command(command)


@loadbay.command()
@click.argument("shell", type=click.Choice(["bash", "fish", "zsh"]))
def completion(shell: str) -> None:
    """Print the script that completes commands and options in SHELL, to be read at its start.

    For example: loadbay completion bash > ~/.local/share/bash-completion/completions/loadbay
    """
    complete = get_completion_class(shell)
    if complete is not None:
        # Not by `source()`, which runs the shell to see its version.
        click.echo(complete.source_template % complete(loadbay, {}, "loadbay", "_LOADBAY_COMPLETE").source_vars())


@loadbay.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--collection", type=click.UUID, help="Collection that the files belong to.")
@server_option
@key_option
@click.option("--include", multiple=True, metavar="PATTERN", help="Upload only matching files, such as '*.mp3'.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out matching files and pictures.")
@click.option("--dry-run", is_flag=True, help="List what would be uploaded, and send nothing.")
@click.option(
    "--parallel", type=click.IntRange(1, 32), default=4, show_default=True,
    help="Number of files to upload at the same time.",
)  # fmt: skip
@click.option(
    "--multipart-threshold", type=click.IntRange(1), default=8, show_default=True,
    help="Size in MiB from which files use multipart upload.",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Continue an unfinished upload of the same paths.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors only, and with --json the result.")
def upload(
    paths: Sequence[Path],
    collection: uuid.UUID | None,
    server: str | None,
    key: str | None,
    include: Sequence[str],
    exclude: Sequence[str],
    dry_run: bool,
    parallel: int,
    multipart_threshold: int,
    resume: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Upload files and folders in a new upload session.

    A picture with the name of a file, or else cover.jpg in its folder, becomes the file's cover. The exit status is 0
    if all files were uploaded, 1 if not, 2 for invalid options, and 130 if the upload was interrupted.
    """
    with cli_errors():
        if not dry_run:
            client = make_client(server, key, multipart_threshold)
            _require_collection(collection, key)
        discovered = discover(paths, Patterns(include, exclude))
        if not quiet:
            for picture in discovered.unused_pictures:
                click.echo(f"Skipped, as it is no file's cover: {readable(picture.name)}", err=True)
            for path in discovered.skipped:
                click.echo(f"Skipped, as it is neither audio nor a picture: {readable(path.name)}", err=True)
        if not discovered.files and not discovered.unreadable:
            raise click.ClickException("No files to upload.")
        if dry_run:
            _print_plan(discovered, as_json)
            sys.exit(1 if discovered.unreadable else 0)
        _check_reachable(client)
        collection_id = str(collection) if collection else None
        state = ResumeState.load(client.server, collection_id, paths)
        outcomes = _upload(client, state, collection_id, discovered, parallel, resume, quiet)
    tracks, failed = _tracks(outcomes), _failed(outcomes)
    if as_json or not quiet:
        print_text(_to_json(tracks, failed) if as_json else _to_table(tracks, failed))
    sys.exit(1 if failed else 0)


def _check_reachable(client: Client) -> None:
    """Raise ClickException if the service does not respond: nothing is uploaded yet, and nothing to be resumed."""
    try:
        client.check_reachable()
    except ConnectionFailed as e:
        raise click.ClickException(str(e)) from e


def _require_collection(collection: uuid.UUID | None, key: str | None) -> None:
    """Raise UsageError without a collection, which only the key of an uploader implies."""
    if collection is None and not (key or "").startswith(UPLOADER_KEY):
        raise click.UsageError("Missing option '--collection'. Only an uploader's key has a collection of its own.")


def _upload(
    client: Client,
    state: ResumeState,
    collection_id: str | None,
    discovered: DiscoveredFiles,
    parallel: int,
    resume: bool,
    quiet: bool,
) -> list[Outcome]:
    """Upload the discovered files and return all outcomes; closes the session if nothing failed."""
    outcomes = [Outcome(file, None, FileError(reason)) for file, reason in discovered.unreadable]
    if not discovered.files:
        return outcomes
    if state.sessions and not resume and not quiet:
        click.echo("Starting a new upload; --resume would have continued the unfinished one.", err=True)
    plan = plan_resume(client, state, discovered.files) if resume else empty_plan()
    outcomes += [Outcome(file, track, None) for file, track in plan.uploaded.items()]
    session, remaining = plan.session, _remaining(discovered.files, plan)
    if remaining and session is None:
        session = client.session(collection_id, expires_in=DAY)
        state.add_session(session.id, restart=not resume)
    outcomes += [_send_cover(file, *target) for file, target in plan.missing_cover.items()]
    if session is not None:
        rejected = _rejected(session, remaining)
        outcomes += rejected
        accepted = [file for file in remaining if file not in {outcome.file for outcome in rejected}]
        outcomes += _upload_remaining(session, state, accepted, plan, parallel, quiet)
    if _failed(outcomes):
        click.echo("Some files failed. The session stays open; run again with --resume to retry them.", err=True)
        return outcomes
    if session is not None:
        session.close()
    state.delete()
    return outcomes


def _remaining(files: Sequence[File], plan: ResumePlan) -> list[File]:
    return [file for file in files if file not in plan.uploaded and file not in plan.missing_cover]


def _rejected(session: Session, files: Sequence[File]) -> list[Outcome]:
    """Return the outcomes of the files that break a rule of the session, and report them before others are sent."""
    rejected = []
    for file in files:
        try:
            error = session.check(file)
        except OSError as e:
            error = file_error(e)
        if error is not None:
            click.echo(f"Not accepted: {_name(file)}: {error}", err=True)
            rejected.append(Outcome(file, None, error))
    return rejected


def _upload_remaining(
    session: Session,
    state: ResumeState,
    files: Sequence[File],
    plan: ResumePlan,
    parallel: int,
    quiet: bool,
) -> list[Outcome]:
    display, outcomes = ProgressDisplay(files, parallel, quiet=quiet), []
    try:
        for outcome in session.upload_all(
            files, parallel=parallel, on_progress=display.advance, on_registered=state.add_tracks,
            existing_tracks=plan.existing_tracks,
        ):  # fmt: skip
            display.show_outcome(outcome)
            outcomes.append(outcome)
    finally:
        display.close()
    return outcomes


def _send_cover(file: File, session: Session, track_id: str) -> Outcome:
    """Send the cover of a track that was uploaded without it."""
    try:
        return Outcome(file, session.send_cover(file, track_id), None)
    except APIError as e:
        if e.status in (401, 403):
            return Outcome(file, None, VerificationFailed("uploaded", "Adding it now requires a full API key."))
        return Outcome(file, None, e)
    except OSError as e:
        return Outcome(file, None, file_error(e, "cover"))
    except ClientError as e:
        return Outcome(file, None, e)


def _print_plan(discovered: DiscoveredFiles, as_json: bool) -> None:
    """Print the files that would be uploaded, with their covers, and those that cannot be."""
    files = [_planned(file) for file in discovered.files]
    failed = [{"file": readable(file.path), "error": reason} for file, reason in discovered.unreadable]
    if as_json:
        print_text(json.dumps({"files": files, "failed": failed}, indent=2))
        return
    rows = [("bytes", "file", "cover or error")]
    rows += [(str(item["size"]), item["file"], item["cover"] or "") for item in files]
    rows += [("", item["file"], item["error"]) for item in failed]
    size_width, file_width = (max(len(row[column]) for row in rows) for column in range(2))
    print_text(
        "\n".join(f"{size:>{size_width}}  {name:<{file_width}}  {detail}".rstrip() for size, name, detail in rows)
    )
    print_text(f"{len(files)} files with {sum(item['size'] for item in files)} bytes would be uploaded.")


def _planned(file: File) -> dict[str, Any]:
    cover = file.cover and readable(file.cover.name)
    return {"file": file.metadata["path"], "size": file.path.stat().st_size, "cover": cover}


def _tracks(outcomes: Sequence[Outcome]) -> list[Track]:
    return [outcome.track for outcome in outcomes if outcome.track is not None]


def _failed(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.track is None]


def _to_json(tracks: Sequence[Track], failed: Sequence[Outcome]) -> str:
    errors = [
        {"file": readable(outcome.file.path), "error": str(outcome.error), "code": _code(outcome.error)}
        for outcome in failed
    ]
    is_unicode = (sys.stdout.encoding or "").lower() in ("utf-8", "utf8")
    return json.dumps({"tracks": tracks, "failed": errors}, indent=2, ensure_ascii=not is_unicode)


def _to_table(tracks: Sequence[Track], failed: Sequence[Outcome]) -> str:
    rows = [("status", "bytes", "file", "path or error")]
    rows += [
        (track["status"], str(track["size"]), _local_path(track), track["path"])
        for track in sorted(tracks, key=_local_path)
    ]
    rows += [("failed", "", _name(outcome.file), str(outcome.error)) for outcome in failed]
    status_width, size_width, file_width = (max(len(row[column]) for row in rows) for column in range(3))
    return "\n".join(
        f"{status:<{status_width}}  {size:>{size_width}}  {file:<{file_width}}  {detail}"
        for status, size, file, detail in rows
    )


def _name(file: File) -> str:
    return str(file.metadata.get("path", file.upload_name))


def _code(error: Exception | None) -> str:
    """Return the code of a failed verification, such as `rule_codec`, or else of the error."""
    return str(getattr(error, "failure_code", None) or getattr(error, "code", ClientError.code))


def _local_path(track: Track) -> str:
    return str((track["metadata"] or {}).get("path", ""))
