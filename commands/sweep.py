"""`flask sweep`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click
from flask.cli import with_appcontext

from commands.context import services
from storage.uploads import sweeper


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@with_appcontext
def sweep(dry_run: bool) -> None:
    """End what is over: expired tracks, stale multipart uploads, orphaned objects, old idempotency keys."""
    with services() as found:
        for service in found:
            summary = sweeper.sweep(service, dry_run=dry_run, watch=_progress)
            for line in summary.lines() or ["Nothing to do."]:
                click.echo(line)


def _progress(rows: Iterable[Any], total: int) -> Iterator[Any]:
    """Go through `rows` under a progress bar, which shows where a person watches."""
    with click.progressbar(rows, length=total, label="Checking tracks", file=sys.stderr) as watched:
        yield from watched
