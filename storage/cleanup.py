"""The sweeper: brings what is over to its end, and removes what nobody will ask for.

Every step is a conditional update or harmless to repeat: two sweepers at once, or a sweep while uploads go on, do
what one sweep in a quiet hour does. An uploaded object is never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from peewee import ModelSelect

from . import idempotency, names, tracks, verify
from .clock import now as clock_now
from .errors import NotUploaded
from .models import Track, UploadSession
from .service import Service

Row = dict[str, Any]

# An object or upload that no row knows may be another deploy's, or a moment old: it is left for a day.
UNKNOWN_AGE = 86_400
CHUNK = 500


@dataclass
class Summary:
    """What a sweep did, or would do."""

    sessions: int = 0
    uploaded: int = 0
    failed: int = 0
    expired: int = 0
    covers: int = 0
    objects_removed: int = 0
    uploads_aborted: int = 0
    keys_forgotten: int = 0

    def lines(self) -> list[str]:
        """A line for each count that is not zero."""
        return [f"{name.replace('_', ' ')}: {count}" for name, count in asdict(self).items() if count]


Watch = Callable[[Iterable[Row], int], Iterator[Row]]


def unwatched(rows: Iterable[Row], total: int) -> Iterator[Row]:
    """Go through `rows` with nobody looking on."""
    return iter(rows)


def sweep(service: Service, *, dry_run: bool = False, watch: Watch = unwatched) -> Summary:
    """Bring every track of a session that is over to a final status, and remove what is left over in the bucket.

    `watch` goes through the tracks that are looked at, and may show how far it has come. Raises StoreUnavailable;
    what was done until then stays done.
    """
    summary = Summary()
    over = list(_sessions_that_are_over(service))
    for row in watch(_in_chunks(service, over), _count(service, over)):
        _settle(service, row, summary, dry_run)
    if not dry_run:
        for seq in over:
            # One where a track has begun anew meanwhile is looked at again.
            done = UploadSession.seq == seq, UploadSession.initialized == 0
            UploadSession.update(swept_at=clock_now()).where(*done).execute(service.database)
    summary.sessions = len(over)
    _end_fresh_covers(service, summary, dry_run)
    _remove_orphans(service, summary, dry_run)
    _abort_stale_uploads(service, summary, dry_run)
    summary.keys_forgotten = idempotency.forget(service, dry_run=dry_run)
    return summary


def _sessions_that_are_over(service: Service) -> Iterator[int]:
    query = UploadSession.select(UploadSession.seq).where(
        UploadSession.swept_at.is_null(), UploadSession.expires_at <= clock_now() - verify.UNDER_WAY
    )
    for row in query.dicts().execute(service.database):
        yield row["seq"]


def _waiting(sessions: list[int]) -> ModelSelect[Track]:
    """Tracks of these sessions that came to no end yet, or whose covers did not."""
    pending_cover = (Track.status == "uploaded") & (Track.cover_status.is_null() | (Track.cover_status == "failed"))
    return tracks.select().where(Track.session.in_(sessions), (Track.status == "initialized") | pending_cover)


def _in_chunks(service: Service, sessions: list[int]) -> Iterator[Row]:
    for start in range(0, len(sessions), CHUNK):
        yield from tracks.rows(service, _waiting(sessions[start : start + CHUNK]).order_by(Track.seq))


def _count(service: Service, sessions: list[int]) -> int:
    starts = range(0, len(sessions), CHUNK)
    return sum(_waiting(sessions[n : n + CHUNK]).bind(service.database).count() for n in starts)


def _settle(service: Service, row: Row, summary: Summary, dry_run: bool) -> None:
    before = row["status"]
    if dry_run:
        if before == "initialized":
            there = service.bucket.head(row["path"]) is not None
            summary.uploaded, summary.expired = summary.uploaded + there, summary.expired + (not there)
        return
    try:
        row = verify.complete(service, row)
    except NotUploaded:
        if tracks.move(service, row, "expired"):
            tracks.clear(service, row)
            summary.expired += 1
        return
    if before == "initialized":
        summary.uploaded += row["status"] == "uploaded"
        summary.failed += row["status"] == "failed"
    if row["cover_status"] == "uploaded":
        summary.covers += 1
    elif row["status"] == "uploaded":
        # No cover came, or none that was one, and no URL takes another.
        pending = Track.cover_status.is_null() | (Track.cover_status == "failed")
        Track.update(cover_status="expired").where(Track.id == row["id"], pending).execute(service.database)


def _end_fresh_covers(service: Service, summary: Summary, dry_run: bool) -> None:
    """Covers that were to replace others, and whose URLs are dead: take what came, and wait no longer for the rest."""
    dead = Track.cover_until <= clock_now() - verify.UNDER_WAY
    due = tracks.select().where(dead)
    for row in tracks.rows(service, due):
        if dry_run:
            continue
        path = row["cover_next"]
        row = verify.complete(service, row)
        if row["cover_next"] is None:
            summary.covers += row["cover_path"] != path
            continue
        waiting = Track.update(cover_next=None, cover_until=None)
        waiting.where(Track.id == row["id"], Track.cover_next == path, dead).execute(service.database)


def _remove_orphans(service: Service, summary: Summary, dry_run: bool) -> None:
    prefix = service.settings.s3_prefix
    # A key is listed before its row is read: whatever the row says then is newer than the object.
    for chunk in _chunks((item.key, item.last_modified) for item in service.bucket.objects(prefix)):
        for key in _orphans(service, chunk, prefix):
            summary.objects_removed += 1
            if not dry_run:
                service.bucket.remove(key)


def _orphans(service: Service, chunk: list[tuple[str, datetime | None]], prefix: str) -> Iterator[str]:
    ids = {key: names.track_id_in(key, prefix) for key, _ in chunk}
    known = {row["id"]: row for row in tracks.read_many(service, [id_ for id_ in ids.values() if id_])}
    for key, written in chunk:
        id_ = ids[key]
        if id_ is None:
            continue
        row = known.get(id_)
        if (row is None and _older(written, UNKNOWN_AGE)) or (row is not None and not _wanted(row, key, prefix)):
            yield key


def _wanted(row: Row, key: str, prefix: str) -> bool:
    """Whether `key` belongs to the track, or may yet."""
    if row["status"] == "initialized":
        return True
    if row["status"] != "uploaded":
        return False
    if names.is_cover(key, prefix):
        # As long as a cover is awaited, somebody may be sealing it, under a key that no row knows yet.
        awaited = row["cover_next"] is not None or row["cover_status"] in (None, "failed")
        return awaited or (key == row["cover_path"] and row["cover_status"] == "uploaded")
    return bool(key == row["path"])


def _abort_stale_uploads(service: Service, summary: Summary, dry_run: bool) -> None:
    prefix = service.settings.s3_prefix
    for chunk in _chunks(service.bucket.multiparts(prefix)):
        ids = {key: names.track_id_in(key, prefix) for key, _, _ in chunk}
        known = {row["id"]: row for row in tracks.read_many(service, [id_ for id_ in ids.values() if id_])}
        for key, upload_id, begun in chunk:
            id_ = ids[key]
            row = known.get(id_) if id_ else None
            alive = row is not None and row["status"] == "initialized" and row["upload_id"] == upload_id
            if id_ is None or alive or (row is None and not _older(begun, UNKNOWN_AGE)):
                continue
            summary.uploads_aborted += 1
            if not dry_run:
                service.bucket.abort_multipart(key, upload_id)


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _older(moment: datetime | None, seconds: int) -> bool:
    return moment is not None and (datetime.now(UTC) - moment).total_seconds() > seconds
