"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import click


def print_table(lines: Sequence[Sequence[str]]) -> None:
    """Print lines, the first of them the heads of the columns, each column as wide as it must be."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
