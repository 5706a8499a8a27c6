"""Periodic jobs: whichever worker claims one runs it. Their names are those of the jobs in storage/worker.py."""

from __future__ import annotations

from storage.clock import now as clock_now
from storage.db.models import Job
from storage.service import Service

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


def postpone_job(service: Service, name: str, seconds: int) -> None:
    """Make a job due in `seconds`, for any worker."""
    Job.update(due_at=clock_now() + seconds).where(Job.name == name).execute(service.database)


def seconds_overdue(service: Service, name: str) -> int | None:
    """Return for how many seconds a job has been due (0 if it is not), or None where no worker has ever claimed it."""
    row = service.execute("SELECT due_at FROM loadbay_job WHERE name = ?", (name,)).fetchone()
    return None if row is None else max(0, clock_now() - int(row[0]))
