"""The commands of `flask`, one module each."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import Any

import click

COMMANDS = {
    "prepare": "prepare",
    "sweep": "sweep",
    "forget": "forget",
    "copy-database": "copy_database",
    "doctor": "doctor",
    "create-key": "keys",
    "list-keys": "keys",
    "revoke-key": "keys",
    "webhooks": "webhooks",
    "worker": "worker",
}
"""The module of each command, in which the command is a function of the same name."""


class LazyCommand(click.Command):
    """A command whose module is imported when it runs or is listed, as a process that serves needs none of them."""

    def __init__(self, name: str, module: str):
        super().__init__(name)
        self._function, self._module = name.replace("-", "_"), f"{__name__}.{module}"

    @cached_property
    def command(self) -> click.Command:
        """The command itself."""
        command: click.Command = getattr(import_module(self._module), self._function)
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of the command itself, by which click runs and completes it."""
        return self.command.make_context(info_name, args, parent, **extra)

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the command's line in a list of commands."""
        return self.command.get_short_help_str(limit)


def register(cli: click.Group) -> None:
    """Add all commands to `cli`."""
    for name, module in COMMANDS.items():
        cli.add_command(LazyCommand(name, module))
