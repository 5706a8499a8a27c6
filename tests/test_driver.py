"""The driver of the database: imported in the processes that may use it, and in no others."""

from __future__ import annotations

import sys

import pytest

from support.processes import ROOT

pytestmark = pytest.mark.sqlite

SETTINGS = {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_BUCKET": "tracks"}
SQLITE = {"DATABASE_URL": "sqlite:///unused.db"}
POSTGRESQL = {"DATABASE_URL": "postgresql://127.0.0.1:1/unused"}


def peewee_has_psycopg(processes, module, env):
    """Return whether peewee finds psycopg in a process that imports a module first, and the application in it works."""
    code = f"import {module}, peewee, psycopg; print(peewee.psycopg is psycopg)"
    result = processes.run(sys.executable, "-c", code, env={**SETTINGS, **env}, cwd=ROOT)
    assert result.returncode == 0, result.stdout
    return result.stdout.splitlines()[-1] == "True"


@pytest.mark.parametrize(
    ("module", "env", "expected"),
    [
        ("wsgi", SQLITE, False),
        ("wsgi", {}, False),
        ("wsgi", POSTGRESQL, True),
        ("wsgi", {**SQLITE, "FLASK_RUN_FROM_CLI": "true"}, True),
        ("app", SQLITE, True),
        ("psycopg, wsgi", SQLITE, True),
    ],
)
def test_only_a_worker_with_sqlite_leaves_psycopg_out(processes, module, env, expected):
    """A worker on SQLite does without it; PostgreSQL, commands and hosts have it. It can be imported all the same."""
    assert peewee_has_psycopg(processes, module, env) == expected


def test_command_of_the_same_application_copies_to_postgresql(settings, make_database, processes):
    """`flask --app wsgi` opens PostgreSQL where its own database is on SQLite."""
    result = processes.run("flask", "--app", "wsgi", "copy-database", POSTGRESQL["DATABASE_URL"], env=settings)
    assert "Error: " in result.stdout
    assert "driver" not in result.stdout
    assert "Traceback" not in result.stdout
