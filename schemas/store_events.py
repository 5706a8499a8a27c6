"""Event notifications that an S3 store sends."""

from __future__ import annotations

from typing import Any

from marshmallow import INCLUDE, fields

from .base import RequestSchema, doc
from .tracks import PATH


class AnyObject(RequestSchema):
    """A body whose sender decides its keys: any object is accepted, and loaded as it is."""

    class Meta(RequestSchema.Meta):
        unknown = INCLUDE

    def load(self, data: Any, **_: Any) -> dict[str, Any]:
        """Return the object as it is."""
        return dict(data)


class StoreEvent(AnyObject):
    """An event notification of S3, of EventBridge, or of SeaweedFS.

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

    Records = fields.Raw(metadata=doc("The events, in S3's format."))


class StoreEventByPath(StoreEvent):
    """An event notification of S3, of EventBridge, or of SeaweedFS, of any media type."""

    any_media_type = True


class SNSMessage(AnyObject):
    """A message of Amazon SNS, of any type. Its signature is checked.

    https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
    """

    EXAMPLE = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:uploads",
        "Message": '{"Records": []}',
        "Timestamp": "2030-01-31T12:00:00.000Z",
        "SignatureVersion": "2",
        "Signature": "the signature in base64",
        "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem",
    }
    # SNS calls its messages text/plain.
    any_media_type = True

    TopicArn = fields.Raw(metadata=doc("The topic, one of `STORE_EVENT_TOPICS`."))
