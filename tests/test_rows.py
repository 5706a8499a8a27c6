"""The types of rows: they match the tables, and a misspelt column fails the type check."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from mypy import api as mypy

from storage.db import models, rows, sql

pytestmark = pytest.mark.sqlite

ROOT = Path(__file__).resolve().parent.parent
COMPLETE_ROWS = [
    (models.Track, rows.TrackRow),
    (models.UploadSession, rows.StoredSessionRow),
    (models.IdempotencyKey, rows.IdempotencyKeyRow),
    (models.Webhook, rows.WebhookRow),
    (models.WebhookDelivery, rows.DeliveryRow),
]
SNIPPET = """
from storage.db.rows import TrackRow

def right(row: TrackRow) -> int | None:
    return row["file_size"]

def wrong(row: TrackRow) -> int | None:
    return row["file_sise"]
"""


@pytest.mark.parametrize(("model", "row_type"), COMPLETE_ROWS)
def test_rows_have_every_column_of_their_table(model, row_type):
    """A type of rows that a query returns as a whole names all columns of the table."""
    fields = {field.name: field.null for field in model._meta.sorted_fields}
    assert fields.keys() <= row_type.__annotations__.keys()


@pytest.mark.parametrize("row_type", [rows.ApiKeyRow, rows.ApiKeyCredentials])
def test_columns_of_api_keys_exist(row_type):
    """The columns that statements select by a row's type exist."""
    assert set(rows.columns(row_type)) <= models.ApiKey._meta.fields.keys()


def test_misspelt_column_fails_the_type_check(tmp_path, monkeypatch):
    """mypy, as `make lint` runs it, rejects a column that a row does not have."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    output, errors, status = mypy.run([str(snippet)])
    assert status == 1, output + errors
    (error,) = [line for line in output.splitlines() if "[typeddict-item]" in line]
    assert "snippet.py:8: " in error
    assert 'TypedDict "TrackRow" has no key "file_sise"' in error


@pytest.mark.parametrize("module", [rows, sql])
def test_examples_of_the_statement_builder(module):
    """The examples in the docstrings are right."""
    assert doctest.testmod(module).attempted
    assert doctest.testmod(module).failed == 0
