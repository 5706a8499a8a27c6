"""The errors that a database raises, gathered for those who catch them."""

from __future__ import annotations

import sqlite3

from peewee import DatabaseError, InterfaceError

DATABASE_ERRORS = (DatabaseError, InterfaceError, sqlite3.Error)
"""Raised when the database is unreachable, locked for too long, full, damaged or not prepared.

peewee translates the driver's errors, except for those raised while rows are fetched: a full disk may show only then.
"""
