"""Migrations: from the first tables, with data, to the newest; and no drift from what the models say."""

from __future__ import annotations

import pytest
from playhouse.migrations import Runner

from storage.models import MIGRATIONS, MODELS, migrate, open_database

FIRST = "0001_upload_sessions_and_tracks"
SESSION = """
INSERT INTO upload_session (id, collection_id, status, created_at, expires_at, max_tracks)
VALUES ('6f1c8a52-37d4-4c0e-9a3b-2f5d71e8c904', '123e4567-e89b-12d3-a456-426614174000', 'open', 1, 2, 10)
"""
TRACK = """
INSERT INTO track (session_seq, id, status, created_at, path, cover_path, file_name, write_once, file_size)
SELECT seq, 'b3f0a6de-58c1-4e27-8d94-0c6a1be7f235', 'initialized', 1, 'path', 'cover', 'a.wav', false, 7
FROM upload_session
"""


@pytest.fixture
def database(make_database):
    """An empty database."""
    found = open_database(make_database(empty=True))
    with found.connection_context():
        yield found
    if hasattr(found, "close_idle"):
        found.close_idle()


def shape(database):
    """What tables there are, with their columns and indexes."""
    tables = sorted(set(database.get_tables()) - {"schema_migration"})
    return {
        table: (
            sorted((c.name, c.data_type.lower(), c.null, c.primary_key) for c in database.get_columns(table)),
            sorted((i.name, tuple(i.columns), i.unique) for i in database.get_indexes(table)),
        )
        for table in tables
    }


def test_data_is_kept(database):
    """The first tables' rows go through every migration, and their counts go on counting."""
    assert Runner(database, str(MIGRATIONS)).up(FIRST) == [FIRST]
    database.execute_sql(SESSION)
    database.execute_sql(TRACK)
    assert migrate(database)
    database.execute_sql(TRACK.replace("b3f0a6de", "c3f0a6de"))
    kept = database.execute_sql("SELECT track_count, promised_bytes, organization_id FROM upload_session").fetchall()
    assert kept == [(2, 14, "")]
    assert database.execute_sql("SELECT count(*) FROM track").fetchone() == (2,)


def test_models_are_the_tables(database):
    """The models have the columns of the tables, and these may be empty where those say so."""
    migrate(database)
    for model in MODELS:
        found = {column.name: column.null for column in database.get_columns(model._meta.table_name)}
        assert found == {field.column_name: field.null for field in model._meta.sorted_fields}


def test_down_and_up(database):
    """Every migration can be taken back, and done again with the same outcome."""
    migrate(database)
    newest = shape(database)
    assert {"upload_session", "track", "api_key", "idempotency_key"} <= set(newest)
    Runner(database, str(MIGRATIONS)).down(FIRST)
    assert shape(database) == {}
    migrate(database)
    assert shape(database) == newest
