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
@click.option("--origin", "origins", multiple=True, help="Site whose browsers upload. Default: CORS_ORIGINS.")
@click.option("--fix", is_flag=True, help="Add the bucket's CORS rule where it is missing; other rules stay.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each check.")
@with_appcontext
def doctor(origins: tuple[str, ...], fix: bool, as_json: bool) -> None:
    """Check the store and the database as the service and its clients use them.

    The checks send real requests, and remove all that they write. The exit status is 1 if something is missing that
    the configuration requires.
    """
    with only_service() as service:
        origins = origins or tuple(origin for origin in service.settings.cors_origins if origin != "*")
        checks = _print_checks(Doctor(service, origins), as_json)
        missing = [check.name.removeprefix("CORS for ") for check in checks if _cors_failed(check)]
        if missing and fix:
            service.bucket.set_cors(missing)
            click.echo(f"Added a CORS rule for {', '.join(missing)}. Checking again.", err=True)
            checks = _print_checks(Doctor(service, origins), as_json)
        elif missing:
            click.echo(json.dumps({"CORSRules": [cors.cors_rule(missing)]}, indent=2), err=True)
    if any(check.required and check.outcome != PASS for check in checks):
        sys.exit(1)


def _cors_failed(check: Check) -> bool:
    return check.name.startswith("CORS for ") and check.outcome == FAIL


def _print_checks(doctor: Doctor, as_json: bool) -> list[Check]:
    """Print each check as soon as it has run, and return all."""
    checks = []
    for check in doctor.run_checks():
        checks.append(check)
        if as_json:
            click.echo(json.dumps(check._asdict()))
        else:
            _print_check(check)
    return checks


def _print_check(check: Check) -> None:
    outcome = click.style(f"{check.outcome:<14}", fg=COLORS.get(check.outcome))
    optional = " (not required as configured)" if not check.required and check.outcome in (FAIL, UNSUPPORTED) else ""
    click.echo(f"{outcome} {check.name:<28} {check.detail}{optional}".rstrip())
    if check.advice:
        click.echo(f"{'':<15}-> {check.advice}")
