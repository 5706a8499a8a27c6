"""`flask prepare`."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from commands.context import raise_on_sigterm, refuse_unfit, services, warn_of_new_database
from storage.measuring import stores
from storage.webhooks import environment


@click.command()
@with_appcontext
def prepare() -> None:
    """Create the tables and the bucket, or bring them up to date, and measure the store. Run it with every release."""
    raise_on_sigterm()
    with services() as all_services:
        for service in all_services:
            lines = service.create_missing() + environment.sync_endpoints(service)
            for line in lines + stores.learn(service) or ["Nothing to do."]:
                click.echo(line)
            warn_of_new_database(service)
            refuse_unfit(service)
