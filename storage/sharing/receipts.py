"""Receipts: what has arrived in a session that has ended, signed with the service's key.

A receipt of many tracks has several pages, each signed by itself. `metadata` is not part of it, so that a page of 200
tracks has about 100 kB.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, NamedTuple

from storage.clock import isoformat_utc
from storage.clock import now as clock_now
from storage.db.models import Track
from storage.errors import SessionOpen
from storage.service import Service
from storage.sharing import signing
from storage.uploads import sessions

TYPE = "loadbay-receipt+json"
CHECKSUMS = ("checksum_sha256", "checksum_crc64nvme", "checksum_crc32c")
COLUMNS = (
    "seq", "id", "file_name", "size", *CHECKSUMS, "etag", "integrity", "verified_at", "cover_status", "cover_size",
    "cover_etag",
)  # fmt: skip


class Receipt(NamedTuple):
    """One page of a receipt: the signed text, and the `after` of the next page."""

    jws: str
    next_after: str | None


def issue(service: Service, session_id: str, *, limit: int, after: str | None = None) -> Receipt:
    """Return one page of a session's receipt, as a JWS. Raises SessionNotFound, SessionOpen, InvalidRequest."""
    session = sessions.read(service, session_id)
    if session["status"] == "open":
        raise SessionOpen
    own = (Track.session == session["seq"]) & (Track.status == "uploaded")
    query = Track.select(*(getattr(Track, name) for name in COLUMNS)).where(own)
    first = 1
    if after:
        last = Track.select(Track.seq).where(Track.id == after, own).bind(service.database).scalar()
        position = sessions.cursor_position(last, 0)
        first += Track.select().where(own, Track.seq <= position).bind(service.database).count()
        query = query.where(Track.seq > position)
    rows = list(query.order_by(Track.seq).limit(limit + 1).dicts().execute(service.database))
    page = sessions.paginate(rows, limit, None)
    payload = {
        "iat": clock_now(),
        # The id itself is the credential of the session, and a receipt is shown to others.
        "upload_session_sha256": sha256(session_id.encode()).hexdigest(),
        "collection_id": session["collection_id"],
        "organization_index": session["organization_index"],
        "status": session["status"],
        "opened_at": isoformat_utc(session["created_at"]),
        "uploaded": session["uploaded"],
        "uploaded_bytes": session["uploaded_bytes"],
        "first": first,
        "last": page.next_after is None,
        "tracks": [_entry(row) for row in page.rows],
    }
    return Receipt(signing.sign(service, TYPE, payload), page.next_after)


def _entry(row: Any) -> dict[str, Any]:
    """Return what a receipt says of a track; a checksum only where one was declared."""
    entry = {name: row[name] for name in ("id", "file_name", "size", "etag", "integrity")}
    entry |= {name: row[name] for name in CHECKSUMS if row[name] is not None}
    entry["uploaded_at"] = isoformat_utc(row["verified_at"])
    if row["cover_status"] == "uploaded":
        entry["cover"] = {"size": row["cover_size"], "etag": row["cover_etag"]}
    return entry
