"""The store's abilities: measured by `flask prepare`, `flask doctor` and the worker, and kept in the database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import orjson
import urllib3

from storage import jobs
from storage.clock import now as clock_now
from storage.db.models import Store
from storage.errors import StorageUnavailable
from storage.http.proxies import ProxiedPoolManager
from storage.measuring.probing import Observation, Probe
from storage.s3.abilities import Abilities
from storage.s3.errors import log_level
from storage.service import Service

logger = logging.getLogger("loadbay.store")

MEASURE_INTERVAL = 7 * 86_400
"""Seconds after which the worker measures the store again: it may have been upgraded."""

JOB = "measure"
"""The worker's job that measures the store."""


def read(service: Service) -> tuple[Abilities, int] | None:
    """Return the abilities that were measured last, with the time of it, or None."""
    where = Store.endpoint == service.settings.s3_endpoint, Store.bucket == service.settings.s3_bucket
    for row in Store.select().where(*where).dicts().execute(service.database):
        return Abilities.from_json(orjson.loads(row["abilities"])), row["measured_at"]
    return None


def is_current(service: Service) -> bool:
    """Return True where the store was measured with the settings of now."""
    where = Store.endpoint == service.settings.s3_endpoint, Store.bucket == service.settings.s3_bucket
    measured = Store.select().where(*where, Store.fingerprint == service.fingerprint).bind(service.database)
    return bool(measured.exists())


def measure_if_changed(service: Service) -> None:
    """Make the worker's measurement due at once where the store was never measured with the settings of now."""
    if not is_current(service):
        jobs.schedule(service, JOB, 0)


def save(service: Service, abilities: Abilities) -> None:
    """Record abilities as measured now, and use them in this process at once."""
    row = {
        "endpoint": service.settings.s3_endpoint,
        "bucket": service.settings.s3_bucket,
        "measured_at": clock_now(),
        "abilities": orjson.dumps(abilities.json()).decode(),
        "fingerprint": service.fingerprint,
    }
    changes = {field: row[field.name] for field in (Store.measured_at, Store.abilities, Store.fingerprint)}
    statement = Store.insert(row).on_conflict(conflict_target=[Store.endpoint, Store.bucket], update=changes)
    statement.execute(service.database)
    jobs.schedule(service, JOB, MEASURE_INTERVAL)
    service.use_abilities(abilities)


Measurement = Generator[Observation, None, None]


def measure(service: Service, origins: Sequence[str] = (), *, record: bool = True) -> Measurement:
    """Measure the store, yield each observation, and `record` the abilities. Cleans up if it is left early.

    Nothing is recorded where the store is not usable at all, or where the measurement is not finished.
    """
    level = log_level.set(logging.DEBUG)
    known: dict[str, Any] = {"clock_skew": clock_skew(service.settings.s3_endpoint)}
    usable = False
    try:
        owner = service.deployment_id if record else ""
        with closing(Probe(service.settings, endpoint_for(service), origins, owner).measure()) as observations:
            for observation in observations:
                known |= observation.abilities
                usable = usable or bool(observation.name == "presigned PUT" and observation.ok)
                yield observation
    finally:
        log_level.reset(level)
    if usable and record:
        save(service, Abilities.from_json(known))


Watch = Callable[[Iterable[Observation], int], Iterator[Observation]]
"""Iterates over observations, and may raise to end the measurement; their number is 0, for unknown."""


def iterate(observations: Iterable[Observation], _total: int) -> Iterator[Observation]:
    """Iterate over observations."""
    return iter(observations)


def learn(service: Service, watch: Watch = iterate) -> list[str]:
    """Measure the store, and return a line for each change since the last time. Raises StorageUnavailable."""
    before = read(service) if is_current(service) else None
    with closing(measure(service, _origins(service))) as observations:
        failed = [item for item in watch(observations, 0) if item.name == "presigned PUT" and not item.ok]
    if failed:
        raise StorageUnavailable(
            f"The object store does not accept a presigned PUT ({failed[0].detail}): run {service.command} doctor."
        )
    after = read(service)
    if before is None or after is None:
        return [f"Measured the store {service.settings.s3_endpoint}."]
    return [f"The store has changed: {line}." for line in after[0].changes_from(before[0])]


def learn_if_unknown(service: Service) -> list[str]:
    """Measure a store that was never measured with the settings of now. Raises as `learn` does."""
    return [] if is_current(service) else learn(service)


def _origins(service: Service) -> tuple[str, ...]:
    return tuple(origin for origin in service.settings.cors_origins if origin != "*")


def endpoint_for(service: Service) -> str:
    """Return the endpoint at which clients reach the store or, where this machine does not reach that, the service's.

    In a container, for example, the clients' endpoint may be another machine's.
    """
    public = service.settings.s3_public_endpoint
    try:
        if public:
            ProxiedPoolManager(timeout=urllib3.Timeout(2), retries=False).request("GET", public, redirect=False)
            return public
    except (urllib3.exceptions.HTTPError, OSError):
        logger.info("S3_PUBLIC_ENDPOINT is not reachable from here: the store is measured at S3_ENDPOINT.")
    return service.settings.s3_endpoint


def clock_skew(endpoint: str) -> int | None:
    """Return the seconds by which the store's clock is ahead, or None where it shows none."""
    try:
        date = (
            ProxiedPoolManager(timeout=urllib3.Timeout(5), retries=False).request("GET", endpoint).headers.get("Date")
        )
        return round(parsedate_to_datetime(date or "").timestamp() - time())
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        return None
