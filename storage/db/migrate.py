"""The rows, and the database that keeps them.

The models are bound to no database: a host may run several services in one process, so each query says
where it runs (`query.execute(database)`). Times are whole seconds since the epoch, sizes are bytes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from peewee import (
    Database,
    OperationalError,
)
from playhouse.migrations import Runner  # type: ignore[import-untyped]

from storage.db.postgres import PooledPostgresDatabase
from storage.db.sqlite import LOCK_TIMEOUT, RetryingSqliteDatabase

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


MIGRATION_TABLE = "loadbay_schema_migration"


MIGRATION_LOCK_ID = 0x10ADBA1
"""The number by which whoever migrates a PostgreSQL knows of others that do."""


MIGRATION_LOCK_TIMEOUT = 60
"""How long whoever migrates waits for another who does: an index on many rows takes its time."""


def migrate(database: Database) -> list[str]:
    """Bring the tables up to date; returns the names of the migrations that ran. No other thread may use `database`.

    Where several processes do it at once, one after the other finds what there is left to do.
    """
    if isinstance(database, RetryingSqliteDatabase):
        Path(database.database).parent.mkdir(parents=True, exist_ok=True)
        database.lock_timeout = MIGRATION_LOCK_TIMEOUT
    try:
        # SQLite's transactions wait for each other from their beginning; PostgreSQL's are told to.
        with database.connection_context(), database.atomic():
            if isinstance(database, PooledPostgresDatabase):
                database.connection().response_timeout = None
                _acquire_migration_lock(database)
            return list(runner(database).up())
    finally:
        if isinstance(database, RetryingSqliteDatabase):
            database.lock_timeout = LOCK_TIMEOUT


def runner(database: Database) -> Any:
    """Return peewee's runner of the migrations, with a history table of our own."""
    return Runner(database, str(MIGRATIONS), table_name=MIGRATION_TABLE)


def _acquire_migration_lock(database: Database) -> None:
    """Be the only one who migrates a PostgreSQL, until the transaction ends. Raises OperationalError."""
    # Asked for again and again: a wait for the lock itself would end with lock_timeout.
    deadline = time.monotonic() + MIGRATION_LOCK_TIMEOUT
    statement = "SELECT pg_try_advisory_xact_lock(%s)"
    while not database.execute_sql(statement, (MIGRATION_LOCK_ID,)).fetchone()[0]:  # type: ignore[no-untyped-call]
        if time.monotonic() > deadline:
            raise OperationalError("Somebody else migrates this database, and does not come to an end.")
        time.sleep(0.05)
