"""What every command begins with: the services of the application that it was called for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click
from flask import current_app

from storage.db.errors import DATABASE_ERRORS
from storage.errors import DatabaseUnavailable, ServiceError
from storage.service import Service


@contextmanager
def services() -> Iterator[Iterable[Service]]:
    """The services of the application; what fails in one of them ends the command with its sentence."""
    try:
        yield current_app.extensions["loadbay"].values()
    except ServiceError as e:
        raise click.ClickException(e.message) from e
    except DATABASE_ERRORS as e:
        raise click.ClickException(f"{DatabaseUnavailable.default_message} ({e})") from e


@contextmanager
def only_service() -> Iterator[Service]:
    """The application's one service, for a command that could not say which of several it means."""
    with services() as found:
        service, *others = found
        if others:
            raise click.ClickException("This application has several services; call their storage modules yourself.")
        yield service
