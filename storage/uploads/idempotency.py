"""Idempotency keys: a repeated request with the same Idempotency-Key returns what the first one created.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import orjson
from peewee import IntegrityError

from storage.clock import now as clock_now
from storage.db.batches import delete_in_batches
from storage.db.models import IdempotencyKey
from storage.errors import IdempotencyKeyReused
from storage.service import Service

TTL_SECONDS = 86_400


class AlreadyReserved(Exception):
    """An identical request has reserved the same key at the same time, and is done: find_previous returns its ids."""


class RequestKey(NamedTuple):
    """An idempotency key within its scope, and the fingerprint of the request that it came with (both SHA-256)."""

    digest: str
    fingerprint: str


class RecordedIds(NamedTuple):
    """The ids that an earlier request created."""

    session_id: str
    track_ids: list[str]


def request_key(key: str, scope: str, payload: Mapping[str, Any]) -> RequestKey:
    """Return the key of a request from its Idempotency-Key. Keys of different scopes never collide."""
    digest = sha256(f"{scope}\n{key}".encode()).hexdigest()
    return RequestKey(digest, sha256(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)).hexdigest())


def find_previous(service: Service, key: RequestKey | None) -> RecordedIds | None:
    """Return what an earlier request with this key created. Raises IdempotencyKeyReused if that request differed."""
    if key is None:
        return None
    query = IdempotencyKey.select().where(
        IdempotencyKey.digest == key.digest, IdempotencyKey.created_at > clock_now() - TTL_SECONDS
    )
    # Fetched completely: an open SELECT would keep an old snapshot of the database for the writes that follow.
    for row in list(query.dicts().execute(service.database)):
        if not hmac.compare_digest(row["fingerprint"], key.fingerprint):
            raise IdempotencyKeyReused
        return RecordedIds(row["session_id"], orjson.loads(row["track_ids"]))
    return None


@dataclass(frozen=True)
class Reservation:
    """A reserved key, to which the request records what it creates."""

    service: Service
    key: RequestKey

    def record(self, session_id: str, track_ids: Sequence[str]) -> None:
        """Record the created ids in the transaction of the rows themselves."""
        ids = orjson.dumps(track_ids).decode()
        query = IdempotencyKey.update(session_id=session_id, track_ids=ids)
        query.where(IdempotencyKey.digest == self.key.digest).execute(self.service.database)


class NoReservation:
    """The reservation of a request without a key, which records nothing."""

    def record(self, session_id: str, track_ids: Sequence[str]) -> None:
        """Do nothing."""


WITHOUT_KEY = nullcontext(NoReservation())


def reserve(service: Service, key: RequestKey | None) -> AbstractContextManager[Reservation | NoReservation]:
    """Return a context for the writes of a request: one transaction with its key, if it has one.

    Calls to the store belong outside. Raises AlreadyReserved on entry.
    """
    return WITHOUT_KEY if key is None else _reserve(service, key)


@contextmanager
def _reserve(service: Service, key: RequestKey) -> Iterator[Reservation]:
    with service.database.atomic():
        _insert(service, key)
        yield Reservation(service, key)


def _insert(service: Service, key: RequestKey) -> None:
    now = clock_now()
    expired = IdempotencyKey.created_at <= now - TTL_SECONDS
    IdempotencyKey.delete().where(IdempotencyKey.digest == key.digest, expired).execute(service.database)
    row = {**key._asdict(), "session_id": "", "track_ids": "", "created_at": now}
    try:
        IdempotencyKey.insert(row).execute(service.database)
    except IntegrityError as e:
        raise AlreadyReserved from e


def purge_expired(service: Service, *, dry_run: bool = False) -> int:
    """Delete the keys that have expired, and return their number."""
    expired = IdempotencyKey.created_at <= clock_now() - TTL_SECONDS
    if dry_run:
        return int(IdempotencyKey.select().where(expired).bind(service.database).count())
    return delete_in_batches(service.database, IdempotencyKey, expired, IdempotencyKey.created_at)
