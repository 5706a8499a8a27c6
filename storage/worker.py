"""The worker, `flask worker`: delivers webhooks as they become due, and sweeps periodically.

One thread uses the database; the others only send, so that a slow receiver delays nothing but its own events. Any
number of workers may run: they claim deliveries and jobs in the database (storage/webhooks/outbox.py, storage/jobs.py).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event, Thread
from typing import TypeVar
from urllib.parse import urlsplit

from storage import jobs
from storage.db.errors import DATABASE_ERRORS
from storage.errors import ServiceError
from storage.service import Service
from storage.uploads import sweeper
from storage.webhooks import dead_letters, delivery, environment, outbox
from storage.webhooks.delivery import DeliveryError
from storage.webhooks.outbox import ClaimedDelivery

logger = logging.getLogger("loadbay")

MAX_CONCURRENT_DELIVERIES = 64
"""Concurrent deliveries to all endpoints together. Half of them are reserved for endpoints without any."""

POLL_INTERVAL = 1.0
"""Seconds between two looks for deliveries by an idle worker."""

JOB_POLL_INTERVAL = 15.0
"""Seconds between two looks for jobs that are due."""

SWEEP_RETRY_DELAY = 60
"""Seconds until a sweep that the store interrupted is retried."""

SHUTDOWN_GRACE = 5.0
"""Seconds that a shutdown waits for a sweep."""

Item = TypeVar("Item")


class ShutdownRequested(Exception):
    """The worker has to stop in the middle of a sweep."""


class Dispatcher:
    """Sends the webhook deliveries of one service."""

    def __init__(self, service: Service, senders: ThreadPoolExecutor):
        self.service, self.senders = service, senders
        self.in_flight: dict[Future[None], ClaimedDelivery] = {}

    def start_due(self, capacity: int) -> int:
        """Start up to `capacity` deliveries that are due, and return their number. Raises DATABASE_ERRORS."""
        if capacity <= 0:
            return 0
        in_flight = Counter(claim.webhook_seq for claim in self.in_flight.values())
        claims = outbox.claim(self.service, capacity, in_flight, reserve=MAX_CONCURRENT_DELIVERIES // 2)
        for claim in claims:
            self.in_flight[self.senders.submit(self._send, claim)] = claim
        return len(claims)

    def collect_results(self) -> None:
        """Record the results of finished deliveries. Raises DATABASE_ERRORS; it can be repeated then."""
        for future in [future for future in self.in_flight if future.done()]:
            self._record(self.in_flight[future], future.exception())
            del self.in_flight[future]

    def _record(self, claim: ClaimedDelivery, error: BaseException | None) -> None:
        if error is None:
            outbox.mark_delivered(self.service, claim)
            _log_delivery(logging.INFO, claim, "delivered")
            return
        reason = str(error) if isinstance(error, DeliveryError) else f"internal error ({type(error).__name__})"
        dead_lettered = outbox.mark_failed(self.service, claim, reason)
        result = "dead-lettered" if dead_lettered else "failed, will be retried"
        _log_delivery(logging.WARNING, claim, f"{result}: {reason}")

    def _send(self, claim: ClaimedDelivery) -> None:
        allow_private = self.service.settings.webhook_allow_private
        delivery.send(claim.url, claim.secret, claim.id, claim.body, allow_private)


def _log_delivery(level: int, claim: ClaimedDelivery, result: str) -> None:
    # Of the URL only the host: path and query may be secrets. Nothing of the payload: it has the session's id.
    host = urlsplit(claim.url).hostname
    logger.log(level, "Webhook %s (%s): %s %s %s", claim.webhook_id, host, claim.type, claim.id, result)


class Worker:
    """Works for one or more services until `stop` is called."""

    def __init__(self, services: Sequence[Service], *, sweeps: bool = True):
        self.services, self.sweeps = services, sweeps
        self.stopping = Event()
        self.senders = ThreadPoolExecutor(MAX_CONCURRENT_DELIVERIES, "webhook")
        self.dispatchers = [Dispatcher(service, self.senders) for service in services]
        self.sweep_threads: dict[Service, Thread] = {}
        self.next_job_poll = 0.0
        self.database_down = False
        self.ready = False

    def stop(self) -> None:
        """Make `run` return: deliveries in flight are finished, no new one is started."""
        self.stopping.set()

    def run(self) -> None:
        """Work until `stop` is called. While the database is down, wait for it."""
        while not self.stopping.is_set():
            self.step()
        while in_flight := self.in_flight():
            wait(in_flight)
            if not self._with_database(self._collect_results):
                # The leases expire, and another worker sends these deliveries again.
                break
        self.senders.shutdown()
        self._stop_sweeps()

    def step(self, timeout: float = POLL_INTERVAL) -> None:
        """Record results, start what is due, and wait up to `timeout` seconds for the next result."""
        started = self._with_database(self._work)
        if in_flight := self.in_flight():
            wait(in_flight, 0 if started else timeout, FIRST_COMPLETED)
        elif not started:
            self.stopping.wait(timeout)

    def in_flight(self) -> list[Future[None]]:
        """Return the deliveries in flight."""
        return [future for dispatcher in self.dispatchers for future in dispatcher.in_flight]

    def _work(self) -> int:
        if not self.ready:
            self._sync_env_webhooks()
            self.ready = True
        self._collect_results()
        if self.sweeps and time.monotonic() >= self.next_job_poll:
            self.next_job_poll = time.monotonic() + JOB_POLL_INTERVAL
            for service in self.services:
                self._sweep_if_due(service)
        return sum(
            dispatcher.start_due(MAX_CONCURRENT_DELIVERIES - len(self.in_flight())) for dispatcher in self.dispatchers
        )

    def _sync_env_webhooks(self) -> None:
        for service in self.services:
            for line in environment.sync_env_webhook(service):
                logger.info(line)

    def _collect_results(self) -> int:
        for dispatcher in self.dispatchers:
            dispatcher.collect_results()
        return 1

    def _with_database(self, work: Callable[[], int]) -> int:
        """Return the result of `work`, or 0 if the database is down; then drop the connections and pause."""
        try:
            result = work()
        except DATABASE_ERRORS as e:
            self._handle_database_error(e)
            return 0
        if self.database_down:
            logger.info("Database connection restored.")
            self.database_down = False
        return result

    def _handle_database_error(self, error: Exception) -> None:
        if not self.database_down:
            # At startup this is normal: the service may still be creating the tables.
            level = logging.WARNING if self.ready else logging.INFO
            logger.log(level, "Waiting for the database and its tables (%s)", type(error).__name__)
        for service in self.services:
            service.database.close()
        self.database_down = True
        self.stopping.wait(POLL_INTERVAL)

    # --- Sweeping ----------------------------------------------------------------------------------------------------

    def _sweep_if_due(self, service: Service) -> None:
        thread = self.sweep_threads.get(service)
        busy = thread is not None and thread.is_alive()
        if not busy and jobs.claim_job(service, "sweep", service.settings.sweep_interval):
            # A daemon, which does not delay the exit: every step of a sweep can be repeated.
            self.sweep_threads[service] = Thread(target=self._sweep, args=[service], name="sweep", daemon=True)
            self.sweep_threads[service].start()

    def _sweep(self, service: Service) -> None:
        try:
            summary = sweeper.sweep(service, watch=self._stop_between_rows)
            dead_letters.purge_dead_letters(service)
            logger.info("Sweep finished: %s", ", ".join(summary.lines()) or "nothing to do")
        except ShutdownRequested:
            jobs.postpone_job(service, "sweep", 0)
        except ServiceError as e:
            jobs.postpone_job(service, "sweep", SWEEP_RETRY_DELAY)
            logger.warning("Sweep interrupted, will be retried in %s s: %s", SWEEP_RETRY_DELAY, e.message)
        except DATABASE_ERRORS as e:
            logger.warning("Sweep interrupted: database error (%s)", type(e).__name__)
        finally:
            service.database.close()

    def _stop_between_rows(self, rows: Iterable[Item], _total: int) -> Iterator[Item]:
        for row in rows:
            if self.stopping.is_set():
                raise ShutdownRequested
            yield row

    def _stop_sweeps(self) -> None:
        for thread in self.sweep_threads.values():
            thread.join(SHUTDOWN_GRACE)
        self._with_database(self._postpone_sweeps)

    def _postpone_sweeps(self) -> int:
        for service, thread in self.sweep_threads.items():
            if thread.is_alive():
                jobs.postpone_job(service, "sweep", 0)
        return 1
