"""Changes of an open session by its owner: its end, metadata, limits, rules, page and fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.clock import now as clock_now
from storage.db import sql
from storage.db.rows import StoredSessionRow
from storage.errors import InvalidRequest, SessionNotFound
from storage.page import merge
from storage.service import Service
from storage.settings import MAX_SESSION_SECONDS
from storage.uploads import sessions

MIN_SECONDS = 60
"""Seconds from now until a session's new end, at least."""

ATTEMPTS = 20
UNCHANGED = (
    f"id = ? AND {sessions.IS_OPEN_SQL} AND expires_at = ? AND COALESCE(page, '') = ? "
    "AND track_count <= ? AND (CAST(? AS BIGINT) IS NULL OR (declared_bytes <= ? AND uploaded_bytes <= ?))"
)
"""The condition for a change: the session is open, and what the change was made from still holds, and the limits."""


def change(service: Service, organization_id: str, session_id: str, payload: Mapping[str, Any]) -> StoredSessionRow:
    """Change an open session as `payload` (loaded by schemas.ChangeUploadSession) says, and return its row.

    One conditional update: registrations at the same time are counted against the limits of before or after. Raises
    SessionNotFound, SessionExpired, SessionClosed, and InvalidRequest for a limit below what is there already.
    """
    for _ in range(ATTEMPTS):
        row = _read_open(service, organization_id, session_id)
        changes = _columns(service, row, payload)
        _check_limits(row, changes)
        if not changes or _apply(service, row, changes):
            return sessions.read(service, session_id)
    raise InvalidRequest("The upload session is being changed by other requests. Try again.")


def _read_open(service: Service, organization_id: str, session_id: str) -> StoredSessionRow:
    row = sessions.read(service, session_id)
    if row["organization_id"] != organization_id:
        raise SessionNotFound
    if row["status"] != "open":
        raise sessions.rejection_reason(service, session_id, 0)
    return row


def _apply(service: Service, row: StoredSessionRow, changes: Mapping[str, object]) -> bool:
    max_tracks = changes.get("max_tracks", row["max_tracks"])
    max_bytes = changes.get("max_bytes")
    same = row["id"], clock_now(), row["expires_at"], sessions.json_text(row["page"]) or ""
    parameters = (*changes.values(), *same, max_tracks, max_bytes, max_bytes, max_bytes)
    statement = sql.update("loadbay_upload_session", tuple(changes), UNCHANGED)
    return bool(service.execute(statement, parameters).rowcount == 1)


def _columns(service: Service, row: StoredSessionRow, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns to be changed, with their new values."""
    changes: dict[str, Any] = _end(service, row, payload)
    if "metadata" in payload:
        changes["metadata"] = sessions.json_text(payload["metadata"])
    if "max_tracks" in payload:
        limit = service.settings.max_tracks_per_session
        changes["max_tracks"] = min(payload["max_tracks"] or limit, limit)
    if "max_bytes" in payload:
        changes["max_bytes"] = payload["max_bytes"]
    if "rules" in payload:
        rules = payload["rules"] or {}
        changes["rules"] = sessions.json_text(rules)
        changes["max_file_size"] = rules.get("audio", {}).get("max_file_size")
    if "page" in payload:
        service.page_defaults.check(payload["page"] or {})
        changes["page"] = sessions.json_text(merge((row["page"], payload["page"])) if payload["page"] else None)
    if "fields" in payload:
        changes["fields"] = sessions.json_text(payload["fields"])
    return changes


def _end(service: Service, row: StoredSessionRow, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of the session's new end, if it has one. Raises InvalidRequest."""
    now = clock_now()
    if "expires_in" in payload and "expires_at" in payload:
        raise InvalidRequest("expires_at: must not be combined with expires_in.")
    end = now + payload["expires_in"] if "expires_in" in payload else payload.get("expires_at")
    if end is None:
        return {}
    if not now + MIN_SECONDS <= end <= now + MAX_SESSION_SECONDS:
        raise InvalidRequest(f"expires_at: must be {MIN_SECONDS} to {MAX_SESSION_SECONDS} seconds from now.")
    if end >= row["expires_at"]:
        return {"expires_at": end}
    # URLs that are signed already stay valid: the sweeper waits for them.
    urls_end = min(row["expires_at"], now + service.settings.upload_url_ttl)
    return {"expires_at": end, "urls_expire_at": max(urls_end, row.get("urls_expire_at") or 0)}


def _check_limits(row: StoredSessionRow, changes: Mapping[str, Any]) -> None:
    """Raise InvalidRequest for a limit below what the session has already."""
    if changes.get("max_tracks", row["max_tracks"]) < row["track_count"]:
        raise InvalidRequest(f"max_tracks: must be at least {row['track_count']}, the number of registered tracks.")
    present, limit = max(row["declared_bytes"], row["uploaded_bytes"]), changes.get("max_bytes")
    if limit is not None and limit < present:
        raise InvalidRequest(f"max_bytes: must be at least {present}, the bytes of registered tracks.")
