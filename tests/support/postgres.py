"""A real PostgreSQL for the run: the one that TEST_DATABASE_URL names, or else one that pip has installed."""

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


class Postgres(dev.postgres.Postgres):
    """A server of the run's own, unless TEST_DATABASE_URL names one."""

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.url = os.environ.get("TEST_DATABASE_URL", "")
        if self.url:
            return
        super().start()
        with psycopg.connect(self.url, autocommit=True) as server:
            # It lives as long as the run: it need not wait for the disk.
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                server.execute(f"ALTER SYSTEM SET {setting} = off")
            server.execute("SELECT pg_reload_conf()")

    def prepare(self, name: str) -> None:
        """Make a database with our tables, of which others are copied."""
        with psycopg.connect(self.url, autocommit=True) as server:
            if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                server.execute(f'CREATE DATABASE "{name}"')
        database = open_database(beside(self.url, name))
        migrate(database)
        database.close_idle()


def beside(url: str, name: str) -> str:
    """The URL of the database `name` on the server of `url`."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


@contextmanager
def new_database(url: str, template: str = "template1") -> Iterator[str]:
    """A database on the server of `url`, a copy of `template`, which is dropped in the end."""
    name = f"loadbay_{uuid4().hex}"
    _execute(url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield beside(url, name)
    finally:
        _execute(url, f'DROP DATABASE "{name}" WITH (FORCE)')


class Databases:
    """Databases with our tables, which tests use one after the other: emptying one is far quicker than making one."""

    def __init__(self, url: str):
        self.url, self.made, self.free = url, ExitStack(), list[str]()
        with psycopg.connect(beside(url, TEMPLATE)) as template:
            execute: Callable[..., psycopg.Cursor[Any]] = template.execute
            names = execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            self.rows = {name: execute(f"SELECT * FROM {name}").fetchall() for (name,) in names}

    @contextmanager
    def one(self) -> Iterator[str]:
        """The URL of one that is as good as new."""
        url = self.free.pop() if self.free else self.made.enter_context(new_database(self.url, TEMPLATE))
        # Two tests on copies of one database would share a staging prefix.
        _execute(url, "UPDATE loadbay_deployment SET id = left(replace(gen_random_uuid()::text, '-', ''), 22)")
        yield url
        self._empty(url)
        self.free.append(url)

    def _empty(self, url: str) -> None:
        """Bring its rows and its sequences to their beginning, and end what still uses it."""
        with psycopg.connect(url) as database:
            execute: Callable[..., psycopg.Cursor[Any]] = database.execute
            execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHERS}")
            # Without triggers, and in any order.
            execute("SET session_replication_role = replica")
            for name, rows in self.rows.items():
                execute(f"DELETE FROM {name}")
                for row in rows:
                    execute(f"INSERT INTO {name} VALUES ({', '.join(['%s'] * len(row))})", row)
            execute("SELECT setval(format('%I', sequencename)::regclass, 1, false) FROM pg_sequences")


OTHERS = "datname = current_database() AND pid <> pg_backend_pid()"


def _execute(url: str, statement: LiteralString) -> None:
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(statement)
