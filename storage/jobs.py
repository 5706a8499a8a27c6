"""Periodic jobs: whichever worker claims one runs it. Their names are those of the jobs in storage/worker.py."""

from __future__ import annotations

import logging
import time

from storage.clock import now as clock_now
from storage.db.models import Job
from storage.service import Service

logger = logging.getLogger("loadbay")

WORKER_MISSING_AFTER = 300
"""Seconds after which a job that nobody runs shows that there is no worker."""

WORKER_MISSING = (
    "No '%s worker' has run for at least %s minutes: uploads are noticed only by 'complete', a read of the track, a "
    "store event or a sweep, no webhook is delivered, and nothing expires. Start one."
)

CLAIM = (
    "INSERT INTO loadbay_job (name, due_at) VALUES (?, ?) "
    "ON CONFLICT (name) DO UPDATE SET due_at = excluded.due_at WHERE loadbay_job.due_at <= ?"
)


def claim_job(service: Service, name: str, interval: int) -> bool:
    """Return whether the job `name` was due, and schedule its next run `interval` seconds from now.

    Of several workers that ask, one gets True.
    """
    now = clock_now()
    return bool(service.execute(CLAIM, (name, now + interval, now)).rowcount == 1)


def schedule(service: Service, name: str, seconds: int) -> None:
    """Make a job due in `seconds`, whether or not a worker has ever claimed it."""
    due = {"name": name, "due_at": clock_now() + seconds}
    statement = Job.insert(due).on_conflict(conflict_target=[Job.name], update={Job.due_at: due["due_at"]})
    statement.execute(service.database)


def postpone_job(service: Service, name: str, seconds: int) -> None:
    """Make a job due in `seconds`, for any worker."""
    Job.update(due_at=clock_now() + seconds).where(Job.name == name).execute(service.database)


def seconds_overdue(service: Service, name: str) -> int | None:
    """Return for how many seconds a job has been due (0 if it is not), or None where no worker has ever claimed it."""
    row = service.execute("SELECT due_at FROM loadbay_job WHERE name = ?", (name,)).fetchone()
    return None if row is None else max(0, clock_now() - int(row[0]))


def warn_without_worker(service: Service) -> None:
    """Log, once in a process, that no worker is running. Called for each session: it looks once, after a minute."""
    if service.worker_check_at is None or time.monotonic() < service.worker_check_at:
        return
    service.worker_check_at = None
    overdue = seconds_overdue(service, "poll")
    if overdue is None or overdue > WORKER_MISSING_AFTER:
        logger.warning(WORKER_MISSING, service.command, WORKER_MISSING_AFTER // 60)
