"""Looking at a running service from outside: whether its parts are there, and what its rows tell."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from threading import Lock, Thread
from time import monotonic
from typing import Any, NamedTuple

from storage.db.errors import DATABASE_ERRORS
from storage.errors import DatabaseUnavailable, ServiceError, StorageRejected
from storage.metrics import Gauge
from storage.service import Service
from storage.uploads.sessions import TRACK_STATUSES
from storage.webhooks import dead_letters, outbox

logger = logging.getLogger("loadbay")

PROBE_TIMEOUT = 1.8
"""Seconds that anybody waits for a part: one that takes longer is as good as away."""
READINESS_TTL = 1.0
"""Seconds for which an answer of a part is given again."""
GAUGES_TTL = 10.0
# Reading the rows takes no more than this part of the time, however many there are.
GAUGES_SHARE = 0.01


class ProbeResult(NamedTuple):
    """How a part was found, in `seconds`; `error` where it is not as it should be."""

    value: Any
    error: ServiceError | None
    seconds: float


class BackgroundProbe:
    """A question that is asked in a thread of its own, so that nobody has to wait for the answer longer than he will.

    One thread at most: where an answer is still to come, the next who asks waits for the same one.
    """

    def __init__(self, ask: Callable[[], object], keep: Callable[[float], float]):
        """`ask` may raise ServiceError. `keep` gives the seconds for which an answer that took so long is kept."""
        self._ask, self._keep, self._lock = ask, keep, Lock()
        self._thread: Thread | None = None
        self._began = self._until = 0.0
        self.last: ProbeResult | None = None

    def answer(self, timeout: float = PROBE_TIMEOUT) -> ProbeResult | None:
        """The answer, new or kept; None where it takes longer than `timeout` seconds."""
        with self._lock:
            if self._thread is None and (self.last is None or monotonic() >= self._until):
                self._began, self._thread = monotonic(), Thread(target=self._run, daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(max(0.0, self._began + timeout - monotonic()))
            if thread.is_alive():
                return None
        return self.last

    def _run(self) -> None:
        value, error = None, None
        try:
            value = self._ask()
        except ServiceError as e:
            error = e
        except Exception as e:
            logger.error("A part of the service could not be looked at", exc_info=e)
            error = ServiceError()
        took = monotonic() - self._began
        with self._lock:
            self.last, self._until = ProbeResult(value, error, took), monotonic() + self._keep(took)
            self._thread = None


class Probes:
    """All that is asked about one service."""

    def __init__(self, service: Service):
        self._service = service
        keep = lambda took: READINESS_TTL  # noqa: E731
        self.parts = {"database": BackgroundProbe(self._database, keep), "store": BackgroundProbe(self._store, keep)}
        self._gauges = BackgroundProbe(self._read_gauges, lambda took: max(GAUGES_TTL, took / GAUGES_SHARE))

    def check(self) -> dict[str, ProbeResult | None]:
        """How each part is found, all of them asked at once; None for one that does not answer in time."""
        for part in self.parts.values():
            part.answer(0)
        return {name: part.answer() for name, part in self.parts.items()}

    def gauges(self) -> list[Gauge]:
        """What the rows told when they were last read."""
        seen = self._gauges.answer() or self._gauges.last
        up = seen is not None and seen.error is None
        told: list[Gauge] = [] if seen is None or seen.value is None else seen.value
        return [Gauge("database_up", "Whether the rows could be read.", "", {"": float(up)}), *told]

    def _database(self) -> None:
        self._with_rows(lambda: self._service.execute("SELECT 1 FROM loadbay_upload_session LIMIT 1", ()).fetchall())

    def _store(self) -> None:
        if not self._service.bucket.exists():
            raise StorageRejected("The bucket is not there.")

    def _read_gauges(self) -> list[Gauge]:
        found: list[Gauge] = self._with_rows(lambda: [gauge for read in GAUGES for gauge in read(self._service)])
        return found

    def _with_rows(self, read: Callable[[], Any]) -> Any:
        try:
            # This thread's own connection, and gone with it.
            with self._service.database.connection_context():
                return read()
        except DATABASE_ERRORS as e:
            raise DatabaseUnavailable from e


# --- Gauges ----------------------------------------------------------------------------------------------------------

SUMS = (*TRACK_STATUSES, "uploaded_bytes")
# Sessions count their own tracks, so that it is theirs that are read and not those of the tracks.
COUNTS_SQL = f"SELECT COUNT(*), {', '.join(f'COALESCE(SUM({name}), 0)' for name in SUMS)} FROM loadbay_upload_session"


def session_gauges(service: Service) -> Iterator[Gauge]:
    """Sessions, and tracks by status."""
    sessions, *counts, size = map(float, service.execute(COUNTS_SQL, ()).fetchone())
    yield Gauge("upload_sessions", "Upload sessions that are kept.", "", {"": sessions})
    yield Gauge("tracks", "Tracks by status.", "status", dict(zip(TRACK_STATUSES, counts, strict=True)))
    yield Gauge("uploaded_bytes", "Bytes of all tracks that are uploaded.", "", {"": size})


def webhook_gauges(service: Service) -> Iterator[Gauge]:
    """What webhooks are still to be told."""
    count, oldest = outbox.backlog(service)
    states = {"pending": float(count), "dead_letter": float(dead_letters.count_dead_letters(service))}
    yield Gauge("webhook_deliveries", "Events that webhooks are still to be told of, by state.", "state", states)
    yield Gauge("webhook_oldest_seconds", "How long the oldest of those has waited.", "", {"": float(oldest)})


GAUGES: tuple[Callable[[Service], Iterator[Gauge]], ...] = (session_gauges, webhook_gauges)
"""All that is read from the rows for /metrics, each time in one thread and through one connection."""
