"""Event notifications that an S3 store sends."""

from __future__ import annotations

from typing import Any

from marshmallow import INCLUDE, fields

from .base import RequestSchema, doc
from .tracks import PATH


class StoreEvent(RequestSchema):
    """An S3 event notification, or one of SeaweedFS. The store decides its keys; any object is accepted.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """

    EXAMPLE = {
        "Records": [
            {
                "eventName": "s3:ObjectCreated:Put",
                "s3": {"bucket": {"name": "tracks"}, "object": {"key": PATH, "size": 4_000_000}},
            }
        ]
    }

    class Meta:
        unknown = INCLUDE

    Records = fields.Raw(metadata=doc("The events, in S3's format."))

    def load(self, data: Any, **_: Any) -> dict[str, Any]:
        """Return the object as it is."""
        return dict(data)
