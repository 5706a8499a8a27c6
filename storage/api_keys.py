"""API keys: who may open upload sessions and read across them.

A key reads `loadbay_ROLE_LOOKUP_SECRET`: a shape that secret scanners find. Kept are LOOKUP, which finds the row,
and a digest of the whole. The secret has 256 random bits, so that a plain digest cannot be guessed back.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

from storage.clock import now as clock_now
from storage.db.models import ApiKey
from storage.errors import Forbidden, InvalidRequest, KeyNotFound, Unauthorized
from storage.ids import new_uuid4
from storage.service import Service

Row = dict[str, Any]

FULL, UPLOADER = "full", "uploader"
MAX_LIFETIME = 10 * 366 * 86_400
"""Seconds: as many as a request may ask for. A key for longer is one without an end."""
MISSING_KEY_HINT = "A request without an API key was refused. Make a key with: flask --app app create-key --name NAME"
COLUMNS = ("id", "digest", "role", "organization_id", "collection_id", "expires_at", "revoked_at")
SELECT = f"SELECT {', '.join(COLUMNS)} FROM api_key WHERE prefix = ?"

_alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_shape = re.compile(rf"loadbay_(?:{FULL}|{UPLOADER})_([A-Za-z0-9]{{12}})_[A-Za-z0-9]{{43}}")
_DUMMY_DIGEST = sha256(b"").hexdigest()

logger = logging.getLogger("loadbay")


class Principal(NamedTuple):
    """Who asks: `organization_id` ('' where the deploy has only one), and `scope`, a text of his own.

    An uploader has the one `collection_id` that he opens sessions for.
    """

    rate_limit_key: str
    organization_id: str = ""
    collection_id: str | None = None
    full: bool = False


ANONYMOUS = Principal("anonymous")


def authenticate(service: Service, key: str | None) -> Principal:
    """Who asks, by his `key`. Raises Unauthorized, unless ALLOW_ANONYMOUS is set and there is no key at all."""
    if key is None:
        if service.settings.allow_anonymous:
            return ANONYMOUS
        _log_hint_once(service)
        raise Unauthorized
    # Every key is compared, so that the time taken does not tell which one came close.
    digest = sha256(key.encode()).digest()
    matches = [hmac.compare_digest(digest, sha256(known.encode()).digest()) for known in service.settings.api_keys]
    if any(matches):
        return Principal(digest.hex(), full=True)
    row = _find(service, key, digest.hex())
    if row is None or row["revoked_at"] is not None:
        raise Unauthorized("Authorization: this API key is not known.")
    if row["expires_at"] is not None and row["expires_at"] <= clock_now():
        raise Unauthorized("Authorization: this API key has expired.")
    return Principal(row["id"], row["organization_id"], row["collection_id"], row["role"] == FULL)


def require_full_key(service: Service, key: str | None) -> Principal:
    """`authorize` for what only a full key opens: raises Forbidden for others, Unauthorized where there is none."""
    caller = authenticate(service, key)
    if caller is ANONYMOUS:
        raise Unauthorized("An API key of full access is needed here: send it as 'Authorization: Bearer KEY'.")
    if not caller.full:
        raise Forbidden("This API key only opens upload sessions.")
    return caller


def authorize_store(service: Service, key: str | None) -> None:
    """Raise Unauthorized unless `key` is STORE_EVENT_SECRET, and there is one."""
    secret = service.settings.store_event_secret
    if not secret or key is None or not hmac.compare_digest(key.encode(), secret.encode()):
        raise Unauthorized("Authorization: the store's secret is needed here (STORE_EVENT_SECRET).")


def authorize_metrics(service: Service, key: str | None) -> None:
    """Raise Unauthorized unless `key` is METRICS_TOKEN, which must be set."""
    if key is None or not hmac.compare_digest(key.encode(), service.settings.metrics_token.encode()):
        raise Unauthorized("Authorization: the token of whoever reads the metrics is needed here (METRICS_TOKEN).")


def resolve_collection(caller: Principal, collection_id: str | None) -> str:
    """Return the collection of a new session. Raises InvalidRequest without one, Forbidden for another uploader's."""
    if caller.collection_id is None:
        if collection_id is None:
            raise InvalidRequest("collection_id: is required.")
        return collection_id
    if collection_id not in (None, caller.collection_id):
        raise Forbidden("collection_id: this API key opens upload sessions for another collection only.")
    return caller.collection_id


def create(
    service: Service,
    name: str,
    *,
    organization_id: str = "",
    collection_id: str | None = None,
    role: str = FULL,
    expires_at: int | None = None,
) -> tuple[str, Row]:
    """Make a key; returns it, which cannot be read again, and its row. `expires_at` is in seconds since the epoch.

    Raises InvalidRequest where an uploader has no collection, a full key has one, or its end has passed or is too far.
    """
    if (role == UPLOADER) != (collection_id is not None):
        raise InvalidRequest("collection_id: an uploader's key is for one collection, and a full key for all.")
    now = clock_now()
    if expires_at is not None and expires_at <= now:
        raise InvalidRequest("expires: this moment has passed.")
    if expires_at is not None and expires_at > now + MAX_LIFETIME:
        raise InvalidRequest("expires: this moment is more than ten years away; leave it out for a key without an end.")
    prefix, secret = ("".join(secrets.choice(_alphabet) for _ in range(length)) for length in (12, 43))
    key = f"loadbay_{role}_{prefix}_{secret}"
    row: Row = {"id": new_uuid4(), "prefix": prefix, "name": name, "role": role, "organization_id": organization_id}
    row |= {"collection_id": collection_id, "created_at": now, "expires_at": expires_at, "revoked_at": None}
    ApiKey.insert(digest=sha256(key.encode()).hexdigest(), **row).execute(service.database)
    return key, row


def list_keys(service: Service) -> Iterator[Row]:
    """The rows of all keys, the oldest first."""
    yield from ApiKey.select().order_by(ApiKey.seq).dicts().execute(service.database)


def revoke(service: Service, name: str) -> Row:
    """Revoke the key whose id, look-up part or whole text is `name`; returns its row. Repeating it is harmless.

    Raises KeyNotFound.
    """
    shaped = _shape.fullmatch(name)
    prefix = shaped[1] if shaped else name
    found = (ApiKey.id == prefix) | (ApiKey.prefix == prefix)
    ApiKey.update(revoked_at=clock_now()).where(found, ApiKey.revoked_at.is_null()).execute(service.database)
    for row in ApiKey.select().where(found).dicts().execute(service.database):
        return dict(row)
    raise KeyNotFound


def _find(service: Service, key: str, digest: str) -> Row | None:
    shaped = _shape.fullmatch(key)
    if shaped is None:
        return None
    found = service.execute(SELECT, (shaped[1],)).fetchone()
    row = dict(zip(COLUMNS, found, strict=True)) if found else None
    # A key that is not there takes as long as one that is wrong.
    return row if hmac.compare_digest(digest, row["digest"] if row else _DUMMY_DIGEST) else None


def _log_hint_once(service: Service) -> None:
    if not service.hint_logged:
        service.hint_logged = True
        logger.warning(MISSING_KEY_HINT)
