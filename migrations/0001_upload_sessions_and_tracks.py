"""The first tables: upload sessions and their tracks."""

from peewee import BigAutoField, BigIntegerField, CharField, ForeignKeyField, IntegerField, Model, TextField


class UploadSession(Model):
    seq = BigAutoField()
    id = CharField(36, unique=True)
    collection_id = CharField(36, index=True)
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

    class Meta:
        table_name = "upload_session"


class Track(Model):
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
    status = CharField(16)
    created_at = BigIntegerField()

    class Meta:
        table_name = "track"
        indexes = ((("session", "seq"), False),)


def up(migrator, db):
    with db.bind_ctx([UploadSession, Track]):
        db.create_tables([UploadSession, Track], safe=False)


def down(migrator, db):
    with db.bind_ctx([UploadSession, Track]):
        db.drop_tables([Track, UploadSession])
