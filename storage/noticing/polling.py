"""Polling by the worker: verifies what was uploaded, whatever client sent it.

One listing of this deployment's staging prefix shows up to 1,000 pending uploads. Only a write-once track and one with
a multipart upload must be asked for by key, at every poll while it is young, and later once in FULL_INTERVAL seconds;
once it is a day old, in OLDEST_INTERVAL: a session may be open for weeks, and most of what is left then never comes.
So is every track where the store cannot list.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from storage.clock import now as clock_now
from storage.db.errors import DATABASE_ERRORS
from storage.db.models import Track, UploadSession
from storage.db.rows import TrackRow
from storage.errors import ServiceError
from storage.s3.errors import is_outage
from storage.s3.object_keys import StagedUpload
from storage.service import Service
from storage.uploads import arrivals, removals, tracks, verification
from storage.uploads.arrivals import StagedObject

logger = logging.getLogger("loadbay.verification")

CHUNK_SECONDS = 20.0
"""Time for a chunk of verifications. A copy that takes longer goes on in the store, and is looked for later."""

YOUNG_SECONDS = 120
FULL_INTERVAL = 45
"""Seconds between two polls for direct tracks that are no longer young, so that each is noticed within a minute."""

OLD_SECONDS = 86_400
OLDEST_INTERVAL = 3600
"""Seconds between two polls for direct tracks that were registered more than OLD_SECONDS ago."""

MAX_REMOVALS = 5_000
"""Removals after which a poll ends, lest other uploads wait for them."""

DIRECT = (
    "SELECT id, seq FROM loadbay_track WHERE status = 'initialized' AND (write_once OR upload_id IS NOT NULL) "
    "AND seq < ? AND created_at >= ? ORDER BY seq DESC LIMIT ?"
)
"""Its first condition is that of the index loadbay_track_pending_direct, to the letter."""

UNLISTED = (
    "SELECT id, seq FROM loadbay_track WHERE status = 'initialized' AND session_seq IN "
    "(SELECT seq FROM loadbay_upload_session WHERE swept_at IS NULL AND initialized > 0) "
    "AND seq < ? AND created_at >= ? ORDER BY seq DESC LIMIT ?"
)
"""As DIRECT, for a store that cannot list: every track is asked for by its key."""

Watch = Callable[[], None]
"""Called between two chunks; may raise to end the poll."""


@dataclass
class PollSummary:
    """Counts of what a poll has found and done."""

    uploaded: int = 0
    failed: int = 0
    removed: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{name}: {count}" for name, count in vars(self).items() if count)


def poll(service: Service, watch: Watch, *, include_old: bool = True, include_oldest: bool = True) -> PollSummary:
    """Verify what was uploaded, and carry out the removals that are due.

    Without `include_old`, a direct track is asked for only while it is young, and without `include_oldest` until it is
    a day old. A fault of one track is logged and
    passed. Raises StorageUnavailable, StorageRejected and DATABASE_ERRORS in an outage.
    """
    summary = PollSummary()
    for page in arrivals.list_staged(service):
        # What is verified next leaves removals of its own.
        arrivals.collect_useless(service, page)
        rows = _pending_rows(page)
        for start in range(0, len(rows), verification.CHUNK):
            watch()
            _verify(service, rows[start : start + verification.CHUNK], summary)
    for rows in _direct_rows(service, include_old, include_oldest):
        watch()
        _verify(service, rows, summary)
    if include_old and not service.choices.lists_objects:
        for rows in _rows_without_cover(service):
            watch()
            _verify(service, rows, summary)
    summary.removed = sum(removals.work_off(service, limit=MAX_REMOVALS))
    return summary


def resume(service: Service, watch: Watch) -> PollSummary:
    """Continue verifications whose lease is over, and wait for their copies as long as these take."""
    summary, last = PollSummary(), 0
    while rows := _abandoned_rows(service, last):
        watch()
        last = rows[-1]["seq"]
        _verify(service, rows, summary, verification.BACKGROUND_SECONDS)
    return summary


# --- Tracks to verify -------------------------------------------------------------------------------------------------


def _pending_rows(page: Sequence[StagedObject]) -> list[TrackRow]:
    """Return the rows of tracks to which one of these staged objects is new, in order of registration."""
    pending = {
        row["seq"]: row for info, upload, row in page if upload and row is not None and _is_new(row, upload, info.etag)
    }
    return [pending[seq] for seq in sorted(pending)]


def _is_new(row: TrackRow, upload: StagedUpload, etag: str) -> bool:
    rejected = upload.is_cover and etag == row["cover_rejected_etag"]
    return arrivals.is_pending(row, upload) and not rejected


def _direct_rows(service: Service, include_old: bool, include_oldest: bool) -> Iterator[list[TrackRow]]:
    """Yield chunks of tracks that may have been uploaded without showing in a listing, the newest first."""
    age = OLD_SECONDS if include_old else YOUNG_SECONDS
    since = 0 if include_old and include_oldest else clock_now() - age
    last = 2**63 - 1
    statement = DIRECT if service.choices.lists_objects else UNLISTED
    while batch := service.execute(statement, (last, since, verification.CHUNK)).fetchall():
        yield tracks.read_many(service, [track_id for track_id, _ in batch])
        last = batch[-1][1]


def _rows_without_cover(service: Service) -> Iterator[list[TrackRow]]:
    """Yield chunks of uploaded tracks of open sessions whose cover may have been sent."""
    last = 0
    while True:
        pending = tracks.select().where(tracks.pending_cover(), UploadSession.swept_at.is_null(), Track.seq > last)
        batch = tracks.rows(service, pending.order_by(Track.seq).limit(verification.CHUNK))
        if not batch:
            return
        yield batch
        last = batch[-1]["seq"]


def _abandoned_rows(service: Service, after: int) -> list[TrackRow]:
    statement = (
        "SELECT id FROM loadbay_track WHERE lease_expires_at IS NOT NULL AND lease_expires_at <= ? AND seq > ? "
        "AND (status = 'initialized' OR status = 'uploaded' AND cover_chosen_etag IS NOT NULL) ORDER BY seq LIMIT ?"
    )
    ids = service.execute(statement, (clock_now(), after, verification.CHUNK)).fetchall()
    return tracks.read_many(service, [track_id for (track_id,) in ids])


# --- Verification -----------------------------------------------------------------------------------------------------


def _verify(service: Service, rows: Sequence[TrackRow], summary: PollSummary, seconds: float = CHUNK_SECONDS) -> None:
    """Verify a chunk of tracks. Where it raises what no outage explains, verify each alone, and log the culprit."""
    try:
        before = {row["id"]: row["status"] for row in rows}
        for outcome in verification.verify(service, rows, background=True, seconds=seconds):
            if before[outcome.row["id"]] == "initialized":
                summary.uploaded += outcome.status == "uploaded"
                summary.failed += outcome.status == "failed"
    except DATABASE_ERRORS:
        raise
    except Exception as e:
        if is_outage(e) and not service.bucket.exists():
            raise
        if len(rows) > 1:
            for row in tracks.read_many(service, [row["id"] for row in rows]):
                _verify(service, [row], summary, seconds)
        elif rows:
            unexpected = None if isinstance(e, ServiceError) else e
            logger.error(
                "Verification of track %s failed: %s", rows[0]["id"], verification.describe(e), exc_info=unexpected
            )
