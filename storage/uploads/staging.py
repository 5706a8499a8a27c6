"""Staging: the keys that a track's bytes are uploaded to, and the presigned URLs for them.

A URL that still works after the upload must not lead to a verified file. Therefore a plain PUT, the single PUT of a
multipart track and every cover go to a staging key, from which the verified bytes are copied. Only what cannot be
written twice goes to the final key at once: a write-once PUT (`If-None-Match: *`), and the parts of a multipart upload.
"""

from __future__ import annotations

from typing import Any, Literal

from storage.clock import isoformat_utc
from storage.clock import now as clock_now
from storage.db.rows import NewTrackRow, TrackRow
from storage.errors import SessionExpired
from storage.formats.checksums import Algorithm
from storage.s3 import object_keys
from storage.s3.write_headers import IF_NONE_MATCH
from storage.service import Service
from storage.uploads import multipart

ChecksumColumn = Literal["checksum_sha256", "checksum_crc64nvme", "checksum_crc32c"]
CHECKSUM_HEADERS: dict[Algorithm, tuple[str, ChecksumColumn]] = {
    "sha256": ("x-amz-checksum-sha256", "checksum_sha256"),
    "crc64nvme": ("x-amz-checksum-crc64nvme", "checksum_crc64nvme"),
    "crc32c": ("x-amz-checksum-crc32c", "checksum_crc32c"),
}
"""The header and the column of each checksum."""

LATE_UPLOAD_GRACE = 3600
"""Seconds for which an upload may continue after its URL has expired: a store checks the time only when it begins.

They allow for a store's clock that is behind ours, too.
"""


def is_direct(service: Service, row: NewTrackRow) -> bool:
    """Return True where the track's single PUT goes to its final key: a write-once PUT, at the first attempt."""
    return row["write_once"] and row["attempt"] == 0 and not service.choices.distrusts_write_once


def is_untrusted(service: Service, row: NewTrackRow) -> bool:
    """Return True where a write-once URL leads to the final key, and the store does not count as honoring it."""
    return row["write_once"] and service.choices.distrusts_write_once


def track_key(service: Service, row: NewTrackRow) -> str:
    """Return the staging key of the track's current attempt."""
    return object_keys.staging_key(row["path"], service.deployment_id, row["index"], row["attempt"])


def cover_key(service: Service, row: NewTrackRow) -> str:
    """Return the staging key of the current attempt to upload the track's cover."""
    return object_keys.staging_key(row["path"], service.deployment_id, row["index"], row["cover_attempt"], cover=True)


def expects_cover(row: TrackRow) -> bool:
    """Return True where an unverified cover may be in staging: a URL for it exists, or the service wrote it."""
    if row["next_cover_expires_at"] is not None:
        return True
    sent = row["cover_fields"] or row["cover_relayed"]
    if row["cover_status"] == "uploaded":
        # A cover that is sent replaces one that was in the file.
        return bool(row["cover_embedded"]) and sent
    return row["cover_status"] in (None, "failed") and (sent or bool(row["cover_embedded"]))


def wants_embedded_cover(service: Service, row: TrackRow) -> bool:
    """Return True where a picture in the track's file is to become its cover, if no cover was uploaded."""
    requested = row["embedded_cover"] and row["cover_status"] is None and row["cover_embedded"] in (None, True)
    offset, size = row["picture_offset"], row["picture_size"] or 0
    return requested and offset is not None and 0 < size <= service.settings.max_cover_bytes


def presign_uploads(service: Service, row: NewTrackRow, relay_url: str) -> dict[str, Any]:
    """Return `track_upload`, `track_cover_upload` and `track_multipart_upload` for a track, signed now.

    None outlives the session, or the credentials that sign it, and all are None unless the track is `initialized`.
    `relay_url` is the URL of the track's cover at this service. Makes no network call, unless credentials have to be
    renewed. Raises SessionExpired.
    """
    if row["status"] != "initialized":
        return {"track_upload": None, "track_cover_upload": None, "track_multipart_upload": None}
    now = clock_now()
    ttl = min(service.settings.upload_url_ttl, row["expires_at"] - now)
    if ttl < 1:
        raise SessionExpired
    ttl = service.bucket.url_ttl(ttl, now)
    headers, direct, written = signed_headers(service, row), is_direct(service, row), service.bucket.write_headers
    if direct:
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        headers |= {**written.final(row), **IF_NONE_MATCH}
    elif written.staged:
        headers |= written.staged
    url = service.presigner.url("PUT", row["path"] if direct else track_key(service, row), ttl, now, headers)
    times = {"ttl": ttl, "expires_at": isoformat_utc(now + ttl)}
    return {
        "track_upload": {"method": "PUT", "upload_url": url, **times, "headers": headers},
        "track_cover_upload": presign_cover(service, row, relay_url, ttl, now),
        "track_multipart_upload": multipart.upload(service, row) if row["upload_id"] is not None else None,
    }


def presign_cover(
    service: Service, row: NewTrackRow, relay_url: str, ttl: int, now: int, *, replaces: bool = False
) -> dict[str, Any]:
    """Return `track_cover_upload` for the track's cover, or for one that `replaces` it.

    A client that can follow the answer (`cover_fields`) gets a form for the store, or a PUT of the declared size and
    type, as the store enforces them. Any other posts a form with nothing but `file` to this service.
    """
    method, url = "POST", relay_url
    fields, headers = dict[str, str](), dict[str, str]()
    if row["cover_fields"] and service.choices.cover_upload == "form":
        limit, key = service.settings.max_cover_bytes, cover_key(service, row)
        form = service.bucket.write_headers.form
        url, fields = service.presigner.post_policy(key, ttl, now, limit, "image/", "image/jpeg", form)
    elif row["cover_fields"] and service.choices.cover_upload == "put" and not replaces:
        headers = signed_cover_headers(service, row)
        if headers:
            method, url = "PUT", service.presigner.url("PUT", cover_key(service, row), ttl, now, headers)
    times = {"ttl": ttl, "expires_at": isoformat_utc(now + ttl)}
    return {"method": method, "upload_url": url, **times, "headers": headers, "fields_": fields}


def signed_cover_headers(service: Service, row: NewTrackRow) -> dict[str, str]:
    """Return the headers that bind a cover's PUT to what was declared; none where that allows no PUT."""
    size, content_type = row["declared_cover_size"], row["declared_cover_type"] or ""
    if size is None or not 1 <= size <= service.settings.max_cover_bytes or not content_type.startswith("image/"):
        return {}
    return {"Content-Length": str(size), "Content-Type": content_type, **service.bucket.write_headers.staged}


def signed_headers(service: Service, row: NewTrackRow) -> dict[str, str]:
    """Return the headers that a PUT of the track must send unchanged: those that bind what was declared."""
    headers = dict[str, str]()
    if row["file_size"] is not None:
        headers["Content-Length"] = str(row["file_size"])
    if row["content_type"] is not None:
        headers["Content-Type"] = row["content_type"]
    for algorithm in service.choices.signed_checksums:
        name, column = CHECKSUM_HEADERS[algorithm]
        if (value := row[column]) is not None:
            headers[name] = value
            if service.choices.signs_checksum_algorithm:
                headers["x-amz-sdk-checksum-algorithm"] = algorithm.upper()
    return headers
