"""What `flask worker` does until it is stopped: deliver webhooks as they become due, and sweep now and then.

One thread talks to the database; the others only send, so that a receiver which is slow holds up nobody but itself.
Any number of workers may run: the rows say who does what (see webhooks.py).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event, Thread
from typing import Any
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
"""Deliveries at the same time, to all webhooks together. Half are kept for those with none on its way."""

POLL_SECONDS = 1.0
"""How often an idle worker looks for work."""

JOB_POLL_INTERVAL = 15.0
RETRY_SWEEP_SECONDS = 60
SHUTDOWN_GRACE = 5.0


class ShutdownRequested(Exception):
    """The worker is to stop, in the middle of a sweep."""


class Dispatcher:
    """Delivers the webhooks of one service."""

    def __init__(self, service: Service, senders: ThreadPoolExecutor):
        self.service, self.senders = service, senders
        self.sending: dict[Future[None], ClaimedDelivery] = {}

    def begin(self, room: int) -> int:
        """Begin what is due, at most `room` deliveries; returns how many. Raises what the database does."""
        in_flight = Counter(claim.webhook_seq for claim in self.sending.values())
        claims = outbox.claim(self.service, room, in_flight, MAX_CONCURRENT_DELIVERIES // 2) if room > 0 else []
        for claim in claims:
            self.sending[self.senders.submit(self._send, claim)] = claim
        return len(claims)

    def collect_results(self) -> None:
        """Keep what came of the deliveries that have ended. Raises what the database does; then it can be repeated."""
        for future in [future for future in self.sending if future.done()]:
            claim, error = self.sending[future], future.exception()
            if error is None:
                outbox.mark_delivered(self.service, claim)
                _log_delivery(logging.INFO, claim, "delivered")
            else:
                reason = str(error) if isinstance(error, DeliveryError) else f"a fault here: {type(error).__name__}"
                parked = outbox.mark_failed(self.service, claim, reason)
                _log_delivery(logging.WARNING, claim, f"{'parked' if parked else 'not delivered'}: {reason}")
            del self.sending[future]

    def _send(self, claim: ClaimedDelivery) -> None:
        allowed = self.service.settings.webhook_allow_private
        delivery.send(claim.url, claim.secret, claim.id, claim.body, allowed)


def _log_delivery(level: int, claim: ClaimedDelivery, what: str) -> None:
    # A URL's path and query may be secrets, and the message has the session's id: neither is for the log.
    host = urlsplit(claim.url).hostname
    logger.log(level, "webhook %s (%s): %s %s %s", claim.webhook_id, host, claim.type, claim.id, what)


class Worker:
    """Works for one or more services until `stop` is called."""

    def __init__(self, services: Sequence[Service], *, sweeps: bool = True):
        self.services, self.sweeps = services, sweeps
        self.stopping = Event()
        self.senders = ThreadPoolExecutor(MAX_CONCURRENT_DELIVERIES, "webhook")
        self.couriers = [Dispatcher(service, self.senders) for service in services]
        self.sweeping: dict[Service, Thread] = {}
        self.jobs_at = 0.0
        self.database_down = False
        self.ready = False

    def stop(self) -> None:
        """Let `run` come to its end: nothing new is begun, what is being delivered is brought to its end."""
        self.stopping.set()

    def run(self) -> None:
        """Work until `stop`. A database that is away is waited for."""
        while not self.stopping.is_set():
            self.step()
        while sending := self.sending():
            wait(sending)
            if not self._with_database(self._settle):
                # The leases run out, and another worker sends these again.
                break
        self.senders.shutdown()
        self._stop_sweeps()

    def step(self, timeout: float = POLL_SECONDS) -> None:
        """Settle what has ended, begin what is due, and wait for at most `timeout` seconds for either."""
        begun = self._with_database(self._work)
        if sending := self.sending():
            wait(sending, 0 if begun else timeout, FIRST_COMPLETED)
        elif not begun:
            self.stopping.wait(timeout)

    def _work(self) -> int:
        if not self.ready:
            for service in self.services:
                for line in environment.sync_env_webhook(service):
                    logger.info(line)
            self.ready = True
        self._settle()
        if self.sweeps and time.monotonic() >= self.jobs_at:
            self.jobs_at = time.monotonic() + JOB_POLL_INTERVAL
            for service in self.services:
                self._sweep_if_due(service)
        return sum(courier.begin(MAX_CONCURRENT_DELIVERIES - len(self.sending())) for courier in self.couriers)

    def _settle(self) -> bool:
        for courier in self.couriers:
            courier.collect_results()
        return True

    def sending(self) -> list[Future[None]]:
        """The deliveries that are on their way."""
        return [future for courier in self.couriers for future in courier.sending]

    def _with_database(self, work: Any) -> int:
        """What `work` returns, or 0 where the database is away: then begin anew with fresh connections."""
        try:
            done = int(work())
        except DATABASE_ERRORS as e:
            if not self.database_down:
                # Where service and worker are started at once, the service prepares the tables first.
                level = logging.WARNING if self.ready else logging.INFO
                logger.log(level, "The worker waits for the database and its tables: %s", type(e).__name__)
            for service in self.services:
                service.database.close()
            self.database_down = True
            self.stopping.wait(POLL_SECONDS)
            return 0
        if self.database_down:
            logger.info("The database is back.")
            self.database_down = False
        return done

    # --- Sweeping ----------------------------------------------------------------------------------------------------

    def _sweep_if_due(self, service: Service) -> None:
        thread = self.sweeping.get(service)
        busy = thread is not None and thread.is_alive()
        if not busy and jobs.claim_job(service, "sweep", service.settings.sweep_interval):
            # A thread that does not hold up the end: every step of a sweep is harmless to repeat.
            self.sweeping[service] = Thread(target=self._sweep, args=[service], name="sweep", daemon=True)
            self.sweeping[service].start()

    def _sweep(self, service: Service) -> None:
        try:
            summary = sweeper.sweep(service, watch=self._stop_between_rows)
            dead_letters.purge_dead_letters(service)
            logger.info("swept: %s", ", ".join(summary.lines()) or "nothing to do")
        except ShutdownRequested:
            outbox.postpone_job(service, "sweep", 0)
        except ServiceError as e:
            outbox.postpone_job(service, "sweep", RETRY_SWEEP_SECONDS)
            logger.warning("The sweep was cut short and will be tried again: %s", e.message)
        except DATABASE_ERRORS as e:
            logger.warning("The sweep was cut short by the database: %s", type(e).__name__)
        finally:
            service.database.close()

    def _stop_between_rows(self, rows: Iterable[Any], _total: int) -> Iterator[Any]:
        for row in rows:
            if self.stopping.is_set():
                raise ShutdownRequested
            yield row

    def _stop_sweeps(self) -> None:
        for thread in self.sweeping.values():
            thread.join(SHUTDOWN_GRACE)
        self._with_database(self._postpone_sweeps)

    def _postpone_sweeps(self) -> int:
        for service, thread in self.sweeping.items():
            if thread.is_alive():
                outbox.postpone_job(service, "sweep", 0)
        return 0
