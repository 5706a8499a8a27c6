"""The webhook of WEBHOOK_URL and WEBHOOK_SECRET."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from peewee import IntegrityError

from storage.db.models import Webhook, WebhookDelivery
from storage.service import Service
from storage.webhooks.dead_letters import dead_letter
from storage.webhooks.endpoints import insert

Row = dict[str, Any]


def sync_env_webhook(service: Service) -> list[str]:
    """Keep the webhook of WEBHOOK_URL, or let it rest where there is none. Returns a sentence for each thing done."""
    wanted, own = bool(service.settings.webhook_url), Webhook.url.is_null()
    changed = Webhook.update(enabled=wanted).where(own, Webhook.enabled != wanted).execute(service.database)
    if not wanted:
        # Nobody will take it; a deploy that names a receiver again may replay it.
        of_own = WebhookDelivery.webhook.in_(Webhook.select(Webhook.seq).where(own))
        dead_letter(service, of_own, "WEBHOOK_URL is not set")
    elif not Webhook.select().where(own).bind(service.database).exists():
        # Another worker that begins at the same moment may be faster; the database lets one of them.
        with suppress(IntegrityError):
            changed = bool(insert(service, organization_id="", url=None, secret=None))
    return [f"Events go to WEBHOOK_URL {'from now on' if wanted else 'no more'}."] if changed else []
