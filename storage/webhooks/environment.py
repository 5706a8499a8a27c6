"""The endpoints of settings: that of WEBHOOK_URL and WEBHOOK_SECRET, and that of the signals.

The row of WEBHOOK_URL has neither URL nor secret, so that both can change with a restart.
"""

from __future__ import annotations

from contextlib import suppress

from peewee import IntegrityError

from storage.db.models import Webhook, WebhookDelivery
from storage.service import Service
from storage.webhooks import signals
from storage.webhooks.dead_letters import dead_letter
from storage.webhooks.endpoints import insert


def sync_endpoints(service: Service) -> list[str]:
    """Enable the endpoints of WEBHOOK_URL and SIGNALS, or disable them if unset. Return a line for each change."""
    return sync_env_webhook(service) + sync_signals(service)


def sync_signals(service: Service) -> list[str]:
    """Enable the endpoint of the signals, or disable it if SIGNALS is unset. Return a line for a change."""
    enabled, of_signals = service.settings.signals, Webhook.url == signals.ENDPOINT
    changed = Webhook.update(enabled=enabled).where(of_signals, Webhook.enabled != enabled).execute(service.database)
    if not enabled:
        # Its events can be replayed once SIGNALS is set again.
        endpoint = Webhook.select(Webhook.seq).where(of_signals)
        dead_letter(service, WebhookDelivery.webhook.in_(endpoint), "SIGNALS is not set")
    elif not Webhook.select().where(of_signals).bind(service.database).exists():
        # Of several workers that start at once the database lets one insert the row.
        with suppress(IntegrityError):
            insert(service, "", signals.ENDPOINT, signals.ENDPOINT, webhook_id=signals.ENDPOINT_ID)
            changed = 1
    return [f"{'Enabled' if enabled else 'Disabled'} the signals."] if changed else []


def sync_env_webhook(service: Service) -> list[str]:
    """Enable the endpoint of WEBHOOK_URL, or disable it if that is unset. Return a line for each change."""
    enabled, from_environment = bool(service.settings.webhook_url), Webhook.url.is_null()
    changed = (
        Webhook.update(enabled=enabled)
        .where(from_environment, Webhook.enabled != enabled)
        .execute(service.database)
    )  # fmt: skip
    if not enabled:
        # Its events can be replayed once a deploy sets WEBHOOK_URL again.
        endpoint = Webhook.select(Webhook.seq).where(from_environment)
        dead_letter(service, WebhookDelivery.webhook.in_(endpoint), "WEBHOOK_URL is not set")
    elif not Webhook.select().where(from_environment).bind(service.database).exists():
        # Of several workers that start at once the database lets one insert the row.
        with suppress(IntegrityError):
            insert(service, organization_id="", url=None, secret=None)
            changed = 1
    return [f"{'Enabled' if enabled else 'Disabled'} the webhook of WEBHOOK_URL."] if changed else []
