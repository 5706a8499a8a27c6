"""The rows, and the database that keeps them.

The models are bound to no database: a host may run several services in one process, so each query says
where it runs (`query.execute(database)`). Times are whole seconds since the epoch, sizes are bytes.
"""

from __future__ import annotations

from pathlib import Path

from peewee import (
    BigAutoField,
    BigIntegerField,
    CharField,
    Database,
    ForeignKeyField,
    IntegerField,
    InterfaceError,
    Model,
    OperationalError,
    SqliteDatabase,
    TextField,
)
from playhouse.db_url import connect as connect_url
from playhouse.migrations import Runner

DATABASE_ERRORS = (OperationalError, InterfaceError)
"""What peewee raises when the database is away, locked for too long, full or not prepared."""

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
BUSY_SECONDS = 1.5

SQLITE_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "normal",
    "foreign_keys": 1,
    "busy_timeout": int(BUSY_SECONDS * 1000),
    "cache_size": -4000,
    "journal_size_limit": 64 * 2**20,
}


class UploadSession(Model):
    """What a client may upload: to which collection, until when, how much."""

    seq = BigAutoField()
    id = CharField(36, unique=True)
    collection_id = CharField(36, index=True)
    creator_id = CharField(36, null=True)
    organization_index = CharField(null=True)
    metadata = TextField(null=True)
    status = CharField(16, default="open")
    created_at = BigIntegerField()
    expires_at = BigIntegerField()
    max_tracks = IntegerField()
    max_bytes = BigIntegerField(null=True)
    track_count = IntegerField(default=0)
    promised_bytes = BigIntegerField(default=0)

    class Meta:
        table_name = "upload_session"


class Track(Model):
    """One promised file, its cover, and what is known of both."""

    seq = BigAutoField()
    id = CharField(36, unique=True)
    session = ForeignKeyField(UploadSession, column_name="session_seq", index=False)
    path = CharField(1024)
    cover_path = CharField(1024)
    file_name = CharField()
    organization_index = CharField(null=True)
    metadata = TextField(null=True)
    file_size = BigIntegerField(null=True)
    content_type = CharField(null=True)
    checksum_sha256 = CharField(44, null=True)
    status = CharField(16, default="initialized")
    created_at = BigIntegerField()

    class Meta:
        table_name = "track"
        indexes = ((("session", "seq"), False),)


MODELS = (UploadSession, Track)


def open_database(url: str) -> Database:
    """The database for a DATABASE_URL. Connects at the first query, one connection for each thread."""
    if url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite:///")
        return SqliteDatabase(path, pragmas=SQLITE_PRAGMAS, timeout=BUSY_SECONDS, lock_type="IMMEDIATE")
    return connect_url(url, connect_timeout=1)


def migrate(database: Database) -> list[str]:
    """Bring the tables up to date; returns the names of the migrations that ran."""
    if isinstance(database, SqliteDatabase):
        Path(database.database).parent.mkdir(parents=True, exist_ok=True)
    with database.connection_context():
        return list(Runner(database, str(MIGRATIONS)).up())
