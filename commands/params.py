"""Types of command-line parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import schemas

if TYPE_CHECKING:
    IntegerParam = click.ParamType[int]
    StringParam = click.ParamType[str]
    ObjectParamBase = click.ParamType[dict[str, Any]]
else:
    # Generic only since click 8.4.
    IntegerParam = StringParam = ObjectParamBase = click.ParamType


class UUIDParam(StringParam):
    """A UUID, converted to lower case."""

    name = "uuid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the UUID in lower case, or fail the command."""
        try:
            return schemas.canonical_uuid(value)
        except ValueError as e:
            self.fail(str(e), param, ctx)
