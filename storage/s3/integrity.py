"""Integrity of an object: its declared checksum is compared with the one that the store tells, or with its bytes."""

from __future__ import annotations

import time
from typing import Literal, NamedTuple

from storage.errors import Failure, StorageUnavailable
from storage.formats.checksums import Algorithm, Checksum, ChecksumReader
from storage.s3.bucket import Bucket
from storage.s3.errors import ObjectChanged, StorageTimeout
from storage.s3.parallel import DeadlinePassed

Integrity = Literal["sha256", "crc64nvme", "crc32c", "size"]
"""By what an object was proven to be the declared file."""

READ_BYTES = 8 * 2**20
"""Bytes of one request, and so of memory."""

READ_BYTES_PER_SECOND = 8 * 2**20
"""Pace at which a slow store is read."""


class Proof(NamedTuple):
    """The result of a comparison: by what the object was proven, or how it differs; neither if open."""

    integrity: Integrity | None = None
    failure: Failure | None = None


def compare(declared: Checksum, value: str | None) -> Proof:
    """Compare a declared checksum with the one of an object, or None if that is not known."""
    if value is None:
        return Proof()
    if value == declared.value:
        return Proof(declared.algorithm)
    return Proof(failure=mismatch(declared))


def mismatch(declared: Checksum) -> Failure:
    """Return the failure of a file that has another checksum than the declared one."""
    return Failure("checksum_mismatch", f"The file's {declared.label} is not the one that was declared.")


def ask_store(bucket: Bucket, key: str, etag: str, declared: Checksum, *, joined: bool = False) -> Proof:
    """Compare with the checksum that the store tells, if it is to be believed; one request. Raises ObjectChanged.

    `joined` is True for an object that was a multipart upload. An ETag does not prove a checksum, not even where it is
    the MD5 of the bytes.
    """
    if declared.algorithm not in trusted_algorithms(bucket, joined=joined):
        return Proof()
    info = bucket.head(key)
    if info is None or info.etag != etag:
        raise ObjectChanged
    return compare(declared, info.checksums.get(declared.algorithm))


def trusted_algorithms(bucket: Bucket, *, joined: bool = False) -> tuple[Algorithm, ...]:
    """Return the algorithms whose checksums the store both enforces and tells, as measured.

    A store that tells what it was sent, without comparing it, proves nothing.
    """
    return bucket.choices.whole_checksums if joined else bucket.choices.trusted_checksums


def read_object(bucket: Bucket, key: str, etag: str, size: int, declared: Checksum, deadline: float) -> Proof:
    """Compare with the checksum of the object's bytes, which are read range by range on condition of the ETag.

    Raises DeadlinePassed where the object is too large to be read by `deadline` (time.monotonic()) from a slow store,
    ObjectChanged, StorageUnavailable, StorageRejected.
    """
    if time.monotonic() + size / READ_BYTES_PER_SECOND > deadline:
        raise DeadlinePassed
    checksum = ChecksumReader(declared.algorithm)
    for offset in range(0, size, READ_BYTES):
        if time.monotonic() > deadline:
            raise DeadlinePassed
        checksum.update(_read(bucket, key, etag, offset, min(READ_BYTES, size - offset)))
    return compare(declared, checksum.value())


def _read(bucket: Bucket, key: str, etag: str, offset: int, length: int) -> bytes:
    try:
        return bucket.read_range(key, etag, offset, length)
    except StorageTimeout as e:
        # A timeout elsewhere means that the store may be doing what it was asked to.
        raise StorageUnavailable from e
