"""Upload verification, shared by the complete endpoint, store events and the sweeper: fetch the object, compare it with
the declaration, record the result.

No object is `uploaded` while a client could still change it. A write-once PUT (`If-None-Match: *`) and a completed
multipart upload cannot be changed; any other object is sealed first: copied by the store to a key without a URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.clock import now as clock_now
from storage.db.models import Track
from storage.errors import NotUploaded
from storage.s3 import object_keys
from storage.s3.bucket import ObjectInfo
from storage.service import Service
from storage.uploads import multipart, sniff, tracks

Row = dict[str, Any]

AUDIO_EXTENSIONS = ("aac", "aif", "aiff", "alac", "flac", "m4a", "mp3", "oga", "ogg", "opus", "wav", "wma")
LATE_UPLOAD_GRACE = 3600
"""Seconds for which an upload may continue after its URL has expired: a store checks the time only when it begins.

They allow for a store's clock that is behind ours, too.
"""
REPLACED_MESSAGE = "track_id: the file was replaced while it was verified. Try again."


def complete(service: Service, row: Row) -> Row:
    """Verify a track, and its cover if there is one, record the result and return the row. Idempotent.

    Raises NotUploaded where the store does not hold the track's bytes.
    """
    if row["status"] == "initialized":
        row = _check_track(service, row)
    if row["status"] == "uploaded" and row["next_cover_path"] is not None:
        row = _check_cover(service, row, row["next_cover_path"])
    if row["status"] == "uploaded" and row["cover_status"] not in ("uploaded", "expired"):
        row = _check_cover(service, row, row["cover_path"])
    return row


def refresh(service: Service, row: Row) -> Row:
    """Verify as `complete` does, and return the row unchanged where nothing has been uploaded."""
    try:
        return complete(service, row)
    except NotUploaded:
        return row


def _check_track(service: Service, row: Row) -> Row:
    there, write_once = service.bucket.stat_and_read(row["path"], sniff.SNIFF_BYTES), row["write_once"]
    if row["upload_id"] is not None:
        if there is None:
            multipart.complete(service, row)
            there = service.bucket.stat_and_read(row["path"], sniff.SNIFF_BYTES)
        elif service.bucket.list_parts(row["path"], row["upload_id"]) is not None:
            # It came by the single PUT. Whoever looked before it came may be about to write the parts over it.
            write_once = False
    if there is None:
        return _reload_or_raise(service, row, NotUploaded())
    found, first = there
    if row["checksum_sha256"] is not None:
        whole = service.bucket.head(row["path"])
        if whole is None or whole.etag != found.etag:
            return _reload_or_raise(service, row, NotUploaded(REPLACED_MESSAGE))
        found = whole
    failure = find_mismatch(service, row, found, first)
    now = clock_now()
    seen = {"size": found.size, "etag": found.etag, "version_id": found.version_id, "verified_at": now}
    seen |= {"detected_type": sniff.media_type(first)}
    if failure is not None:
        # Only whoever won the update removes the object, and never comes back to this key: a new try gets another.
        if tracks.transition(service, row, "failed", failure=failure, **seen):
            service.metrics.count_verified("track", "failed", found.size)
            service.bucket.remove(row["path"])
        return _reload(service, row)
    path = row["path"]
    # A track whose parts are joined has no URL that could write over it: none for a single PUT but a write-once one.
    sealed = _seal(service, row, path, found, write_once)
    if sealed is None:
        return _reload_or_raise(service, row, NotUploaded(REPLACED_MESSAGE))
    seen |= {"path": sealed.key, "etag": sealed.etag, "version_id": sealed.version_id}
    if tracks.transition(service, row, "uploaded", **seen):
        service.metrics.count_verified("track", "uploaded", found.size)
        if sealed.key != path:
            service.bucket.remove(path)
    elif sealed.key != path:
        service.bucket.remove(sealed.key)
    return _reload(service, row)


def _reload_or_raise(service: Service, row: Row, error: NotUploaded) -> Row:
    """Return the row as another process has finalized it; where none has, raise `error`."""
    row = _reload(service, row)
    if row["status"] == "initialized":
        raise error
    return row


def _reload(service: Service, row: Row) -> Row:
    return tracks.read(service, row["session_id"], row["id"])


def find_mismatch(service: Service, row: Mapping[str, Any], found: ObjectInfo, first: bytes) -> str | None:
    """Return how the object differs from the declaration, as a sentence; None where it does not."""
    limit = service.settings.max_track_bytes
    if row["file_size"] is not None and found.size != row["file_size"]:
        return f"The file has {found.size} bytes, not the {row['file_size']} that were declared."
    if found.size > limit:
        return f"The file has {found.size} bytes, more than the {limit} that a track may have."
    if found.size == 0:
        return "The file is empty."
    declared, stored = row["checksum_sha256"], found.checksum_sha256
    if declared is not None and stored is not None and stored != declared:
        return "The file's SHA-256 is not the one that was declared."
    says_audio = (row["content_type"] or "").startswith("audio/")
    says_audio = says_audio or row["file_name"].lower().rpartition(".")[2] in AUDIO_EXTENSIONS
    if says_audio and (other := sniff.conflicting_type(first)):
        return f"The file is not audio: its content is {other}."
    return None


def _seal(service: Service, row: Row, path: str, found: ObjectInfo, write_once: bool) -> ObjectInfo | None:
    """The object where nobody can change it: itself, or a copy. None where it was changed meanwhile."""
    if write_once or clock_now() > max(row["expires_at"], row["next_cover_expires_at"] or 0) + LATE_UPLOAD_GRACE:
        return found
    target = object_keys.rotate_key(path, row["index"])
    if not service.bucket.copy(path, target, found.etag):
        return None
    copy = service.bucket.head(target)
    return copy if copy is not None and copy.size == found.size else None


def _check_cover(service: Service, row: Row, path: str) -> Row:
    """Check the cover at `path`, if one came: the first, or one that is to replace it, once it is known to be good.

    A cover that failed is removed, and another may be sent in its place.
    """
    seen = service.bucket.stat_and_read(path, sniff.COVER_SNIFF_BYTES)
    if seen is None:
        return row
    found, first = seen
    picture = sniff.image_info(first)
    if found.size > service.settings.max_cover_bytes:
        picture, failure = None, f"The cover has {found.size} bytes, more than a cover may have."
    elif picture is None:
        failure = "The cover is not a picture."
    if picture is None:
        fate = {} if row["cover_status"] == "uploaded" else {"cover_status": "failed", "cover_size": found.size}
        if _save_cover_if_unchanged(service, row, path, cover_failure=failure, **fate):
            service.metrics.count_verified("cover", "failed", found.size)
            # Its URL lives: a better one may have come in its place meanwhile.
            if (now_there := service.bucket.head(path)) is not None and now_there.etag == found.etag:
                service.bucket.remove(path)
        return _reload(service, row)
    sealed = _seal(service, row, path, found, write_once=False)
    if sealed is None:
        return row
    known = {"cover_size": sealed.size, "cover_etag": sealed.etag, "cover_failure": None, "cover_path": sealed.key}
    shape = {"cover_type": picture[0], "cover_width": picture[1], "cover_height": picture[2]}
    kept = _save_cover_if_unchanged(service, row, path, cover_status="uploaded", **known, **shape)
    if kept:
        service.metrics.count_verified("cover", "uploaded", found.size)
    for key in {path, row["cover_path"]} - {sealed.key} if kept else {sealed.key} - {path}:
        service.bucket.remove(key)
    return _reload(service, row)


def _save_cover_if_unchanged(service: Service, row: Row, path: str, **values: object) -> bool:
    """Keep what is known of the cover at `path`, unless the row has changed: somebody was faster, or signed it anew."""
    fields = (Track.cover_path, Track.cover_status, Track.next_cover_path, Track.next_cover_expires_at)
    same = [field.is_null() if row[field.name] is None else field == row[field.name] for field in fields]
    if path == row["next_cover_path"]:
        values |= {"next_cover_path": None, "next_cover_expires_at": None}
    query = Track.update(values).where(Track.id == row["id"], Track.status == "uploaded", *same)
    return bool(query.execute(service.database) == 1)
