"""What a full key opens: reading and changing tracks across the sessions of its organization, and of no other.

A track of another organization is as unknown as one that never was: the same statement finds neither.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from peewee import fn

from storage.clock import isoformat_utc
from storage.clock import now as clock_now
from storage.db.models import Track, UploadSession
from storage.errors import NotUploaded, TrackNotFound
from storage.s3 import object_keys
from storage.service import Service
from storage.uploads import sessions, tracks

Row = dict[str, Any]

DOWNLOAD_TTL = 300
"""Seconds for which a download's URL lives: it is fetched at once, by a program."""


def find_track(service: Service, organization_id: str, track_id: str) -> Row:
    """The row of one track. Raises TrackNotFound."""
    found = tracks.rows(service, tracks.select().where(Track.id == track_id, sessions.owned_by(organization_id)))
    if not found:
        raise TrackNotFound("track_id: there is no such track.")
    return found[0]


def list_collection_tracks(
    service: Service, organization_id: str, collection_id: str, *, status: str | None, limit: int, offset: int
) -> tuple[list[Row], int]:
    """Tracks of a collection in the order in which they were registered, so that new ones move none; and how many
    there are in all."""
    own = (UploadSession.collection_id == collection_id) & sessions.owned_by(organization_id)
    counted = UploadSession.track_count if status is None else getattr(UploadSession, status)
    total = UploadSession.select(fn.SUM(counted)).where(own).bind(service.database).scalar()
    # First the order, which an index alone can tell, then the rows of this page.
    order = Track.select(Track.seq).join(UploadSession).where(own).order_by(Track.seq).limit(limit).offset(offset)
    if status is not None:
        order = order.where(Track.status == status)
    return tracks.rows(service, tracks.select().where(Track.seq.in_(order)).order_by(Track.seq)), int(total or 0)


def presign_download(service: Service, organization_id: str, track_id: str) -> tuple[Row, Row]:
    """A track's row, and a URL for its bytes under the name that its owner gave. Raises TrackNotFound, NotUploaded.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html has the query's `response-` parameters.
    """
    row = find_track(service, organization_id, track_id)
    if row["status"] != "uploaded":
        raise NotUploaded(f"track_id: the track is {row['status']}; only an uploaded one has bytes to fetch.")
    now, ttl = clock_now(), min(DOWNLOAD_TTL, service.settings.upload_url_ttl)
    query = {"response-content-disposition": disposition(row["file_name"])}
    if row["version_id"] not in (None, "null"):
        query["versionId"] = row["version_id"]
    url = service.presigner.url("GET", row["path"], ttl, now, query=query)
    return row, {"method": "GET", "download_url": url, "ttl": ttl, "expires_at": isoformat_utc(now + ttl)}


def disposition(file_name: str) -> str:
    """A Content-Disposition that saves a file under `file_name` (RFC 6266, with RFC 8187 for what is beyond ASCII)."""
    return f"attachment; filename=\"{object_keys.sanitize_file_name(file_name)}\"; filename*=UTF-8''{quote(file_name, safe='')}"


def presign_cover_replacement(service: Service, organization_id: str, row: Row, relay_url: str | None) -> Row:
    """Where a cover goes that takes the place of the track's present one once it is checked.

    This URL is its asker's, not the session's, and may outlive it. Raises TrackNotFound, NotUploaded.
    """
    now, ttl = clock_now(), service.settings.upload_url_ttl
    while True:
        if row["status"] != "uploaded":
            raise NotUploaded("track_id: only an uploaded track takes a fresh cover; its upload has one of its own.")
        path = row["next_cover_path"] or object_keys.rotate_key(row["cover_path"], row["index"])
        unchanged = (Track.status == "uploaded") & (Track.next_cover_path == row["next_cover_path"])
        query = Track.update(next_cover_path=path, next_cover_expires_at=now + ttl).where(
            Track.id == row["id"], unchanged
        )
        if query.execute(service.database) == 1:
            return tracks.cover_upload(service, path, relay_url, ttl, now)
        row = find_track(service, organization_id, row["id"])


def delete(service: Service, organization_id: str, track_id: str) -> Row:
    """Delete a track: its bytes, its cover and its row, which is returned. Raises TrackNotFound.

    Nobody is told `uploaded` of what is going; and while the store cannot be asked (StoreUnavailable) the row stays
    and can be deleted again.
    """
    row = find_track(service, organization_id, track_id)
    while row["status"] != "cancelled" and not tracks.transition(service, row, "cancelled"):
        row = find_track(service, organization_id, track_id)
    tracks.delete_objects(service, row)
    Track.delete().where(Track.id == track_id).execute(service.database)
    return row
