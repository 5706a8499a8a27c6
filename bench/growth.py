"""The cost of requests and of background work with many rows in the database, against that with few.

`python -m bench --only growth --sessions 1000000 --tracks 10000000` inserts so many rows with SQL, in each database.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psycopg

from app import create_app
from dev.postgres import Postgres
from dev.store import Store, free_port
from storage.clock import now as clock_now
from storage.db.connection import open_database
from storage.db.migrate import migrate
from storage.db.models import Track, UploadSession
from storage.ids import uuid_to_index
from storage.measuring import stores
from storage.s3.object_keys import key_suffixes
from storage.service import Service
from storage.uploads import staging, sweeper

from .ablated import Client, Request
from .server import SESSION, SETTINGS, TRACK

FEW = (1_000, 10_000)
"""Sessions and tracks of the database that the large one is compared with."""
DAY = 86_400
MONTH = 30 * DAY
REQUESTS = 100
"""Requests in a row to one database, before the other one's turn."""
SWEPT_SESSIONS = 10
"""Sessions that are due at each sweep, with their pending tracks."""
KEY = "a-key-of-the-benchmark-and-of-nothing-else"


class Scale(NamedTuple):
    """The rows of a database."""

    sessions: int
    tracks: int

    @property
    def tracks_per_session(self) -> int:
        """The number of tracks of each session."""
        return self.tracks // self.sessions


class Row(NamedTuple):
    """A row of the table: milliseconds with few rows and with many, round by round."""

    title: str
    few: list[float]
    many: list[float]

    @property
    def ratios(self) -> list[float]:
        """The cost with many rows as a multiple of that with few, round by round."""
        return [large / small for small, large in zip(self.few, self.many, strict=True)]


# --- Rows -------------------------------------------------------------------------------------------------------------


def session_id(number: int) -> str:
    """Return the id of the session with this number, from 1; the ids have no order, as random ones have none."""
    return f"{number * 2654435761 % 2**32:08x}-0000-4000-8000-{number:012x}"


def insert_rows(url: str, scale: Scale) -> None:
    """Insert sessions that end within a month, each with nine tracks of ten uploaded and the others pending.

    The triggers, which would count each track, are off meanwhile. The service's own connections would time out.
    """
    migrate(open_database(url))
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
            database.execute("PRAGMA cache_size = -1000000")
            triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
            drop, create = [f"DROP TRIGGER {name}" for name, _ in triggers], [text for _, text in triggers]
            for statement in (*drop, *_sqlite(scale), *create, "COMMIT", "ANALYZE"):
                database.execute(statement)
    else:
        with psycopg.connect(url) as connection:
            for statement in (*_postgresql(scale), "ANALYZE"):
                connection.execute(statement.encode())


def _sqlite(scale: Scale) -> list[str]:
    series = "WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {}) {}"
    hexadecimal = "printf('%0{1}x', {0})"
    return [
        "BEGIN",
        series.format(scale.sessions, _insert_sessions(scale, hexadecimal, "series")),
        series.format(scale.tracks, _insert_tracks(scale, hexadecimal, "series")),
    ]


def _postgresql(scale: Scale) -> list[str]:
    hexadecimal, tables = "lpad(to_hex(({0})::bigint), {1}, '0')", ("loadbay_upload_session", "loadbay_track")
    source = "generate_series(1, {}::bigint) AS series(n)"
    return [
        *(f"ALTER TABLE {table} DISABLE TRIGGER USER" for table in tables),
        _insert_sessions(scale, hexadecimal, source.format(scale.sessions)),
        _insert_tracks(scale, hexadecimal, source.format(scale.tracks)),
        *(f"ALTER TABLE {table} ENABLE TRIGGER USER" for table in tables),
    ]


def _insert_sessions(scale: Scale, hexadecimal: str, source: str) -> str:
    each, now = scale.tracks_per_session, clock_now()
    pending = max(1, each // 10)
    values = {
        "id": f"{hexadecimal.format('n * 2654435761 % 4294967296', 8)} || '-0000-4000-8000-' || "
        + hexadecimal.format("n", 12),
        "organization_id": "''",
        "collection_id": f"{hexadecimal.format('n / 10', 8)} || '-1111-4111-8111-111111111111'",
        "status": "'open'",
        "created_at": str(now),
        # Spread over the month, as those of a service that has been in use for one. None ends during the benchmark.
        "expires_at": f"{now + DAY} + n % {MONTH}",
        "max_tracks": "1000000",
        "track_count": str(each),
        "initialized": str(pending),
        "uploaded": str(each - pending),
        "uploaded_bytes": str((each - pending) * 4_000_000),
    }
    return _insert("loadbay_upload_session", values, source)


def _insert_tracks(scale: Scale, hexadecimal: str, source: str) -> str:
    each = scale.tracks_per_session
    session, number = f"((n - 1) / {each} + 1)", f"((n - 1) % {each})"
    folder = f"{hexadecimal.format(f'{session} / 10', 8)} || '-1111-4111-8111-111111111111/'"
    key = f"{folder} || 'AAAAAAAAAA' || {hexadecimal.format('n', 12)}"
    uploaded = f"{number} >= {max(1, each // 10)}"
    values = {
        "id": f"'019a' || {hexadecimal.format('n / 65536', 4)} || '-' || {hexadecimal.format('n % 65536', 4)} || "
        f"'-7000-8000-' || {hexadecimal.format('n', 12)}",
        "session_seq": session,
        "status": f"CASE WHEN {uploaded} THEN 'uploaded' ELSE 'initialized' END",
        "created_at": str(clock_now()),
        "path": f"{key} || '/track-1.mp3'",
        "cover_path": f"{key} || '.cover'",
        "file_name": "'track-1.mp3'",
        "metadata": """'{"title":"First Track","track_number":1}'""",
        "write_once": "1 = 0",
        "size": "4000000",
        "etag": "'5d41402abc4b2a76b9719d911017c592'",
        "cover_status": f"CASE WHEN {uploaded} THEN 'uploaded' END",
    }
    return _insert("loadbay_track", values, source)


def _insert(table: str, values: Mapping[str, str], source: str) -> str:
    return f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())} FROM {source}"


# --- Measurement ------------------------------------------------------------------------------------------------------


class Subject:
    """A service on a database with rows."""

    def __init__(self, url: str, scale: Scale, settings: Mapping[str, str]):
        self.scale, self.url = scale, url
        self.app = create_app({**SETTINGS, **settings, "DATABASE_URL": url, "API_KEYS": KEY})
        self.service: Service = self.app.extensions["loadbay"]["loadbay"]
        self.client = Client(self.app)

    def requests(self) -> dict[str, Request]:
        """Return a request of each kind, by its title."""
        sessions = self.scale.sessions
        session, last = session_id(sessions // 2), session_id(sessions - 60)
        collection = f"{sessions // 20:08x}-1111-4111-8111-111111111111"
        return {
            "open a session": Request("POST", "/v1/upload_session", SESSION.encode()),
            "register a track": Request("POST", f"/v1/upload/{session}/track", TRACK.encode()),
            "read a session": Request("GET", f"/v1/upload_session/{session}"),
            "list a session's tracks": Request("GET", f"/v1/upload/{session}/track"),
            "list a collection's tracks": Request("GET", f"/v1/collection/{collection}/track"),
            "list sessions, the last page by `after`": Request("GET", "/v1/upload_session", query=f"after={last}"),
        }

    def send(self, request: Request) -> float:
        """Send a request some times; return the milliseconds that one takes."""
        environ = {**request.environ(), "HTTP_AUTHORIZATION": f"Bearer {KEY}"}
        start = time.perf_counter()
        for _ in range(REQUESTS):
            self.client.exchange(environ.copy(), request.body)
        return (time.perf_counter() - start) * 1000 / REQUESTS

    def sweep(self) -> float:
        """Sweep some sessions that are due; return the milliseconds that it takes."""
        self._make_due()
        start = time.perf_counter()
        summary = sweeper.sweep(self.service, force=False)
        milliseconds = (time.perf_counter() - start) * 1000
        if summary.sessions != SWEPT_SESSIONS:
            sys.exit(f"The sweep has ended {summary.sessions} sessions instead of {SWEPT_SESSIONS}.")
        return milliseconds

    def _make_due(self) -> None:
        """Let the first sessions end, and give their pending tracks the paths that their ids imply."""
        database, over = self.service.database, clock_now() - staging.LATE_UPLOAD_GRACE - 1
        unswept = UploadSession.select(UploadSession.seq).where(UploadSession.swept_at.is_null())
        due = [row for (row,) in unswept.order_by(UploadSession.seq).limit(SWEPT_SESSIONS).tuples().execute(database)]
        UploadSession.update(expires_at=over).where(UploadSession.seq.in_(due)).execute(database)
        pending = Track.select(Track.id, Track.path).where(Track.session.in_(due), Track.status == "initialized")
        for track_id, path in pending.tuples().execute(database):
            suffix, _ = key_suffixes(uuid_to_index(track_id), "track-1.mp3")
            Track.update(path=path[:36] + suffix).where(Track.id == track_id).execute(database)


@contextmanager
def subjects(folder: Path, scale: Scale, postgresql: bool) -> Iterator[list[Subject]]:
    """Yield a service with few rows and one with many, both on a real store."""
    with ExitStack() as stack:
        store = Store(folder / "store", free_port(), "tracks", "bench", "bench-secret")
        store.start()
        stack.callback(store.stop)
        services = []
        for name, rows in (("few", Scale(*FEW)), ("many", scale)):
            url = f"sqlite:///{folder / name}.db"
            if postgresql:
                postgres = Postgres()
                postgres.start()
                stack.callback(postgres.stop)
                url = postgres.url
            start = time.monotonic()
            insert_rows(url, rows)
            seconds = time.monotonic() - start
            print(
                f"... {rows.sessions:,} sessions, {rows.tracks:,} tracks: {seconds:.0f} s", file=sys.stderr, flush=True
            )
            subject = Subject(url, rows, {"S3_ENDPOINT": store.endpoint})
            stack.callback(subject.service.close)
            stores.learn_if_unknown(subject.service)
            services.append(subject)
        yield services


def measure(folder: Path, scale: Scale, rounds: int, *, postgresql: bool) -> Iterator[Row]:
    """Measure each kind of request, and a sweep, in turn on both databases; yield a row for each."""
    with subjects(folder, scale, postgresql) as (few, many):
        # The sweeper logs each removal.
        logging.getLogger("loadbay").setLevel(logging.WARNING)
        tasks: dict[str, Callable[[Subject], float]] = {
            title: lambda subject, title=title: subject.send(subject.requests()[title]) for title in few.requests()
        }
        tasks[f"sweep {SWEPT_SESSIONS} sessions"] = Subject.sweep
        for title, task in tasks.items():
            samples: list[tuple[float, float]] = []
            for _ in range(rounds + 1):
                samples.append((task(few), task(many)))
            # The first round fills caches.
            small, large = zip(*samples[1:], strict=True)
            yield Row(title, list(small), list(large))


def print_tables(folder: Path, scale: Scale, rounds: int) -> None:
    """Measure on SQLite and on PostgreSQL, and print a table for each."""
    for name in ("SQLite", "PostgreSQL"):
        title = f"{name}: {scale.sessions:,} sessions, {scale.tracks:,} tracks"
        print(f"\n{title:<64}{'ratio':>7}{'min':>7}{'max':>7}{'few, ms':>10}{'many, ms':>10}")
        place = folder / name.lower()
        place.mkdir()
        for row in measure(place, scale, rounds, postgresql=name == "PostgreSQL"):
            ratios = row.ratios
            spread = f"{median(ratios):>7.2f}{min(ratios):>7.2f}{max(ratios):>7.2f}"
            print(f"    {row.title:<60}{spread}{median(row.few):>10.2f}{median(row.many):>10.2f}", flush=True)
