"""What options of several commands take."""

from __future__ import annotations

from typing import Any

import click

import schemas


class UUIDParam(click.ParamType[str]):
    """A UUID, in lower case."""

    name = "uuid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The UUID; the command fails where it is none."""
        try:
            return schemas.canonical_uuid(value)
        except ValueError as e:
            self.fail(str(e), param, ctx)
