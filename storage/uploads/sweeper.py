"""The sweeper: finalizes the tracks of expired sessions, and deletes what is recorded as useless.

Every step is a conditional update or idempotent, so that a sweeper may run at the same time as others and as uploads.
The cost of a sweep depends on what is pending: it lists nothing but this deployment's staging prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

from peewee import ModelSelect

from storage.clock import now as clock_now
from storage.db.batches import Pace, ProgressCallback, no_progress
from storage.db.models import Track, UploadSession
from storage.db.rows import TrackRow
from storage.errors import NotUploaded
from storage.s3.errors import StorageFault
from storage.service import Service
from storage.uploads import (
    arrivals,
    covers,
    idempotency,
    inspection,
    removals,
    retention,
    staging,
    tracks,
    verification,
)
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
    sessions_deleted: int = 0
    tracks_deleted: int = 0
    dead_letters_purged: int = 0

    def lines(self) -> list[str]:
        """Return a line for each count that is not zero."""
        return [f"{name.replace('_', ' ')}: {count}" for name, count in asdict(self).items() if count]


def sweep(
    service: Service, *, dry_run: bool = False, force: bool = True, watch: ProgressCallback = no_progress
) -> SweepSummary:
    """Finalize every track of each expired session, carry out the removals that are due, and delete old rows.

    `watch` iterates over the tracks, then over the sessions, and may report progress. Old rows are looked for once a
    day, unless `force` is set. A fault of one track is logged, and the track is left to the next sweep. Raises
    StorageUnavailable, StorageRejected; what was done until then stays done.
    """
    summary = SweepSummary()
    _purge(service, summary, dry_run)
    expired = list(_expired_sessions(service))
    rows = watch(_in_chunks(service, expired), _count(service, expired))
    while chunk := list(islice(rows, verification.CHUNK)):
        (_preview if dry_run else _finalize)(service, chunk, summary)
    if dry_run:
        summary.objects_removed, summary.uploads_aborted = removals.count_due(service)
    else:
        _end_sessions(service, expired)
        _finalize_cover_replacements(service, summary)
        for page in arrivals.list_staged(service):
            arrivals.collect_useless(service, page)
        summary.objects_removed, summary.uploads_aborted = removals.work_off(service)
    summary.sessions = len(expired)
    retained = retention.apply(service, force=force, dry_run=dry_run, watch=watch)
    summary.sessions_deleted, summary.tracks_deleted = retained.sessions, retained.tracks
    return summary


def _purge(service: Service, summary: SweepSummary, dry_run: bool) -> None:
    """Delete what has expired in the database alone: a store that does not answer is no reason to keep it."""
    summary.idempotency_keys_purged = idempotency.purge_expired(service, dry_run=dry_run)
    summary.dead_letters_purged = retention.purge_dead_letters(service, dry_run=dry_run)


# --- Tracks of expired sessions --------------------------------------------------------------------------------------


def _expired_sessions(service: Service) -> Iterator[int]:
    over = clock_now() - staging.LATE_UPLOAD_GRACE
    no_urls = UploadSession.urls_expire_at.is_null() | (UploadSession.urls_expire_at <= over)
    query = UploadSession.select(UploadSession.seq).where(
        UploadSession.swept_at.is_null(), UploadSession.expires_at <= over, no_urls
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


def _end_sessions(service: Service, seqs: Sequence[int]) -> None:
    """Mark sessions as swept, unless one of their tracks is still to be finalized."""
    pace = Pace(share=0.5)
    empty = _end_empty(service, seqs, pace)
    for seq in seqs:
        if seq not in empty and not _is_unfinished(service, seq):
            _give_up_rest(service, seq, pace)
            _end_session(service, seq)


def _end_empty(service: Service, seqs: Sequence[int], pace: Pace) -> set[int]:
    """Mark the sessions that have no tracks as swept, many at a time, and return them."""
    ended, start = set[int](), 0
    while start < len(seqs):
        with pace.transaction(service.database) as limit:
            chunk = seqs[start : start + limit]
            change = UploadSession.update(swept_at=clock_now())
            change = change.where(UploadSession.seq.in_(chunk), UploadSession.track_count == 0)
            ended |= {row.seq for row in change.returning(UploadSession.seq).execute(service.database)}
        start += len(chunk)
    return ended


def _is_unfinished(service: Service, seq: int) -> bool:
    initialized = UploadSession.select(UploadSession.initialized).where(UploadSession.seq == seq)
    copying = Track.select(Track.seq).where(Track.session == seq, Track.cover_chosen_etag.is_null(False)).limit(1)
    return bool(initialized.bind(service.database).scalar() or copying.bind(service.database).scalar())


def _give_up_rest(service: Service, seq: int, pace: Pace) -> None:
    """Expect no more covers of a session's tracks, and record the removal of what they and failed tracks have left."""
    missing = Track.cover_status.is_null() | (Track.cover_status == "failed")
    no_cover, not_chosen = (Track.status == "uploaded") & missing, Track.cover_chosen_etag.is_null()
    rest, last = (Track.status == "failed") | ((no_cover | tracks.pending_cover()) & not_chosen), 0
    while True:
        with pace.transaction(service.database) as limit:
            query = tracks.select().where(Track.session == seq, Track.seq > last, rest).order_by(Track.seq).limit(limit)
            rows = tracks.rows(service, query)
            for row in rows:
                removals.add(service, removals.after_session(service, row))
            change = Track.update(cover_status="expired").where(no_cover & not_chosen)
            change.where(Track.seq.in_([row["seq"] for row in rows])).execute(service.database)
        if len(rows) < limit:
            return
        last = rows[-1]["seq"]


def _end_session(service: Service, seq: int) -> None:
    with service.database.atomic():
        if not _is_unfinished(service, seq):
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
