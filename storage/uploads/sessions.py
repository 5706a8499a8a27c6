"""Upload sessions: create, read, list and close them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeVar, cast

import orjson
from peewee import SQL

from storage.clock import now as clock_now
from storage.db import sql
from storage.db.models import ApiKey, UploadSession
from storage.db.rows import SessionRow, StoredSessionRow, TrackCounts
from storage.errors import (
    ByteLimitReached,
    InvalidRequest,
    KeyLimitReached,
    ServiceError,
    SessionClosed,
    SessionExpired,
    SessionNotFound,
    TrackLimitReached,
)
from storage.ids import new_session_id
from storage.service import Service

DAY = 86_400
OPEN_SESSIONS_RETRY = 60
BYTE_LIMIT_ERROR = "loadbay_key_byte_limit"
"""The message of the trigger that counts the bytes declared in the sessions of a key with limits."""

T = TypeVar("T")
R = TypeVar("R", bound=Mapping[str, Any])


class Page(NamedTuple, Generic[R]):
    """A window of a list: its rows, the number of items in the whole list or None, and the `after` of the next page."""

    rows: list[R]
    total: int | None
    next_after: str | None


INSERT_COLUMNS = (
    "id", "organization_id", "collection_id", "creator_id", "organization_index", "metadata", "rules", "page", "fields",
    "embedded_cover", "status", "created_at", "expires_at", "max_tracks", "max_bytes", "max_file_size", "api_key_seq",
)  # fmt: skip
INSERT = sql.insert("loadbay_upload_session", INSERT_COLUMNS)
select_parameters = itemgetter(*INSERT_COLUMNS)
TRACK_STATUSES = ("initialized", "uploaded", "failed", "expired", "cancelled")
COLUMNS = (*INSERT_COLUMNS, "seq", "urls_expire_at", "track_count", "declared_bytes", "uploaded_bytes", *TRACK_STATUSES)
IS_OPEN_SQL = "status = 'open' AND expires_at > ? AND swept_at IS NULL"
"""The condition for a session that accepts tracks. `swept_at` is part of it because the time in the parameter may have
been taken before a wait for the row's lock, during which a sweeper ended the session."""
SELECT = sql.select("loadbay_upload_session", COLUMNS, "id = ?")
CLOSE = f"UPDATE loadbay_upload_session SET status = 'closed' WHERE id = ? AND {IS_OPEN_SQL}"


def json_text(value: Mapping[str, object] | Sequence[object] | None) -> str | None:
    """Return metadata, rules, a page or fields as the JSON text that is stored, None where they are empty."""
    return orjson.dumps(value).decode() if value else None


def create(service: Service, organization_id: str, payload: Mapping[str, Any]) -> SessionRow:
    """Create a session from `payload` (loaded by schemas.CreateUploadSession) and return its row."""
    settings, now = service.settings, clock_now()
    limit, rules = settings.max_tracks_per_session, payload["rules"] or None
    row: SessionRow = {
        "id": new_session_id(),
        "organization_id": organization_id,
        "collection_id": payload["collection_id"],
        "creator_id": payload["creator_id"],
        "organization_index": payload["organization_index"],
        "metadata": payload["metadata"] or {},
        "rules": rules,
        "page": payload["page"],
        "fields": payload["fields"] or None,
        "embedded_cover": bool(payload["embedded_cover"]),
        "status": "open",
        "created_at": now,
        "expires_at": now + (payload["expires_in"] or settings.session_ttl),
        "max_tracks": min(payload["max_tracks"] or limit, limit),
        "max_bytes": payload["max_bytes"],
        "max_file_size": rules["audio"].get("max_file_size") if rules and "audio" in rules else None,
        "api_key_seq": payload["api_key_seq"],
        "track_count": 0,
        "declared_bytes": 0,
        "uploaded_bytes": 0,
        "tracks": NO_TRACKS,
    }
    values = {**row, "metadata": json_text(row["metadata"]), "rules": json_text(rules)}
    if row["page"] or row["fields"]:
        service.page_defaults.check(row["page"] or {})
        values |= {"page": json_text(row["page"]), "fields": json_text(row["fields"])}
    service.execute(INSERT, select_parameters(values))
    return row


def check_key_limits(service: Service, key_seq: int) -> None:
    """Raise KeyLimitReached where an API key with limits can open no more sessions.

    Belongs in the transaction that opens the session: it locks the key's row, so that requests count in turn.
    """
    ApiKey.update(name=ApiKey.name).where(ApiKey.seq == key_seq).execute(service.database)
    key, now = next(iter(ApiKey.select().where(ApiKey.seq == key_seq).dicts().execute(service.database))), clock_now()
    byte_limit, session_limit = key["max_bytes_per_day"], key["max_open_sessions"]
    if byte_limit is not None and key["used_day"] == now // DAY and key["used_bytes"] >= byte_limit:
        raise byte_limit_error()
    is_open = (UploadSession.expires_at > now) & (UploadSession.status == "open")
    opened = UploadSession.select().where(UploadSession.api_key_seq == key_seq, is_open)
    if session_limit is not None and opened.bind(service.database).count() >= session_limit:
        error = KeyLimitReached(f"This API key may have {session_limit} open upload sessions. Close some, or wait.")
        error.retry_after = OPEN_SESSIONS_RETRY
        raise error


def byte_limit_error() -> KeyLimitReached:
    """Return the error for an API key whose sessions have as many bytes declared as they may on a day (UTC)."""
    error = KeyLimitReached("This API key has reached its limit of bytes for today (UTC). Try again tomorrow.")
    error.retry_after = DAY - clock_now() % DAY
    return error


NO_TRACKS: TrackCounts = {"initialized": 0, "uploaded": 0, "failed": 0, "expired": 0, "cancelled": 0}


def effective_status(stored_status: str, expires_at: int) -> str:
    """Return `open`, `closed` or `expired`. Time alone expires a session; no row is written for it."""
    return "expired" if stored_status == "open" and expires_at <= clock_now() else stored_status


def rejection_reason(service: Service, session_id: str, file_size: int | None) -> ServiceError:
    """Return the error to raise after the insert of a track of `file_size` bytes into the session changed no row."""
    row = read(service, session_id)
    if row["status"] != "open":
        return SessionExpired() if row["status"] == "expired" else SessionClosed()
    if row["max_bytes"] is not None and file_size is None:
        return InvalidRequest("file_size: this upload session has max_bytes, so every track must declare its size.")
    if row["max_file_size"] is not None and (file_size or 0) > row["max_file_size"]:
        return file_size_error(row["max_file_size"])
    exceeds = row["max_bytes"] is not None and row["declared_bytes"] + (file_size or 0) > row["max_bytes"]
    if exceeds and row["track_count"] < row["max_tracks"]:
        return ByteLimitReached()
    return TrackLimitReached()


def check_fields(fields: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any] | None) -> None:
    """Raise InvalidRequest where a value in a track's metadata is not one that its field allows."""
    for field in fields:
        value, choices = (metadata or {}).get(field["name"]), field["one_of"]
        if choices is not None and value not in (None, "") and value not in choices:
            raise InvalidRequest(f"metadata.{field['name']}: must be one of: {', '.join(choices)}."[:500])


def file_size_error(max_file_size: int) -> InvalidRequest:
    """Return the error for a track whose declared size exceeds that of the session's rules."""
    return InvalidRequest(f"file_size: must be at most {max_file_size} bytes in this upload session.")


def read(service: Service, session_id: str) -> StoredSessionRow:
    """Return the session's row with its current status and its tracks counted by status. Raises SessionNotFound."""
    values = service.execute(SELECT, (session_id,)).fetchone()
    if values is None:
        raise SessionNotFound
    return _decode_row(dict(zip(COLUMNS, values, strict=True)))


def _decode_row(row: dict[str, Any]) -> StoredSessionRow:
    row["status"] = effective_status(row["status"], row["expires_at"])
    row["metadata"] = orjson.loads(row["metadata"]) if row["metadata"] else {}
    row["rules"] = orjson.loads(row["rules"]) if row["rules"] else None
    row["page"] = orjson.loads(row["page"]) if row["page"] else None
    row["fields"] = orjson.loads(row["fields"]) if row["fields"] else None
    row["embedded_cover"] = bool(row["embedded_cover"])
    row["tracks"] = {name: row[name] for name in TRACK_STATUSES}
    return cast(StoredSessionRow, row)


def owned_by(organization_id: str) -> Any:
    """Return the condition for sessions of this organization."""
    own = UploadSession.organization_id == organization_id
    # Must match the partial index's WHERE clause literally, or the index is not used.
    return own & (UploadSession.organization_id != SQL("''")) if organization_id else own


def list_sessions(
    service: Service,
    organization_id: str,
    *,
    collection_id: str | None,
    status: str | None,
    limit: int,
    offset: int,
    after: str | None = None,
) -> Page[StoredSessionRow]:
    """Return one page of an organization's sessions, oldest first so that new ones shift no page.

    Nothing is counted with `after`, which is the id of the session before the page. Raises InvalidRequest.
    """
    query = UploadSession.select().where(owned_by(organization_id))
    if collection_id is not None:
        query = query.where(UploadSession.collection_id == collection_id)
    if status == "closed":
        query = query.where(UploadSession.status == "closed")
    elif status is not None:
        in_time = UploadSession.expires_at > clock_now()
        query = query.where(UploadSession.status == "open", in_time if status == "open" else ~in_time)
    page = query.order_by(UploadSession.seq).limit(limit + 1).offset(offset).dicts()
    if after:
        page = page.where(UploadSession.seq > _seq_of(service, organization_id, after, offset))
    rows = [_decode_row(row) for row in page.execute(service.database)]
    return paginate(rows, limit, None if after else query.bind(service.database).count())


def _seq_of(service: Service, organization_id: str, session_id: str, offset: int) -> int:
    query = UploadSession.select(UploadSession.seq).where(UploadSession.id == session_id, owned_by(organization_id))
    position: int | None = query.bind(service.database).scalar()
    return cursor_position(position, offset)


def cursor_position(position: T | None, offset: int) -> T:
    """Return the position of the item that a query's `after` names. Raises InvalidRequest for an unknown item."""
    if position is None:
        raise InvalidRequest("after: must be the id of an item of this list.")
    if offset:
        raise InvalidRequest("after: must not be combined with offset.")
    return position


def paginate(rows: list[R], limit: int, total: int | None) -> Page[R]:
    """Return the first `limit` of these rows as a page; one row more shows that the list goes on."""
    next_after = str(rows[limit - 1]["id"]) if len(rows) > limit else None
    return Page(rows[:limit], total, next_after)


def close(service: Service, session_id: str) -> StoredSessionRow:
    """Close a session, so that it accepts no more tracks, and return its row. Idempotent.

    Raises SessionNotFound. A session that has expired stays `expired`.
    """
    service.execute(CLOSE, (session_id, clock_now()))
    return read(service, session_id)
