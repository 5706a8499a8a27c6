"""psycopg, left out of a process of our own that serves from SQLite: peewee imports it wherever it is installed.

Measured on 2026-11-27 (2 cores, requirements.txt alone, compiled modules): importing wsgi takes
560 ms of CPU time instead of 644, and a worker has 48 MiB instead of 58. Leans on no private names:
None in sys.modules is the documented way to have an import fail
(https://docs.python.org/3/reference/import.html#the-module-cache), and peewee works without psycopg.
"""

from __future__ import annotations

import os
import sys


def import_peewee_without_psycopg() -> None:
    """Import peewee as if psycopg were not installed, where DATABASE_URL says that this process needs none.

    Only for a process that has one application, which is ours: a host may use peewee with PostgreSQL itself, and so
    may a command of `flask`.
    """
    serves_postgres = os.environ.get("DATABASE_URL", "").strip().startswith("postgres")
    runs_commands = "FLASK_RUN_FROM_CLI" in os.environ
    if serves_postgres or runs_commands or "peewee" in sys.modules or "psycopg" in sys.modules:
        return
    sys.modules["psycopg"] = None  # type: ignore[assignment]
    try:
        import peewee  # noqa: F401
    finally:
        del sys.modules["psycopg"]
