"""The outbox: claiming deliveries that are due, and recording their results. See storage/webhooks for the whole."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple, cast

import orjson
from peewee import fn

from storage.clock import isoformat_utc
from storage.clock import now as clock_now
from storage.db import sql
from storage.db.models import Webhook, WebhookDelivery
from storage.db.rows import DueDelivery, WebhookRow, columns
from storage.ids import new_uuid4, uuid_to_index
from storage.service import Service
from storage.webhooks.dead_letters import DEAD_LETTER_AFTER, MAX_ERROR_LENGTH, dead_letter
from storage.webhooks.endpoints import endpoint
from storage.webhooks.events import EVENTS

LEASE_SECONDS = 90
"""Seconds that a claim is valid: more than a delivery and a slow DNS lookup take together."""

RETRY_DELAYS = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 36_000)
"""The backoff: seconds before each retry, a day and some minutes in all. After the last it is a dead letter."""

MAX_ENDPOINT_PAUSE = 300
"""Seconds that a failing endpoint is paused, at most."""

MAX_IN_FLIGHT = 4
"""Concurrent deliveries to one endpoint, in each worker, as long as it accepts them."""

BLOCKING_ATTEMPTS = 5
"""Attempts after which a failing event of a track no longer delays `upload_session.completed`."""


# Statements of every delivery: peewee would take longer to build them than the database to run them.
WEBHOOK_COLUMNS, DUE_COLUMNS = columns(WebhookRow), columns(DueDelivery)
SELECT_DUE_WEBHOOKS = sql.select(
    "loadbay_webhook AS webhook",
    WEBHOOK_COLUMNS,
    "enabled AND retry_at <= ? AND EXISTS "
    "(SELECT 1 FROM loadbay_webhook_delivery WHERE webhook_seq = webhook.seq AND due_at <= ?)",
)
SELECT_DUE = f"""
SELECT {", ".join(DUE_COLUMNS)} FROM loadbay_webhook_delivery AS delivery
WHERE webhook_seq = ? AND due_at <= ? AND NOT EXISTS (
    SELECT 1 FROM loadbay_webhook_delivery AS earlier
    WHERE earlier.webhook_seq = delivery.webhook_seq
        AND earlier.session_seq = delivery.session_seq
        AND earlier.seq < delivery.seq
        AND earlier.due_at IS NOT NULL
        AND (earlier.track_seq = delivery.track_seq
            OR delivery.track_seq IS NULL AND earlier.attempts < {BLOCKING_ATTEMPTS})
)
ORDER BY due_at, seq LIMIT ?
"""
"""An endpoint's next deliveries: a track's events in order, and a session's after those of its tracks."""
CLAIM = sql.update("loadbay_webhook_delivery", ("lease", "due_at", "attempts"), "id = ? AND due_at = ?")
DELETE = "DELETE FROM loadbay_webhook_delivery WHERE id = ?"
END_PAUSE = "UPDATE loadbay_webhook SET failures = 0, failing_since = NULL, retry_at = 0 WHERE seq = ? AND failures > 0"


class ClaimedDelivery(NamedTuple):
    """A delivery to attempt now: the endpoint and the payload, which is the same in every attempt.

    `attempts` includes this one; `claimed_at` is in seconds since the epoch.
    """

    id: str
    lease: str
    webhook_seq: int
    webhook_id: str
    url: str
    secret: str
    type: str
    body: bytes
    attempts: int
    claimed_at: int


def backlog(service: Service) -> tuple[int, int]:
    """Return the number of pending deliveries, and the age of the oldest in seconds."""
    query = WebhookDelivery.select(fn.COUNT(WebhookDelivery.id), fn.MIN(WebhookDelivery.created_at))
    pending = query.where(WebhookDelivery.due_at.is_null(False)).tuples()
    count, oldest = next(iter(pending.execute(service.database)))
    return count, max(0, clock_now() - oldest) if count else 0


# --- Claiming --------------------------------------------------------------------------------------------------------


def claim(service: Service, capacity: int, in_flight: Mapping[int, int], reserve: int = 0) -> list[ClaimedDelivery]:
    """Claim up to `capacity` deliveries that are due, spread over all endpoints, so that none starves.

    `in_flight` has the number of this worker's current deliveries by the endpoint's `seq`. Of the capacity, `reserve`
    is for endpoints without any: slow ones cannot take all of it.
    """
    now = clock_now()
    claims: list[ClaimedDelivery] = []
    webhooks = _due_webhooks(service, now)
    random.shuffle(webhooks)
    running = Counter(in_flight)
    for limit, reserved in ((1, 0), (MAX_IN_FLIGHT, reserve)):
        for webhook in webhooks:
            slots = (1 if webhook["failures"] else limit) - running[webhook["seq"]]
            count = min(slots, capacity - reserved - len(claims))
            if count > 0 and all(endpoint(service, webhook)):
                claimed = _claim_due(service, webhook, now, count)
                claims += claimed
                running[webhook["seq"]] += len(claimed)
    return claims


def _due_webhooks(service: Service, now: int) -> list[WebhookRow]:
    """Return the enabled endpoints that are not paused and have a delivery due."""
    rows = service.execute(SELECT_DUE_WEBHOOKS, (now, now)).fetchall()
    return [cast(WebhookRow, dict(zip(WEBHOOK_COLUMNS, row, strict=True))) for row in rows]


def _claim_due(service: Service, webhook: WebhookRow, now: int, count: int) -> list[ClaimedDelivery]:
    """Claim up to `count` deliveries of an endpoint; fewer if other workers are faster."""
    # Read to the end first: on SQLite, a write next to an open SELECT fails once another process has written.
    rows = service.execute(SELECT_DUE, (webhook["seq"], now, count)).fetchall()
    due = (cast(DueDelivery, dict(zip(DUE_COLUMNS, row, strict=True))) for row in rows)
    claims = [_try_claim(service, webhook, row, now) for row in due]
    return [claim for claim in claims if claim is not None]


def _try_claim(service: Service, webhook: WebhookRow, row: DueDelivery, now: int) -> ClaimedDelivery | None:
    """Claim a delivery; None if another worker was faster."""
    lease, attempts = new_uuid4(), row["attempts"] + 1
    parameters = (lease, now + LEASE_SECONDS, attempts, row["id"], row["due_at"])
    if service.execute(CLAIM, parameters).rowcount != 1:
        return None
    url, secret = endpoint(service, webhook)
    return ClaimedDelivery(
        id=row["id"],
        lease=lease,
        webhook_seq=webhook["seq"],
        webhook_id=webhook["id"],
        url=url,
        secret=secret,
        type=row["type"],
        body=build_payload(row),
        attempts=attempts,
        claimed_at=now,
    )


def build_payload(row: DueDelivery) -> bytes:
    """Return the JSON body of an event: `type`, `timestamp`, and `data` as stored when the event happened."""
    data = orjson.loads(row["data"])
    if "track_id" in data:
        data["index"] = uuid_to_index(data["track_id"])
    data["metadata"] = row["metadata"] and orjson.Fragment(row["metadata"])
    data = {name: data[name] for name in EVENTS[row["type"]].fields}
    return orjson.dumps({"type": row["type"], "timestamp": isoformat_utc(row["created_at"]), "data": data})


# --- Results ---------------------------------------------------------------------------------------------------------


def mark_delivered(service: Service, claim: ClaimedDelivery) -> None:
    """Delete an accepted delivery, and end the pause of its endpoint.

    If the lease has expired and another worker has claimed the delivery meanwhile, it may be sent twice.
    """
    service.execute(DELETE, (claim.id,))
    service.execute(END_PAUSE, (claim.webhook_seq,))


def mark_failed(service: Service, claim: ClaimedDelivery, error: str) -> bool:
    """Schedule the retry of a failed delivery, and pause its endpoint. Return whether it became a dead letter."""
    now, exhausted = clock_now(), claim.attempts > len(RETRY_DELAYS)
    due_at = None if exhausted else now + _backoff(claim.attempts)
    leased = (WebhookDelivery.id == claim.id) & (WebhookDelivery.lease == claim.lease)
    query = WebhookDelivery.update(due_at=due_at, error=error[:MAX_ERROR_LENGTH]).where(leased)
    query.execute(service.database)
    _pause_endpoint(service, claim, now, error)
    return exhausted


def _pause_endpoint(service: Service, claim: ClaimedDelivery, now: int, error: str) -> None:
    """Count a failure of an endpoint. After DEAD_LETTER_AFTER, its old deliveries become dead letters."""
    query = Webhook.select().where(Webhook.seq == claim.webhook_seq).dicts()
    webhook = cast(WebhookRow | None, next(iter(query.execute(service.database)), None))
    # Concurrent deliveries that fail together count as one failure.
    if webhook is None or webhook["retry_at"] > claim.claimed_at:
        return
    retry_at = now + min(_backoff(webhook["failures"] + 1), MAX_ENDPOINT_PAUSE)
    failing_since = webhook["failing_since"] or now
    unchanged = (Webhook.seq == webhook["seq"]) & (Webhook.retry_at == webhook["retry_at"])
    update = Webhook.update(failures=Webhook.failures + 1, failing_since=failing_since, retry_at=retry_at)
    update.where(unchanged).execute(service.database)
    if failing_since <= now - DEAD_LETTER_AFTER:
        old = WebhookDelivery.created_at <= now - DEAD_LETTER_AFTER
        dead_letter(service, (WebhookDelivery.webhook == webhook["seq"]) & old, error)


def _backoff(failures: int) -> int:
    """Return the seconds before the next attempt, with jitter, so that deliveries that fail together spread out."""
    return round(RETRY_DELAYS[min(failures, len(RETRY_DELAYS)) - 1] * random.uniform(0.9, 1.1))  # noqa: S311
