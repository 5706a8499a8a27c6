"""Metrics: counters and histograms that the service feeds, and gauges that are read for each scrape.

Without METRICS_TOKEN nothing is counted, and counting costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Gauge(NamedTuple):
    """A gauge: its value for each value of its label, or for '' without a label."""

    name: str
    documentation: str
    label: str
    values: dict[str, float]


class Metrics:
    """Metrics that are not collected."""

    enabled = False
    folder: str | None = None
    """The folder through which several processes share their metrics."""
    hint_logged = False

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record a response; `route` is the matched rule, or ''."""

    def count_presigned(self, method: str) -> None:
        """Count a presigned URL or POST policy for `method`."""

    def count_verified(self, kind: str, outcome: str, size: int) -> None:
        """Count the verification of a `track` or `cover` of `size` bytes as `uploaded` or `failed`."""

    def observe_store_call(self, call: str, outcome: str, seconds: float) -> None:
        """Record an S3 operation such as `HeadObject`, and its outcome: `ok`, `rejected` or `unavailable`."""

    def render(self, accept: str, gauges: Iterable[Gauge]) -> tuple[bytes, str]:
        """Return all metrics in a Prometheus format that the Accept header allows, and its content type."""
        raise NotImplementedError
