"""The rows, and the database that keeps them.

The models are bound to no database: a host may run several services in one process, so each query says
where it runs (`query.execute(database)`). Times are whole seconds since the epoch, sizes are bytes.
"""

from __future__ import annotations

from peewee import (
    Database,
)
from playhouse.db_url import parse as parse_url  # type: ignore[import-untyped]

from storage.db import postgres
from storage.db.postgres import PooledPostgresDatabase
from storage.db.sqlite import CONNECT_SECONDS, LOCK_TIMEOUT, SQLITE_PRAGMAS, RetryingSqliteDatabase


def open_database(url: str) -> Database:
    """The database for a DATABASE_URL. Connects at the first query, one connection for each thread."""
    if url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite:///")
        return RetryingSqliteDatabase(path, pragmas=SQLITE_PRAGMAS, timeout=CONNECT_SECONDS, lock_type="IMMEDIATE")
    # A lock that does not come is told of, as SQLite's is.
    waits = {**postgres.CONNECTION_OPTIONS, "lock_timeout": LOCK_TIMEOUT}
    told = parse_url(url, unquote_password=True, unquote_user=True)
    return PooledPostgresDatabase(**{**waits, **told}, prefer_psycopg3=True, max_connections=0)
