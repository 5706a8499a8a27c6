"""Fault injection: one fault after another, each for some seconds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf

from .deployment import Deployment, ready, wait_until
from .ledger import NO_FAULT, Ledger

FAULT_SECONDS = 5.0
RECOVERY_SECONDS = 6.0
"""Time after a fault in which failures are still put down to it; after that everything must work again."""

RESTART_LIMIT = 180.0
"""Time until the service must be ready again: its processes may take longer to start where others use the machine."""

PULSE_SECONDS = 0.1
CLOCK_SECONDS = 60

Fault = Callable[[Deployment], None]


def worker_killed(deployment: Deployment) -> None:
    """Kill one of gunicorn's workers; the master starts another."""
    with suppress(ProcessLookupError, IndexError):
        os.kill(deployment.gunicorn.children()[0], signal.SIGKILL)
    time.sleep(FAULT_SECONDS)


def master_killed(deployment: Deployment) -> None:
    """Kill gunicorn's master; its workers exit by themselves, and the supervisor restarts it after a second."""
    deployment.gunicorn.send(signal.SIGKILL)
    time.sleep(FAULT_SECONDS)


def worker_process_killed(deployment: Deployment) -> None:
    """Kill `flask worker`."""
    deployment.worker.send(signal.SIGKILL)
    time.sleep(FAULT_SECONDS)


def postgresql_killed(deployment: Deployment) -> None:
    """Crash PostgreSQL and restart it after some seconds."""
    deployment.postgres.kill()
    time.sleep(FAULT_SECONDS)
    deployment.postgres.resume()


def postgresql_restarted(deployment: Deployment) -> None:
    """Restart PostgreSQL in an orderly way."""
    deployment.postgres.pause()
    deployment.postgres.resume()
    time.sleep(FAULT_SECONDS)


def postgresql_frozen(deployment: Deployment) -> None:
    """Freeze PostgreSQL for some seconds."""
    deployment.postgres.freeze()
    time.sleep(FAULT_SECONDS)
    deployment.postgres.thaw()


def postgresql_slow(deployment: Deployment) -> None:
    """Freeze PostgreSQL half of the time."""
    for _ in pulses():
        deployment.postgres.freeze()
        time.sleep(PULSE_SECONDS)
        deployment.postgres.thaw()
        time.sleep(PULSE_SECONDS)


def store_killed(deployment: Deployment) -> None:
    """Kill the store and restart it after some seconds."""
    deployment.store.stop(signal.SIGKILL)
    time.sleep(FAULT_SECONDS)
    deployment.store.start()


def store_frozen(deployment: Deployment) -> None:
    """Freeze the store for some seconds."""
    deployment.store.pause()
    time.sleep(FAULT_SECONDS)
    deployment.store.resume()


def store_slow(deployment: Deployment) -> None:
    """Freeze the store half of the time."""
    for _ in pulses():
        deployment.store.pause()
        time.sleep(PULSE_SECONDS)
        deployment.store.resume()
        time.sleep(PULSE_SECONDS)


def nginx_killed(deployment: Deployment) -> None:
    """Kill nginx and restart it after some seconds."""
    deployment.nginx.suspend(signal.SIGTERM)
    time.sleep(FAULT_SECONDS)
    deployment.nginx.resume()


def gunicorn_restarted(deployment: Deployment) -> None:
    """Restart gunicorn with SIGTERM, as a deploy does."""
    deployment.gunicorn.send(signal.SIGTERM)
    time.sleep(FAULT_SECONDS)


def clock_ahead(deployment: Deployment) -> None:
    """Restart gunicorn and the worker with a clock that is a minute ahead, and then with the right one."""
    jump(deployment, CLOCK_SECONDS)


def clock_behind(deployment: Deployment) -> None:
    """Restart gunicorn and the worker with a clock that is a minute behind, and then with the right one."""
    jump(deployment, -CLOCK_SECONDS)


def jump(deployment: Deployment, seconds: int) -> None:
    """Move the clock of the service by so many seconds for a while."""
    deployment.set_clock(seconds)
    is_ready(deployment)
    time.sleep(2 * FAULT_SECONDS)
    deployment.set_clock(0)
    time.sleep(FAULT_SECONDS)


def database_restored(deployment: Deployment) -> None:
    """Back up PostgreSQL, let the clients go on for some seconds, and restore the backup."""
    backup = deployment.back_up_database()
    is_ready(deployment)
    time.sleep(2 * FAULT_SECONDS)
    deployment.restore_database(backup)
    time.sleep(FAULT_SECONDS)


def is_ready(deployment: Deployment) -> bool:
    """Wait until the service is ready; return False after RESTART_LIMIT."""
    return wait_until(lambda: ready(deployment.origin), RESTART_LIMIT)


def pulses() -> Iterator[None]:
    """Yield again and again for FAULT_SECONDS."""
    deadline = time.monotonic() + FAULT_SECONDS
    while time.monotonic() < deadline:
        yield


FAULTS: dict[str, Fault] = {
    "worker killed": worker_killed,
    "store killed": store_killed,
    "PostgreSQL killed": postgresql_killed,
    "master killed": master_killed,
    "store frozen": store_frozen,
    "PostgreSQL frozen": postgresql_frozen,
    "nginx killed": nginx_killed,
    "store slow": store_slow,
    "PostgreSQL slow": postgresql_slow,
    "flask worker killed": worker_process_killed,
    "PostgreSQL restarted": postgresql_restarted,
    "gunicorn restarted": gunicorn_restarted,
    "clock ahead": clock_ahead,
    "database restored": database_restored,
    "clock behind": clock_behind,
}


@contextmanager
def blame(ledgers: Sequence[Ledger], name: str) -> Iterator[None]:
    """Put all failures meanwhile down to this fault."""
    for ledger in ledgers:
        ledger.calm_since, ledger.fault = inf, name
    try:
        yield
    finally:
        for ledger in ledgers:
            ledger.calm_since, ledger.fault = time.monotonic(), NO_FAULT


def inject_all(
    deployment: Deployment,
    ledgers: Sequence[Ledger],
    stop: threading.Event,
    on_fault: Callable[[str], None],
    names: Sequence[str] = tuple(FAULTS),
) -> dict[str, int]:
    """Inject one fault after another, with pauses between them, until `stop` is set; return the count of each."""
    injected = dict.fromkeys(names, 0)
    while True:
        for name in names:
            if stop.wait(RECOVERY_SECONDS):
                return injected
            on_fault(name)
            with blame(ledgers, name):
                FAULTS[name](deployment)
                if not is_ready(deployment):
                    ledgers[0].add_violation(f"the service was not ready {RESTART_LIMIT:g} seconds after: {name}")
                stop.wait(RECOVERY_SECONDS)
            injected[name] += 1
