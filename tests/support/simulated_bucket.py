"""A bucket in memory, for tests of the order of calls: each call is one step, and takes no time.

It does what a store with strong consistency and conditional requests does. That the real stores do so is measured
elsewhere, and the tests of interleavings use a real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import md5
from itertools import count
from typing import Any, BinaryIO, NamedTuple

from peewee import Database

from storage.s3.bucket import Bucket
from storage.s3.dialects import ObjectInfo, Part, Upload, WrittenObject
from storage.s3.errors import ObjectChanged
from storage.settings import Settings

COPY_ETAG = "c0"
"""The beginning of the ETag of an object that was copied onto itself, which differs from that of its bytes."""


class StoredObject(NamedTuple):
    """An object: its bytes, its ETag, and what its sender set."""

    body: bytes
    etag: str
    content_type: str | None
    has_sender_headers: bool = False


class SimulatedBucket(Bucket):
    """A bucket whose objects are in memory. `before_call` is called before each call takes effect."""

    def __init__(self, settings: Settings, database: Database, before_call: Callable[[], None]):
        super().__init__(settings)
        self.database, self.before_call = database, before_call
        self.objects: dict[str, StoredObject] = {}
        self.uploads: dict[tuple[str, str], dict[int, bytes]] = {}
        self.upload_ids = count(1)

    def _call(self) -> None:
        assert not self.database.transaction_depth(), "A call to the store is part of a transaction."
        self.before_call()

    # --- What a client does -------------------------------------------------------------------------------------------

    def client_put(self, key: str, body: bytes, *, once: bool = False, content_encoding: bool = False) -> bool:
        """Write an object by a presigned URL; with `once`, return False where there is one already."""
        self.before_call()
        if once and key in self.objects:
            return False
        self.objects[key] = StoredObject(body, etag_of(body), None, content_encoding)
        return True

    def client_put_part(self, key: str, upload_id: str, number: int, body: bytes) -> bool:
        """Write a part by a presigned URL; return False where there is no such upload."""
        self.before_call()
        if (key, upload_id) not in self.uploads:
            return False
        self.uploads[key, upload_id][number] = body
        return True

    # --- Objects ------------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Return True."""
        self._call()
        return True

    def put(
        self, key: str, stream: BinaryIO, size: int, content_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Write an object."""
        self._call()
        body = stream.read(size)
        self.objects[key] = StoredObject(body, etag_of(body), content_type)

    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's metadata."""
        self._call()
        return self._info(key)

    def stat_and_read(self, key: str, count: int) -> tuple[ObjectInfo, bytes] | None:
        """Return the object's metadata and its first bytes."""
        self._call()
        info = self._info(key)
        return None if info is None else (info, self.objects[key].body[:count])

    def read_range(self, key: str, etag: str, offset: int, length: int) -> bytes:
        """Return a range of the object, if it still has this ETag."""
        self._call()
        if key not in self.objects or self.objects[key].etag != etag:
            raise ObjectChanged
        return self.objects[key].body[offset : offset + length]

    def copy(
        self, source: str, target: str, etag: str, content_type: str, headers: Any = None, **_: Any
    ) -> WrittenObject | None:
        """Copy an object on condition of its ETag."""
        self._call()
        stored = self.objects.get(source)
        if stored is None or stored.etag != etag:
            return None
        copied = COPY_ETAG + etag[2:] if source == target else etag
        self.objects[target] = StoredObject(stored.body, copied, content_type)
        return WrittenObject(copied, None)

    def remove(self, key: str) -> None:
        """Delete the object."""
        self._call()
        self.objects.pop(key, None)

    def delete_objects(self, keys: Sequence[str]) -> dict[str, str]:
        """Delete the objects."""
        self._call()
        for key in keys:
            self.objects.pop(key, None)
        return {}

    def list_pages(self, prefix: str, limit: int = 1000) -> Iterator[list[ObjectInfo]]:
        """Yield the objects below `prefix` in one page."""
        self._call()
        yield [info for key in sorted(self.objects) if key.startswith(prefix) and (info := self._info(key))]

    def _info(self, key: str) -> ObjectInfo | None:
        stored = self.objects.get(key)
        if stored is None:
            return None
        headers = stored.has_sender_headers
        return ObjectInfo(
            key, len(stored.body), stored.etag, None, stored.content_type, {}, datetime.now(UTC), headers, headers
        )

    # --- Multipart uploads --------------------------------------------------------------------------------------------

    def create_multipart_upload(self, key: str, *_: Any, **__: Any) -> str:
        """Create a multipart upload."""
        self._call()
        upload_id = f"upload-{next(self.upload_ids)}"
        self.uploads[key, upload_id] = {}
        return upload_id

    def list_parts(self, key: str, upload_id: str) -> list[Part] | None:
        """Return the uploaded parts."""
        self._call()
        parts = self.uploads.get((key, upload_id))
        if parts is None:
            return None
        return [Part(number, etag_of(body), None, len(body)) for number, body in sorted(parts.items())]

    def complete_multipart_upload(
        self, key: str, upload_id: str, parts: Sequence[Part], *_: Any, **__: Any
    ) -> WrittenObject | None:
        """Assemble the object from the parts, which must still have their ETags."""
        self._call()
        present = self.uploads.get((key, upload_id))
        if present is None or any(etag_of(present.get(part.part_number, b"")) != part.etag for part in parts):
            return None
        body = b"".join(present[part.part_number] for part in parts)
        etag = f"{etag_of(body)}-{len(parts)}"
        self.objects[key] = StoredObject(body, etag, "application/octet-stream")
        del self.uploads[key, upload_id]
        return WrittenObject(etag, None)

    def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        """Abort a multipart upload."""
        self._call()
        self.uploads.pop((key, upload_id), None)

    def list_multipart_uploads(self, prefix: str, limit: int = 1000) -> Iterator[Upload]:
        """Yield the unfinished multipart uploads below `prefix`."""
        self._call()
        yield from [Upload(key, upload_id, None) for key, upload_id in self.uploads if key.startswith(prefix)]


def etag_of(body: bytes) -> str:
    """Return the ETag of an object with these bytes."""
    return md5(body, usedforsecurity=False).hexdigest()
