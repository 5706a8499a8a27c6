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
from pathlib import Path
from typing import Any

from peewee import (
    SQL,
    BigAutoField,
    BigIntegerField,
    BooleanField,
    CharField,
    Database,
    DatabaseError,
    ForeignKeyField,
    IntegerField,
    InterfaceError,
    Model,
    OperationalError,
    SqliteDatabase,
    TextField,
)
from playhouse.db_url import parse as parse_url  # type: ignore[import-untyped]
from playhouse.migrations import Runner  # type: ignore[import-untyped]
from playhouse.pool import PooledPostgresqlDatabase  # type: ignore[import-untyped]

from . import postgres

DATABASE_ERRORS = (DatabaseError, InterfaceError, sqlite3.Error)
"""What is raised when the database is away, locked for too long, full, damaged or not prepared.

peewee gives errors names of its own, but not those that come while rows are fetched: a full disk is found out then.
"""

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
BUSY_SECONDS = 1.5
CONNECT_SECONDS = 0.2
MIGRATING = 0x10ADBA1
"""The number by which whoever migrates a PostgreSQL knows of others that do."""
MIGRATING_SECONDS = 60
"""How long whoever migrates waits for another who does: an index on many rows takes its time."""

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


class WaitingSqlite(SqliteDatabase):
    """SQLite that waits for another process's write by itself, for at most `patience` seconds.

    SQLite's own waiting sleeps a whole millisecond or more at first, for a lock that is held for some thirty
    microseconds; with two workers that costs a quarter of the machine.
    """

    statements = 0
    patience: float = BUSY_SECONDS

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Open this thread's connection; False where it is open. Raises as `execute_sql` does."""
        # Of several that begin on a new file at once, SQLite tells all but one that it is locked, and does not wait.
        return bool(self._wait(super().connect, reuse_if_open))

    def execute_sql(self, sql: str, params: Sequence[Any] | None = None) -> Any:
        """A cursor on the statement's result. Raises peewee's OperationalError where the lock does not come."""
        if self.is_closed():
            # Here, lest waiting for the connection be waited for once more.
            self.connect()
        self.statements += 1
        if self.statements >= CHECKPOINT_EVERY and not self.in_transaction():
            self.checkpoint()
        return self._wait(super().execute_sql, sql, params)

    def begin(self, lock_type: str | None = None) -> None:
        """Begin a transaction. Raises as `execute_sql` does."""
        if self.is_closed():
            self.connect()
        self._wait(super().begin, lock_type)

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

    def _wait(self, call: Callable[..., Any], *args: Any) -> Any:
        deadline = 0.0
        while True:
            try:
                return call(*args)
            except OperationalError as e:
                if "locked" not in str(e):
                    raise
                deadline = deadline or time.monotonic() + self.patience
                if time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.00005, 0.0003))  # noqa: S311


class UploadSession(Model):
    """What a client may upload: to which collection, until when, how much; and what came of it.

    The counts from `track_count` on are kept by triggers; see migrations/0001.
    """

    seq = BigAutoField()
    id = CharField(36, unique=True)
    # '' is the organisation of API_KEYS and of anonymous callers.
    organization_id = CharField(36)
    collection_id = CharField(36)
    creator_id = CharField(36, null=True)
    organization_index = CharField(null=True)
    metadata = TextField(null=True)
    status = CharField(16)
    created_at = BigIntegerField()
    expires_at = BigIntegerField()
    max_tracks = IntegerField()
    max_bytes = BigIntegerField(null=True)
    track_count = IntegerField()
    promised_bytes = BigIntegerField()
    initialized = IntegerField()
    uploaded = IntegerField()
    failed = IntegerField()
    expired = IntegerField()
    cancelled = IntegerField()
    uploaded_bytes = BigIntegerField()
    swept_at = BigIntegerField(null=True)

    class Meta:
        table_name = "upload_session"
        indexes = ((("collection_id", "organization_id", "seq"), False),)


UploadSession.add_index(
    UploadSession.organization_id,
    UploadSession.seq,
    where=UploadSession.organization_id != SQL("''"),
    name="upload_session_organization",
)


class Track(Model):
    """One promised file, its cover, and what is known of both."""

    seq = BigAutoField()
    id = CharField(36, unique=True)
    session = ForeignKeyField(UploadSession, column_name="session_seq", index=False)
    status = CharField(16)
    created_at = BigIntegerField()
    path = CharField(1024)
    cover_path = CharField(1024)
    file_name = CharField()
    organization_index = CharField(null=True)
    metadata = TextField(null=True)
    # What was declared when the track was registered.
    file_size = BigIntegerField(null=True)
    content_type = CharField(null=True)
    checksum_sha256 = CharField(44, null=True)
    # How its bytes may come.
    write_once = BooleanField()
    upload_id = CharField(1024, null=True)
    part_size = BigIntegerField(null=True)
    # What the store said when it was checked.
    failure = CharField(null=True)
    size = BigIntegerField(null=True)
    etag = CharField(null=True)
    version_id = CharField(null=True)
    detected_type = CharField(null=True)
    checked_at = BigIntegerField(null=True)
    cover_status = CharField(16, null=True)
    cover_failure = CharField(null=True)
    cover_size = BigIntegerField(null=True)
    cover_etag = CharField(null=True)
    cover_type = CharField(null=True)
    cover_width = IntegerField(null=True)
    cover_height = IntegerField(null=True)
    # Where another cover may come that is to take this one's place, and until when.
    cover_next = CharField(1024, null=True)
    cover_until = BigIntegerField(null=True)

    class Meta:
        table_name = "track"
        indexes = ((("session", "seq"), False),)


Track.add_index(Track.cover_until, where=Track.cover_until.is_null(False), name="track_cover_until")


class IdempotencyKey(Model):
    """A request that may be repeated: digests of its key and of what it asked, and the ids it was given."""

    digest = CharField(64, primary_key=True)
    fingerprint = CharField(64)
    session_id = CharField(36)
    track_ids = TextField()
    created_at = BigIntegerField(index=True)

    class Meta:
        table_name = "idempotency_key"


class ApiKey(Model):
    """An API key: what it opens, and how it is known again. The key itself is kept nowhere."""

    seq = BigAutoField()
    id = CharField(36, unique=True)
    lookup = CharField(16, unique=True)
    digest = CharField(64)
    name = CharField()
    role = CharField(16)
    organization_id = CharField(36)
    collection_id = CharField(36, null=True)
    created_at = BigIntegerField()
    expires_at = BigIntegerField(null=True)
    revoked_at = BigIntegerField(null=True)

    class Meta:
        table_name = "api_key"


class Webhook(Model):
    """Where an organisation is told of events. One without `url` is that of WEBHOOK_URL and WEBHOOK_SECRET."""

    seq = BigAutoField()
    id = CharField(36, unique=True)
    organization_id = CharField(36, index=True)
    url = CharField(2048, null=True)
    secret = CharField(null=True)
    enabled = BooleanField()
    created_at = BigIntegerField()
    # How it took the last deliveries: failures in a row, since when, and until when it is left alone.
    failures = IntegerField()
    failing_since = BigIntegerField(null=True)
    paused_until = BigIntegerField()

    class Meta:
        table_name = "webhook"


Webhook.add_index(Webhook.organization_id, unique=True, where=Webhook.url.is_null(), name="webhook_environment")


class WebhookDelivery(Model):
    """An event that a webhook is still to be told of: the outbox. Triggers write it; see migrations/0003."""

    seq = BigAutoField()
    id = CharField(36, unique=True)
    webhook = ForeignKeyField(Webhook, column_name="webhook_seq", index=False, on_delete="CASCADE")
    session_seq = BigIntegerField()
    track_seq = BigIntegerField(null=True)
    type = CharField(64)
    data = TextField()
    metadata = TextField(null=True)
    created_at = BigIntegerField()
    # When it may be tried (again); None where it is parked. Whoever tries it sets this ahead: that is its lease.
    due_at = BigIntegerField(null=True)
    lease = CharField(36, null=True)
    attempts = IntegerField()
    error = CharField(null=True)

    class Meta:
        table_name = "webhook_delivery"
        indexes = ((("webhook", "due_at", "seq"), False), (("session_seq", "track_seq"), False))


class Job(Model):
    """Something that one worker does now and then, and when it is due next."""

    name = CharField(16, primary_key=True)
    due_at = BigIntegerField()

    class Meta:
        table_name = "job"


MODELS = (UploadSession, Track, IdempotencyKey, ApiKey, Webhook, WebhookDelivery, Job)


class PooledPostgres(PooledPostgresqlDatabase):  # type: ignore[misc]
    """PostgreSQL whose connections outlive a request, for the next one; one that broke is never used again."""

    psycopg3_adapter = postgres.Adapter

    def execute_sql(self, sql: str, params: Sequence[Any] | None = None) -> Any:
        """A cursor on the statement's result. Raises peewee's OperationalError where the server is away."""
        try:
            return super().execute_sql(sql, params)
        except DATABASE_ERRORS:
            # Asked in this order: where there is no connection, asking for one would wait for the server again.
            if self.is_closed() or self.connection().closed:
                self._forget()
            raise

    def _forget(self) -> None:
        """Drop this thread's connection, and all that wait: a server that has restarted has closed each of them."""
        self.manual_close()
        self.close_idle()


def open_database(url: str) -> Database:
    """The database for a DATABASE_URL. Connects at the first query, one connection for each thread."""
    if url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite:///")
        return WaitingSqlite(path, pragmas=SQLITE_PRAGMAS, timeout=CONNECT_SECONDS, lock_type="IMMEDIATE")
    # A lock that does not come is told of, as SQLite's is.
    waits = {**postgres.WAITS, "lock_timeout": BUSY_SECONDS}
    told = parse_url(url, unquote_password=True, unquote_user=True)
    return PooledPostgres(**{**waits, **told}, prefer_psycopg3=True, max_connections=0)


def migrate(database: Database) -> list[str]:
    """Bring the tables up to date; returns the names of the migrations that ran. No other thread may use `database`.

    Where several processes do it at once, one after the other finds what there is left to do.
    """
    if isinstance(database, WaitingSqlite):
        Path(database.database).parent.mkdir(parents=True, exist_ok=True)
        database.patience = MIGRATING_SECONDS
    try:
        # SQLite's transactions wait for each other from their beginning; PostgreSQL's are told to.
        with database.connection_context(), database.atomic():
            if isinstance(database, PooledPostgres):
                database.connection().patience = None
                _wait_for_turn(database)
            return list(Runner(database, str(MIGRATIONS)).up())
    finally:
        if isinstance(database, WaitingSqlite):
            database.patience = BUSY_SECONDS


def _wait_for_turn(database: Database) -> None:
    """Be the only one who migrates a PostgreSQL, until the transaction ends. Raises OperationalError."""
    # Asked for again and again: a wait for the lock itself would end with lock_timeout.
    deadline = time.monotonic() + MIGRATING_SECONDS
    statement = "SELECT pg_try_advisory_xact_lock(%s)"
    while not database.execute_sql(statement, (MIGRATING,)).fetchone()[0]:  # type: ignore[no-untyped-call]
        if time.monotonic() > deadline:
            raise OperationalError("Somebody else migrates this database, and does not come to an end.")
        time.sleep(0.05)
