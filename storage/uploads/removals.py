"""Removals: the objects and multipart uploads that are no longer needed, recorded before they are deleted.

A change that makes a key useless records its removal in the same transaction; the worker and the sweeper carry the
removals out. Nothing else is ever deleted: that the database does not know a key proves nothing. A new database, a
restored one and that of another deployment do not know it either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypedDict, cast

from storage.clock import now as clock_now
from storage.db import sql
from storage.db.models import Removal, Track
from storage.db.rows import TrackRow
from storage.errors import StorageRejected, StorageUnavailable
from storage.s3 import object_keys
from storage.s3.bucket import MAX_KEYS
from storage.s3.errors import StorageFault, StorageUnsupported
from storage.service import Service
from storage.uploads import staging

logger = logging.getLogger("loadbay.removals")

COLUMNS = ("key", "upload_id", "etag", "due_at", "attempts", "created_at")
ALL_UPLOADS = ""
"""In place of an upload id: every multipart upload that is open for exactly this key."""

FIRST_BACKOFF, MAX_BACKOFF = 60, 86_400
CHUNK = 500


class NewRemoval(NamedTuple):
    """An object (or, with `upload_id`, a multipart upload) to be removed from `due_at` on.

    With `etag`, the object is removed only if it still has this ETag.
    """

    key: str
    due_at: int
    upload_id: str | None = None
    etag: str | None = None


def add(service: Service, removals: Sequence[NewRemoval]) -> list[int]:
    """Record removals, and return the `seq` of each. Belongs in the transaction that makes the keys useless."""
    now, recorded = clock_now(), list[int]()
    for start in range(0, len(removals), CHUNK):
        chunk = removals[start : start + CHUNK]
        values = [(item.key, item.upload_id, item.etag, item.due_at, 0, now) for item in chunk]
        statement = sql.insert("loadbay_removal", COLUMNS, len(chunk)) + " RETURNING seq"
        cursor = service.execute(statement, [value for row in values for value in row])
        recorded += [seq for (seq,) in cursor.fetchall()]
    return recorded


def add_one(service: Service, removal: NewRemoval) -> int:
    """Record a removal and return its `seq`, by which it can be dropped."""
    row = {**removal._asdict(), "attempts": 0, "created_at": clock_now()}
    return int(Removal.insert(row).execute(service.database))


def drop(service: Service, seq: int) -> None:
    """Delete a removal that is not to be carried out."""
    Removal.delete().where(Removal.seq == seq).execute(service.database)


# --- Removals for a change of a track ---------------------------------------------------------------------------------


def _staged(service: Service, row: TrackRow) -> list[NewRemoval]:
    return [] if staging.is_direct(service, row) else [NewRemoval(staging.track_key(service, row), clock_now())]


def _staged_cover(service: Service, row: TrackRow) -> list[NewRemoval]:
    return [NewRemoval(staging.cover_key(service, row), clock_now())] if staging.expects_cover(row) else []


def after_upload(service: Service, row: TrackRow) -> list[NewRemoval]:
    """Return the removals for a track that is `uploaded`: its staging key, and what its other way to upload left."""
    removals = _staged(service, row)
    if row["upload_id"] is not None and row["chosen_source"] != "parts":
        removals.append(NewRemoval(row["path"], clock_now(), row["upload_id"]))
    return removals


def after_failure(service: Service, row: TrackRow) -> list[NewRemoval]:
    """Return the removals for a track that is `failed`.

    The object at the final key stays while the track may be renewed: a write-once URL must find it there, and a late
    removal could hit the next attempt's file. A multipart track cannot be renewed.
    """
    removals = _staged(service, row)
    if row["upload_id"] is not None:
        removals.append(NewRemoval(row["path"], clock_now(), row["upload_id"]))
        removals += [NewRemoval(row["path"], clock_now())] if row["chosen_source"] == "parts" else []
    return removals


def urls_end(row: TrackRow) -> int:
    """Return the time after which no URL of the track is used any more, in seconds since the epoch."""
    return max(row["expires_at"], row["urls_expire_at"] or 0) + staging.LATE_UPLOAD_GRACE


def of_failed_object(row: TrackRow, due_at: int) -> list[NewRemoval]:
    """Return the removal of what a failed attempt left at the final key, once the session is over.

    It is removed only if it still is what failed: a later attempt's file may have replaced it, also one that a database
    restored from a backup does not know.
    """
    etag = row["chosen_etag"] or row["etag"]
    left = row["upload_id"] is None and (row["write_once"] or row["chosen_source"] is not None)
    return [NewRemoval(row["path"], due_at, etag=etag)] if left and etag is not None else []


def after_session(service: Service, row: TrackRow) -> list[NewRemoval]:
    """Return the removals for a track whose session is over: of a cover that may be staged, and of a failed file.

    A cover that is to replace another does not belong to the session.
    """
    staged = _staged_cover(service, row) if row["next_cover_expires_at"] is None else []
    return staged + (of_failed_object(row, clock_now()) if row["status"] == "failed" else [])


def after_expiry(service: Service, row: TrackRow) -> list[NewRemoval]:
    """Return the removals for a track that is `expired`: nothing was at its final key, and no URL leads there."""
    removals = _staged(service, row) + _staged_cover(service, row)
    removals += [NewRemoval(row["path"], clock_now(), row["upload_id"])] if row["upload_id"] is not None else []
    return removals


def after_cancellation(service: Service, row: TrackRow) -> list[NewRemoval]:
    """Return the removals for a track that is cancelled or deleted: all of its keys.

    The final key is removed again once no verification has a copy under way, and once no URL leads there.
    """
    now, over = clock_now(), urls_end(row)
    removals = after_expiry(service, row)
    times = {now} | ({row["lease_expires_at"] + 1} if row["lease_expires_at"] is not None else set())
    times |= {over} if row["write_once"] and now < over else set()
    keys = [row["path"], *([row["cover_path"]] if row["cover_status"] or row["cover_chosen_etag"] else [])]
    removals += [NewRemoval(key, due_at) for key in keys for due_at in times]
    if row["upload_id"] is not None:
        # A part that is being uploaded may outlive an abort:
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
        removals.append(NewRemoval(row["path"], now + staging.LATE_UPLOAD_GRACE, row["upload_id"]))
    return removals


def after_erasure(service: Service, row: TrackRow, objects: bool) -> list[NewRemoval]:
    """Return the removals for a track whose row is deleted: an `uploaded` file and its cover only with `objects`."""
    keeps = row["status"] == "uploaded" and not objects
    return _staged_cover(service, row) if keeps else after_cancellation(service, row)


# --- Carrying removals out --------------------------------------------------------------------------------------------


class RemovalSummary(NamedTuple):
    """The numbers of removals that were carried out."""

    objects_removed: int = 0
    uploads_aborted: int = 0


def count_due(service: Service) -> RemovalSummary:
    """Return the numbers of removals that are due."""
    due = Removal.select().where(Removal.due_at <= clock_now())
    uploads = due.where(Removal.upload_id.is_null(False)).bind(service.database).count()
    return RemovalSummary(due.bind(service.database).count() - uploads, uploads)


def work_off(
    service: Service, *, limit: int = 100_000, should_stop: Callable[[], bool] = lambda: False
) -> RemovalSummary:
    """Carry out removals that are due, at most `limit`. Idempotent: several processes may do so at once.

    A removal that fails is tried again later. Raises StorageUnavailable, StorageRejected.
    """
    objects = uploads = 0
    while objects + uploads < limit and not should_stop():
        due = _due(service, min(MAX_KEYS, limit - objects - uploads))
        if not due:
            break
        done = _carry_out(service, due)
        objects, uploads = objects + done.objects_removed, uploads + done.uploads_aborted
    return RemovalSummary(objects, uploads)


def try_now(service: Service, recorded: Sequence[int]) -> None:
    """Carry out those of these removals (by `seq`) that are due. If the store does not answer, they stay recorded."""
    query = Removal.select().where(Removal.seq.in_(recorded), Removal.due_at <= clock_now())
    rows = cast(list[RemovalRow], list(query.dicts().execute(service.database))) if recorded else []
    try:
        if rows:
            _carry_out(service, rows)
    except (StorageUnavailable, StorageRejected):
        logger.warning("The storage did not remove %d objects at once; they stay recorded.", len(rows))


def _carry_out(service: Service, rows: Sequence[RemovalRow]) -> RemovalSummary:
    uploads = [row for row in rows if row["upload_id"] is not None]
    objects = [row for row in rows if row["upload_id"] is None]
    failed = _abort(service, uploads) | _delete(service, objects)
    _record(service, rows, failed)
    return RemovalSummary(*(sum(row["seq"] not in failed for row in kind) for kind in (objects, uploads)))


class RemovalRow(TypedDict):
    """A removal as a query returns it."""

    seq: int
    key: str
    upload_id: str | None
    etag: str | None
    due_at: int
    attempts: int
    created_at: int


def _due(service: Service, limit: int) -> list[RemovalRow]:
    query = Removal.select().where(Removal.due_at <= clock_now()).order_by(Removal.due_at).limit(limit)
    return cast(list[RemovalRow], list(query.dicts().execute(service.database)))


def _delete(service: Service, rows: Sequence[RemovalRow]) -> set[int]:
    """Delete objects; returns the `seq` of each removal that failed."""
    keep, failed, keys = _verified_keys(service, rows), set(), set()
    for row in rows:
        try:
            if row["key"] not in keep and _is_same_object(service, row):
                keys.add(row["key"])
        except StorageFault:
            failed.add(row["seq"])
    errors = service.bucket.delete_objects(sorted(keys)) if keys else {}
    for key in sorted(keys - errors.keys()):
        logger.info("Removed %s", key)
    for key, code in sorted(errors.items()):
        logger.warning("S3 DeleteObjects failed for %s: %s", key, code)
    return failed | {row["seq"] for row in rows if row["key"] in errors}


def _verified_keys(service: Service, rows: Sequence[RemovalRow]) -> set[str]:
    """Return those of the keys that are final keys of uploaded tracks or covers. None should be: a last safeguard."""
    ids = sorted({track_id for row in rows if (track_id := object_keys.final_track_id(row["key"]))})
    verified: set[str] = set()
    for start in range(0, len(ids), CHUNK):
        query = Track.select().where(Track.id.in_(ids[start : start + CHUNK]), Track.status == "uploaded")
        for track in query.dicts().execute(service.database):
            verified |= {track["path"]} | ({track["cover_path"]} if track["cover_status"] == "uploaded" else set())
    return verified & {row["key"] for row in rows}


def _is_same_object(service: Service, row: RemovalRow) -> bool:
    if row["etag"] is None:
        return True
    info = service.bucket.head(row["key"])
    return info is not None and info.etag == row["etag"]


def _abort(service: Service, rows: Sequence[RemovalRow]) -> set[int]:
    """Abort multipart uploads; returns the `seq` of each removal that failed."""
    failed = set()
    for row in rows:
        try:
            for upload_id in _open_uploads(service, row):
                service.bucket.abort_multipart_upload(row["key"], upload_id)
                logger.info("Aborted the multipart upload of %s", row["key"])
        except StorageFault:
            failed.add(row["seq"])
    return failed


def _open_uploads(service: Service, row: RemovalRow) -> list[str]:
    if row["upload_id"] != ALL_UPLOADS:
        return [row["upload_id"] or ""]
    try:
        return [item.upload_id for item in service.bucket.list_multipart_uploads(row["key"]) if item.key == row["key"]]
    except StorageUnsupported:
        # Nothing shows the upload; the bucket's lifecycle rule ends it.
        return []


def _record(service: Service, rows: Sequence[RemovalRow], failed: set[int]) -> None:
    """Delete the removals that are done, and postpone those that failed, with exponential backoff."""
    done = [row["seq"] for row in rows if row["seq"] not in failed]
    with service.database.atomic():
        for start in range(0, len(done), CHUNK):
            Removal.delete().where(Removal.seq.in_(done[start : start + CHUNK])).execute(service.database)
        for row in rows:
            if row["seq"] in failed:
                backoff = min(FIRST_BACKOFF * 2 ** min(row["attempts"], 12), MAX_BACKOFF)
                change = Removal.update(due_at=clock_now() + backoff, attempts=Removal.attempts + 1)
                change.where(Removal.seq == row["seq"]).execute(service.database)
