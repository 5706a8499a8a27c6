"""Notifications of stores about their objects."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_plus

from support.store import BUCKET


def s3_event(*keys: str, bucket: str = BUCKET, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    """Return a notification as AWS and MinIO send it."""
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "eventName": name,
                "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key), "size": 1024}},
            }
            for key in keys
        ]
    }


def minio_event(key: str) -> dict[str, Any]:
    """Return a notification of MinIO's webhook target, which adds two keys of its own."""
    event = s3_event(key, name="s3:ObjectCreated:Put")
    return {"EventName": "s3:ObjectCreated:Put", "Key": f"{BUCKET}/{key}", **event}


def eventbridge_event(key: str, detail_type: str = "Object Created") -> dict[str, Any]:
    """Return an event as EventBridge delivers it to an API destination; its key is not encoded."""
    detail = {"version": "0", "bucket": {"name": BUCKET}, "object": {"key": key, "size": 1024}}
    return {"version": "0", "detail-type": detail_type, "source": "aws.s3", "detail": detail}


def seaweedfs_event(key: str) -> dict[str, Any]:
    """Return an event of SeaweedFS's webhook notifier."""
    return {"key": f"/buckets/{BUCKET}/{key}", "event_type": "create", "message": {}}
