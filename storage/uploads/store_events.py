"""What the store tells of itself: event notifications, each no more than a hint to look.

Shapes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html (AWS, and MinIO
alike), and the webhook notification of SeaweedFS's filer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

from storage.s3 import object_keys
from storage.service import Service
from storage.uploads import tracks, verification


def handle_notification(service: Service, notification: Mapping[str, Any]) -> int:
    """Check the tracks that `notification` is about with the store; returns how many it was about.

    What is not understood, or not about our keys, is passed over. Raises StoreUnavailable, so that the store
    sends the notification again.
    """
    ids = {
        object_keys.parse_track_id(key, service.settings.s3_prefix)
        for key in keys_in(notification, service.bucket.name)
    }
    known = tracks.read_many(service, sorted(id_ for id_ in ids if id_ is not None))
    for row in known:
        verification.refresh(service, row)
    return len(known)


def keys_in(notification: Mapping[str, Any], bucket: str) -> Iterator[str]:
    """The object keys in `bucket` that a notification names. It comes from outside: nothing in it is trusted."""
    records = notification.get("Records")
    for record in records if isinstance(records, list) else []:
        s3 = _get_mapping(record, "s3")
        key = _get_mapping(s3, "object").get("key")
        if _get_mapping(s3, "bucket").get("name") == bucket and isinstance(key, str):
            yield unquote_plus(key)
    path = notification.get("key")
    if isinstance(path, str) and path.startswith(f"/buckets/{bucket}/"):
        yield path.removeprefix(f"/buckets/{bucket}/")


def _get_mapping(value: object, name: str) -> Mapping[str, Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}
