"""`flask sweep`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click
from flask.cli import with_appcontext

from commands.context import services
from storage.uploads import sweeper

Item = TypeVar("Item")


@click.command()
@click.option("--dry-run", is_flag=True, help="Report what a sweep would do, and change nothing.")
@with_appcontext
def sweep(dry_run: bool) -> None:
    """Expire overdue tracks, abort stale multipart uploads, remove orphaned objects, purge idempotency keys."""
    with services() as all_services:
        for service in all_services:
            summary = sweeper.sweep(service, dry_run=dry_run, watch=_progress)
            for line in summary.lines() or ["Nothing to do."]:
                click.echo(line)


def _progress(rows: Iterable[Item], total: int) -> Iterator[Item]:
    """Yield the rows under a progress bar, which click shows on a terminal only."""
    with click.progressbar(rows, length=total, label="Checking tracks", file=sys.stderr) as bar:
        yield from bar
