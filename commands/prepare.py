"""`flask prepare`."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from storage import webhooks

from .services import services


@click.command()
@with_appcontext
def prepare() -> None:
    """Create what is missing: tables and bucket."""
    with services() as found:
        for here in found:
            for line in here.prepare() + webhooks.follow_environment(here) or ["Nothing was missing."]:
                click.echo(line)
