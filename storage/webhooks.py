"""Webhooks, and the outbox of what they are still to be told.

The database writes the outbox (migrations/0003), so that an event is kept exactly if its change is. A delivery is
claimed by a conditional update that sets its next try ahead: whoever claims it has that long, and if he dies the next
one tries again. So every event comes at least once, and the receiver knows a repeated one by its id. What is
delivered is removed; what is refused for a day is parked, to be listed and replayed.

Webhooks cannot see each other: one that fails is left alone for a while, and only its own events wait.
"""

from __future__ import annotations

import random
import secrets
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
from peewee import IntegrityError, ModelSelect, fn

from . import addresses
from .clock import iso
from .clock import now as clock_now
from .errors import InvalidRequest, WebhookNotFound
from .ids import index_of, new_id
from .models import Job, Webhook, WebhookDelivery
from .service import Service

Row = dict[str, Any]

LEASE = 90
"""Seconds that a claim holds: more than a delivery and a slow name server take together."""

PAUSES = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 36_000)
"""Seconds before each further try: a day and some minutes in all. After the last the delivery is parked."""

GIVE_UP = 86_400
LONGEST_REST = 300
KEPT_PARKED = 30 * 86_400
AT_ONCE = 4
"""Deliveries to one webhook at the same time, in each worker, while it takes them."""

PATIENCE = 5
"""A session's end waits for its tracks' events, but not for one that failed this often."""


class Claim(NamedTuple):
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


# --- Webhooks --------------------------------------------------------------------------------------------------------


def add(service: Service, url: str, organization_id: str = "") -> tuple[str, Row]:
    """Tell `url` of an organisation's events from now on; returns the secret, and its row. Raises InvalidRequest."""
    addresses.target(url, service.settings.webhook_allow_private)
    secret = f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"
    return secret, _insert(service, organization_id=organization_id, url=url, secret=secret)


def _insert(service: Service, **values: object) -> Row:
    row = {"id": new_id(), "enabled": True, "created_at": clock_now(), "failures": 0, "paused_until": 0, **values}
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


def every(service: Service) -> Iterator[Row]:
    """The webhooks, each with what it is still to be told: `waiting` and `parked` deliveries."""
    counts = fn.COUNT(WebhookDelivery.due_at), fn.COUNT(WebhookDelivery.id)
    query = Webhook.select(Webhook, counts[0].alias("waiting"), counts[1].alias("all"))
    query = query.left_outer_join(WebhookDelivery).group_by(Webhook.seq).order_by(Webhook.seq)
    for row in list(query.dicts().execute(service.database)):
        url, _ = place(service, row)
        yield {**row, "url": url, "from_environment": row["url"] is None, "parked": row["all"] - row["waiting"]}


def place(service: Service, row: Mapping[str, Any]) -> tuple[str, str]:
    """The URL and the secret of a webhook; both are '' for that of an environment which has none."""
    if row["url"] is None:
        return service.settings.webhook_url, service.settings.webhook_secret
    return row["url"], row["secret"]


def follow_environment(service: Service) -> list[str]:
    """Keep the webhook of WEBHOOK_URL, or let it rest where there is none. Returns a sentence for each thing done."""
    wanted, own = bool(service.settings.webhook_url), Webhook.url.is_null()
    changed = Webhook.update(enabled=wanted).where(own, Webhook.enabled != wanted).execute(service.database)
    if not wanted:
        # Nobody will take it; a deploy that names a receiver again may replay it.
        of_own = WebhookDelivery.webhook.in_(Webhook.select(Webhook.seq).where(own))
        _park(service, of_own, "WEBHOOK_URL is not set")
    elif not Webhook.select().where(own).bind(service.database).exists():
        # Another worker that begins at the same moment may be faster; the database lets one of them.
        with suppress(IntegrityError):
            changed = bool(_insert(service, organization_id="", url=None, secret=None))
    return [f"Events go to WEBHOOK_URL {'from now on' if wanted else 'no more'}."] if changed else []


# --- The outbox ------------------------------------------------------------------------------------------------------


def backlog(service: Service) -> tuple[int, int]:
    """How many deliveries are waiting, parked ones not counted, and how many seconds the oldest has waited."""
    query = WebhookDelivery.select(fn.COUNT(WebhookDelivery.id), fn.MIN(WebhookDelivery.created_at))
    count, oldest = next(iter(query.where(WebhookDelivery.due_at.is_null(False)).tuples().execute(service.database)))
    return count, max(0, clock_now() - oldest) if count else 0


def claim(service: Service, room: int, in_flight: Mapping[int, int], spare: int = 0) -> list[Claim]:
    """Take up to `room` deliveries that are due, from every webhook that may be called, so that none starves.

    `in_flight` counts what this worker is delivering already, by the webhook's `seq`. As much of the room as `spare`
    is kept for webhooks to which nothing is on its way: those that are slow cannot take it all.
    """
    now = clock_now()
    claims: list[Claim] = []
    due = WebhookDelivery.select().where(WebhookDelivery.webhook == Webhook.seq, WebhookDelivery.due_at <= now)
    query = Webhook.select().where(Webhook.enabled, Webhook.paused_until <= now, fn.EXISTS(due)).dicts()
    hooks = list(query.execute(service.database))
    random.shuffle(hooks)
    held = Counter(in_flight)
    for most, kept in ((1, 0), (AT_ONCE, spare)):
        for hook in hooks:
            free = (1 if hook["failures"] else most) - held[hook["seq"]]
            rest = min(free, room - kept - len(claims))
            if rest > 0 and all(place(service, hook)):
                # Read to its end: what is written beside an open SELECT fails as soon as somebody else has written.
                for row in list(_next(hook["seq"], now, rest).dicts().execute(service.database)):
                    taken = _take(service, hook, row, now)
                    claims, held[hook["seq"]] = claims + taken, held[hook["seq"]] + len(taken)
    return claims


def _next(webhook_seq: int, now: int, limit: int) -> ModelSelect[WebhookDelivery]:
    """What a webhook may be told next: of each track in order, and of a session's end after its tracks."""
    row, earlier = WebhookDelivery, WebhookDelivery.alias()
    same_track = (earlier.track_seq == row.track_seq) | (row.track_seq.is_null() & (earlier.attempts < PATIENCE))
    before = earlier.select().where(
        earlier.webhook == webhook_seq,
        earlier.session_seq == row.session_seq,
        earlier.seq < row.seq,
        earlier.due_at.is_null(False),
        same_track,
    )
    query = row.select().where(row.webhook == webhook_seq, row.due_at <= now, ~fn.EXISTS(before))
    return query.order_by(row.due_at, row.seq).limit(limit)


def _take(service: Service, hook: Row, row: Row, now: int) -> list[Claim]:
    """A claim on the delivery, or none where another worker was faster."""
    lease, attempts = new_id(), row["attempts"] + 1
    query = WebhookDelivery.update(lease=lease, due_at=now + LEASE, attempts=attempts)
    query = query.where(WebhookDelivery.id == row["id"], WebhookDelivery.due_at == row["due_at"])
    if query.execute(service.database) != 1:
        return []
    url, secret = place(service, hook)
    return [Claim(row["id"], lease, hook["seq"], hook["id"], url, secret, row["type"], body(row), attempts, now)]


def body(row: Mapping[str, Any]) -> bytes:
    """The message, of `type`, `timestamp` and `data`. What is in it was kept when the event happened."""
    data = orjson.loads(row["data"])
    if "track_id" in data:
        data["index"] = index_of(data["track_id"])
    data["metadata"] = row["metadata"] and orjson.Fragment(row["metadata"])
    return orjson.dumps({"type": row["type"], "timestamp": iso(row["created_at"]), "data": data})


def delivered(service: Service, done: Claim) -> None:
    """The receiver took it: forget it. Whoever has claimed it meanwhile will find it gone, or send it again."""
    WebhookDelivery.delete().where(WebhookDelivery.id == done.id).execute(service.database)
    well = Webhook.update(failures=0, failing_since=None, paused_until=0)
    well.where(Webhook.seq == done.webhook_seq, Webhook.failures > 0).execute(service.database)


def failed(service: Service, done: Claim, reason: str) -> bool:
    """The receiver did not take it: try again after a pause. Returns whether it is parked instead."""
    now, park = clock_now(), done.attempts > len(PAUSES)
    due_at = None if park else now + _pause(done.attempts)
    mine = (WebhookDelivery.id == done.id) & (WebhookDelivery.lease == done.lease)
    WebhookDelivery.update(due_at=due_at, error=reason[:255]).where(mine).execute(service.database)
    hook = next(iter(Webhook.select().where(Webhook.seq == done.webhook_seq).dicts().execute(service.database)), None)
    # Several that were on their way at once are one failure.
    if hook is not None and hook["paused_until"] <= done.began:
        rest = now + min(_pause(hook["failures"] + 1), LONGEST_REST)
        since = hook["failing_since"] or now
        same = (Webhook.seq == hook["seq"]) & (Webhook.paused_until == hook["paused_until"])
        worse = Webhook.update(failures=Webhook.failures + 1, failing_since=since, paused_until=rest)
        worse.where(same).execute(service.database)
        if since <= now - GIVE_UP:
            _park_old(service, hook["seq"], now, reason)
    return park


def _pause(failures: int) -> int:
    # A little apart, so that what failed together does not come back together.
    return round(PAUSES[min(failures, len(PAUSES)) - 1] * random.uniform(0.9, 1.1))  # noqa: S311


def _park_old(service: Service, webhook_seq: int, now: int, reason: str) -> None:
    """A webhook has taken nothing for a day: what has waited as long waits no more, tried or not."""
    old = (WebhookDelivery.webhook == webhook_seq) & (WebhookDelivery.created_at <= now - GIVE_UP)
    _park(service, old, reason)


def _park(service: Service, which: Any, reason: str) -> None:
    query = WebhookDelivery.update(due_at=None, error=reason[:255]).where(which, WebhookDelivery.due_at.is_null(False))
    query.execute(service.database)


# --- Parked deliveries -----------------------------------------------------------------------------------------------


def parked(service: Service) -> Iterator[Row]:
    """Deliveries that were given up, the oldest first, each with its `webhook_id`."""
    query = WebhookDelivery.select(WebhookDelivery, Webhook.id.alias("webhook_id")).join(Webhook)
    yield from list(query.where(_parked()).order_by(WebhookDelivery.seq).dicts().execute(service.database))


def count_parked(service: Service) -> int:
    """How many deliveries are parked."""
    return int(WebhookDelivery.select().where(_parked()).bind(service.database).count())


def replay(service: Service, ids: Sequence[str] | None = None, webhook_id: str | None = None) -> int:
    """Let parked deliveries be tried again, from now: those with these `ids`, those of a webhook, or all.

    Those of a webhook that is off stay parked. Returns how many will be tried.
    """
    found = WebhookDelivery.select(WebhookDelivery.id, WebhookDelivery.webhook).join(Webhook)
    found = found.where(_parked(), Webhook.enabled)
    if ids is not None:
        found = found.where(WebhookDelivery.id.in_(ids))
    if webhook_id is not None:
        found = found.where(WebhookDelivery.webhook == find(service, webhook_id)["seq"])
    rows = list(found.tuples().execute(service.database))
    with service.database.atomic():
        for id_, _ in rows:
            again = WebhookDelivery.update(due_at=0, attempts=0).where(WebhookDelivery.id == id_, _parked())
            again.execute(service.database)
        for seq in {seq for _, seq in rows}:
            fresh = Webhook.update(failures=0, failing_since=None, paused_until=0).where(Webhook.seq == seq)
            fresh.execute(service.database)
    return len(rows)


def _parked() -> Any:
    return WebhookDelivery.due_at.is_null()


def forget(service: Service) -> int:
    """Remove what has been parked for a month; returns how many."""
    old = WebhookDelivery.created_at <= clock_now() - KEPT_PARKED - GIVE_UP
    return int(WebhookDelivery.delete().where(_parked(), old).execute(service.database))


# --- Jobs ------------------------------------------------------------------------------------------------------------


def begin_job(service: Service, name: str, every_seconds: int) -> bool:
    """Whether the job `name` is due and it is for us to do it: one of all workers is told so."""
    now = clock_now()
    query = Job.update(due_at=now + every_seconds).where(Job.name == name, Job.due_at <= now)
    return bool(query.execute(service.database) == 1)


def postpone_job(service: Service, name: str, seconds: int) -> None:
    """The job was not brought to its end: let any worker begin it anew in `seconds`."""
    Job.update(due_at=clock_now() + seconds).where(Job.name == name).execute(service.database)
