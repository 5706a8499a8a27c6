"""Event notifications of the store. Each only triggers a verification; nothing in it is trusted.

Shapes: S3's `Records` (AWS, also through SNS, and MinIO):
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html; EventBridge's `detail`:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html; and the webhook of SeaweedFS's filer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import unquote_plus

from storage.db.rows import TrackRow
from storage.s3 import object_keys
from storage.service import Service
from storage.uploads import arrivals, tracks, verification

MAX_EVENT_KEYS = 1000
"""Keys of a notification that are looked up. Stores send a few at a time; what lies beyond is noticed by the worker."""


def handle_notification(service: Service, notification: Mapping[str, Any]) -> int:
    """Verify the tracks that `notification` names, side by side, up to MAX_EVENT_KEYS, and return their number.

    Passes over unknown formats, keys of others, and keys that no client may write, such as those of the service's own
    copies. Raises StorageUnavailable, so that the store sends the notification again.
    """
    keys = islice(keys_in(notification, service.bucket.name), MAX_EVENT_KEYS)
    ids = {key: _track_id(service, key) for key in keys}
    rows = {row["id"]: row for row in tracks.read_many(service, sorted({i for i in ids.values() if i is not None}))}
    pending = {
        track_id for key, track_id in ids.items() if track_id in rows and _is_pending(service, rows[track_id], key)
    }
    due = [row for track_id, row in rows.items() if track_id in pending]
    verification.verify(service, due, counted=False)
    return len(due)


def _track_id(service: Service, key: str) -> str | None:
    prefix = service.settings.s3_prefix
    upload = object_keys.parse_staging_key(key, prefix, service.deployment_id)
    return upload.track_id if upload is not None else object_keys.parse_track_id(key, prefix)


def _is_pending(service: Service, row: TrackRow, key: str) -> bool:
    """Return True where a client has uploaded to `key` what is not verified yet."""
    upload = object_keys.parse_staging_key(key, service.settings.s3_prefix, service.deployment_id)
    if upload is not None:
        return arrivals.is_pending(row, upload)
    is_direct = row["write_once"] or row["upload_id"] is not None
    return row["status"] == "initialized" and is_direct and key == row["path"] and row["chosen_source"] is None


# --- Formats ----------------------------------------------------------------------------------------------------------


def keys_in(notification: Mapping[str, Any], bucket: str) -> Iterator[str]:
    """Yield the keys of new objects in `bucket` that a notification names. It is external input."""
    records = notification.get("Records")
    for record in records if isinstance(records, list) else []:
        # Without an event's name, the record is taken for one of a new object.
        if isinstance(record, dict) and "ObjectCreated" in str(record.get("eventName", "ObjectCreated")):
            yield from (unquote_plus(key) for key in _key_of(record.get("s3"), bucket))
    if notification.get("detail-type", "Object Created") == "Object Created":
        # EventBridge does not encode keys.
        yield from _key_of(notification.get("detail"), bucket)
    path = notification.get("key")
    if isinstance(path, str) and path.startswith(f"/buckets/{bucket}/"):
        yield path.removeprefix(f"/buckets/{bucket}/")


def _key_of(item: object, bucket: str) -> Iterator[str]:
    """Yield the key of an item with `bucket.name` and `object.key`, if it has one in `bucket`."""
    key = _get_mapping(item, "object").get("key")
    if _get_mapping(item, "bucket").get("name") == bucket and isinstance(key, str):
        yield key


def _get_mapping(value: object, name: str) -> Mapping[str, Any]:
    item = value.get(name) if isinstance(value, dict) else None
    return item if isinstance(item, dict) else {}
