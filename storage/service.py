"""One configured instance of the service: its settings, database, bucket, presigner, rate limiter and metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import orjson
from peewee import OperationalError

from storage.db.connection import open_database
from storage.db.sqlite import RetryingSqliteDatabase
from storage.errors import StorageRejected
from storage.metrics import Metrics
from storage.page import PageDefaults
from storage.rate_limits import rate_limiter_from
from storage.s3.abilities import Abilities
from storage.s3.bucket import Bucket
from storage.s3.choices import Choices, choose, contradictions
from storage.s3.presign import Presigner
from storage.s3.write_headers import fingerprint
from storage.settings import Settings, SettingsError

logger = logging.getLogger("loadbay")

CHOICES_TTL = 60.0
"""Seconds after which a process reads again what is known of the store."""

SETTINGS_CHANGED = (
    "Settings of the object store have changed since it was measured: until '%s prepare' or a worker measures it "
    "again, nothing of it is relied on."
)
UNFIT = "The settings do not fit the object store. The log has the reasons, and '{} doctor' shows them."


class Service:
    """Created once for each application, and the first argument of the rules. Creating one opens no connection."""

    def __init__(self, settings: Settings):
        self.settings = settings
        # The prefix of this service's commands, for messages.
        self.command = "flask --app app"
        self.hint_logged = False
        # Not at once: the worker may be starting, too.
        self.worker_check_at: float | None = time.monotonic() + 60
        self.rates = rate_limiter_from(settings)
        # web/pages/folder.py reads those of PAGE_FOLDER.
        self.page_defaults = PageDefaults(settings)
        self.database = open_database(settings.database_url)
        self.metrics = _metrics_of(settings)
        self.bucket = Bucket(settings, self.metrics.observe_store_call)
        self.choices: Choices
        self.problems: list[str] = []
        self.fingerprint = fingerprint(settings)
        self._logged_change = False
        self._choices_expire_at = 0.0
        self.use_abilities(None)
        self.presigner = Presigner(
            settings.s3_public_endpoint or settings.s3_endpoint,
            settings.s3_bucket,
            self.bucket.credentials,
            settings.s3_region,
            settings.s3_addressing,
            self.metrics.count_presigned,
        )

    @cached_property
    def deployment_id(self) -> str:
        """The id that the migration gave this deployment: part of its staging keys, 22 URL-safe characters."""
        row = self.execute("SELECT id FROM loadbay_deployment", ()).fetchone()
        if row is None:
            raise OperationalError(
                f"The table loadbay_deployment has no row: run '{self.command} prepare' on a new database."
            )
        return str(row[0])

    @cached_property
    def receipt_seed(self) -> str:
        """The seed of the key that signs receipts where RECEIPT_KEYS is not set: 32 bytes in base64."""
        row = self.execute("SELECT receipt_seed FROM loadbay_deployment", ()).fetchone()
        if row is None:
            raise OperationalError(f"The table loadbay_deployment has no row: run '{self.command} prepare'.")
        return str(row[0])

    def use_abilities(self, abilities: Abilities | None, *, current: bool = True) -> None:
        """Choose the ways that fit a store with these abilities; None is one that has not been measured.

        Of what was measured with other settings, which is not `current`, only what is lacking counts.
        """
        relied_on = abilities if current or abilities is None else abilities.doubted()
        self.choices = self.bucket.choices = choose(self.settings, relied_on)
        problems = contradictions(self.settings, abilities) if abilities else []
        for sentence in problems:
            if sentence not in self.problems:
                logger.error(sentence)
        self.problems = problems

    def refresh_choices(self) -> None:
        """Read what is known of the store, once in CHOICES_TTL seconds: one small query, and no call to the store.

        Raises StorageRejected where the settings do not fit it.
        """
        if time.monotonic() >= self._choices_expire_at:
            statement = "SELECT abilities, fingerprint FROM loadbay_store WHERE endpoint = ? AND bucket = ?"
            row = self.execute(statement, (self.settings.s3_endpoint, self.settings.s3_bucket)).fetchone()
            current = row is None or row[1] == self.fingerprint
            self.use_abilities(Abilities.from_json(orjson.loads(row[0])) if row else None, current=current)
            self._log_change(current)
            self._choices_expire_at = time.monotonic() + CHOICES_TTL
        if self.problems:
            raise StorageRejected(UNFIT.format(self.command))

    def _log_change(self, current: bool) -> None:
        if not current and not self._logged_change:
            logger.warning(SETTINGS_CHANGED, self.command)
        self._logged_change = not current

    def expire_choices(self) -> None:
        """Have the next request read what is known of the store."""
        self._choices_expire_at = 0.0

    @property
    def pooled(self) -> bool:
        """Return whether connections to the database must be released after each request."""
        return not isinstance(self.database, RetryingSqliteDatabase)

    def release(self) -> None:
        """Return this thread's connection to the pool, unless it is in a transaction. The next statement takes one."""
        if not self.database.is_closed() and not self.database.in_transaction():
            self.database.close()

    def close(self) -> None:
        """Close all connections to the database and to the store, of all threads: the service must not be in use."""
        self.database.close_all()
        self.bucket.close()

    def create_missing(self) -> list[str]:
        """Create or update the tables and create the bucket; return a line for each change."""
        # Imported here, as a process that serves migrates nothing.
        from storage.db.migrate import migrate

        changes = [f"Applied migration {name}." for name in migrate(self.database)]
        if self.bucket.create_if_missing():
            changes.append(f"Created bucket {self.bucket.name}.")
        return changes

    def execute(self, statement: str, params: Sequence[object]) -> Any:
        """Execute an SQL statement, with `?` for its parameters on every database, and return its cursor.

        For the few statements of the hot path; everything else uses peewee's queries.
        """
        if self.database.param != "?":
            statement = _with_parameters(statement, self.database.param)
        return self.database.execute_sql(statement, params)


@lru_cache(maxsize=256)
def _with_parameters(statement: str, parameter: str) -> str:
    """Return a statement with another placeholder than `?`; always the same one, so that it is parsed once."""
    return statement.replace("?", parameter)


def _metrics_of(settings: Settings) -> Metrics:
    if not settings.metrics_token:
        return Metrics()
    try:
        # Imported here, as a deploy without metrics does not need it.
        from storage.metrics.prometheus import prometheus_metrics
    except ImportError:
        raise SettingsError("METRICS_TOKEN requires a package: pip install prometheus_client") from None
    return prometheus_metrics(settings)
