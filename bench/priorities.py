"""The priority of what stands for other machines: stores, receivers and clients that would have cores of their own."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

LOWEST = 19


def yield_cores(pid: int) -> None:
    """Leave the cores to the service wherever it wants them: all threads of a process, and those that they will start.

    A process with a session of its own, as stores have, competes as a group, whose priority is another one:
    sched(7), "The autogroup feature".
    """
    for thread in Path(f"/proc/{pid}/task").iterdir():
        # It may end meanwhile.
        with suppress(ProcessLookupError):
            yield_core(int(thread.name))
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(LOWEST))


def yield_core(thread: int) -> None:
    """Leave the core of a thread (threading.get_native_id) to the service, and those of threads that it will start."""
    os.setpriority(os.PRIO_PROCESS, thread, LOWEST)
