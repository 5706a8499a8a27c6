"""`flask webhooks`: add, list, remove, test, parked, replay."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import click
import orjson
from flask.cli import with_appcontext

from commands.context import only_service, services
from storage import url_guard
from storage.clock import isoformat_utc, now
from storage.ids import new_uuid4
from storage.webhooks import dead_letters, delivery, endpoints

from .params import UUIDParam
from .tables import print_table


@click.group()
def webhooks() -> None:
    """Tell your back end what becomes of tracks and sessions. `flask worker` delivers."""


@webhooks.command()
@click.argument("url")
@click.option("--organization", type=UUIDParam(), help="Whose events. Without it: those of no organisation.")
@with_appcontext
def add(url: str, organization: str | None) -> None:
    """Send events to URL from now on. The secret that signs them is printed once, alone on standard output."""
    with only_service() as service:
        secret, row = endpoints.add(service, url, organization or "")
        try:
            target = url_guard.parse_webhook_url(url, service.settings.webhook_allow_private)
            url_guard.resolve_public(target.host, target.port, service.settings.webhook_allow_private)
        except (OSError, url_guard.AddressNotAllowed) as e:
            reason = str(e) if isinstance(e, url_guard.AddressNotAllowed) else "its name is not found"
            click.echo(f"It is kept, but nothing can be delivered there now: {reason}.", err=True)
    click.echo(f"Try it: flask webhooks test {row['id']}", err=True)
    click.echo(secret)


@webhooks.command("list")
@with_appcontext
def list_() -> None:
    """List the webhooks, and how much each is still to be told. Of a URL the host is shown: the rest may be secret."""
    lines: list[tuple[str, ...]] = [("ID", "ORGANIZATION", "STATE", "WAITING", "PARKED", "HOST")]
    with services() as found:
        for service in found:
            lines += [_line(row) for row in endpoints.list_webhooks(service)]
    print_table(lines)


def _line(row: endpoints.Row) -> tuple[str, ...]:
    state = "active" if row["enabled"] else "off"
    if row["enabled"] and row["failing_since"] is not None:
        state = f"failing since {isoformat_utc(row['failing_since'])}"
    host = urlsplit(row["url"]).netloc + (" (WEBHOOK_URL)" if row["from_environment"] else "")
    return (row["id"], row["organization_id"] or "-", state, str(row["waiting"]), str(row["dead_letters"]), host)


@webhooks.command()
@click.argument("webhook", type=UUIDParam())
@with_appcontext
def remove(webhook: str) -> None:
    """Send nothing more to WEBHOOK, not even what is waiting or parked."""
    with only_service() as service:
        row = endpoints.remove(service, webhook)
    click.echo(f"Removed {row['id']}.")


@webhooks.command()
@click.argument("webhook", type=UUIDParam())
@with_appcontext
def test(webhook: str) -> None:
    """Send a `webhook.test` event to WEBHOOK now, and say what came of it."""
    with only_service() as service:
        row = endpoints.find(service, webhook)
        url, secret = endpoints.endpoint(service, row)
    if not url:
        raise click.ClickException("This webhook is that of WEBHOOK_URL, and WEBHOOK_URL is not set.")
    body = orjson.dumps({"type": "webhook.test", "timestamp": isoformat_utc(now()), "data": {"webhook_id": row["id"]}})
    began = time.monotonic()
    try:
        status = delivery.send(url, secret, f"msg_{new_uuid4()}", body, service.settings.webhook_allow_private)
    except delivery.DeliveryError as e:
        raise click.ClickException(f"Not delivered to {urlsplit(url).hostname}: {e}.") from e
    milliseconds = round((time.monotonic() - began) * 1000)
    click.echo(f"{urlsplit(url).hostname} answered {status} after {milliseconds} ms.")


@webhooks.command("dead-letters")
@with_appcontext
def list_dead_letters() -> None:
    """List the deliveries that were given up after a day of trying. They are kept for a month."""
    lines: list[tuple[str, ...]] = [("DELIVERY", "WEBHOOK", "EVENT", "OF", "TRIES", "WHY")]
    with services() as found:
        for service in found:
            for row in dead_letters.list_dead_letters(service):
                of, tries = isoformat_utc(row["created_at"]) or "-", str(row["attempts"])
                lines.append((row["id"], row["webhook_id"], row["type"], of, tries, row["error"] or "-"))
    print_table(lines)


@webhooks.command()
@click.argument("delivery", nargs=-1)
@click.option("--webhook", type=UUIDParam(), help="All that is parked of this webhook.")
@click.option("--all", "every", is_flag=True, help="All that is parked.")
@with_appcontext
def replay(delivery: tuple[str, ...], webhook: str | None, every: bool) -> None:
    """Try parked deliveries again: each DELIVERY that `parked` lists, those of a --webhook, or --all."""
    if bool(delivery) + bool(webhook) + every != 1:
        raise click.UsageError("Give deliveries, or --webhook UUID, or --all.")
    with only_service() as service:
        count = dead_letters.replay(service, delivery or None, webhook)
    if count < (asked := len(set(delivery))):
        raise click.ClickException(f"{count} of {asked} will be tried again; no other is parked, and its webhook on.")
    click.echo(f"{count} will be tried again now.")
