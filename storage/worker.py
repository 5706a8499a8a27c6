"""The worker, `flask worker`: delivers webhooks as they become due, notices uploads, and sweeps periodically.

One thread reads and records deliveries; others only send, so that a slow receiver delays nothing but its own events.
Each job (sweep, poll, resume) has a thread of its own, so that neither delays a delivery or another job. Any number of
workers may run: they claim deliveries and jobs in the database (storage/webhooks/outbox.py, storage/jobs.py).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext, suppress
from threading import Event, Thread
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from storage import jobs
from storage.db.errors import DATABASE_ERRORS
from storage.errors import ServiceError, StorageRejected
from storage.measuring import stores
from storage.noticing import polling
from storage.s3.errors import log_level
from storage.service import Service
from storage.uploads import sweeper, verification
from storage.webhooks import delivery, environment, outbox, signals
from storage.webhooks.delivery import DeliveryError
from storage.webhooks.outbox import ClaimedDelivery

logger = logging.getLogger("loadbay")

MAX_CONCURRENT_DELIVERIES = 64
"""Concurrent deliveries to all endpoints together. Half of them are reserved for endpoints without any."""

POLL_INTERVAL = 1.0
"""Seconds between two looks for deliveries by an idle worker."""

JOB_POLL_INTERVAL = 5.0
"""Seconds between two looks for jobs that are due."""

NOTICE_INTERVAL = 10
"""Seconds between two polls for uploads."""

JOB_LEASE = 120
"""Seconds after which another worker may claim a job of noticing whose worker gives no sign of life."""

RESUME_LEASE = int(verification.BACKGROUND_SECONDS) + JOB_LEASE
"""As JOB_LEASE, for the job that waits for long copies."""

MEASURE_LEASE = 600
"""As JOB_LEASE, for the measurement of the store."""

RETRY_DELAY = {"sweep": 60, "poll": 15, "resume": 15, stores.JOB: 600}
"""Seconds until a job that the store interrupted is retried."""

DELIVERY_GRACE = 20.0
"""Seconds that a shutdown waits for the deliveries in flight: a webhook ends sooner, a receiver of a signal may not."""

SHUTDOWN_GRACE = 5.0
"""Seconds that a shutdown waits for the jobs."""

Item = TypeVar("Item")
SignalContext = Callable[[], AbstractContextManager[Any]]


class ShutdownRequested(Exception):
    """The worker has to stop in the middle of a job."""


class Job(NamedTuple):
    """A periodic job. It is claimed for `lease` seconds."""

    name: str
    lease: int
    run: Callable[[Service], None]


class Dispatcher:
    """Sends the webhook deliveries of one service."""

    def __init__(self, service: Service, senders: ThreadPoolExecutor, signal_context: SignalContext):
        self.service, self.senders, self.signal_context = service, senders, signal_context
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
        if claim.url == signals.ENDPOINT:
            self._send_signal(claim)
            return
        settings = self.service.settings
        allow_private, proxy = settings.webhook_allow_private, settings.webhook_proxy or None
        delivery.send(claim.url, claim.secret, claim.id, claim.body, allow_private, proxy)

    def _send_signal(self, claim: ClaimedDelivery) -> None:
        """Call the receivers of a signal. Raises DeliveryError for an exception of one, which is logged."""
        try:
            with self.signal_context():
                signals.send(self.service, claim.id, claim.body)
        except signals.NoReceivers as e:
            raise DeliveryError("no receiver is connected in the worker's process") from e
        except Exception as e:
            logger.exception("A receiver of %s failed", claim.type)
            raise DeliveryError(f"a receiver raised {type(e).__name__}") from e


def _log_delivery(level: int, claim: ClaimedDelivery, result: str) -> None:
    # Of the URL only the host: path and query may be secrets. Nothing of the payload: it has the session's id.
    host = urlsplit(claim.url).hostname
    logger.log(level, "Webhook %s (%s): %s %s %s", claim.webhook_id, host, claim.type, claim.id, result)


class Worker:
    """Works for one or more services until `stop` is called."""

    def __init__(
        self,
        services: Sequence[Service],
        *,
        sweeps: bool = True,
        notices: bool = True,
        signal_context: SignalContext = nullcontext,
    ):
        """Create a worker. The receivers of signals are called within `signal_context()`."""
        self.services, self.sweeps, self.notices = services, sweeps, notices
        self.stopping = Event()
        self.senders = ThreadPoolExecutor(MAX_CONCURRENT_DELIVERIES, "webhook")
        self.dispatchers = [Dispatcher(service, self.senders, signal_context) for service in services]
        self.job_threads: dict[tuple[Service, str], Thread] = {}
        self.store_down: set[tuple[Service, str]] = set()
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
        self._finish_deliveries()
        self._stop_jobs()

    def step(self, timeout: float = POLL_INTERVAL) -> None:
        """Record results, start what is due, and wait up to `timeout` seconds for the next result."""
        started = self._with_database(self._work)
        if in_flight := self.in_flight():
            wait(in_flight, 0 if started else timeout, FIRST_COMPLETED)
        elif not started:
            self.stopping.wait(timeout)

    def _finish_deliveries(self) -> None:
        """Wait for the deliveries in flight, and record their results."""
        deadline = time.monotonic() + DELIVERY_GRACE
        while (in_flight := self.in_flight()) and (seconds := deadline - time.monotonic()) > 0:
            wait(in_flight, seconds, FIRST_COMPLETED)
            if not self._with_database(self._collect_results):
                break
        if in_flight := self.in_flight():
            # The leases expire, and another worker sends these deliveries again.
            logger.warning("Deliveries that are not finished, and will be sent again: %s", len(in_flight))
        self.senders.shutdown(wait=False)

    def in_flight(self) -> list[Future[None]]:
        """Return the deliveries in flight."""
        return [future for dispatcher in self.dispatchers for future in dispatcher.in_flight]

    def _work(self) -> int:
        if not self.ready:
            self._sync_env_webhooks()
            for service in self.services if self.sweeps else ():
                stores.measure_if_changed(service)
            self.ready = True
        self._collect_results()
        if time.monotonic() >= self.next_job_poll:
            self.next_job_poll = time.monotonic() + JOB_POLL_INTERVAL
            for service in self.services:
                for job in self._jobs(service):
                    self._start_if_due(service, job)
        return sum(
            dispatcher.start_due(MAX_CONCURRENT_DELIVERIES - len(self.in_flight())) for dispatcher in self.dispatchers
        )

    def _sync_env_webhooks(self) -> None:
        for service in self.services:
            for line in environment.sync_endpoints(service):
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
            logger.info("The database and its tables are available.")
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

    # --- Jobs --------------------------------------------------------------------------------------------------------

    def _jobs(self, service: Service) -> list[Job]:
        sweep = Job("sweep", service.settings.sweep_interval, self._sweep)
        noticing = [Job("poll", JOB_LEASE, self._poll), Job("resume", RESUME_LEASE, self._resume)]
        measuring = Job(stores.JOB, MEASURE_LEASE, self._measure)
        return [*(noticing if self.notices else []), *([sweep, measuring] if self.sweeps else [])]

    def _start_if_due(self, service: Service, job: Job) -> None:
        thread = self.job_threads.get((service, job.name))
        busy = thread is not None and thread.is_alive()
        if not busy and jobs.claim_job(service, job.name, job.lease):
            # A daemon, which does not delay the exit: every step of a job can be repeated.
            thread = Thread(target=self._run_job, args=[service, job], name=job.name, daemon=True)
            self.job_threads[service, job.name] = thread
            thread.start()

    def _run_job(self, service: Service, job: Job) -> None:
        """Run a job, and make it due again soon where it was interrupted. An outage is logged once."""
        known = (service, job.name) in self.store_down
        # What does not fit is logged there, and the job goes on with what the store can do.
        with suppress(StorageRejected, *DATABASE_ERRORS):
            service.refresh_choices()
        log_level.set(logging.DEBUG if known else logging.ERROR)
        try:
            job.run(service)
            if known:
                self.store_down.discard((service, job.name))
                logger.info("%s: the object store answers again.", job.name.capitalize())
        except ShutdownRequested:
            jobs.postpone_job(service, job.name, 0)
        except ServiceError as e:
            delay = RETRY_DELAY[job.name]
            jobs.postpone_job(service, job.name, delay)
            if not known:
                logger.warning(
                    "%s interrupted, will be retried every %s s: %s", job.name.capitalize(), delay, e.message
                )
            self.store_down.add((service, job.name))
        except DATABASE_ERRORS as e:
            logger.warning("%s interrupted: database error (%s)", job.name.capitalize(), type(e).__name__)
        except Exception:
            logger.exception("%s failed", job.name.capitalize())
        finally:
            service.database.close()

    def _sweep(self, service: Service) -> None:
        summary = sweeper.sweep(service, force=False, watch=self._stop_between_rows)
        logger.info("Sweep finished: %s", ", ".join(summary.lines()) or "nothing to do")

    def _poll(self, service: Service) -> None:
        include_old = jobs.claim_job(service, "poll-old", polling.FULL_INTERVAL)
        include_oldest = include_old and jobs.claim_job(service, "poll-oldest", polling.OLDEST_INTERVAL)
        watch = self._keep_alive(service, "poll", JOB_LEASE)
        summary = polling.poll(service, watch, include_old=include_old, include_oldest=include_oldest)
        jobs.postpone_job(service, "poll", NOTICE_INTERVAL)
        if str(summary):
            logger.info("Uploads noticed: %s", summary)

    def _resume(self, service: Service) -> None:
        summary = polling.resume(service, self._keep_alive(service, "resume", RESUME_LEASE))
        jobs.postpone_job(service, "resume", NOTICE_INTERVAL)
        if str(summary):
            logger.info("Verifications resumed: %s", summary)

    def _measure(self, service: Service) -> None:
        """Measure the store again, and log what has changed: it may have been upgraded."""
        for line in stores.learn(service, watch=self._stop_between_rows):
            logger.warning(line)

    def _keep_alive(self, service: Service, name: str, lease: int) -> Callable[[], None]:
        """Return a function that prolongs a job's claim, and ends the job where the worker has to stop."""

        def watch() -> None:
            if self.stopping.is_set():
                raise ShutdownRequested
            jobs.postpone_job(service, name, lease)

        return watch

    def _stop_between_rows(self, items: Iterable[Item], total: int) -> Iterator[Item]:
        for item in items:
            if self.stopping.is_set():
                raise ShutdownRequested
            yield item

    def _stop_jobs(self) -> None:
        deadline = time.monotonic() + SHUTDOWN_GRACE
        for thread in self.job_threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        self._with_database(self._release_jobs)

    def _release_jobs(self) -> int:
        for (service, name), thread in self.job_threads.items():
            if thread.is_alive():
                jobs.postpone_job(service, name, 0)
        return 1
