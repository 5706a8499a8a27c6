"""Upload sessions: opening one, reading one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from .clock import now as clock_now
from .errors import ServiceError, SessionClosed, SessionExpired, SessionNotFound, TrackLimitReached
from .ids import new_id
from .service import Service

Row = dict[str, Any]

COLUMNS = ("id", "collection_id", "creator_id", "organization_index", "metadata", "status", "created_at", "expires_at")
INSERTED = (*COLUMNS, "max_tracks", "max_bytes")
INSERT = f"""
INSERT INTO upload_session ({", ".join(INSERTED)}) VALUES ({", ".join("?" * len(INSERTED))})
"""
SELECT = f"SELECT {', '.join(COLUMNS)} FROM upload_session WHERE id = ?"


def metadata_text(metadata: Mapping[str, object] | None) -> str | None:
    """What is kept of `metadata`."""
    return None if metadata is None else orjson.dumps(metadata).decode()


def create(service: Service, words: Mapping[str, Any]) -> Row:
    """Open a session for `words` (as schemas.CreateUploadSession loads them) and return its row."""
    settings, now = service.settings, clock_now()
    row = {name: words[name] for name in ("collection_id", "creator_id", "organization_index", "metadata")}
    row |= {
        "id": new_id()[0],
        "status": "open",
        "created_at": now,
        "expires_at": now + (words["expires_in"] or settings.session_ttl),
        "max_tracks": settings.max_tracks_per_session,
        "max_bytes": None,
    }
    values = {**row, "metadata": metadata_text(row["metadata"])}
    service.execute(INSERT, [values[name] for name in INSERTED])
    return row


def status(kept: str, expires_at: int) -> str:
    """`open`, `closed` or `expired`: time alone expires a session, no row is written for it."""
    return "expired" if kept == "open" and expires_at <= clock_now() else kept


def refusal(service: Service, session_id: str) -> ServiceError:
    """Why the session takes no track: what to raise after a claim on it changed no row."""
    row = read(service, session_id)
    if row["status"] == "open":
        return TrackLimitReached()
    return SessionExpired() if row["status"] == "expired" else SessionClosed()


def read(service: Service, session_id: str) -> Row:
    """The session's row, its `status` as of now. Raises SessionNotFound."""
    found = service.execute(SELECT, (session_id,)).fetchone()
    if found is None:
        raise SessionNotFound
    row = dict(zip(COLUMNS, found, strict=True))
    row["status"] = status(row["status"], row["expires_at"])
    row["metadata"] = row["metadata"] and orjson.loads(row["metadata"])
    return row
