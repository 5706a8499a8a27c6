"""The services of the application that a command runs for, and errors as messages instead of tracebacks."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import click
from flask import current_app
from flask.cli import NoAppException

from storage.db.errors import DATABASE_ERRORS
from storage.errors import DatabaseUnavailable, ServiceError
from storage.service import Service
from storage.settings import SettingsError


class InvalidSettings(NoAppException, SettingsError):
    """A SettingsError that `flask` reports as an application that it cannot load, without a traceback."""


@contextmanager
def report_settings_errors() -> Iterator[None]:
    """Turn a SettingsError that is raised within a `flask` command into InvalidSettings."""
    try:
        yield
    except SettingsError as e:
        if click.get_current_context(silent=True) is None:
            raise
        raise InvalidSettings(str(e)) from e


@contextmanager
def services() -> Iterator[Collection[Service]]:
    """Provide the application's services; an error of one of them ends the command with its message."""
    try:
        yield current_app.extensions["loadbay"].values()
    except ServiceError as e:
        raise click.ClickException(e.message) from e
    except DATABASE_ERRORS as e:
        raise click.ClickException(f"{DatabaseUnavailable.default_message} ({e})") from e


@contextmanager
def only_service() -> Iterator[Service]:
    """Provide the application's only service, for commands that cannot say which of several they mean."""
    with services() as all_services:
        if len(all_services) > 1:
            raise click.ClickException("This command does not support an application with several services.")
        yield next(iter(all_services))
