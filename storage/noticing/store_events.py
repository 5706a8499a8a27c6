"""Event notifications of the store. Each only triggers a verification; none is trusted.

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
    """Verify the tracks that `notification` names, and return their number.

    Unknown formats and keys of others are ignored. Raises StorageUnavailable, so that the store sends the
    notification again.
    """
    keys = list(keys_in(notification, service.bucket.name))
    ids = sorted({track_id for key in keys if (track_id := _track_id(service, key)) is not None})
    rows = tracks.read_many(service, ids)
    verification.verify(service, rows)
    return len(rows)


def _track_id(service: Service, key: str) -> str | None:
    prefix = service.settings.s3_prefix
    upload = object_keys.parse_staging_key(key, prefix, service.deployment_id)
    return upload.track_id if upload is not None else object_keys.parse_track_id(key, prefix)


def keys_in(notification: Mapping[str, Any], bucket: str) -> Iterator[str]:
    """Yield the object keys in `bucket` that a notification names. It is external input: nothing in it is trusted."""
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
    item = value.get(name) if isinstance(value, dict) else None
    return item if isinstance(item, dict) else {}
