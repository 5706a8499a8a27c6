"""The host's tables, with the names of Loadbay's models."""

from __future__ import annotations

import os

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import DatabaseError

db = SQLAlchemy()


def database_url() -> str:
    """Return the URL of the database that both use, as SQLAlchemy writes it."""
    return os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")


class Track(db.Model):  # type: ignore[name-defined]
    """A track of the host's own."""

    __tablename__ = "track"
    id = db.Column(db.Integer, primary_key=True)
    title = db.Column(db.String(100), nullable=False)


class Job(db.Model):  # type: ignore[name-defined]
    """A job of the host's own."""

    __tablename__ = "job"
    name = db.Column(db.String(100), primary_key=True)


def create_tables() -> None:
    """Create the host's tables and a row, unless another worker has."""
    try:
        db.create_all()
        db.session.merge(Track(id=1, title="of the host"))
        db.session.commit()
    except DatabaseError:
        db.session.rollback()
