"""A clock that is ahead or behind: a `sitecustomize` that moves Python's time in a new process."""

from __future__ import annotations

import os
from pathlib import Path

CODE = """
import os
import time

_seconds, _time, _time_ns = int(os.environ["SOAK_CLOCK_SECONDS"]), time.time, time.time_ns
time.time = lambda: _time() + _seconds
time.time_ns = lambda: _time_ns() + _seconds * 10**9
"""
"""The service reads the clock by `time.time` and `time.time_ns` alone; libraries that use `datetime` are not moved."""


def environment(folder: Path, seconds: int) -> dict[str, str]:
    """Return the environment of a Python process whose clock is `seconds` ahead. Writes to `folder`."""
    place = folder / "clock"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(CODE)
    path = os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "SOAK_CLOCK_SECONDS": str(seconds)}
