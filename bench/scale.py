"""Cost of many tracks on PostgreSQL: `python -m bench.scale`. See docs/growing.md.

The life of some thousand albums is played through: registered, verified, announced by a webhook, swept. What each step
costs the database is measured, and taken to a rate and a number of tracks: no step depends on how many there are.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from app import create_app
from dev.postgres import Postgres
from dev.store import Store, free_port
from storage.clock import now
from storage.db.connection import open_database
from storage.db.migrate import migrate
from storage.db.models import WebhookDelivery
from storage.db.rows import TrackChanges
from storage.service import Service
from storage.uploads import sweeper, tracks
from storage.webhooks import environment
from storage.worker import Worker

from .ablated import Client, Request
from .server import COLLECTION, SETTINGS, TRACK, cpu_seconds
from .soak.receiver import Receiver

TRACKS_PER_ALBUM = 12
OPEN = Request("POST", "/v1/upload_session", json.dumps({"collection_id": COLLECTION}).encode())
MIB, GIB = 2**20, 2**30
DAY = 86_400
COUNTERS = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_snapshot_xmax(pg_current_snapshot())::text"
RELATIONS = """
SELECT relname, pg_relation_size(oid) FROM pg_class
WHERE relname ^@ 'loadbay_' AND relkind IN ('r', 'i') AND pg_relation_size(oid) > 0
"""
UPLOADED: TrackChanges = {
    "status": "uploaded",
    "size": 4_000_000,
    "etag": "5d41402abc4b2a76b9719d911017c592",
    "detected_type": "audio/mpeg",
    "audio": json.dumps({"container": "mp3", "codec": "mp3", "duration": 201.5, "sample_rate": 44_100, "channels": 2}),
    "audio_container": "mp3",
    "audio_codec": "mp3",
    "audio_duration": 201.5,
    "integrity": "size",
    "chosen_source": "direct",
    "chosen_etag": "5d41402abc4b2a76b9719d911017c592",
}


class Cost(NamedTuple):
    """Cost of a step for each track: bytes of WAL, transactions, CPU milliseconds, seconds in one process."""

    title: str
    wal: float
    transactions: float
    database_ms: float
    service_ms: float
    seconds: float


class Life:
    """The life of some albums in a service on PostgreSQL, step by step."""

    def __init__(self, postgres: Postgres, store: Store, webhook_url: str, albums: int):
        self.postgres, self.albums, self.count = postgres, albums, albums * TRACKS_PER_ALBUM
        migrate(open_database(postgres.url))
        secret = f"whsec_{b64encode(os.urandom(32)).decode()}"
        webhook = {"WEBHOOK_URL": webhook_url, "WEBHOOK_SECRET": secret, "WEBHOOK_ALLOW_PRIVATE": "1"}
        settings = {**webhook, "S3_ENDPOINT": store.endpoint, "DATABASE_URL": postgres.url}
        self.app = create_app({**SETTINGS, **settings})
        self.service: Service = self.app.extensions["loadbay"]["loadbay"]
        environment.sync_endpoints(self.service)
        self.client = Client(self.app)
        self.ids: list[list[str]] = []
        self.empty = self._bytes()

    def measure(self, title: str, step: Callable[[], None]) -> Cost:
        """Take a step, and return what it costs for each track."""
        before = self._counters()
        step()
        after = self._counters()
        wal, transactions, *times = ((b - a) / self.count for a, b in zip(before, after, strict=True))
        database, service, elapsed = times
        return Cost(title, wal, transactions, database * 1000, service * 1000, elapsed)

    def _counters(self) -> tuple[float, ...]:
        wal, transactions = self.service.execute(COUNTERS, ()).fetchone()
        database = sum(map(cpu_seconds, self.postgres.processes()))
        return float(wal), float(transactions), database, time.process_time(), time.monotonic()

    def register(self) -> None:
        """Open a session for each album, and register its tracks in one request."""
        body = json.dumps({"tracks": [json.loads(TRACK)] * TRACKS_PER_ALBUM}).encode()
        for _ in range(self.albums):
            session = self.client.send(OPEN)["upload_session_id"]
            created = self.client.send(Request("POST", f"/v1/upload/{session}/tracks", body))["tracks"]
            self.ids.append([track["track_id"] for track in created])

    def register_singly(self) -> None:
        """Register as many tracks, each in a request of its own, in one session."""
        session = self.client.send(OPEN)["upload_session_id"]
        request = Request("POST", f"/v1/upload/{session}/track", TRACK.encode())
        for _ in range(self.count):
            self.client.exchange(request.environ(), request.body)

    def verify(self) -> None:
        """Record the tracks as uploaded, as a verification does; triggers count them, and write the outbox."""
        for ids in self.ids:
            rows = tracks.read_many(self.service, ids)
            tracks.change_each(self.service, [(row, None) for row in rows], self._verify_one)

    def _verify_one(self, row: tracks.TrackRow, _: None) -> None:
        where = "status = 'initialized' AND attempt = ? AND chosen_source IS NULL"
        tracks.update(self.service, row, where, (0,), {**UPLOADED, "verified_at": now()})

    def deliver(self) -> None:
        """Send all events with one worker, to one endpoint that accepts them at once."""
        worker = Worker([self.service], sweeps=False, notices=False)
        while WebhookDelivery.select().bind(self.service.database).exists() or worker.in_flight():
            worker.step(timeout=0.1)
        worker.stop()
        worker.run()

    def sweep(self) -> None:
        """End all sessions, as if their time were over."""
        over = "UPDATE loadbay_upload_session SET expires_at = ? WHERE status = 'open'"
        self.service.execute(over, (now() - DAY,))
        self.service.execute("UPDATE loadbay_track SET status = 'cancelled' WHERE status = 'initialized'", ())
        sweeper.sweep(self.service, force=False)

    def sizes(self) -> dict[str, float]:
        """Return the bytes for each track by which each table and index has grown."""
        grown = {name: size - self.empty.get(name, 0) for name, size in self._bytes().items()}
        return {name: size / self.count for name, size in grown.items() if size >= self.count}

    def _bytes(self) -> dict[str, int]:
        return dict(self.service.execute(RELATIONS, ()).fetchall())


@contextmanager
def receiving() -> Iterator[str]:
    """Run a webhook receiver in a process of its own, and provide its URL."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_receive, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def _receive(connection: Connection) -> None:
    connection.send(Receiver().url)
    time.sleep(DAY)


def print_costs(costs: list[Cost], sizes: dict[str, float]) -> None:
    """Print what each step and each table costs for a track. The rate is that of one process."""
    print(f"\n{'for each track':<44}{'WAL bytes':>12}{'xids':>7}{'database ms':>13}{'service ms':>12}{'a second':>10}")
    for cost in costs:
        times = f"{cost.database_ms:>13.3f}{cost.service_ms:>12.3f}{1 / cost.seconds:>10,.0f}"
        print(f"{cost.title:<44}{cost.wal:>12,.0f}{cost.transactions:>7.2f}{times}")
    print(f"\n{'bytes for each track':<60}{'':>8}")
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{name:<60}{size:>8,.0f}")


def print_scale(costs: list[Cost], sizes: dict[str, float], rate: int, count: int) -> None:
    """Print what a rate and a number of tracks mean: cores, WAL, and disk. Single registrations count apart."""
    columns = f"{'WAL MiB/s':>12}{'xids/s':>10}{'DB cores':>10}{'cores':>8}{'processes':>11}"
    print(f"\n{f'at {rate:,} tracks a second':<44}{columns}")
    for cost in costs:
        wal, transactions = cost.wal * rate / MIB, cost.transactions * rate
        cores = f"{cost.database_ms * rate / 1000:>10.1f}{cost.service_ms * rate / 1000:>8.1f}"
        print(f"{cost.title:<44}{wal:>12,.1f}{transactions:>10,.0f}{cores}{cost.seconds * rate:>11,.0f}")
    total = sum(sizes.values()) / GIB
    print(f"\n{count:,} tracks: {count * total:,.0f} GiB; a day at that rate: {rate * DAY * total:,.0f} GiB")
    for name, size in sizes.items():
        if size * count >= GIB:
            print(f"    {name:<60}{size * count / GIB:>8,.0f} GiB{size * rate * DAY / GIB:>8,.1f} GiB a day")


def main() -> int:
    """Play the life of some albums through, and print what it costs."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--albums", type=int, default=500, help="albums of 12 tracks (%(default)s)")
    parser.add_argument("--rate", type=int, default=10_000, help="tracks a second (%(default)s)")
    parser.add_argument("--tracks", type=int, default=1_000_000_000, help="tracks in all (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loadbay-scale-") as temporary, ExitStack() as stack:
        postgres, store = Postgres(), Store(Path(temporary) / "store", free_port(), "tracks", "bench", "bench-secret")
        for server in (postgres, store):
            server.start()
            stack.callback(server.stop)
        life = Life(postgres, store, stack.enter_context(receiving()), options.albums)
        stack.callback(life.service.close)
        steps = [
            ("registered: a session and a batch of 12", life.register),
            ("verified, with an event in the outbox", life.verify),
            ("the event delivered by one worker", life.deliver),
        ]
        costs = [life.measure(*step) for step in steps]
        sizes = life.sizes()
        costs.append(life.measure("registered one by one", life.register_singly))
        costs.append(life.measure("ended by a sweep, which looks for covers", life.sweep))
    print_costs(costs, sizes)
    print_scale(costs, sizes, options.rate, options.tracks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
