"""`flask prepare`."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from commands.context import services
from storage.webhooks import environment


@click.command()
@with_appcontext
def prepare() -> None:
    """Create what is missing: tables and bucket."""
    with services() as found:
        for service in found:
            for line in service.create_missing() + environment.sync_env_webhook(service) or ["Nothing was missing."]:
                click.echo(line)
