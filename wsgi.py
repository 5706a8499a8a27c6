"""The application that gunicorn runs: `gunicorn wsgi:app`."""

from app import create_app

app = create_app()
