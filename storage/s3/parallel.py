"""Calls to the store side by side, each with an outcome of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

MAX_CALLS = 16
"""Calls at the same time, as many as the pool of connections holds."""

T = TypeVar("T")
R = TypeVar("R")


class DeadlinePassed(Exception):
    """The call was not begun, because the time for all of them was up."""


def call_each(call: Callable[[T], R], items: Sequence[T], deadline: float) -> list[R | Exception]:
    """Call `call` with each of `items`, MAX_CALLS at a time; return results or exceptions in the order of `items`.

    After `deadline` (time.monotonic()) no call is begun. The calls themselves must end in time.
    """

    def attempt(item: T) -> R | Exception:
        if time.monotonic() >= deadline:
            return DeadlinePassed()
        try:
            return call(item)
        except Exception as e:
            return e

    if len(items) <= 1:
        return [attempt(item) for item in items]
    results: list[R | Exception] = [DeadlinePassed()] * len(items)
    # An iterator of a list is safe to share: each thread takes what no other one has taken.
    remaining = iter(list(enumerate(items)))

    def attempt_remaining() -> None:
        for index, item in remaining:
            results[index] = attempt(item)

    with ThreadPoolExecutor(MAX_CALLS, "store-call") as pool:
        # Each thread belongs to the trace of the request.
        for future in [pool.submit(copy_context().run, attempt_remaining) for _ in range(min(MAX_CALLS, len(items)))]:
            future.result()
    return results
