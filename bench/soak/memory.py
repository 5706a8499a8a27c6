"""The largest memory that the workers have had at any time of the run."""

from __future__ import annotations

import threading
from pathlib import Path

from .deployment import Deployment

LIMIT_MIB = 80
SAMPLE_SECONDS = 0.5


class MemorySampler(threading.Thread):
    """Samples the peak memory of gunicorn's workers and of `flask worker`, in MiB, until `stop` is set.

    A sample is the peak since the start of the process, so that only the last moments of a killed one are missed.
    """

    def __init__(self, deployment: Deployment, stop: threading.Event):
        super().__init__(daemon=True)
        self.deployment, self.stop = deployment, stop
        self.peaks = {"gunicorn's largest worker": 0.0, "flask worker": 0.0}

    def run(self) -> None:
        """Sample until `stop` is set."""
        while not self.stop.wait(SAMPLE_SECONDS):
            self.sample()

    def sample(self) -> None:
        """Take one sample."""
        pids = self.deployment.gunicorn.children(), [self.deployment.worker.pid]
        for name, group in zip(self.peaks, pids, strict=True):
            self.peaks[name] = max([self.peaks[name], *map(peak_mib, group)])


def peak_mib(pid: int) -> float:
    """Return the peak of a process's resident memory, or 0 for one that has exited."""
    try:
        return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError):
        return 0.0
