"""`flask create-key`, `flask list-keys`, `flask revoke-key`."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from flask.cli import with_appcontext
from marshmallow import ValidationError

import schemas
from commands.context import only_service, services
from commands.params import IntegerParam, ObjectParamBase, UUIDParam
from commands.tables import print_table
from storage import api_keys
from storage.clock import isoformat_utc, now
from storage.db.rows import ApiKeyRow, Rules

COLUMNS = (
    "PREFIX", "ROLE", "STATE", "EXPIRES", "ORGANIZATION", "COLLECTION", "RULES", "BYTES TODAY", "OPEN SESSIONS", "NAME",
)  # fmt: skip
SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class ExpiryParam(IntegerParam):
    """An expiry, converted to seconds since the epoch: a duration such as `90d`, or a date (UTC)."""

    name = "expiry"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the expiry in seconds since the epoch, or fail the command."""
        if isinstance(value, int):
            return value
        if duration := re.fullmatch(r"([0-9]{1,6})([mhdw])", value):
            return now() + int(duration[1]) * SECONDS[duration[2]]
        try:
            date = datetime.fromisoformat(value)
        except ValueError:
            self.fail("must be a duration such as 12h, 90d or 4w, or a date such as 2027-01-31.", param, ctx)
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())


class ObjectParam(ObjectParamBase):
    """A JSON object that a schema loads, or the path of a file with one."""

    def __init__(self, name: str, schema: type[schemas.RequestSchema]):
        self.name, self.schema = name, schema

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Return the object as it is loaded, or fail the command."""
        if isinstance(value, dict):
            return value
        try:
            text = value.encode() if value.lstrip().startswith("{") else Path(value).read_bytes()
            return self.schema().load(schemas.read_json(text))
        except OSError as e:
            self.fail(f"cannot be read: {e.strerror}.", param, ctx)
        except schemas.JSONError as e:
            self.fail(f"is not valid JSON: {e}.", param, ctx)
        except ValidationError as e:
            self.fail(" ".join(schemas.errors.flatten_messages(e.messages)), param, ctx)


@click.command("create-key")
@click.option("--name", required=True, help="Label of the key, to tell it from others.")
@click.option("--organization", type=UUIDParam(), help="Organization of the key. Default: none.")
@click.option("--collection", type=UUIDParam(), help="Collection of an uploader's key.")
@click.option(
    "--role", type=click.Choice([api_keys.FULL, api_keys.UPLOADER]), default=api_keys.FULL, show_default=True,
    help="'uploader' can only create upload sessions for one collection, and may be shipped in an app.",
)  # fmt: skip
@click.option("--expires", type=ExpiryParam(), help="Expiry: 12h, 90d, 4w, or a date (UTC). Default: never.")
@click.option(
    "--rules", type=ObjectParam("rules", schemas.Rules), metavar="FILE",
    help="Rules of the sessions that the key opens: a file with a JSON object, or the object itself.",
)  # fmt: skip
@click.option(
    "--page", type=ObjectParam("page", schemas.PageSchema), metavar="FILE",
    help="Page of the sessions that the key opens, unless they say otherwise: a file with a JSON object, or itself.",
)  # fmt: skip
@click.option(
    "--max-bytes-per-day", type=click.IntRange(1, 2**60), metavar="BYTES",
    help="Bytes that may be declared in the key's sessions on a day (UTC). Default: 1 TiB for an uploader, or none.",
)  # fmt: skip
@click.option(
    "--max-open-sessions", type=click.IntRange(1, 1_000_000), metavar="NUMBER",
    help="Open sessions that the key may have. Default: 1000 for an uploader, or none.",
)  # fmt: skip
@with_appcontext
def create_key(
    name: str,
    organization: str | None,
    collection: str | None,
    role: str,
    expires: int | None,
    rules: Rules | None,
    page: dict[str, Any] | None,
    max_bytes_per_day: int | None,
    max_open_sessions: int | None,
) -> None:
    """Create an API key. It is printed once, alone on standard output; the database has only its digest."""
    if not 1 <= len(name.strip()) <= 255 or not name.isprintable():
        raise click.BadParameter("must be 1 to 255 printable characters.", param_hint="--name")
    if (role == api_keys.UPLOADER) != (collection is not None):
        raise click.UsageError("--role uploader and --collection UUID must be given together.")
    with only_service() as service:
        key, row = api_keys.create(
            service,
            name.strip(),
            organization_id=organization or "",
            collection_id=collection,
            role=role,
            expires_at=expires,
            rules=rules,
            page=page,
            max_bytes_per_day=max_bytes_per_day,
            max_open_sessions=max_open_sessions,
        )
    revoke = f"{service.command} revoke-key {row['prefix']}"
    click.echo(f"Send it as 'Authorization: Bearer KEY'. To revoke it: {revoke}", err=True)
    click.echo(key)


@click.command("list-keys")
@with_appcontext
def list_keys() -> None:
    """List the API keys by their prefix. The keys themselves are not stored."""
    lines: list[tuple[str, ...]] = [COLUMNS]
    with services() as all_services:
        for service in all_services:
            opened = api_keys.count_open_sessions(service)
            lines += [_line(row, opened.get(row["seq"], 0)) for row in api_keys.list_keys(service)]
            if count := len(service.settings.api_keys):
                click.echo(f"Not listed: {count} in API_KEYS, with the 'full' role.", err=True)
    print_table(lines)


def _line(row: ApiKeyRow, opened: int) -> tuple[str, ...]:
    scope = (row["organization_id"] or "-", row["collection_id"] or "-")
    rules = ",".join(json.loads(row["rules"])) if row["rules"] else "-"
    used = row["used_bytes"] if row["used_day"] == now() // 86_400 else 0
    usage = (used, row["max_bytes_per_day"]), (opened, row["max_open_sessions"])
    limits = ["-" if limit is None else f"{number} of {limit}" for number, limit in usage]
    return (row["prefix"], row["role"], _state(row), _expiry(row["expires_at"]), *scope, rules, *limits, row["name"])


def _state(row: ApiKeyRow) -> str:
    if row["revoked_at"] is not None:
        return "revoked"
    if row["expires_at"] is not None and row["expires_at"] <= now():
        return "expired"
    return "active"


def _expiry(seconds: int | None) -> str:
    try:
        return isoformat_utc(seconds) or "never"
    except (ValueError, OverflowError, OSError):
        # A row that something else has written must not hide the others.
        return "after 9999"


@click.command("revoke-key")
@click.argument("key")
@with_appcontext
def revoke_key(key: str) -> None:
    """Revoke the API key with the prefix KEY (see list-keys). It stops working at once, in all workers."""
    with only_service() as service:
        row = api_keys.revoke(service, key)
    click.echo(f"Revoked {row['prefix']} ({row['name']}).")
