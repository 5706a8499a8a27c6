"""The sweeper: finalizes the tracks of expired sessions, and deletes what is recorded as useless.

Every step is a conditional update or idempotent, so that a sweeper may run at the same time as others and as uploads.
The cost of a sweep depends on what is pending: it lists nothing but this deployment's staging prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

from peewee import ModelSelect

from storage.clock import now as clock_now
from storage.db.models import Track, UploadSession
from storage.db.rows import TrackRow
from storage.errors import NotUploaded
from storage.s3.errors import StorageFault
from storage.service import Service
from storage.uploads import arrivals, covers, idempotency, inspection, removals, staging, tracks, verification
from storage.uploads.removals import NewRemoval

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


ProgressCallback = Callable[[Iterable[TrackRow], int], Iterator[TrackRow]]


def no_progress(rows: Iterable[TrackRow], total: int) -> Iterator[TrackRow]:
    """Iterate over `rows` without reporting progress."""
    return iter(rows)


def sweep(service: Service, *, dry_run: bool = False, watch: ProgressCallback = no_progress) -> SweepSummary:
    """Finalize every track of each expired session, and carry out the removals that are due.

    `watch` iterates over the tracks and may report progress. A fault of one track is logged, and the track is left to
    the next sweep. Raises StorageUnavailable, StorageRejected; what was done until then stays done.
    """
    summary = SweepSummary()
    expired = list(_expired_sessions(service))
    rows = watch(_in_chunks(service, expired), _count(service, expired))
    while chunk := list(islice(rows, verification.CHUNK)):
        (_preview if dry_run else _finalize)(service, chunk, summary)
    if dry_run:
        summary.objects_removed, summary.uploads_aborted = removals.count_due(service)
    else:
        for seq in expired:
            _end_session(service, seq)
        _finalize_cover_replacements(service, summary)
        for page in arrivals.list_staged(service):
            arrivals.collect_useless(service, page)
        summary.objects_removed, summary.uploads_aborted = removals.work_off(service)
    summary.sessions = len(expired)
    summary.idempotency_keys_purged = idempotency.purge_expired(service, dry_run=dry_run)
    return summary


# --- Tracks of expired sessions --------------------------------------------------------------------------------------


def _expired_sessions(service: Service) -> Iterator[int]:
    query = UploadSession.select(UploadSession.seq).where(
        UploadSession.swept_at.is_null(), UploadSession.expires_at <= clock_now() - staging.LATE_UPLOAD_GRACE
    )
    for row in list(query.dicts().execute(service.database)):
        yield row["seq"]


def _unfinished_tracks(sessions: Sequence[int]) -> ModelSelect[Track]:
    """Return the query for tracks of these sessions that are not final, or whose covers may have been uploaded."""
    unfinished = (Track.status == "initialized") | tracks.pending_cover()
    return tracks.select().where(Track.session.in_(sessions), unfinished)


def _in_chunks(service: Service, sessions: Sequence[int]) -> Iterator[TrackRow]:
    for start in range(0, len(sessions), CHUNK):
        yield from tracks.rows(service, _unfinished_tracks(sessions[start : start + CHUNK]).order_by(Track.seq))


def _count(service: Service, sessions: Sequence[int]) -> int:
    starts = range(0, len(sessions), CHUNK)
    return sum(_unfinished_tracks(sessions[n : n + CHUNK]).bind(service.database).count() for n in starts)


def _preview(service: Service, rows: Sequence[TrackRow], summary: SweepSummary) -> None:
    """Count what `_finalize` would do."""
    for row in rows:
        if row["status"] != "initialized":
            continue
        try:
            failure = inspection.inspect(service, row).failure
        except NotUploaded:
            summary.expired += 1
        except StorageFault:
            continue
        else:
            summary.failed, summary.uploaded = summary.failed + bool(failure), summary.uploaded + (not failure)


def _finalize(service: Service, rows: Sequence[TrackRow], summary: SweepSummary) -> None:
    # A verification changes the rows that it is given.
    before = [(row["status"], row["cover_status"]) for row in rows]
    outcomes = verification.verify(service, rows, background=True)
    absent = [(outcome.row, None) for outcome in outcomes if outcome.status == "not_uploaded"]
    summary.expired += tracks.change_each(service, absent, lambda row, _: _expire(service, row)).count(True)
    for (status, cover_status), outcome in zip(before, outcomes, strict=True):
        if status == "initialized":
            summary.uploaded += outcome.status == "uploaded"
            summary.failed += outcome.status == "failed"
        summary.covers += outcome.row["cover_status"] == "uploaded" != cover_status


def _expire(service: Service, row: TrackRow) -> bool:
    useless = removals.after_expiry(service, row)
    expired = tracks.update(service, row, verification.UNCHOSEN, (row["attempt"],), {"status": "expired"})
    if expired:
        removals.add(service, useless)
    return expired


def _end_session(service: Service, seq: int) -> None:
    """Mark a session as swept, unless one of its tracks is still to be finalized, and give up what it has left."""
    tracks_of_session = Track.session == seq
    with service.database.atomic():
        session = UploadSession.select(UploadSession.initialized).where(UploadSession.seq == seq)
        copying = Track.select(Track.seq).where(tracks_of_session, Track.cover_chosen_etag.is_null(False)).limit(1)
        if session.bind(service.database).scalar() or copying.bind(service.database).scalar():
            return
        for row in tracks.rows(service, tracks.select().where(tracks_of_session, tracks.pending_cover())):
            removals.add(service, [NewRemoval(staging.cover_key(service, row), clock_now())])
        missing = Track.cover_status.is_null() | (Track.cover_status == "failed")
        no_cover = tracks_of_session, Track.status == "uploaded", missing
        Track.update(cover_status="expired").where(*no_cover).execute(service.database)
        for row in tracks.rows(service, tracks.select().where(tracks_of_session, Track.status == "failed")):
            removals.add(service, removals.after_failed_session(service, row))
        ended = UploadSession.update(swept_at=clock_now())
        ended.where(UploadSession.seq == seq, UploadSession.initialized == 0).execute(service.database)


# --- Cover replacements ----------------------------------------------------------------------------------------------


def _finalize_cover_replacements(service: Service, summary: SweepSummary) -> None:
    """Verify the covers that were to replace others and whose URLs have expired, and expect no more of them."""
    over = clock_now() - staging.LATE_UPLOAD_GRACE
    due = tracks.rows(service, tracks.select().where(Track.next_cover_expires_at <= over))
    for outcome in verification.verify(service, due, background=True):
        row = outcome.row
        if row["next_cover_expires_at"] is None:
            summary.covers += 1
            continue
        where = f"{covers.EXPECTED} AND next_cover_expires_at <= ? AND cover_chosen_etag IS NULL"
        useless = NewRemoval(staging.cover_key(service, row), clock_now())
        with service.database.atomic():
            parameters = row["cover_attempt"], over
            if tracks.update(service, row, where, parameters, {"next_cover_expires_at": None}):
                removals.add(service, [useless])
