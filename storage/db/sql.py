"""Statements for the hot path, built from tuples of column names: no placeholder is counted by hand.

Parameters are `?` on every database; storage.service.Service.execute translates them. Names come from this code, never
from a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache


def select(table: str, columns: Sequence[str], where: str) -> str:
    """Return a SELECT of `columns` of the rows that the condition `where` holds for.

    >>> select("loadbay_job", ("name", "due_at"), "name = ?")
    'SELECT name, due_at FROM loadbay_job WHERE name = ?'
    """
    return f"SELECT {', '.join(columns)} FROM {table} WHERE {where}"


def insert(table: str, columns: Sequence[str], rows: int = 1) -> str:
    """Return an INSERT of a number of rows; its parameters are their values, row by row, in the order of `columns`.

    >>> insert("loadbay_job", ("name", "due_at"), rows=2)
    'INSERT INTO loadbay_job (name, due_at) VALUES (?, ?), (?, ?)'
    """
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * rows)}"


def insert_select(table: str, values: Mapping[str, str], source: str) -> str:
    """Return an INSERT of what a SELECT finds: `values` has the expression of each column, `source` follows FROM.

    >>> insert_select("loadbay_job", {"name": "?", "due_at": "MAX(due_at) + ?"}, "loadbay_job WHERE due_at < ?")
    'INSERT INTO loadbay_job (name, due_at) SELECT ?, MAX(due_at) + ? FROM loadbay_job WHERE due_at < ?'
    """
    return f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())} FROM {source}"


@lru_cache(maxsize=256)
def update(table: str, columns: tuple[str, ...], where: str) -> str:
    """Return an UPDATE of `columns`; its parameters are their values, then those of the condition `where`.

    >>> update("loadbay_job", ("due_at",), "name = ?")
    'UPDATE loadbay_job SET due_at = ? WHERE name = ?'
    """
    return f"UPDATE {table} SET {', '.join(f'{column} = ?' for column in columns)} WHERE {where}"
