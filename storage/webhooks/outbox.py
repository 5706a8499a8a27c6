"""Webhooks, and the outbox of what they are still to be told.

The database writes the outbox (migrations/0003), so that an event is kept exactly if its change is. A delivery is
claimed by a conditional update that sets its next try ahead: whoever claims it has that long, and if he dies the next
one tries again. So every event comes at least once, and the receiver knows a repeated one by its id. What is
delivered is removed; what is refused for a day is parked, to be listed and replayed.

Webhooks cannot see each other: one that fails is left alone for a while, and only its own events wait.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from peewee import ModelSelect, fn

from storage.clock import isoformat_utc
from storage.clock import now as clock_now
from storage.db.models import Job, Webhook, WebhookDelivery
from storage.ids import new_uuid4, uuid_to_index
from storage.service import Service
from storage.webhooks.dead_letters import DEAD_LETTER_AFTER, dead_letter
from storage.webhooks.endpoints import Row, endpoint
from storage.webhooks.events import EVENTS

LEASE_SECONDS = 90
"""Seconds that a claim holds: more than a delivery and a slow name server take together."""

RETRY_DELAYS = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 36_000)
"""Seconds before each further try: a day and some minutes in all. After the last the delivery is parked."""

MAX_ENDPOINT_PAUSE = 300

MAX_IN_FLIGHT = 4
"""Deliveries to one webhook at the same time, in each worker, while it takes them."""

BLOCKING_ATTEMPTS = 5
"""A session's end waits for its tracks' events, but not for one that failed this often."""


class ClaimedDelivery(NamedTuple):
    """A delivery to try now: where to, and the message, the same in every try. `attempts` counts this one."""

    id: str
    lease: str
    webhook_seq: int
    webhook_id: str
    url: str
    secret: str
    type: str
    body: bytes
    attempts: int
    began: int


def backlog(service: Service) -> tuple[int, int]:
    """How many deliveries are waiting, parked ones not counted, and how many seconds the oldest has waited."""
    query = WebhookDelivery.select(fn.COUNT(WebhookDelivery.id), fn.MIN(WebhookDelivery.created_at))
    count, oldest = next(iter(query.where(WebhookDelivery.due_at.is_null(False)).tuples().execute(service.database)))
    return count, max(0, clock_now() - oldest) if count else 0


def claim(service: Service, room: int, in_flight: Mapping[int, int], spare: int = 0) -> list[ClaimedDelivery]:
    """Take up to `room` deliveries that are due, from every webhook that may be called, so that none starves.

    `in_flight` counts what this worker is delivering already, by the webhook's `seq`. As much of the room as `spare`
    is kept for webhooks to which nothing is on its way: those that are slow cannot take it all.
    """
    now = clock_now()
    claims: list[ClaimedDelivery] = []
    due = WebhookDelivery.select().where(WebhookDelivery.webhook == Webhook.seq, WebhookDelivery.due_at <= now)
    query = Webhook.select().where(Webhook.enabled, Webhook.retry_at <= now, fn.EXISTS(due)).dicts()
    hooks = list(query.execute(service.database))
    random.shuffle(hooks)
    held = Counter(in_flight)
    for most, kept in ((1, 0), (MAX_IN_FLIGHT, spare)):
        for hook in hooks:
            free = (1 if hook["failures"] else most) - held[hook["seq"]]
            rest = min(free, room - kept - len(claims))
            if rest > 0 and all(endpoint(service, hook)):
                # Read to its end: what is written beside an open SELECT fails as soon as somebody else has written.
                for row in list(_due_deliveries(hook["seq"], now, rest).dicts().execute(service.database)):
                    taken = _try_claim(service, hook, row, now)
                    claims, held[hook["seq"]] = claims + taken, held[hook["seq"]] + len(taken)
    return claims


def _due_deliveries(webhook_seq: int, now: int, limit: int) -> ModelSelect[WebhookDelivery]:
    """What a webhook may be told next: of each track in order, and of a session's end after its tracks."""
    row, earlier = WebhookDelivery, WebhookDelivery.alias()
    same_track = (earlier.track_seq == row.track_seq) | (
        row.track_seq.is_null() & (earlier.attempts < BLOCKING_ATTEMPTS)
    )
    before = earlier.select().where(
        earlier.webhook == webhook_seq,
        earlier.session_seq == row.session_seq,
        earlier.seq < row.seq,
        earlier.due_at.is_null(False),
        same_track,
    )
    query = row.select().where(row.webhook == webhook_seq, row.due_at <= now, ~fn.EXISTS(before))
    return query.order_by(row.due_at, row.seq).limit(limit)


def _try_claim(service: Service, hook: Row, row: Row, now: int) -> list[ClaimedDelivery]:
    """A claim on the delivery, or none where another worker was faster."""
    lease, attempts = new_uuid4(), row["attempts"] + 1
    query = WebhookDelivery.update(lease=lease, due_at=now + LEASE_SECONDS, attempts=attempts)
    query = query.where(WebhookDelivery.id == row["id"], WebhookDelivery.due_at == row["due_at"])
    if query.execute(service.database) != 1:
        return []
    url, secret = endpoint(service, hook)
    return [
        ClaimedDelivery(
            row["id"], lease, hook["seq"], hook["id"], url, secret, row["type"], build_payload(row), attempts, now
        )
    ]


def build_payload(row: Mapping[str, Any]) -> bytes:
    """Return the message: `type`, `timestamp`, and the `data` recorded with the event (see events.py)."""
    data = orjson.loads(row["data"])
    if "track_id" in data:
        data["index"] = uuid_to_index(data["track_id"])
    data["metadata"] = row["metadata"] and orjson.Fragment(row["metadata"])
    data = {name: data[name] for name in EVENTS[row["type"]].fields}
    return orjson.dumps({"type": row["type"], "timestamp": isoformat_utc(row["created_at"]), "data": data})


def mark_delivered(service: Service, done: ClaimedDelivery) -> None:
    """The receiver took it: forget it. Whoever has claimed it meanwhile will find it gone, or send it again."""
    WebhookDelivery.delete().where(WebhookDelivery.id == done.id).execute(service.database)
    well = Webhook.update(failures=0, failing_since=None, retry_at=0)
    well.where(Webhook.seq == done.webhook_seq, Webhook.failures > 0).execute(service.database)


def mark_failed(service: Service, done: ClaimedDelivery, reason: str) -> bool:
    """The receiver did not take it: try again after a pause. Returns whether it is parked instead."""
    now, park = clock_now(), done.attempts > len(RETRY_DELAYS)
    due_at = None if park else now + _pause(done.attempts)
    mine = (WebhookDelivery.id == done.id) & (WebhookDelivery.lease == done.lease)
    WebhookDelivery.update(due_at=due_at, error=reason[:255]).where(mine).execute(service.database)
    hook = next(iter(Webhook.select().where(Webhook.seq == done.webhook_seq).dicts().execute(service.database)), None)
    # Several that were on their way at once are one failure.
    if hook is not None and hook["retry_at"] <= done.began:
        rest = now + min(_pause(hook["failures"] + 1), MAX_ENDPOINT_PAUSE)
        since = hook["failing_since"] or now
        same = (Webhook.seq == hook["seq"]) & (Webhook.retry_at == hook["retry_at"])
        worse = Webhook.update(failures=Webhook.failures + 1, failing_since=since, retry_at=rest)
        worse.where(same).execute(service.database)
        if since <= now - DEAD_LETTER_AFTER:
            _park_old(service, hook["seq"], now, reason)
    return park


def _pause(failures: int) -> int:
    # A little apart, so that what failed together does not come back together.
    return round(RETRY_DELAYS[min(failures, len(RETRY_DELAYS)) - 1] * random.uniform(0.9, 1.1))  # noqa: S311


def _park_old(service: Service, webhook_seq: int, now: int, reason: str) -> None:
    """A webhook has taken nothing for a day: what has waited as long waits no more, tried or not."""
    old = (WebhookDelivery.webhook == webhook_seq) & (WebhookDelivery.created_at <= now - DEAD_LETTER_AFTER)
    dead_letter(service, old, reason)


def postpone_job(service: Service, name: str, seconds: int) -> None:
    """The job was not brought to its end: let any worker begin it anew in `seconds`."""
    Job.update(due_at=clock_now() + seconds).where(Job.name == name).execute(service.database)
