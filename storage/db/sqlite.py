"""The rows, and the database that keeps them.

The models are bound to no database: a host may run several services in one process, so each query says
where it runs (`query.execute(database)`). Times are whole seconds since the epoch, sizes are bytes.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from peewee import (
    OperationalError,
    SqliteDatabase,
)

LOCK_TIMEOUT = 1.5


CONNECT_SECONDS = 0.2


CHECKPOINT_EVERY = 2000
"""Statements between two attempts to write SQLite's log back into its file."""


SQLITE_PRAGMAS = {
    # A row is some 500 bytes and a write touches one page of each index: smaller pages, fewer bytes to write.
    "page_size": 2048,
    "journal_mode": "wal",
    "synchronous": "normal",
    "foreign_keys": 1,
    "cache_size": -4000,
    # Only a last resort: WaitingSqlite writes the log back long before.
    "wal_autocheckpoint": 50_000,
    "journal_size_limit": 64 * 2**20,
    # Last, so that the pragmas before it wait for a moment: from here on only WaitingSqlite does.
    "busy_timeout": 0,
}


class RetryingSqliteDatabase(SqliteDatabase):
    """SQLite that waits for another process's write by itself, for at most `lock_timeout` seconds.

    SQLite's own waiting sleeps a whole millisecond or more at first, for a lock that is held for some thirty
    microseconds; with two workers that costs a quarter of the machine.
    """

    statements = 0
    lock_timeout: float = LOCK_TIMEOUT

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Open this thread's connection; False where it is open. Raises as `execute_sql` does."""
        # Of several that begin on a new file at once, SQLite tells all but one that it is locked, and does not wait.
        return bool(self._retry_while_locked(super().connect, reuse_if_open))

    def execute_sql(self, sql: str, params: Sequence[Any] | None = None) -> Any:
        """A cursor on the statement's result. Raises peewee's OperationalError where the lock does not come."""
        if self.is_closed():
            # Here, lest waiting for the connection be waited for once more.
            self.connect()
        self.statements += 1
        if self.statements >= CHECKPOINT_EVERY and not self.in_transaction():
            self.checkpoint()
        return self._retry_while_locked(super().execute_sql, sql, params)

    def begin(self, lock_type: str | None = None) -> None:
        """Begin a transaction. Raises as `execute_sql` does."""
        if self.is_closed():
            self.connect()
        self._retry_while_locked(super().begin, lock_type)

    def execute_script(self, script: str) -> None:
        """Execute the statements of a SQL script within the current transaction. Raises as `execute_sql` does.

        sqlite3's own `executescript` would commit first.
        """
        statement = ""
        for line in script.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                self.execute_sql(statement)
                statement = ""

    def checkpoint(self) -> None:
        """Write the log back into the file: most of it beside other writers, the rest while they wait.

        SQLite's own way leaves a rest whenever another process writes meanwhile, and so tries again at commit after
        commit, with two waits for the disk each: it takes half of a busy worker's time.
        """
        self.statements = 0
        # Somebody is in the way: the next time will do.
        with suppress(OperationalError):
            for mode in ("PASSIVE", "RESTART"):
                super().execute_sql(f"PRAGMA wal_checkpoint({mode})")  # type: ignore[no-untyped-call]

    def _retry_while_locked(self, call: Callable[..., Any], *args: Any) -> Any:
        deadline = 0.0
        while True:
            try:
                return call(*args)
            except OperationalError as e:
                if "locked" not in str(e):
                    raise
                deadline = deadline or time.monotonic() + self.lock_timeout
                if time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.00005, 0.0003))  # noqa: S311
