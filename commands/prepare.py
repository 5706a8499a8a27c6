"""`flask prepare`."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from commands.context import services
from storage.webhooks import environment


@click.command()
@with_appcontext
def prepare() -> None:
    """Create the tables and the bucket, or bring them up to date. Run it with every release."""
    with services() as all_services:
        for service in all_services:
            for line in service.create_missing() + environment.sync_endpoints(service) or ["Nothing to do."]:
                click.echo(line)
