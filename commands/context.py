"""The services of the application that a command runs for, and errors as messages instead of tracebacks."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

import click
from flask import current_app

from storage.db.errors import DATABASE_ERRORS
from storage.errors import DatabaseUnavailable, ServiceError, StorageRejected
from storage.service import Service
from storage.uploads import audit

logger = logging.getLogger("loadbay")


@contextmanager
def services() -> Iterator[Collection[Service]]:
    """Provide the services that a command is for; an error of one of them ends the command with its message."""
    try:
        yield _selected_services()
    except ServiceError as e:
        raise click.ClickException(e.message) from e
    except DATABASE_ERRORS as e:
        raise click.ClickException(f"{DatabaseUnavailable.default_message} ({e})") from e


def _selected_services() -> Collection[Service]:
    """Return the service that the command's group is named after, as it is in a host; else all of the application's."""
    registered: dict[str, Service] = current_app.extensions["loadbay"]
    context = click.get_current_context(silent=True)
    while context is not None:
        if context.parent is not None and context.info_name in registered:
            return [registered[context.info_name]]
        context = context.parent
    return registered.values()


def raise_on_sigterm() -> None:
    """Have SIGTERM end the command as Ctrl-C does, so that it removes what it has written to the store."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def refuse_known_unfit(service: Service) -> None:
    """Do as `refuse_unfit`, for a command that does not measure the store. Its database may not be there yet."""
    with suppress(StorageRejected, *DATABASE_ERRORS):
        service.refresh_choices()
    refuse_unfit(service)


def warn_of_new_database(service: Service) -> None:
    """Log a warning where the bucket is in use, but not by this database. It may not be there yet, nor the store."""
    with suppress(ServiceError, *DATABASE_ERRORS):
        if warning := audit.describe_new_database(service):
            logger.warning(warning)


def refuse_unfit(service: Service) -> None:
    """Raise ClickException, with a sentence for each reason, where the settings do not fit the store."""
    if service.problems:
        raise click.ClickException("\n".join(service.problems))


@contextmanager
def only_service() -> Iterator[Service]:
    """Provide the service that a command is for. Raises ClickException if there are several."""
    with services() as selected:
        if len(selected) > 1:
            raise click.ClickException("The application has several services: 'flask NAME COMMAND' selects one.")
        yield next(iter(selected))
