"""Webhooks, and the outbox of what they are still to be told.

The database writes the outbox (migrations/0003), so that an event is kept exactly if its change is. A delivery is
claimed by a conditional update that sets its next try ahead: whoever claims it has that long, and if he dies the next
one tries again. So every event comes at least once, and the receiver knows a repeated one by its id. What is
delivered is removed; what is refused for a day is parked, to be listed and replayed.

Webhooks cannot see each other: one that fails is left alone for a while, and only its own events wait.
"""

from __future__ import annotations

from storage.clock import now as clock_now
from storage.db.models import Job
from storage.service import Service


def claim_job(service: Service, name: str, every_seconds: int) -> bool:
    """Whether the job `name` is due and it is for us to do it: one of all workers is told so."""
    now = clock_now()
    query = Job.update(due_at=now + every_seconds).where(Job.name == name, Job.due_at <= now)
    return bool(query.execute(service.database) == 1)
