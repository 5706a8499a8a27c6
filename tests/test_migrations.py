"""The migrations: the schema that they create, its names, its counts, and no drift from the models."""

from __future__ import annotations

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from peewee import IntegrityError
from playhouse.schema_diff import diff_models

from storage.db.connection import open_database
from storage.db.migrate import MIGRATION_LOCK_ID, MIGRATIONS, migrate, runner
from storage.db.models import MODELS
from storage.db.postgres import PooledPostgresDatabase
from storage.db.sqlite import LOCK_TIMEOUT
from storage.uploads import organization, sessions

FIRST = "0001_initial"
COLLECTION = "123e4567-e89b-12d3-a456-426614174000"
SESSION = f"""
INSERT INTO loadbay_upload_session
    (id, organization_id, collection_id, status, created_at, expires_at, max_tracks, max_bytes)
VALUES ('0b9d41f7-5e26-4d83-a1c0-7742f6d8e395', '', '{COLLECTION}', 'open', 1, 2, 7, 50)
"""
TRACK = """
INSERT INTO loadbay_track
    (session_seq, id, status, created_at, path, cover_path, file_name, write_once, file_size)
SELECT seq, '{}3f0a6de-58c1-4e27-8d94-0c6a1be7f235', 'initialized', 1, 'path', 'cover', 'a.wav', false, {}
FROM loadbay_upload_session
"""
STATUSES = ("initialized", "uploaded", "failed", "expired", "cancelled")
WEBHOOK = """
INSERT INTO loadbay_webhook (id, organization_id, enabled, created_at, failures, retry_at)
VALUES ('{}', '', true, 1, 0, 0)
"""
COUNTS = f"SELECT track_count, declared_bytes, uploaded_bytes, {', '.join(STATUSES)} FROM loadbay_upload_session"
HOST_TABLES = ("track", "job", "api_key", "webhook", "webhook_delivery", "upload_session", "schema_migration")
SQLITE_NAMES = "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_autoindex_loadbay_%'"
POSTGRESQL_NAMES = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
"""


@pytest.fixture
def database(make_database):
    """An empty database."""
    database = open_database(make_database(empty=True))
    with database.connection_context():
        yield database
    if hasattr(database, "close_idle"):
        database.close_idle()


def test_concurrent_starts_migrate_once(make_database):
    """Several processes that start at once on an empty database run each migration once."""
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


def test_waits_for_a_running_migration(make_database):
    """A process that starts during a migration waits for longer than a request does."""
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
    """Write a session with a track of each status, as an application does."""
    database.execute_sql(SESSION)
    for number, status in enumerate(STATUSES):
        database.execute_sql(TRACK.format(number, 7))
        database.execute_sql(
            f"UPDATE loadbay_track SET status = '{status}', size = 5 WHERE file_size = 7 AND size IS NULL"
        )


def counts(database):
    """Return the session's counts: tracks, declared and uploaded bytes, and tracks by status."""
    (row,) = database.execute_sql(COUNTS).fetchall()
    return row


def schema(database):
    """Return the columns and indexes of each table, the host's and those of the migrations' history left out."""
    tables = sorted(set(database.get_tables()) - {"loadbay_schema_migration", *HOST_TABLES})
    return {
        table: (
            sorted((c.name, c.data_type.lower(), c.null, c.primary_key) for c in database.get_columns(table)),
            sorted((i.name, tuple(i.columns), i.unique) for i in database.get_indexes(table)),
        )
        for table in tables
    }


@pytest.mark.sqlite
def test_sqlite_files_are_private(tmp_path):
    """The file and those that SQLite writes beside it hold session ids and secrets, whatever the umask."""
    umask = os.umask(0o022)
    try:
        database = open_database(f"sqlite:///{tmp_path}/new.db")
        migrate(database)
        database.execute_sql("DELETE FROM loadbay_job")
    finally:
        os.umask(umask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("new.db*")}
    database.close()
    assert modes == dict.fromkeys(("new.db", "new.db-wal", "new.db-shm"), 0o600)


def test_triggers_keep_the_counts(database):
    """Inserting, changing or deleting a track updates the counts of its session."""
    migrate(database)
    fill(database)
    assert counts(database) == (5, 35, 5, 1, 1, 1, 1, 1)
    database.execute_sql("UPDATE loadbay_track SET status = 'uploaded' WHERE status IN ('failed', 'uploaded')")
    assert counts(database) == (5, 35, 10, 1, 2, 0, 1, 1)
    database.execute_sql("UPDATE loadbay_track SET status = 'cancelled' WHERE status = 'uploaded'")
    assert counts(database) == (5, 35, 0, 1, 0, 0, 1, 3)
    database.execute_sql("DELETE FROM loadbay_track WHERE status = 'cancelled'")
    assert counts(database) == (2, 14, 0, 1, 0, 0, 1, 0)


def test_rows_survive_every_migration(database):
    """Rows of the first schema survive all migrations, and their counts stay correct."""
    assert runner(database).up(FIRST) == [FIRST]
    fill(database)
    migrate(database)
    assert counts(database) == (5, 35, 5, 1, 1, 1, 1, 1)
    database.execute_sql("UPDATE loadbay_track SET status = 'uploaded' WHERE status = 'failed'")
    assert counts(database) == (5, 35, 10, 1, 2, 0, 1, 1)


@pytest.mark.parametrize(
    ("limit", "message"), [("max_tracks = 5", "loadbay_track_limit"), ("max_bytes = 41", "loadbay_byte_limit")]
)
def test_checks_hold_the_limits_of_a_session(database, limit, message):
    """A track that a session has no room for is rejected by the check that the message names."""
    migrate(database)
    fill(database)
    database.execute_sql(f"UPDATE loadbay_upload_session SET {limit}")
    with pytest.raises(IntegrityError, match=message):
        database.execute_sql(TRACK.format("a", 7))


def test_names_begin_with_the_prefix(database):
    """Every table, index, sequence, constraint, trigger and function has the prefix."""
    migrate(database)
    statement = POSTGRESQL_NAMES if isinstance(database, PooledPostgresDatabase) else SQLITE_NAMES
    names = {name for (name,) in database.execute_sql(statement).fetchall()}
    assert len(names) > 20
    assert {name for name in names if not name.startswith("loadbay_")} == set()


def test_keeps_the_tables_of_a_host(database):
    """A host's tables of similar names are not affected by ours."""
    for name in HOST_TABLES:
        database.execute_sql(f"CREATE TABLE {name} (host integer)")
    assert migrate(database) == [FIRST]
    fill(database)
    assert migrate(database) == []
    runner(database).down(FIRST)
    for name in HOST_TABLES:
        assert [column.name for column in database.get_columns(name)] == ["host"]
        assert database.execute_sql(f"SELECT * FROM {name}").fetchall() == []


def test_rejects_a_second_webhook_of_the_environment(database):
    """An organization has at most one webhook without a URL of its own."""
    migrate(database)
    database.execute_sql(WEBHOOK.format("a"))
    with pytest.raises(IntegrityError):
        database.execute_sql(WEBHOOK.format("b"))


@pytest.mark.sqlite
@pytest.mark.parametrize("organization_id", ["", "0b9f7c11-6a42-4d0e-9b5d-3f1c2a7e8d64"])
def test_listings_use_the_indexes(service, organization_id):
    """A listing reads only the rows of its organization and collection, in the order of an index."""
    statements, execute = [], service.database.execute_sql
    service.database.execute_sql = lambda *args: [statements.append(args), execute(*args)][1]
    page = {"status": None, "limit": 20, "offset": 0}
    for collection_id in (COLLECTION, None):
        sessions.list_sessions(service, organization_id, collection_id=collection_id, **page)
    organization.list_collection_tracks(service, organization_id, COLLECTION, **page)
    plans = [[row[3] for row in execute(f"EXPLAIN QUERY PLAN {sql}", params).fetchall()] for sql, params in statements]
    of_collection, _, everything, _, _, of_tracks = plans
    by_both = "loadbay_upload_session_collection_id_organization_id_seq (collection_id=? AND organization_id=?)"
    assert of_collection == [f"SEARCH t1 USING INDEX {by_both}"]
    own = "SEARCH t1 USING INDEX loadbay_upload_session_organization (organization_id=?)"
    assert everything == [own if organization_id else "SCAN t1"]
    assert f"SEARCH t2 USING COVERING INDEX {by_both}" in of_tracks


def test_models_match_the_tables(database):
    """The models have the columns and indexes of the tables, and the same columns may be NULL."""
    migrate(database)
    assert str(diff_models(database, MODELS)) == ""
    for model in MODELS:
        columns = {column.name: column.null for column in database.get_columns(model._meta.table_name)}
        assert columns == {field.column_name: field.null for field in model._meta.sorted_fields}


def test_down_reverts_every_migration(database):
    """Every migration can be reverted, and applied again with the same outcome."""
    migrate(database)
    newest = schema(database)
    assert newest.keys() == {model._meta.table_name for model in MODELS}
    runner(database).down(FIRST)
    assert schema(database) == {}
    migrate(database)
    assert schema(database) == newest
