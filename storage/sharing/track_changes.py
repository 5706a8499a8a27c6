"""Changes of tracks by whoever has the session's id: rename, replace the cover, remove, while the session is open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.clock import now as clock_now
from storage.db.models import Track
from storage.db.rows import StoredSessionRow, TrackRow
from storage.errors import Forbidden, InvalidTrackState
from storage.service import Service
from storage.uploads import covers, sessions, tracks

CHANGEABLE = ("initialized", "uploaded", "failed")
NO_CHANGES = "This upload session does not allow that what has arrived is changed (page.allow_changes)."
CHANGE = (
    "UPDATE loadbay_track SET {} WHERE id = ? AND status = ? AND session_seq = "
    f"(SELECT seq FROM loadbay_upload_session WHERE id = ? AND {sessions.IS_OPEN_SQL})"
)


def change(service: Service, session_id: str, track_id: str, payload: Mapping[str, Any]) -> TrackRow:
    """Change a track's metadata or file name as `payload` (loaded by schemas.ChangeTrack) says, and return its row.

    Its `path` stays. Raises TrackNotFound, Forbidden, InvalidTrackState, InvalidRequest, SessionExpired, SessionClosed.
    """
    session = _read_open(service, session_id)
    row = tracks.read(service, session_id, track_id)
    if row["status"] not in CHANGEABLE:
        raise InvalidTrackState(f"track_id: the track is {row['status']} and cannot be changed.")
    if row["status"] == "uploaded":
        check_allowed(service, session)
    values = dict(payload)
    if "metadata" in values:
        sessions.check_fields(session["fields"] or (), values["metadata"])
        values["metadata"] = sessions.json_text(values["metadata"])
    if values:
        statement = CHANGE.format(", ".join(f"{name} = ?" for name in values))
        condition = track_id, row["status"], session_id, clock_now()
        if service.execute(statement, (*values.values(), *condition)).rowcount != 1:
            # The session has ended, or the track has: the second attempt says which.
            return change(service, session_id, track_id, payload)
    return tracks.read(service, session_id, track_id)


def remove(service: Service, session_id: str, track_id: str) -> TrackRow:
    """Delete a track with its objects, whatever its status, and return its row.

    It counts no longer for the limits of its session. Raises as `change` does.
    """
    session = _read_open(service, session_id)
    check_allowed(service, session)
    row = tracks.read(service, session_id, track_id)
    while row["status"] != "cancelled" and not tracks.end(service, row):
        row = tracks.read(service, session_id, track_id)
    Track.delete().where(Track.id == track_id).execute(service.database)
    return row


def replace_cover(service: Service, session_id: str, track_id: str, relay_url: str) -> tuple[TrackRow, dict[str, Any]]:
    """Return a track's row and an upload for a cover that replaces its own once it is verified.

    Its URL does not outlive the session. Raises as `change` does, and NotUploaded.
    """
    session = _read_open(service, session_id)
    check_allowed(service, session)
    row = tracks.read(service, session_id, track_id)
    return row, covers.presign_replacement(service, row, relay_url, until=session["expires_at"])


def check_allowed(service: Service, session: StoredSessionRow) -> None:
    """Raise Forbidden where the session's page does not allow changes of what has arrived."""
    if not service.page_defaults.effective(session["organization_id"], session["page"])["allow_changes"]:
        raise Forbidden(NO_CHANGES)


def _read_open(service: Service, session_id: str) -> StoredSessionRow:
    session = sessions.read(service, session_id)
    if session["status"] != "open":
        raise sessions.rejection_reason(service, session_id, 0)
    return session
