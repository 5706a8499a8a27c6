"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import click


def print_table(lines: Sequence[Sequence[str]]) -> None:
    """Print lines, the first of which has the headers, in columns as wide as their longest text."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
