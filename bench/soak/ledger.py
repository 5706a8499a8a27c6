"""What was promised, and by whom: kept by the clients, and held against what is there in the end."""

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
QUIET = "nothing"


@dataclass(slots=True)
class Entry:
    """A track that the service has acknowledged, and how far its client has come with it."""

    session_id: str
    path: str
    sha256: bytes
    size: int
    state: str = REGISTERED


@dataclass
class Ledger:
    """Filled in by all clients at once. `fault` is what is wrong at present, for causes."""

    fault: str = QUIET
    tracks: dict[str, Entry] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)
    causes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    seconds: dict[tuple[str, str], array[float]] = field(default_factory=lambda: defaultdict(lambda: array("f")))
    lies: list[str] = field(default_factory=list)
    given_up: Counter[str] = field(default_factory=Counter)
    stored_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def opened(self, session_id: str) -> None:
        """The service has acknowledged a session."""
        with self.lock:
            self.sessions[session_id] = 0

    def registered(self, track_id: str, entry: Entry) -> None:
        """The service has acknowledged a track."""
        with self.lock:
            if track_id in self.tracks:
                self.lies.append(f"the id {track_id[:8]}... was given twice")
            self.tracks[track_id] = entry
            self.sessions[entry.session_id] += 1

    def came_to(self, track_id: str, state: str) -> None:
        """A track has come so far."""
        with self.lock:
            entry = self.tracks[track_id]
            self.stored_bytes += entry.size if state == STORED else 0
            entry.state = state

    def lied(self, what: str) -> None:
        """The service has said what was not so."""
        with self.lock:
            self.lies.append(what)

    def answered(self, name: str, seconds: float) -> None:
        """A request was answered as it should be."""
        with self.lock:
            self.requests[name] += 1
            self.seconds[name, self.fault].append(seconds)

    def failed(self, who: str, how: str) -> None:
        """A request was not answered, or by a failure."""
        with self.lock:
            self.causes[who, how, self.fault] += 1

    def count(self, *states: str) -> int:
        """How many tracks have come so far."""
        with self.lock:
            return sum(entry.state in states for entry in self.tracks.values())


Row = dict[str, Any]
Fetch = Callable[[str], Iterator[Row]]
Complete = Callable[[str, str], Row | None]


@dataclass
class Audit:
    """What was found in the end. `lost` and `lied` must be empty."""

    lost: list[str] = field(default_factory=list)
    lied: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    uploaded: set[str] = field(default_factory=set)
    completed: int = 0
    events: int = 0
    extra: int = 0
    checked: int = 0
    checked_bytes: int = 0


def digest(bucket: Minio, name: str, path: str) -> tuple[bytes, int] | None:
    """The SHA-256 and the size of an object; None where there is none."""
    try:
        answer = bucket.get_object(name, path)
    except S3Error as e:
        if e.code == "NoSuchKey":
            return None
        raise
    try:
        found, size = hashlib.sha256(), 0
        for piece in answer.stream(1 << 20):
            found.update(piece)
            size += len(piece)
        return found.digest(), size
    finally:
        answer.close()
        answer.release_conn()


def audit(
    ledger: Ledger, fetch: Fetch, complete: Complete, bucket: Minio, name: str, tell: Callable[[int, int], None]
) -> Audit:
    """Hold every promise against the service's rows (`fetch` reads a session's tracks) and the store's bytes.

    What the store has taken, and nobody has had checked yet, is checked now, by `complete`.
    """
    found, done = Audit(lied=list(ledger.lies)), 0
    by_session: dict[str, list[tuple[str, Entry]]] = defaultdict(list)
    for track_id, entry in ledger.tracks.items():
        by_session[entry.session_id].append((track_id, entry))

    def final(track_id: str, entry: Entry, row: Row | None) -> Row | None:
        if row is None or entry.state != STORED or row["status"] == "uploaded":
            return row
        found.completed += 1
        return complete(entry.session_id, track_id) or row

    def session(session_id: str) -> list[tuple[str, Entry, Row | None, tuple[bytes, int] | None]]:
        rows = {track["id"]: track for track in fetch(session_id)}
        mine = by_session[session_id]
        with_rows = [(track_id, entry, final(track_id, entry, rows.pop(track_id, None))) for track_id, entry in mine]
        found.extra += len(rows)
        found.uploaded.update(id_ for id_, row in rows.items() if row["status"] == "uploaded")
        return [
            (track_id, entry, row, digest(bucket, name, row["path"]) if row and row["status"] == "uploaded" else None)
            for track_id, entry, row in with_rows
        ]

    with ThreadPoolExecutor(8) as pool:
        for checked in pool.map(session, ledger.sessions):
            for track_id, entry, row, there in checked:
                judge(found, track_id, entry, row, there)
            done += 1
            if done % 100 == 0:
                tell(done, len(ledger.sessions))
    return found


def judge(found: Audit, track_id: str, entry: Entry, row: Row | None, there: tuple[bytes, int] | None) -> None:
    """What is to be said of one track."""
    label = f"{track_id[:8]}... ({entry.state}, {entry.size} bytes)"
    if row is None:
        found.lost.append(f"{label}: no row")
        return
    status = row["status"]
    found.statuses[status] += 1
    if entry.state in (STORED, VERIFIED) and status != "uploaded":
        found.lost.append(f"{label}: was sent, and is {status} now")
    if status == "uploaded":
        found.uploaded.add(track_id)
        found.checked += 1
        if there is None:
            found.lost.append(f"{label}: uploaded, and not in the store")
        elif there != (entry.sha256, entry.size):
            found.lied.append(f"{label}: uploaded, and other bytes are in the store")
        else:
            found.checked_bytes += entry.size
    if entry.state == CANCELLED and status != "cancelled":
        found.lied.append(f"{label}: was cancelled, and is {status} now")


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which so large a share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
