"""Examples in the API reference, taken from the `example` of each field of a schema."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields

REQUEST_ID = "0b7e4c52-8a86-4d2b-9a2e-5d0f3a1c7e90"


def response_example(schema: type[Schema]) -> dict[str, Any]:
    """Return a whole successful response."""
    return {"ok": True, "api_request_id": REQUEST_ID, **_schema_example(schema())}


def error_example(message: str, code: str) -> dict[str, Any]:
    """Return a whole error response."""
    return {"ok": False, "message": message, "code": code, "api_request_id": REQUEST_ID}


def _schema_example(schema: Schema) -> dict[str, Any]:
    return {field.data_key or name: _field_example(field) for name, field in schema.fields.items()}


def _field_example(field: fields.Field[Any]) -> Any:
    """Return a field's own example, that of its type, or one made of what is nested in it."""
    for properties in (field.metadata, getattr(field, "json_schema", {})):
        if "example" in properties:
            return properties["example"]
    if isinstance(field, fields.List):
        return [_field_example(field.inner)]
    assert isinstance(field, fields.Nested), f"{field.parent}.{field.name} has no example."
    return _schema_example(field.schema)
