"""Multipart uploads: part layout, part URLs, uploaded parts, completion.

Limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, TypedDict

from storage.clock import isoformat_utc
from storage.clock import now as clock_now
from storage.db.rows import NewTrackRow
from storage.errors import InvalidRequest, InvalidTrackState, SessionExpired
from storage.s3.dialects import Part
from storage.service import Service
from storage.settings import MAX_SINGLE_PUT_BYTES

MIB = 2**20
DEFAULT_PART_BYTES = 16 * MIB
MAX_PARTS = 10_000
# Part URLs in the response to a registration; the others are signed on request, so that none expires in a queue.
INITIAL_PART_URLS = 20


class PartUpload(TypedDict):
    """A part's presigned URL; `size` in bytes."""

    part_number: int
    upload_url: str
    size: int
    headers: dict[str, str]


class UploadedPart(TypedDict):
    """A part that the store has; `size` in bytes."""

    part_number: int
    size: int
    etag: str


class PendingMultipartUpload(NamedTuple):
    """A multipart upload that was created at the store and belongs to no track yet; `removal_seq` would end it."""

    track_id: str
    track_index: str
    path: str
    upload_id: str
    part_size: int
    removal_seq: int


def should_use_multipart(service: Service, payload: Mapping[str, Any]) -> bool:
    """Return True where `payload` asks for a multipart upload, or its file is too large for a single PUT.

    For a store without multipart uploads the response names a single PUT instead. Raises InvalidRequest for a file that
    is too large for that.
    """
    size, requested = payload["file_size"] or 0, payload["multipart"]
    if service.choices.multipart:
        return size > service.settings.multipart_threshold_bytes if requested is None else bool(requested)
    if size > MAX_SINGLE_PUT_BYTES:
        limit = f"file_size: must be at most {MAX_SINGLE_PUT_BYTES} bytes"
        raise InvalidRequest(f"{limit}, since the object store of this deploy has no multipart uploads.")
    return False


def part_size(payload: Mapping[str, Any]) -> int:
    """Return the bytes in each part but the last. Raises InvalidRequest where `payload` allows no multipart upload."""
    total, requested = payload["file_size"], payload["part_size"]
    if total is None:
        raise InvalidRequest("file_size: must be set for a multipart upload.")
    if payload["checksum_sha256"] is not None:
        # For these S3 has a SHA-256 of the parts' checksums, never one of the whole object:
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
        raise InvalidRequest(
            "checksum_sha256: must not be set for a multipart upload; checksum_crc64nvme or checksum_crc32c may be."
        )
    minimum = -(-total // MAX_PARTS)
    if requested is not None:
        if requested < minimum:
            raise InvalidRequest(f"part_size: must be at least {minimum} bytes for a file of {total} bytes.")
        return int(requested)
    return max(DEFAULT_PART_BYTES, int(-(-minimum // MIB)) * MIB)


def part_count(row: NewTrackRow) -> int:
    """Return the number of parts of the track."""
    total, size = _layout(row)
    return -(-total // size)


def part_size_at(row: NewTrackRow, number: int) -> int:
    """Return the size in bytes of the part `number` (from 1)."""
    total, size = _layout(row)
    return min(size, total - (number - 1) * size)


def _layout(row: NewTrackRow) -> tuple[int, int]:
    if row["file_size"] is None or row["part_size"] is None:
        raise InvalidRequest("track_id: must be a track with a multipart upload.")
    return row["file_size"], row["part_size"]


def sign(service: Service, row: NewTrackRow, numbers: Iterable[int]) -> list[PartUpload]:
    """Return presigned URLs for the parts `numbers`, each for that part's exact size. None outlives the session.

    Raises InvalidRequest for an unknown part, InvalidTrackState, SessionExpired. Makes no network call.
    """
    if row["upload_id"] is None:
        raise InvalidRequest("track_id: must be a track with a multipart upload.")
    if row["status"] != "initialized":
        raise InvalidTrackState(f"track_id: the track is {row['status']} and accepts no more parts.")
    now = clock_now()
    ttl = _url_ttl(service, row, now)
    count, signed = part_count(row), list[PartUpload]()
    for number in numbers:
        if not 1 <= number <= count:
            raise InvalidRequest(f"part_numbers: must be from 1 to {count} for this track.")
        size = part_size_at(row, number)
        # Encryption, tags and the like were sent when the upload was created.
        headers = {"Content-Length": str(size), **service.bucket.write_headers.owner}
        query = {"partNumber": str(number), "uploadId": row["upload_id"]}
        url = service.presigner.url("PUT", row["path"], ttl, now, headers, query)
        signed.append({"part_number": number, "upload_url": url, "size": size, "headers": headers})
    return signed


def upload(service: Service, row: NewTrackRow) -> dict[str, Any]:
    """Return `track_multipart_upload` for a track, with the URLs of its first parts."""
    count = part_count(row)
    now = clock_now()
    ttl = _url_ttl(service, row, now)
    parts = sign(service, row, range(1, min(count, INITIAL_PART_URLS) + 1))
    return {"method": "PUT", **part_layout(row), "ttl": ttl, "expires_at": isoformat_utc(now + ttl), "parts": parts}


def _url_ttl(service: Service, row: NewTrackRow, now: int) -> int:
    """Return the seconds for which URLs are valid that are signed now. Raises SessionExpired."""
    ttl = min(service.settings.upload_url_ttl, row["expires_at"] - now)
    if ttl < 1:
        raise SessionExpired
    return service.bucket.url_ttl(ttl, now)


def part_layout(row: NewTrackRow) -> dict[str, int]:
    """Return `part_size` (bytes) and `part_count` of the track. Raises InvalidRequest for one without parts."""
    return {"part_size": _layout(row)[1], "part_count": part_count(row)}


def uploaded_parts(service: Service, row: NewTrackRow) -> list[UploadedPart]:
    """Return the parts that the store has, in order. Raises InvalidRequest for a track without a multipart upload."""
    if row["upload_id"] is None:
        raise InvalidRequest("track_id: must be a track with a multipart upload.")
    parts = service.bucket.list_parts(row["path"], row["upload_id"]) or []
    return [{"part_number": part.part_number, "size": part.size or 0, "etag": part.etag} for part in parts]


def missing_parts(row: NewTrackRow, parts: Sequence[Part]) -> str | None:
    """Return a sentence that names the parts which the store does not have (in full), or None where it has them all."""
    sizes = {part.part_number: part.size for part in parts}
    missing = [n for n in range(1, part_count(row) + 1) if sizes.get(n) != part_size_at(row, n)]
    if not missing:
        return None
    some = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
    return f"track_id: {len(missing)} of {part_count(row)} parts are missing: {some}."


def fingerprint(parts: Sequence[Part]) -> str:
    """Return a digest of the parts' numbers, sizes and ETags, by which their bytes are known again."""
    lines = "".join(f"{part.part_number} {part.size} {part.etag}\n" for part in parts)
    return sha256(lines.encode()).hexdigest()
