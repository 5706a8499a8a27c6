"""`flask doctor`."""

from __future__ import annotations

import json
import sys

import click
from flask.cli import with_appcontext

from commands.context import only_service
from storage.doctor import FAIL, PASS, UNSUPPORTED, Check, Doctor
from storage.s3 import cors

COLORS = {PASS: "green", FAIL: "red", UNSUPPORTED: "yellow"}


@click.command()
@click.option("--origin", "origins", multiple=True, help="A site whose browsers upload. Without it: CORS_ORIGINS.")
@click.option("--fix", is_flag=True, help="Set the bucket's CORS rule where it is missing. Other rules stay.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object for each check.")
@with_appcontext
def doctor(origins: tuple[str, ...], fix: bool, as_json: bool) -> None:
    """Look at the store and the database as the service and its clients use them.

    Real requests are sent, and all that they write is removed. The exit status is 1 where something is missing that
    the configuration needs.
    """
    with only_service() as service:
        asked = origins or tuple(origin for origin in service.settings.cors_origins if origin != "*")
        checks = _print_checks(Doctor(service, asked), as_json)
        lacking = [check.name.removeprefix("CORS for ") for check in checks if _cors_failed(check)]
        if lacking and fix:
            service.bucket.set_cors(lacking)
            click.echo(f"Set the bucket's CORS rule for {', '.join(lacking)}. Looking again.", err=True)
            checks = _print_checks(Doctor(service, asked), as_json)
        elif lacking:
            click.echo(json.dumps({"CORSRules": [cors.cors_rule(lacking)]}, indent=2), err=True)
    if any(check.needed and check.outcome != PASS for check in checks):
        sys.exit(1)


def _cors_failed(check: Check) -> bool:
    return check.name.startswith("CORS for ") and check.outcome == FAIL


def _print_checks(examined: Doctor, as_json: bool) -> list[Check]:
    """Every check, shown as soon as it is made."""
    checks = []
    for check in examined.run_checks():
        checks.append(check)
        if as_json:
            click.echo(json.dumps(check._asdict()))
            continue
        outcome = click.style(f"{check.outcome:<14}", fg=COLORS.get(check.outcome))
        optional = " (not needed as configured)" if not check.needed and check.outcome in (FAIL, UNSUPPORTED) else ""
        click.echo(f"{outcome} {check.name:<28} {check.seen}{optional}".rstrip())
        if check.advice:
            click.echo(f"{'':<15}-> {check.advice}")
    return checks
