"""Dead letters: deliveries that were given up, to be listed, replayed and purged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from storage.clock import now as clock_now
from storage.db.models import Webhook, WebhookDelivery
from storage.service import Service
from storage.webhooks.endpoints import find

Row = dict[str, Any]

DEAD_LETTER_AFTER = 86_400
"""Seconds after which a webhook that accepts nothing has its waiting deliveries dead-lettered."""

DEAD_LETTER_TTL = 30 * 86_400
"""Seconds that a dead letter is kept."""


def dead_letter(service: Service, which: Any, reason: str) -> None:
    query = WebhookDelivery.update(due_at=None, error=reason[:255]).where(which, WebhookDelivery.due_at.is_null(False))
    query.execute(service.database)


def list_dead_letters(service: Service) -> Iterator[Row]:
    """Deliveries that were given up, the oldest first, each with its `webhook_id`."""
    query = WebhookDelivery.select(WebhookDelivery, Webhook.id.alias("webhook_id")).join(Webhook)
    yield from list(query.where(_is_dead_letter()).order_by(WebhookDelivery.seq).dicts().execute(service.database))


def count_dead_letters(service: Service) -> int:
    """How many deliveries are parked."""
    return int(WebhookDelivery.select().where(_is_dead_letter()).bind(service.database).count())


def replay(service: Service, ids: Sequence[str] | None = None, webhook_id: str | None = None) -> int:
    """Let parked deliveries be tried again, from now: those with these `ids`, those of a webhook, or all.

    Those of a webhook that is off stay parked. Returns how many will be tried.
    """
    found = WebhookDelivery.select(WebhookDelivery.id, WebhookDelivery.webhook).join(Webhook)
    found = found.where(_is_dead_letter(), Webhook.enabled)
    if ids is not None:
        found = found.where(WebhookDelivery.id.in_(ids))
    if webhook_id is not None:
        found = found.where(WebhookDelivery.webhook == find(service, webhook_id)["seq"])
    rows = list(found.tuples().execute(service.database))
    with service.database.atomic():
        for id_, _ in rows:
            again = WebhookDelivery.update(due_at=0, attempts=0).where(WebhookDelivery.id == id_, _is_dead_letter())
            again.execute(service.database)
        for seq in {seq for _, seq in rows}:
            fresh = Webhook.update(failures=0, failing_since=None, retry_at=0).where(Webhook.seq == seq)
            fresh.execute(service.database)
    return len(rows)


def _is_dead_letter() -> Any:
    return WebhookDelivery.due_at.is_null()


def purge_dead_letters(service: Service) -> int:
    """Remove what has been parked for a month; returns how many."""
    old = WebhookDelivery.created_at <= clock_now() - DEAD_LETTER_TTL - DEAD_LETTER_AFTER
    return int(WebhookDelivery.delete().where(_is_dead_letter(), old).execute(service.database))
