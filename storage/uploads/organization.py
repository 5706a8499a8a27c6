"""Organization-wide access with a full API key: read and change tracks across an organization's sessions.

A track of another organization is not found, by the same statement that does not find an unknown track.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from peewee import ModelSelect, fn

from storage.clock import isoformat_utc
from storage.clock import now as clock_now
from storage.db.models import Track, UploadSession
from storage.db.rows import TrackRow
from storage.errors import NotUploaded, TrackNotFound
from storage.s3 import object_keys
from storage.service import Service
from storage.uploads import sessions, tracks
from storage.uploads.sessions import Page

ORDERS: dict[str, tuple[Any, ...]] = {
    "registration": (Track.seq,),
    "duration": (Track.audio_duration.is_null(), Track.audio_duration, Track.seq),
    "-duration": (Track.audio_duration.is_null(), Track.audio_duration.desc(), Track.seq),
}
"""Orders of a list of tracks; those without a duration come last."""

DOWNLOAD_TTL = 300
"""Lifetime of a download URL in seconds. Programs fetch it at once."""


def find_track(service: Service, organization_id: str, track_id: str) -> TrackRow:
    """Return the row of one track. Raises TrackNotFound."""
    rows = tracks.rows(service, tracks.select().where(Track.id == track_id, sessions.owned_by(organization_id)))
    if not rows:
        raise TrackNotFound("track_id: there is no such track.")
    return rows[0]


def list_collection_tracks(
    service: Service,
    organization_id: str,
    collection_id: str,
    *,
    status: str | None,
    container: str | None = None,
    codec: str | None = None,
    order: str = "registration",
    limit: int,
    offset: int,
    after: str | None = None,
) -> Page[TrackRow]:
    """Return one page of a collection's tracks.

    They are in order of registration, so that new ones shift no page, or ordered by duration. Nothing is counted with
    `after`, which is the id of the track before the page. Raises InvalidRequest.
    """
    own = (UploadSession.collection_id == collection_id) & sessions.owned_by(organization_id)
    wanted = {Track.status: status, Track.audio_container: container, Track.audio_codec: codec}
    filters = [column == value for column, value in wanted.items() if value is not None]
    matching = Track.select(Track.seq).join(UploadSession).where(own, *filters)
    total = None
    if after:
        matching = matching.where(
            _follows(service, Track.select().join(UploadSession).where(own), after, order, offset)
        )
    elif container is None and codec is None:
        column = UploadSession.track_count if status is None else getattr(UploadSession, status)
        total = UploadSession.select(fn.SUM(column)).where(own).bind(service.database).scalar()
    else:
        total = matching.bind(service.database).count()
    # The subquery finds the page in an index alone where it can; only the page's rows are read.
    page = matching.order_by(*ORDERS[order]).limit(limit + 1).offset(offset)
    rows = tracks.rows(service, tracks.select().where(Track.seq.in_(page)).order_by(*ORDERS[order]))
    return sessions.paginate(rows, limit, None if after else int(total or 0))


def _follows(service: Service, query: ModelSelect[Track], track_id: str, order: str, offset: int) -> Any:
    """Return the condition for the tracks that follow one of the query's in an order."""
    row = next(iter(query.where(Track.id == track_id).dicts().execute(service.database)), None)
    row = sessions.cursor_position(row, offset)
    later, duration = Track.seq > row["seq"], row["audio_duration"]
    if order == "registration":
        return later
    if duration is None:
        return Track.audio_duration.is_null() & later
    beyond = Track.audio_duration > duration if order == "duration" else Track.audio_duration < duration
    return beyond | ((Track.audio_duration == duration) & later) | Track.audio_duration.is_null()


def presign_downloads(service: Service, organization_id: str, track_id: str) -> tuple[TrackRow, dict[str, Any]]:
    """Return a track's row, and `track_download` and `track_cover_download`, which is None without a verified cover.

    They save the file under its own name, and the cover under the same with another ending. Raises TrackNotFound,
    NotUploaded.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html defines the `response-` parameters.
    """
    row = find_track(service, organization_id, track_id)
    if row["status"] != "uploaded":
        raise NotUploaded(f"track_id: the track is {row['status']}; only an uploaded track can be downloaded.")
    version = row["version_id"] if row["version_id"] not in (None, "null") else None
    downloads = {"track_download": _download(service, row["path"], row["file_name"], version)}
    cover = row["cover"]
    has_cover = cover is not None and cover["status"] == "uploaded"
    ending = (row["cover_type"] or "").rpartition("/")[2].partition("+")[0]
    name = f"{row['file_name'].rpartition('.')[0] or row['file_name']}.{ending}"
    downloads["track_cover_download"] = _download(service, row["cover_path"], name) if has_cover else None
    return row, downloads


def _download(service: Service, key: str, file_name: str, version: str | None = None) -> dict[str, Any] | None:
    now = clock_now()
    ttl = service.bucket.url_ttl(min(DOWNLOAD_TTL, service.settings.upload_url_ttl), now)
    query = {"response-content-disposition": disposition(file_name)}
    if version is not None:
        query["versionId"] = version
    url = service.presigner.url("GET", key, ttl, now, query=query)
    return {"method": "GET", "download_url": url, "ttl": ttl, "expires_at": isoformat_utc(now + ttl)}


def disposition(file_name: str) -> str:
    """Return a Content-Disposition that saves a file as `file_name` (RFC 6266; RFC 8187 beyond ASCII)."""
    fallback, extended = object_keys.sanitize_file_name(file_name), quote(file_name, safe="")
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{extended}"


def delete(service: Service, organization_id: str, track_id: str) -> TrackRow:
    """Delete a track's row, record the removal of its objects, and return the row. Raises TrackNotFound.

    The track is cancelled first, so that no verification finalizes it in between.
    """
    row = find_track(service, organization_id, track_id)
    while row["status"] != "cancelled" and not tracks.end(service, row):
        row = find_track(service, organization_id, track_id)
    Track.delete().where(Track.id == track_id).execute(service.database)
    return row
