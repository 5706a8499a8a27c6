"""The rows, and the database that keeps them.

The models are bound to no database: a host may run several services in one process, so each query says
where it runs (`query.execute(database)`). Times are whole seconds since the epoch, sizes are bytes.
"""

from __future__ import annotations

import sqlite3

from peewee import (
    DatabaseError,
    InterfaceError,
)

DATABASE_ERRORS = (DatabaseError, InterfaceError, sqlite3.Error)
"""What is raised when the database is away, locked for too long, full, damaged or not prepared.

peewee gives errors names of its own, but not those that come while rows are fetched: a full disk is found out then.
"""
