"""Covers of uploaded tracks: verification, relay and replacement.

A cover is verified as a track is (verification.py): its staged bytes are inspected, chosen under a lease, and copied to
`cover_path`, where they may replace an earlier cover. A cover that is rejected stays in staging, since another may be
uploaded in its place by the same URL, until the track expects no more covers. Where none was uploaded, and the session
asks for it, the service writes the picture that is embedded in the audio file to staging.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from io import SEEK_END, BytesIO
from typing import IO, Any, BinaryIO, NamedTuple, TypeVar, cast

from storage.clock import now as clock_now
from storage.db.rows import TrackChanges, TrackRow
from storage.errors import Failure, InvalidTrackState, NotUploaded, ServiceError, SessionExpired, TooLarge
from storage.formats import pictures, rules
from storage.formats.pictures import Picture
from storage.ids import new_uuid4
from storage.s3.dialects import is_weak
from storage.s3.errors import RETRY_SECONDS, ObjectChanged, StorageTimeout, is_outage
from storage.s3.parallel import DeadlinePassed, call_each
from storage.service import Service
from storage.uploads import removals, sessions, staging, tracks
from storage.uploads.removals import NewRemoval

logger = logging.getLogger("loadbay.verification")

EXPECTED = "status = 'uploaded' AND cover_attempt = ?"
NOT_A_PICTURE = f"The cover is not a {pictures.ACCEPTED} picture."
PENDING = "(next_cover_expires_at IS NOT NULL OR cover_status IS NULL OR cover_status = 'failed' OR cover_embedded)"
CHOSEN = f"{EXPECTED} AND cover_chosen_etag = ?"

RELAY_CHECKS = 10
"""Checks (tracks.MAX_CHECKS) that a relayed cover counts as."""

R = TypeVar("R")


class Candidate(NamedTuple):
    """A cover in staging, or, where `is_copied`, the copy of a chosen one at `cover_path`.

    Where `picture` is None, `failure` says why the cover is rejected.
    """

    etag: str
    size: int
    picture: Picture | None
    failure: Failure | None = None
    is_copied: bool = False


class Copied(NamedTuple):
    """The ETag of a cover's copy at `cover_path`, or None where the chosen cover is gone."""

    etag: str | None


# --- Verification -----------------------------------------------------------------------------------------------------


def verify(service: Service, rows: Sequence[TrackRow], deadline: float) -> list[TrackRow]:
    """Verify the covers of those tracks that expect one, and return the rows of these tracks as they are then.

    Faults are logged; the next verification tries again. Raises StorageUnavailable or StorageRejected where the store
    does not answer at all.
    """
    uploaded = [row for row in rows if row["status"] == "uploaded" and not _is_leased(row)]
    due = [row for row in uploaded if staging.expects_cover(row)]
    wanting = {row["id"] for row in uploaded if staging.wants_embedded_cover(service, row)}
    embedded = [row for row in uploaded if row["id"] in wanting and not staging.expects_cover(row)]
    if not due and not embedded:
        return []
    results = _without_faults(due, call_each(lambda row: inspect(service, row), due, deadline))
    embedded += [row for row, candidate in results if candidate is None and row["id"] in wanting]
    inspected = [(row, candidate) for row, candidate in results if candidate is not None]
    inspected += _stage_embedded(service, embedded, deadline)
    lease = new_uuid4()
    chosen = tracks.change_each(service, inspected, lambda row, candidate: _choose(service, row, candidate, lease))
    claims = [item for item, choice in zip(inspected, chosen, strict=True) if choice is True]
    copies = call_each(lambda claim: _copy(service, *claim, deadline), claims, deadline)
    claimed = [row for row, _ in claims]
    outcomes = [(row, (candidate, copy)) for (row, candidate), copy in zip(claims, copies, strict=True)]
    tracks.change_each(service, outcomes, lambda row, outcome: _finalize(service, row, *outcome))
    _without_faults(claimed, copies)
    return list(tracks.refreshed(service, (*due, *embedded), _is_unsettled).values())


def _is_unsettled(row: TrackRow) -> bool:
    return staging.expects_cover(row) or row["cover_chosen_etag"] is not None


def _is_leased(row: TrackRow) -> bool:
    return row["cover_chosen_etag"] is not None and (row["lease_expires_at"] or 0) > clock_now()


def _without_faults(rows: Sequence[TrackRow], results: Sequence[R | Exception]) -> list[tuple[TrackRow, R]]:
    """Return the rows whose calls have a result, with it, and log the others. Raises the error of an outage."""
    pairs = list(zip(rows, results, strict=True))
    faults = [(row, result) for row, result in pairs if isinstance(result, Exception)]
    outages = [error for _, error in faults if is_outage(error) and not isinstance(error, StorageTimeout)]
    for row, error in faults:
        if not isinstance(error, DeadlinePassed):
            logger.error("Verification of the cover of track %s failed: %s", row["id"], type(error).__name__)
    if outages and len(faults) == len(pairs):
        raise outages[0]
    return [(row, result) for row, result in pairs if not isinstance(result, Exception)]


def _stage_embedded(service: Service, rows: Sequence[TrackRow], deadline: float) -> list[tuple[TrackRow, Candidate]]:
    """Write the pictures in the files of tracks to the staging keys of their covers, where none was uploaded.

    From there they are verified and copied as any cover.
    """
    # Recorded first: a cover that no row expects would not be looked for.
    items = [(row, None) for row in rows]
    tracks.change_each(service, items, lambda row, _: _mark_embedded(service, row, True))
    results = _without_faults(rows, call_each(lambda row: _stage_picture(service, row), rows, deadline))
    useless = [(row, None) for row, candidate in results if candidate is None]
    tracks.change_each(service, useless, lambda row, _: _mark_embedded(service, row, False))
    return [(row, candidate) for row, candidate in results if candidate is not None]


def _mark_embedded(service: Service, row: TrackRow, embedded: bool) -> bool:
    where = f"{EXPECTED} AND cover_status IS NULL AND cover_chosen_etag IS NULL"
    return tracks.update(service, row, where, (row["cover_attempt"],), {"cover_embedded": embedded})


def _stage_picture(service: Service, row: TrackRow) -> Candidate | None:
    """Write the picture in a track's file to the staging key of its cover, and inspect it; None if it is no picture."""
    info = service.bucket.head(row["path"]) if row["etag"] is None else None
    etag = row["etag"] or (info.etag if info else "")
    try:
        content = service.bucket.read_range(row["path"], etag, row["picture_offset"] or 0, row["picture_size"] or 0)
    except ObjectChanged:
        return None
    if pictures.identify_bytes(content) is None:
        return None
    key = staging.cover_key(service, row)
    # A cover that is uploaded at this moment counts for more.
    if service.bucket.head(key) is None:
        service.bucket.put(key, BytesIO(content), len(content), "application/octet-stream")
    return inspect(service, row)


def inspect(service: Service, row: TrackRow) -> Candidate | None:
    """Return the cover in staging, or the copy of a chosen one that is gone from there; None where there is none."""
    candidate = _inspect_object(service, row, staging.cover_key(service, row))
    chosen = row["cover_chosen_etag"]
    if chosen is None or (candidate is not None and candidate.etag == chosen):
        return candidate
    copy = _inspect_object(service, row, row["cover_path"])
    if copy is not None and copy.etag == chosen:
        return copy._replace(is_copied=True)
    return Candidate(chosen, 0, None, is_copied=True)


def _inspect_object(service: Service, row: TrackRow, key: str) -> Candidate | None:
    observed = service.bucket.stat_and_read(key, pictures.HEAD_BYTES)
    if observed is None:
        return None
    info, head = observed
    if info.size > service.settings.max_cover_bytes:
        too_large = Failure("file_too_large", f"The cover has {info.size} bytes, more than a cover may have.")
        return Candidate(info.etag, info.size, None, too_large)
    fetch = partial(service.bucket.read_range, key, info.etag)
    try:
        picture = pictures.identify(fetch, head, info.size)
    except ObjectChanged:
        return None
    failure = find_broken_rule(row, picture) if picture else Failure("not_an_image", NOT_A_PICTURE)
    return Candidate(info.etag, info.size, None if failure else picture, failure)


def find_broken_rule(row: TrackRow, picture: Picture) -> Failure | None:
    """Return the rule of its session that a cover breaks, if there is one."""
    cover_rules = rules.parse(row["rules"]).get("cover")
    return rules.check_cover(cover_rules, *picture) if cover_rules else None


def _choose(service: Service, row: TrackRow, candidate: Candidate, lease: str) -> bool:
    """Reject a cover, finalize one that is copied, or choose it; return True where it is chosen."""
    if candidate.is_copied:
        _finalize(service, row, candidate, Copied(candidate.etag if candidate.picture else None))
    elif candidate.picture is None:
        _reject(service, row, candidate)
    elif row["cover_status"] != "uploaded" or candidate.etag != row["cover_rejected_etag"]:
        free = "(cover_chosen_etag IS NULL OR (cover_chosen_etag = ? AND lease_expires_at <= ?))"
        parameters = row["cover_attempt"], candidate.etag, clock_now()
        trusts_copy = tracks.trusts_copy(service, candidate.etag)
        expires_at = clock_now() + tracks.lease_seconds(candidate.size, trusts_copy=trusts_copy)
        choice: TrackChanges = {"cover_chosen_etag": candidate.etag, "lease": lease, "lease_expires_at": expires_at}
        return tracks.update(service, row, f"{EXPECTED} AND {PENDING} AND {free}", parameters, choice)
    return False


def _reject(service: Service, row: TrackRow, candidate: Candidate) -> None:
    if candidate.etag == row["cover_rejected_etag"]:
        return
    changes: TrackChanges = {"cover_rejected_etag": candidate.etag}
    if candidate.failure is not None:
        changes = {**changes, "cover_failure": candidate.failure.message, "cover_failure_code": candidate.failure.code}
    if row["cover_status"] != "uploaded":
        changes = {**changes, "cover_status": "failed", "cover_size": candidate.size}
    where = f"{EXPECTED} AND {PENDING} AND cover_chosen_etag IS NULL"
    if tracks.update(service, row, where, (row["cover_attempt"],), changes):
        service.metrics.count_verified("cover", "failed", candidate.size)


def _copy(service: Service, row: TrackRow, candidate: Candidate, deadline: float) -> Copied:
    """Copy a chosen cover to `cover_path`. Raises DeadlinePassed where nothing was sent."""
    media_type = candidate.picture.media_type if candidate.picture else "application/octet-stream"
    timeout = deadline - time.monotonic()
    if timeout <= 0:
        raise DeadlinePassed
    # Signed until before the lease ends, so that no copy begins after it.
    expires_in = tracks.LEASE_SECONDS - int(RETRY_SECONDS) - 1
    source, target = staging.cover_key(service, row), row["cover_path"]
    # Where no object may be replaced, the earlier cover has to go first: not before the new one is at hand.
    replaces = row["cover_status"] == "uploaded" and service.bucket.write_headers.condition
    if replaces or not tracks.trusts_copy(service, candidate.etag):
        return _copy_by_value(service, row, source, candidate)
    headers = service.bucket.write_headers.final(row)
    copy = service.bucket.copy(
        source, target, candidate.etag, media_type, headers, timeout=timeout, expires_in=expires_in
    )
    if copy is not None and copy.etag is not None:
        return Copied(copy.etag)
    present = service.bucket.head(row["cover_path"])
    return Copied(present.etag if present is not None and present.etag == candidate.etag else None)


def _copy_by_value(service: Service, row: TrackRow, source: str, candidate: Candidate) -> Copied:
    """Read a staged cover and write it to its final key, for stores whose copies are not bound to an ETag.

    An earlier cover there is replaced only by bytes that were inspected. It is put back where it had to be deleted, and
    the new one cannot be written; the next verification tries again.
    """
    observed = service.bucket.stat_and_read(source, service.settings.max_cover_bytes)
    content = observed[1] if observed is not None else b""
    if len(content) != candidate.size or pictures.identify_bytes(content) != candidate.picture:
        return Copied(None)
    media_type = candidate.picture.media_type if candidate.picture else "application/octet-stream"
    headers = service.bucket.write_headers.final(row)
    earlier = _read_earlier(service, row)
    try:
        service.bucket.put(row["cover_path"], BytesIO(content), len(content), media_type, headers)
    except ServiceError:
        if earlier is not None:
            _put_back(service, row, earlier, headers)
        raise
    written = service.bucket.head(row["cover_path"])
    return Copied(written.etag if written is not None else None)


def _read_earlier(service: Service, row: TrackRow) -> bytes | None:
    """Return the cover that must be deleted before another can be written, or None where there is no need to."""
    if row["cover_status"] != "uploaded" or not service.bucket.write_headers.condition:
        return None
    earlier = service.bucket.stat_and_read(row["cover_path"], row["cover_size"] or 1)
    return earlier[1] if earlier is not None else None


def _put_back(service: Service, row: TrackRow, content: bytes, headers: Mapping[str, str]) -> None:
    media_type = row["cover_type"] or "application/octet-stream"
    with suppress(ServiceError):
        if service.bucket.head(row["cover_path"]) is None:
            service.bucket.put(row["cover_path"], BytesIO(content), len(content), media_type, headers)


def _finalize(service: Service, row: TrackRow, candidate: Candidate, copy: Copied | Exception) -> None:
    # Under its lease: where copies are bound to no ETag, a later one may follow.
    chosen = f"{CHOSEN} AND lease = ?", (row["cover_attempt"], candidate.etag, row["lease"])
    if isinstance(copy, StorageTimeout):
        return
    if isinstance(copy, Exception):
        tracks.update(service, row, *chosen, {"lease_expires_at": clock_now()})
        return
    released: TrackChanges = {"cover_chosen_etag": None, "lease": None, "lease_expires_at": None}
    if copy.etag is None or candidate.picture is None:
        # The chosen cover is gone: what the row says of an earlier one still holds, and another may be uploaded.
        tracks.update(service, row, *chosen, released)
        return
    media_type, width, height = candidate.picture
    changes: TrackChanges = {
        **released,
        "cover_status": "uploaded",
        "cover_failure": None,
        "cover_failure_code": None,
        "cover_rejected_etag": None,
        "cover_size": candidate.size,
        "cover_etag": None if is_weak(copy.etag) else copy.etag,
        "cover_type": media_type,
        "cover_width": width,
        "cover_height": height,
        "next_cover_expires_at": None,
    }
    if row["cover_status"] == "uploaded":
        changes["cover_embedded"] = False
    elif row["cover_embedded"]:
        # Its staged bytes are no cover that is to replace it.
        changes["cover_rejected_etag"] = candidate.etag
    if tracks.update(service, row, *chosen, changes):
        removals.add(service, [NewRemoval(staging.cover_key(service, row), clock_now())])
        service.metrics.count_verified("cover", "uploaded", candidate.size)


# --- Relay and replacement --------------------------------------------------------------------------------------------


def relay(service: Service, session_id: str, track_id: str, stream: IO[bytes], content_type: str) -> None:
    """Relay a cover to the store. Raises TooLarge, TrackNotFound, InvalidTrackState, SessionExpired, SessionClosed."""
    row = tracks.read(service, session_id, track_id)
    if (row["next_cover_expires_at"] or 0) <= clock_now():
        if sessions.effective_status(row["session_status"], row["expires_at"]) != "open":
            raise sessions.rejection_reason(service, session_id, 0)
        final = row["cover_status"] == "uploaded" and not row["cover_embedded"]
        if final or row["status"] not in ("initialized", "uploaded"):
            raise InvalidTrackState("track_id: the track no longer accepts a cover.")
    size = stream.seek(0, SEEK_END)
    stream.seek(0)
    if not 1 <= size <= service.settings.max_cover_bytes:
        raise TooLarge(f"file: must have 1 to {service.settings.max_cover_bytes} bytes.")
    if row["checks"] + RELAY_CHECKS > tracks.MAX_CHECKS:
        raise InvalidTrackState("track_id: too many covers were sent for this track.")
    tracks.count_checks(service, [row["id"]], RELAY_CHECKS)
    if not row["cover_relayed"]:
        # Before the cover is written: a cover that no row expects would not be looked for.
        tracks.update(service, row, "cover_attempt = ?", (row["cover_attempt"],), {"cover_relayed": True})
    service.bucket.put(staging.cover_key(service, row), cast(BinaryIO, stream), size, content_type)


def presign_replacement(service: Service, row: TrackRow, relay_url: str, *, until: int | None = None) -> dict[str, Any]:
    """Return `track_cover_upload` for a cover that replaces the current one once it is verified.

    Its URL does not outlive the time `until`; that of an API key may outlive the session. Raises NotUploaded,
    InvalidTrackState, SessionExpired.
    """
    if row["status"] != "uploaded":
        raise NotUploaded("track_id: only the cover of an uploaded track can be replaced.")
    now = clock_now()
    ttl = service.settings.upload_url_ttl if until is None else min(service.settings.upload_url_ttl, until - now)
    if ttl < 1:
        raise SessionExpired
    ttl = service.bucket.url_ttl(ttl, now)
    with service.database.atomic():
        if not _await_replacement(service, row, now + ttl):
            raise InvalidTrackState("track_id: a cover of this track is being verified. Try again.")
    # Its size is not declared.
    return staging.presign_cover(service, row, relay_url, ttl, now, replaces=True)


def _await_replacement(service: Service, row: TrackRow, expires_at: int) -> bool:
    """Record that a replacement may come until `expires_at`, by a staging key of its own."""
    if row["next_cover_expires_at"] is not None:
        where = f"{EXPECTED} AND next_cover_expires_at IS NOT NULL"
        return tracks.update(service, row, where, (row["cover_attempt"],), {"next_cover_expires_at": expires_at})
    useless = NewRemoval(staging.cover_key(service, row), clock_now())
    where = f"{EXPECTED} AND next_cover_expires_at IS NULL AND cover_chosen_etag IS NULL"
    changes: TrackChanges = {"cover_attempt": row["cover_attempt"] + 1, "next_cover_expires_at": expires_at}
    if not tracks.update(service, row, where, (row["cover_attempt"],), changes):
        return False
    removals.add(service, [useless])
    return True
