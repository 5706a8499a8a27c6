"""API keys: the request that creates one, and the key in responses."""

from __future__ import annotations

from marshmallow import ValidationError, fields

from .base import RequestSchema, ResponseSchema, Timestamp, doc
from .fields import Choice, SingleLineString, StrictInteger, UUIDString, in_range
from .page import PAGE, PageSchema
from .rules import RULES, Rules

COLLECTION = "123e4567-e89b-12d3-a456-426614174000"


def _not_blank(value: str) -> None:
    if not value.strip():
        raise ValidationError("must not be empty.")


class CreateApiKey(RequestSchema):
    """An uploader key: it only opens upload sessions of one collection, so it may be shipped in an app."""

    EXAMPLE = {"name": "our app", "collection_id": COLLECTION}

    name = SingleLineString(required=True, validate=_not_blank, metadata=doc("A name by which you know the key."))
    collection_id = UUIDString(
        required=True, metadata=doc("The only collection for which the key can open upload sessions.")
    )
    role = Choice(("uploader",), load_default="uploader", metadata=doc("The key's role."))
    expires_in = StrictInteger(
        allow_none=True,
        load_default=None,
        validate=in_range(60, 10 * 366 * 86_400),
        metadata=doc("The key's lifetime in seconds. Without it, the key does not expire."),
    )
    rules = fields.Nested(
        Rules,
        allow_none=True,
        load_default=None,
        metadata=doc("Rules of the sessions that the key opens; its user cannot change them.", RULES),
    )
    page = fields.Nested(
        PageSchema,
        allow_none=True,
        load_default=None,
        metadata=doc("Page of the sessions that the key opens, unless they say otherwise.", PAGE),
    )
    max_bytes_per_day = StrictInteger(
        allow_none=True,
        load_default=None,
        validate=in_range(1, 2**60),
        metadata=doc("Bytes that may be declared in the key's sessions on a day (UTC). Default: 1 TiB.", 2**40),
    )
    max_open_sessions = StrictInteger(
        allow_none=True,
        load_default=None,
        validate=in_range(1, 1_000_000),
        metadata=doc("Open sessions that the key may have at a time. Default: 1000.", 1000),
    )


class ApiKeySchema(ResponseSchema):
    """An API key without its secret."""

    id = UUIDString(metadata=doc("The key's ID.", "d9e2471b-6c05-4f8a-b1e3-87a40c95f162"))
    prefix = fields.String(metadata=doc("The public part of the key, which identifies it in lists.", "Zk3v9QpT1xWb"))
    name = fields.String(metadata=doc("The name given when the key was created.", "our app"))
    role = fields.String(metadata=doc("`full` or `uploader`.", "uploader"))
    organization_id = UUIDString(allow_none=True, metadata=doc("The organization the key belongs to.", None))
    collection_id = UUIDString(
        allow_none=True, metadata=doc("The collection an uploader key is limited to.", COLLECTION)
    )
    rules = fields.Nested(
        Rules, allow_none=True, metadata=doc("Rules of the sessions that the key opens, if it has any.", RULES)
    )
    page = fields.Nested(
        PageSchema, allow_none=True, metadata=doc("Page of the sessions that the key opens, if it has any.", PAGE)
    )
    max_bytes_per_day = fields.Integer(
        allow_none=True, metadata=doc("Bytes that may be declared in the key's sessions on a day (UTC).", 2**40)
    )
    max_open_sessions = fields.Integer(
        allow_none=True, metadata=doc("Open sessions that the key may have at a time.", 1000)
    )
    created_at = Timestamp(metadata=doc("The time of creation.", "2030-01-31T11:00:00Z"))
    expires_at = Timestamp(
        allow_none=True, metadata=doc("The time at which the key expires, if it does.", "2030-01-31T12:00:00Z")
    )


class ApiKeyCreatedResponse(ResponseSchema):
    """A new API key."""

    key = fields.String(
        metadata=doc("The key. It is shown only once and cannot be recovered.", "loadbay_uploader_Zk3v9QpT1xWb_...")
    )
    api_key = fields.Nested(ApiKeySchema, metadata=doc("The key without its secret."))
