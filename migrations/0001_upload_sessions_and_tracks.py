"""The first tables: upload sessions, their tracks, and the keys of requests that may be repeated.

Triggers keep each session's counts, in the statement that changes a track, so that they cannot drift; checks on
the session hold its limits, so that no race can pass them.
"""

from peewee import (
    SQL,
    BigAutoField,
    BigIntegerField,
    BooleanField,
    CharField,
    ForeignKeyField,
    IntegerField,
    Model,
    SqliteDatabase,
    TextField,
)

STATUSES = ("initialized", "uploaded", "failed", "expired", "cancelled")
ZERO = [SQL("DEFAULT 0")]


class UploadSession(Model):
    seq = BigAutoField()
    id = CharField(36, unique=True)
    collection_id = CharField(36)
    creator_id = CharField(36, null=True)
    organization_index = CharField(null=True)
    metadata = TextField(null=True)
    status = CharField(16)
    created_at = BigIntegerField()
    expires_at = BigIntegerField()
    max_tracks = IntegerField()
    max_bytes = BigIntegerField(null=True)
    track_count = IntegerField(constraints=ZERO)
    declared_bytes = BigIntegerField(constraints=ZERO)
    initialized = IntegerField(constraints=ZERO)
    uploaded = IntegerField(constraints=ZERO)
    failed = IntegerField(constraints=ZERO)
    expired = IntegerField(constraints=ZERO)
    cancelled = IntegerField(constraints=ZERO)
    uploaded_bytes = BigIntegerField(constraints=ZERO)
    swept_at = BigIntegerField(null=True)

    class Meta:
        table_name = "upload_session"
        constraints = [
            SQL("CONSTRAINT track_limit CHECK (track_count <= max_tracks)"),
            SQL("CONSTRAINT byte_limit CHECK (max_bytes IS NULL OR declared_bytes <= max_bytes)"),
        ]


class Track(Model):
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
    file_size = BigIntegerField(null=True)
    content_type = CharField(null=True)
    checksum_sha256 = CharField(44, null=True)
    write_once = BooleanField()
    upload_id = CharField(1024, null=True)
    part_size = BigIntegerField(null=True)
    failure = CharField(null=True)
    size = BigIntegerField(null=True)
    etag = CharField(null=True)
    version_id = CharField(null=True)
    detected_type = CharField(null=True)
    verified_at = BigIntegerField(null=True)
    cover_status = CharField(16, null=True)
    cover_failure = CharField(null=True)
    cover_size = BigIntegerField(null=True)
    cover_etag = CharField(null=True)
    cover_type = CharField(null=True)
    cover_width = IntegerField(null=True)
    cover_height = IntegerField(null=True)

    class Meta:
        table_name = "track"
        indexes = ((("session", "seq"), False),)


class IdempotencyKey(Model):
    digest = CharField(64, primary_key=True)
    fingerprint = CharField(64)
    session_id = CharField(36)
    track_ids = TextField()
    created_at = BigIntegerField(index=True)

    class Meta:
        table_name = "idempotency_key"


TABLES = [UploadSession, Track, IdempotencyKey]


def _moved(row, sign):
    """Assignments that add (`+`) or take away (`-`) the track `row` (NEW or OLD) in its session's counts."""
    counts = [f"{s} = {s} {sign} CASE WHEN {row}.status = '{s}' THEN 1 ELSE 0 END" for s in STATUSES]
    size = f"CASE WHEN {row}.status = 'uploaded' THEN {row}.size ELSE 0 END"
    return ", ".join([*counts, f"uploaded_bytes = uploaded_bytes {sign} {size}"])


def _update(assignments, row):
    return f"UPDATE upload_session SET {assignments} WHERE seq = {row}.session_seq;"


PLACE = "track_count = track_count {0} 1, declared_bytes = declared_bytes {0} COALESCE({1}.file_size, 0)"
TRIGGERS = {
    # A track begins as initialized: spelt out, since this one runs on the hot path.
    "track_inserted": (
        "INSERT",
        _update(f"{PLACE.format('+', 'NEW')}, initialized = initialized + 1", "NEW"),
    ),
    "track_moved": ("UPDATE OF status", _update(_moved("OLD", "-"), "OLD") + _update(_moved("NEW", "+"), "NEW")),
    "track_deleted": ("DELETE", _update(f"{PLACE.format('-', 'OLD')}, {_moved('OLD', '-')}", "OLD")),
}


def up(migrator, db):
    with db.bind_ctx(TABLES):
        db.create_tables(TABLES, safe=False)
    for name, (event, body) in TRIGGERS.items():
        if isinstance(db, SqliteDatabase):
            db.execute_sql(f"CREATE TRIGGER {name} AFTER {event} ON track BEGIN {body} END")
        else:
            db.execute_sql(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$"
            )
            db.execute_sql(f"CREATE TRIGGER {name} AFTER {event} ON track FOR EACH ROW EXECUTE FUNCTION {name}()")


def down(migrator, db):
    with db.bind_ctx(TABLES):
        db.drop_tables(list(reversed(TABLES)))
    if not isinstance(db, SqliteDatabase):
        for name in TRIGGERS:
            db.execute_sql(f"DROP FUNCTION {name}()")
