"""An announcement that the current thread is about to wait for another machine.

A server that handles one request at a time can let another thread accept the next ones meanwhile, as
web/gunicorn_worker.py does.
"""

from __future__ import annotations

from collections.abc import Callable


def _ignore() -> None:
    pass


_listener: Callable[[], None] = _ignore


def announce() -> None:
    """Say that this thread will wait. Call it before a request to another machine; it may be called often."""
    _listener()


def listen(listener: Callable[[], None]) -> None:
    """Have `listener` called, in the thread that is about to wait, by each announcement in this process."""
    global _listener
    _listener = listener
