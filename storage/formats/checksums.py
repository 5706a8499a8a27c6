"""Checksums of a file's bytes, in base64 as in S3's `x-amz-checksum-` headers.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Algorithm = Literal["sha256", "crc64nvme", "crc32c"]
ALGORITHMS: tuple[Algorithm, ...] = ("sha256", "crc64nvme", "crc32c")
LABELS: dict[Algorithm, str] = {"sha256": "SHA-256", "crc64nvme": "CRC-64/NVME", "crc32c": "CRC-32C"}
CRC_MODELS: dict[str, tuple[str, int]] = {"crc64nvme": ("CRC64-NVME", 8), "crc32c": ("CRC32-ISCSI", 4)}
"""The models' names in anycrc, and their bytes."""


class Checksum(NamedTuple):
    """A checksum of a whole file: its algorithm, and its value in base64."""

    algorithm: Algorithm
    value: str

    @property
    def label(self) -> str:
        """The algorithm's name, for people."""
        return LABELS[self.algorithm]

    def headers(self) -> dict[str, str]:
        """Return the header that tells the checksum to the store, or that the store tells it by."""
        return {f"x-amz-checksum-{self.algorithm}": self.value}


def declared_checksum(declaration: Mapping[str, object]) -> Checksum | None:
    """Return the checksum that a track's row or registration has, or None. It has at most one."""
    for algorithm in ALGORITHMS:
        value = declaration[f"checksum_{algorithm}"]
        if isinstance(value, str):
            return Checksum(algorithm, value)
    return None


class ChecksumReader:
    """A checksum of bytes that come in pieces."""

    def __init__(self, algorithm: Algorithm):
        self._sha256 = hashlib.sha256()
        self._crc: Any = None
        if algorithm != "sha256":
            # Imported where a store does not tell checksums.
            import anycrc  # type: ignore[import-untyped]

            name, self._bytes = CRC_MODELS[algorithm]
            self._crc, self._value = anycrc.Model(name), 0

    def update(self, content: bytes) -> None:
        """Add the next bytes."""
        if self._crc is None:
            self._sha256.update(content)
        elif content:
            self._value = self._crc.calc(content, self._value)

    def value(self) -> str:
        """Return the checksum of all bytes so far, in base64."""
        digest = self._sha256.digest() if self._crc is None else self._value.to_bytes(self._bytes, "big")
        return b64encode(digest).decode()
