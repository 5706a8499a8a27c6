"""`flask sweep`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

import click
from flask.cli import with_appcontext

from commands.context import only_service, refuse_known_unfit, services
from commands.progress import progress
from storage.service import Service
from storage.uploads import audit, sweeper
from storage.uploads.audit import UnknownObject

PROGRESS_INTERVAL = 10_000
"""Listed objects between two lines of progress."""


@click.command()
@click.option("--dry-run", is_flag=True, help="Report what a sweep would do, and change nothing.")
@click.option("--audit", "audits", is_flag=True, help="Instead list the objects that the database does not know.")
@click.option("--json", "as_json", is_flag=True, help="With --audit: print a JSON object for each.")
@click.option(
    "--delete", "listed", type=click.File(), metavar="FILE",
    help="With --audit: delete the objects of FILE, a list by --json, that are unchanged and still unknown.",
)  # fmt: skip
@with_appcontext
def sweep(dry_run: bool, audits: bool, as_json: bool, listed: IO[str] | None) -> None:
    """Expire overdue tracks, carry out the removals that are due, and delete rows that need not be kept."""
    if not audits and (as_json or listed is not None):
        raise click.UsageError("--json and --delete require --audit.")
    if audits and (dry_run or (as_json and listed is not None)):
        raise click.UsageError("--audit does not combine with --dry-run, nor --delete with --json.")
    if listed is not None:
        _delete(listed)
    elif audits:
        _audit(as_json)
    else:
        _sweep(dry_run)


def _sweep(dry_run: bool) -> None:
    with services() as all_services:
        for service in all_services:
            refuse_known_unfit(service)
            summary = sweeper.sweep(service, dry_run=dry_run, watch=progress("Sweeping"))
            for line in summary.lines() or ["Nothing to do."]:
                click.echo(line)


# --- Audit ------------------------------------------------------------------------------------------------------------


def _audit(as_json: bool) -> None:
    with only_service() as service:
        if not as_json:
            click.echo(f"{'BYTES':>15}  {'LAST MODIFIED':<32}  KEY")
        listed, unknown, size = 0, 0, 0
        for count, objects in audit.list_unknown(service):
            for item in objects:
                click.echo(item.json() if as_json else _table_row(item))
            unknown, size = unknown + len(objects), size + sum(item.size for item in objects)
            if (listed + count) // PROGRESS_INTERVAL > listed // PROGRESS_INTERVAL:
                click.echo(f"Listed {listed + count} objects so far.", err=True)
            listed += count
        click.echo(f"{unknown} of {listed} objects are unknown to the database, with {size} bytes.", err=True)


def _table_row(item: UnknownObject) -> str:
    # A key may hold what a terminal would take for a command.
    key = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in item.key)
    return f"{item.size:>15}  {item.last_modified or '':<32}  {key}"


def _delete(lines: Iterable[str]) -> None:
    with only_service() as service:
        deleted = skipped = 0
        for item, reason in audit.delete(service, _parse(service, lines)):
            deleted, skipped = deleted + (reason is None), skipped + (reason is not None)
            if reason is not None:
                click.echo(f"Kept ({reason}): {_table_row(item).strip()}", err=True)
        click.echo(f"Deleted {deleted} objects, kept {skipped}.")


def _parse(service: Service, lines: Iterable[str]) -> list[UnknownObject]:
    try:
        return audit.parse_list(service, lines)
    except UnicodeDecodeError as e:
        raise click.ClickException("FILE must be a list by 'flask sweep --audit --json'.") from e
