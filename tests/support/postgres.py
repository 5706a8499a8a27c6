"""A real PostgreSQL for the run: the server at TEST_DATABASE_URL, or one that pip has installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, LiteralString
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg

import dev.postgres
from storage.db.connection import open_database
from storage.db.migrate import migrate

TEMPLATE = "loadbay_template"
OTHER_BACKENDS = "datname = current_database() AND pid <> pg_backend_pid()"


class Postgres(dev.postgres.Postgres):
    """The run's server: its own, unless TEST_DATABASE_URL is set."""

    def start(self) -> None:
        """Start it and wait until it responds."""
        self.url = os.environ.get("TEST_DATABASE_URL", "")
        if self.url:
            return
        super().start()
        with psycopg.connect(self.url, autocommit=True) as server:
            # Its data is deleted after the run, so it need not wait for the disk.
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                server.execute(f"ALTER SYSTEM SET {setting} = off")
            server.execute("SELECT pg_reload_conf()")

    def prepare(self, name: str) -> None:
        """Create a database with our tables, as a template for others."""
        with psycopg.connect(self.url, autocommit=True) as server:
            if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                server.execute(f'CREATE DATABASE "{name}"')
        database = open_database(database_url(self.url, name))
        migrate(database)
        database.close_idle()


def database_url(server_url: str, name: str) -> str:
    """Return the URL of the database `name` on the server of `server_url`."""
    return urlsplit(server_url)._replace(path=f"/{name}").geturl()


@contextmanager
def new_database(server_url: str, template: str = "template1") -> Iterator[str]:
    """Create a database as a copy of `template`, yield its URL, and drop it afterwards."""
    name = f"loadbay_{uuid4().hex}"
    _execute(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield database_url(server_url, name)
    finally:
        _execute(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


class DatabasePool:
    """Databases with our tables, reused by one test after another: emptying one is far quicker than creating one."""

    def __init__(self, url: str):
        self.url, self.stack, self.free = url, ExitStack(), list[str]()
        with psycopg.connect(database_url(url, TEMPLATE)) as template:
            execute: Callable[..., psycopg.Cursor[Any]] = template.execute
            names = execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            self.rows = {name: execute(f"SELECT * FROM {name}").fetchall() for (name,) in names}

    @contextmanager
    def borrow(self) -> Iterator[str]:
        """Yield the URL of an empty database, and take it back afterwards."""
        url = self.free.pop() if self.free else self.stack.enter_context(new_database(self.url, TEMPLATE))
        # Two tests with copies of one database would share a staging prefix.
        _execute(url, "UPDATE loadbay_deployment SET id = left(replace(gen_random_uuid()::text, '-', ''), 22)")
        yield url
        self._reset(url)
        self.free.append(url)

    def _reset(self, url: str) -> None:
        """Restore the template's rows and sequences, and end the connections that are still open."""
        with psycopg.connect(url) as database:
            execute: Callable[..., psycopg.Cursor[Any]] = database.execute
            execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHER_BACKENDS}")
            # Without triggers, and in any order.
            execute("SET session_replication_role = replica")
            for name, rows in self.rows.items():
                execute(f"DELETE FROM {name}")
                for row in rows:
                    execute(f"INSERT INTO {name} VALUES ({', '.join(['%s'] * len(row))})", row)
            execute("SELECT setval(format('%I', sequencename)::regclass, 1, false) FROM pg_sequences")


def _execute(url: str, statement: LiteralString) -> None:
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(statement)
