"""The WSGI application for gunicorn: `gunicorn wsgi:app`. A host application uses app.py."""

from storage.db.driver import import_peewee_without_psycopg

# Before anything imports peewee.
import_peewee_without_psycopg()

from app import create_app  # noqa: E402

app = create_app()
