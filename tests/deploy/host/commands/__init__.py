"""The host's commands."""

from __future__ import annotations

import click


@click.command()
def worker() -> None:
    """Work for the host."""
    click.echo("The host's worker.")
