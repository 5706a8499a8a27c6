"""Upload sessions: opening one, reading one, closing one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from peewee import SQL

from .clock import now as clock_now
from .errors import (
    ByteLimitReached,
    InvalidRequest,
    ServiceError,
    SessionClosed,
    SessionExpired,
    SessionNotFound,
    TrackLimitReached,
)
from .ids import new_id
from .models import UploadSession
from .service import Service

Row = dict[str, Any]

INSERTED = (
    "id", "organization_id", "collection_id", "creator_id", "organization_index", "metadata", "status", "created_at",
    "expires_at", "max_tracks", "max_bytes",
)  # fmt: skip
INSERT = f"INSERT INTO upload_session ({', '.join(INSERTED)}) VALUES ({', '.join('?' * len(INSERTED))})"
COUNTS = ("initialized", "uploaded", "failed", "expired", "cancelled")
COLUMNS = (*INSERTED, "seq", "track_count", "promised_bytes", "uploaded_bytes", *COUNTS)
OPEN = "status = 'open' AND expires_at > ? AND swept_at IS NULL"
"""Holds for a session that takes tracks. The time may have been asked for before a wait for the row's lock: a sweeper
that has ended the session meanwhile goes before it."""
SELECT = f"SELECT {', '.join(COLUMNS)} FROM upload_session WHERE id = ?"


def metadata_text(metadata: Mapping[str, object] | None) -> str | None:
    """What is kept of `metadata`."""
    return None if metadata is None else orjson.dumps(metadata).decode()


def create(service: Service, organization_id: str, words: Mapping[str, Any]) -> Row:
    """Open a session for `words` (as schemas.CreateUploadSession loads them) and return its row."""
    settings, now = service.settings, clock_now()
    most = settings.max_tracks_per_session
    row: Row = {
        "id": new_id(),
        "organization_id": organization_id,
        "collection_id": words["collection_id"],
        "creator_id": words["creator_id"],
        "organization_index": words["organization_index"],
        "metadata": metadata_text(words["metadata"]),
        "status": "open",
        "created_at": now,
        "expires_at": now + (words["expires_in"] or settings.session_ttl),
        "max_tracks": min(words["max_tracks"] or most, most),
        "max_bytes": words["max_bytes"],
    }
    service.execute(INSERT, tuple(row.values()))
    return {**row, "metadata": words["metadata"], **NOTHING_YET}


NOTHING_YET = {"track_count": 0, "promised_bytes": 0, "uploaded_bytes": 0, "tracks": dict.fromkeys(COUNTS, 0)}


def status(kept: str, expires_at: int) -> str:
    """`open`, `closed` or `expired`: time alone expires a session, no row is written for it."""
    return "expired" if kept == "open" and expires_at <= clock_now() else kept


def refusal(service: Service, session_id: str, file_size: int | None) -> ServiceError:
    """Why the session takes no track of `file_size` bytes: what to raise after a claim on it changed no row."""
    row = read(service, session_id)
    if row["status"] != "open":
        return SessionExpired() if row["status"] == "expired" else SessionClosed()
    if row["max_bytes"] is not None and file_size is None:
        return InvalidRequest("file_size: this upload session has max_bytes, so every track must declare its size.")
    over = row["max_bytes"] is not None and row["promised_bytes"] + (file_size or 0) > row["max_bytes"]
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
    row["status"] = status(row["status"], row["expires_at"])
    row["metadata"] = row["metadata"] and orjson.loads(row["metadata"])
    row["tracks"] = {name: row[name] for name in COUNTS}
    return row


def of_organization(organization_id: str) -> Any:
    """The condition for sessions of this organisation."""
    own = UploadSession.organization_id == organization_id
    # Word for word what the index of organisations says of itself, or it would not be used.
    return own & (UploadSession.organization_id != SQL("''")) if organization_id else own


def page(
    service: Service, organization_id: str, *, collection_id: str | None, status: str | None, limit: int, offset: int
) -> tuple[list[Row], int]:
    """Sessions of an organisation, the oldest first so that new ones move none, and how many there are in all."""
    query = UploadSession.select().where(of_organization(organization_id))
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
    service.execute(f"UPDATE upload_session SET status = 'closed' WHERE id = ? AND {OPEN}", (session_id, clock_now()))
    return read(service, session_id)
