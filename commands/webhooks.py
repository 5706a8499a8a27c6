"""`flask webhooks`: add, list, remove, test, dead-letters, replay."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import click
import orjson
from flask.cli import with_appcontext

from commands.context import only_service, services
from commands.params import UUIDParam
from commands.tables import print_table
from storage.clock import isoformat_utc, now
from storage.db.rows import WebhookSummary
from storage.http import url_guard
from storage.ids import new_uuid4
from storage.service import Service
from storage.webhooks import dead_letters, delivery, endpoints, signals


@click.group()
def webhooks() -> None:
    """Manage webhooks, which receive the events of tracks and sessions. `flask worker` delivers them."""


@webhooks.command()
@click.argument("url")
@click.option("--organization", type=UUIDParam(), help="Organization whose events are sent. Default: none.")
@with_appcontext
def add(url: str, organization: str | None) -> None:
    """Send events to URL. The secret that signs them is printed once, alone on standard output."""
    with only_service() as service:
        secret, row = endpoints.add(service, url, organization or "")
        if reason := _unreachable_reason(service, url):
            click.echo(f"Saved, but currently unreachable: {reason}.", err=True)
    click.echo(f"Test it with: {service.command} webhooks test {row['id']}", err=True)
    click.echo(secret)


def _unreachable_reason(service: Service, url: str) -> str | None:
    allow_private = service.settings.webhook_allow_private
    target = url_guard.parse_webhook_url(url, allow_private)
    try:
        url_guard.resolve_public(target.host, target.port, allow_private)
    except url_guard.AddressNotAllowed as e:
        return str(e)
    except OSError:
        return "host not found"
    return None


@webhooks.command("list")
@with_appcontext
def list_webhooks() -> None:
    """List the webhooks with their pending deliveries. Of each URL only the host is shown: the rest may be secret."""
    lines: list[tuple[str, ...]] = [("ID", "ORGANIZATION", "STATE", "PENDING", "DEAD LETTERS", "HOST")]
    with services() as all_services:
        for service in all_services:
            lines += [_line(webhook) for webhook in endpoints.list_webhooks(service)]
    print_table(lines)


def _line(webhook: WebhookSummary) -> tuple[str, ...]:
    state = "active" if webhook["enabled"] else "disabled"
    if webhook["enabled"] and webhook["failing_since"] is not None:
        state = f"failing since {isoformat_utc(webhook['failing_since'])}"
    host = urlsplit(webhook["url"]).netloc + (" (WEBHOOK_URL)" if webhook["from_environment"] else "")
    host = "(SIGNALS)" if webhook["url"] == signals.ENDPOINT else host
    counts = (str(webhook["pending"]), str(webhook["dead_letters"]))
    return (webhook["id"], webhook["organization_id"] or "-", state, *counts, host)


@webhooks.command()
@click.argument("webhook", type=UUIDParam())
@with_appcontext
def remove(webhook: str) -> None:
    """Remove WEBHOOK with its pending deliveries and dead letters."""
    with only_service() as service:
        endpoints.remove(service, webhook)
    click.echo(f"Removed {webhook}.")


@webhooks.command()
@click.argument("webhook", type=UUIDParam())
@with_appcontext
def test(webhook: str) -> None:
    """Send a `webhook.test` event to WEBHOOK and print the result."""
    with only_service() as service:
        row = endpoints.find(service, webhook)
        url, secret = endpoints.endpoint(service, row)
    if not url:
        raise click.ClickException("This webhook is configured by WEBHOOK_URL, which is not set.")
    if url == signals.ENDPOINT:
        raise click.ClickException("Signals are sent by the worker, in its own process.")
    body = orjson.dumps({"type": "webhook.test", "timestamp": isoformat_utc(now()), "data": {"webhook_id": row["id"]}})
    started, host = time.monotonic(), urlsplit(url).hostname
    try:
        settings = service.settings
        allow_private, proxy = settings.webhook_allow_private, settings.webhook_proxy or None
        status = delivery.send(url, secret, f"msg_{new_uuid4()}", body, allow_private, proxy)
    except delivery.DeliveryError as e:
        raise click.ClickException(f"Not delivered to {host}: {e}.") from e
    click.echo(f"Delivered to {host}: status {status} after {time.monotonic() - started:.2f} s.")


@webhooks.command("dead-letters")
@with_appcontext
def list_dead_letters() -> None:
    """List the dead letters: deliveries that failed for a day. They are purged after a month."""
    lines: list[tuple[str, ...]] = [("DELIVERY", "WEBHOOK", "EVENT", "CREATED", "ATTEMPTS", "ERROR")]
    with services() as all_services:
        for service in all_services:
            for row in dead_letters.list_dead_letters(service):
                created, attempts = isoformat_utc(row["created_at"]) or "-", str(row["attempts"])
                lines.append((row["id"], row["webhook_id"], row["type"], created, attempts, row["error"] or "-"))
    print_table(lines)


@webhooks.command()
@click.argument("delivery", nargs=-1)
@click.option("--webhook", type=UUIDParam(), help="Replay the dead letters of this webhook.")
@click.option("--all", "replay_all", is_flag=True, help="Replay all dead letters.")
@with_appcontext
def replay(delivery: tuple[str, ...], webhook: str | None, replay_all: bool) -> None:
    """Deliver dead letters again: each DELIVERY (see dead-letters), those of a --webhook, or --all."""
    if bool(delivery) + bool(webhook) + replay_all != 1:
        raise click.UsageError("Give either deliveries, or --webhook UUID, or --all.")
    with only_service() as service:
        count = dead_letters.replay(service, delivery or None, webhook)
    if count < (total := len(set(delivery))):
        raise click.ClickException(
            f"Requeued {count} of {total} deliveries; the others are not dead-lettered or their webhook is disabled."
        )
    click.echo(f"Requeued {count} {'delivery' if count == 1 else 'deliveries'}.")
