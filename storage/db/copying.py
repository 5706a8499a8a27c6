"""Copy a SQLite database to PostgreSQL: all rows in one transaction, compared by number and checksum before it ends.

The source is locked meanwhile, so that nothing is written to it that the copy lacks. A run that fails or is interrupted
leaves the target as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson
import psycopg
from peewee import BigAutoField, BooleanField, Model

from storage.db.batches import ProgressCallback
from storage.db.migrate import MIGRATION_TABLE, migrate
from storage.db.models import (
    MODELS,
    ApiKey,
    Deployment,
    IdempotencyKey,
    Job,
    Removal,
    Store,
    Track,
    UploadSession,
    Webhook,
    WebhookDelivery,
)
from storage.db.postgres import PooledPostgresDatabase
from storage.db.sqlite import RetryingSqliteDatabase

USED = (UploadSession, Track, IdempotencyKey, ApiKey, WebhookDelivery, Removal)
"""Tables that are empty in a database which nobody has used."""

VOLATILE = (Job, Store)
"""Tables that a worker changes by itself."""

WORKER_JOB = "poll"
READ_ROWS = 5000

Watch = Callable[[str], ProgressCallback]
"""Returns the function that reports the progress of a step, by the step's name."""


class CopyError(Exception):
    """The database cannot be copied; the message says why, and what to do."""


class TableSummary(NamedTuple):
    """A table with the number of its rows, and a checksum of them that does not depend on their order."""

    name: str
    rows: int
    checksum: str


class Checksum:
    """The number of rows, and the sum of their digests."""

    def __init__(self, model: type[Model]):
        fields = model._meta.sorted_fields
        self.model, self.rows, self.sum = model, 0, 0
        self.booleans = [number for number, field in enumerate(fields) if isinstance(field, BooleanField)]

    def convert(self, values: Sequence[Any]) -> list[Any]:
        """Return a row as both databases have it, and add it."""
        row = list(values)
        for number in self.booleans:
            row[number] = None if row[number] is None else bool(row[number])
        self.rows += 1
        self.sum += int.from_bytes(blake2b(orjson.dumps(row), digest_size=16).digest())
        return row

    def summary(self) -> TableSummary:
        """Return the table's summary."""
        return TableSummary(_table(self.model), self.rows, f"{self.sum % 2**128:032x}")


def copy_database(
    source: RetryingSqliteDatabase, target: PooledPostgresDatabase, watch: Watch
) -> tuple[list[TableSummary], bool]:
    """Copy all rows, and return the summary of each table, and whether they had been copied before.

    Raises CopyError: the source is not up to date, the target is in use, or a row does not fit; and the errors of both
    databases. The target's tables are created.
    """
    migrate(target)
    with source.connection_context(), target.connection_context(), source.atomic(), target.atomic():
        connection = target.connection()
        connection.response_timeout = None
        if _migrations(source) != _migrations(target):
            raise CopyError("The source must be up to date: run 'prepare' with this version first.")
        if _is_used(target):
            return _compare_copy(source, target, watch), True
        summaries = [summary for model in MODELS for summary in [_copy_table(source, target, model, watch)]]
        return summaries, False


def analyze(target: PooledPostgresDatabase) -> None:
    """Collect the statistics that PostgreSQL plans queries by, as it would do by itself some time later."""
    with target.connection_context():
        target.connection().response_timeout = None
        for model in MODELS:
            target.execute_sql(f"ANALYZE {_table(model)}")


def _table(model: type[Model]) -> str:
    return str(model._meta.table_name)


def _columns(model: type[Model]) -> str:
    return ", ".join(field.column_name for field in model._meta.sorted_fields)


def _migrations(database: Any) -> set[str]:
    return {name for (name,) in database.execute_sql(f"SELECT name FROM {MIGRATION_TABLE}").fetchall()}


def _is_used(target: PooledPostgresDatabase) -> bool:
    """Return whether the target has rows that the service has written for somebody, or a worker has run."""
    used = any(model.select().limit(1).bind(target).count() for model in USED)
    webhooks = Webhook.select().where(Webhook.url.is_null(False)).bind(target).count()
    return used or bool(webhooks or Job.select().where(Job.name == WORKER_JOB).bind(target).count())


def _deployment(database: Any) -> str:
    return str(Deployment.select(Deployment.id).bind(database).scalar())


def _compare_copy(source: RetryingSqliteDatabase, target: PooledPostgresDatabase, watch: Watch) -> list[TableSummary]:
    """Return the tables' summaries where the target is a copy of the source already. Raises CopyError."""
    if _deployment(source) != _deployment(target):
        raise CopyError("The target is in use by another deployment: name a new database.")
    summaries = []
    for model in MODELS:
        checksums = (Checksum(model), Checksum(model))
        rows = (_read_source(source, model), _read_target(target, model))
        for checksum, values in zip(checksums, rows, strict=True):
            for row in watch(f"Comparing {_table(model)}")(values, _count(source, model)):
                checksum.convert(row)
        if model not in VOLATILE and checksums[0].summary() != checksums[1].summary():
            raise CopyError(
                f"The target is in use: its {_table(model)} has other rows than the source. Nothing changed."
            )
        summaries.append(checksums[1].summary())
    return summaries


def _count(database: Any, model: type[Model]) -> int:
    return int(model.select().bind(database).count())


def _copy_table(
    source: RetryingSqliteDatabase, target: PooledPostgresDatabase, model: type[Model], watch: Watch
) -> TableSummary:
    """Copy a table and compare the copy with it. Triggers are off meanwhile: their work is part of the copied rows."""
    table, total, copied, read = _table(model), _count(source, model), Checksum(model), Checksum(model)
    rows = watch(f"Copying {table}")(_read_source(source, model), total)
    target.execute_sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    target.execute_sql(f"DELETE FROM {table}")
    with _translated_errors(table):
        _write(target, model, map(copied.convert, rows))
    target.execute_sql(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    _continue_sequence(target, model)
    for row in watch(f"Comparing {table}")(_read_target(target, model), total):
        read.convert(row)
    if copied.summary() != read.summary():
        raise CopyError(f"{table}: the copy differs from the source. Nothing was changed.")
    return read.summary()


@contextmanager
def _translated_errors(table: str) -> Iterator[None]:
    """Raise CopyError for a row that PostgreSQL does not accept, without the row, which holds a credential."""
    try:
        yield
    except psycopg.DatabaseError as e:
        reason = e.diag.message_primary or type(e).__name__
        raise CopyError(f"{table}: PostgreSQL does not accept a row: {reason}. Nothing was changed.") from None


def _read_source(source: RetryingSqliteDatabase, model: type[Model]) -> Iterator[Sequence[Any]]:
    cursor = source.execute_sql(f"SELECT {_columns(model)} FROM {_table(model)}")
    while rows := cursor.fetchmany(READ_ROWS):
        yield from rows


def _read_target(target: PooledPostgresDatabase, model: type[Model]) -> Iterator[Sequence[Any]]:
    # A cursor of the server: the rows of a large table do not fit into memory.
    with target.connection().cursor("loadbay_copy") as cursor:
        cursor.itersize = READ_ROWS
        cursor.execute(f"SELECT {_columns(model)} FROM {_table(model)}")
        yield from cursor


def _write(target: PooledPostgresDatabase, model: type[Model], rows: Iterable[Sequence[Any]]) -> None:
    statement = f"COPY {_table(model)} ({_columns(model)}) FROM STDIN"
    with target.connection().cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _continue_sequence(target: PooledPostgresDatabase, model: type[Model]) -> None:
    """Have new rows follow the copied ones."""
    key = model._meta.primary_key
    if isinstance(key, BigAutoField):
        table = _table(model)
        last = f"SELECT MAX({key.column_name}) FROM {table}"
        target.execute_sql(f"SELECT setval(pg_get_serial_sequence('{table}', '{key.column_name}'), ({last}))")
