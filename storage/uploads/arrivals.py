"""Objects in staging, as a listing of this deployment's own prefix shows them. No other prefix is listed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

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


class StagedObject(NamedTuple):
    """An object in staging, with the upload that its key names and the row of its track, where these are ours."""

    info: ObjectInfo
    upload: StagedUpload | None
    row: TrackRow | None


def list_staged(service: Service) -> Iterator[list[StagedObject]]:
    """Yield the objects in staging, page by page, each of one request; none where the store cannot list.

    The rows have no `metadata`. Objects of one track share its row.
    """
    prefix, deployment_id = service.settings.s3_prefix, service.deployment_id
    if not service.choices.lists_objects:
        return
    for page in service.bucket.list_pages(object_keys.staging_prefix(prefix, deployment_id)):
        uploads = [object_keys.parse_staging_key(info.key, prefix, deployment_id) for info in page]
        ids = sorted({upload.track_id for upload in uploads if upload is not None})
        rows = {row["id"]: row for row in tracks.read_many(service, ids, lean=True)}
        yield [
            StagedObject(info, upload, rows.get(upload.track_id) if upload else None)
            for info, upload in zip(page, uploads, strict=True)
        ]


def is_pending(row: TrackRow, upload: StagedUpload) -> bool:
    """Return True where a staged upload of this track, or of its cover, is to be verified."""
    if not upload.is_cover:
        return row["status"] == "initialized" and upload.attempt == row["attempt"]
    # The cover of a track that is not uploaded waits for it.
    return row["status"] == "uploaded" and upload.attempt == row["cover_attempt"] and staging.expects_cover(row)


def collect_useless(service: Service, page: Sequence[StagedObject]) -> list[str]:
    """Record a removal for each of these staged objects that nothing will ask for; returns their keys.

    An object is useless once its track is final or at a later attempt: neither changes back. One that no row knows is
    useless once it is older than any session.
    """
    useless = [item.info.key for item in page if _is_useless(*item)]
    recorded = Removal.select(Removal.key).where(Removal.key.in_(useless)).tuples()
    known = {key for (key,) in recorded.execute(service.database)} if useless else set()
    removals.add(service, [NewRemoval(key, clock_now()) for key in useless if key not in known])
    return useless


def _is_useless(info: ObjectInfo, upload: StagedUpload | None, row: TrackRow | None) -> bool:
    if upload is None or row is None:
        return info.last_modified is not None and time.time() - info.last_modified.timestamp() > UNKNOWN_GRACE
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
