"""The tricks of verification: CPU time of a read from the store with each of them and without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from storage.s3 import parallel
from storage.s3.bucket import Bucket, StorePoolManager
from storage.settings import Settings

from ..peers.servers import new_store, store_settings

KEYS = [f"object-{number}" for number in range(12)]
"""Objects that are read at once, as many as an album has tracks."""

HEAD_BYTES = 65_536
BLOCKS = 40
SECONDS = 60.0


def urlopen_without_limit(self: StorePoolManager, *args: Any, **options: Any) -> Any:
    """Send a request as urllib3 does."""
    options.pop("limit", None)
    return _urlopen(self, *args, **options)


def new_pool() -> ThreadPoolExecutor:
    """Return threads for one call of `call_each`."""
    return ThreadPoolExecutor(parallel.MAX_CALLS)


_urlopen = StorePoolManager.urlopen
TRICKS: dict[str, Callable[[], Any]] = {
    "httptools in place of urllib3": lambda: patch.object(StorePoolManager, "urlopen", urlopen_without_limit),
    "threads that are kept": lambda: patch.object(parallel, "_pool", new_pool),
}
"""What leaves a trick out, for the length of a `with` block."""


@contextmanager
def filled_bucket(folder: Path) -> Iterator[Bucket]:
    """Provide a bucket with the objects of KEYS."""
    with new_store(folder) as store:
        bucket = Bucket(Settings.load({**store_settings(store), "ALLOW_ANONYMOUS": "1"}))
        for key in KEYS:
            bucket.put(key, BytesIO(bytes(HEAD_BYTES)), HEAD_BYTES, "audio/wav")
        yield bucket
        bucket.close()


def cost(bucket: Bucket) -> float:
    """Read all objects side by side; return the CPU milliseconds of one."""
    start = time.process_time()
    results = parallel.call_each(lambda key: bucket.stat_and_read(key, HEAD_BYTES), KEYS, time.monotonic() + SECONDS)
    elapsed = time.process_time() - start
    assert not any(isinstance(result, Exception) for result in results)
    return elapsed * 1000 / len(KEYS)


def measure(folder: Path) -> Iterator[tuple[str, list[float], list[float]]]:
    """Yield each trick's title, and the costs with it and without it, block by block in turn."""
    with filled_bucket(folder) as bucket:
        for title, leave_out in TRICKS.items():
            with_it, without = [], []
            for _ in range(BLOCKS):
                with_it.append(cost(bucket))
                with leave_out():
                    without.append(cost(bucket))
            # The first blocks open connections and start threads.
            yield title, with_it[5:], without[5:]


def print_table(folder: Path) -> None:
    """Print what a read costs with each trick and without it, and the share of it that the trick saves."""
    print(f"\n{'CPU milliseconds of a read':<40}{'with':>8}{'without':>9}{'share':>8}{'quartiles':>16}")
    for title, with_it, without in measure(folder):
        savings = [1 - mine / plain for mine, plain in zip(with_it, without, strict=True)]
        spread = "".join(f"{value:>8.0%}" for value in (median(savings), *quartiles(savings)))
        print(f"{title:<40}{median(with_it):>8.2f}{median(without):>9.2f}{spread}")


def quartiles(values: list[float]) -> tuple[float, float]:
    """Return the quartiles, which a single block that something else disturbs does not move."""
    ordered = sorted(values)
    return ordered[len(ordered) // 4], ordered[len(ordered) * 3 // 4]
