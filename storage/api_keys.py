"""API keys: authentication, and the keys that are stored in the database.

A key has the form `loadbay_ROLE_PREFIX_SECRET`, which secret scanners can recognize. The database has the prefix, which
finds the row, and a SHA-256 digest of the whole key. The secret has 256 random bits, so that a plain digest suffices.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple, cast

import orjson
from peewee import ModelSelect, fn

from storage.clock import now as clock_now
from storage.db import sql
from storage.db.models import ApiKey, UploadSession
from storage.db.rows import ApiKeyCredentials, ApiKeyRow, Rules, columns
from storage.errors import ApiKeyNotFound, Forbidden, InvalidRequest, Unauthorized
from storage.ids import new_uuid4
from storage.page import Page, merge
from storage.service import Service

FULL, UPLOADER = "full", "uploader"
MAX_LIFETIME = 10 * 366 * 86_400
"""Seconds until `expires_at`, at most. A key that must live longer has no `expires_at`."""
DEFAULT_BYTES_PER_DAY, DEFAULT_OPEN_SESSIONS = 2**40, 1000
"""Limits of an uploader's key, unless others are given: it may be in many hands."""

MISSING_KEY_HINT = "Rejected a request without an API key. Create a key with: %s create-key --name NAME"
CREDENTIALS = columns(ApiKeyCredentials)
SELECT_CREDENTIALS = sql.select("loadbay_api_key", CREDENTIALS, "prefix = ?")

_alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_key_pattern = re.compile(rf"loadbay_(?:{FULL}|{UPLOADER})_([A-Za-z0-9]{{12}})_[A-Za-z0-9]{{43}}")
_DUMMY_DIGEST = sha256(b"").hexdigest()

logger = logging.getLogger("loadbay")


class Principal(NamedTuple):
    """An authenticated caller: an organization ('' in a deploy without organizations) and its rights.

    `rate_limit_key` identifies the API key. An uploader's key has the one `collection_id` that it opens sessions for.
    `rules` and `page` (JSON) are the defaults for the sessions that the key opens. A key with limits has its row's
    `seq`.
    """

    rate_limit_key: str
    organization_id: str = ""
    collection_id: str | None = None
    full: bool = False
    rules: str | None = None
    page: str | None = None
    limited_seq: int | None = None


ANONYMOUS = Principal("anonymous")


# --- Authentication --------------------------------------------------------------------------------------------------


def authenticate(service: Service, key: str | None) -> Principal:
    """Return the caller for an API key, or ANONYMOUS without a key if ALLOW_ANONYMOUS is set. Raises Unauthorized."""
    if key is None:
        if service.settings.allow_anonymous:
            return ANONYMOUS
        _log_hint_once(service)
        raise Unauthorized
    digest = sha256(key.encode()).digest()
    if _is_known(digest, service.settings.api_keys):
        return Principal(digest.hex(), full=True)
    row = _find(service, key, digest.hex())
    if row is None or row["revoked_at"] is not None:
        raise Unauthorized("Authorization: unknown API key.")
    if row["expires_at"] is not None and row["expires_at"] <= clock_now():
        raise Unauthorized("Authorization: this API key has expired.")
    limited = row["max_bytes_per_day"] is not None or row["max_open_sessions"] is not None
    scope = row["organization_id"], row["collection_id"], row["role"] == FULL, row["rules"], row["page"]
    return Principal(row["id"], *scope, row["seq"] if limited else None)


def require_full_key(service: Service, key: str | None) -> Principal:
    """Return the caller for a key with the `full` role. Raises Unauthorized, or Forbidden for other roles."""
    caller = authenticate(service, key)
    if caller is ANONYMOUS:
        raise Unauthorized(
            "This endpoint requires an API key with the 'full' role: send it as 'Authorization: Bearer KEY'."
        )
    if not caller.full:
        raise Forbidden("This endpoint requires an API key with the 'full' role.")
    return caller


def resolve_collection(caller: Principal, collection_id: str | None) -> str:
    """Return the collection of a new session. Raises InvalidRequest without one, Forbidden for another uploader's."""
    if caller.collection_id is None:
        if collection_id is None:
            raise InvalidRequest("collection_id: is required.")
        return collection_id
    if collection_id not in (None, caller.collection_id):
        raise Forbidden("collection_id: must be the collection of this API key.")
    return caller.collection_id


def resolve_rules(caller: Principal, rules: Rules | None) -> Rules | None:
    """Return the rules of a new session: those of the request, or by default those of the API key.

    Raises Forbidden where an uploader's key has rules: whoever holds it could otherwise loosen them.
    """
    if caller.rules is None:
        return rules
    if rules is None:
        return cast(Rules, orjson.loads(caller.rules))
    if not caller.full:
        raise Forbidden("rules: are set by this API key, and a request cannot change them.")
    return rules


def resolve_page(caller: Principal, page: Page | None) -> Page | None:
    """Return the page of a new session: what the request says, and else what the API key says."""
    return page or None if caller.page is None else merge((orjson.loads(caller.page), page))


def authorize_store(service: Service, secret: str | None) -> None:
    """Raise Unauthorized unless `secret` is STORE_EVENT_SECRET, and that is set."""
    expected = service.settings.store_event_secret
    if not expected or secret is None or not hmac.compare_digest(secret.encode(), expected.encode()):
        raise Unauthorized("Authorization: STORE_EVENT_SECRET is required.")


def authorize_metrics(service: Service, token: str | None) -> None:
    """Raise Unauthorized unless `token` is METRICS_TOKEN, which must be set."""
    if token is None or not hmac.compare_digest(token.encode(), service.settings.metrics_token.encode()):
        raise Unauthorized("Authorization: METRICS_TOKEN is required.")


def _is_known(digest: bytes, keys: Iterable[str]) -> bool:
    """Compare a digest with those of all keys, in constant time: the duration does not tell which key came close."""
    matches = [hmac.compare_digest(digest, sha256(key.encode()).digest()) for key in keys]
    return any(matches)


def _find(service: Service, key: str, digest: str) -> ApiKeyCredentials | None:
    match = _key_pattern.fullmatch(key)
    if match is None:
        return None
    values = service.execute(SELECT_CREDENTIALS, (match[1],)).fetchone()
    row = cast(ApiKeyCredentials, dict(zip(CREDENTIALS, values, strict=True))) if values else None
    # An unknown prefix takes as long as a wrong secret.
    return row if hmac.compare_digest(digest, row["digest"] if row else _DUMMY_DIGEST) else None


def _log_hint_once(service: Service) -> None:
    if not service.hint_logged:
        service.hint_logged = True
        logger.warning(MISSING_KEY_HINT, service.command)


# --- Administration --------------------------------------------------------------------------------------------------


def create(
    service: Service,
    name: str,
    *,
    organization_id: str = "",
    collection_id: str | None = None,
    role: str = FULL,
    expires_at: int | None = None,
    rules: Rules | None = None,
    page: Page | None = None,
    max_bytes_per_day: int | None = None,
    max_open_sessions: int | None = None,
) -> tuple[str, ApiKeyRow]:
    """Create an API key; return the key, which cannot be read again, and its row.

    `expires_at` is in seconds since the epoch, `rules` loaded by schemas.Rules, `page` by schemas.PageSchema. Raises
    InvalidRequest for an image that pages may not show, if the key would expire in the past or too far in the future,
    if an uploader's key has no collection, or if a full key has one.
    Without limits, a full key has none, and an uploader's key has the default ones.
    """
    if (role == UPLOADER) != (collection_id is not None):
        raise InvalidRequest("collection_id: must be set for an uploader's key, and only for that.")
    service.page_defaults.check(page or {})
    now = clock_now()
    if expires_at is not None and expires_at <= now:
        raise InvalidRequest("expires: must be in the future.")
    if expires_at is not None and expires_at > now + MAX_LIFETIME:
        raise InvalidRequest("expires: must be within ten years; leave it out for a key that never expires.")
    prefix, secret = (_random_text(length) for length in (12, 43))
    key = f"loadbay_{role}_{prefix}_{secret}"
    row: ApiKeyRow = {
        "id": new_uuid4(),
        "prefix": prefix,
        "name": name,
        "role": role,
        "organization_id": organization_id,
        "collection_id": collection_id,
        "rules": orjson.dumps(rules).decode() if rules else None,
        "page": orjson.dumps(page).decode() if page else None,
        "created_at": now,
        "expires_at": expires_at,
        "revoked_at": None,
        "max_bytes_per_day": max_bytes_per_day or (DEFAULT_BYTES_PER_DAY if role == UPLOADER else None),
        "max_open_sessions": max_open_sessions or (DEFAULT_OPEN_SESSIONS if role == UPLOADER else None),
        "used_day": 0,
        "used_bytes": 0,
    }
    row["seq"] = ApiKey.insert(digest=sha256(key.encode()).hexdigest(), **row).execute(service.database)
    return key, row


def _random_text(length: int) -> str:
    return "".join(secrets.choice(_alphabet) for _ in range(length))


def list_keys(service: Service) -> list[ApiKeyRow]:
    """Return the rows of all keys, oldest first."""
    return _rows(service, _select().order_by(ApiKey.seq))


def count_open_sessions(service: Service) -> dict[int, int]:
    """Return the number of open sessions of each API key with limits, by the key's `seq`."""
    is_open = (UploadSession.expires_at > clock_now()) & (UploadSession.status == "open")
    query = UploadSession.select(UploadSession.api_key_seq, fn.COUNT(UploadSession.seq))
    query = query.where(UploadSession.api_key_seq.is_null(False), is_open).group_by(UploadSession.api_key_seq)
    return dict(query.tuples().execute(service.database))


def revoke(service: Service, key: str) -> ApiKeyRow:
    """Revoke a key, given by its id, its prefix or itself, and return its row. A revoked key stays as it is.

    Raises ApiKeyNotFound.
    """
    match = _key_pattern.fullmatch(key)
    prefix = match[1] if match else key
    same = (ApiKey.id == prefix) | (ApiKey.prefix == prefix)
    ApiKey.update(revoked_at=clock_now()).where(same, ApiKey.revoked_at.is_null()).execute(service.database)
    for row in _rows(service, _select().where(same)):
        return row
    raise ApiKeyNotFound


def _select() -> ModelSelect[ApiKey]:
    return ApiKey.select(*(getattr(ApiKey, column) for column in columns(ApiKeyRow)))


def _rows(service: Service, query: ModelSelect[ApiKey]) -> list[ApiKeyRow]:
    return cast(list[ApiKeyRow], list(query.dicts().execute(service.database)))
