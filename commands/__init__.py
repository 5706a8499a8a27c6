"""The commands of `flask`, one module each."""

from __future__ import annotations

from click import Group

from commands.copy_database import copy_database
from commands.doctor import doctor
from commands.forget import forget
from commands.keys import create_key, list_keys, revoke_key
from commands.prepare import prepare
from commands.sweep import sweep
from commands.webhooks import webhooks
from commands.worker import worker

COMMANDS = (prepare, sweep, forget, copy_database, doctor, create_key, list_keys, revoke_key, webhooks, worker)


def register(cli: Group) -> None:
    """Add all commands to `cli`."""
    for command in COMMANDS:
        cli.add_command(command)
