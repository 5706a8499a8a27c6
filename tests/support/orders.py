"""Actors that run one step at a time, in every order of their steps.

Each actor is a function that calls the database and a store. It runs in a greenlet, which stops before each call to the
store, and before each statement or transaction of the database; a transaction is one step, as no other writer of SQLite
takes part in it. One order of the steps is a list of choices, each the number of an actor among those that have not
ended. `all_orders` tries every one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from greenlet import getcurrent, greenlet
from peewee import Database

MAX_STEPS = 400
"""Steps after which an order has failed: its actors wait for one another for ever."""

Actor = Callable[[], Any]


def stop() -> None:
    """End the current actor's step. Does nothing outside an actor."""
    parent = getcurrent().parent
    if parent is not None:
        parent.switch()


class Order:
    """One order of the steps of some actors: first the `choices`, then the first actor of those left.

    `taken` are the choices that were made, `widths` the number of actors that each had.
    """

    def __init__(self, choices: Sequence[int] = (), random_choices: random.Random | None = None):
        self.choices, self.random_choices = choices, random_choices
        self.taken: list[int] = []
        self.widths: list[int] = []

    def run(self, actors: Sequence[Actor]) -> None:
        """Run all actors to their ends. Raises what an actor raises."""
        alive = [greenlet(actor) for actor in actors]
        while alive:
            assert len(self.taken) < MAX_STEPS, "The actors do not end."
            choice = self._choose(len(alive))
            self.taken.append(choice)
            self.widths.append(len(alive))
            alive[choice].switch()
            alive = [actor for actor in alive if not actor.dead]

    def _choose(self, width: int) -> int:
        if len(self.taken) < len(self.choices):
            # Steps may depend on the time: an actor may have ended earlier than in the order before.
            return min(self.choices[len(self.taken)], width - 1)
        return self.random_choices.randrange(width) if self.random_choices else 0

    def following(self) -> list[int] | None:
        """Return the choices of the next order, or None after the last one."""
        for position in range(len(self.taken) - 1, -1, -1):
            if self.taken[position] + 1 < self.widths[position]:
                return [*self.taken[:position], self.taken[position] + 1]
        return None


def all_orders() -> Iterator[Order]:
    """Yield every order of the steps of actors that are run with each."""
    choices: list[int] | None = []
    while choices is not None:
        order = Order(choices)
        yield order
        choices = order.following()


def random_orders(number: int, seed: int) -> Iterator[Order]:
    """Yield orders that are chosen at random, the same ones for the same seed."""
    choices = random.Random(seed)
    for _ in range(number):
        yield Order(random_choices=choices)


def stop_before_statements(database: Database, monkeypatch: Any) -> None:
    """Have actors stop before each statement that is no part of a transaction, and before each transaction."""
    execute_sql, begin = database.execute_sql, database.begin

    def stopping_execute(*args: Any, **kwargs: Any) -> Any:
        if not database.transaction_depth() and not str(args[0]).startswith("BEGIN"):
            stop()
        return execute_sql(*args, **kwargs)

    def stopping_begin(*args: Any, **kwargs: Any) -> Any:
        stop()
        return begin(*args, **kwargs)

    monkeypatch.setattr(database, "execute_sql", stopping_execute)
    monkeypatch.setattr(database, "begin", stopping_begin)
