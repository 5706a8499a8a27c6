"""Counts kept by prometheus_client, right under several workers.

With PROMETHEUS_MULTIPROC_DIR set (gunicorn.conf.py does so) each worker counts in a file of its own there, mapped into
its memory, and whoever answers a scrape adds them up; without, counts are this process's. Either way all that a
process counts may end in the same place, so that each service labels its own and tells only those.
https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Lock
from weakref import WeakValueDictionary

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.values import MutexValue, ValueClass

from storage.metrics import Gauge, Metrics
from storage.settings import Settings

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SERVICE_LABEL = "service"
"""The label that tells services apart. It is not told."""


class PrometheusMetrics(Metrics):
    """The counts of one service."""

    enabled = True

    def __init__(self, identity: str):
        self.identity = identity
        # The library has looked for the folder once, when it was imported, maybe by a host that named it later.
        self.folder = None if ValueClass is MutexValue else os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if self.folder:
            Path(self.folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.registry = CollectorRegistry()
        # It counts the requests, too: a counter beside it would cost half as much again.
        self._requests = self._histogram(
            "http_request_duration_seconds", "Time from a request's route to its answer.", "method", "route", "status"
        )
        self._signed = self._counter("presigned_urls", "Presigned URLs and forms handed out.", "method")
        self._verifications = self._counter("verifications", "Files that were checked in the store.", "kind", "outcome")
        self._bytes = self._counter("verified_bytes", "Bytes of files that were found to be as promised.", "kind")
        self._calls = self._histogram(
            "store_request_duration_seconds", "Time that the store took to answer.", "call", "outcome"
        )
        # Children are looked up once: labels() costs more than counting.
        self._by_request: dict[tuple[str, str, int], Callable[[float], None]] = {}
        self._by_method = {method: self._signed.labels(identity, method) for method in ("PUT", "POST", "GET")}
        for kind in ("track", "cover"):
            self._bytes.labels(identity, kind)
            for outcome in ("uploaded", "failed"):
                self._verifications.labels(identity, kind, outcome)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"loadbay_{name}", meaning, (SERVICE_LABEL, *labels), registry=self.registry)

    def _histogram(self, name: str, meaning: str, *labels: str) -> Histogram:
        return Histogram(f"loadbay_{name}", meaning, (SERVICE_LABEL, *labels), registry=self.registry, buckets=SECONDS)

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """See Metrics."""
        key = method, route, status
        found = self._by_request.get(key)
        if found is None:
            child = self._requests.labels(self.identity, method, route, str(status))
            # Two threads that come here at once must go on with the same one.
            found = self._by_request.setdefault(key, multiprocess_observer(child) if self.folder else child.observe)
        found(seconds)

    def reset_children(self) -> None:
        """Ask the library again where to count."""
        self._by_request.clear()

    def count_presigned(self, method: str) -> None:
        """See Metrics."""
        self._by_method[method].inc()

    def count_verified(self, kind: str, outcome: str, size: int) -> None:
        """See Metrics."""
        self._verifications.labels(self.identity, kind, outcome).inc()
        if outcome == "uploaded":
            self._bytes.labels(self.identity, kind).inc(size)

    def observe_store_call(self, call: str, outcome: str, seconds: float) -> None:
        """See Metrics."""
        self._calls.labels(self.identity, call, outcome).observe(seconds)

    def render(self, accept: str, gauges: Iterable[Gauge]) -> tuple[bytes, str]:
        """See Metrics."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):
            # It named a version that is none.
            encode, content_type = choose_encoder("")
        with _shared_lock(self.folder):
            return encode(_Snapshot([*self._own(), *map(_family, gauges)])), content_type

    def _own(self) -> Iterator[Metric]:
        """What this service has counted, in all workers."""
        source: Collector = self.registry
        if self.folder:
            source = MultiProcessCollector(None, self.folder)  # type: ignore[no-untyped-call]
        for family in source.collect():
            # When a count began is of no use where a worker may be replaced.
            own = [
                s for s in family.samples if s.labels.get(SERVICE_LABEL) == self.identity and s.name[-8:] != "_created"
            ]
            family.samples = [s._replace(labels={k: v for k, v in s.labels.items() if k != SERVICE_LABEL}) for s in own]
            yield family


def multiprocess_observer(child: Histogram) -> Callable[[float], None]:
    """`child.observe`, for one that counts in a file, at a third of its time: its process is known to be the same."""
    values = [child._sum, *child._buckets]
    # Asked for its count, a value looks for its process's own file first.
    counts = [value.get() for value in values]
    file, names = child._sum._file, [value._key for value in values]
    bounds, lock = child._upper_bounds, Lock()

    def observe(seconds: float) -> None:
        place = bisect_left(bounds, seconds) + 1
        with lock:
            counts[0] += seconds
            file.write_value(names[0], counts[0], 0.0)
            counts[place] += 1
            file.write_value(names[place], counts[place], 0.0)

    return observe


class _Snapshot:
    """What is to be told, in the shape of a registry."""

    def __init__(self, families: list[Metric]):
        self.families = families

    def collect(self) -> Iterable[Metric]:
        """All of it."""
        return self.families


def _family(gauge: Gauge) -> Metric:
    family = GaugeMetricFamily(f"loadbay_{gauge.name}", gauge.meaning, labels=[gauge.label] if gauge.label else [])
    for value, number in gauge.values.items():
        family.add_metric([value] if gauge.label else [], number)
    return family


@contextmanager
def _shared_lock(folder: str | None) -> Iterator[None]:
    """Keep the files as they are: gunicorn.conf.py adds those of a worker that ended to the others'."""
    if not folder:
        yield
        return
    import fcntl

    with (Path(folder) / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


_metrics_by_identity: WeakValueDictionary[str, PrometheusMetrics] = WeakValueDictionary()
_lock = Lock()


def _after_fork() -> None:
    """A process that was forked counts in a file of its own."""
    for metrics in _metrics_by_identity.values():
        metrics.reset_children()


os.register_at_fork(after_in_child=_after_fork)


def prometheus_metrics(settings: Settings) -> PrometheusMetrics:
    """The counts of a service: one object in a process, as two would write over each other in the worker's file."""
    # Services are told apart by where they keep what they keep.
    database = re.sub(r"//[^/@]*@", "//", settings.database_url)
    places = (database, settings.s3_endpoint, settings.s3_bucket, settings.s3_prefix)
    identity = sha256("\n".join(places).encode()).hexdigest()[:16]
    with _lock:
        found = _metrics_by_identity.get(identity)
        if found is None:
            found = _metrics_by_identity[identity] = PrometheusMetrics(identity)
        return found
