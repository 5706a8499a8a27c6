"""Connections to PostgreSQL that end when the server no longer answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from peewee import Psycopg3Adapter
from playhouse.pool import PooledPostgresqlDatabase  # type: ignore[import-untyped]

from storage.db.errors import DATABASE_ERRORS

PING_TIMEOUT = 1.0
"""How long a server may take to say that it is there."""

STATEMENT_TIMEOUT = 20.0
"""How long a statement may take, well below gunicorn's `timeout`: longer than any that a request or a worker has."""

# libpq rounds one second up to two. The others find out about a machine that is gone, whatever waits for it.
CONNECTION_OPTIONS = {
    "connect_timeout": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


class Connection(psycopg.Connection[Any]):
    """A connection that is closed where an answer takes longer than `response_timeout` seconds; None is for ever.

    A server that hangs goes on taking packets, so that neither TCP nor a timeout of the server's own would tell.
    """

    response_timeout: float | None = PING_TIMEOUT
    timed_out = False

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """As psycopg's, which all of its calls go through. Raises OperationalError."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.response_timeout)
        except psycopg.errors._WaitTimeout as e:
            # What it may answer yet would be taken for the answer to another question.
            self.timed_out = True
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server did not answer within {self.response_timeout} s") from e


class Adapter(Psycopg3Adapter):
    """How peewee connects, and looks at connections."""

    def connect(self, db: Any, **params: Any) -> Connection:
        """A new connection; `lock_timeout` is in seconds. Raises psycopg's OperationalError."""
        milliseconds = int(params.pop("lock_timeout") * 1000)
        connection = Connection.connect(dbname=db.database, autocommit=True, **params)
        # By a statement: PgBouncer refuses `options`, and a URL may have some of its own.
        if "lock_timeout" not in params.get("options", ""):
            connection.execute(f"SET lock_timeout = {milliseconds}".encode())
        connection.response_timeout = STATEMENT_TIMEOUT
        return connection

    def is_connection_closed(self, conn: Connection) -> bool:
        """Whether the server has ended a connection that was kept. Raises OperationalError where it says nothing."""
        conn.response_timeout = PING_TIMEOUT
        closed = bool(super().is_connection_closed(conn))
        conn.response_timeout = STATEMENT_TIMEOUT
        if conn.timed_out:
            # Another connection would be waited for as well.
            raise psycopg.OperationalError("the server does not answer")
        return closed


class PooledPostgresDatabase(PooledPostgresqlDatabase):  # type: ignore[misc]
    """PostgreSQL whose connections outlive a request, for the next one; one that broke is never used again."""

    psycopg3_adapter = Adapter

    def execute_sql(self, sql: str, params: Sequence[Any] | None = None) -> Any:
        """A cursor on the statement's result. Raises peewee's OperationalError where the server is away."""
        try:
            return super().execute_sql(sql, params)
        except DATABASE_ERRORS:
            # Asked in this order: where there is no connection, asking for one would wait for the server again.
            if self.is_closed() or self.connection().closed:
                self._discard_connections()
            raise

    def execute_script(self, script: str) -> None:
        """Execute the statements of a SQL script within the current transaction. Raises psycopg's errors."""
        self.connection().execute(script)

    def _discard_connections(self) -> None:
        """Drop this thread's connection, and all that wait: a server that has restarted has closed each of them."""
        self.manual_close()
        self.close_idle()
