"""Generate the reference tables in docs/ from the code: `make docs`, or `python -m dev.docs`.

A page marks the place of a table with `<!-- generated: NAME -->` and `<!-- end -->`. What stands between them is
replaced; everything else in the page is written by hand.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from app import create_app
from dev import store_tables
from schemas.base import RequestSchema
from schemas.rules import CODECS, CONTAINERS, COVER_TYPES, AudioRules, CoverRules
from storage import errors
from storage.errors import ServiceError
from storage.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
FILE_RULES = ROOT / "loadbay_client" / "file_rules.json"
FILE_RULES_SCRIPT = ROOT / "static" / "file-rules.js"
DOCS = ROOT / "docs"
BLOCK = re.compile(r"(<!-- generated: ([\w ]+) -->\n).*?(\n?<!-- end -->)", re.DOTALL)
COMMON_CODES = {"invalid_request", "method_not_allowed", "internal_error", "database_unavailable"}
"""Error codes that any endpoint may return; docs/api.md names them once."""


def settings_table() -> str:
    """Return the Markdown table of all settings: name, default, description."""
    rows = [
        (f"`{item.name.upper()}`", _default(item.default), item.metadata["description"]) for item in fields(Settings)
    ]
    return _table(("setting", "default", "description"), rows)


def _default(value: Any) -> str:
    if value is None:
        return "–"
    text = ",".join(value) if isinstance(value, tuple) else str(int(value) if isinstance(value, bool) else value)
    return f"`{text}`" if text else "–"


def error_table() -> str:
    """Return the Markdown table of all error codes, by HTTP status."""
    kinds = sorted(_error_classes(), key=lambda kind: (kind.status, kind.code))
    rows = [
        (str(kind.status), f"`{kind.code}`", f"{kind.retry_after} s" if kind.retry_after else "", kind.default_message)
        for kind in kinds
    ]
    return _table(("status", "`code`", "`Retry-After`", "default message"), rows)


def _error_classes() -> Iterator[type[ServiceError]]:
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, ServiceError):
            yield value


def failure_table() -> str:
    """Return the Markdown table of all codes of failures."""
    return _table(("code", "meaning"), [(f"`{code}`", text) for code, text in errors.FAILURES.items()])


def _rule_table(schema: type[RequestSchema]) -> str:
    """Return the Markdown table of the rules in one of their sections."""
    rows = [
        (f"`{name}`", f"`{json.dumps(field.metadata['example'])}`", field.metadata["description"])
        for name, field in schema().fields.items()
    ]
    return _table(("rule", "example", "meaning"), rows)


def _name_list(title: str, names: Sequence[str]) -> str:
    return textwrap.fill(f"{title}: {', '.join(f'`{name}`' for name in names)}.", 120)


def name_lists() -> str:
    """Return the names of containers and codecs that rules may have."""
    return f"{_name_list('Containers', CONTAINERS)}\n\n{_name_list('Codecs', CODECS)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)


@lru_cache(maxsize=1)
def operations() -> dict[str, dict[str, Any]]:
    """Return the operations of `/openapi.json` by their id."""
    config = {"S3_ENDPOINT": "http://127.0.0.1:8333", "S3_BUCKET": "tracks"}
    document = create_app(config).test_client().get("/openapi.json").get_json()
    return {operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()}


def error_codes(operation_id: str) -> str:
    """Return a line with the error codes of one endpoint, but for COMMON_CODES."""
    codes: list[str] = []
    for status, response in operations()[operation_id]["responses"].items():
        if status != "200":
            schema = response["content"]["application/json"]["schema"]
            codes += schema["allOf"][1]["properties"]["code"]["enum"]
    shown = [f"`{code}`" for code in dict.fromkeys(codes) if code not in COMMON_CODES]
    return textwrap.fill(f"Errors: {', '.join(shown)}." if shown else "Errors: only the common ones.", 120)


GENERATORS: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "errors": error_table,
    "failures": failure_table,
    "audio rules": lambda: _rule_table(AudioRules),
    "cover rules": lambda: _rule_table(CoverRules),
    "containers": name_lists,
    "cover types": lambda: _name_list("Types", COVER_TYPES),
    "store choices": lambda: store_tables.choices_table(_table),
    "store abilities": lambda: store_tables.abilities_table(_table),
    "store conformance": lambda: store_tables.conformance_table(_table),
}


def regenerate(text: str) -> str:
    """Return a page's `text` with every generated block up to date. Raises KeyError for an unknown block."""

    def replace(match: re.Match[str]) -> str:
        head, name = match[1], match[2]
        content = error_codes(name[len("errors of ") :]) if name.startswith("errors of ") else GENERATORS[name]()
        # A blank line ends the comment, so that Markdown reads what follows it.
        return f"{head}\n{content}\n\n<!-- end -->"

    return BLOCK.sub(replace, text)


def file_rules_script(script: str) -> str:
    """Return the script of the page with the client's rules for files, below its own head."""
    head = script.partition("export const")[0]
    return f"{head}export const FILE_RULES = {FILE_RULES.read_text().rstrip()};\n"


def main() -> None:
    """Write every page whose generated blocks have changed, and the page's copy of the client's rules for files."""
    FILE_RULES_SCRIPT.write_text(file_rules_script(FILE_RULES_SCRIPT.read_text()))
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text()
        if (current := regenerate(text)) != text:
            path.write_text(current)
            print(f"Updated {path.relative_to(DOCS.parent)}.")


if __name__ == "__main__":
    main()
