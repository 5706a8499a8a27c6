"""The commands of `flask`: one module each."""

from __future__ import annotations

from click import Group

from loadbay_client.cli import upload

from .doctor import doctor
from .keys import create_key, list_keys, revoke_key
from .prepare import prepare
from .sweep import sweep
from .webhooks import webhooks
from .worker import worker

COMMANDS = (prepare, sweep, doctor, create_key, list_keys, revoke_key, upload, webhooks, worker)


def register(cli: Group) -> None:
    """Add every command to `cli`."""
    for command in COMMANDS:
        cli.add_command(command)
