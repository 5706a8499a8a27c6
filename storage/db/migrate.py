"""Bring a database up to date with migrations/, one process at a time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from peewee import Database, OperationalError
from playhouse.migrations import Runner  # type: ignore[import-untyped]

from storage.db.postgres import PooledPostgresDatabase
from storage.db.sqlite import LOCK_TIMEOUT, RetryingSqliteDatabase

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"

MIGRATION_TABLE = "loadbay_schema_migration"
"""The table with the names of the migrations that were applied."""

MIGRATION_LOCK_ID = 0x10ADBA1
"""The advisory lock that a process holds while it migrates a PostgreSQL database."""

MIGRATION_LOCK_TIMEOUT = 60
"""Seconds to wait for another process that migrates: building an index on many rows takes time."""


def migrate(database: Database) -> list[str]:
    """Apply the pending migrations and return their names. No other thread may use `database` meanwhile.

    Of several processes that migrate at once, one goes first and the others apply what is still pending then. Raises
    OperationalError where that takes longer than MIGRATION_LOCK_TIMEOUT.
    """
    if isinstance(database, RetryingSqliteDatabase):
        Path(database.database).parent.mkdir(parents=True, exist_ok=True)
        database.lock_timeout = MIGRATION_LOCK_TIMEOUT
    try:
        # On SQLite the transaction itself is the lock: it is IMMEDIATE.
        with database.connection_context(), database.atomic():
            if isinstance(database, PooledPostgresDatabase):
                database.connection().response_timeout = None
                _acquire_migration_lock(database)
            return list(runner(database).up())
    finally:
        if isinstance(database, RetryingSqliteDatabase):
            database.lock_timeout = LOCK_TIMEOUT


def runner(database: Database) -> Any:
    """Return peewee's migration runner, with a history table of our own."""
    return Runner(database, str(MIGRATIONS), table_name=MIGRATION_TABLE)


def _acquire_migration_lock(database: PooledPostgresDatabase) -> None:
    """Take the lock for the rest of the transaction. Raises OperationalError after MIGRATION_LOCK_TIMEOUT."""
    # By polling: a statement that waits for the lock would run into lock_timeout.
    deadline = time.monotonic() + MIGRATION_LOCK_TIMEOUT
    statement = "SELECT pg_try_advisory_xact_lock(%s)"
    while not database.execute_sql(statement, (MIGRATION_LOCK_ID,)).fetchone()[0]:
        if time.monotonic() > deadline:
            raise OperationalError(f"Another process has been migrating this database for {MIGRATION_LOCK_TIMEOUT} s.")
        time.sleep(0.05)
