"""`flask copy-database`: everything of a SQLite database is in PostgreSQL afterwards, or nothing has changed."""

from __future__ import annotations

import random
from typing import Any
from uuid import uuid4

import pytest
from peewee import OperationalError

from app import create_app
from storage.db import copying
from storage.db.batches import no_progress
from storage.db.connection import open_database
from storage.db.migrate import migrate
from storage.db.models import MODELS
from storage.webhooks import endpoints
from support.api import (
    COLLECTION,
    bearer,
    complete,
    count_tracks,
    create_key,
    new_session,
    new_track,
    service_of,
    upload_track,
)
from support.database import outbox_rows, run_statement
from support.sample_files import HTML, png
from support.store import post_cover, put

pytestmark = pytest.mark.postgresql


@pytest.fixture
def settings(settings, tmp_path) -> dict[str, Any]:
    """Settings with a SQLite database."""
    return {**settings, "DATABASE_URL": f"sqlite:///{tmp_path}/source.db", "S3_PREFIX": f"{uuid4()}/"}


@pytest.fixture
def target(make_database) -> str:
    """The URL of an empty PostgreSQL database."""
    return str(make_database(empty=True))


def copy(app, url: str) -> Any:
    """Run `flask copy-database`."""
    return app.test_cli_runner().invoke(args=["copy-database", url])


def fill(app, client) -> str:
    """Write rows to every table, and return the id of an open session."""
    service = service_of(app)
    endpoints.add(service, "http://127.0.0.1:9/hook")
    headers = {**bearer(create_key(app, "--role", "uploader", "--collection", COLLECTION)), "Idempotency-Key": "a-key"}
    payload = {"metadata": {"title": "Ünï \U0001f3b5"}, "rules": {"cover": {"square": True}}}
    session_id = client.post("/v1/upload_session", json=payload, headers=headers).json["upload_session_id"]
    created = upload_track(client, session_id)
    post_cover(created["track_cover_upload"], png())
    complete(client, session_id, created)
    failed = new_track(client, session_id, "b.wav", write_once=True)
    put(failed["track_upload"], HTML)
    complete(client, session_id, failed)
    new_track(client, session_id, "c.wav")
    return str(session_id)


def numbers(url: str) -> dict[str, int]:
    """Count the rows of each table."""
    tables = [model._meta.table_name for model in MODELS]
    return {table: run_statement(url, f"SELECT count(*) FROM {table}")[0][0] for table in tables}


def test_copies_all_rows(app, client, settings, target):
    """Sessions, tracks, keys, events and the deployment's id are copied, and the service goes on with the copy."""
    session_id = fill(app, client)
    before = client.get(f"/v1/upload_session/{session_id}").json["upload_session"]
    tracks = client.get(f"/v1/upload/{session_id}/track").json["tracks"]
    result = copy(app, target)
    assert result.exit_code == 0, result.output
    assert "numbers and checksums agree" in result.output
    assert numbers(target) == numbers(settings["DATABASE_URL"])
    assert min(numbers(target)[f"loadbay_{name}"] for name in ("track", "webhook_delivery", "idempotency_key")) > 0
    moved = create_app({**settings, "DATABASE_URL": target})
    other = moved.test_client()
    assert other.get(f"/v1/upload_session/{session_id}").json["upload_session"] == before
    assert other.get(f"/v1/upload/{session_id}/track").json["tracks"] == tracks
    assert service_of(moved).deployment_id == service_of(app).deployment_id
    assert [row["data"] for row in outbox_rows(service_of(moved))] == [r["data"] for r in outbox_rows(service_of(app))]
    # Sequences and triggers work.
    upload_track(other, session_id)
    assert new_session(other)["upload_session_id"] != session_id
    assert count_tracks(other, session_id) == {"uploaded": 2, "failed": 1, "initialized": 1}
    assert len(outbox_rows(service_of(moved))) == len(outbox_rows(service_of(app))) + 1
    service_of(moved).close()


def test_can_be_repeated_until_the_copy_is_used(app, client, settings, target):
    """A second run finds the copy as it is; one that the service has written to is refused and stays as it is."""
    session_id = fill(app, client)
    assert copy(app, target).exit_code == 0
    assert "Nothing to do" in copy(app, target).output
    new_track(client, session_id, "later.wav")
    result = copy(app, target)
    assert (result.exit_code, "in use" in result.output) == (1, True)
    run_statement(target, "DELETE FROM loadbay_track")
    rows = numbers(target)
    assert copy(app, target).exit_code == 1
    assert numbers(target) == rows


def test_refuses_a_database_of_another_deployment(app, client, settings, make_database):
    """A target with sessions, or with a worker that has run, is refused, and nothing of it changes."""
    fill(app, client)
    for number in range(2):
        url = make_database()
        other = create_app({**settings, "DATABASE_URL": url})
        if number:
            run_statement(url, "INSERT INTO loadbay_job (name, due_at) VALUES ('poll', 1)")
        else:
            new_session(other.test_client())
        rows, deployment = numbers(url), service_of(other).deployment_id
        result = copy(app, url)
        assert (result.exit_code, "in use by another deployment" in result.output) == (1, True)
        assert (numbers(url), run_statement(url, "SELECT id FROM loadbay_deployment")) == (rows, [(deployment,)])
        service_of(other).close()


@pytest.mark.parametrize("url", ["sqlite:///other.db", "mysql://host/name", "postgresql://host:0/name", "x"])
def test_rejects_other_targets(app, url):
    """A target that is no PostgreSQL database is an error with a sentence."""
    result = copy(app, url)
    assert result.exit_code == 1
    assert "URL must be" in result.output


def test_rejects_a_source_on_postgresql(settings, make_database, target):
    """From PostgreSQL nothing is copied."""
    app = create_app({**settings, "DATABASE_URL": make_database()})
    assert "pg_dump" in copy(app, target).output
    service_of(app).close()


def test_rejected_row_changes_nothing(app, client, settings, target):
    """A row that PostgreSQL does not accept ends the copy; the message has no value of it."""
    session_id = fill(app, client)
    run_statement(settings["DATABASE_URL"], f"UPDATE loadbay_track SET file_name = '{'x' * 300}'")
    result = copy(app, target)
    assert result.exit_code == 1
    assert "loadbay_track: PostgreSQL does not accept a row" in result.output
    assert session_id not in result.output
    assert "xxx" not in result.output
    assert numbers(target)["loadbay_upload_session"] == 0


def test_source_is_locked_meanwhile(app, client, settings, target):
    """No other connection can write to the source what the copy would lack."""
    fill(app, client)
    other, attempts = open_database(settings["DATABASE_URL"]), []
    other.lock_timeout = 0.05

    def write(label: str) -> Any:
        with pytest.raises(OperationalError, match="locked"):
            other.execute_sql("UPDATE loadbay_job SET due_at = 7")
        attempts.append(label)
        return no_progress

    database = open_database(target)
    copying.copy_database(service_of(app).database, database, write)
    assert len(attempts) == 2 * len(MODELS)
    other.close()
    database.close_all()


def test_interrupted_copy_leaves_an_empty_database(app, client, target):
    """A copy that is interrupted in the middle of a table can simply be started again."""
    fill(app, client)

    class Killed(BaseException):
        pass

    def die(label: str) -> Any:
        if label == "Comparing loadbay_track":
            raise Killed
        return no_progress

    database = open_database(target)
    with pytest.raises(Killed):
        copying.copy_database(service_of(app).database, database, die)
    database.close_all()
    assert numbers(target)["loadbay_upload_session"] == 0
    assert copy(app, target).exit_code == 0


@pytest.mark.slow
def test_copies_many_rows(settings, target, tmp_path):
    """A million rows with all kinds of values are equal in both databases."""
    source = open_database(settings["DATABASE_URL"])
    migrate(source)
    fill_many(source, sessions=200_000, tracks_each=4)
    database = open_database(target)
    summaries, was_copied = copying.copy_database(source, database, lambda label: no_progress)
    rows = {summary.name: summary.rows for summary in summaries}
    assert (rows["loadbay_upload_session"], rows["loadbay_track"], was_copied) == (200_000, 800_000, False)
    statement = "SELECT SUM(audio_duration), COUNT(audio_duration) FROM loadbay_track"
    assert run_statement(target, statement)[0] == pytest.approx(run_statement(settings["DATABASE_URL"], statement)[0])
    source.close()
    database.close_all()


def fill_many(database: Any, sessions: int, tracks_each: int) -> None:
    """Write many sessions with tracks, with values of all kinds."""
    values = random.Random(7)
    session_rows = (
        (seq, str(uuid4()), COLLECTION, None if seq % 3 else '{"a":"Ü\U0001f3b5"}', seq, 2**31 + seq)
        for seq in range(1, sessions + 1)
    )
    track_rows = (
        (
            seq, str(uuid4()), f"{seq}/{number}", 5 * 2**40 - number, number % 2, number % 3 == 0,
            values.uniform(0, 1e6) if number else None, None if number else 1,
        )
        for seq in range(1, sessions + 1)
        for number in range(tracks_each)
    )  # fmt: skip
    with database.connection_context(), database.atomic():
        cursor = database.cursor()
        cursor.executemany(
            "INSERT INTO loadbay_upload_session (seq, id, organization_id, collection_id, metadata, status,"
            " created_at, expires_at, max_tracks) VALUES (?, ?, '', ?, ?, 'open', ?, ?, 100)",
            session_rows,
        )
        cursor.executemany(
            "INSERT INTO loadbay_track (session_seq, id, status, created_at, path, cover_path, file_name,"
            " file_size, write_once, cover_fields, audio_duration, cover_embedded) VALUES"
            " (?, ?, 'initialized', 1, ?, 'b', 'c.wav', ?, ?, ?, ?, ?)",
            track_rows,
        )
