"""Tables of docs/stores.md, from what `flask doctor --conformance --json` has said of each store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from storage.s3.abilities import Abilities

RECORDS = Path(__file__).resolve().parent.parent / "docs" / "stores"
"""Folder of the records: one JSON object for each store, as the last line of `flask doctor --json`, with its name."""

NOT_COMPARED = ("clock_skew", "region", "cors")
"""Abilities of the machine, the settings or the bucket rather than of the store."""

Record = Mapping[str, Any]
Table = Callable[[Sequence[str], Sequence[Sequence[str]]], str]


def records() -> list[Record]:
    """Return the records by the name of the store."""
    contents = [json.loads(path.read_text()) for path in RECORDS.glob("*.json")]
    return sorted(contents, key=lambda record: str(record["name"]).lower())


def choices_table(table: Table) -> str:
    """Return the Markdown table of the choices for each store."""
    head = ("store", "measured on", "write-once PUT", "covers", "checksums", "copies", "conformance")
    return table(head, [_choices_row(record) for record in records()])


def _choices_row(record: Record) -> list[str]:
    choices = record["choices"]
    return [
        f"{record['name']} {record['version']}",
        str(record["measured_at"])[:10],
        "to `path`" if choices["write_once"] else "to staging",
        str(choices["cover_upload"]),
        "signed, told and believed" if choices["trusted_checksums"] else "read",
        "trusted" if choices["trusts_copy"] else "inspected",
        _passed(record["conformance"]),
    ]


def _passed(outcomes: Mapping[str, str]) -> str:
    passed = [name for name, outcome in outcomes.items() if outcome.startswith("pass")]
    return f"{len(passed)} of {len(outcomes)}"


def abilities_table(table: Table) -> str:
    """Return the Markdown table of the abilities of each store."""
    stores = records()
    names = [item.name for item in fields(Abilities) if item.name not in NOT_COMPARED]
    rows = [[f"`{name}`", *(_ability(record["abilities"].get(name)) for record in stores)] for name in names]
    return table(("ability", *(str(record["name"]) for record in stores)), rows)


def _ability(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "unknown" if value is None else "yes" if value else "no"


def conformance_table(table: Table) -> str:
    """Return the Markdown table of what came of each check whose outcome says more than that it passed."""
    stores = records()
    checks = [name for name in stores[0]["conformance"] if any(_detail(record, name) for record in stores)]
    rows = [[name, *(_detail(record, name) or "passed" for record in stores)] for name in checks]
    return table(("tried", *(str(record["name"]) for record in stores)), rows)


def _detail(record: Record, name: str) -> str:
    outcome, _, detail = str(record["conformance"].get(name, "")).partition(": ")
    return detail if outcome == "pass" else outcome
