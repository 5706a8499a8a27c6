"""The database for a DATABASE_URL: SQLite or PostgreSQL, with the settings that this service needs of either."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.db.sqlite import CONNECT_TIMEOUT, LOCK_TIMEOUT, SQLITE_PRAGMAS, RetryingSqliteDatabase

if TYPE_CHECKING:
    from storage.db.postgres import PooledPostgresDatabase


def open_database(url: str) -> RetryingSqliteDatabase | PooledPostgresDatabase:
    """Return the database for a DATABASE_URL. It connects at the first query, with one connection for each thread."""
    if url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite:///")
        return RetryingSqliteDatabase(path, pragmas=SQLITE_PRAGMAS, timeout=CONNECT_TIMEOUT, lock_type="IMMEDIATE")
    return _open_postgres(url)


def _open_postgres(url: str) -> PooledPostgresDatabase:
    # Imported here, as a process with SQLite needs neither.
    from playhouse.db_url import parse  # type: ignore[import-untyped]

    from storage.db import postgres

    defaults = {**postgres.CONNECTION_OPTIONS, "lock_timeout": LOCK_TIMEOUT}
    options = parse(url, unquote_password=True, unquote_user=True)
    return postgres.PooledPostgresDatabase(**{**defaults, **options}, prefer_psycopg3=True, max_connections=0)
