"""Tracks: registration, reads, conditional changes, renewal and cancellation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, cast

import orjson
from peewee import DataError, Field, IntegrityError, ModelSelect

from storage.clock import now as clock_now
from storage.db import sql
from storage.db.models import Track, UploadSession
from storage.db.rows import CoverRow, NewTrackRow, SessionRow, TrackChanges, TrackRow
from storage.errors import (
    ByteLimitReached,
    InvalidRequest,
    InvalidTrackState,
    TooLarge,
    TrackLimitReached,
    TrackNotFound,
)
from storage.formats.checksums import declared_checksum
from storage.ids import new_uuid7_and_index, uuid_to_index
from storage.s3 import object_keys
from storage.s3.dialects import is_weak
from storage.service import Service
from storage.uploads import idempotency, multipart, removals, sessions, staging
from storage.uploads.idempotency import RequestKey
from storage.uploads.multipart import PendingMultipartUpload
from storage.uploads.removals import NewRemoval
from storage.uploads.sessions import Page

T = TypeVar("T")
R = TypeVar("R")

ABANDONED_AFTER = 86_400
"""Seconds after which a multipart upload is aborted that was created for a track that was never inserted."""


class CreatedTracks(NamedTuple):
    """The tracks that a request created, and the session they are in. `session` is its row if it is new and empty."""

    session_id: str
    tracks: Sequence[NewTrackRow]
    session: SessionRow | None = None


# Rows per statement: SQLite allows 32,766 parameters.
CHUNK = 500

# One statement finds the session, compares its limits and inserts the row; a trigger counts it. Two requests at once
# cannot both take the last place: on SQLite one writes after the other, and on PostgreSQL the session is locked and
# compared as the lock finds it. The table's CHECKs are only a second line: PostgreSQL logs a row that fails one, with
# its ids. The casts give NULLs their type.
INSERT = sql.insert_select(
    "loadbay_track",
    {
        "session_seq": "seq",
        "id": "?",
        "path": "? || collection_id || ?",
        "cover_path": "? || collection_id || ?",
        "file_name": "?",
        "organization_index": "CAST(? AS VARCHAR)",
        "metadata": "CAST(? AS TEXT)",
        "file_size": "CAST(? AS BIGINT)",
        "content_type": "CAST(? AS VARCHAR)",
        "checksum_sha256": "CAST(? AS VARCHAR)",
        "checksum_crc64nvme": "CAST(? AS VARCHAR)",
        "checksum_crc32c": "CAST(? AS VARCHAR)",
        "cover_fields": "?",
        "declared_cover_size": "CAST(? AS BIGINT)",
        "declared_cover_type": "CAST(? AS VARCHAR)",
        "write_once": "?",
        "upload_id": "CAST(? AS VARCHAR)",
        "part_size": "CAST(? AS BIGINT)",
        "resume_key": "CAST(? AS VARCHAR)",
        "created_at": "?",
        "status": "'initialized'",
    },
    f"loadbay_upload_session WHERE id = ? AND {sessions.IS_OPEN_SQL} AND track_count < max_tracks"
    " AND (max_bytes IS NULL OR declared_bytes + CAST(? AS BIGINT) <= max_bytes)"
    " AND (max_file_size IS NULL OR max_file_size >= ?)"
    " AND (fields IS NULL OR fields = CAST(? AS TEXT))",
)
_OF_SESSION = "(SELECT {} FROM loadbay_upload_session WHERE seq = session_seq)"
_RETURNED = ("collection_id", "creator_id", "expires_at", "organization_id")
INSERT += " RETURNING " + ", ".join(map(_OF_SESSION.format, _RETURNED))
INSERT_LOCKING = INSERT.replace(" RETURNING ", " FOR NO KEY UPDATE RETURNING ")
LOCK_SESSION = f"""
UPDATE loadbay_upload_session SET status = status WHERE id = ? AND {sessions.IS_OPEN_SQL}
RETURNING seq, collection_id, creator_id, expires_at, organization_id,
    max_tracks - track_count, max_bytes - declared_bytes, max_file_size, fields
"""
BATCH_COLUMNS = (
    "session_seq", "id", "path", "cover_path", "file_name", "organization_index", "metadata", "file_size",
    "content_type", "checksum_sha256", "checksum_crc64nvme", "checksum_crc32c", "cover_fields", "declared_cover_size",
    "declared_cover_type", "write_once", "resume_key", "created_at", "status",
)  # fmt: skip
_JSON_TYPES = {
    "session_seq": "bigint", "file_size": "bigint", "declared_cover_size": "bigint", "created_at": "bigint",
    "cover_fields": "boolean", "write_once": "boolean",
}  # fmt: skip
# On PostgreSQL one parameter has all rows: psycopg would take longer to convert some thousand than the server to insert
# them, and longer still to parse a statement with as many.
_JSON_COLUMNS = ", ".join(f"{column} {_JSON_TYPES.get(column, 'text')}" for column in BATCH_COLUMNS)
INSERT_JSON = sql.insert_select(
    "loadbay_track", {column: column for column in BATCH_COLUMNS}, f"json_to_recordset(?) AS rows({_JSON_COLUMNS})"
)


# --- Registration -----------------------------------------------------------------------------------------------------


def check_declared_size(service: Service, payload: Mapping[str, Any]) -> None:
    """Raise TooLarge where the declared size exceeds MAX_TRACK_BYTES."""
    limit = service.settings.max_track_bytes
    if (payload["file_size"] or 0) > limit:
        raise TooLarge(f"file_size: must be at most {limit} bytes.")


def register(
    service: Service, session_id: str, payload: Mapping[str, Any], pending: PendingMultipartUpload | None = None
) -> NewTrackRow:
    """Add a track to an open session and return its row.

    `payload` is loaded by schemas.CreateTrack; `pending` is the track's multipart upload, if it has one. Raises
    SessionNotFound, SessionExpired, SessionClosed, TrackLimitReached, ByteLimitReached, TooLarge, InvalidRequest.
    """
    check_declared_size(service, payload)
    now = clock_now()
    track_id, index = (pending.track_id, pending.track_index) if pending else new_uuid7_and_index()
    row = new_row(service, session_id, payload, track_id, index, now)
    if pending:
        row["write_once"], row["upload_id"], row["part_size"] = False, pending.upload_id, pending.part_size
    prefix, (suffix, cover_suffix) = service.settings.s3_prefix, object_keys.key_suffixes(index, row["file_name"])
    descriptive = (row["file_name"], row["organization_index"], sessions.json_text(row["metadata"]))
    checksums = (row["checksum_sha256"], row["checksum_crc64nvme"], row["checksum_crc32c"])
    cover = (row["cover_fields"], row["declared_cover_size"], row["declared_cover_type"])
    declared = (row["file_size"], row["content_type"], *checksums, *cover)
    upload_mode = (row["write_once"], row["upload_id"], row["part_size"], row["resume_key"], now)
    condition = (session_id, now, row["file_size"], row["file_size"] or 0)
    parameters = (track_id, prefix, suffix, prefix, cover_suffix, *descriptive, *declared, *upload_mode, *condition)
    inserted = _insert(service, parameters) or _insert_with_fields(service, session_id, payload, parameters)
    if not inserted:
        raise sessions.rejection_reason(service, session_id, row["file_size"])
    row["collection_id"], row["creator_id"], row["expires_at"], row["organization_id"] = inserted[0]
    row["path"] = prefix + row["collection_id"] + suffix
    row["cover_path"] = prefix + row["collection_id"] + cover_suffix
    return row


def _insert(service: Service, parameters: tuple[object, ...], fields: str | None = None) -> list[tuple[Any, ...]]:
    """Insert a track; nothing where its session has other `fields` (JSON) than these, or accepts no track."""
    statement = INSERT_LOCKING if service.pooled else INSERT
    try:
        return cast(list[tuple[Any, ...]], service.execute(statement, (*parameters, fields)).fetchall())
    except IntegrityError as e:
        raise _limit_error(e) from e


def _insert_with_fields(
    service: Service, session_id: str, payload: Mapping[str, Any], parameters: tuple[object, ...]
) -> list[tuple[Any, ...]]:
    """Insert a track whose values are those that the session's fields allow. Raises InvalidRequest, SessionNotFound."""
    compared: list[object] = []
    while True:
        session = sessions.read(service, session_id)
        if session["status"] != "open" or not session["fields"] or session["fields"] in compared:
            return []
        sessions.check_fields(session["fields"], payload["metadata"])
        if inserted := _insert(service, parameters, sessions.json_text(session["fields"])):
            return inserted
        # The fields may have been changed in between; where they have not, a limit is reached.
        compared.append(session["fields"])


def _limit_error(error: IntegrityError) -> Exception:
    """Return the error to raise where a trigger or a constraint has rejected a track."""
    return sessions.byte_limit_error() if sessions.BYTE_LIMIT_ERROR in str(error) else error


def new_row(
    service: Service, session_id: str, payload: Mapping[str, Any], track_id: str, index: str, now: int
) -> NewTrackRow:
    """Return the row of a track before it is inserted: without what its session determines."""
    return {
        "id": track_id,
        "index": index,
        "session_id": session_id,
        "collection_id": "",
        "organization_id": "",
        "creator_id": None,
        "status": "initialized",
        "created_at": now,
        "path": "",
        "cover_path": "",
        "file_name": payload["file_name"],
        "organization_index": payload["organization_index"],
        "metadata": payload["metadata"] or {},
        "file_size": payload["file_size"],
        "content_type": payload["content_type"],
        "checksum_sha256": payload["checksum_sha256"],
        "checksum_crc64nvme": payload["checksum_crc64nvme"],
        "checksum_crc32c": payload["checksum_crc32c"],
        "cover_fields": bool(payload["cover_fields"]),
        "declared_cover_size": payload["cover_size"],
        "declared_cover_type": payload["cover_content_type"],
        "write_once": bool(payload["write_once"]) and service.choices.write_once,
        "upload_id": None,
        "part_size": None,
        "resume_key": payload["resume_key"],
        "attempt": 0,
        "cover_attempt": 0,
        "expires_at": 0,
    }


def find_created(service: Service, key: RequestKey | None) -> CreatedTracks | None:
    """Return what an earlier request with this key created. Raises TrackNotFound, IdempotencyKeyReused."""
    previous = idempotency.find_previous(service, key)
    if previous is None:
        return None
    rows = read_many(service, previous.track_ids)
    if len(rows) < len(previous.track_ids):
        raise TrackNotFound("Idempotency-Key: the track created by the first request has been deleted.")
    return CreatedTracks(previous.session_id, rows)


def create(
    service: Service, session_id: str, payload: Mapping[str, Any], key: RequestKey | None = None
) -> CreatedTracks:
    """Register a track, once for each `key`. A multipart upload is created at the store first.

    Raises as `register` does, and as idempotency.reserve and find_created do.
    """
    if (previous := find_created(service, key)) is not None:
        return previous
    if multipart.should_use_multipart(service, payload):
        return _create_multipart(service, session_id, payload, key)
    with idempotency.reserve(service, key) as reservation:
        row = register(service, session_id, payload)
        reservation.record(session_id, [row["id"]])
    return CreatedTracks(session_id, [row])


def _create_multipart(
    service: Service, session_id: str, payload: Mapping[str, Any], key: RequestKey | None
) -> CreatedTracks:
    pending = begin_multipart(service, session_id, payload)
    try:
        with service.database.atomic(), idempotency.reserve(service, key) as reservation:
            row = register(service, session_id, payload, pending)
            removals.drop(service, pending.removal_seq)
            reservation.record(session_id, [row["id"]])
    except BaseException:
        service.bucket.abort_multipart_upload(pending.path, pending.upload_id)
        raise
    return CreatedTracks(session_id, [row])


def begin_multipart(service: Service, session_id: str, payload: Mapping[str, Any]) -> PendingMultipartUpload:
    """Create the multipart upload of a track that is about to be registered. Raises as `register` does."""
    check_declared_size(service, payload)
    size = multipart.part_size(payload)
    session = sessions.read(service, session_id)
    if session["status"] != "open":
        raise sessions.rejection_reason(service, session_id, payload["file_size"])
    if session["max_file_size"] is not None and (payload["file_size"] or 0) > session["max_file_size"]:
        raise sessions.file_size_error(session["max_file_size"])
    sessions.check_fields(session["fields"] or (), payload["metadata"])
    track_id, index = new_uuid7_and_index()
    suffix, _ = object_keys.key_suffixes(index, payload["file_name"])
    path = service.settings.s3_prefix + session["collection_id"] + suffix
    # Recorded first: if this process dies before the track is inserted, the upload is aborted all the same.
    removal = NewRemoval(path, clock_now() + ABANDONED_AFTER, removals.ALL_UPLOADS)
    removal_seq = removals.add_one(service, removal)
    headers = service.bucket.write_headers.final({**session, "session_id": session_id, "id": track_id})
    checksum = declared_checksum(payload)
    upload_id = service.bucket.create_multipart_upload(path, payload["content_type"], checksum, headers)
    return PendingMultipartUpload(track_id, index, path, upload_id, size, removal_seq)


def create_session(
    service: Service, organization_id: str, payload: Mapping[str, Any], key: RequestKey | None = None
) -> CreatedTracks:
    """Create a session, once for each `key`, and its first track if `payload` has one: both or neither.

    Raises as `create` does.
    """
    if (previous := find_created(service, key)) is not None:
        return previous
    first = payload["track"]
    if first is not None and multipart.should_use_multipart(service, first):
        raise InvalidRequest("track.multipart: must not be set; register a multipart track in a request of its own.")
    with idempotency.reserve(service, key) as reservation:
        created = _insert_session(service, organization_id, payload)
        reservation.record(created.session_id, [row["id"] for row in created.tracks])
    return created


def _insert_session(service: Service, organization_id: str, payload: Mapping[str, Any]) -> CreatedTracks:
    limited_key = payload["api_key_seq"]
    if payload["track"] is None and limited_key is None:
        session = sessions.create(service, organization_id, payload)
        return CreatedTracks(session["id"], [], session)
    with service.database.atomic():
        if limited_key is not None:
            sessions.check_key_limits(service, limited_key)
        session = sessions.create(service, organization_id, payload)
        if payload["track"] is None:
            return CreatedTracks(session["id"], [], session)
        track = register(service, session["id"], payload["track"])
    return CreatedTracks(session["id"], [track])


def create_batch(
    service: Service, session_id: str, batch: Sequence[Mapping[str, Any]], key: RequestKey | None = None
) -> CreatedTracks:
    """Register all tracks of `batch`, once for each `key`, or none; their rows are in its order.

    Raises as `create` does; InvalidRequest has `item_errors` with the `index` of each invalid item.
    """
    if (previous := find_created(service, key)) is not None:
        return previous
    _check_batch(service, batch)
    with idempotency.reserve(service, key) as reservation:
        rows = _register_batch(service, session_id, batch)
        reservation.record(session_id, [row["id"] for row in rows])
    return CreatedTracks(session_id, rows)


def _check_batch(service: Service, batch: Sequence[Mapping[str, Any]]) -> None:
    errors: dict[int, InvalidRequest | TooLarge] = {}
    for number, payload in enumerate(batch):
        try:
            check_declared_size(service, payload)
            if multipart.should_use_multipart(service, payload):
                raise InvalidRequest("multipart: must not be set; register a multipart track in a request of its own.")
        except (InvalidRequest, TooLarge) as e:
            errors[number] = e
    _raise_item_errors(batch, errors)


def _check_sizes(batch: Sequence[Mapping[str, Any]], max_file_size: int) -> None:
    """Compare the declared sizes with that of the session's rules."""
    error = sessions.file_size_error(max_file_size)
    too_large = [number for number, payload in enumerate(batch) if (payload["file_size"] or 0) > max_file_size]
    _raise_item_errors(batch, dict.fromkeys(too_large, error))


def _check_fields(batch: Sequence[Mapping[str, Any]], fields: Sequence[Mapping[str, Any]]) -> None:
    """Compare the values in the tracks' metadata with those that the session's fields allow."""
    errors: dict[int, InvalidRequest | TooLarge] = {}
    for number, payload in enumerate(batch):
        try:
            sessions.check_fields(fields, payload["metadata"])
        except InvalidRequest as e:
            errors[number] = e
    _raise_item_errors(batch, errors)


def _raise_item_errors(batch: Sequence[Mapping[str, Any]], errors: Mapping[int, InvalidRequest | TooLarge]) -> None:
    item_errors: list[dict[str, object]] = [
        {"index": number, "code": error.code, "message": error.message} for number, error in errors.items()
    ]
    if item_errors:
        message = f"tracks: {len(item_errors)} of {len(batch)} are invalid; none was registered."
        raise InvalidRequest(message, item_errors=item_errors)


def _register_batch(service: Service, session_id: str, batch: Sequence[Mapping[str, Any]]) -> list[NewTrackRow]:
    now = clock_now()
    with service.database.atomic():
        locked = service.execute(LOCK_SESSION, (session_id, now)).fetchall()
        if not locked:
            raise sessions.rejection_reason(service, session_id, None)
        seq, collection_id, creator_id, expires_at, organization_id, *limits = locked[0]
        free_tracks, free_bytes, max_file_size, fields = limits
        sizes = [payload["file_size"] for payload in batch]
        if free_bytes is not None and None in sizes:
            raise sessions.rejection_reason(service, session_id, None)
        if max_file_size is not None:
            _check_sizes(batch, max_file_size)
        if fields is not None:
            _check_fields(batch, orjson.loads(fields))
        if len(batch) > free_tracks:
            raise TrackLimitReached
        if free_bytes is not None and sum(sizes) > free_bytes:
            raise ByteLimitReached
        rows = [new_row(service, session_id, payload, *new_uuid7_and_index(), now) for payload in batch]
        for row in rows:
            row["collection_id"], row["creator_id"], row["expires_at"] = collection_id, creator_id, expires_at
            row["organization_id"] = organization_id
            _set_keys(service, row)
        try:
            for start in range(0, len(rows), CHUNK):
                _insert_batch(service, seq, rows[start : start + CHUNK])
        except IntegrityError as e:
            raise _limit_error(e) from e
    return rows


def _set_keys(service: Service, row: NewTrackRow) -> None:
    folder = service.settings.s3_prefix + row["collection_id"]
    suffix, cover_suffix = object_keys.key_suffixes(row["index"], row["file_name"])
    row["path"], row["cover_path"] = folder + suffix, folder + cover_suffix


def _insert_batch(service: Service, session_seq: int, rows: Sequence[NewTrackRow]) -> None:
    batch = [{**row, "session_seq": session_seq, "metadata": sessions.json_text(row["metadata"])} for row in rows]
    if service.pooled:
        service.execute(INSERT_JSON, (orjson.dumps(batch).decode(),))
    else:
        values = [row[column] for row in batch for column in BATCH_COLUMNS]
        service.execute(sql.insert("loadbay_track", BATCH_COLUMNS, len(batch)), values)


# --- Reads ------------------------------------------------------------------------------------------------------------

MAX_DETAILED = 200
"""Tracks that one response has with their metadata."""

SESSION_COLUMNS: dict[str, Field[Any]] = {
    "session_id": UploadSession.id,
    "session_status": UploadSession.status,
    "collection_id": UploadSession.collection_id,
    "organization_id": UploadSession.organization_id,
    "creator_id": UploadSession.creator_id,
    "expires_at": UploadSession.expires_at,
    "rules": UploadSession.rules,
    "urls_expire_at": UploadSession.urls_expire_at,
    "embedded_cover": UploadSession.embedded_cover,
}


def select() -> ModelSelect[Track]:
    """Return a query for tracks with the columns of their sessions that `rows` needs."""
    columns = [column.alias(name) for name, column in SESSION_COLUMNS.items()]
    return Track.select(Track, *columns).join(UploadSession)


def rows(service: Service, query: ModelSelect[Track]) -> list[TrackRow]:
    """Run `query` (built from `select`) and return its rows."""
    return [_decode_row(row) for row in query.dicts().execute(service.database)]


def _decode_row(row: dict[str, Any]) -> TrackRow:
    row["index"] = uuid_to_index(row["id"])
    row["metadata"] = orjson.loads(row["metadata"]) if row["metadata"] else {}
    row["audio"] = orjson.loads(row["audio"]) if row["audio"] else None
    track = cast(TrackRow, row)
    track["cover"] = _cover(track)
    return track


def _cover(row: TrackRow) -> CoverRow | None:
    if not row["cover_status"] and not row["cover_chosen_etag"]:
        return None
    return {
        "path": row["cover_path"],
        "status": row["cover_status"] or "verifying",
        "failure": row["cover_failure"],
        "failure_code": row["cover_failure_code"],
        "size": row["cover_size"],
        "etag": row["cover_etag"],
        "content_type": row["cover_type"],
        "width": row["cover_width"],
        "height": row["cover_height"],
        "embedded": bool(row["cover_embedded"]),
    }


def pending_cover() -> Any:
    """Return the condition for uploaded tracks whose cover may have been sent but is not verified, or is in the file.

    It agrees with staging.expects_cover.
    """
    sent = Track.cover_fields | Track.cover_relayed
    missing = Track.cover_status.is_null() | (Track.cover_status == "failed")
    replaceable = (Track.cover_status == "uploaded") & Track.cover_embedded & sent
    return (Track.status == "uploaded") & ((missing & (sent | Track.cover_embedded)) | replaceable)


def read(service: Service, session_id: str, track_id: str) -> TrackRow:
    """Return the row of one track of a session. Raises SessionNotFound, TrackNotFound."""
    matches = _matching(service, '"t1"."id" = ? AND "t2"."id" = ?', (track_id, session_id))
    if matches:
        return matches[0]
    sessions.read(service, session_id)
    raise TrackNotFound


def read_many(service: Service, ids: Sequence[str], *, lean: bool = False) -> list[TrackRow]:
    """Return the rows of the tracks with these ids, in order of registration; unknown ids are left out.

    With `lean`, `metadata` is None: it may have 16 KiB, and takes a multiple of that once it is decoded.
    """
    matches: list[TrackRow] = []
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        matches += _matching(service, f'"t1"."id" IN ({", ".join("?" * len(chunk))})', chunk, lean=lean)
    return sorted(matches, key=lambda row: row["seq"])


def refreshed(
    service: Service, rows: Sequence[TrackRow], is_unsettled: Callable[[TrackRow], bool]
) -> dict[str, TrackRow]:
    """Return rows by their ids. Those that are unsettled are read again, without `metadata`: others may change them.

    A row that the caller has settled is as it was written.
    """
    current = {row["id"]: row for row in rows}
    unsettled = [row["id"] for row in current.values() if is_unsettled(row)]
    return current | {row["id"]: row for row in read_many(service, unsettled, lean=True)}


def _matching(service: Service, where: str, parameters: Sequence[str], *, lean: bool = False) -> list[TrackRow]:
    """Return the rows of the tracks (t1, with their sessions t2) for which the condition `where` holds."""
    statement, columns = _select_statement(lean)
    matches = service.execute(f"{statement} WHERE {where}", parameters).fetchall()
    rows = [_decode_row(dict(zip(columns, values, strict=True))) for values in matches]
    for row in rows if lean else ():
        row["metadata"] = None
    return rows


@lru_cache(maxsize=2)
def _select_statement(lean: bool) -> tuple[str, list[str]]:
    """Return `select` as a statement, and its columns. Building it takes peewee longer than running it."""
    columns, statement = [field.name for field in Track._meta.sorted_fields], select().sql()[0]
    if lean:
        statement = statement.replace('"t1"."metadata"', "NULL", 1)
    return statement, [*columns, *SESSION_COLUMNS]


def read_unfinished(service: Service, session_id: str, ids: Sequence[str] | None, limit: int) -> list[TrackRow]:
    """Return the tracks of a session with these ids or, without ids, the first `limit` that are not final.

    Of more than MAX_DETAILED tracks, `metadata` is None. Raises SessionNotFound; TrackNotFound, naming up to ten ids
    that the session does not have.
    """
    session = sessions.read(service, session_id)
    if ids is None:
        unfinished = (Track.status == "initialized") | pending_cover()
        query = Track.select(Track.id).where(Track.session == session["seq"], unfinished).order_by(Track.seq)
        ids = [track_id for (track_id,) in query.limit(limit).tuples().execute(service.database)]
    matches = read_many(service, ids, lean=len(ids) > MAX_DETAILED)
    matches = [row for row in matches if row["session_id"] == session_id]
    if unknown := set(ids) - {row["id"] for row in matches}:
        some = ", ".join(sorted(unknown)[:10])
        raise TrackNotFound(f"track_ids: this upload session has no such track: {some}.")
    return matches


def list_tracks(
    service: Service, session_id: str, limit: int, offset: int = 0, after: str | None = None
) -> Page[TrackRow]:
    """Return one page of a session's tracks in order of registration. Raises SessionNotFound, InvalidRequest."""
    session = sessions.read(service, session_id)
    query = select().where(Track.session == session["seq"])
    if after:
        last = Track.select(Track.seq).where(Track.id == after, Track.session == session["seq"])
        query = query.where(Track.seq > sessions.cursor_position(last.bind(service.database).scalar(), offset))
    query = query.order_by(Track.seq).limit(limit + 1).offset(offset)
    return sessions.paginate(rows(service, query), limit, session["track_count"])


# --- Conditional changes and leases -----------------------------------------------------------------------------------

REJECTED_CHANGES = (DataError, IntegrityError, OverflowError, ValueError)
"""What a database, or its driver, raises for a value that it does not accept."""

LEASE_SECONDS = 30
COPIED_BYTES_PER_SECOND = 8 * 2**20
"""Pace at which a slow store copies."""

LATE_COPY_SECONDS = 3600
"""Time within which a store has carried out a copy, or lost it."""


def update(service: Service, row: TrackRow, where: str, parameters: Sequence[object], changes: TrackChanges) -> bool:
    """Change a track's row if it still fulfills the condition `where`; return False where it does not.

    One conditional update, so that two processes cannot disagree. On success `row` is updated, too.
    """
    statement = sql.update("loadbay_track", tuple(changes), f"id = ? AND {where}")
    stored: dict[str, object] = {**changes}
    if (audio := changes.get("audio")) is not None:
        stored["audio"] = sessions.json_text(audio)
    if service.execute(statement, (*stored.values(), row["id"], *parameters)).rowcount != 1:
        return False
    row.update(changes)  # type: ignore[typeddict-item]
    row["cover"] = _cover(row)
    return True


def change_each(
    service: Service, items: Sequence[tuple[TrackRow, T]], change: Callable[[TrackRow, T], R]
) -> list[R | Exception]:
    """Call `change` with each row and its item in one transaction, and return the results in order.

    Where the database rejects one of the changes, each is made in a transaction of its own, and the result of a
    rejected one is the exception. Its row stays as it was.

    The changes are made session by session, in the order of their ids: a change of a track also locks its
    session's row on PostgreSQL, and two transactions that lock these in turns would wait for each other.
    """
    if not items:
        return []
    in_order = sorted(range(len(items)), key=lambda index: items[index][0]["session_id"])
    results: dict[int, R | Exception] = {}
    try:
        with _transaction(service, [row for row, _ in items]):
            lock(service, [row["id"] for row, _ in items])
            for index in in_order:
                results[index] = change(*items[index])
    except REJECTED_CHANGES:
        return [_change_alone(service, row, item, change) for row, item in items]
    return [results[index] for index in range(len(items))]


@contextmanager
def _transaction(service: Service, rows: Sequence[TrackRow]) -> Iterator[None]:
    """Open a transaction that changes rows, in the database and in memory. If it fails, both stay as they were."""
    before = [row.copy() for row in rows]
    try:
        with service.database.atomic():
            yield
    except BaseException:
        for row, earlier in zip(rows, before, strict=True):
            row.update(earlier)
        raise


def lock(service: Service, ids: Sequence[str]) -> None:
    """Lock the rows of tracks in order, on PostgreSQL: two transactions could wait for each other otherwise."""
    if len(ids) > 1 and service.pooled:
        placeholders = ", ".join("?" * len(ids))
        statement = f"SELECT id FROM loadbay_track WHERE id IN ({placeholders}) ORDER BY seq FOR UPDATE"
        service.execute(statement, ids).fetchall()


def _change_alone(service: Service, row: TrackRow, item: T, change: Callable[[TrackRow, T], R]) -> R | Exception:
    try:
        with _transaction(service, [row]):
            return change(row, item)
    except REJECTED_CHANGES as e:
        return e


def trusts_copy(service: Service, etag: str) -> bool:
    """Return True where a copy on condition of this ETag is known to have the bytes that were inspected."""
    return service.choices.trusts_copy and not is_weak(etag)


def work_seconds(size: int) -> int:
    """Return the seconds after which a slow store has copied `size` bytes, whether its answer was waited for or not."""
    return LEASE_SECONDS + size // COPIED_BYTES_PER_SECOND


def lease_seconds(size: int, *, trusts_copy: bool) -> int:
    """Return the seconds for which a verification alone may write a track's final key.

    A copy that is bound to an ETag does no harm whenever it arrives. Any other must have arrived before the next one is
    sent: it could replace what that has written.
    """
    return work_seconds(size) + (0 if trusts_copy else LATE_COPY_SECONDS)


# --- Limits of what clients may ask for -------------------------------------------------------------------------------

MAX_CHECKS = 1000
"""Requests that ask the store about a track in vain. Beyond them only the worker, the sweeper and events do."""

MAX_ATTEMPTS = 100
"""Attempts to upload a track that failed."""


def count_checks(service: Service, ids: Sequence[str], cost: int = 1) -> None:
    """Count requests about tracks for which the store was asked in vain."""
    if ids:
        placeholders = ", ".join("?" * len(ids))
        service.execute(f"UPDATE loadbay_track SET checks = checks + ? WHERE id IN ({placeholders})", (cost, *ids))


def check_limit(service: Service, row: TrackRow) -> None:
    """Count a request that asks the store about a track's parts. Raises InvalidTrackState beyond MAX_CHECKS."""
    if row["checks"] >= MAX_CHECKS:
        raise InvalidTrackState("track_id: the track was checked too often.")
    count_checks(service, [row["id"]])


# --- Renewal and cancellation -----------------------------------------------------------------------------------------


def renew(service: Service, session_id: str, track_id: str) -> TrackRow:
    """Return the row of a track that may get new URLs. A failed track is reset to `initialized`, for another attempt.

    Raises SessionExpired, SessionClosed, and InvalidTrackState for a track that cannot be uploaded any more.
    """
    row = read(service, session_id, track_id)
    if sessions.effective_status(row["session_status"], row["expires_at"]) != "open":
        raise sessions.rejection_reason(service, session_id, 0)
    if staging.is_untrusted(service, row):
        raise InvalidTrackState("track_id: its write-once URL is no longer trusted; register the file as a new track.")
    if row["status"] == "failed" and row["upload_id"] is None and not _reset_failed(service, row):
        return renew(service, session_id, track_id)
    if row["status"] != "initialized":
        raise InvalidTrackState(f"track_id: the track is {row['status']}; register the file as a new track.")
    return row


NO_RESULT: TrackChanges = {
    "chosen_source": None,
    "chosen_etag": None,
    "lease": None,
    "lease_expires_at": None,
    "verify_attempts": 0,
    "failure": None,
    "failure_code": None,
    "size": None,
    "etag": None,
    "version_id": None,
    "detected_type": None,
    "audio": None,
    "audio_container": None,
    "audio_codec": None,
    "audio_duration": None,
    "picture_offset": None,
    "picture_size": None,
    "integrity": None,
    "verified_at": None,
}


def _reset_failed(service: Service, row: TrackRow) -> bool:
    """Reset a failed track; False where another process was faster.

    The new attempt has a staging key of its own. What the failed one left at the final key is replaced by the copy of
    the next, or removed once the session is over. Raises SessionExpired, SessionClosed, InvalidTrackState.
    """
    _check_no_copy(row)
    if row["attempt"] >= MAX_ATTEMPTS:
        raise InvalidTrackState("track_id: the track has failed too often; register the file as a new track.")
    left = removals.of_failed_object(row, removals.urls_end(row))
    attempt = row["attempt"]
    with service.database.atomic():
        changes: TrackChanges = {"status": "initialized", "attempt": attempt + 1, **NO_RESULT}
        reset = update(service, row, "status = 'failed' AND attempt = ?", (attempt,), changes)
        if reset:
            removals.add(service, left)
        # The update has locked the session, so that this read is authoritative: no `upload_session.completed` event is
        # sent for a session in which a track was reset.
        session = sessions.read(service, row["session_id"])
        if reset and session["status"] != "open":
            raise sessions.rejection_reason(service, row["session_id"], 0)
    return reset


def _check_no_copy(row: TrackRow) -> None:
    """Raise InvalidTrackState while the store may still be copying the bytes of the failed attempt."""
    remaining = (row["lease_expires_at"] or 0) - clock_now()
    if remaining > 0:
        error = InvalidTrackState("track_id: the failed upload is still being processed. Try again later.")
        error.retry_after = remaining
        raise error


def cancel(service: Service, session_id: str, track_id: str) -> TrackRow:
    """Cancel a track that is not uploaded, record the removal of its objects, and return its row. Idempotent."""
    row = read(service, session_id, track_id)
    while row["status"] in ("initialized", "failed") and not end(service, row):
        row = read(service, session_id, track_id)
    if row["status"] != "cancelled":
        raise InvalidTrackState(f"track_id: the track is {row['status']} and cannot be cancelled.")
    return row


def end(service: Service, row: TrackRow) -> bool:
    """Cancel a track as it stands in `row`, and record the removal of its objects; False if it has changed since."""
    useless, recorded = removals.after_cancellation(service, row), list[int]()
    with service.database.atomic():
        where = "status = ? AND attempt = ? AND cover_attempt = ? AND COALESCE(lease_expires_at, 0) = ?"
        parameters = row["status"], row["attempt"], row["cover_attempt"], row["lease_expires_at"] or 0
        ended = update(service, row, where, parameters, {"status": "cancelled"})
        if ended:
            recorded = removals.add(service, useless)
    # Nobody need wait for the worker to see the objects gone.
    removals.try_now(service, recorded)
    return ended
