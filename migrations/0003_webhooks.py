"""Webhooks, the outbox of what they are still to be told, and when the worker's jobs are due.

Triggers write the outbox, in the statement that changes a track or a session: whatever changes one, and however many
at once, each event is kept exactly if its change is. They do not run when a session or a track is inserted, and find
nothing to write where an organisation has no webhook.
"""

from peewee import (
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


class Webhook(Model):
    seq = BigAutoField()
    id = CharField(36, unique=True)
    organization_id = CharField(36, index=True)
    url = CharField(2048, null=True)
    secret = CharField(null=True)
    enabled = BooleanField()
    created_at = BigIntegerField()
    failures = IntegerField()
    failing_since = BigIntegerField(null=True)
    retry_at = BigIntegerField()

    class Meta:
        table_name = "webhook"


class WebhookDelivery(Model):
    seq = BigAutoField()
    id = CharField(36, unique=True)
    webhook = ForeignKeyField(Webhook, column_name="webhook_seq", index=False, on_delete="CASCADE")
    session_seq = BigIntegerField()
    track_seq = BigIntegerField(null=True)
    type = CharField(64)
    data = TextField()
    metadata = TextField(null=True)
    created_at = BigIntegerField()
    due_at = BigIntegerField(null=True)
    lease = CharField(36, null=True)
    attempts = IntegerField()
    error = CharField(null=True)

    class Meta:
        table_name = "webhook_delivery"
        indexes = ((("webhook", "due_at", "seq"), False), (("session_seq", "track_seq"), False))


class Job(Model):
    name = CharField(16, primary_key=True)
    due_at = BigIntegerField()

    class Meta:
        table_name = "job"


TABLES = [Webhook, WebhookDelivery, Job]

STATUSES = ("initialized", "uploaded", "failed", "expired", "cancelled")
SQLITE = {
    "hold": "",
    "object": "json_object",
    "id": "'msg_' || lower(hex(randomblob(16)))",
    "now": "CAST(strftime('%s', 'now') AS INTEGER)",
}
POSTGRESQL = {
    # A webhook that is deleted meanwhile is not told; without this, the change would fail with it.
    "hold": " FOR KEY SHARE OF w",
    "object": "json_build_object",
    "id": "'msg_' || replace(gen_random_uuid()::text, '-', '')",
    "now": "CAST(floor(extract(epoch FROM clock_timestamp())) AS BIGINT)",
}

OUTBOX = """
INSERT INTO webhook_delivery
    (id, webhook_seq, session_seq, track_seq, type, data, metadata, created_at, due_at, attempts)
SELECT {id}, w.seq, s.seq, """
FOR_ITS_WEBHOOKS = """, {now}, 0, 0
FROM upload_session s JOIN webhook w ON w.organization_id = s.organization_id AND w.enabled
WHERE s.seq = """

TOLD_OF_A_TRACK = ("status", "path", "file_name", "file_size", "size", "content_type", "detected_type")
TOLD_OF_A_TRACK += ("checksum_sha256", "etag", "failure", "organization_index")
TRACK_EVENT = (
    OUTBOX
    + "NEW.seq, 'track.' || NEW.status, CAST({object}('upload_session_id', s.id, 'track_id', NEW.id, 'collection_id',"
    + " s.collection_id, "
    + ", ".join(f"'{name}', NEW.{name}" for name in TOLD_OF_A_TRACK)
    + ") AS TEXT), NEW.metadata"
    + FOR_ITS_WEBHOOKS
    + "NEW.session_seq AND NEW.status IN ('uploaded', 'failed', 'expired') AND NEW.status <> OLD.status{hold};"
)

TOLD_OF_A_SESSION = ("creator_id", "organization_index", "track_count", "uploaded", "failed", "expired", "cancelled")
SESSION_EVENT = (
    OUTBOX
    + "NULL, 'upload_session.completed', CAST({object}('upload_session_id', s.id, 'collection_id', s.collection_id,"
    + " 'status', CASE s.status WHEN 'open' THEN 'expired' ELSE s.status END, "
    + ", ".join(f"'{name}', s.{name}" for name in TOLD_OF_A_SESSION)
    + ", 'uploaded_bytes', s.uploaded_bytes) AS TEXT), s.metadata"
    + FOR_ITS_WEBHOOKS
)
# A session is completed with the last of these: it takes no more tracks, and its last track becomes final. The row of
# the session, which every one of them changes, puts them in order: exactly one of them sees that it is the last.
LAST_TRACK = (
    SESSION_EVENT
    + "NEW.session_seq AND OLD.status = 'initialized' AND NEW.status <> 'initialized' AND s.initialized = 0"
    + " AND (s.status = 'closed' OR s.swept_at IS NOT NULL){hold};"
)
OVER = SESSION_EVENT + "NEW.seq{hold};"


def _moved(row, sign):
    counts = [f"{s} = {s} {sign} CASE WHEN {row}.status = '{s}' THEN 1 ELSE 0 END" for s in STATUSES]
    size = f"CASE WHEN {row}.status = 'uploaded' THEN {row}.size ELSE 0 END"
    assignments = ", ".join([*counts, f"uploaded_bytes = uploaded_bytes {sign} {size}"])
    return f"UPDATE upload_session SET {assignments} WHERE seq = {row}.session_seq;"


# First the counts, then what depends on them: within one trigger the order is sure.
COUNTED = _moved("OLD", "-") + _moved("NEW", "+")
TRIGGERS = {
    "session_closed": (
        "UPDATE OF status ON upload_session",
        "NEW.status = 'closed' AND OLD.status <> 'closed' AND NEW.initialized = 0",
        OVER,
    ),
    "session_swept": (
        "UPDATE OF swept_at ON upload_session",
        "NEW.swept_at IS NOT NULL AND OLD.swept_at IS NULL AND NEW.status = 'open' AND NEW.initialized = 0",
        OVER,
    ),
}


def _count_and_tell(db, body):
    """Give the trigger of 0001 that counts a moved track another body."""
    if isinstance(db, SqliteDatabase):
        db.execute_sql("DROP TRIGGER track_moved")
        db.execute_sql(f"CREATE TRIGGER track_moved AFTER UPDATE OF status ON track BEGIN {body} END")
    else:
        _function(db, "track_moved", body)


def _function(db, name, body):
    db.execute_sql(
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$"
    )


def up(migrator, db):
    with db.bind_ctx(TABLES):
        db.create_tables(TABLES, safe=False)
    db.execute_sql("INSERT INTO job (name, due_at) VALUES ('sweep', 0)")
    sqlite = isinstance(db, SqliteDatabase)
    payload = SQLITE if sqlite else POSTGRESQL
    _count_and_tell(db, COUNTED + (TRACK_EVENT + LAST_TRACK).format(**payload))
    for name, (event, condition, body) in TRIGGERS.items():
        body = body.format(**payload)
        if not sqlite:
            _function(db, name, body)
        does = f"BEGIN {body} END" if sqlite else f"EXECUTE FUNCTION {name}()"
        db.execute_sql(f"CREATE TRIGGER {name} AFTER {event} FOR EACH ROW WHEN ({condition}) {does}")


def down(migrator, db):
    _count_and_tell(db, COUNTED)
    for name in TRIGGERS:
        if isinstance(db, SqliteDatabase):
            db.execute_sql(f"DROP TRIGGER {name}")
        else:
            db.execute_sql(f"DROP FUNCTION {name}() CASCADE")
    with db.bind_ctx(TABLES):
        db.drop_tables(list(reversed(TABLES)))
