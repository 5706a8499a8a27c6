"""`loadbay link`, `loadbay ls` and `loadbay get`: for whoever asks for files, and fetches what arrives."""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from ..client import Client, Session
from ..payloads import SessionOptions, Track
from .console import cli_errors, key_option, make_client, print_text, server_option
from .downloads import Downloader, Result, lock_folder
from .progress import DownloadDisplay

SECONDS = {"m": 60, "h": 3600, "d": 86_400}
MAX_SECONDS = 30 * SECONDS["d"]
REPEAT_HINT = "What was fetched is kept; run the same command again to continue."
_uuid = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_reference = re.compile(rf"(?:(https?://.+)/u/)?({_uuid})(?:[/?#].*)?")


class Duration(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A duration such as `7d`, converted to seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the duration in seconds, or fail the command."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,7})([mhd])", value)
        seconds = int(match[1]) * SECONDS[match[2]] if match else 0
        if not 60 <= seconds <= MAX_SECONDS:
            self.fail("must be a duration from 1m to 30d, such as 12h.", param, ctx)
        return seconds


class Reference(NamedTuple):
    """A session as the user names it: its id, and the service of its link, if it is a link."""

    session_id: str
    server: str | None


class SessionParam(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A session: its id, or the link to its page."""

    name = "session"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Reference:
        """Return the session, or fail the command."""
        if isinstance(value, Reference):
            return value
        match = _reference.fullmatch(value)
        if match is None:
            self.fail("must be a session's id, or the link to its page.", param, ctx)
        return Reference(match[2].lower(), match[1])


@click.command()
@click.option("--collection", type=click.UUID, help="Collection that the files belong to. Default: a new one.")
@click.option("--title", help="Heading of the page.")
@click.option("--sender", help="Name of whoever asks for the files.")
@click.option(
    "--expires", type=Duration(), default="7d", show_default=True, help="Time for which the link works: 12h, 30d.",
)  # fmt: skip
@click.option("--max-tracks", type=click.IntRange(1), help="Number of files that may be uploaded.")
@server_option
@key_option
def link(
    collection: uuid.UUID | None,
    title: str | None,
    sender: str | None,
    expires: int,
    max_tracks: int | None,
    server: str | None,
    key: str | None,
) -> None:
    """Make a link to an upload page, and print it.

    Whoever has the link can upload files until it expires.
    """
    page = {name: text for name, text in (("title", title), ("sender", sender)) if text}
    options: SessionOptions = {"expires_in": expires, "max_tracks": max_tracks, "page": page or None}
    with cli_errors("Run the command again."):
        client = make_client(server, key)
        session = client.session(str(collection or uuid.uuid4()), **options)
    click.echo(f"{client.server.rstrip('/')}/u/{session.id}")


@click.command("ls")
@click.argument("session", type=SessionParam())
@server_option
@click.option("--json", "as_json", is_flag=True, help="Print the tracks as JSON.")
def list_files(session: Reference, server: str | None, as_json: bool) -> None:
    """List the files of SESSION, which is a session's id or the link to its page."""
    with cli_errors("Run the command again."):
        tracks = list(_open(session, make_client(session.server or server, None)).tracks())
    print_text(json.dumps(tracks, indent=2) if as_json else _to_table(tracks))


def _open(reference: Reference, client: Client) -> Session:
    return client.resume(reference.session_id)


def _to_table(tracks: Sequence[Track]) -> str:
    rows = [("status", "bytes", "file", "title")]
    for track in tracks:
        size = track["size"] if track["size"] is not None else track["file_size"]
        rows.append((track["status"], str(size or ""), track["file_name"], _title(track)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{status:<{widths[0]}}  {size:>{widths[1]}}  {name:<{widths[2]}}  {title}".rstrip()
        for status, size, name, title in rows
    )


def _title(track: Track) -> str:
    title = (track["metadata"] or {}).get("title", "")
    return " ".join(str(title).split()) if isinstance(title, (str, int)) else ""


@click.command()
@click.argument("session", type=SessionParam())
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@server_option
@key_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors only, and with --json the result.")
def get(session: Reference, folder: Path, server: str | None, key: str | None, as_json: bool, quiet: bool) -> None:
    """Fetch the uploaded files of SESSION, and their covers, into the folder DIR.

    SESSION is a session's id or the link to its page; a full API key is required. Run again, the command fetches what
    is new or was not finished. A file of another content is never overwritten. The exit status is 0 if all files are
    there, 1 if not, 2 for invalid options, and 130 after Ctrl-C.
    """
    with cli_errors(REPEAT_HINT):
        client = make_client(session.server or server, key)
        tracks = [track for track in _open(session, client).tracks() if track["status"] == "uploaded"]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = lock_folder(folder)
        except BlockingIOError as e:
            raise click.ClickException("Another 'loadbay get' is writing to this folder.") from e
        except OSError as e:
            raise click.ClickException(f"{folder}: {e.strerror}.") from e
        display = DownloadDisplay(tracks, quiet=quiet)
        try:
            downloader = Downloader(_open(session, client).api, folder, display.advance)
            results = [display.show(result) for track in tracks for result in downloader.fetch(track)]
        finally:
            display.close()
            lock.close()
    if as_json:
        print_text(json.dumps([_to_json(result) for result in results], indent=2))
    elif not quiet:
        _print_summary(results)
    sys.exit(1 if any(result.error for result in results) else 0)


def _to_json(result: Result) -> dict[str, Any]:
    return {
        "track_id": result.track_id,
        "file": result.name,
        "status": "failed" if result.error else "present" if result.present else "fetched",
        "checked": result.checked,
        "error": result.error and str(result.error),
    }


def _print_summary(results: Sequence[Result]) -> None:
    failed = sum(result.error is not None for result in results)
    present = sum(result.present for result in results)
    counts = {"fetched": len(results) - failed - present, "already there": present, "failed": failed}
    print_text(", ".join(f"{name}: {count}" for name, count in counts.items() if count) or "No file has arrived yet.")
