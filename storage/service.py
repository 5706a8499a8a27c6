"""What one running service holds: its settings, its database, its bucket, its presigner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storage.db.connection import open_database
from storage.db.migrate import migrate
from storage.db.postgres import PooledPostgresDatabase
from storage.metrics import Metrics
from storage.rate_limits import rate_limiter_from
from storage.s3.bucket import Bucket
from storage.s3.presign import Presigner
from storage.settings import Settings


class Service:
    """Made once for each application; the rules take it as their first argument. Opens no connection."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.hint_logged = False
        self.rates = rate_limiter_from(settings)
        self.database = open_database(settings.database_url)
        self.metrics = _metrics_of(settings)
        self.bucket = Bucket(settings, self.metrics.observe_store_call)
        self.presigner = Presigner(
            settings.s3_public_endpoint or settings.s3_endpoint,
            settings.s3_bucket,
            self.bucket.credentials,
            settings.s3_region,
            settings.s3_addressing,
            self.metrics.count_presigned,
        )

    @property
    def pooled(self) -> bool:
        """Whether the database's connection is to be released after each request."""
        return isinstance(self.database, PooledPostgresDatabase)

    def release(self) -> None:
        """Leave this thread's connection to the next request. Harmless where there is none."""
        if not self.database.is_closed():
            self.database.close()

    def create_missing(self) -> list[str]:
        """Create what is missing: tables and bucket. Returns a sentence for each thing done."""
        done = [f"Applied migration {name}." for name in migrate(self.database)]
        if self.bucket.create_if_missing():
            done.append(f"Created bucket {self.bucket.name}.")
        return done

    def execute(self, statement: str, params: Sequence[object]) -> Any:
        """Run one SQL statement, written with `?` for its parameters; returns its cursor.

        The hot path is a few statements of this kind; all else is peewee's queries.
        """
        if self.database.param != "?":
            statement = statement.replace("?", self.database.param)
        return self.database.execute_sql(statement, params)  # type: ignore[no-untyped-call]


def _metrics_of(settings: Settings) -> Metrics:
    if not settings.metrics_token:
        return Metrics()
    # Imported here, as a deploy that is not watched needs none of it.
    from storage.metrics.prometheus import prometheus_metrics

    return prometheus_metrics(settings)
