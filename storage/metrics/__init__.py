"""What is counted while the service works, for whoever watches over it.

Counting is off, and costs nothing, unless METRICS_TOKEN is set.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Gauge(NamedTuple):
    """A value that is read when it is asked for: `values` has one for each of the label's values ('' without label)."""

    name: str
    meaning: str
    label: str
    values: dict[str, float]


class Metrics:
    """Counts nothing: what a service has that nobody watches."""

    enabled = False

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is the rule that it matched, '' where it matched none."""

    def count_presigned(self, method: str) -> None:
        """A URL or a form was signed for `method`."""

    def count_verified(self, kind: str, outcome: str, size: int) -> None:
        """A `track` or `cover` of `size` bytes was found `uploaded` or `failed`."""

    def observe_store_call(self, call: str, outcome: str, seconds: float) -> None:
        """The store was asked, and the outcome was `ok`, `refused` or `away`."""

    def render(self, accept: str, gauges: Iterable[Gauge]) -> tuple[bytes, str]:
        """All counts and `gauges` as Prometheus reads them, and their content type; `accept` says what it takes."""
        raise NotImplementedError
