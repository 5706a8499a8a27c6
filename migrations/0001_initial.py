"""The first release's schema: upload sessions and tracks, idempotency keys, API keys, webhooks with their outbox, jobs.

Everything is named `loadbay_...`: a host's database may have a `track` or a `job` of its own. Checks on a session hold
its limits, and triggers keep its counts and write the outbox; see storage/db/triggers.
"""

import secrets
from base64 import b64encode
from pathlib import Path

from peewee import (
    SQL,
    BigAutoField,
    BigIntegerField,
    BooleanField,
    CharField,
    CompositeKey,
    DoubleField,
    ForeignKeyField,
    IntegerField,
    Model,
    SqliteDatabase,
    TextField,
)

TRIGGERS = Path(__file__).resolve().parent.parent / "storage" / "db" / "triggers"
TRIGGER_FUNCTIONS = (
    "loadbay_track_inserted()",
    "loadbay_count_key_bytes()",
    "loadbay_track_deleted()",
    "loadbay_track_status_changed()",
    "loadbay_session_ended()",
    "loadbay_write_session_completed(bigint)",
)
ZERO, FALSE = [SQL("DEFAULT 0")], [SQL("DEFAULT false")]


class BaseModel(Model):
    class Meta:
        # Indexes are named after the table, prefix included, rather than after the class.
        legacy_table_names = False


class UploadSession(BaseModel):
    seq = BigAutoField()
    id = CharField(36, unique=True)
    organization_id = CharField(36)
    collection_id = CharField(36)
    creator_id = CharField(36, null=True)
    organization_index = CharField(null=True)
    metadata = TextField(null=True)
    rules = TextField(null=True)
    page = TextField(null=True)
    fields = TextField(null=True)
    embedded_cover = BooleanField(constraints=FALSE)
    status = CharField(16)
    created_at = BigIntegerField()
    expires_at = BigIntegerField()
    max_tracks = IntegerField()
    max_bytes = BigIntegerField(null=True)
    max_file_size = BigIntegerField(null=True)
    track_count = IntegerField(constraints=ZERO)
    declared_bytes = BigIntegerField(constraints=ZERO)
    initialized = IntegerField(constraints=ZERO)
    uploaded = IntegerField(constraints=ZERO)
    failed = IntegerField(constraints=ZERO)
    expired = IntegerField(constraints=ZERO)
    cancelled = IntegerField(constraints=ZERO)
    uploaded_bytes = BigIntegerField(constraints=ZERO)
    swept_at = BigIntegerField(null=True)
    urls_expire_at = BigIntegerField(null=True)
    api_key_seq = BigIntegerField(null=True)

    class Meta:
        table_name = "loadbay_upload_session"
        # The collection first: sessions of an organization alone are found by the partial index below, or, without
        # organizations, in the order of the rows.
        indexes = ((("collection_id", "organization_id", "seq"), False),)
        constraints = [
            SQL("CONSTRAINT loadbay_track_limit CHECK (track_count <= max_tracks)"),
            SQL("CONSTRAINT loadbay_byte_limit CHECK (max_bytes IS NULL OR declared_bytes <= max_bytes)"),
        ]


class Track(BaseModel):
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
    checksum_crc64nvme = CharField(12, null=True)
    checksum_crc32c = CharField(8, null=True)
    cover_fields = BooleanField(constraints=FALSE)
    declared_cover_size = BigIntegerField(null=True)
    declared_cover_type = CharField(null=True)
    cover_relayed = BooleanField(constraints=FALSE)
    write_once = BooleanField()
    upload_id = CharField(1024, null=True)
    part_size = BigIntegerField(null=True)
    resume_key = CharField(128, null=True)
    attempt = IntegerField(constraints=ZERO)
    cover_attempt = IntegerField(constraints=ZERO)
    next_cover_expires_at = BigIntegerField(null=True)
    chosen_source = CharField(16, null=True)
    chosen_etag = CharField(null=True)
    cover_chosen_etag = CharField(null=True)
    lease = CharField(36, null=True)
    lease_expires_at = BigIntegerField(null=True)
    verify_attempts = IntegerField(constraints=ZERO)
    checks = IntegerField(constraints=ZERO)
    failure = CharField(null=True)
    failure_code = CharField(32, null=True)
    size = BigIntegerField(null=True)
    etag = CharField(null=True)
    version_id = CharField(1024, null=True)
    detected_type = CharField(null=True)
    integrity = CharField(16, null=True)
    verified_at = BigIntegerField(null=True)
    audio = TextField(null=True)
    audio_container = CharField(32, null=True)
    audio_codec = CharField(32, null=True)
    audio_duration = DoubleField(null=True)
    picture_offset = BigIntegerField(null=True)
    picture_size = BigIntegerField(null=True)
    cover_status = CharField(16, null=True)
    cover_failure = CharField(null=True)
    cover_failure_code = CharField(32, null=True)
    cover_size = BigIntegerField(null=True)
    cover_etag = CharField(null=True)
    cover_type = CharField(null=True)
    cover_width = IntegerField(null=True)
    cover_height = IntegerField(null=True)
    cover_rejected_etag = CharField(null=True)
    cover_embedded = BooleanField(null=True)

    class Meta:
        table_name = "loadbay_track"
        indexes = ((("session", "seq"), False),)


class IdempotencyKey(BaseModel):
    digest = CharField(64, primary_key=True)
    fingerprint = CharField(64)
    session_id = CharField(36)
    track_ids = TextField()
    created_at = BigIntegerField(index=True)

    class Meta:
        table_name = "loadbay_idempotency_key"


class ApiKey(BaseModel):
    seq = BigAutoField()
    id = CharField(36, unique=True)
    prefix = CharField(16, unique=True)
    digest = CharField(64)
    name = CharField()
    role = CharField(16)
    organization_id = CharField(36)
    collection_id = CharField(36, null=True)
    rules = TextField(null=True)
    page = TextField(null=True)
    created_at = BigIntegerField()
    expires_at = BigIntegerField(null=True)
    revoked_at = BigIntegerField(null=True)
    max_bytes_per_day = BigIntegerField(null=True)
    max_open_sessions = IntegerField(null=True)
    used_day = BigIntegerField(constraints=ZERO)
    used_bytes = BigIntegerField(constraints=ZERO)

    class Meta:
        table_name = "loadbay_api_key"
        constraints = [
            SQL("CONSTRAINT loadbay_uploader_collection CHECK ((role = 'uploader') = (collection_id IS NOT NULL))")
        ]


class Webhook(BaseModel):
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
        table_name = "loadbay_webhook"


class WebhookDelivery(BaseModel):
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
        table_name = "loadbay_webhook_delivery"
        indexes = ((("webhook", "due_at", "seq"), False), (("session_seq", "track_seq"), False))


class Job(BaseModel):
    name = CharField(16, primary_key=True)
    due_at = BigIntegerField()
    position = BigIntegerField(constraints=ZERO)

    class Meta:
        table_name = "loadbay_job"


class Removal(BaseModel):
    seq = BigAutoField()
    key = CharField(1024)
    upload_id = CharField(1024, null=True)
    etag = CharField(null=True)
    due_at = BigIntegerField(index=True)
    attempts = IntegerField()
    created_at = BigIntegerField()

    class Meta:
        table_name = "loadbay_removal"


class Deployment(BaseModel):
    id = CharField(22, primary_key=True)
    receipt_seed = CharField(44)

    class Meta:
        table_name = "loadbay_deployment"


class Store(BaseModel):
    endpoint = CharField()
    bucket = CharField(63)
    measured_at = BigIntegerField()
    abilities = TextField()
    fingerprint = CharField(64)

    class Meta:
        table_name = "loadbay_store"
        primary_key = CompositeKey("endpoint", "bucket")


TABLES = [UploadSession, Track, IdempotencyKey, ApiKey, Webhook, WebhookDelivery, Job, Removal, Deployment, Store]

# Partial indexes cost nothing for the rows that they leave out.
PARTIAL_INDEXES = (
    """
    CREATE INDEX loadbay_upload_session_organization ON loadbay_upload_session (organization_id, seq)
    WHERE organization_id <> ''
    """,
    """
    CREATE INDEX loadbay_track_next_cover_expires_at ON loadbay_track (next_cover_expires_at)
    WHERE next_cover_expires_at IS NOT NULL
    """,
    """
    CREATE INDEX loadbay_track_lease_expires_at ON loadbay_track (lease_expires_at)
    WHERE lease_expires_at IS NOT NULL
    """,
    """
    CREATE INDEX loadbay_track_pending_direct ON loadbay_track (seq)
    WHERE status = 'initialized' AND (write_once OR upload_id IS NOT NULL)
    """,
    """
    CREATE INDEX loadbay_upload_session_api_key ON loadbay_upload_session (api_key_seq, expires_at)
    WHERE api_key_seq IS NOT NULL
    """,
    "CREATE INDEX loadbay_upload_session_unswept ON loadbay_upload_session (expires_at) WHERE swept_at IS NULL",
    # The webhook of WEBHOOK_URL has no `url`: there is at most one of each organization.
    "CREATE UNIQUE INDEX loadbay_webhook_environment ON loadbay_webhook (organization_id) WHERE url IS NULL",
)


def up(migrator, db):
    with db.bind_ctx(TABLES):
        db.create_tables(TABLES, safe=False)
    for statement in PARTIAL_INDEXES:
        db.execute_sql(statement)
    db.execute_sql("INSERT INTO loadbay_job (name, due_at) VALUES ('sweep', 0)")
    # 22 URL-safe characters, as in object keys.
    seed = b64encode(secrets.token_bytes(32)).decode()
    values = f"'{secrets.token_urlsafe(16)}', '{seed}'"
    db.execute_sql(f"INSERT INTO loadbay_deployment (id, receipt_seed) VALUES ({values})")
    dialect = "sqlite" if isinstance(db, SqliteDatabase) else "postgresql"
    db.execute_script((TRIGGERS / f"{dialect}.sql").read_text())


def down(migrator, db):
    with db.bind_ctx(TABLES):
        db.drop_tables(TABLES[::-1])
    if not isinstance(db, SqliteDatabase):
        for function in TRIGGER_FUNCTIONS:
            db.execute_sql(f"DROP FUNCTION {function}")
