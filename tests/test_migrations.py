"""Migrations: from the first tables, with data, to the newest; and no drift from what the models say."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from peewee import IntegrityError
from playhouse.migrations import Runner
from playhouse.schema_diff import diff_models

from storage.db.connection import open_database
from storage.db.migrate import MIGRATION_LOCK_ID, MIGRATIONS, migrate
from storage.db.models import MODELS
from storage.db.postgres import PooledPostgresDatabase
from storage.db.sqlite import LOCK_TIMEOUT
from storage.uploads import organization, sessions

FIRST, BEFORE_INDEXES = "0001_upload_sessions_and_tracks", "0003_webhooks"
COLLECTION = "123e4567-e89b-12d3-a456-426614174000"
SESSION = f"""
INSERT INTO upload_session (id, collection_id, status, created_at, expires_at, max_tracks)
VALUES ('6f1c8a52-37d4-4c0e-9a3b-2f5d71e8c904', '{COLLECTION}', 'open', 1, 2, 10)
"""
TRACK = """
INSERT INTO track (session_seq, id, status, created_at, path, cover_path, file_name, write_once, file_size)
SELECT seq, '{}3f0a6de-58c1-4e27-8d94-0c6a1be7f235', 'initialized', 1, 'path', 'cover', 'a.wav', false, 7
FROM upload_session
"""
STATUSES = ("initialized", "uploaded", "failed", "expired", "cancelled")
KEY = """
INSERT INTO idempotency_key (digest, fingerprint, session_id, track_ids, created_at) VALUES ('d', 'f', 's', '[]', 1)
"""
WEBHOOK = """
INSERT INTO webhook (id, organization_id, enabled, created_at, failures, retry_at) VALUES ('{}', '', true, 1, 0, 0)
"""
COUNTS = "SELECT track_count, declared_bytes, uploaded_bytes, organization_id, {} FROM upload_session"


@pytest.fixture
def database(make_database):
    """An empty database."""
    found = open_database(make_database(empty=True))
    with found.connection_context():
        yield found
    if hasattr(found, "close_idle"):
        found.close_idle()


def test_at_once(make_database):
    """Several that start at once on an empty database bring it up to date together: each migration runs once."""
    url = make_database(empty=True)
    everyone = Barrier(4)

    def bring_up(_number):
        database = open_database(url)
        everyone.wait()
        try:
            return migrate(database)
        finally:
            database.close()
            if hasattr(database, "close_idle"):
                database.close_idle()

    with ThreadPoolExecutor(4) as pool:
        ran = [name for names in pool.map(bring_up, range(4)) for name in names]
    assert ran == sorted(path.stem for path in MIGRATIONS.glob("0*.py"))


def test_waits_its_turn(make_database):
    """Who comes while another migrates waits for longer than a request would."""
    url = make_database(empty=True)
    first, second = open_database(url), open_database(url)
    with ThreadPoolExecutor(1) as pool:
        with first.connection_context(), first.atomic():
            if isinstance(first, PooledPostgresDatabase):
                first.execute_sql("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK_ID,))
            waiting = pool.submit(lambda: [migrate(second), second.close()])
            time.sleep(LOCK_TIMEOUT + 1)
            assert not waiting.done()
        assert len(waiting.result()[0]) == len(list(MIGRATIONS.glob("0*.py")))
    for database in (first, second):
        if hasattr(database, "close_idle"):
            database.close_idle()


def fill(database):
    """Rows as the first release writes them: a session with a track of each status, and a key."""
    database.execute_sql(SESSION)
    for number, status in enumerate(STATUSES):
        database.execute_sql(TRACK.format(number))
        database.execute_sql(f"UPDATE track SET status = '{status}', size = 5 WHERE id LIKE '{number}%%'")
    database.execute_sql(KEY)


def counts(database):
    """What the session counts: its tracks, bytes and organisation, and its tracks by status."""
    (row,) = database.execute_sql(COUNTS.format(", ".join(STATUSES))).fetchall()
    return row


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
    """The first tables' rows go through every migration, their counts go on counting, and the models are the tables."""
    assert Runner(database, str(MIGRATIONS)).up(FIRST) == [FIRST]
    fill(database)
    assert migrate(database)
    assert counts(database) == (5, 35, 5, "", 1, 1, 1, 1, 1)
    database.execute_sql(TRACK.format("c"))
    database.execute_sql("UPDATE track SET status = 'uploaded' WHERE status = 'failed'")
    database.execute_sql("DELETE FROM track WHERE status = 'cancelled'")
    assert counts(database) == (5, 35, 10, "", 2, 2, 0, 1, 0)
    for table, rows in (("track", 5), ("idempotency_key", 1)):
        assert database.execute_sql(f"SELECT count(*) FROM {table}").fetchone() == (rows,)
    assert str(diff_models(database, MODELS)) == ""


def test_one_webhook_of_the_environment(database):
    """Where there were several, the first is kept, and there cannot be another."""
    Runner(database, str(MIGRATIONS)).up(BEFORE_INDEXES)
    for id_ in "abc":
        database.execute_sql(WEBHOOK.format(id_))
    migrate(database)
    assert database.execute_sql("SELECT id FROM webhook").fetchall() == [("a",)]
    with pytest.raises(IntegrityError):
        database.execute_sql(WEBHOOK.format("d"))


@pytest.mark.sqlite
@pytest.mark.parametrize("organization_id", ["", "0b9f7c11-6a42-4d0e-9b5d-3f1c2a7e8d64"])
def test_what_a_listing_reads(service, organization_id):
    """Listings find the rows of their own organisation and collection, and whatever is theirs comes in its order."""
    seen, execute = [], service.database.execute_sql
    service.database.execute_sql = lambda *args: [seen.append(args), execute(*args)][1]
    page = {"status": None, "limit": 20, "offset": 0}
    for collection_id in (COLLECTION, None):
        sessions.page(service, organization_id, collection_id=collection_id, **page)
    organization.list_collection_tracks(service, organization_id, COLLECTION, **page)
    plans = [[row[3] for row in execute(f"EXPLAIN QUERY PLAN {sql}", params).fetchall()] for sql, params in seen]
    of_collection, _, everything, _, _, of_tracks = plans
    by_both = "upload_session_collection (collection_id=? AND organization_id=?)"
    assert of_collection == [f"SEARCH t1 USING INDEX {by_both}"]
    own = "SEARCH t1 USING INDEX upload_session_organization (organization_id=?)"
    assert everything == [own if organization_id else "SCAN t1"]
    assert f"SEARCH t2 USING COVERING INDEX {by_both}" in of_tracks


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
