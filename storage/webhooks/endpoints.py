"""Webhooks, and the outbox of what they are still to be told.

The database writes the outbox (migrations/0003), so that an event is kept exactly if its change is. A delivery is
claimed by a conditional update that sets its next try ahead: whoever claims it has that long, and if he dies the next
one tries again. So every event comes at least once, and the receiver knows a repeated one by its id. What is
delivered is removed; what is refused for a day is parked, to be listed and replayed.

Webhooks cannot see each other: one that fails is left alone for a while, and only its own events wait.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

from peewee import fn

from storage import url_guard
from storage.clock import now as clock_now
from storage.db.models import Webhook, WebhookDelivery
from storage.errors import InvalidRequest, WebhookNotFound
from storage.ids import new_uuid4
from storage.service import Service

Row = dict[str, Any]


def add(service: Service, url: str, organization_id: str = "") -> tuple[str, Row]:
    """Tell `url` of an organisation's events from now on; returns the secret, and its row. Raises InvalidRequest."""
    url_guard.parse_webhook_url(url, service.settings.webhook_allow_private)
    secret = f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"
    return secret, insert(service, organization_id=organization_id, url=url, secret=secret)


def insert(service: Service, **values: object) -> Row:
    """Insert a webhook's row and return it."""
    row = {"id": new_uuid4(), "enabled": True, "created_at": clock_now(), "failures": 0, "retry_at": 0, **values}
    Webhook.insert(row).execute(service.database)
    return row


def find(service: Service, webhook_id: str) -> Row:
    """A webhook's row. Raises WebhookNotFound."""
    for row in Webhook.select().where(Webhook.id == webhook_id).dicts().execute(service.database):
        return dict(row)
    raise WebhookNotFound


def remove(service: Service, webhook_id: str) -> Row:
    """Tell a webhook nothing any more, not even what is waiting; returns its row. Raises WebhookNotFound."""
    row = find(service, webhook_id)
    if row["url"] is None and service.settings.webhook_url:
        raise InvalidRequest("This webhook is that of WEBHOOK_URL: unset it instead.")
    Webhook.delete().where(Webhook.id == webhook_id).execute(service.database)
    return row


def list_webhooks(service: Service) -> Iterator[Row]:
    """The webhooks, each with what it is still to be told: `waiting` and `parked` deliveries."""
    counts = fn.COUNT(WebhookDelivery.due_at), fn.COUNT(WebhookDelivery.id)
    query = Webhook.select(Webhook, counts[0].alias("waiting"), counts[1].alias("all"))
    query = query.left_outer_join(WebhookDelivery).group_by(Webhook.seq).order_by(Webhook.seq)
    for row in list(query.dicts().execute(service.database)):
        url, _ = endpoint(service, row)
        yield {**row, "url": url, "from_environment": row["url"] is None, "dead_letters": row["all"] - row["waiting"]}


def endpoint(service: Service, row: Mapping[str, Any]) -> tuple[str, str]:
    """The URL and the secret of a webhook; both are '' for that of an environment which has none."""
    if row["url"] is None:
        return service.settings.webhook_url, service.settings.webhook_secret
    return row["url"], row["secret"]
