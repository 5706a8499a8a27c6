"""`flask doctor`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from functools import partial
from typing import Any

import click
from flask.cli import with_appcontext

from commands import conformance
from commands.context import only_service, raise_on_sigterm
from storage.clock import isoformat_utc
from storage.db.errors import DATABASE_ERRORS
from storage.doctor import FAIL, LIFECYCLE, PASS, SKIPPED, UNSUPPORTED, Check, Doctor
from storage.errors import StorageRejected, StorageUnavailable
from storage.measuring import stores
from storage.measuring.probing import describe
from storage.s3 import cors, lifecycle
from storage.s3.policy import iam_policy, seaweedfs_identities
from storage.service import Service

LIFECYCLE_PAUSES = (0.1, 0.2, 0.5, 1, 2, 4)
"""Seconds between two looks for rules that were added."""

POLICIES = {"iam": iam_policy, "seaweedfs": seaweedfs_identities}
CONFORMANCE = "conformance: "
"""Beginning of the names of these checks."""

ADVICE = "Do not use this store for uploads before this is understood: report it with the output of --json."
COLORS = {PASS: "green", FAIL: "red", UNSUPPORTED: "yellow"}


@click.command()
@click.option("--origin", "origins", multiple=True, help="Site whose browsers upload. Default: CORS_ORIGINS.")
@click.option(
    "--fix", is_flag=True, help="Add the bucket's CORS and lifecycle rules where they are missing; other rules stay."
)
@click.option(
    "--conformance", "conforms", is_flag=True,
    help="Also upload some 60 files, right and wrong ones, and check what becomes of them (25 MiB).",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each check.")
@click.option(
    "--policy",
    type=click.Choice(["iam", "seaweedfs"]),
    is_flag=False,
    flag_value="iam",
    help="Print what the store's key must be allowed, and check nothing: an IAM policy, or SeaweedFS's identity.",
)
@with_appcontext
def doctor(origins: tuple[str, ...], fix: bool, conforms: bool, as_json: bool, policy: str | None) -> None:
    """Check the store and the database as the service and its clients use them.

    The checks send real requests, and remove all that they write. The exit status is 1 if something is missing that
    the configuration requires.
    """
    raise_on_sigterm()
    with only_service() as service:
        if policy is not None:
            click.echo(json.dumps(POLICIES[policy](service.settings), indent=2))
            return
        origins = origins or tuple(origin for origin in service.settings.cors_origins if origin != "*")
        checks = _print_checks(Doctor(service, origins), as_json, conforms)
        failed = {check.name for check in checks if check.outcome == FAIL}
        missing = [name.removeprefix("CORS for ") for name in sorted(failed) if name.startswith("CORS for ")]
        rules = Doctor(service).lifecycle_rules() if LIFECYCLE in failed else []
        if fix and (missing or rules):
            _fix(service, missing, rules)
            checks = _print_checks(Doctor(service, origins), as_json)
        else:
            _print_rules(missing, rules)
    if any(check.required and check.outcome != PASS for check in checks):
        sys.exit(1)


def _fix(service: Service, origins: Sequence[str], rules: Sequence[dict[str, Any]]) -> None:
    """Add the bucket's rules that are missing; others stay. A store that does not take them is no end."""
    if origins:
        _add(f"a CORS rule for {', '.join(origins)}", partial(service.bucket.set_cors, origins))
    if rules:
        prefix = rules[0]["Filter"]["Prefix"]
        _add(f"lifecycle rules for {prefix}", partial(_set_lifecycle_rules, service, rules))


def _set_lifecycle_rules(service: Service, rules: Sequence[dict[str, Any]]) -> None:
    """Add lifecycle rules, and wait until the store tells them: for a moment it may answer with the earlier ones.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/how-to-set-lifecycle-configuration-intro.html
    """
    service.bucket.set_lifecycle_rules(rules)
    for pause in LIFECYCLE_PAUSES:
        if not lifecycle.missing_rules(service.bucket.lifecycle(), rules):
            return
        time.sleep(pause)


def _add(name: str, add: Callable[[], None]) -> None:
    try:
        add()
    except (StorageRejected, StorageUnavailable) as e:
        click.echo(f"The store does not take {name} ({describe(e)}). Checking again.", err=True)
    else:
        click.echo(f"Added {name}. Checking again.", err=True)


def _print_rules(origins: Sequence[str], rules: Sequence[dict[str, Any]]) -> None:
    """Print the rules that are missing, in the format of the AWS CLI."""
    if origins:
        click.echo(json.dumps({"CORSRules": [cors.cors_rule(origins)]}, indent=2), err=True)
    if rules:
        click.echo(json.dumps({"Rules": list(rules)}, indent=2), err=True)


def _print_checks(doctor: Doctor, as_json: bool, conforms: bool = False) -> list[Check]:
    """Print each check as soon as it has run, and return all."""
    checks: list[Check] = []
    # Closed at once by Ctrl-C or SIGTERM: what was written is removed then.
    with closing(_run_checks(doctor, conforms, checks)) as running:
        for check in running:
            checks.append(check)
            if as_json:
                click.echo(json.dumps(check._asdict()))
            else:
                _print_check(check)
    if as_json:
        _print_measurement(doctor.service, checks)
    return checks


def _run_checks(doctor: Doctor, conforms: bool, results: Sequence[Check]) -> Generator[Check, None, None]:
    """Yield each check once it has run; those of conformance only if `results`, the others, are as required."""
    yield from doctor.run_checks()
    if not conforms:
        return
    known = stores.read(doctor.service)
    if known is None or any(check.required and check.outcome != PASS for check in results):
        yield Check(f"{CONFORMANCE}all", SKIPPED, "the checks above must pass first", "", required=True)
        return
    with closing(conformance.run(doctor.service, known[0])) as observations:
        for name, ok, detail, _ in observations:
            yield Check(f"{CONFORMANCE}{name}", PASS if ok else FAIL, detail, "" if ok else ADVICE, required=True)


def _print_measurement(service: Service, checks: Sequence[Check]) -> None:
    """Print what is known of the store, and the ways that were chosen, as a JSON object."""
    with suppress(*DATABASE_ERRORS):
        if (known := stores.read(service)) is not None:
            abilities, measured_at = known
            content = {"abilities": abilities.json(), "choices": asdict(service.choices)}
            if outcomes := _outcomes(checks):
                content["conformance"] = outcomes
            click.echo(json.dumps({"store": {**content, "measured_at": isoformat_utc(measured_at)}}))


def _outcomes(checks: Sequence[Check]) -> dict[str, str]:
    """Return the outcome of each check of conformance, with its detail where it has one."""
    return {
        check.name.removeprefix(CONFORMANCE): check.outcome + (f": {check.detail}" if check.detail else "")
        for check in checks
        if check.name.startswith(CONFORMANCE)
    }


def _print_check(check: Check) -> None:
    outcome = click.style(f"{check.outcome:<14}", fg=COLORS.get(check.outcome))
    optional = " (not required as configured)" if not check.required and check.outcome in (FAIL, UNSUPPORTED) else ""
    click.echo(f"{outcome} {check.name:<28} {check.detail}{optional}".rstrip())
    if check.advice:
        click.echo(f"{'':<15}-> {check.advice}")
