"""An announcement that the current thread is about to wait for another machine.

A server that handles one request at a time can let another thread accept the next ones meanwhile, as
web/gunicorn_worker.py does, and a connection to the database can serve others.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakMethod

_listeners: list[WeakMethod[Callable[[], None]]] = []


def announce() -> None:
    """Say that this thread will wait. Call it before a request to another machine; it may be called often."""
    for reference in _listeners:
        if (listener := reference()) is not None:
            listener()


def listen(listener: Callable[[], None]) -> None:
    """Have a method called, in the thread that is about to wait, by each announcement, as long as its object lives."""
    # Replaced rather than changed: another thread may be announcing.
    global _listeners
    _listeners = [*(reference for reference in _listeners if reference() is not None), WeakMethod(listener)]
