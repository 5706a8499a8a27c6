"""The sweeper: finalizes tracks of expired sessions, aborts abandoned multipart uploads, deletes orphaned objects.

Every step is a conditional update or idempotent, so that sweepers may run concurrently with each other and with
uploads. An uploaded object is never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from peewee import ModelSelect

from storage.clock import now as clock_now
from storage.db.models import Track, UploadSession
from storage.errors import NotUploaded
from storage.s3 import object_keys
from storage.service import Service
from storage.uploads import idempotency, tracks, verification

Row = dict[str, Any]

# An object or upload that no row knows may be another deploy's, or a moment old: it is left for a day.
ORPHAN_GRACE_SECONDS = 86_400
CHUNK = 500


@dataclass
class SweepSummary:
    """Counts of what a sweep did, or would do."""

    sessions: int = 0
    uploaded: int = 0
    failed: int = 0
    expired: int = 0
    covers: int = 0
    objects_removed: int = 0
    uploads_aborted: int = 0
    idempotency_keys_purged: int = 0

    def lines(self) -> list[str]:
        """Return a line for each count that is not zero."""
        return [f"{name.replace('_', ' ')}: {count}" for name, count in asdict(self).items() if count]


ProgressCallback = Callable[[Iterable[Row], int], Iterator[Row]]


def no_progress(rows: Iterable[Row], total: int) -> Iterator[Row]:
    """Iterate over `rows` without reporting progress."""
    return iter(rows)


def sweep(service: Service, *, dry_run: bool = False, watch: ProgressCallback = no_progress) -> SweepSummary:
    """Finalize every track of each expired session, and delete what is left over in the bucket.

    `watch` iterates over the tracks and may report progress. Raises StorageUnavailable; what was done until then
    stays done.
    """
    summary = SweepSummary()
    over = list(_expired_sessions(service))
    for row in watch(_in_chunks(service, over), _count(service, over)):
        _finalize_track(service, row, summary, dry_run)
    if not dry_run:
        for seq in over:
            # One where a track has begun anew meanwhile is looked at again.
            done = UploadSession.seq == seq, UploadSession.initialized == 0
            UploadSession.update(swept_at=clock_now()).where(*done).execute(service.database)
    summary.sessions = len(over)
    _finalize_cover_replacements(service, summary, dry_run)
    _remove_orphans(service, summary, dry_run)
    _abort_stale_uploads(service, summary, dry_run)
    summary.idempotency_keys_purged = idempotency.purge_expired(service, dry_run=dry_run)
    return summary


def _expired_sessions(service: Service) -> Iterator[int]:
    query = UploadSession.select(UploadSession.seq).where(
        UploadSession.swept_at.is_null(), UploadSession.expires_at <= clock_now() - verification.LATE_UPLOAD_GRACE
    )
    for row in query.dicts().execute(service.database):
        yield row["seq"]


def _unfinished_tracks(sessions: list[int]) -> ModelSelect[Track]:
    """Tracks of these sessions that came to no end yet, or whose covers did not."""
    pending_cover = (Track.status == "uploaded") & (Track.cover_status.is_null() | (Track.cover_status == "failed"))
    return tracks.select().where(Track.session.in_(sessions), (Track.status == "initialized") | pending_cover)


def _in_chunks(service: Service, sessions: list[int]) -> Iterator[Row]:
    for start in range(0, len(sessions), CHUNK):
        yield from tracks.rows(service, _unfinished_tracks(sessions[start : start + CHUNK]).order_by(Track.seq))


def _count(service: Service, sessions: list[int]) -> int:
    starts = range(0, len(sessions), CHUNK)
    return sum(_unfinished_tracks(sessions[n : n + CHUNK]).bind(service.database).count() for n in starts)


def _finalize_track(service: Service, row: Row, summary: SweepSummary, dry_run: bool) -> None:
    before = row["status"]
    if dry_run:
        if before == "initialized":
            there = service.bucket.head(row["path"]) is not None
            summary.uploaded, summary.expired = summary.uploaded + there, summary.expired + (not there)
        return
    try:
        row = verification.complete(service, row)
    except NotUploaded:
        if tracks.transition(service, row, "expired"):
            tracks.delete_objects(service, row)
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


def _finalize_cover_replacements(service: Service, summary: SweepSummary, dry_run: bool) -> None:
    """Covers that were to replace others, and whose URLs are dead: take what came, and wait no longer for the rest."""
    dead = Track.next_cover_expires_at <= clock_now() - verification.LATE_UPLOAD_GRACE
    due = tracks.select().where(dead)
    for row in tracks.rows(service, due):
        if dry_run:
            continue
        path = row["next_cover_path"]
        row = verification.complete(service, row)
        if row["next_cover_path"] is None:
            summary.covers += row["cover_path"] != path
            continue
        waiting = Track.update(next_cover_path=None, next_cover_expires_at=None)
        waiting.where(Track.id == row["id"], Track.next_cover_path == path, dead).execute(service.database)


def _remove_orphans(service: Service, summary: SweepSummary, dry_run: bool) -> None:
    prefix = service.settings.s3_prefix
    # A key is listed before its row is read: whatever the row says then is newer than the object.
    for chunk in _chunks((item.key, item.last_modified) for item in service.bucket.list_objects(prefix)):
        for key in _orphans(service, chunk, prefix):
            summary.objects_removed += 1
            if not dry_run:
                service.bucket.remove(key)


def _orphans(service: Service, chunk: list[tuple[str, datetime | None]], prefix: str) -> Iterator[str]:
    ids = {key: object_keys.parse_track_id(key, prefix) for key, _ in chunk}
    known = {row["id"]: row for row in tracks.read_many(service, [id_ for id_ in ids.values() if id_])}
    for key, written in chunk:
        id_ = ids[key]
        if id_ is None:
            continue
        row = known.get(id_)
        if (row is None and _older(written, ORPHAN_GRACE_SECONDS)) or (
            row is not None and not _is_referenced(row, key, prefix)
        ):
            yield key


def _is_referenced(row: Row, key: str, prefix: str) -> bool:
    """Whether `key` belongs to the track, or may yet."""
    if row["status"] == "initialized":
        return True
    if row["status"] != "uploaded":
        return False
    if object_keys.is_cover(key, prefix):
        # As long as a cover is awaited, somebody may be sealing it, under a key that no row knows yet.
        awaited = row["next_cover_path"] is not None or row["cover_status"] in (None, "failed")
        return awaited or (key == row["cover_path"] and row["cover_status"] == "uploaded")
    return bool(key == row["path"])


def _abort_stale_uploads(service: Service, summary: SweepSummary, dry_run: bool) -> None:
    prefix = service.settings.s3_prefix
    for chunk in _chunks(service.bucket.list_multipart_uploads(prefix)):
        ids = {key: object_keys.parse_track_id(key, prefix) for key, _, _ in chunk}
        known = {row["id"]: row for row in tracks.read_many(service, [id_ for id_ in ids.values() if id_])}
        for key, upload_id, begun in chunk:
            id_ = ids[key]
            row = known.get(id_) if id_ else None
            alive = row is not None and row["status"] == "initialized" and row["upload_id"] == upload_id
            if id_ is None or alive or (row is None and not _older(begun, ORPHAN_GRACE_SECONDS)):
                continue
            summary.uploads_aborted += 1
            if not dry_run:
                service.bucket.abort_multipart_upload(key, upload_id)


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _older(moment: datetime | None, seconds: int) -> bool:
    return moment is not None and (datetime.now(UTC) - moment).total_seconds() > seconds
