"""PostgreSQL through psycopg: pooled connections that fail soon when the server no longer responds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import psycopg
from peewee import Psycopg3Adapter
from playhouse.pool import PooledPostgresqlDatabase  # type: ignore[import-untyped]

from storage.clock import seconds_left
from storage.db.errors import DATABASE_ERRORS

PING_TIMEOUT = 1.0
"""Seconds that the server may take to answer on a new or a pooled connection."""

TRUSTED_SECONDS = 0.25
"""Seconds after an answer for which a pooled connection is used again at once: asking the server takes as long as a
read. If it hangs, the first statement is given up after UNASKED_TIMEOUT."""

UNASKED_TIMEOUT = 2.0

STATEMENT_TIMEOUT = 20.0
"""Seconds that a statement may take: longer than any of ours needs, well below gunicorn's `timeout`."""

# libpq rounds a connect_timeout of one second up to two. The others detect a machine that is gone, whatever waits.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
CONNECTION_OPTIONS = {
    "connect_timeout": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


class Connection(psycopg.Connection[Any]):
    """A connection that is closed if a response takes longer than `response_timeout` seconds; None waits forever.

    A server that hangs still acknowledges packets, so neither TCP nor a timeout on the server would notice.
    """

    response_timeout: float | None = PING_TIMEOUT
    timed_out = False
    answered_at = -TRUSTED_SECONDS
    """The time of the last answer (time.monotonic())."""
    unasked = False
    """True until the first answer on a connection that was taken from the pool without asking the server."""

    def __del__(self, *_: Any) -> None:
        """Close a connection whose pool is gone, or whose thread has ended, without a warning."""
        if hasattr(self, "pgconn"):
            self.pgconn.finish()

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait as psycopg does, which routes every call through here. Raises OperationalError after the timeout."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        most = UNASKED_TIMEOUT if self.unasked else self.response_timeout
        if most is not None:
            # At least time for a rollback.
            timeout = max(PING_TIMEOUT, seconds_left(most))
        try:
            result = super().wait(gen, interval, timeout)
        except psycopg.errors._WaitTimeout as e:
            # A late response would be taken for that of the next statement.
            self.timed_out = True
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server did not answer within {timeout:g} s") from e
        self.answered_at, self.unasked = time.monotonic(), False
        return result


class Adapter(Psycopg3Adapter):
    """peewee's adapter of psycopg: opens connections and checks pooled ones."""

    def connect(self, db: Any, **params: Any) -> Connection:
        """Open a connection; `lock_timeout` is in seconds. Raises psycopg's OperationalError."""
        milliseconds = int(params.pop("lock_timeout") * 1000)
        connection = Connection.connect(dbname=db.database, autocommit=True, **params)
        # By a statement: PgBouncer rejects `options`, and the URL may have its own.
        if "lock_timeout" not in params.get("options", ""):
            connection.execute(f"SET lock_timeout = {milliseconds}".encode())
        connection.response_timeout = STATEMENT_TIMEOUT
        return connection

    def is_connection_closed(self, conn: Connection) -> bool:
        """Return whether the server has ended a pooled connection. Raises OperationalError if it does not respond.

        One that has answered just now is not asked again: if it has ended since, the next statement fails.
        """
        is_idle = self.txn_status(conn) == self.txn_idle
        conn.unasked = is_idle and time.monotonic() - conn.answered_at < TRUSTED_SECONDS
        if conn.unasked:
            # A migration waits without a limit.
            conn.response_timeout = STATEMENT_TIMEOUT
            return False
        conn.response_timeout = PING_TIMEOUT
        closed = bool(super().is_connection_closed(conn))
        conn.response_timeout = STATEMENT_TIMEOUT
        if conn.timed_out:
            # Rather than wait for the next connection as well.
            raise psycopg.OperationalError("the server does not answer")
        return closed


class PooledPostgresDatabase(PooledPostgresqlDatabase):  # type: ignore[misc]
    """PostgreSQL with connections that are kept for the next request; a broken one is never used again."""

    psycopg3_adapter = Adapter

    def execute_sql(self, sql: str, params: Sequence[Any] | None = None) -> Any:
        """Execute a statement and return its cursor. Raises peewee's OperationalError if the server is unreachable."""
        try:
            return super().execute_sql(sql, params)
        except DATABASE_ERRORS:
            # is_closed() first: without a connection, connection() would wait for the server again.
            if self.is_closed() or self.connection().closed:
                self._discard_connections()
            raise

    def execute_script(self, script: str) -> None:
        """Execute the statements of a SQL script within the current transaction. Raises psycopg's errors."""
        self.connection().execute(script)

    def _discard_connections(self) -> None:
        """Close this thread's connection and all idle ones: a server that restarted has ended each of them."""
        self.manual_close()
        self.close_idle()
