"""Options, client and errors of the commands of `loadbay`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from ..client import Client
from ..errors import APIError, ClientError, ConnectionFailed, UploadCancelled
from ..retry import RetryCallback

INTERRUPTED = 130
"""Exit status after SIGINT, as shells report it."""
RETRY_MESSAGE_INTERVAL = 30
"""Seconds before the same error is reported again."""
RESUME_HINT = "Uploaded files are kept; run again with --resume to continue."

server_option: Callable[[Any], Any] = click.option(
    "--server", envvar="LOADBAY_SERVER", show_envvar=True, help="URL of the service."
)
key_option: Callable[[Any], Any] = click.option(
    "--key", envvar="LOADBAY_KEY", show_envvar=True,
    help="API key. Prefer the variable, as other users can see a process's arguments.",
)  # fmt: skip


@contextmanager
def cli_errors(hint: str = RESUME_HINT) -> Iterator[None]:
    """Turn the client's exceptions into messages and exit statuses; `hint` says how to go on."""
    try:
        yield
    except (KeyboardInterrupt, UploadCancelled):
        exit_interrupted(hint)
    except APIError as e:
        hint = " Set LOADBAY_KEY or pass --key." if e.status == 401 else ""
        raise click.ClickException(f"{e}{hint}") from e
    except ConnectionFailed as e:
        raise click.ClickException(f"{e} {hint}") from e


def make_client(server: str | None, key: str | None, multipart_threshold: int = 64) -> Client:
    """Return a client that reports its retries; the threshold is in MiB. Raises UsageError for an invalid server."""
    if not server:
        raise click.UsageError("Missing option '--server' (or LOADBAY_SERVER).")
    try:
        return Client(server, key, multipart_threshold * 2**20, on_retry=_retry_reporter())
    except ValueError as e:
        raise click.UsageError(str(e)) from e


def _retry_reporter() -> RetryCallback:
    """Return a callback that reports each error once in a while, as several files meet the same one."""
    last_reported: dict[str, float] = {}

    def report(error: ClientError, pause: float) -> None:
        now, message = time.monotonic(), str(error)
        if now - last_reported.get(message, -RETRY_MESSAGE_INTERVAL) >= RETRY_MESSAGE_INTERVAL:
            last_reported[message] = now
            click.echo(f"{message} Retrying in {max(1, round(pause))} s.", err=True)

    return report


def exit_interrupted(hint: str) -> NoReturn:
    """End the process after Ctrl-C, with a sentence about what is kept."""
    click.echo(f"\nInterrupted. {hint}", err=True)
    sys.stdout.flush()
    # Threads may be waiting for a slow store; their requests can be broken off at any point.
    os._exit(INTERRUPTED)


def print_text(text: str) -> None:
    """Print text, with escapes for characters that the output's encoding lacks."""
    encoding = sys.stdout.encoding or "ascii"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))
