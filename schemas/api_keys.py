"""What is said of API keys."""

from __future__ import annotations

from marshmallow import ValidationError, fields

from .base import In, Out
from .fields import OneOf, Text, UUIDText, WholeNumber, between


def _not_empty(value: str) -> None:
    if not value.strip():
        raise ValidationError("must not be empty.")


class CreateApiKey(In):
    """A key that only opens upload sessions of one collection, and so may be shipped in an app."""

    name = Text(required=True, validate=_not_empty)
    collection_id = UUIDText(required=True)
    role = OneOf(("uploader",), load_default="uploader")
    expires_in = WholeNumber(allow_none=True, load_default=None, validate=between(60, 10 * 366 * 86_400))


class ApiKeyOut(Out):
    """A key as it stands; `lookup` is the part of it by which it may be named."""

    id = UUIDText()
    lookup = fields.String()
    name = fields.String()
    role = fields.String()
    organization_id = UUIDText()
    collection_id = UUIDText()
    created_at = fields.String()
    expires_at = fields.String()


class ApiKeyCreatedOut(Out):
    """The answer to CreateApiKey: `key` is told here and never again."""

    key = fields.String()
    api_key = fields.Nested(ApiKeyOut)
