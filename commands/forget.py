"""`flask forget`."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from commands.context import only_service
from commands.params import UUIDParam
from commands.progress import progress
from storage import erasure
from storage.clock import isoformat_utc
from storage.db.rows import TrackRow
from storage.erasure import ErasureSummary, Selection

LABELS = ("sessions", "tracks", "webhook_deliveries", "idempotency_keys")


@click.command()
@click.option("--collection", type=UUIDParam(), help="Sessions of this collection.")
@click.option("--creator", type=UUIDParam(), help="Sessions of this creator.")
@click.option("--session", type=UUIDParam(), help="The session with this id.")
@click.option("--organization", type=UUIDParam(), help="Only sessions of this organization. Default: of any.")
@click.option("--objects", is_flag=True, help="Also delete the uploaded files and covers from the bucket.")
@click.option("--list", "lists", is_flag=True, help="Print id and path of each track, to search logs and backups for.")
@click.option("--dry-run", is_flag=True, help="Print what would be forgotten, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@with_appcontext
def forget(
    collection: str | None,
    creator: str | None,
    session: str | None,
    organization: str | None,
    objects: bool,
    lists: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Delete sessions with their tracks, events and idempotency keys, for example on a request for erasure.

    Sessions are selected by collection, creator or id; several options narrow the selection. Uploaded files stay in the
    bucket, unless --objects is given. An interrupted run can be repeated.
    """
    if (collection, creator, session) == (None, None, None):
        raise click.UsageError("At least one of --collection, --creator and --session must be given.")
    selection = Selection(collection, creator, session, organization)
    with only_service() as service:
        sessions, tracks = erasure.count(service, selection)
        what = f"{sessions} sessions with {tracks} tracks" + (" and their files" if objects else "")
        if dry_run or not sessions:
            click.echo(f"Would forget {what}." if sessions else "Nothing to forget.")
            return
        if not yes:
            click.confirm(f"Forget {what}? This cannot be undone.", abort=True, err=True)
        on_track = _print_track if lists else erasure.ignore_track
        summary = erasure.erase(service, selection, objects=objects, on_track=on_track, watch=progress("Forgetting"))
    _print_summary(summary)


def _print_track(row: TrackRow) -> None:
    click.echo(f"{row['id']}  {row['path']}")


def _print_summary(summary: ErasureSummary) -> None:
    for name in LABELS:
        click.echo(f"{name.replace('_', ' ')} deleted: {getattr(summary, name)}")
    click.echo(f"objects and uploads removed: {summary.removals}")
    if summary.pending_removals:
        until = isoformat_utc(summary.last_due_at)
        click.echo(f"to be removed by a worker or a sweep, the last from {until} on: {summary.pending_removals}")
