"""Connections to PostgreSQL that end when the server no longer answers."""

from __future__ import annotations

from typing import Any

import psycopg
from peewee import Psycopg3Adapter

PING_SECONDS = 1.0
"""How long a server may take to say that it is there."""

ANSWER_SECONDS = 20.0
"""How long a statement may take, well below gunicorn's `timeout`: longer than any that a request or a worker has."""

# libpq rounds one second up to two. The others find out about a machine that is gone, whatever waits for it.
WAITS = {
    "connect_timeout": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


class Connection(psycopg.Connection[Any]):
    """A connection that is closed where an answer takes longer than `patience` seconds; None is for ever.

    A server that hangs goes on taking packets, so that neither TCP nor a timeout of the server's own would tell.
    """

    patience: float | None = PING_SECONDS
    gave_up = False

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """As psycopg's, which all of its calls go through. Raises OperationalError."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.patience)
        except psycopg.errors._WaitTimeout as e:
            # What it may answer yet would be taken for the answer to another question.
            self.gave_up = True
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server did not answer within {self.patience} s") from e


class Adapter(Psycopg3Adapter):
    """How peewee connects, and looks at connections."""

    def connect(self, db: Any, **params: Any) -> Connection:
        """A new connection; `lock_timeout` is in seconds. Raises psycopg's OperationalError."""
        milliseconds = int(params.pop("lock_timeout") * 1000)
        connection = Connection.connect(dbname=db.database, autocommit=True, **params)
        # By a statement: PgBouncer refuses `options`, and a URL may have some of its own.
        if "lock_timeout" not in params.get("options", ""):
            connection.execute(f"SET lock_timeout = {milliseconds}".encode())
        connection.patience = ANSWER_SECONDS
        return connection

    def is_connection_closed(self, conn: Connection) -> bool:
        """Whether the server has ended a connection that was kept. Raises OperationalError where it says nothing."""
        conn.patience = PING_SECONDS
        closed = bool(super().is_connection_closed(conn))
        conn.patience = ANSWER_SECONDS
        if conn.gave_up:
            # Another connection would be waited for as well.
            raise psycopg.OperationalError("the server does not answer")
        return closed
