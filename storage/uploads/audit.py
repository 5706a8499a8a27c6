"""`flask sweep --audit`: the objects below S3_PREFIX that the database does not know.

That no row knows an object does not prove it useless: another deployment may have made it, or an earlier state of this
database. The audit therefore removes nothing by itself, but only what a list names that somebody has looked at.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from storage.db.models import Removal, Track, UploadSession
from storage.errors import InvalidRequest
from storage.s3 import object_keys
from storage.s3.bucket import MAX_KEYS
from storage.s3.dialects import ObjectInfo
from storage.s3.errors import StorageFault
from storage.service import Service

logger = logging.getLogger("loadbay.removals")

NEW_DATABASE = (
    "The database has no upload session, but the bucket has objects below '{prefix}'. If they are this deployment's, "
    "this is not its database: correct DATABASE_URL, restore a backup, or copy the old one: '{command} copy-database'."
)
SAMPLE = 10
"""Objects that are listed to see whether a bucket is in use."""


@dataclass(frozen=True)
class UnknownObject:
    """An object that no row knows: `size` in bytes, `last_modified` in ISO 8601, `etag` without quotes."""

    key: str
    size: int
    last_modified: str | None
    etag: str

    def json(self) -> str:
        """Return the object as a line of JSON, which `parse_list` reads."""
        return json.dumps(asdict(self))


def describe_new_database(service: Service) -> str | None:
    """Return a warning where the database has no session, but the bucket has objects already, or else None.

    Raises StorageUnavailable, StorageRejected.
    """
    if UploadSession.select(UploadSession.seq).limit(1).bind(service.database).scalar() is not None:
        return None
    prefix = service.settings.s3_prefix
    page = next(service.bucket.list_pages(prefix, limit=SAMPLE), [])
    own = object_keys.staging_prefix(prefix, service.deployment_id)
    foreign = [item for item in page if not item.key.startswith((own, f"{prefix}.doctor/"))]
    return NEW_DATABASE.format(prefix=prefix, command=service.command) if foreign else None


def list_unknown(service: Service) -> Iterator[tuple[int, list[UnknownObject]]]:
    """Yield, for each page of the listing, its number of objects and those of them that no row knows."""
    for page in service.bucket.list_pages(service.settings.s3_prefix):
        # Read after the listing: a row is older than its object.
        known = _known_keys(service, [item.key for item in page])
        yield len(page), [_unknown_object(item) for item in page if item.key not in known]


def parse_list(service: Service, lines: Iterable[str]) -> list[UnknownObject]:
    """Return the objects of a list in JSON lines. Raises InvalidRequest for a line that is not one of the audit's."""
    objects = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = UnknownObject(**json.loads(line))
            valid = isinstance(item.key, str) and item.key.startswith(service.settings.s3_prefix) and item.key
            valid = valid and type(item.size) is int and isinstance(item.etag, str) and item.etag
        except (ValueError, TypeError):
            valid = False
        if not valid:
            raise InvalidRequest(f"Line {number} must be one of 'flask sweep --audit --json'.")
        objects.append(item)
    return objects


def delete(service: Service, objects: Sequence[UnknownObject]) -> Iterator[tuple[UnknownObject, str | None]]:
    """Delete those objects that are unchanged and still unknown; yield each with the reason for which it was kept."""
    for start in range(0, len(objects), MAX_KEYS):
        chunk = objects[start : start + MAX_KEYS]
        reasons = {item.key: _reason_to_keep(service, item) for item in chunk}
        # Read last: what has become known meanwhile stays.
        known = _known_keys(service, [item.key for item in chunk])
        reasons |= {key: "known by now" for key in reasons if key in known}
        keys = [key for key, reason in reasons.items() if reason is None]
        errors = service.bucket.delete_objects(keys) if keys else {}
        for item in chunk:
            reason = f"not deleted: {errors[item.key]}" if item.key in errors else reasons[item.key]
            if reason is None:
                logger.info("Removed %s", item.key)
            yield item, reason


def _reason_to_keep(service: Service, item: UnknownObject) -> str | None:
    try:
        info = service.bucket.head(item.key)
    except StorageFault:
        return "cannot be read"
    if info is None:
        return "gone"
    return None if (info.etag, info.size) == (item.etag, item.size) else "changed"


def _known_keys(service: Service, keys: Sequence[str]) -> set[str]:
    """Return those of the keys that a track has, now or at an earlier attempt, or whose removal is recorded."""
    ids = {key: _track_id(service, key) for key in keys}
    query = Track.select(Track.id, Track.path, Track.cover_path).where(Track.id.in_({i for i in ids.values() if i}))
    tracks = {track_id: paths for track_id, *paths in query.tuples().execute(service.database)}
    known = {key for key, track_id in ids.items() if track_id in tracks and _belongs(service, key, tracks[track_id])}
    removals = Removal.select(Removal.key).where(Removal.key.in_(keys)).tuples()
    return known | {key for (key,) in removals.execute(service.database)}


def _track_id(service: Service, key: str) -> str | None:
    upload = object_keys.parse_staging_key(key, service.settings.s3_prefix, service.deployment_id)
    return upload.track_id if upload is not None else object_keys.final_track_id(key)


def _belongs(service: Service, key: str, paths: Sequence[str]) -> bool:
    staging = object_keys.staging_prefix(service.settings.s3_prefix, service.deployment_id)
    return key in paths or key.startswith(staging)


def _unknown_object(item: ObjectInfo) -> UnknownObject:
    time = item.last_modified.isoformat() if item.last_modified is not None else None
    return UnknownObject(item.key, item.size, time, item.etag)
