"""Direct access to the database under test, past the application."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from flask import Flask

from storage.db.connection import open_database
from storage.db.models import WebhookDelivery
from storage.db.postgres import PooledPostgresDatabase
from storage.service import Service


def query(app: Flask, statement: str) -> list[tuple[Any, ...]]:
    """Execute a statement on the database of `app` and return its rows."""
    return run_statement(app.extensions["loadbay"]["loadbay"].settings.database_url, statement)


def run_statement(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Execute a statement on the database at `url` and return its rows."""
    database = open_database(url)
    with closing(database), database.connection_context(), database.atomic():
        cursor = database.execute_sql(statement)
        rows = list(cursor.fetchall()) if cursor.description else []
    if isinstance(database, PooledPostgresDatabase):
        database.close_idle()
    return rows


def outbox_rows(service: Service) -> list[dict[str, Any]]:
    """Return the rows of the webhook outbox, oldest first."""
    return list(WebhookDelivery.select().order_by(WebhookDelivery.seq).dicts().execute(service.database))
