"""Tracks: registration, presigned upload URLs, reading, renewal and cancellation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from io import SEEK_END
from typing import IO, Any, BinaryIO, NamedTuple, cast

import orjson
from peewee import IntegrityError, ModelSelect

from storage.clock import isoformat_utc
from storage.clock import now as clock_now
from storage.db.models import Track, UploadSession
from storage.errors import InvalidRequest, InvalidTrackState, SessionExpired, TooLarge, TrackNotFound
from storage.ids import new_uuid7_and_index, uuid_to_index
from storage.s3 import object_keys
from storage.service import Service
from storage.uploads import multipart, sessions
from storage.uploads.multipart import PendingMultipartUpload

Row = dict[str, Any]


class CreatedTracks(NamedTuple):
    """The rows that a request created, and the session that they belong to."""

    session_id: str
    tracks: list[Row]
    session: Row | None = None


Keep = Callable[[Callable[[], CreatedTracks]], CreatedTracks]
"""Runs the function that writes the rows; see idempotency.run_once."""

# Rows per statement: SQLite allows 32,766 parameters.
CHUNK = 500

# One statement finds the session, counts the track in it and inserts the row. Triggers keep the counts and CHECKs hold
# the limits, so that two requests at once cannot both take the last place. The casts give NULLs their type.
INSERT = f"""
INSERT INTO loadbay_track (session_seq, id, path, cover_path, file_name, organization_index, metadata, file_size,
    content_type, checksum_sha256, write_once, upload_id, part_size, created_at, status)
SELECT seq, ?, ? || collection_id || ?, ? || collection_id || ?, ?, CAST(? AS VARCHAR), CAST(? AS TEXT),
    CAST(? AS BIGINT), CAST(? AS VARCHAR), CAST(? AS VARCHAR), ?, CAST(? AS VARCHAR), CAST(? AS BIGINT), ?,
    'initialized'
FROM loadbay_upload_session
WHERE id = ? AND {sessions.IS_OPEN_SQL} AND (max_bytes IS NULL OR ?)
RETURNING path, cover_path, (SELECT expires_at FROM loadbay_upload_session WHERE seq = session_seq)
"""
# SQLite serializes writers. On PostgreSQL the session is locked as it was read, so that it is not closed in between.
INSERT_LOCKING = INSERT.replace("RETURNING", "FOR NO KEY UPDATE\nRETURNING")
LOCK_SESSION = f"""
UPDATE loadbay_upload_session SET status = status WHERE id = ? AND {sessions.IS_OPEN_SQL}
RETURNING seq, collection_id, expires_at, max_bytes
"""
BATCH_COLUMNS = (
    "session_seq, id, path, cover_path, file_name, organization_index, metadata, file_size, content_type,"
    " checksum_sha256, write_once, created_at, status"
)


# --- Registration -----------------------------------------------------------------------------------------------------


def check_declared_size(service: Service, payload: Mapping[str, Any]) -> None:
    """Raise TooLarge where the declared size exceeds MAX_TRACK_BYTES."""
    limit = service.settings.max_track_bytes
    if (payload["file_size"] or 0) > limit:
        raise TooLarge(f"file_size: must be at most {limit} bytes.")


def register(
    service: Service, session_id: str, payload: Mapping[str, Any], pending: PendingMultipartUpload | None = None
) -> Row:
    """Add a track to an open session and return its row, with `expires_at` of its session.

    `payload` is loaded by schemas.CreateTrack; `pending` is the track's multipart upload, if it has one. Raises
    SessionNotFound, SessionExpired, SessionClosed, TrackLimitReached, ByteLimitReached, TooLarge, InvalidRequest.
    """
    check_declared_size(service, payload)
    now = clock_now()
    track_id, index = (pending.track_id, pending.track_index) if pending else new_uuid7_and_index()
    row = new_row(service, payload, track_id, index, now)
    if pending:
        row |= {"write_once": True, "upload_id": pending.upload_id, "part_size": pending.part_size}
    prefix, (tail, cover_tail) = service.settings.s3_prefix, object_keys.key_suffixes(index, row["file_name"])
    descriptive = (row["file_name"], row["organization_index"], sessions.metadata_text(row["metadata"]))
    declared = (row["file_size"], row["content_type"], row["checksum_sha256"])
    upload_mode = (row["write_once"], row["upload_id"], row["part_size"], now)
    claim = (session_id, now, row["file_size"] is not None)
    try:
        statement = (track_id, prefix, tail, prefix, cover_tail, *descriptive, *declared, *upload_mode, *claim)
        inserted = _insert(service, statement)
    except IntegrityError:
        inserted = []
    if not inserted:
        raise sessions.rejection_reason(service, session_id, row["file_size"])
    row["path"], row["cover_path"], row["expires_at"] = inserted[0]
    return row


def _insert(service: Service, statement: Sequence[object]) -> list[tuple[Any, ...]]:
    if service.database.param == "?":
        return list(service.execute(INSERT, statement).fetchall())
    # After a failed CHECK, PostgreSQL aborts the transaction unless a savepoint encloses the statement.
    with service.database.atomic():
        return list(service.execute(INSERT_LOCKING, statement).fetchall())


def new_row(service: Service, payload: Mapping[str, Any], track_id: str, index: str, now: int) -> Row:
    """Return the row of a track before it is inserted."""
    write_once = bool(payload["write_once"]) and service.settings.write_once_put
    return {
        **payload,
        "id": track_id,
        "index": index,
        "status": "initialized",
        "created_at": now,
        "write_once": write_once,
        "upload_id": None,
        "part_size": None,
    }


def create(service: Service, session_id: str, payload: Mapping[str, Any], keep: Keep) -> CreatedTracks:
    """Register a track through `keep`, after creating its multipart upload at the store if it needs one."""
    use_multipart = multipart.should_use_multipart(service, payload)
    pending = begin_multipart(service, session_id, payload) if use_multipart else None
    try:
        return keep(lambda: CreatedTracks(session_id, [register(service, session_id, payload, pending)]))
    except BaseException:
        if pending:
            service.bucket.abort_multipart_upload(pending.path, pending.upload_id)
        raise


def begin_multipart(service: Service, session_id: str, payload: Mapping[str, Any]) -> PendingMultipartUpload:
    """Create the multipart upload of a track that is about to be registered. Raises as `register` does."""
    check_declared_size(service, payload)
    size = multipart.part_size(payload)
    session = sessions.read(service, session_id)
    if session["status"] != "open":
        raise sessions.rejection_reason(service, session_id, payload["file_size"])
    track_id, index = new_uuid7_and_index()
    suffix, _ = object_keys.key_suffixes(index, payload["file_name"])
    path = service.settings.s3_prefix + session["collection_id"] + suffix
    upload_id = service.bucket.create_multipart_upload(path, payload["content_type"])
    return PendingMultipartUpload(track_id, index, path, upload_id, size)


def create_session(service: Service, organization_id: str, payload: Mapping[str, Any]) -> CreatedTracks:
    """Create a session, and its first track if `payload` (schemas.CreateUploadSession) has one: both or neither."""
    first = payload["track"]
    if first is None:
        session = sessions.create(service, organization_id, payload)
        return CreatedTracks(session["id"], [], session)
    if multipart.should_use_multipart(service, first):
        raise InvalidRequest("track.multipart: must not be set; register a multipart track in a request of its own.")
    with service.database.atomic():
        session = sessions.create(service, organization_id, payload)
        track = register(service, session["id"], first)
    return CreatedTracks(session["id"], [track])


def register_batch(service: Service, session_id: str, batch: Sequence[Mapping[str, Any]]) -> CreatedTracks:
    """Add all tracks of `batch` to an open session, or none, and return their rows in its order.

    Raises as `register` does; `item_errors` of InvalidRequest has the `index` of each invalid item.
    """
    item_errors = []
    for number, payload in enumerate(batch):
        try:
            check_declared_size(service, payload)
            if multipart.should_use_multipart(service, payload):
                raise InvalidRequest("multipart: must not be set; register a multipart track in a request of its own.")
        except (InvalidRequest, TooLarge) as e:
            item_errors.append({"index": number, "code": e.code, "message": e.message})
    if item_errors:
        message = f"tracks: {len(item_errors)} of {len(batch)} are invalid; none was registered."
        raise InvalidRequest(message, item_errors=item_errors)
    now, database = clock_now(), service.database
    try:
        with database.atomic():
            sized = all(payload["file_size"] is not None for payload in batch)
            locked = service.execute(LOCK_SESSION, (session_id, now)).fetchall()
            if not locked or (locked[0][3] is not None and not sized):
                raise sessions.rejection_reason(service, session_id, None)
            rows = _batch_rows(service, locked[0], batch, now)
            for start in range(0, len(rows), CHUNK):
                _insert_batch(service, locked[0][0], rows[start : start + CHUNK])
    except IntegrityError:
        raise sessions.rejection_reason(service, session_id, 0) from None
    return CreatedTracks(session_id, rows)


def _batch_rows(service: Service, session: Sequence[Any], batch: Sequence[Mapping[str, Any]], now: int) -> list[Row]:
    folder, rows = service.settings.s3_prefix + session[1], []
    for payload in batch:
        row = new_row(service, payload, *new_uuid7_and_index(), now)
        tail, cover_tail = object_keys.key_suffixes(row["index"], row["file_name"])
        row |= {"path": folder + tail, "cover_path": folder + cover_tail, "expires_at": session[2]}
        rows.append(row)
    return rows


def _insert_batch(service: Service, session_seq: int, rows: Sequence[Row]) -> None:
    values: list[object] = []
    for row in rows:
        metadata = sessions.metadata_text(row["metadata"])
        values += (session_seq, row["id"], row["path"], row["cover_path"], row["file_name"], row["organization_index"])
        values += (metadata, row["file_size"], row["content_type"], row["checksum_sha256"])
        values += (row["write_once"], row["created_at"])
    places = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'initialized')"] * len(rows))
    service.execute(f"INSERT INTO loadbay_track ({BATCH_COLUMNS}) VALUES {places}", values)


# --- URLs ------------------------------------------------------------------------------------------------------------


def presign_uploads(service: Service, row: Mapping[str, Any], relay_url: str | None) -> dict[str, Row | None]:
    """Return `track_upload`, `track_cover_upload` and `track_multipart_upload` for a track, signed now.

    None outlives the session, and all are None unless the track is `initialized`. `relay_url` is the URL of the
    cover relay where COVER_UPLOAD is `relay`, else None. Makes no network call. Raises SessionExpired.
    """
    if row["status"] != "initialized":
        return {"track_upload": None, "track_cover_upload": None, "track_multipart_upload": None}
    now = clock_now()
    ttl = min(service.settings.upload_url_ttl, row["expires_at"] - now)
    if ttl < 1:
        raise SessionExpired
    expires_at = isoformat_utc(now + ttl)
    single = None
    if row["upload_id"] is None or service.settings.write_once_put:
        headers = signed_headers(row)
        url = service.presigner.url("PUT", row["path"], ttl, now, headers)
        single = {"method": "PUT", "upload_url": url, "ttl": ttl, "expires_at": expires_at, "headers": headers}
    return {
        "track_upload": single,
        "track_cover_upload": cover_upload(service, row["cover_path"], relay_url, ttl, now),
        "track_multipart_upload": multipart.upload(service, row) if row["upload_id"] is not None else None,
    }


def cover_upload(service: Service, path: str, relay_url: str | None, ttl: int, now: int) -> Row:
    """Return `track_cover_upload` for a cover that is uploaded to the key `path`."""
    url: str | None = relay_url
    fields: dict[str, str] = {}
    if relay_url is None:
        limit = service.settings.max_cover_bytes
        url, fields = service.presigner.post_policy(path, ttl, now, limit, "image/", "image/jpeg")
    times = {"ttl": ttl, "expires_at": isoformat_utc(now + ttl)}
    return {"method": "POST", "upload_url": url, **times, "headers": {}, "fields_": fields}


def signed_headers(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that a PUT of the track must send unchanged: those that bind what was declared."""
    headers = {}
    if row["file_size"] is not None:
        headers["Content-Length"] = str(row["file_size"])
    if row["content_type"] is not None:
        headers["Content-Type"] = row["content_type"]
    if row["checksum_sha256"] is not None:
        headers["x-amz-checksum-sha256"] = row["checksum_sha256"]
    if row["write_once"]:
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        headers["If-None-Match"] = "*"
    return headers


# --- Reads ------------------------------------------------------------------------------------------------------------


def select() -> ModelSelect[Track]:
    """Return a query for tracks with the columns of their sessions that `rows` needs."""
    session = UploadSession.id.alias("session_id"), UploadSession.status.alias("session_status")
    times = (UploadSession.expires_at,)
    return Track.select(Track, *session, *times).join(UploadSession)


def rows(service: Service, query: ModelSelect[Track]) -> list[Row]:
    """Run `query` (built from `select`) and return its rows."""
    return [_decode_row(row) for row in query.dicts().execute(service.database)]


def _decode_row(row: Row) -> Row:
    row["index"] = uuid_to_index(row["id"])
    row["metadata"] = row["metadata"] and orjson.loads(row["metadata"])
    row["cover"] = cover(row) if row["cover_status"] else None
    return row


def cover(row: Row) -> Row:
    """Return the cover of a track as the API presents it."""
    columns = {name.removeprefix("cover_"): value for name, value in row.items() if name.startswith("cover_")}
    return {**columns, "content_type": columns["type"]}


def read(service: Service, session_id: str, track_id: str) -> Row:
    """Return the row of one track of a session. Raises SessionNotFound, TrackNotFound."""
    statement, columns = _read_statement()
    for values in service.execute(statement, (track_id, session_id)).fetchall():
        return _decode_row(dict(zip(columns, values, strict=True)))
    sessions.read(service, session_id)
    raise TrackNotFound


@lru_cache(maxsize=1)
def _read_statement() -> tuple[str, list[str]]:
    """Return the statement that reads one track, and its columns. Building it takes peewee longer than running it."""
    query = select().where(Track.id == "", UploadSession.id == "")
    columns = [field.name for field in Track._meta.sorted_fields]
    return query.sql()[0], [*columns, "session_id", "session_status", "expires_at"]


def read_many(service: Service, ids: Sequence[str]) -> list[Row]:
    """Return the rows of the tracks with these ids, in order of registration; unknown ids are left out."""
    matches: list[Row] = []
    for start in range(0, len(ids), CHUNK):
        matches += rows(service, select().where(Track.id.in_(ids[start : start + CHUNK])))
    return sorted(matches, key=lambda row: int(row["seq"]))


def list_tracks(service: Service, session_id: str, limit: int, offset: int) -> tuple[list[Row], int]:
    """Return one page of a session's tracks in order of registration, and the total."""
    session = sessions.read(service, session_id)
    query = select().where(Track.session == session["seq"]).order_by(Track.seq).limit(limit).offset(offset)
    return rows(service, query), session["track_count"]


def iter_tracks(service: Service, session_id: str) -> Iterator[Row]:
    """Yield all tracks of a session in order of registration."""
    last = 0
    while True:
        query = select().where(UploadSession.id == session_id, Track.seq > last).order_by(Track.seq).limit(CHUNK)
        chunk = rows(service, query)
        yield from chunk
        if len(chunk) < CHUNK:
            return
        last = chunk[-1]["seq"]


# --- Changes ---------------------------------------------------------------------------------------------------------


def transition(service: Service, row: Row, status: str, **values: object) -> bool:
    """Change a track's status, if it still is that of `row`; return False where another process was faster.

    One conditional update, so that two processes cannot disagree. On success `row` is updated, too.
    """
    changes = {"status": status, **values}
    assignments = ", ".join(f"{name} = ?" for name in changes)
    claim = (row["id"], row["status"], row["path"])
    statement = f"UPDATE loadbay_track SET {assignments} WHERE id = ? AND status = ? AND path = ?"
    if service.execute(statement, (*changes.values(), *claim)).rowcount != 1:
        return False
    row.update(changes)
    return True


def renew(service: Service, session_id: str, track_id: str) -> Row:
    """Return the row of a track that may get new URLs. A failed track is reset to `initialized`, under a new key.

    Raises SessionExpired, SessionClosed, and InvalidTrackState for a track that is uploaded, cancelled or expired.
    """
    row = read(service, session_id, track_id)
    if sessions.effective_status(row["session_status"], row["expires_at"]) != "open":
        raise sessions.rejection_reason(service, session_id, 0)
    if row["status"] == "failed" and row["upload_id"] is None and not _reset_failed(service, row):
        return renew(service, session_id, track_id)
    if row["status"] != "initialized":
        raise InvalidTrackState(f"track_id: the track is {row['status']}; register the file as a new track.")
    return row


def _reset_failed(service: Service, row: Row) -> bool:
    """Reset a failed track; False where another process was faster. Raises SessionExpired, SessionClosed."""
    # The old object may still be deleted by the process that found the failure.
    path = object_keys.rotate_key(row["path"], row["index"])
    cleared = dict.fromkeys(("failure", "size", "etag", "version_id", "detected_type", "verified_at"))
    with service.database.atomic():
        reset = transition(service, row, "initialized", path=path, **cleared)
        # The transition has locked the session, so that this read is authoritative: no `upload_session.completed` event
        # is sent for a session in which a track was reset.
        session = sessions.read(service, row["session_id"])
        if reset and session["status"] != "open":
            raise sessions.rejection_reason(service, row["session_id"], 0)
    return reset


def cancel(service: Service, session_id: str, track_id: str) -> Row:
    """Cancel a track that is not uploaded, delete its objects and return its row. Idempotent."""
    row = read(service, session_id, track_id)
    while row["status"] in ("initialized", "failed") and not transition(service, row, "cancelled"):
        row = read(service, session_id, track_id)
    if row["status"] != "cancelled":
        raise InvalidTrackState(f"track_id: the track is {row['status']} and cannot be cancelled.")
    delete_objects(service, row)
    return row


def delete_objects(service: Service, row: Row) -> None:
    """Delete the objects of a track that will never be uploaded."""
    if row["upload_id"] is not None:
        service.bucket.abort_multipart_upload(row["path"], row["upload_id"])
    service.bucket.remove(row["path"])
    service.bucket.remove(row["cover_path"])
    if row["next_cover_path"] is not None:
        service.bucket.remove(row["next_cover_path"])


def relay_cover(service: Service, session_id: str, track_id: str, stream: IO[bytes], content_type: str) -> None:
    """Relay a cover to the store. Raises TooLarge, TrackNotFound, InvalidTrackState, SessionExpired, SessionClosed."""
    row = read(service, session_id, track_id)
    path = row["next_cover_path"]
    if path is None or row["next_cover_expires_at"] <= clock_now():
        path = row["cover_path"]
        if sessions.effective_status(row["session_status"], row["expires_at"]) != "open":
            raise sessions.rejection_reason(service, session_id, 0)
        if row["cover_status"] == "uploaded" or row["status"] not in ("initialized", "uploaded"):
            raise InvalidTrackState("track_id: the track no longer accepts a cover.")
    size = stream.seek(0, SEEK_END)
    stream.seek(0)
    if not 1 <= size <= service.settings.max_cover_bytes:
        raise TooLarge(f"file: must have 1 to {service.settings.max_cover_bytes} bytes.")
    service.bucket.put(path, cast(BinaryIO, stream), size, content_type)
