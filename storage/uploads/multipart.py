"""Big files in parts: how many, where each goes, which have arrived.

Limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from storage.clock import isoformat_utc
from storage.clock import now as clock_now
from storage.errors import InvalidRequest, InvalidTrackState, NotUploaded, SessionExpired
from storage.service import Service

Row = dict[str, Any]

MIB = 2**20
MIN_PART_BYTES = 5 * MIB
DEFAULT_PART_BYTES = 16 * MIB
MAX_PART_BYTES = 5 * 1024 * MIB
MAX_PARTS = 10_000
# As many part URLs as come unasked; the rest is signed when it is needed, so that none expires in a queue.
INITIAL_PART_URLS = 20


class PendingMultipartUpload(NamedTuple):
    """A multipart upload that the store has begun and no row knows yet; `track_index` is the track's index."""

    track_id: str
    track_index: str
    path: str
    upload_id: str
    part_size: int


def should_use_multipart(service: Service, payload: Mapping[str, Any]) -> bool:
    """Whether the track that `words` describes is to come in parts: asked for, or too big for one PUT."""
    if payload["multipart"] is None:
        return (payload["file_size"] or 0) > service.settings.multipart_threshold_bytes
    return bool(payload["multipart"])


def part_size(payload: Mapping[str, Any]) -> int:
    """Bytes in each part but the last. Raises InvalidRequest where `words` cannot be cut into parts."""
    total, asked = payload["file_size"], payload["part_size"]
    if total is None:
        raise InvalidRequest("file_size: a multipart upload needs it.")
    if payload["checksum_sha256"] is not None:
        # S3 keeps a SHA-256 of the parts' checksums for these, never one of the whole object:
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
        raise InvalidRequest("checksum_sha256: the store cannot check it over a multipart upload.")
    least = -(-total // MAX_PARTS)
    if asked is not None:
        if asked < least:
            raise InvalidRequest(f"part_size: {total} bytes take parts of at least {least} bytes.")
        return int(asked)
    return max(DEFAULT_PART_BYTES, int(-(-least // MIB)) * MIB)


def part_count(row: Mapping[str, Any]) -> int:
    """How many parts the track has."""
    return int(-(-row["file_size"] // row["part_size"]))


def part_size_at(row: Mapping[str, Any], number: int) -> int:
    """Bytes in the part `number` (from 1)."""
    return int(min(row["part_size"], row["file_size"] - (number - 1) * row["part_size"]))


def sign(service: Service, row: Mapping[str, Any], numbers: Iterable[int]) -> list[Row]:
    """URLs for the parts `numbers`, each for exactly that part's size, until the session ends at the latest.

    Raises InvalidRequest for a part that is not there, TrackFinal, SessionExpired. No network call.
    """
    if row["upload_id"] is None:
        raise InvalidRequest("track_id: this track does not come in parts.")
    if row["status"] != "initialized":
        raise InvalidTrackState(f"track_id: the track is {row['status']} and takes no more parts.")
    now = clock_now()
    ttl = min(service.settings.upload_url_ttl, row["expires_at"] - now)
    if ttl < 1:
        raise SessionExpired
    count, signed = part_count(row), []
    for number in numbers:
        if not 1 <= number <= count:
            raise InvalidRequest(f"part_numbers: the track has the parts 1 to {count}.")
        size = part_size_at(row, number)
        headers = {"Content-Length": str(size)}
        query = {"partNumber": str(number), "uploadId": row["upload_id"]}
        url = service.presigner.url("PUT", row["path"], ttl, now, headers, query)
        signed.append({"part_number": number, "upload_url": url, "size": size, "headers": headers})
    return signed


def upload(service: Service, row: Mapping[str, Any]) -> Row:
    """`track_multipart_upload` for a track, with the URLs of its first parts."""
    count = part_count(row)
    now = clock_now()
    ttl = min(service.settings.upload_url_ttl, row["expires_at"] - now)
    parts = sign(service, row, range(1, min(count, INITIAL_PART_URLS) + 1))
    return {"method": "PUT", **part_layout(row), "ttl": ttl, "expires_at": isoformat_utc(now + ttl), "parts": parts}


def part_layout(row: Mapping[str, Any]) -> Row:
    """How the track is cut into parts."""
    return {"part_size": row["part_size"], "part_count": part_count(row)}


def uploaded_parts(service: Service, row: Mapping[str, Any]) -> list[Row]:
    """The parts that the store has, in order. Raises InvalidRequest for a track that does not come in parts."""
    if row["upload_id"] is None:
        raise InvalidRequest("track_id: this track does not come in parts.")
    found = service.bucket.list_parts(row["path"], row["upload_id"]) or []
    return [{"part_number": part.part_number, "size": part.size, "etag": part.etag} for part in found]


def complete(service: Service, row: Mapping[str, Any]) -> None:
    """Have the store make one object of the parts. Raises NotUploaded, saying what is missing.

    Where the store does not know the upload any more, it was joined already or never will be: the caller's check
    of the object tells which.
    """
    found = service.bucket.list_parts(row["path"], row["upload_id"])
    if found is None:
        return
    sizes = {part.part_number: part.size for part in found}
    lacking = [n for n in range(1, part_count(row) + 1) if sizes.get(n) != part_size_at(row, n)]
    if lacking:
        some = ", ".join(map(str, lacking[:10])) + (", ..." if len(lacking) > 10 else "")
        raise NotUploaded(f"track_id: the store lacks {len(lacking)} of {part_count(row)} parts: {some}.")
    service.bucket.complete_multipart_upload(row["path"], row["upload_id"], found)
