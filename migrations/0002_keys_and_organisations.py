"""API keys that are kept, organisations that never see each other, and covers that may be replaced."""

from peewee import SQL, BigAutoField, BigIntegerField, CharField, Model

UP = (
    # '' is the organisation of API_KEYS and of anonymous callers: that of a deploy which needs only one.
    "ALTER TABLE upload_session ADD COLUMN organization_id VARCHAR(36) NOT NULL DEFAULT ''",
    "ALTER TABLE track ADD COLUMN next_cover_path VARCHAR(1024)",
    "ALTER TABLE track ADD COLUMN next_cover_expires_at BIGINT",
    "CREATE INDEX upload_session_collection ON upload_session (collection_id, seq)",
    # Partial ones cost nothing for rows that they do not hold: a deploy of one organisation, covers as they first came.
    "CREATE INDEX upload_session_organization ON upload_session (organization_id, seq) WHERE organization_id <> ''",
    "CREATE INDEX track_next_cover_expires_at ON track (next_cover_expires_at) WHERE next_cover_expires_at IS NOT NULL",
)
DOWN = (
    "DROP INDEX track_next_cover_expires_at",
    "DROP INDEX upload_session_organization",
    "DROP INDEX upload_session_collection",
    "ALTER TABLE track DROP COLUMN next_cover_expires_at",
    "ALTER TABLE track DROP COLUMN next_cover_path",
    "ALTER TABLE upload_session DROP COLUMN organization_id",
)


class ApiKey(Model):
    seq = BigAutoField()
    id = CharField(36, unique=True)
    prefix = CharField(16, unique=True)
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
        constraints = [SQL("CONSTRAINT uploader_collection CHECK ((role = 'uploader') = (collection_id IS NOT NULL))")]


def up(migrator, db):
    for statement in UP:
        db.execute_sql(statement)
    with db.bind_ctx([ApiKey]):
        db.create_tables([ApiKey], safe=False)


def down(migrator, db):
    with db.bind_ctx([ApiKey]):
        db.drop_tables([ApiKey])
    for statement in DOWN:
        db.execute_sql(statement)
