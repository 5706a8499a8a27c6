"""Every order of the steps of requests, the worker and the sweeper that work on one track at the same time.

The steps are their calls to the store and their statements and transactions (support/orders.py); the store is in memory
(support/simulated_bucket.py). After each order, the bytes at the track's path are those that its row names, or the
track is not `uploaded`; and once its session has ended, nothing else is left in the bucket. test_interleavings.py plays
the same on a real store, with fewer orders.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from hashlib import md5
from itertools import combinations, combinations_with_replacement, islice
from typing import Any

import pytest

from storage.errors import ServiceError, StorageRejected, StorageUnavailable
from storage.noticing import polling, store_events
from storage.uploads import arrivals, organization, removals, staging, sweeper, tracks, verification
from support.api import new_session, new_track
from support.orders import Order, all_orders, random_orders, stop, stop_before_statements
from support.sample_files import wav
from support.simulated_bucket import SimulatedBucket
from support.store import BUCKET

FIRST, SECOND = wav(), wav(seed=1)
BODIES = (FIRST, SECOND)
END_OF_SESSION = 61 + staging.LATE_UPLOAD_GRACE
"""Seconds after which a session of a minute can be swept."""

AFTER_LEASE = tracks.LEASE_SECONDS + 1
MAX_ORDERS, MAX_ORDERS_ON_POSTGRESQL = 8, 2
"""Orders of a case up to which all are tried. Of more, half as many are tried in turn and half chosen at random.

The environment's MAX_ORDERS counts instead, if it is set. On PostgreSQL a statement takes ten times as long.
"""


class Scene:
    """One track, what may happen to it, and what must hold afterwards."""

    def __init__(self, client: Any, service: Any, bucket: SimulatedBucket, clock: Any, prefix: str, kind: str):
        self.client, self.service, self.bucket, self.clock = client, service, bucket, clock
        self.prefix, self.kind = prefix, kind
        options = {
            "plain": {},
            "write-once": {"write_once": True},
            "headers": {"write_once": True},
            "parts": {"multipart": True, "file_size": len(FIRST)},
        }
        self.session_id = new_session(client, expires_in=60)["upload_session_id"]
        self.track_id = new_track(client, self.session_id, "a.wav", **options[kind])["track_id"]
        self.direct_once = kind in ("write-once", "headers")

    @property
    def row(self) -> Any:
        """The track's row as it is now."""
        return tracks.read(self.service, self.session_id, self.track_id)

    # --- Actors -------------------------------------------------------------------------------------------------------

    def send(self, body: bytes) -> None:
        """Send bytes by the URL that the client has."""
        if self.kind == "parts":
            self.bucket.client_put_part(self.key, self.upload_id, 1, body)
        else:
            headers = self.kind == "headers"
            self.bucket.client_put(self.key, body, once=self.direct_once, content_encoding=headers)

    def take_url(self) -> None:
        """Keep what the client's URL leads to."""
        row = self.row
        renewed = row["attempt"] > 0
        self.direct_once = self.direct_once and not renewed
        self.upload_id = row["upload_id"] or ""
        self.key = row["path"] if self.direct_once or self.upload_id else staging.track_key(self.service, row)

    def upload_again(self) -> None:
        """Send other bytes by the same URL."""
        self.send(SECOND)

    def verify(self) -> None:
        """Complete the track, as a request does."""
        verification.complete(self.service, self.row)

    def renew(self) -> None:
        """Ask for new URLs, and send other bytes there."""
        tracks.renew(self.service, self.session_id, self.track_id)
        self.take_url()
        self.send(SECOND)

    def cancel(self) -> None:
        """Cancel the track."""
        tracks.cancel(self.service, self.session_id, self.track_id)

    def delete(self) -> None:
        """Delete the track."""
        organization.delete(self.service, "", self.track_id)

    def notify(self) -> None:
        """Receive the store's event for the upload."""
        record = {"s3": {"bucket": {"name": BUCKET}, "object": {"key": self.key}}}
        store_events.handle_notification(self.service, {"Records": [record]})

    def poll(self) -> None:
        """Look for uploads, as the worker does."""
        polling.poll(self.service, stop)

    def remove(self) -> None:
        """Carry out the removals that are due."""
        removals.work_off(self.service)

    def sweep(self) -> None:
        """Sweep the session, which has ended."""
        sweeper.sweep(self.service)

    # --- Laws ---------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Verify until nothing changes, and compare row and store."""
        for _ in range(2):
            self.clock.forward(AFTER_LEASE)
            verification.verify(self.service, self.rows())
        for row in self.rows():
            assert row["status"] != "initialized" or row["chosen_source"] is None, row["status"]
            self.check(row)

    def rows(self) -> list[Any]:
        """Return the track's row in a list, which is empty if the track was deleted."""
        return tracks.read_many(self.service, [self.track_id])

    def check(self, row: Any) -> None:
        """Compare an `uploaded` track's row with its object."""
        if row["status"] != "uploaded":
            return
        assert row["path"] in self.bucket.objects, "An uploaded file is not there."
        stored = self.bucket.objects[row["path"]]
        assert (stored.etag, len(stored.body)) == (row["etag"], row["size"])
        assert stored.body in BODIES
        assert not stored.has_sender_headers
        assert self.kind != "plain" or row["etag"] == md5(stored.body).hexdigest()

    def finish(self) -> None:
        """End the session, and check that nothing but a verified file is left."""
        self.clock.forward(END_OF_SESSION)
        sweeper.sweep(self.service)
        rows = self.rows()
        for row in rows:
            self.check(row)
        files = [row["path"] for row in rows if row["status"] == "uploaded"]
        if list(self.bucket.objects) != files:
            # Late uploads, and what is to be removed later.
            self.clock.forward(2 * arrivals.UNKNOWN_GRACE)
            sweeper.sweep(self.service)
        assert list(self.bucket.objects) == files
        assert not self.bucket.uploads
        self.bucket.objects.clear()


KINDS = ("plain", "write-once", "headers", "parts")
BEFORE_END = (
    Scene.verify, Scene.upload_again, Scene.renew, Scene.cancel, Scene.delete, Scene.notify, Scene.poll, Scene.remove,
)  # fmt: skip
AFTER_END = (Scene.verify, Scene.sweep, Scene.poll, Scene.delete)
Event = Callable[[Scene], None]


def names(events: tuple[Event, ...]) -> str:
    """Return the name of a case."""
    return "-".join(event.__name__ for event in events)


@pytest.fixture
def settings(settings):
    """Settings with a secret for store events."""
    return {**settings, "STORE_EVENT_SECRET": "a-secret-of-the-store"}


@pytest.fixture
def simulated(service, client, clock, store_abilities, monkeypatch):
    """The service's bucket, in memory, before whose calls actors stop, as before statements of the database."""
    new_session(client)
    # The simulated store has the service's clock, too.
    monkeypatch.setattr("storage.uploads.arrivals.time", clock)
    service.bucket.close()
    service.bucket = SimulatedBucket(service.settings, service.database, stop)
    service.use_abilities(store_abilities)
    stop_before_statements(service.database, monkeypatch)
    return service.bucket


@pytest.fixture
def play(client, service, simulated, clock, settings):
    """Run events in an order, after an upload or before one, and check what is left: `play(order, kind, events)`."""
    prefix = settings.get("S3_PREFIX", "")

    def run(order: Order, kind: str, events: tuple[Event, ...], *, late: bool) -> None:
        start = clock.offset
        scene = Scene(client, service, simulated, clock, prefix, kind)
        scene.take_url()
        scene.send(FIRST)
        if late:
            clock.forward(END_OF_SESSION)
        order.run([tolerant(scene, event) for event in events])
        scene.settle()
        scene.finish()
        clock.offset = start

    return run


def tolerant(scene: Scene, event: Event) -> Callable[[], None]:
    """Return an actor that accepts what the API would tell a client, but no outage: the store is well."""

    def act() -> None:
        try:
            event(scene)
        except (StorageRejected, StorageUnavailable):
            raise
        except ServiceError:
            pass

    return act


@pytest.fixture
def orders(databases) -> Iterator[Order]:
    """Yield every order of a case, up to half of its maximum, and if there are more, as many at random."""
    default = MAX_ORDERS if databases is None else MAX_ORDERS_ON_POSTGRESQL
    half = int(os.environ.get("MAX_ORDERS", default)) // 2
    in_turn = all_orders()

    def tried() -> Iterator[Order]:
        yield from islice(in_turn, half)
        if next(in_turn, None) is not None:
            yield from random_orders(half, seed=half)

    return tried()


@pytest.mark.sqlite
def test_all_orders_are_every_way_to_merge_two_lists_of_steps():
    """Two actors of two and three steps have ten orders, and each is tried once."""
    tried = set()
    for order in all_orders():
        steps: list[str] = []

        def act(name: str, number: int, steps: list[str] = steps) -> None:
            for step in range(number):
                if step:
                    stop()
                steps.append(f"{name}{step}")

        order.run([lambda act=act: act("a", 2), lambda act=act: act("b", 3)])
        tried.add(tuple(steps))
    assert len(tried) == 10


@pytest.mark.sqlite
def test_some_order_shows_a_lost_update():
    """Two actors that read a number, and then write one more, lose an update in some orders but not in others."""
    results = set()
    for order in all_orders():
        number = [0]

        def add(number: list[int] = number) -> None:
            read = number[0]
            stop()
            number[0] = read + 1

        order.run([add, add])
        results.add(number[0])
    assert results == {1, 2}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("events", [*combinations_with_replacement(BEFORE_END, 2)], ids=names)
def test_two_actors_keep_path_and_row_together(play, orders, kind, events):
    """After any order of the steps of two actors, path and row agree and nothing else is left."""
    for order in orders:
        play(order, kind, events, late=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("events", [*combinations_with_replacement(AFTER_END, 2)], ids=names)
def test_two_actors_keep_path_and_row_together_when_the_session_has_ended(play, orders, kind, events):
    """After any order of the steps of a sweep and another actor, path and row agree and nothing else is left."""
    for order in orders:
        play(order, kind, events, late=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("events", [(Scene.verify, *pair) for pair in combinations(BEFORE_END, 2)], ids=names)
def test_three_actors_keep_path_and_row_together(play, orders, kind, events):
    """After any order of the steps of a verification and two other actors, path and row agree, and nothing is left."""
    for order in orders:
        play(order, kind, events, late=False)
