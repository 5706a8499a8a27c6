"""`flask copy-database`."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from commands.context import only_service
from commands.progress import progress
from commands.tables import print_table
from storage.db import copying
from storage.db.connection import open_database
from storage.db.postgres import PooledPostgresDatabase
from storage.db.sqlite import RetryingSqliteDatabase
from storage.settings import Settings, SettingsError

NEXT_STEP = (
    "Now start the service and the worker with the new DATABASE_URL. What is written to the old database from here on "
    "is not part of the copy."
)


@click.command("copy-database")
@click.argument("url", envvar="TARGET_DATABASE_URL")
@with_appcontext
def copy_database(url: str) -> None:
    """Copy the SQLite database of DATABASE_URL to PostgreSQL at URL, and compare both.

    Stop the service first: it gets no lock meanwhile, and what it writes afterwards is lost. URL may be in
    TARGET_DATABASE_URL instead, where no other user of the machine sees its password. The run can be repeated.
    """
    with only_service() as service:
        source, target = service.database, _open_target(url)
        if not isinstance(source, RetryingSqliteDatabase):
            raise click.ClickException("DATABASE_URL must be a SQLite database. From PostgreSQL, use pg_dump.")
        try:
            summaries, was_copied = copying.copy_database(source, target, progress)
            copying.analyze(target)
        except copying.CopyError as e:
            raise click.ClickException(str(e)) from e
        finally:
            target.close_all()
    print_table([("TABLE", "ROWS", "CHECKSUM"), *((s.name, str(s.rows), s.checksum) for s in summaries)])
    click.echo("Nothing to do: the target is a copy already." if was_copied else "Copied; numbers and checksums agree.")
    click.echo(NEXT_STEP, err=True)


def _open_target(url: str) -> PooledPostgresDatabase:
    required = {"S3_ENDPOINT": "http://localhost", "S3_BUCKET": "bucket"}
    try:
        database = open_database(Settings.load({**required, "DATABASE_URL": url}).database_url)
    except SettingsError as e:
        raise click.ClickException(str(e).replace("DATABASE_URL", "URL")) from e
    if not isinstance(database, PooledPostgresDatabase):
        raise click.ClickException("URL must be a PostgreSQL database: postgresql://user:password@host/name.")
    return database
