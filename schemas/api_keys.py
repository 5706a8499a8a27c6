"""What is said of API keys."""

from __future__ import annotations

from marshmallow import ValidationError, fields

from .base import RequestSchema, ResponseSchema
from .fields import Choice, SingleLineString, StrictInteger, UUIDString, in_range


def _not_empty(value: str) -> None:
    if not value.strip():
        raise ValidationError("must not be empty.")


class CreateApiKey(RequestSchema):
    """A key that only opens upload sessions of one collection, and so may be shipped in an app."""

    name = SingleLineString(required=True, validate=_not_empty)
    collection_id = UUIDString(required=True)
    role = Choice(("uploader",), load_default="uploader")
    expires_in = StrictInteger(allow_none=True, load_default=None, validate=in_range(60, 10 * 366 * 86_400))


class ApiKeyOut(ResponseSchema):
    """A key as it stands; `prefix` is the part of it by which it may be named."""

    id = UUIDString()
    prefix = fields.String()
    name = fields.String()
    role = fields.String()
    organization_id = UUIDString()
    collection_id = UUIDString()
    created_at = fields.String()
    expires_at = fields.String()


class ApiKeyCreatedOut(ResponseSchema):
    """The answer to CreateApiKey: `key` is told here and never again."""

    key = fields.String()
    api_key = fields.Nested(ApiKeyOut)
