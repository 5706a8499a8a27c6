"""The ledger of everything that the service has promised, and the audit against the state at the end."""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from minio import Minio
from minio.error import S3Error

REGISTERED, STORED, VERIFIED, CANCELLED = "registered", "stored", "verified", "cancelled"
NO_FAULT = "no fault"

Digest = tuple[bytes, int]
"""The SHA-256 and the size of an object."""


@dataclass(slots=True)
class Entry:
    """A track that the service has acknowledged, and the state that its client has reached with it."""

    session_id: str
    path: str
    sha256: bytes
    size: int
    state: str = REGISTERED


@dataclass
class Ledger:
    """The record of all clients, safe for threads. `fault` is the fault at present, which failures are put down to."""

    fault: str = NO_FAULT
    tracks: dict[str, Entry] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)
    causes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    latencies: dict[tuple[str, str], array[float]] = field(default_factory=lambda: defaultdict(lambda: array("f")))
    violations: list[str] = field(default_factory=list)
    retries_exhausted: Counter[str] = field(default_factory=Counter)
    stored_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add_session(self, session_id: str) -> None:
        """Record a session that the service has acknowledged."""
        with self.lock:
            self.sessions[session_id] = 0

    def add_track(self, track_id: str, entry: Entry) -> None:
        """Record a track that the service has acknowledged."""
        with self.lock:
            if track_id in self.tracks:
                self.violations.append(f"the id {track_id[:8]}... is not unique")
            self.tracks[track_id] = entry
            self.sessions[entry.session_id] += 1

    def set_state(self, track_id: str, state: str) -> None:
        """Record that a track has reached a state."""
        with self.lock:
            entry = self.tracks[track_id]
            self.stored_bytes += entry.size if state == STORED else 0
            entry.state = state

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
CompleteTrack = Callable[[str, str], Row | None]
Finding = tuple[str, Entry, Row | None, Digest | None]
"""A track's id, its entry, the service's row, and the digest of the object in the store."""


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
        rows = {row["id"]: row for row in self.fetch(session_id)}
        findings = [
            self.track(track_id, entry, rows.pop(track_id, None)) for track_id, entry in self.by_session[session_id]
        ]
        # These rows belong to requests whose responses were lost: no client knows of them, and they expire.
        self.result.unacknowledged += len(rows)
        self.result.uploaded.update(track_id for track_id, row in rows.items() if row["status"] == "uploaded")
        return findings

    def track(self, track_id: str, entry: Entry, row: Row | None) -> Finding:
        """Return the finding of one track. One that is stored but not verified yet is verified first."""
        if row is not None and entry.state == STORED and row["status"] != "uploaded":
            self.result.completed += 1
            row = self.complete(entry.session_id, track_id) or row
        uploaded = row is not None and row["status"] == "uploaded"
        return track_id, entry, row, object_digest(self.client, self.bucket, row["path"]) if row and uploaded else None


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
                judge(auditor.result, *finding)
            if number % 100 == 0:
                report(f"{number:,} of {len(ledger.sessions):,} sessions")
    return auditor.result


def judge(result: Audit, track_id: str, entry: Entry, row: Row | None, stored: Digest | None) -> None:
    """Add one track to the result, as lost or as a violation where it is either."""
    label = f"{track_id[:8]}... ({entry.state}, {entry.size} bytes)"
    if row is None:
        result.lost.append(f"{label}: no row")
        return
    status = row["status"]
    result.statuses[status] += 1
    if entry.state in (STORED, VERIFIED) and status != "uploaded":
        result.lost.append(f"{label}: stored, and is {status} now")
    if status == "uploaded":
        judge_object(result, track_id, entry, label, stored)
    if entry.state == CANCELLED and status != "cancelled":
        result.violations.append(f"{label}: cancelled, and is {status} now")


def judge_object(result: Audit, track_id: str, entry: Entry, label: str, stored: Digest | None) -> None:
    """Add the object of an uploaded track to the result."""
    result.uploaded.add(track_id)
    result.checked += 1
    if stored is None:
        result.lost.append(f"{label}: uploaded, and not in the store")
    elif stored != (entry.sha256, entry.size):
        result.violations.append(f"{label}: uploaded, with other bytes in the store")
    else:
        result.checked_bytes += entry.size


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
