"""Objects in staging, as a listing of this deployment's own prefix shows them. No other prefix is listed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from storage.clock import now as clock_now
from storage.db.models import Removal
from storage.db.rows import TrackRow
from storage.s3 import object_keys
from storage.s3.dialects import ObjectInfo
from storage.s3.object_keys import StagedUpload
from storage.service import Service
from storage.settings import MAX_SESSION_SECONDS
from storage.uploads import removals, staging, tracks
from storage.uploads.removals import NewRemoval

UNKNOWN_GRACE = MAX_SESSION_SECONDS + 86_400
"""Age in seconds from which a staged object that no row knows is removed: no session of it can still be open."""


def list_staged(service: Service) -> Iterator[list[ObjectInfo]]:
    """Yield the objects in staging, page by page, each of one request; none where the store cannot list."""
    if service.choices.lists_objects:
        yield from service.bucket.list_pages(
            object_keys.staging_prefix(service.settings.s3_prefix, service.deployment_id)
        )


def parse(service: Service, item: ObjectInfo) -> StagedUpload | None:
    """Return the upload that a staged object belongs to, or None where its key is not one of ours."""
    return object_keys.parse_staging_key(item.key, service.settings.s3_prefix, service.deployment_id)


def is_pending(row: TrackRow, upload: StagedUpload) -> bool:
    """Return True where a staged upload of this track, or of its cover, is to be verified."""
    if not upload.is_cover:
        return row["status"] == "initialized" and upload.attempt == row["attempt"]
    # The cover of a track that is not uploaded waits for it.
    return row["status"] == "uploaded" and upload.attempt == row["cover_attempt"] and staging.expects_cover(row)


def collect_useless(service: Service, page: Sequence[ObjectInfo]) -> list[str]:
    """Record a removal for each of these staged objects that nothing will ask for; returns their keys.

    An object is useless once its track is final or at a later attempt: neither changes back. One that no row knows is
    useless once it is older than any session.
    """
    uploads = {item.key: parse(service, item) for item in page}
    rows = {
        row["id"]: row for row in tracks.read_many(service, [u.track_id for u in uploads.values() if u is not None])
    }
    useless = [item.key for item in page if _is_useless(item, uploads[item.key], rows)]
    recorded = Removal.select(Removal.key).where(Removal.key.in_(useless)).tuples()
    known = {key for (key,) in recorded.execute(service.database)} if useless else set()
    removals.add(service, [NewRemoval(key, clock_now()) for key in useless if key not in known])
    return useless


def _is_useless(item: ObjectInfo, upload: StagedUpload | None, rows: dict[str, TrackRow]) -> bool:
    row = rows.get(upload.track_id) if upload is not None else None
    if upload is None or row is None:
        return item.last_modified is not None and time.time() - item.last_modified.timestamp() > UNKNOWN_GRACE
    if row["status"] in ("cancelled", "expired"):
        return True
    if not upload.is_cover:
        return row["status"] in ("uploaded", "failed") or upload.attempt < row["attempt"]
    if upload.attempt < row["cover_attempt"]:
        return True
    if row["status"] == "failed":
        # It may be renewed, and keeps its cover, until its session is over.
        return row["expires_at"] + staging.LATE_UPLOAD_GRACE <= clock_now()
    return row["status"] == "uploaded" and not staging.expects_cover(row)
