"""Retention: deletes the rows of sessions that were swept long ago, and of tracks that came to nothing (KEEP_SESSIONS).

Sessions are walked once a day in the order of `seq`, which no insert pays an index for. The position is kept in the row
of the job, so that an interrupted walk goes on where it was. No object is deleted: what was useless has been removed
when its track became final, and verified files stay. Old dead letters of webhooks are deleted, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from peewee import Expression, fn

from storage.clock import now as clock_now
from storage.db.batches import Pace, ProgressCallback, delete_in_batches, no_progress
from storage.db.models import Job, Track, UploadSession, WebhookDelivery
from storage.service import Service

DAY = 86_400
NOTHING_DAYS = 30
"""Days for which sessions and tracks that came to nothing are kept, unless KEEP_SESSIONS says otherwise."""

DEAD_LETTER_DAYS = 31
"""Days after its event for which a delivery that was given up can be replayed."""

FOREVER = 2**62
JOB = "retention"
PAGE = 2000
"""Sessions that are read at a time."""

NOTHING = ("failed", "expired", "cancelled")
CLAIM = (
    "INSERT INTO loadbay_job (name, due_at, position) VALUES (?, ?, 0) "
    "ON CONFLICT (name) DO UPDATE SET due_at = excluded.due_at "
    "WHERE loadbay_job.due_at <= ? OR loadbay_job.position > 0"
)


@dataclass
class RetentionSummary:
    """Numbers of the sessions and the tracks whose rows were deleted, those of their sessions included."""

    sessions: int = 0
    tracks: int = 0


class EndedSession(NamedTuple):
    """A session whose tracks are final since `swept_at`, and the number of its tracks."""

    seq: int
    swept_at: int
    track_count: int
    uploaded: int

    @property
    def is_empty(self) -> bool:
        """True if the session has no track."""
        return self.track_count == 0


def apply(
    service: Service, *, force: bool = False, dry_run: bool = False, watch: ProgressCallback = no_progress
) -> RetentionSummary:
    """Walk all sessions, and delete the rows that need not be kept, in short transactions.

    Nothing is done where a walk has ended within a day, unless `force` is set. `watch` iterates over the sessions;
    where it raises, the next walk goes on from there.
    """
    walk = _Walk(service, dry_run)
    if dry_run or _claim(service, force):
        position = 0 if dry_run else _position(service)
        walk.run(watch(_swept_sessions(service, walk, position), _last_seq(service) - position))
    return walk.summary


def _claim(service: Service, force: bool) -> bool:
    now = clock_now()
    # However far ahead a clock that was wrong has set the next walk.
    due = FOREVER if force else now
    return bool(service.execute(CLAIM, (JOB, now + DAY, due)).rowcount == 1)


def _position(service: Service) -> int:
    return int(Job.select(Job.position).where(Job.name == JOB).bind(service.database).scalar())


def _last_seq(service: Service) -> int:
    return int(UploadSession.select(fn.MAX(UploadSession.seq)).bind(service.database).scalar() or 0)


def _swept_sessions(service: Service, walk: _Walk, position: int) -> Iterator[EndedSession | None]:
    """Yield the sessions after a position, None in place of those that are not swept; note each page's end."""
    columns = [getattr(UploadSession, name) for name in EndedSession._fields]
    while True:
        query = UploadSession.select(*columns).where(UploadSession.seq > position).order_by(UploadSession.seq)
        page = [EndedSession(*values) for values in query.limit(PAGE).tuples().execute(service.database)]
        for row in page:
            yield row if row.swept_at is not None else None
        walk.note_position(page[-1].seq if len(page) == PAGE else 0)
        if len(page) < PAGE:
            return
        position = page[-1].seq


class _Walk:
    """One walk over the sessions."""

    def __init__(self, service: Service, dry_run: bool):
        self.service, self.dry_run, self.summary = service, dry_run, RetentionSummary()
        self.pace = Pace()
        self.empty: list[int] = []
        keep, now = service.settings.keep_sessions, clock_now()
        self.keeps_uploaded = keep is None
        self.ended_before = now - (NOTHING_DAYS if keep is None else keep) * DAY

    def run(self, rows: Any) -> None:
        """Delete what is due of these sessions."""
        for row in rows:
            if row is not None and row.swept_at <= self.ended_before:
                self._handle(row)
        self._delete_empty()

    def note_position(self, position: int) -> None:
        """Record the session after which an interrupted walk goes on; 0 at the end of a walk."""
        self._delete_empty()
        if not self.dry_run:
            Job.update(position=position).where(Job.name == JOB).execute(self.service.database)

    def _handle(self, row: EndedSession) -> None:
        if row.is_empty:
            self.empty.append(row.seq)
            if len(self.empty) >= self.pace.rows:
                self._delete_empty()
        elif self.keeps_uploaded and row.uploaded:
            if row.track_count > row.uploaded:
                self.summary.tracks += self._delete_tracks(row.seq, Track.status.in_(NOTHING))
        elif not self._is_busy(row.seq):
            self.summary.tracks += self._delete_tracks(row.seq, Track.status.in_((*NOTHING, "uploaded")))
            self.summary.sessions += self._delete_sessions([row.seq])

    def _is_busy(self, seq: int) -> bool:
        """Return whether a cover of the session's tracks may be replaced, or is being copied."""
        pending = Track.next_cover_expires_at.is_null(False) | Track.cover_chosen_etag.is_null(False)
        query = Track.select(Track.seq).where(Track.session == seq, pending).limit(1)
        return query.bind(self.service.database).scalar() is not None

    def _delete_tracks(self, session_seq: int, condition: Expression) -> int:
        condition = (Track.session == session_seq) & condition & Track.cover_chosen_etag.is_null()
        if self.dry_run:
            return int(Track.select().where(condition).bind(self.service.database).count())
        return delete_in_batches(self.service.database, Track, condition, Track.seq, self.pace)

    def _delete_empty(self) -> None:
        self.summary.sessions += self._delete_sessions(self.empty)
        self.empty = []

    def _delete_sessions(self, seqs: list[int]) -> int:
        """Delete sessions that have no tracks any more."""
        if self.dry_run or not seqs:
            return len(seqs)
        done = UploadSession.swept_at.is_null(False) & (UploadSession.track_count == 0)
        with self.pace.transaction(self.service.database):
            query = UploadSession.delete().where(UploadSession.seq.in_(seqs), done)
            return int(query.execute(self.service.database))


def purge_dead_letters(service: Service, *, dry_run: bool = False) -> int:
    """Delete the dead letters whose events are older than DEAD_LETTER_DAYS, and return their number."""
    old = WebhookDelivery.created_at <= clock_now() - DEAD_LETTER_DAYS * DAY
    expired = WebhookDelivery.due_at.is_null() & old
    if dry_run:
        return int(WebhookDelivery.select().where(expired).bind(service.database).count())
    return delete_in_batches(service.database, WebhookDelivery, expired, WebhookDelivery.seq)
