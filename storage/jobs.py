"""Periodic jobs: whichever worker claims one runs it. `sweep` is the only one so far."""

from __future__ import annotations

from storage.clock import now as clock_now
from storage.db.models import Job
from storage.service import Service


def claim_job(service: Service, name: str, interval: int) -> bool:
    """Return whether the job `name` was due, and schedule its next run `interval` seconds from now.

    Of several workers that ask, one gets True.
    """
    now = clock_now()
    query = Job.update(due_at=now + interval).where(Job.name == name, Job.due_at <= now)
    return bool(query.execute(service.database) == 1)


def postpone_job(service: Service, name: str, seconds: int) -> None:
    """Make a job that was not finished due again in `seconds`, for any worker."""
    Job.update(due_at=clock_now() + seconds).where(Job.name == name).execute(service.database)
