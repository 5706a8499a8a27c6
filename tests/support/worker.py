"""The worker of `flask worker`, in the process of a test."""

from __future__ import annotations

from storage.service import Service
from storage.worker import Worker


def notice_once(service: Service) -> None:
    """Have a worker look for uploads once, and wait until it has."""
    worker = Worker([service], sweeps=False)
    try:
        worker.step(0)
        for thread in worker.job_threads.values():
            thread.join()
    finally:
        worker.stop()
        worker.run()
