"""Metrics collected by prometheus_client, correct with several workers.

With PROMETHEUS_MULTIPROC_DIR (set by gunicorn.conf.py) each worker writes to its own memory-mapped file in that folder,
and the worker that handles a scrape adds them up. Without it, metrics are those of this process. As several services
may share a process, and so its files, each labels its own samples and reports only those.
https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
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

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Upper bounds of the histograms, in seconds."""
SERVICE_LABEL = "service"
"""The label that separates the services of one process. It is removed from the output."""


class PrometheusMetrics(Metrics):
    """The metrics of one service."""

    enabled = True

    def __init__(self, identity: str):
        self.identity = identity
        # The library reads the variable once, at its import, which a host may do before it sets the variable.
        self.folder = None if ValueClass is MutexValue else os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if self.folder:
            Path(self.folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.registry = CollectorRegistry()
        # It counts the requests as well: a separate counter would cost half as much again.
        self._requests = self._histogram(
            "http_request_duration_seconds", "Duration of requests.", "method", "route", "status"
        )
        self._presigned = self._counter("presigned_urls", "Presigned URLs and POST policies issued.", "method")
        self._verifications = self._counter("verifications", "Verifications of uploaded files.", "kind", "outcome")
        self._bytes = self._counter("verified_bytes", "Bytes of successfully verified files.", "kind")
        self._store_calls = self._histogram(
            "store_request_duration_seconds", "Duration of requests to the store.", "call", "outcome"
        )
        # Known labels exist from the start, as 0.
        for method in ("PUT", "POST", "GET"):
            self._presigned.labels(identity, method)
        for kind in ("track", "cover"):
            self._bytes.labels(identity, kind)
            for outcome in ("uploaded", "failed"):
                self._verifications.labels(identity, kind, outcome)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"loadbay_{name}", documentation, (SERVICE_LABEL, *labels), registry=self.registry)

    def _histogram(self, name: str, documentation: str, *labels: str) -> Histogram:
        return Histogram(
            f"loadbay_{name}", documentation, (SERVICE_LABEL, *labels), registry=self.registry, buckets=BUCKETS
        )

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record a response; see Metrics."""
        self._requests.labels(self.identity, method, route, str(status)).observe(seconds)

    def count_presigned(self, method: str) -> None:
        """Count a presigned URL; see Metrics."""
        self._presigned.labels(self.identity, method).inc()

    def count_verified(self, kind: str, outcome: str, size: int) -> None:
        """Count a verification; see Metrics."""
        self._verifications.labels(self.identity, kind, outcome).inc()
        if outcome == "uploaded":
            self._bytes.labels(self.identity, kind).inc(size)

    def observe_store_call(self, call: str, outcome: str, seconds: float) -> None:
        """Record an S3 operation; see Metrics."""
        self._store_calls.labels(self.identity, call, outcome).observe(seconds)

    def render(self, accept: str, gauges: Iterable[Gauge]) -> tuple[bytes, str]:
        """Return all metrics and their content type; see Metrics."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):
            # The header names an invalid version.
            encode, content_type = choose_encoder("")
        with _shared_lock(self.folder):
            return encode(_Snapshot([*self._collect(), *map(_family, gauges)])), content_type

    def _collect(self) -> Iterator[Metric]:
        """Yield this service's metrics, those of all workers."""
        source: Collector = self.registry
        if self.folder:
            source = MultiProcessCollector(None, self.folder)  # type: ignore[no-untyped-call]
        for family in source.collect():
            # Without `_created`: a start time is of no use if workers are replaced.
            own = [
                s for s in family.samples if s.labels.get(SERVICE_LABEL) == self.identity and s.name[-8:] != "_created"
            ]
            family.samples = [s._replace(labels={k: v for k, v in s.labels.items() if k != SERVICE_LABEL}) for s in own]
            yield family


class _Snapshot:
    """The metrics of one scrape, in the shape of a registry."""

    def __init__(self, families: list[Metric]):
        self.families = families

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        return self.families


def _family(gauge: Gauge) -> Metric:
    labels = [gauge.label] if gauge.label else []
    family = GaugeMetricFamily(f"loadbay_{gauge.name}", gauge.documentation, labels=labels)
    for label, value in gauge.values.items():
        family.add_metric([label] if gauge.label else [], value)
    return family


@contextmanager
def _shared_lock(folder: str | None) -> Iterator[None]:
    """Keep gunicorn.conf.py from merging the file of an exited worker into the others' meanwhile."""
    if not folder:
        yield
        return
    import fcntl

    with (Path(folder) / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


_metrics_by_identity: WeakValueDictionary[str, PrometheusMetrics] = WeakValueDictionary()
_lock = Lock()


def prometheus_metrics(settings: Settings) -> PrometheusMetrics:
    """Return the metrics of a service: one object in each process, as two would overwrite each other in the file."""
    # A service is identified by its database and its place in the store.
    database_url = re.sub(r"//[^/@]*@", "//", settings.database_url)
    parts = (database_url, settings.s3_endpoint, settings.s3_bucket, settings.s3_prefix)
    identity = sha256("\n".join(parts).encode()).hexdigest()[:16]
    with _lock:
        metrics = _metrics_by_identity.get(identity)
        if metrics is None:
            metrics = _metrics_by_identity[identity] = PrometheusMetrics(identity)
        return metrics
