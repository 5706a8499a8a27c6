"""Requests that may be repeated: the same Idempotency-Key and words again give the same ids.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import orjson
from peewee import IntegrityError

from storage.clock import now as clock_now
from storage.db.models import IdempotencyKey
from storage.errors import IdempotencyKeyReused, TrackNotFound
from storage.service import Service
from storage.uploads import tracks
from storage.uploads.tracks import CreatedTracks, Keep

TTL_SECONDS = 86_400
"""Seconds for which a key is remembered."""


def run_once(
    service: Service, key: str | None, scope: str, payload: Mapping[str, Any], create: Callable[[Keep], CreatedTracks]
) -> CreatedTracks:
    """What `create` makes, or what it made when the same `key` came with the same `words` in this `scope` before.

    `create` is given a function that runs what writes the rows, so that they and the key are kept together or not
    at all, while calls to the store stay outside. Raises IdempotencyKeyReused where the words differ.
    """
    if key is None:
        return create(lambda write: write())
    digest = sha256(f"{scope}\n{key}".encode()).hexdigest()
    fingerprint = sha256(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)).hexdigest()
    made = _find_previous(service, digest, fingerprint)
    if made is not None:
        return made

    def keep(write: Callable[[], CreatedTracks]) -> CreatedTracks:
        with service.database.atomic():
            _insert_key(service, digest, fingerprint)
            made = write()
            ids = orjson.dumps([row["id"] for row in made.tracks]).decode()
            query = IdempotencyKey.update(session_id=made.session_id, track_ids=ids)
            query.where(IdempotencyKey.digest == digest).execute(service.database)
            return made

    try:
        return create(keep)
    except IntegrityError:
        # The same request was here at the same moment, and faster.
        made = _find_previous(service, digest, fingerprint)
        if made is None:
            raise
        return made


def _insert_key(service: Service, digest: str, fingerprint: str) -> None:
    stale = IdempotencyKey.created_at <= clock_now() - TTL_SECONDS
    IdempotencyKey.delete().where(IdempotencyKey.digest == digest, stale).execute(service.database)
    row = {"digest": digest, "fingerprint": fingerprint, "session_id": "", "track_ids": "", "created_at": clock_now()}
    IdempotencyKey.insert(row).execute(service.database)


def _find_previous(service: Service, digest: str, fingerprint: str) -> CreatedTracks | None:
    query = IdempotencyKey.select().where(
        IdempotencyKey.digest == digest, IdempotencyKey.created_at > clock_now() - TTL_SECONDS
    )
    # Read to its end: an unfinished SELECT would hold an old view of the database for what is written next.
    for row in list(query.dicts().execute(service.database)):
        if not hmac.compare_digest(row["fingerprint"], fingerprint):
            raise IdempotencyKeyReused
        ids = orjson.loads(row["track_ids"])
        found = tracks.read_many(service, ids)
        if len(found) < len(ids):
            raise TrackNotFound("Idempotency-Key: what this request made before has been deleted since.")
        return CreatedTracks(row["session_id"], found)
    return None


def purge_expired(service: Service, *, dry_run: bool = False) -> int:
    """Drop the keys whose time is over; returns how many they are."""
    stale = IdempotencyKey.created_at <= clock_now() - TTL_SECONDS
    if dry_run:
        return int(IdempotencyKey.select().where(stale).bind(service.database).count())
    return int(IdempotencyKey.delete().where(stale).execute(service.database))
