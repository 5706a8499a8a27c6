"""`flask worker`."""

from __future__ import annotations

import signal
from types import FrameType

import click
from flask.cli import with_appcontext

from commands.context import services
from storage.worker import Worker


@click.command()
@click.option("--no-sweep", is_flag=True, help="Only deliver: sweep by `flask sweep` instead.")
@with_appcontext
def worker(no_sweep: bool) -> None:
    """Deliver webhooks, and sweep every SWEEP_INTERVAL seconds, until Ctrl-C. Several may run."""
    with services() as found:
        worker = Worker(list(found), sweeps=not no_sweep)
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda number, frame: _stop(worker, number, frame))
        click.echo("The worker is at work. Ctrl-C stops it as soon as what it is delivering is delivered.")
        worker.run()
        click.echo("The worker has stopped.")


def _stop(working: Worker, number: int, _frame: FrameType | None) -> None:
    working.stop()
    # The second one ends it at once: nothing is lost by that, but what was on its way is sent again.
    signal.signal(number, signal.SIG_DFL)
