"""The ledger of everything that the service has promised, and the audit against the state at the end."""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

from minio import Minio
from minio.error import S3Error

REGISTERED, STORED, VERIFIED, CANCELLED = "registered", "stored", "verified", "cancelled"
NO_FAULT = "no fault"
UNAVAILABLE = (502, 503, 504)

Digest = tuple[bytes, int]
"""The SHA-256 and the size of an object."""

Interval = tuple[float, float]
"""The times, by time.monotonic(), at which a request was sent and its response was received."""

NEVER: Interval = (-inf, -inf)


@dataclass(slots=True)
class Rollback:
    """A restoration of the database: from its backup (`begin`) on, what was acknowledged until `end` may be forgotten.

    `end` is infinite until the backup is restored.
    """

    begin: float
    end: float = inf


class Forgery(NamedTuple):
    """A track that must never be `uploaded`, or with `is_cover` a track whose cover must never be."""

    session_id: str
    description: str
    is_cover: bool = False


@dataclass(slots=True)
class Entry:
    """A track that the service has acknowledged, and the state that its client has reached with it.

    `registered` and `reached` are the intervals of the requests that led to the track and to its state.
    """

    session_id: str
    path: str
    sha256: bytes
    size: int
    state: str = REGISTERED
    registered: Interval = NEVER
    reached: Interval = NEVER


@dataclass
class Ledger:
    """The record of all clients, safe for threads. `fault` is the fault at present, which failures are put down to.

    `calm_since` is the time since which there has been none, infinite during a fault and the recovery from it.
    """

    fault: str = NO_FAULT
    calm_since: float = -inf
    rollbacks: list[Rollback] = field(default_factory=list)
    tracks: dict[str, Entry] = field(default_factory=dict)
    sessions: dict[str, Interval] = field(default_factory=dict)
    hostile_sessions: dict[str, Interval] = field(default_factory=dict)
    forgeries: dict[str, Forgery] = field(default_factory=dict)
    attacks: Counter[tuple[str, str]] = field(default_factory=Counter)
    causes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    latencies: dict[tuple[str, str], array[float]] = field(default_factory=lambda: defaultdict(lambda: array("f")))
    violations: list[str] = field(default_factory=list)
    retries_exhausted: Counter[str] = field(default_factory=Counter)
    stored_bytes: int = 0
    internal_errors: int = 0
    abandoned: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add_session(self, session_id: str, interval: Interval) -> None:
        """Record a session that the service has acknowledged."""
        with self.lock:
            self.sessions[session_id] = interval

    def add_track(self, track_id: str, entry: Entry) -> None:
        """Record a track that the service has acknowledged."""
        with self.lock:
            if track_id in self.tracks:
                self.violations.append(f"the id {track_id[:8]}... is not unique")
            self.tracks[track_id] = entry

    def set_state(self, track_id: str, state: str, interval: Interval) -> None:
        """Record that a track has reached a state."""
        with self.lock:
            entry = self.tracks[track_id]
            self.stored_bytes += entry.size if state == STORED else 0
            entry.state, entry.reached = state, interval

    def add_forgery(self, track_id: str, forgery: Forgery) -> None:
        """Record a track (or its cover) that must never be `uploaded`."""
        with self.lock:
            self.forgeries[track_id] = forgery

    def add_attack(self, kind: str, outcome: str) -> None:
        """Record how a hostile request ended."""
        with self.lock:
            self.attacks[kind, outcome] += 1

    def add_status(self, name: str, status: int, code: str, start: float) -> None:
        """Record the status of any response of the service to a request that was sent at `start`."""
        if status == 500:
            with self.lock:
                self.internal_errors += 1
        if status == 500 or (status in UNAVAILABLE and self.is_calm(start)):
            self.add_violation(f"{name}: {status} {code} ({self.fault})")

    def is_calm(self, start: float) -> bool:
        """Return True if there has been no fault since `start`."""
        return start >= self.calm_since

    def is_forgettable(self, interval: Interval) -> bool:
        """Return True if the database may have been restored to the time before this was acknowledged."""
        sent, received = interval
        return any(sent < rollback.end and received >= rollback.begin for rollback in self.rollbacks)

    def may_have_gone_back(self, entry: Entry) -> bool:
        """Return True if the database may have been restored to the time before the track has reached its state.

        A worker may have verified what was stored at any time until then.
        """
        if entry.state == STORED:
            return any(entry.reached[0] < rollback.end for rollback in self.rollbacks)
        return self.is_forgettable(entry.reached)

    def names_forgettable(self, path: str) -> bool:
        """Return True if the path of a URL has the id of a session or track that may be forgotten."""
        parts = path.split("/")
        intervals = [known[part] for known in (self.sessions, self.hostile_sessions) for part in parts if part in known]
        intervals += [self.tracks[part].registered for part in parts if part in self.tracks]
        return any(map(self.is_forgettable, intervals))

    def add_violation(self, text: str) -> None:
        """Record a false response of the service."""
        with self.lock:
            self.violations.append(text)

    def add_latency(self, name: str, seconds: float) -> None:
        """Record a successful response."""
        with self.lock:
            self.latencies[name, self.fault].append(seconds)

    def add_failure(self, source: str, cause: str) -> None:
        """Record a failed request to the `source` (service or store)."""
        with self.lock:
            self.causes[source, cause, self.fault] += 1

    def count(self, *states: str) -> int:
        """Return the number of tracks in these states."""
        with self.lock:
            return sum(entry.state in states for entry in self.tracks.values())


Row = dict[str, Any]
FetchTracks = Callable[[str], Iterator[Row]]
"""Yields a session's tracks. Raises LookupError where the service does not know the session."""
CompleteTrack = Callable[[str, str], Row | None]


class Finding(NamedTuple):
    """The service's row of a track, and the digest of its object in the store.

    `is_forgettable` says that the database may have lost the row, `may_have_gone_back` its last status.
    """

    track_id: str
    entry: Entry
    row: Row | None
    stored: Digest | None
    is_forgettable: bool = False
    may_have_gone_back: bool = False


@dataclass
class Audit:
    """The result. `lost` and `violations` must be empty."""

    lost: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    uploaded: set[str] = field(default_factory=set)
    completed: int = 0
    events: int = 0
    unacknowledged: int = 0
    forgotten: int = 0
    gone_back: int = 0
    foreign: list[str] = field(default_factory=list)
    checked: int = 0
    checked_bytes: int = 0


def object_digest(client: Minio, bucket: str, path: str) -> Digest | None:
    """Return the digest of an object, or None if there is no such object."""
    try:
        response = client.get_object(bucket, path)
    except S3Error as e:
        if e.code == "NoSuchKey":
            return None
        raise
    try:
        digest, size = hashlib.sha256(), 0
        for chunk in response.stream(1 << 20):
            digest.update(chunk)
            size += len(chunk)
        return digest.digest(), size
    finally:
        response.close()
        response.release_conn()


def sha256_digest(body: bytes) -> Digest:
    """Return the digest of some bytes."""
    return hashlib.sha256(body).digest(), len(body)


class Auditor:
    """Compares the ledger with the service's rows and the store's bytes."""

    def __init__(self, ledger: Ledger, fetch: FetchTracks, complete: CompleteTrack, client: Minio, bucket: str):
        self.ledger, self.fetch, self.complete = ledger, fetch, complete
        self.client, self.bucket = client, bucket
        self.result = Audit(violations=list(ledger.violations))
        self.by_session: dict[str, list[tuple[str, Entry]]] = defaultdict(list)
        for track_id, entry in ledger.tracks.items():
            self.by_session[entry.session_id].append((track_id, entry))

    def session(self, session_id: str) -> list[Finding]:
        """Return the findings of one session's tracks."""
        try:
            rows = {row["id"]: row for row in self.fetch(session_id)}
        except LookupError:
            rows = {}
            if not self.ledger.is_forgettable(self.ledger.sessions[session_id]):
                self.result.lost.append(f"session {session_id[:8]}...: no row")
        findings = [
            self.track(track_id, entry, rows.pop(track_id, None)) for track_id, entry in self.by_session[session_id]
        ]
        # These rows belong to requests whose responses were lost: no client knows of them, and they expire.
        self.result.unacknowledged += len(rows)
        self.result.uploaded.update(track_id for track_id, row in rows.items() if row["status"] == "uploaded")
        return findings

    def track(self, track_id: str, entry: Entry, row: Row | None) -> Finding:
        """Return the finding of one track. One that is stored but not verified yet is verified first."""
        has_gone_back = self.ledger.may_have_gone_back(entry)
        sent = entry.state == STORED or (entry.state == VERIFIED and has_gone_back)
        if row is not None and sent and row["status"] != "uploaded":
            completed = self.complete(entry.session_id, track_id)
            self.result.completed += completed is not None
            row = completed or row
        uploaded = row is not None and row["status"] == "uploaded"
        path = row["path"] if row is not None and uploaded else entry.path
        is_checked = uploaded or (has_gone_back and entry.state in (STORED, VERIFIED))
        stored = object_digest(self.client, self.bucket, path) if is_checked else None
        return Finding(track_id, entry, row, stored, self.ledger.is_forgettable(entry.registered), has_gone_back)


def audit(
    ledger: Ledger,
    fetch: FetchTracks,
    complete: CompleteTrack,
    client: Minio,
    bucket: str,
    report: Callable[[str], None],
) -> Audit:
    """Audit all sessions. `fetch` lists a session's tracks, `complete` verifies one, `report` prints progress."""
    auditor = Auditor(ledger, fetch, complete, client, bucket)
    with ThreadPoolExecutor(8) as pool:
        for number, findings in enumerate(pool.map(auditor.session, ledger.sessions), 1):
            for finding in findings:
                judge(auditor.result, finding)
            if number % 100 == 0:
                report(f"{number:,} of {len(ledger.sessions):,} sessions")
    return auditor.result


def judge(result: Audit, finding: Finding) -> None:
    """Add one track to the result, as lost or as a violation where it is either."""
    track_id, entry, row, _, is_forgettable, may_have_gone_back = finding
    label = f"{track_id[:8]}... ({entry.state}, {entry.size} bytes)"
    if row is None:
        result.forgotten += is_forgettable
        if not is_forgettable:
            result.lost.append(f"{label}: no row")
        elif entry.state == VERIFIED:
            judge_object(result, finding, label)
        return
    status = row["status"]
    result.statuses[status] += 1
    if status == "uploaded":
        result.uploaded.add(track_id)
        judge_object(result, finding, label)
    elif entry.state in (STORED, VERIFIED) and not may_have_gone_back:
        result.lost.append(f"{label}: stored, and is {status} now")
    elif entry.state in (STORED, VERIFIED):
        # The service has forgotten that it has verified the file. The file itself must be there.
        result.gone_back += 1
        judge_object(result, finding, label)
    if entry.state == CANCELLED and status != "cancelled":
        result.gone_back += may_have_gone_back and status != "uploaded"
        if not may_have_gone_back or status == "uploaded":
            result.violations.append(f"{label}: cancelled, and is {status} now")


def judge_object(result: Audit, finding: Finding, label: str) -> None:
    """Add the object of a track that is uploaded, or was, to the result."""
    entry, stored = finding.entry, finding.stored
    result.checked += 1
    if stored is None:
        result.lost.append(f"{label}: uploaded, and not in the store")
    elif stored != (entry.sha256, entry.size):
        result.violations.append(f"{label}: uploaded, with other bytes in the store")
    else:
        result.checked_bytes += entry.size


def find_accepted(forgeries: dict[str, Forgery], read: Callable[[str, str], Row | None]) -> list[str]:
    """Return a sentence for each forgery that was accepted. `read` returns a track, or None for an unknown one."""
    with ThreadPoolExecutor(8) as pool:
        rows = pool.map(lambda item: read(item[1].session_id, item[0]), forgeries.items())
        return [
            f"{track_id[:8]}...: {forgery.description} is uploaded"
            for (track_id, forgery), row in zip(forgeries.items(), rows, strict=True)
            if row is not None and is_accepted(row, forgery.is_cover)
        ]


def is_accepted(row: Row, is_cover: bool) -> bool:
    """Return True where a track, or with `is_cover` its cover, is `uploaded`."""
    part = row["cover"] if is_cover else row
    return part is not None and part["status"] == "uploaded"


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
