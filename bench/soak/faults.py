"""What goes wrong, one thing after another, each for some seconds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from .ledger import QUIET, Ledger
from .stage import Stage

LASTS = 5.0
"""Seconds that a fault lasts."""
REST = 6.0
"""Seconds after it in which what comes is still put down to it; then everything must be well again."""
PULSE = 0.1

Fault = Callable[[Stage], None]


def worker_killed(stage: Stage) -> None:
    """One of gunicorn's workers is killed; its master starts another."""
    with suppress(ProcessLookupError, IndexError):
        os.kill(stage.gunicorn.children()[0], signal.SIGKILL)
    time.sleep(LASTS)


def master_killed(stage: Stage) -> None:
    """gunicorn's master is killed; its workers end by themselves, and a new one is started after a second."""
    stage.gunicorn.send(signal.SIGKILL)
    time.sleep(LASTS)


def courier_killed(stage: Stage) -> None:
    """`flask worker` is killed."""
    stage.worker.send(signal.SIGKILL)
    time.sleep(LASTS)


def postgresql_killed(stage: Stage) -> None:
    """PostgreSQL crashes, and is away for some seconds."""
    stage.postgres.kill()
    time.sleep(LASTS)
    stage.postgres.resume()


def postgresql_restarted(stage: Stage) -> None:
    """PostgreSQL is restarted in an orderly way."""
    stage.postgres.pause()
    stage.postgres.resume()
    time.sleep(LASTS)


def postgresql_frozen(stage: Stage) -> None:
    """PostgreSQL does nothing for some seconds, and then goes on."""
    stage.postgres.freeze()
    time.sleep(LASTS)
    stage.postgres.thaw()


def postgresql_slow(stage: Stage) -> None:
    """PostgreSQL does nothing half of the time."""
    for _ in pulses():
        stage.postgres.freeze()
        time.sleep(PULSE)
        stage.postgres.thaw()
        time.sleep(PULSE)


def store_killed(stage: Stage) -> None:
    """The store is killed, and is away for some seconds."""
    stage.store.stop(signal.SIGKILL)
    time.sleep(LASTS)
    stage.store.start()


def store_frozen(stage: Stage) -> None:
    """The store answers nothing for some seconds, and then goes on."""
    stage.store.pause()
    time.sleep(LASTS)
    stage.store.resume()


def store_slow(stage: Stage) -> None:
    """The store does nothing half of the time."""
    for _ in pulses():
        stage.store.pause()
        time.sleep(PULSE)
        stage.store.resume()
        time.sleep(PULSE)


def nginx_killed(stage: Stage) -> None:
    """nginx is killed, and is away for some seconds."""
    stage.nginx.away(signal.SIGTERM)
    time.sleep(LASTS)
    stage.nginx.back()


def gunicorn_restarted(stage: Stage) -> None:
    """gunicorn is told to end, as by a deploy, and started anew."""
    stage.gunicorn.send(signal.SIGTERM)
    time.sleep(LASTS)


def pulses() -> Iterator[None]:
    """As many times as fit in."""
    end = time.monotonic() + LASTS
    while time.monotonic() < end:
        yield


FAULTS: dict[str, Fault] = {
    "worker killed": worker_killed,
    "store killed": store_killed,
    "PostgreSQL killed": postgresql_killed,
    "master killed": master_killed,
    "store frozen": store_frozen,
    "PostgreSQL frozen": postgresql_frozen,
    "nginx away": nginx_killed,
    "store slow": store_slow,
    "PostgreSQL slow": postgresql_slow,
    "flask worker killed": courier_killed,
    "PostgreSQL restarted": postgresql_restarted,
    "gunicorn restarted": gunicorn_restarted,
}


@contextmanager
def named(ledger: Ledger, name: str) -> Iterator[None]:
    """What happens meanwhile is put down to this fault."""
    ledger.fault = name
    try:
        yield
    finally:
        ledger.fault = QUIET


def play(stage: Stage, ledger: Ledger, over: threading.Event, tell: Callable[[str], None]) -> dict[str, int]:
    """Play one fault after the other, with as long a time between them, until it is over; how often each was."""
    played = dict.fromkeys(FAULTS, 0)
    while True:
        for name, fault in FAULTS.items():
            if over.wait(REST):
                return played
            tell(name)
            with named(ledger, name):
                fault(stage)
                over.wait(REST)
            played[name] += 1
