"""The tables as peewee models. storage/db/rows.py has the types of their rows.

The models are bound to no database: a host may run several services in one process, so each query names its database
(`query.execute(database)`). Times are whole seconds since the epoch, sizes are bytes.
"""

from __future__ import annotations

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
    TextField,
)


class BaseModel(Model):
    """A table whose indexes are named after the table, `loadbay_` included, rather than after the class."""

    class Meta:
        legacy_table_names = False


class UploadSession(BaseModel):
    """An upload session: its collection, its limits, and the counts of its tracks.

    The counts, from `track_count` on, are written by triggers; see storage/db/triggers.
    """

    seq = BigAutoField()
    id = CharField(36, unique=True)
    # '' is the organization of API_KEYS and of anonymous callers.
    organization_id = CharField(36)
    collection_id = CharField(36)
    creator_id = CharField(36, null=True)
    organization_index = CharField(null=True)
    metadata = TextField(null=True)
    # JSON, as schemas/rules.py loads it.
    rules = TextField(null=True)
    # JSON, as schemas/page.py loads them.
    page = TextField(null=True)
    fields = TextField(null=True)
    embedded_cover = BooleanField()
    status = CharField(16)
    created_at = BigIntegerField()
    expires_at = BigIntegerField()
    max_tracks = IntegerField()
    max_bytes = BigIntegerField(null=True)
    # The part of `rules` that a registration compares: audio.max_file_size.
    max_file_size = BigIntegerField(null=True)
    track_count = IntegerField()
    declared_bytes = BigIntegerField()
    initialized = IntegerField()
    uploaded = IntegerField()
    failed = IntegerField()
    expired = IntegerField()
    cancelled = IntegerField()
    uploaded_bytes = BigIntegerField()
    swept_at = BigIntegerField(null=True)
    # Until then, URLs of tracks may be valid that were signed before `expires_at` was brought forward.
    urls_expire_at = BigIntegerField(null=True)
    # The key that opened the session, if that has limits.
    api_key_seq = BigIntegerField(null=True)

    class Meta:
        table_name = "loadbay_upload_session"
        indexes = ((("collection_id", "organization_id", "seq"), False),)


UploadSession.add_index(
    UploadSession.expires_at, where=UploadSession.swept_at.is_null(), name="loadbay_upload_session_unswept"
)
UploadSession.add_index(
    UploadSession.organization_id,
    UploadSession.seq,
    where=UploadSession.organization_id != SQL("''"),
    name="loadbay_upload_session_organization",
)
UploadSession.add_index(
    UploadSession.api_key_seq,
    UploadSession.expires_at,
    where=UploadSession.api_key_seq.is_null(False),
    name="loadbay_upload_session_api_key",
)


class Track(BaseModel):
    """One declared file and its cover."""

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
    # Declared when the track was registered.
    file_size = BigIntegerField(null=True)
    content_type = CharField(null=True)
    checksum_sha256 = CharField(44, null=True)
    checksum_crc64nvme = CharField(12, null=True)
    checksum_crc32c = CharField(8, null=True)
    # A cover is looked for at the store only where a form or PUT for it was signed (`cover_fields`), or it was relayed.
    cover_fields = BooleanField()
    declared_cover_size = BigIntegerField(null=True)
    declared_cover_type = CharField(null=True)
    cover_relayed = BooleanField()
    # How its bytes are uploaded; see storage/uploads/staging.py. Each attempt has a staging key of its own.
    write_once = BooleanField()
    upload_id = CharField(1024, null=True)
    part_size = BigIntegerField(null=True)
    resume_key = CharField(128, null=True)
    attempt = IntegerField()
    cover_attempt = IntegerField()
    # Set while the cover of an uploaded track may be replaced.
    next_cover_expires_at = BigIntegerField(null=True)
    # The bytes that one verification chose to become the file, and the time until which it has them to itself.
    chosen_source = CharField(16, null=True)
    chosen_etag = CharField(null=True)
    cover_chosen_etag = CharField(null=True)
    lease = CharField(36, null=True)
    lease_expires_at = BigIntegerField(null=True)
    verify_attempts = IntegerField()
    # Requests for which the store was asked about the track in vain.
    checks = IntegerField()
    # The result of the verification.
    failure = CharField(null=True)
    failure_code = CharField(32, null=True)
    size = BigIntegerField(null=True)
    etag = CharField(null=True)
    version_id = CharField(1024, null=True)
    detected_type = CharField(null=True)
    integrity = CharField(16, null=True)
    verified_at = BigIntegerField(null=True)
    # Facts of the audio file: as JSON, and those that lists filter and sort by. The offset is that of a picture in it.
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
    # True where the cover is a picture that was embedded in the file, False where that was none or is replaced.
    cover_embedded = BooleanField(null=True)

    class Meta:
        table_name = "loadbay_track"
        indexes = ((("session", "seq"), False),)


Track.add_index(
    Track.next_cover_expires_at,
    where=Track.next_cover_expires_at.is_null(False),
    name="loadbay_track_next_cover_expires_at",
)
Track.add_index(
    Track.lease_expires_at, where=Track.lease_expires_at.is_null(False), name="loadbay_track_lease_expires_at"
)
Track.add_index(
    Track.seq,
    where=SQL("status = 'initialized' AND (write_once OR upload_id IS NOT NULL)"),
    name="loadbay_track_pending_direct",
)


class IdempotencyKey(BaseModel):
    """A request that may be repeated: the digests of its key and its payload, and the ids that it created."""

    digest = CharField(64, primary_key=True)
    fingerprint = CharField(64)
    session_id = CharField(36)
    track_ids = TextField()
    created_at = BigIntegerField(index=True)

    class Meta:
        table_name = "loadbay_idempotency_key"


class ApiKey(BaseModel):
    """An API key: its rights, and the digest that authenticates it. The key itself is not stored."""

    seq = BigAutoField()
    id = CharField(36, unique=True)
    prefix = CharField(16, unique=True)
    digest = CharField(64)
    name = CharField()
    role = CharField(16)
    organization_id = CharField(36)
    collection_id = CharField(36, null=True)
    # The default for the sessions that it opens.
    rules = TextField(null=True)
    page = TextField(null=True)
    created_at = BigIntegerField()
    expires_at = BigIntegerField(null=True)
    revoked_at = BigIntegerField(null=True)
    # Limits, and the bytes that were declared in its sessions on a day (days since the epoch, UTC), by a trigger.
    max_bytes_per_day = BigIntegerField(null=True)
    max_open_sessions = IntegerField(null=True)
    used_day = BigIntegerField()
    used_bytes = BigIntegerField()

    class Meta:
        table_name = "loadbay_api_key"


class Webhook(BaseModel):
    """An organization's endpoint for events. The one of WEBHOOK_URL and WEBHOOK_SECRET has neither stored."""

    seq = BigAutoField()
    id = CharField(36, unique=True)
    organization_id = CharField(36, index=True)
    url = CharField(2048, null=True)
    secret = CharField(null=True)
    enabled = BooleanField()
    created_at = BigIntegerField()
    # The circuit breaker: consecutive failures, the time of the first, and the time of the next delivery.
    failures = IntegerField()
    failing_since = BigIntegerField(null=True)
    retry_at = BigIntegerField()

    class Meta:
        table_name = "loadbay_webhook"


Webhook.add_index(Webhook.organization_id, unique=True, where=Webhook.url.is_null(), name="loadbay_webhook_environment")


class WebhookDelivery(BaseModel):
    """The outbox: an event that a webhook has not accepted yet. Triggers write it; see storage/db/triggers."""

    seq = BigAutoField()
    id = CharField(36, unique=True)
    webhook = ForeignKeyField(Webhook, column_name="webhook_seq", index=False, on_delete="CASCADE")
    session_seq = BigIntegerField()
    track_seq = BigIntegerField(null=True)
    type = CharField(64)
    data = TextField()
    metadata = TextField(null=True)
    created_at = BigIntegerField()
    # The time of the next attempt, and during an attempt the end of its lease; NULL for a dead letter.
    due_at = BigIntegerField(null=True)
    lease = CharField(36, null=True)
    attempts = IntegerField()
    error = CharField(null=True)

    class Meta:
        table_name = "loadbay_webhook_delivery"
        indexes = ((("webhook", "due_at", "seq"), False), (("session_seq", "track_seq"), False))


class Job(BaseModel):
    """A periodic task that one worker at a time runs, and the time of its next run.

    A task that walks a table has its `position` there, from which it goes on after an interruption.
    """

    name = CharField(16, primary_key=True)
    due_at = BigIntegerField()
    position = BigIntegerField()

    class Meta:
        table_name = "loadbay_job"


class Removal(BaseModel):
    """An object that is to be deleted, or a multipart upload that is to be aborted; see storage/uploads/removals.py."""

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
    """The one row with this deployment's random id, which is part of its staging keys, and its key for receipts."""

    id = CharField(22, primary_key=True)
    # The seed of an Ed25519 key, in base64, which signs unless RECEIPT_KEYS is set.
    receipt_seed = CharField(44)

    class Meta:
        table_name = "loadbay_deployment"


class Store(BaseModel):
    """The abilities measured of a bucket at an endpoint, as JSON (storage/s3/abilities.py), and the time of it.

    `fingerprint` is that of the settings with which it was measured (storage/s3/write_headers.py).
    """

    endpoint = CharField()
    bucket = CharField(63)
    measured_at = BigIntegerField()
    abilities = TextField()
    fingerprint = CharField(64)

    class Meta:
        table_name = "loadbay_store"
        primary_key = CompositeKey("endpoint", "bucket")


MODELS = (UploadSession, Track, IdempotencyKey, ApiKey, Webhook, WebhookDelivery, Job, Removal, Deployment, Store)
