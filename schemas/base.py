"""Base classes of all schemas."""

from __future__ import annotations

from typing import Any

from marshmallow import EXCLUDE, missing

from .fast_dump import FastDumpSchema
from .fast_dump import Timestamp as Timestamp
from .fast_load import FastLoadSchema


def doc(description: str, example: Any = missing, **more: Any) -> dict[str, Any]:
    """Return a field's `metadata`: what /openapi.json says about it besides its type."""
    return {"description": description, **({} if example is missing else {"example": example}), **more}


class RequestSchema(FastLoadSchema):
    """A schema of a request body or query. Unknown keys are ignored, because later clients may send them.

    `EXAMPLE` is the request that /openapi.json shows.
    """

    EXAMPLE: dict[str, Any] = {}
    any_media_type = False

    class Meta(FastLoadSchema.Meta):
        unknown = EXCLUDE


class ChangeSchema(RequestSchema):
    """A schema of changes: what is loaded has only the members that the request has."""

    class Meta(RequestSchema.Meta):
        pass

    def load(self, data: Any, **_: Any) -> dict[str, Any]:
        """Return the given members, null included where that is allowed. Raises ValidationError."""
        loaded = super().load(data)
        return {name: value for name, value in loaded.items() if name in data}


class ResponseSchema(FastDumpSchema):
    """A schema of a response. Every field is present, null if unknown, unless it is `optional` in its metadata."""
