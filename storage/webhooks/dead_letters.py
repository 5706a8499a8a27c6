"""Dead letters: deliveries that were given up. They can be listed and replayed, and are purged after a month."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from peewee import Expression

from storage.db.models import Webhook, WebhookDelivery
from storage.db.rows import DeadLetterRow
from storage.service import Service
from storage.webhooks.endpoints import find

DEAD_LETTER_AFTER = 86_400
"""Seconds after which the deliveries of an endpoint that accepts nothing become dead letters."""

MAX_ERROR_LENGTH = 255


def dead_letter(service: Service, deliveries: Expression, error: str) -> None:
    """Give up the pending ones of the deliveries that a condition selects."""
    query = WebhookDelivery.update(due_at=None, error=error[:MAX_ERROR_LENGTH])
    query.where(deliveries, WebhookDelivery.due_at.is_null(False)).execute(service.database)


def list_dead_letters(service: Service) -> list[DeadLetterRow]:
    """Return all dead letters, oldest first."""
    query = WebhookDelivery.select(WebhookDelivery, Webhook.id.alias("webhook_id")).join(Webhook)
    query = query.where(_is_dead_letter()).order_by(WebhookDelivery.seq)
    return cast(list[DeadLetterRow], list(query.dicts().execute(service.database)))


def count_dead_letters(service: Service) -> int:
    """Return the number of dead letters."""
    return int(WebhookDelivery.select().where(_is_dead_letter()).bind(service.database).count())


def replay(service: Service, ids: Sequence[str] | None = None, webhook_id: str | None = None) -> int:
    """Make dead letters due now: those with these `ids`, those of an endpoint, or all. Return their number.

    Those of a disabled endpoint stay dead letters. Raises WebhookNotFound.
    """
    query = WebhookDelivery.select(WebhookDelivery.id, WebhookDelivery.webhook).join(Webhook)
    query = query.where(_is_dead_letter(), Webhook.enabled)
    if ids is not None:
        query = query.where(WebhookDelivery.id.in_(ids))
    if webhook_id is not None:
        query = query.where(WebhookDelivery.webhook == find(service, webhook_id)["seq"])
    rows = list(query.tuples().execute(service.database))
    with service.database.atomic():
        for delivery_id, _ in rows:
            due = WebhookDelivery.update(due_at=0, attempts=0)
            due.where(WebhookDelivery.id == delivery_id, _is_dead_letter()).execute(service.database)
        for webhook_seq in {webhook_seq for _, webhook_seq in rows}:
            reset = Webhook.update(failures=0, failing_since=None, retry_at=0)
            reset.where(Webhook.seq == webhook_seq).execute(service.database)
    return len(rows)


def _is_dead_letter() -> Expression:
    return WebhookDelivery.due_at.is_null()
