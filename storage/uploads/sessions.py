"""Upload sessions: opening one, reading one, closing one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from peewee import SQL

from storage.clock import now as clock_now
from storage.db.models import UploadSession
from storage.errors import (
    ByteLimitReached,
    InvalidRequest,
    ServiceError,
    SessionClosed,
    SessionExpired,
    SessionNotFound,
    TrackLimitReached,
)
from storage.ids import new_uuid4
from storage.service import Service

Row = dict[str, Any]

INSERT_COLUMNS = (
    "id", "organization_id", "collection_id", "creator_id", "organization_index", "metadata", "status", "created_at",
    "expires_at", "max_tracks", "max_bytes",
)  # fmt: skip
INSERT = (
    f"INSERT INTO loadbay_upload_session ({', '.join(INSERT_COLUMNS)}) VALUES ({', '.join('?' * len(INSERT_COLUMNS))})"
)
TRACK_STATUSES = ("initialized", "uploaded", "failed", "expired", "cancelled")
COLUMNS = (*INSERT_COLUMNS, "seq", "track_count", "declared_bytes", "uploaded_bytes", *TRACK_STATUSES)
IS_OPEN_SQL = "status = 'open' AND expires_at > ? AND swept_at IS NULL"
"""Holds for a session that takes tracks. The time may have been asked for before a wait for the row's lock: a sweeper
that has ended the session meanwhile goes before it."""
SELECT = f"SELECT {', '.join(COLUMNS)} FROM loadbay_upload_session WHERE id = ?"


def metadata_text(metadata: Mapping[str, object] | None) -> str | None:
    """What is kept of `metadata`."""
    return None if metadata is None else orjson.dumps(metadata).decode()


def create(service: Service, organization_id: str, payload: Mapping[str, Any]) -> Row:
    """Open a session for `words` (as schemas.CreateUploadSession loads them) and return its row."""
    settings, now = service.settings, clock_now()
    most = settings.max_tracks_per_session
    row: Row = {
        "id": new_uuid4(),
        "organization_id": organization_id,
        "collection_id": payload["collection_id"],
        "creator_id": payload["creator_id"],
        "organization_index": payload["organization_index"],
        "metadata": metadata_text(payload["metadata"]),
        "status": "open",
        "created_at": now,
        "expires_at": now + (payload["expires_in"] or settings.session_ttl),
        "max_tracks": min(payload["max_tracks"] or most, most),
        "max_bytes": payload["max_bytes"],
    }
    service.execute(INSERT, tuple(row.values()))
    return {**row, "metadata": payload["metadata"], **EMPTY_COUNTS}


EMPTY_COUNTS = {"track_count": 0, "declared_bytes": 0, "uploaded_bytes": 0, "tracks": dict.fromkeys(TRACK_STATUSES, 0)}


def effective_status(kept: str, expires_at: int) -> str:
    """`open`, `closed` or `expired`: time alone expires a session, no row is written for it."""
    return "expired" if kept == "open" and expires_at <= clock_now() else kept


def rejection_reason(service: Service, session_id: str, file_size: int | None) -> ServiceError:
    """Why the session takes no track of `file_size` bytes: what to raise after a claim on it changed no row."""
    row = read(service, session_id)
    if row["status"] != "open":
        return SessionExpired() if row["status"] == "expired" else SessionClosed()
    if row["max_bytes"] is not None and file_size is None:
        return InvalidRequest("file_size: this upload session has max_bytes, so every track must declare its size.")
    over = row["max_bytes"] is not None and row["declared_bytes"] + (file_size or 0) > row["max_bytes"]
    if over and row["track_count"] < row["max_tracks"]:
        return ByteLimitReached()
    return TrackLimitReached()


def read(service: Service, session_id: str) -> Row:
    """The session's row, its `status` as of now, its tracks counted by status. Raises SessionNotFound."""
    found = service.execute(SELECT, (session_id,)).fetchone()
    if found is None:
        raise SessionNotFound
    return _row(dict(zip(COLUMNS, found, strict=True)))


def _row(row: Row) -> Row:
    row["status"] = effective_status(row["status"], row["expires_at"])
    row["metadata"] = row["metadata"] and orjson.loads(row["metadata"])
    row["tracks"] = {name: row[name] for name in TRACK_STATUSES}
    return row


def owned_by(organization_id: str) -> Any:
    """The condition for sessions of this organization."""
    own = UploadSession.organization_id == organization_id
    # Word for word what the index of organizations says of itself, or it would not be used.
    return own & (UploadSession.organization_id != SQL("''")) if organization_id else own


def page(
    service: Service,
    organization_id: str,
    *,
    collection_id: str | None,
    status: str | None,
    limit: int,
    offset: int,
) -> tuple[list[Row], int]:
    """Sessions of an organization, the oldest first so that new ones move none, and how many there are in all."""
    query = UploadSession.select().where(owned_by(organization_id))
    if collection_id is not None:
        query = query.where(UploadSession.collection_id == collection_id)
    if status == "closed":
        query = query.where(UploadSession.status == "closed")
    elif status is not None:
        in_time = UploadSession.expires_at > clock_now()
        query = query.where(UploadSession.status == "open", in_time if status == "open" else ~in_time)
    listed = query.order_by(UploadSession.seq).limit(limit).offset(offset).dicts()
    return [_row(row) for row in listed.execute(service.database)], query.bind(service.database).count()


def close(service: Service, session_id: str) -> Row:
    """Close a session: it takes no more tracks. Repeating it is harmless. Returns its row.

    Raises SessionNotFound. A session whose time is over stays `expired`.
    """
    service.execute(
        f"UPDATE loadbay_upload_session SET status = 'closed' WHERE id = ? AND {IS_OPEN_SQL}", (session_id, clock_now())
    )
    return read(service, session_id)
