"""The endpoints that receive events: adding, listing and removing them."""

from __future__ import annotations

import secrets
from base64 import b64encode
from typing import cast

from peewee import fn

from storage.clock import now as clock_now
from storage.db.models import Webhook, WebhookDelivery
from storage.db.rows import WebhookRow, WebhookSummary
from storage.errors import InvalidRequest, WebhookNotFound
from storage.http import url_guard
from storage.ids import new_uuid4
from storage.service import Service
from storage.webhooks import signals


def add(service: Service, url: str, organization_id: str = "") -> tuple[str, WebhookRow]:
    """Add an endpoint for an organization's events; return its secret and its row. Raises InvalidRequest."""
    url_guard.parse_webhook_url(url, service.settings.webhook_allow_private)
    secret = f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"
    return secret, find(service, insert(service, organization_id, url, secret))


def insert(
    service: Service, organization_id: str, url: str | None, secret: str | None, webhook_id: str | None = None
) -> str:
    """Insert an endpoint's row and return its id.

    Raises peewee's IntegrityError for a second one without a URL, or with the same `webhook_id`.
    """
    webhook_id = webhook_id or new_uuid4()
    Webhook.insert(
        id=webhook_id,
        organization_id=organization_id,
        url=url,
        secret=secret,
        enabled=True,
        created_at=clock_now(),
        failures=0,
        retry_at=0,
    ).execute(service.database)
    return webhook_id


def find(service: Service, webhook_id: str) -> WebhookRow:
    """Return an endpoint's row. Raises WebhookNotFound."""
    for row in Webhook.select().where(Webhook.id == webhook_id).dicts().execute(service.database):
        return cast(WebhookRow, row)
    raise WebhookNotFound


def remove(service: Service, webhook_id: str) -> None:
    """Remove an endpoint and its deliveries, dead letters included. Raises WebhookNotFound, InvalidRequest."""
    row = find(service, webhook_id)
    if row["url"] is None and service.settings.webhook_url:
        raise InvalidRequest("This webhook is configured by WEBHOOK_URL: unset that instead.")
    if row["url"] == signals.ENDPOINT and service.settings.signals:
        raise InvalidRequest("The signals are configured by SIGNALS: unset that instead.")
    Webhook.delete().where(Webhook.id == webhook_id).execute(service.database)


def list_webhooks(service: Service) -> list[WebhookSummary]:
    """Return the endpoints, oldest first, each with the number of its pending deliveries and dead letters."""
    # COUNT leaves out NULL: a dead letter has no `due_at`.
    pending, total = fn.COUNT(WebhookDelivery.due_at), fn.COUNT(WebhookDelivery.id)
    query = Webhook.select(Webhook, pending.alias("pending"), (total - pending).alias("dead_letters"))
    query = query.left_outer_join(WebhookDelivery).group_by(Webhook.seq).order_by(Webhook.seq)
    return [_summary(service, row) for row in list(query.dicts().execute(service.database))]


def _summary(service: Service, row: dict[str, int]) -> WebhookSummary:
    webhook = cast(WebhookRow, row)
    return {
        "id": webhook["id"],
        "organization_id": webhook["organization_id"],
        "url": endpoint(service, webhook)[0],
        "enabled": webhook["enabled"],
        "failing_since": webhook["failing_since"],
        "from_environment": webhook["url"] is None,
        "pending": row["pending"],
        "dead_letters": row["dead_letters"],
    }


def endpoint(service: Service, row: WebhookRow) -> tuple[str, str]:
    """Return the URL and the secret of an endpoint. Both are '' for that of WEBHOOK_URL if this is unset."""
    if row["url"] is None:
        return service.settings.webhook_url, service.settings.webhook_secret
    return row["url"], row["secret"] or ""
