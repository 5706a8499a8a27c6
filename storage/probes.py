"""Readiness probes of the database and the store, and the gauges for /metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Thread
from time import monotonic
from typing import Generic, NamedTuple, TypeVar

from storage.db.errors import DATABASE_ERRORS
from storage.errors import DatabaseUnavailable, ServiceError, StorageRejected
from storage.metrics import Gauge
from storage.service import Service
from storage.uploads.sessions import TRACK_STATUSES
from storage.webhooks import dead_letters, outbox

logger = logging.getLogger("loadbay")

PROBE_TIMEOUT = 1.8
"""Seconds that a request waits for a probe. A part that takes longer counts as down."""
READINESS_TTL = 1.0
"""Seconds for which the result of a readiness probe is reused."""
GAUGES_TTL = 10.0
"""Seconds for which the gauges are reused, at least."""
GAUGES_SHARE = 0.01
"""Share of the time that may be spent reading gauges: with many rows they are reused for longer."""

Value = TypeVar("Value")


class ProbeResult(NamedTuple, Generic[Value]):
    """The value that a probe returned or the error that it raised, and its duration in seconds."""

    value: Value | None
    error: ServiceError | None
    seconds: float


class BackgroundProbe(Generic[Value]):
    """A probe that runs in its own thread, so that no request waits for it longer than its timeout.

    It has at most one thread: requests that come while it runs wait for the same result.
    """

    def __init__(self, probe: Callable[[], Value], ttl_for: Callable[[float], float]):
        """`probe` may raise ServiceError. `ttl_for` returns how long a result is reused, given its duration."""
        self._probe, self._ttl_for, self._lock = probe, ttl_for, Lock()
        self._thread: Thread | None = None
        self._started_at = self._expires_at = 0.0
        self.last: ProbeResult[Value] | None = None

    def result(self, timeout: float = PROBE_TIMEOUT) -> ProbeResult[Value] | None:
        """Return a new result or one that is still valid; None if the probe takes longer than `timeout` seconds."""
        with self._lock:
            if self._thread is None and (self.last is None or monotonic() >= self._expires_at):
                self._started_at, self._thread = monotonic(), Thread(target=self._run, daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(max(0.0, self._started_at + timeout - monotonic()))
            if thread.is_alive():
                return None
        return self.last

    def _run(self) -> None:
        value, error = None, None
        try:
            value = self._probe()
        except ServiceError as e:
            error = e
        except Exception as e:
            logger.error("Probe failed with an internal error", exc_info=e)
            error = ServiceError()
        seconds = monotonic() - self._started_at
        with self._lock:
            self.last, self._expires_at = ProbeResult(value, error, seconds), monotonic() + self._ttl_for(seconds)
            self._thread = None


class Probes:
    """The probes of one service."""

    def __init__(self, service: Service):
        self._service = service
        self.parts = {
            "database": BackgroundProbe(self._check_database, _readiness_ttl),
            "store": BackgroundProbe(self._check_store, _readiness_ttl),
        }
        self._gauges = BackgroundProbe(self._read_gauges, _gauges_ttl)

    def check(self) -> dict[str, ProbeResult[None] | None]:
        """Run all readiness probes at once, and return their results; None for one that times out."""
        for part in self.parts.values():
            part.result(timeout=0)
        return {name: part.result() for name, part in self.parts.items()}

    def gauges(self) -> list[Gauge]:
        """Return the gauges as of their last reading, and `database_up`."""
        result = self._gauges.result() or self._gauges.last
        up = result is not None and result.error is None
        gauges = (result.value if result is not None else None) or []
        return [Gauge("database_up", "Whether the database could be read.", "", {"": float(up)}), *gauges]

    def _check_database(self) -> None:
        with self._database_connection():
            self._service.execute("SELECT 1 FROM loadbay_upload_session LIMIT 1", ()).fetchall()

    def _check_store(self) -> None:
        if not self._service.bucket.exists():
            raise StorageRejected("The bucket does not exist.")

    def _read_gauges(self) -> list[Gauge]:
        with self._database_connection():
            return [*session_gauges(self._service), *webhook_gauges(self._service)]

    @contextmanager
    def _database_connection(self) -> Iterator[None]:
        """Open a connection for the probe's thread. Raises DatabaseUnavailable."""
        try:
            with self._service.database.connection_context():
                yield
        except DATABASE_ERRORS as e:
            raise DatabaseUnavailable from e


def _readiness_ttl(_seconds: float) -> float:
    return READINESS_TTL


def _gauges_ttl(seconds: float) -> float:
    return max(GAUGES_TTL, seconds / GAUGES_SHARE)


# --- Gauges ----------------------------------------------------------------------------------------------------------

SUMMED_COLUMNS = (*TRACK_STATUSES, "uploaded_bytes")
_sums = ", ".join(f"COALESCE(SUM({column}), 0)" for column in SUMMED_COLUMNS)
# From the counts of the sessions, which are far fewer rows than the tracks.
COUNTS_SQL = f"SELECT COUNT(*), {_sums} FROM loadbay_upload_session"


def session_gauges(service: Service) -> Iterator[Gauge]:
    """Yield the numbers of sessions and of tracks by status, and the uploaded bytes."""
    sessions, *counts, size = map(float, service.execute(COUNTS_SQL, ()).fetchone())
    yield Gauge("upload_sessions", "Upload sessions in the database.", "", {"": sessions})
    yield Gauge("tracks", "Tracks by status.", "status", dict(zip(TRACK_STATUSES, counts, strict=True)))
    yield Gauge("uploaded_bytes", "Bytes of all uploaded tracks.", "", {"": size})


def webhook_gauges(service: Service) -> Iterator[Gauge]:
    """Yield the webhook deliveries by state, and the age of the oldest pending one."""
    count, age = outbox.backlog(service)
    states = {"pending": float(count), "dead_letter": float(dead_letters.count_dead_letters(service))}
    yield Gauge("webhook_deliveries", "Webhook deliveries by state.", "state", states)
    yield Gauge("webhook_oldest_seconds", "Age of the oldest pending webhook delivery.", "", {"": float(age)})
