"""`flask create-key`, `flask list-keys`, `flask revoke-key`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import click
from flask.cli import with_appcontext

from commands.context import only_service, services
from storage import api_keys
from storage.clock import isoformat_utc, now

from .params import UUIDParam
from .tables import print_table

UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class ExpiryParam(click.ParamType[int]):
    """A moment to come, in seconds since the epoch: `90d` from now, or a date (UTC)."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The moment; the command fails where it is none."""
        if isinstance(value, int):
            return value
        if found := re.fullmatch(r"([0-9]{1,6})([mhdw])", value):
            return now() + int(found[1]) * UNITS[found[2]]
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail("takes a time from now such as 12h, 90d or 4w, or a date such as 2027-01-31.", param, ctx)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


@click.command("create-key")
@click.option("--name", required=True, help="What the key is for, to tell it from others.")
@click.option("--organization", type=UUIDParam(), help="Whose sessions it opens. Without it: those of no organisation.")
@click.option("--collection", type=UUIDParam(), help="The one collection of an uploader's key.")
@click.option(
    "--role", type=click.Choice([api_keys.FULL, api_keys.UPLOADER]), default=api_keys.FULL, show_default=True,
    help="'uploader' only opens sessions for its collection, and may be shipped in an app.",
)  # fmt: skip
@click.option("--expires", type=ExpiryParam(), help="When it stops working: 12h, 90d, 4w, or a date (UTC).")
@with_appcontext
def create_key(name: str, organization: str | None, collection: str | None, role: str, expires: int | None) -> None:
    """Make an API key. It is printed once, alone on standard output, and kept nowhere."""
    if not 1 <= len(name.strip()) <= 255 or not name.isprintable():
        raise click.BadParameter("takes 1 to 255 printable characters.", param_hint="--name")
    if (role == api_keys.UPLOADER) != (collection is not None):
        raise click.UsageError("--role uploader and --collection UUID go together.")
    with only_service() as service:
        key, row = api_keys.create(
            service, name.strip(),
            organization_id=organization or "", collection_id=collection, role=role, expires_at=expires,
        )  # fmt: skip
    click.echo(f"Send it as 'Authorization: Bearer KEY'. Revoke it: flask revoke-key {row['prefix']}", err=True)
    click.echo(key)


@click.command("list-keys")
@with_appcontext
def list_keys() -> None:
    """List the API keys. The keys themselves are known to their owners alone."""
    lines: list[tuple[str, ...]] = [("LOOKUP", "ROLE", "STATE", "EXPIRES", "ORGANIZATION", "COLLECTION", "NAME")]
    with services() as found:
        for service in found:
            lines += [_row(row) for row in api_keys.list_keys(service)]
            if service.settings.api_keys:
                click.echo(f"API_KEYS has {len(service.settings.api_keys)} more, of full access.", err=True)
    print_table(lines)


def _row(row: api_keys.Row) -> tuple[str, ...]:
    state = "active"
    if row["revoked_at"] is not None:
        state = "revoked"
    elif row["expires_at"] is not None and row["expires_at"] <= now():
        state = "expired"
    places = (row["organization_id"] or "-", row["collection_id"] or "-", row["name"])
    return (row["prefix"], row["role"], state, _moment(row["expires_at"]), *places)


def _moment(seconds: int | None) -> str:
    try:
        return isoformat_utc(seconds) or "never"
    except (ValueError, OverflowError, OSError):
        # Whoever wrote it there, the other keys are to be seen.
        return "after 9999"


@click.command("revoke-key")
@click.argument("key")
@with_appcontext
def revoke_key(key: str) -> None:
    """Revoke KEY, given by the look-up part that list-keys shows. It stops working at once, in every worker."""
    with only_service() as service:
        row = api_keys.revoke(service, key)
    click.echo(f"Revoked {row['prefix']} ({row['name']}).")
