"""`flask worker`."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import click
from flask import current_app
from flask.cli import with_appcontext

from commands.context import refuse_known_unfit, services, warn_of_new_database
from storage.worker import Worker

NICENESS = 10
"""Added to that of the process: on a machine with the service, requests come before the worker's jobs."""


@click.command()
@click.option("--no-sweep", is_flag=True, help="Do not sweep; run `flask sweep` yourself.")
@click.option("--no-notice", is_flag=True, help="Do not look for uploads; leave that to other workers.")
@with_appcontext
def worker(no_sweep: bool, no_notice: bool) -> None:
    """Deliver webhooks, notice uploads, and sweep every SWEEP_INTERVAL seconds, until Ctrl-C. Several may run."""
    # A sandbox may forbid it, as deploy/loadbay-worker.service does, which sets CPUWeight instead.
    with suppress(OSError):
        os.nice(NICENESS)
    with services() as all_services:
        for service in all_services:
            refuse_known_unfit(service)
            warn_of_new_database(service)
        context = current_app._get_current_object().app_context  # type: ignore[attr-defined]
        worker = Worker(list(all_services), sweeps=not no_sweep, notices=not no_notice, signal_context=context)
        _stop_on_signals(worker)
        click.echo("Worker started. Press Ctrl-C to stop; deliveries in flight will finish first.")
        worker.run()
        click.echo("Worker stopped.")
        if worker.in_flight():
            _exit_at_once()


def _exit_at_once() -> NoReturn:
    """End the process without waiting for the threads of deliveries, in which a receiver of the host may hang."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _stop_on_signals(worker: Worker) -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        worker.stop()
        # A second signal ends the process at once: nothing is lost, deliveries in flight are sent again.
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
