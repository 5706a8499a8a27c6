"""Tracks: registering one in a session, and the URLs that let its bytes in."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from io import SEEK_END
from typing import Any, BinaryIO

from peewee import IntegrityError

from . import sessions
from .clock import iso
from .clock import now as clock_now
from .errors import SessionExpired, TooLarge, TrackNotFound
from .ids import new_id
from .service import Service

Row = dict[str, Any]

# One statement finds the session, takes a place in it and keeps the track. The tables' triggers count, their
# checks hold the limits: two at once cannot both take the last place. SELECT needs to be told the type of NULLs.
INSERT = """
INSERT INTO track (session_seq, id, path, cover_path, file_name, organization_index, metadata, file_size,
    content_type, checksum_sha256, status, created_at, write_once, writable_until)
SELECT seq, ?, ? || collection_id || ?, ? || collection_id || ?, ?, CAST(? AS VARCHAR), CAST(? AS TEXT),
    CAST(? AS BIGINT), CAST(? AS VARCHAR), CAST(? AS VARCHAR), 'initialized', ?, FALSE, 0
FROM upload_session
WHERE id = ? AND status = 'open' AND expires_at > ?
RETURNING path, cover_path, (SELECT expires_at FROM upload_session WHERE seq = session_seq)
"""
SELECT_COVER = """
SELECT track.cover_path FROM track JOIN upload_session ON upload_session.seq = track.session_seq
WHERE track.id = ? AND upload_session.id = ?
"""


_clean = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,78}[A-Za-z0-9_])?(?:\.[A-Za-z0-9]{1,16})?")


def clean_name(file_name: str) -> str:
    """A key-safe form of `file_name`: at most 100 of A-Z, a-z, 0-9, '.', '_' and '-', never empty or a dot.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html#object-key-guidelines
    """
    if _clean.fullmatch(file_name):
        return file_name
    ascii_name = unicodedata.normalize("NFKD", file_name).encode("ascii", "ignore").decode()
    stem, dot, extension = ascii_name.rpartition(".")
    if not dot:
        stem, extension = extension, ""
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-")[:80] or "track"
    extension = re.sub(r"[^A-Za-z0-9]+", "", extension)[:16]
    return f"{stem}.{extension}" if extension else stem


def register(service: Service, session_id: str, words: Mapping[str, Any]) -> Row:
    """Add a track to an open session and return its row, with `expires_at` of its session.

    `words` is what schemas.CreateTrack loads. Raises SessionNotFound, SessionExpired, SessionClosed,
    TrackLimitReached, TooLarge.
    """
    check(service, words)
    now, (track_id, index) = clock_now(), new_id()
    row = {**words, "id": track_id, "index": index, "status": "initialized", "created_at": now}
    # The keys are made here and nowhere else.
    prefix = service.settings.s3_prefix
    paths = (prefix, f"/{index}/{clean_name(row['file_name'])}", prefix, f"/{index}.cover")
    declared = (row["file_size"], row["content_type"], row["checksum_sha256"])
    told = (row["file_name"], row["organization_index"], sessions.metadata_text(row["metadata"]))
    try:
        kept = service.execute(INSERT, (track_id, *paths, *told, *declared, now, session_id, now)).fetchall()
    except IntegrityError:
        kept = []
    if not kept:
        raise sessions.refusal(service, session_id)
    row["path"], row["cover_path"], row["expires_at"] = kept[0]
    return row


def open_session(service: Service, words: Mapping[str, Any]) -> tuple[Row, Row | None]:
    """Open a session with its first track, where `words` (schemas.CreateUploadSession) has one: both or neither."""
    if words["track"] is None:
        return sessions.create(service, words), None
    check(service, words["track"])
    with service.database.atomic():
        session = sessions.create(service, words)
        return session, register(service, session["id"], words["track"])


def check(service: Service, words: Mapping[str, Any]) -> None:
    """Raise TooLarge where the declared size is over MAX_TRACK_BYTES."""
    limit = service.settings.max_track_bytes
    if words["file_size"] and words["file_size"] > limit:
        raise TooLarge(f"file_size: a track may have at most {limit} bytes.")


def uploads(service: Service, row: Row, relay_url: str | None) -> dict[str, Row]:
    """`track_upload` and `track_cover_upload` for a track, signed now; neither outlives the session.

    `relay_url` is where a cover goes when COVER_UPLOAD is `relay`, else None. No network call.
    Raises SessionExpired where the session has no second left.
    """
    now = clock_now()
    ttl = min(service.settings.upload_url_ttl, row["expires_at"] - now)
    if ttl < 1:
        raise SessionExpired
    times = {"ttl": ttl, "expires_at": iso(now + ttl)}
    headers = signed_headers(row)
    url = service.presigner.url("PUT", row["path"], ttl, now, headers)
    if relay_url is None:
        cover_url, fields = service.presigner.post_policy(
            row["cover_path"], ttl, now, service.settings.max_cover_bytes, "image/", "image/jpeg"
        )
    else:
        cover_url, fields = relay_url, {}
    return {
        "track_upload": {"method": "PUT", "upload_url": url, **times, "headers": headers},
        "track_cover_upload": {"method": "POST", "upload_url": cover_url, **times, "headers": {}, "fields_": fields},
    }


def signed_headers(row: Row) -> dict[str, str]:
    """What a PUT of the track must send, to the letter: whatever its owner declared."""
    headers = {}
    if row["file_size"] is not None:
        headers["Content-Length"] = str(row["file_size"])
    if row["content_type"] is not None:
        headers["Content-Type"] = row["content_type"]
    if row["checksum_sha256"] is not None:
        headers["x-amz-checksum-sha256"] = row["checksum_sha256"]
    return headers


def relay_cover(service: Service, session_id: str, track_id: str, stream: BinaryIO, content_type: str) -> None:
    """Pass a cover on to the store. Raises TooLarge, and what `register` does, and TrackNotFound."""
    session = sessions.read(service, session_id)
    if session["status"] != "open":
        raise sessions.refusal(service, session_id)
    found = service.execute(SELECT_COVER, (track_id, session_id)).fetchone()
    if found is None:
        raise TrackNotFound
    size = stream.seek(0, SEEK_END)
    stream.seek(0)
    if not 1 <= size <= service.settings.max_cover_bytes:
        raise TooLarge(f"file: a cover has 1 to {service.settings.max_cover_bytes} bytes.")
    service.bucket.put(found[0], stream, size, content_type)
