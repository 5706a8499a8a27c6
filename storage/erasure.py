"""Erasure: deletes the rows of chosen sessions with all that belongs to them, and their files if that is asked for.

A session is closed first, so that it takes no more tracks. Then its tracks are deleted in short transactions, each with
the removals of what they leave in the bucket: what is interrupted can be repeated, and no object is deleted but by a
record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_
from typing import Any, NamedTuple

from peewee import fn

from storage.db.batches import Pace, ProgressCallback, delete_in_batches, no_progress
from storage.db.models import IdempotencyKey, Removal, Track, UploadSession, WebhookDelivery
from storage.db.rows import TrackRow
from storage.s3.bucket import MAX_KEYS
from storage.service import Service
from storage.uploads import removals, tracks

PAGE = 500
"""Sessions that are read at a time."""


class Selection(NamedTuple):
    """The sessions to erase: those that have all of these ids. None stands for any."""

    collection_id: str | None = None
    creator_id: str | None = None
    session_id: str | None = None
    organization_id: str | None = None

    def condition(self) -> Any:
        """Return the condition for the sessions. Raises ValueError for a selection of all sessions."""
        columns = (UploadSession.collection_id, UploadSession.creator_id, UploadSession.id)
        pairs = [(column, value) for column, value in zip(columns, self[:3], strict=True) if value is not None]
        if not pairs:
            raise ValueError("A selection must name a collection, a creator or a session.")
        if self.organization_id is not None:
            pairs.append((UploadSession.organization_id, self.organization_id))
        return reduce(and_, [column == value for column, value in pairs])


@dataclass
class ErasureSummary:
    """Numbers of deleted rows, of objects and multipart uploads removed, and of those that will be removed later.

    `last_due_at` (seconds since the epoch) is the time from which the last of these can be removed.
    """

    sessions: int = 0
    tracks: int = 0
    webhook_deliveries: int = 0
    idempotency_keys: int = 0
    removals: int = 0
    pending_removals: int = 0
    last_due_at: int | None = None
    recorded: list[int] = field(default_factory=list, repr=False)


def ignore_track(row: TrackRow) -> None:
    """Do nothing: the default of `erase`."""


def count(service: Service, selection: Selection) -> tuple[int, int]:
    """Return the numbers of the sessions and of their tracks."""
    query = UploadSession.select(fn.COUNT(UploadSession.seq), fn.SUM(UploadSession.track_count))
    sessions, track_count = next(iter(query.where(selection.condition()).tuples().execute(service.database)))
    return int(sessions), int(track_count or 0)


def erase(
    service: Service,
    selection: Selection,
    *,
    objects: bool,
    on_track: Callable[[TrackRow], None] = ignore_track,
    watch: ProgressCallback = no_progress,
) -> ErasureSummary:
    """Erase the selected sessions; with `objects`, also the files and covers that are `uploaded`.

    What was uploaded without being verified is removed in any case. `on_track` is called with each deleted track,
    `watch` iterates over the sessions. Objects that cannot be removed yet stay recorded for the worker.
    """
    erasure = _Erasure(service, objects, on_track)
    total, _ = count(service, selection)
    for page in _pages(service, selection):
        erasure.delete_idempotency_keys([session_id for _, session_id in page])
    for seq in watch((seq for page in _pages(service, selection) for seq, _ in page), total):
        erasure.erase_session(seq)
    erasure.count_pending()
    return erasure.summary


def _pages(service: Service, selection: Selection) -> Iterator[list[tuple[int, str]]]:
    last = 0
    while True:
        query = UploadSession.select(UploadSession.seq, UploadSession.id).where(selection.condition())
        query = query.where(UploadSession.seq > last).order_by(UploadSession.seq).limit(PAGE)
        page = list(query.tuples().execute(service.database))
        if not page:
            return
        yield page
        last = page[-1][0]


class _Erasure:
    """The erasure of sessions, one after the other."""

    def __init__(self, service: Service, objects: bool, on_track: Callable[[TrackRow], None]):
        self.service, self.objects, self.on_track = service, objects, on_track
        self.database, self.pace, self.summary = service.database, Pace(share=0.5), ErasureSummary()

    def delete_idempotency_keys(self, session_ids: Sequence[str]) -> None:
        """Delete the keys of requests that created these sessions or tracks in them."""
        condition = IdempotencyKey.session_id.in_(session_ids)
        deleted = delete_in_batches(self.database, IdempotencyKey, condition, IdempotencyKey.created_at, self.pace)
        self.summary.idempotency_keys += deleted

    def erase_session(self, seq: int) -> None:
        """Delete the rows of a session, and remove what they leave in the bucket."""
        events = WebhookDelivery.session_seq == seq
        deleted = delete_in_batches(self.database, WebhookDelivery, events, WebhookDelivery.seq, self.pace)
        self.summary.webhook_deliveries += deleted
        with self.database.atomic():
            # The event of the closing must not be sent.
            UploadSession.update(status="closed").where(UploadSession.seq == seq).execute(self.database)
            WebhookDelivery.delete().where(events).execute(self.database)
        while self._erase_tracks(seq):
            pass
        with self.database.atomic():
            self.summary.webhook_deliveries += WebhookDelivery.delete().where(events).execute(self.database)
            query = UploadSession.delete().where(UploadSession.seq == seq, UploadSession.track_count == 0)
            self.summary.sessions += query.execute(self.database)

    def _erase_tracks(self, session_seq: int) -> int:
        """Delete some tracks of a session, record what they leave in the bucket, and remove it; return their number."""
        query = Track.select(Track.id).where(Track.session == session_seq).order_by(Track.seq).limit(self.pace.rows)
        ids = [track_id for (track_id,) in query.tuples().execute(self.database)]
        if not ids:
            return 0
        with self.pace.transaction(self.database):
            tracks.lock(self.service, ids)
            rows = tracks.read_many(self.service, ids)
            useless = [item for row in rows for item in removals.after_erasure(self.service, row, self.objects)]
            recorded = removals.add(self.service, useless)
            Track.delete().where(Track.id.in_([row["id"] for row in rows])).execute(self.database)
        for row in rows:
            self.on_track(row)
        for start in range(0, len(recorded), MAX_KEYS):
            removals.try_now(self.service, recorded[start : start + MAX_KEYS])
        self.summary.tracks += len(rows)
        self.summary.recorded += recorded
        return len(rows)

    def count_pending(self) -> None:
        """Count the removals that are done, and those that are not."""
        recorded, summary = self.summary.recorded, self.summary
        for start in range(0, len(recorded), PAGE):
            query = Removal.select(fn.COUNT(Removal.seq), fn.MAX(Removal.due_at))
            query = query.where(Removal.seq.in_(recorded[start : start + PAGE]))
            number, due_at = next(iter(query.tuples().execute(self.database)))
            summary.pending_removals += number
            summary.last_due_at = max(filter(None, (due_at, summary.last_due_at)), default=None)
        summary.removals = len(recorded) - summary.pending_removals
