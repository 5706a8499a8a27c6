"""Verification of uploads, shared by the complete endpoints, store events, the worker and the sweeper.

1. Inspect what was uploaded and compare it with the declaration (inspection.py). A mismatch makes the track `failed`.
2. Choose the bytes: one conditional update records their ETag and takes a lease. A choice is made once for an attempt
   and never replaced; a verification that comes later finds `verifying` while the lease runs, and then takes it over.
3. Where the store does not tell a declared checksum, compare it with that of the chosen bytes, which are read on
   condition of their ETag. Copy them from staging to the final key, on the same condition and without the sender's
   metadata, or complete the multipart upload. Where the store does not honor the condition, or tells no ETags, the copy
   itself is inspected and compared, at its final key. The request's signature expires with the lease, so that a copy
   which was held up does not begin later; one that is bound to no ETag is the only one for an hour. A write-once object
   with the right headers is final as it is.
4. Finalize: one update, on condition of the choice, makes the track `uploaded` and records the removal of what is left.

Neither two verifications at once, nor one that stops at any step, nor a client that uploads again meanwhile can
therefore leave other bytes at the final key than the row says. In a batch each step is one transaction, or calls to the
store side by side; a fault of one track is logged and counted, and does not affect the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, cast

from storage.clock import now as clock_now
from storage.clock import seconds_left
from storage.db.rows import TrackChanges, TrackRow
from storage.errors import Failure, NotUploaded, ServiceError, StorageUnavailable
from storage.formats.checksums import Checksum, declared_checksum
from storage.ids import new_uuid4
from storage.s3.dialects import ObjectInfo, WrittenObject, is_weak
from storage.s3.errors import (
    RETRY_SECONDS,
    ChecksumMismatch,
    ObjectChanged,
    StorageBusy,
    StorageDisconnected,
    StorageFault,
    StorageTimeout,
    is_outage,
)
from storage.s3.integrity import Integrity, Proof, ask_store, compare, mismatch, read_object, trusted_algorithms
from storage.s3.parallel import DeadlinePassed, call_each
from storage.service import Service
from storage.uploads import covers, inspection, multipart, removals, staging, tracks
from storage.uploads.inspection import REPLACED, Candidate, Source
from storage.uploads.removals import NewRemoval

logger = logging.getLogger("loadbay.verification")

REQUEST_SECONDS = 9.0
"""Time that a request gives to its verifications."""

BACKGROUND_SECONDS = 600.0
"""Time that the worker or the sweeper gives to a chunk of verifications."""

CHUNK = 128
RETRY_AFTER = 2
"""Seconds after which a client should ask again for a track that is `verifying`."""

FAULT_WEIGHT, UNAVAILABLE_WEIGHT, MAX_FAULTS = 8, 1, 40
"""A track fails after five responses that make no sense. Timeouts may have other causes, and count less."""

MAX_FAILURE_LENGTH = 255
VERIFYING = "verifying"
CHECKED_TOO_OFTEN = "track_id: the track was checked too often; it is verified without a request once it is uploaded."
NOT_THERE = "The store has no object where it says to have written one."
MARGIN_SECONDS = int(RETRY_SECONDS) + 1
"""Part of a lease that the copy's signature leaves out: it is signed anew for a retry, and leases are whole seconds."""

UNCHOSEN = "status = 'initialized' AND attempt = ? AND chosen_source IS NULL"
CHOSEN = "status = 'initialized' AND attempt = ? AND chosen_source = ? AND chosen_etag = ?"
T = TypeVar("T")
R = TypeVar("R")


class Outcome(NamedTuple):
    """The result of a verification: the row, and its status.

    `status` is the row's, `verifying` where the result is still open, or `not_uploaded` (with the reason) where nothing
    was uploaded.
    """

    row: TrackRow
    status: str
    reason: str | None = None


def presented_status(row: TrackRow) -> str:
    """Return the status that the API shows: `verifying` while chosen bytes are on their way to the final key."""
    return "verifying" if row["status"] == "initialized" and row["chosen_source"] is not None else row["status"]


def complete(service: Service, row: TrackRow) -> Outcome:
    """Verify a track, and its cover if there may be one, and record the result. Idempotent.

    Raises NotUploaded where the store does not hold the track's bytes; StorageUnavailable, StorageRejected.
    """
    (outcome,) = verify(service, [row])
    if outcome.status == "not_uploaded":
        raise NotUploaded(outcome.reason)
    return outcome


def refresh(service: Service, row: TrackRow) -> Outcome:
    """Verify as `complete` does, but return the row as it is where nothing was uploaded."""
    (outcome,) = verify(service, [row])
    return Outcome(row, row["status"]) if outcome.status == "not_uploaded" else outcome


def verify(
    service: Service,
    rows: Sequence[TrackRow],
    *,
    background: bool = False,
    seconds: float = BACKGROUND_SECONDS,
    counted: bool = True,
) -> list[Outcome]:
    """Verify tracks and their covers side by side, and return their outcomes in the order of `rows`.

    A request has REQUEST_SECONDS for all of them; a track that is not decided by then is `verifying`, and the next
    verification carries on. In the background each chunk has `seconds`; with BACKGROUND_SECONDS, a file that has to be
    read to be proven may take longer. A fault of one track does not raise.

    Unless `counted` is False, a client's requests about a track are limited by tracks.MAX_CHECKS.
    Raises StorageUnavailable or StorageRejected where the store does not answer at all, and the database's errors.
    """
    if background or not counted:
        return _verify_chunks(service, rows, background, seconds)
    allowed = [row for row in rows if row["checks"] < tracks.MAX_CHECKS]
    before = {row["id"]: _state(row) for row in allowed}
    outcomes = {outcome.row["id"]: outcome for outcome in _verify_chunks(service, allowed, background, seconds)}
    useless = [name for name, (row, *_) in outcomes.items() if _is_pending(row) and _state(row) == before[name]]
    tracks.count_checks(service, useless)
    return [outcomes.get(row["id"]) or _unchecked(row) for row in rows]


def _state(row: TrackRow) -> tuple[object, ...]:
    """Return the columns that show whether a verification has come to something."""
    return row["status"], row["chosen_source"], row["cover_status"], row["cover_chosen_etag"]


def _is_pending(row: TrackRow) -> bool:
    return row["status"] == "initialized" or (row["status"] == "uploaded" and staging.expects_cover(row))


def _unchecked(row: TrackRow) -> Outcome:
    """Return the outcome for a track that clients have had checked too often."""
    if row["status"] != "initialized":
        return Outcome(row, row["status"])
    return Outcome(row, "not_uploaded", CHECKED_TOO_OFTEN) if row["chosen_source"] is None else Outcome(row, VERIFYING)


def _verify_chunks(service: Service, rows: Sequence[TrackRow], background: bool, seconds: float) -> list[Outcome]:
    deadline = time.monotonic() + seconds_left(REQUEST_SECONDS)
    # Read here, lest the threads that call the store open connections to the database.
    _ = service.deployment_id
    is_patient = background and seconds >= BACKGROUND_SECONDS
    outcomes: list[Outcome] = []
    for start in range(0, len(rows), CHUNK):
        if background:
            deadline = time.monotonic() + seconds
        chunk = rows[start : start + CHUNK]
        outcomes += _Verification(service, chunk, deadline, background, is_patient).run()
    return outcomes


@dataclass
class Claim:
    """A track whose chosen bytes this verification alone brings to the final key, until `ends` (time.monotonic()).

    Its lease may last longer, for a copy that arrives late.
    """

    row: TrackRow
    candidate: Candidate
    ends: float


class Transferred(NamedTuple):
    """The object that now lies at the final key. `observed` has columns that were not known when it was chosen."""

    etag: str
    version_id: str | None
    integrity: Integrity
    observed: TrackChanges


class Mismatch(NamedTuple):
    """A reason for which the chosen bytes do not become the file: they are gone, or not what was declared."""

    failure: Failure


# --- The steps of one verification -----------------------------------------------------------------------------------


class _Verification:
    """The verification of some tracks, step by step; see the module's docstring."""

    def __init__(self, service: Service, rows: Sequence[TrackRow], deadline: float, background: bool, is_patient: bool):
        self.service, self.rows, self.deadline, self.background = service, rows, deadline, background
        self.is_patient = is_patient
        self.lease = new_uuid4()
        self.not_uploaded: dict[str, str] = {}
        self.faults: list[tuple[TrackRow, Exception]] = []
        self.answered = False

    def run(self) -> list[Outcome]:
        """Take all steps and return the outcomes in the order of the rows."""
        initialized = [row for row in self.rows if row["status"] == "initialized"]
        chosen = [row for row in initialized if row["chosen_source"] is not None]
        claims = self._choose([row for row in initialized if row["chosen_source"] is None])
        claims += self._take_over(chosen)
        self._transfer(claims)
        self._find_copies([row for row in chosen if row["lease"] != self.lease])
        self._settle_faults()
        return self._outcomes()

    # Steps 1 and 2

    def _choose(self, rows: Sequence[TrackRow]) -> list[Claim]:
        """Inspect the uploads of tracks; finalize those that can be at once, and choose the bytes of the others."""
        inspected = self._note(rows, call_each(lambda row: inspection.inspect(self.service, row), rows, self.deadline))
        return self._change(inspected, self._choose_one)

    def _choose_one(self, row: TrackRow, candidate: Candidate) -> Claim | None:
        observed = inspection.observed_columns(candidate)
        written: TrackChanges = {"etag": strong_etag(candidate.etag), "version_id": candidate.version_id}
        choice: TrackChanges = {"chosen_source": candidate.source, "chosen_etag": candidate.etag}
        unchosen = (row["attempt"],)
        if candidate.failure is not None:
            self._fail(row, UNCHOSEN, unchosen, candidate.failure, {**observed, **written})
            return None
        if not candidate.needs_copy and candidate.integrity is not None:
            self._upload(row, UNCHOSEN, unchosen, {**observed, **choice, **written, "integrity": candidate.integrity})
            return None
        return self._claim(row, candidate, UNCHOSEN, unchosen, {**observed, **choice})

    def _take_over(self, rows: Sequence[TrackRow]) -> list[Claim]:
        """Claim tracks whose bytes were chosen by a verification whose lease is over."""
        due = [(row, None) for row in rows if (row["lease_expires_at"] or 0) <= clock_now()]
        return self._change(due, self._take_over_one)

    def _take_over_one(self, row: TrackRow, _: None) -> Claim | None:
        where = f"{CHOSEN} AND (lease_expires_at IS NULL OR lease_expires_at <= ?)"
        return self._claim(row, chosen_candidate(row), where, (*_choice(row), clock_now()), {})

    def _claim(
        self, row: TrackRow, candidate: Candidate, where: str, parameters: Sequence[object], changes: TrackChanges
    ) -> Claim | None:
        # Bytes that are not proven may have to be read before they are copied.
        size = candidate.size * (1 if candidate.integrity else 2)
        ends = time.monotonic() + tracks.work_seconds(size)
        lasts = tracks.lease_seconds(size, trusts_copy=_is_bound(self.service, candidate.source, candidate.etag))
        lease: TrackChanges = {"lease": self.lease, "lease_expires_at": clock_now() + lasts}
        claimed = tracks.update(self.service, row, where, parameters, {**changes, **lease})
        return Claim(row, candidate, ends) if claimed else None

    # Steps 3 and 4

    def _transfer(self, claims: Sequence[Claim]) -> None:
        """Bring the chosen bytes to their final keys, and finalize the tracks."""
        results = call_each(
            lambda claim: transfer(self.service, claim, self._deadline_of(claim)), claims, self.deadline
        )
        done: list[tuple[TrackRow, Transferred | Mismatch]] = self._note([claim.row for claim in claims], results)
        self._change(done, self._finalize_one)
        stopped = [
            (claim.row, None)
            for claim, result in zip(claims, results, strict=True)
            if isinstance(result, Exception) and not isinstance(result, StorageTimeout)
        ]
        self._change(stopped, self._release_one)

    def _deadline_of(self, claim: Claim) -> float:
        """Return the time until which a claim may be worked on: where a file must be read, as long as its lease."""
        return claim.ends if self.is_patient and claim.candidate.integrity is None else self.deadline

    def _finalize_one(self, row: TrackRow, result: Transferred | Mismatch) -> None:
        where, parameters = self._condition(row)
        if isinstance(result, Mismatch):
            self._fail(row, where, parameters, result.failure, {"lease_expires_at": None})
        else:
            written: TrackChanges = {"etag": strong_etag(result.etag), "version_id": result.version_id}
            changes: TrackChanges = {**written, **result.observed, "integrity": result.integrity}
            if not self._upload(row, where, parameters, changes):
                self._discard_copy(row)

    def _condition(self, row: TrackRow) -> tuple[str, Sequence[object]]:
        """Return the condition on which a transfer counts: the choice, and the lease where another copy may follow."""
        if _is_bound(self.service, cast(Source, row["chosen_source"]), row["chosen_etag"] or ""):
            return CHOSEN, _choice(row)
        return f"{CHOSEN} AND lease = ?", (*_choice(row), row["lease"])

    def _discard_copy(self, row: TrackRow) -> None:
        """Record the removal of a copy that was made for a track which was cancelled or deleted meanwhile."""
        current = tracks.read_many(self.service, [row["id"]])
        if not current or current[0]["status"] in ("cancelled", "expired"):
            removals.add(self.service, [NewRemoval(row["path"], clock_now())])

    def _release_one(self, row: TrackRow, _: None) -> None:
        """End the lease of a track whose bytes are not on their way, so that the next verification need not wait."""
        where, parameters = f"{CHOSEN} AND lease = ?", (*_choice(row), self.lease)
        tracks.update(self.service, row, where, parameters, {"lease": None, "lease_expires_at": clock_now()})

    def _find_copies(self, rows: Sequence[TrackRow]) -> None:
        """Finalize tracks whose copy is complete, though the verification that asked for it may not know it yet."""
        results = call_each(lambda row: find_arrived(self.service, row, self.deadline), rows, self.deadline)
        copies = self._note(rows, results)
        self._change([(row, copy) for row, copy in copies if copy is not None], self._finalize_one)

    def _upload(self, row: TrackRow, where: str, parameters: Sequence[object], changes: TrackChanges) -> bool:
        released: TrackChanges = {"lease": None, "lease_expires_at": None}
        changes = {"status": "uploaded", "verified_at": clock_now(), **changes, **released}
        uploaded = tracks.update(self.service, row, where, parameters, changes)
        if uploaded:
            removals.add(self.service, removals.after_upload(self.service, row))
            self.service.metrics.count_verified("track", "uploaded", row["size"] or 0)
        return uploaded

    def _fail(
        self, row: TrackRow, where: str, parameters: Sequence[object], failure: Failure, changes: TrackChanges
    ) -> None:
        reason: TrackChanges = {"failure": failure.message[:MAX_FAILURE_LENGTH], "failure_code": failure.code}
        changes = {"status": "failed", "verified_at": clock_now(), **reason, **changes}
        if tracks.update(self.service, row, where, parameters, changes):
            removals.add(self.service, removals.after_failure(self.service, row))
            self.service.metrics.count_verified("track", "failed", row["size"] or 0)

    # Faults and results

    def _note(self, rows: Sequence[TrackRow], results: Sequence[R | Exception]) -> list[tuple[TrackRow, R]]:
        """Return the rows whose calls have a result, with it, and note the exceptions of the others."""
        noted = []
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, DeadlinePassed):
                continue
            self.answered = self.answered or not is_outage(result)
            if isinstance(result, NotUploaded):
                self.not_uploaded[row["id"]] = result.message
            elif isinstance(result, Exception):
                self.faults.append((row, result))
            else:
                noted.append((row, result))
        return noted

    def _change(self, items: Sequence[tuple[TrackRow, T]], change: Callable[[TrackRow, T], R | None]) -> list[R]:
        """Change tracks, and return the results but None. A change that the database rejects is noted as a fault."""
        results = tracks.change_each(self.service, items, change)
        return [result for _, result in self._note([row for row, _ in items], results) if result is not None]

    def _settle_faults(self) -> None:
        """Count each fault against its track. Raises the error of an outage, which is no track's fault."""
        outages = [error for _, error in self.faults if is_outage(error)]
        if outages and not self.answered and not self._is_up(outages[0]):
            raise outages[0]
        self._change(self.faults, self._count_fault)

    def _is_up(self, error: Exception) -> bool:
        """Ask the store about the bucket, unless a request has waited for it long enough. Raises its errors."""
        return (
            self.background or isinstance(error, StorageBusy | StorageDisconnected)
        ) and self.service.bucket.exists()

    def _count_fault(self, row: TrackRow, error: Exception) -> None:
        reason = describe(error)
        unexpected = None if isinstance(error, (ServiceError, *tracks.REJECTED_CHANGES)) else error
        logger.error("Verification of track %s failed: %s", row["id"], reason, exc_info=unexpected)
        count = row["verify_attempts"] + fault_weight(row, error)
        attempt = "status = 'initialized' AND attempt = ?", (row["attempt"],)
        if count >= MAX_FAULTS:
            failure = Failure("unreadable", f"The file could not be read: {reason}.")
            self._fail(row, *attempt, failure, {"verify_attempts": count})
        else:
            tracks.update(self.service, row, *attempt, {"verify_attempts": count})

    def _outcomes(self) -> list[Outcome]:
        current = tracks.refreshed(self.service, self.rows, lambda row: row["status"] == "initialized")
        current |= {row["id"]: row for row in covers.verify(self.service, list(current.values()), self.deadline)}
        for row in self.rows:
            current[row["id"]]["metadata"] = row["metadata"]
        return [self._outcome(current[row["id"]]) for row in self.rows]

    def _outcome(self, row: TrackRow) -> Outcome:
        if row["status"] != "initialized":
            return Outcome(row, row["status"])
        if row["chosen_source"] is None and row["id"] in self.not_uploaded:
            return Outcome(row, "not_uploaded", self.not_uploaded[row["id"]])
        return Outcome(row, "verifying")


def fault_weight(row: TrackRow, error: Exception) -> int:
    """Return how much a fault counts against a track.

    A rejection may be due to missing permissions, which the operator can add: it counts only once the session is over.
    """
    if isinstance(error, StorageUnavailable):
        return UNAVAILABLE_WEIGHT
    over = row["expires_at"] + staging.LATE_UPLOAD_GRACE <= clock_now()
    return FAULT_WEIGHT if over or not is_outage(error) else 0


def describe(error: Exception) -> str:
    """Return what failed in a few words, without anything that was sent: the store's error code, or a class."""
    cause = error.__cause__ if isinstance(error, ServiceError) and error.__cause__ is not None else error
    return str(getattr(cause, "code", None) or type(cause).__name__)


# --- Calls to the store ----------------------------------------------------------------------------------------------


def transfer(service: Service, claim: Claim, deadline: float) -> Transferred | Mismatch:
    """Bring the chosen bytes of a track to its final key.

    Raises StorageTimeout where the store may still be at it after `deadline`, DeadlinePassed where nothing was sent.
    """
    row, candidate = claim.row, claim.candidate
    timeout = min(deadline, claim.ends) - time.monotonic()
    if timeout <= 0:
        raise DeadlinePassed
    if candidate.source == "parts":
        return _join(service, row, candidate, deadline, timeout)
    source = row["path"] if candidate.source == "direct" else staging.track_key(service, row)
    if candidate.needs_copy and not tracks.trusts_copy(service, candidate.etag):
        return _copy_and_inspect(service, claim, source, deadline)
    try:
        proof = _prove(service, row, source, candidate, deadline)
    except ObjectChanged:
        return find_copy(service, row) or Mismatch(REPLACED)
    if proof.integrity is None:
        return Mismatch(proof.failure or REPLACED)
    transferred = Transferred(candidate.etag, candidate.version_id, proof.integrity, {})
    return _copy(service, claim, source, deadline, transferred) if candidate.needs_copy else transferred


def _prove(service: Service, row: TrackRow, key: str, candidate: Candidate, deadline: float) -> Proof:
    """Compare chosen bytes with their declared checksum, unless that was done: by the store's, or by reading them.

    Raises as integrity.read_object does.
    """
    declared = declared_checksum(row)
    if candidate.integrity is not None or declared is None:
        return Proof(candidate.integrity or "size")
    proof = ask_store(service.bucket, key, candidate.etag, declared, joined=candidate.source == "parts")
    if proof == Proof():
        proof = read_object(service.bucket, key, candidate.etag, candidate.size, declared, deadline)
    return proof


def _copy(service: Service, claim: Claim, source: str, deadline: float, proven: Transferred) -> Transferred | Mismatch:
    copy, row = _send_copy(service, claim, source, deadline), claim.row
    if copy is None:
        return find_copy(service, row, proven.integrity) or Mismatch(REPLACED)
    if copy.etag is not None:
        return proven._replace(etag=copy.etag, version_id=copy.version_id)
    info = service.bucket.head(row["path"])
    if info is None or info.size != claim.candidate.size:
        raise StorageFault(NOT_THERE)
    return proven._replace(etag=info.etag, version_id=info.version_id)


def _send_copy(service: Service, claim: Claim, source: str, deadline: float) -> WrittenObject | None:
    row, now = claim.row, time.monotonic()
    timeout, expires_in = min(deadline, claim.ends) - now, int(claim.ends - now) - MARGIN_SECONDS
    if timeout <= 0 or expires_in < 1:
        raise DeadlinePassed
    content_type = inspection.content_type(row, claim.candidate.detected_type)
    etag, headers = claim.candidate.etag, service.bucket.write_headers.final(row)
    return service.bucket.copy(source, row["path"], etag, content_type, headers, timeout=timeout, expires_in=expires_in)


def _copy_and_inspect(service: Service, claim: Claim, source: str, deadline: float) -> Transferred | Mismatch:
    """Copy whatever is in staging to the final key, and inspect it there, where no client can change it.

    For stores that tell no ETags or ignore the condition of a copy. What the copy shows counts, not what was inspected
    before it; a copy that is not what was declared is removed at once, under this verification's lease.
    """
    row, copy = claim.row, _send_copy(service, claim, source, deadline)
    result = _inspect_copy(service, row, deadline)
    if result is None and copy is not None:
        raise StorageFault(NOT_THERE)
    if isinstance(result, Mismatch):
        service.bucket.remove(row["path"])
    return result or Mismatch(REPLACED)


def _inspect_copy(service: Service, row: TrackRow, deadline: float) -> Transferred | Mismatch | None:
    """Return what lies at the track's final key, where only the service writes; None where nothing does."""
    copied = inspection.inspect_object(service, row, "copy", row["path"])
    if copied is None:
        return None
    try:
        proof = Proof(failure=copied.failure) if copied.failure else _prove(service, row, row["path"], copied, deadline)
    except ObjectChanged:
        proof = Proof(failure=REPLACED)
    if proof.integrity is None:
        return Mismatch(proof.failure or REPLACED)
    return Transferred(copied.etag, copied.version_id, proof.integrity, inspection.observed_columns(copied))


def _is_bound(service: Service, source: Source, etag: str) -> bool:
    """Return True where the chosen bytes alone can reach the final key, however late."""
    return source != "incoming" or tracks.trusts_copy(service, etag)


def find_arrived(service: Service, row: TrackRow, deadline: float) -> Transferred | None:
    """Return the copy at the track's final key that a verification has asked for which may know nothing of it yet.

    A copy that is bound to no ETag is the only one under its lease: what is there has arrived, and nothing follows. Not
    so where something else may have written there: an earlier attempt, or a write-once URL.
    """
    if _is_bound(service, cast(Source, row["chosen_source"]), row["chosen_etag"] or ""):
        return find_copy(service, row)
    if row["attempt"] > 0 or row["write_once"]:
        return None
    result = _inspect_copy(service, row, deadline)
    # What is wrong with it is said by the verification that holds the lease, and removes it.
    return result if isinstance(result, Transferred) else None


def _join(
    service: Service, row: TrackRow, candidate: Candidate, deadline: float, timeout: float
) -> Transferred | Mismatch:
    """Complete the multipart upload, if that was not done, and inspect the object that it has become."""
    upload_id, declared = row["upload_id"] or "", declared_checksum(row)
    parts = candidate.parts or service.bucket.list_parts(row["path"], upload_id)
    written = None
    if parts is not None:
        if multipart.fingerprint(parts) != candidate.etag:
            return Mismatch(REPLACED)
        try:
            written = service.bucket.complete_multipart_upload(row["path"], upload_id, parts, declared, timeout=timeout)
        except ChecksumMismatch:
            return Mismatch(mismatch(declared) if declared else REPLACED)
    joined = inspection.inspect_object(service, row, "parts", row["path"])
    if joined is None and written is not None:
        raise StorageFault(NOT_THERE)
    if joined is None or joined.failure is not None:
        return Mismatch(REPLACED if joined is None else joined.failure or REPLACED)
    try:
        proof = _prove(service, row, row["path"], joined, deadline)
    except ObjectChanged:
        return Mismatch(REPLACED)
    if proof.integrity is None:
        return Mismatch(proof.failure or REPLACED)
    return Transferred(joined.etag, joined.version_id, proof.integrity, inspection.observed_columns(joined))


def find_copy(service: Service, row: TrackRow, integrity: Integrity | None = None) -> Transferred | None:
    """Return the copy of the chosen bytes at the track's final key, or None where it cannot be told to be there.

    Unless `integrity` says by what the chosen bytes were proven, the store must tell the declared checksum: the object
    may be what an earlier attempt left, with the same bytes.
    """
    if row["chosen_source"] == "parts" or not tracks.trusts_copy(service, row["chosen_etag"] or ""):
        return None
    info = service.bucket.head(row["path"])
    if info is None or info.size != row["size"]:
        return None
    # A write-once object is copied onto itself: only another ETag shows that it was.
    same = info.etag == row["chosen_etag"]
    is_copy = same if row["chosen_source"] == "incoming" else not same
    if integrity is None:
        declared = declared_checksum(row)
        integrity = _compare_reported(service, info, declared) if declared else "size"
    if not is_copy or integrity is None:
        return None
    return Transferred(info.etag, info.version_id, integrity, {})


def _compare_reported(service: Service, info: ObjectInfo, declared: Checksum) -> Integrity | None:
    trusted = declared.algorithm in trusted_algorithms(service.bucket)
    return compare(declared, info.checksums.get(declared.algorithm)).integrity if trusted else None


def strong_etag(etag: str) -> str | None:
    """Return an ETag as the row has it: None for an object that has none."""
    return None if is_weak(etag) else etag


def chosen_candidate(row: TrackRow) -> Candidate:
    """Return the bytes that an earlier verification chose."""
    source, etag = cast(Source, row["chosen_source"]), row["chosen_etag"] or ""
    integrity: Integrity | None = None if declared_checksum(row) else "size"
    return Candidate(source, etag, row["size"] or 0, detected_type=row["detected_type"], integrity=integrity)


def _choice(row: TrackRow) -> tuple[object, ...]:
    return row["attempt"], row["chosen_source"], row["chosen_etag"]
