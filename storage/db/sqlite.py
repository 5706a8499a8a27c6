"""SQLite for several processes: our own waiting for locks, and our own checkpoints of the write-ahead log.

Measured by `python -m bench --ablate` on 2026-11-26 (2 cores, two workers that write): the time between two responses
is 31% shorter with our own checkpoints when tracks are registered (10-43%), and 48% when sessions are opened (47-57%);
with our own waiting for locks it is 10% (9-19%) and 11% (6-17%) shorter. Leans on no private names.

Checkpoints run in a thread: where requests ran them, p99 of 420 sessions a second in each of two processes was 150 and
7 ms, and the slowest took 203; with the thread p99 is 4 to 5 ms, and the slowest takes 23 to 32 (2026-11-27).
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock, Thread
from typing import Any
from weakref import WeakSet

from peewee import OperationalError, SqliteDatabase

from storage.clock import seconds_left

LOCK_TIMEOUT = 1.5
"""Seconds to wait for a lock that another connection holds."""

CONNECT_TIMEOUT = 0.2
"""Seconds that SQLite itself waits for a lock while a connection is set up."""

CHECKPOINT_INTERVAL = 2000
"""Statements between two checkpoints of the write-ahead log."""

RESTARTS = 20
"""Attempts to copy the rest of the write-ahead log while no other connection writes, a millisecond apart."""

SQLITE_PRAGMAS = {
    # A row has about 500 bytes and a write touches one page of each index: smaller pages mean fewer bytes to write.
    "page_size": 2048,
    "journal_mode": "wal",
    "synchronous": "normal",
    "foreign_keys": 1,
    "cache_size": -4000,
    # A last resort: RetryingSqliteDatabase runs a checkpoint long before.
    "wal_autocheckpoint": 50_000,
    "journal_size_limit": 64 * 2**20,
    # Last, so that the pragmas above still wait for CONNECT_TIMEOUT; from then on RetryingSqliteDatabase waits.
    "busy_timeout": 0,
}


class Connection(sqlite3.Connection):
    """A connection that closes itself: a thread of the server that ends leaves the one that it used."""

    def __del__(self) -> None:
        # One that could not be opened cannot be closed either.
        with suppress(sqlite3.ProgrammingError):
            self.close()


class RetryingSqliteDatabase(SqliteDatabase):
    """SQLite that retries a locked statement itself, for at most `lock_timeout` seconds.

    SQLite's own busy handler starts by sleeping a millisecond or more, for a lock that is held for some thirty
    microseconds; with two workers that costs a quarter of the throughput.
    """

    statements = 0
    lock_timeout: float = LOCK_TIMEOUT

    def __init__(self, *args: Any, **options: Any) -> None:
        # Each thread uses its own connection only. But another one may close it, in `close_all` or as garbage.
        super().__init__(*args, **options, factory=Connection, check_same_thread=False)
        self._open_connections: WeakSet[Connection] = WeakSet()
        self._checkpointing = Lock()

    def _connect(self) -> Connection:
        self._create_private_file()
        connection: Connection = super()._connect()  # type: ignore[misc]
        self._open_connections.add(connection)
        return connection

    def _create_private_file(self) -> None:
        """Create a missing database file for its owner only: it holds session ids and secrets.

        SQLite gives the files beside it the same permissions: https://www.sqlite.org/walformat.html
        """
        if self.database and not self.database.startswith((":memory:", "file:")):
            with suppress(OSError):
                os.close(os.open(self.database, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    def close_all(self) -> None:
        """Close the connections of all threads, which must not use them any more."""
        self.close()
        with self._checkpointing:
            for connection in list(self._open_connections):
                connection.close()

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Open this thread's connection; return False if it is open already. Raises as `execute_sql` does."""
        # Of several connections that set up a new file at once, SQLite fails all but one without waiting.
        return bool(self._retry_while_locked(super().connect, reuse_if_open))

    def execute_sql(self, sql: str, params: Sequence[Any] | None = None) -> Any:
        """Execute a statement and return its cursor. Raises peewee's OperationalError after `lock_timeout`."""
        if self.is_closed():
            # Outside the retry below, so that the wait for the connection is not repeated.
            self.connect()
        self.statements += 1
        if self.statements >= CHECKPOINT_INTERVAL:
            self._begin_checkpoint()
        return self._retry_while_locked(super().execute_sql, sql, params)

    def begin(self, lock_type: str | None = None) -> None:
        """Begin a transaction. Raises as `execute_sql` does."""
        if self.is_closed():
            self.connect()
        self._retry_while_locked(super().begin, lock_type)

    def execute_script(self, script: str) -> None:
        """Execute the statements of a SQL script within the current transaction. Raises as `execute_sql` does.

        sqlite3's own `executescript` would commit the transaction first.
        """
        statement = ""
        for line in script.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                self.execute_sql(statement)
                statement = ""

    def _begin_checkpoint(self) -> None:
        """Have a thread run a checkpoint, unless one does: no request has to wait for what may take 0.2 seconds."""
        self.statements = 0
        if self._checkpointing.acquire(blocking=False):
            try:
                Thread(target=self._run_checkpoint, name="checkpoint", daemon=True).start()
            except RuntimeError:
                # The system allows no more threads: the next checkpoint copies more.
                self._checkpointing.release()

    def _run_checkpoint(self) -> None:
        try:
            self.checkpoint()
            self.close()
        finally:
            self._checkpointing.release()

    def checkpoint(self) -> None:
        """Copy the write-ahead log back into the database file: most of it beside other writers, the rest alone.

        SQLite's automatic checkpoint leaves a rest whenever another process writes meanwhile, and tries again at every
        following commit, with two waits for the disk each: that takes half of a busy worker's time.
        """
        # A lock in the way is no error: the next checkpoint copies more.
        with suppress(OperationalError):
            self._copy_log("PASSIVE")
            for _ in range(RESTARTS):
                if not self._copy_log("RESTART"):
                    break
                time.sleep(0.001)

    def _copy_log(self, mode: str) -> bool:
        """Run SQLite's checkpoint; return whether a lock was in its way. https://www.sqlite.org/pragma.html"""
        cursor = super().execute_sql(f"PRAGMA wal_checkpoint({mode})")  # type: ignore[no-untyped-call]
        return bool(cursor.fetchone()[0])

    def _retry_while_locked(self, call: Callable[..., Any], *args: Any) -> Any:
        deadline = 0.0
        while True:
            try:
                return call(*args)
            except OperationalError as e:
                if "locked" not in str(e):
                    raise
                deadline = deadline or time.monotonic() + seconds_left(self.lock_timeout)
                if time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.00005, 0.0003))  # noqa: S311
