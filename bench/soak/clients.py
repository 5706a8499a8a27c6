"""Clients that upload as good clients do: they retry transient failures and rely on responses alone."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any, Protocol
from uuid import uuid4

import urllib3
from minio import Minio
from minio.error import MinioException

from ..audio import wav_header
from .deployment import API_KEY, BUCKET
from .ledger import CANCELLED, NEVER, STORED, VERIFIED, Entry, Interval, Ledger, object_digest

MIB = 2**20
PART_SIZE = 5 * MIB
SINGLE, BATCH, MULTIPART = "single", "batch", "multipart"
SMALL, LARGE = (1024, MIB), (6 * MIB, 12 * MIB)
RETRY_TIMEOUT = 90.0
"""Seconds until a client gives up on an operation."""
LEASE_TIMEOUT = 180.0
"""Seconds for which the audit waits for the lease of a verification, which a clock may have set a minute too late."""

HOUR = 3600
RETRYABLE_STATUSES = {403, 408, 409, 429, 500, 502, 503, 504}


class RetriesExhausted(Exception):
    """An operation did not succeed within RETRY_TIMEOUT."""


class RequestRejected(Exception):
    """A response that no retry will change."""


class ForgottenByBackup(Exception):
    """The service does not know what it had acknowledged before its database was restored from a backup."""


class Target(Protocol):
    """A deployment that clients upload to."""

    origin: str

    def store_client(self) -> Minio:
        """Return a client of the store with the service's own credentials."""
        ...


class Client(threading.Thread):
    """A client with retries. Its Date headers are `clock_offset` seconds ahead.

    `interval` is that of its last successful request.
    """

    def __init__(self, deployment: Target, ledger: Ledger, stop: threading.Event, seed: int, clock_offset: int = 0):
        super().__init__(daemon=True)
        self.deployment, self.ledger, self.stop = deployment, ledger, stop
        self.random, self.clock_offset, self.interval = random.Random(seed), clock_offset, NEVER
        timeout = urllib3.Timeout(connect=5, read=20)
        self.pool = urllib3.PoolManager(maxsize=2, retries=False, timeout=timeout)
        self.store_client = deployment.store_client()

    def run(self) -> None:
        """Do one thing after another until `stop` is set."""
        while not self.stop.is_set():
            try:
                self.work()
            except RetriesExhausted as e:
                self.ledger.retries_exhausted[str(e)] += 1
            except ForgottenByBackup:
                self.ledger.abandoned += 1
            except RequestRejected as e:
                self.ledger.add_violation(f"a valid request was rejected: {e}")

    def work(self) -> None:
        """Do one thing."""
        raise NotImplementedError

    def request(self, name: str, method: str, path: str, payload: Any = None) -> dict[str, Any]:
        """Send a request to the service, with retries under one Idempotency-Key; return the JSON of the response.

        Raises RetriesExhausted, RequestRejected, ForgottenByBackup.
        """
        headers = {"Idempotency-Key": str(uuid4()), "Authorization": f"Bearer {API_KEY}", "Date": self.date()}
        body = None
        if payload is not None:
            body, headers["Content-Type"] = json.dumps(payload).encode(), "application/json"
        deadline = time.monotonic() + RETRY_TIMEOUT
        while True:
            start = time.monotonic()
            try:
                response = self.pool.request(method, self.deployment.origin + path, headers=headers, body=body)
            except urllib3.exceptions.HTTPError as e:
                self.ledger.add_failure("service", type(e).__name__)
                self.backoff(deadline, name)
                continue
            if response.status == 200:
                self.interval = start, time.monotonic()
                self.ledger.add_latency(name, self.interval[1] - start)
                return dict(json.loads(response.data))
            code = error_code(response.data)
            self.ledger.add_status(name, response.status, code, start)
            if response.status == 404 and self.ledger.names_forgettable(path):
                raise ForgottenByBackup
            if response.status >= 500:
                self.ledger.add_failure("service", f"{response.status} {code}")
            elif response.status not in RETRYABLE_STATUSES:
                raise RequestRejected(f"{name}: {response.status} {code}")
            self.backoff(deadline, name)

    def send_to_store(self, url: str, headers: dict[str, str], body: bytes) -> int:
        """Send a PUT to the store once; return the status, or 0 without a response."""
        start = time.monotonic()
        try:
            response = self.pool.request("PUT", url, headers={**headers, "Date": self.date()}, body=body)
        except urllib3.exceptions.HTTPError as e:
            self.ledger.add_failure("store", type(e).__name__)
            return 0
        if response.status == 200:
            self.ledger.add_latency("PUT to the store", time.monotonic() - start)
        else:
            self.ledger.add_failure("store", str(response.status))
        return response.status

    def backoff(self, deadline: float, operation: str) -> None:
        """Wait before a retry. Raises RetriesExhausted after `deadline`."""
        if time.monotonic() > deadline:
            raise RetriesExhausted(operation)
        time.sleep(self.random.uniform(0.1, 1.0))

    def date(self) -> str:
        """Return the time of this client's clock, for a Date header."""
        return formatdate(time.time() + self.clock_offset, usegmt=True)


class Uploader(Client):
    """A client that uploads sessions, with `pause` seconds between them. It stores at most about `max_bytes`."""

    def __init__(
        self,
        deployment: Target,
        ledger: Ledger,
        stop: threading.Event,
        seed: int,
        *,
        max_bytes: int,
        clock_offset: int = 0,
        pause: float = 0,
    ):
        super().__init__(deployment, ledger, stop, seed, clock_offset)
        self.max_bytes, self.pause = max_bytes, pause
        self.padding = self.random.randbytes(12 * MIB + 64)
        self.registered: list[Interval] = []

    def work(self) -> None:
        """Upload one session."""
        self.upload_session()
        self.stop.wait(self.pause)

    def upload_session(self) -> None:
        """Open a session, upload tracks to it, and close it half of the time."""
        payload = {"collection_id": str(uuid4()), "expires_in": 86_400}
        session_id = self.request("open a session", "POST", "/v1/upload_session", payload)["upload_session_id"]
        self.ledger.add_session(session_id, self.interval)
        self.registered.clear()
        kind = self.random.choices([SINGLE, BATCH, MULTIPART], [10, 10, 1])[0]
        if kind == BATCH:
            self.upload_batch(session_id, [self.make_file(*SMALL) for _ in range(self.random.randint(5, 20))])
        elif kind == MULTIPART:
            self.upload_track(session_id, self.make_file(*LARGE), multipart=True)
        else:
            for _ in range(self.random.randint(1, 4)):
                self.upload_track(session_id, self.make_file(*SMALL))
        session = self.request("read a session", "GET", f"/v1/upload_session/{session_id}")["upload_session"]
        expected = sum(not self.ledger.is_forgettable(interval) for interval in self.registered)
        if session["track_count"] < expected:
            self.ledger.add_violation(f"a session counts {session['track_count']} of {expected} tracks")
        if self.random.random() < 0.5:
            self.request("close a session", "POST", f"/v1/upload_session/{session_id}/close")

    def make_file(self, min_size: int, max_size: int) -> bytes:
        """Return the bytes of a new file, all of them different; a small one once `max_bytes` are stored."""
        if self.ledger.stored_bytes > self.max_bytes:
            min_size, max_size = 512, 4096
        size, start = self.random.randint(min_size, max_size), self.random.randint(0, 4096)
        header = wav_header(size)
        return header + uuid4().bytes + self.padding[start : start + size - len(header) - 16]

    def declare(self, body: bytes, multipart: bool = False) -> dict[str, Any]:
        """Return the payload that registers a file: its size, and for most single PUTs its checksum."""
        payload: dict[str, Any] = {"file_name": f"{self.random.randint(1, 99):02} Soak.mp3", "file_size": len(body)}
        if multipart:
            return {**payload, "multipart": True, "part_size": PART_SIZE}
        if self.random.random() < 0.7:
            payload["checksum_sha256"] = base64.b64encode(hashlib.sha256(body).digest()).decode()
        return {**payload, "write_once": self.random.random() < 0.5}

    def upload_track(self, session_id: str, body: bytes, multipart: bool = False) -> None:
        """Register and upload one track."""
        path, payload = f"/v1/upload/{session_id}/track", self.declare(body, multipart)
        upload = self.request("register a track", "POST", path, payload)
        self.add_to_ledger(session_id, upload, body)
        self.send(session_id, upload, body)

    def upload_batch(self, session_id: str, bodies: list[bytes]) -> None:
        """Register many tracks in one request, then upload each."""
        payload = {"tracks": [self.declare(body) for body in bodies]}
        uploads = self.request("register a batch", "POST", f"/v1/upload/{session_id}/tracks", payload)["tracks"]
        for upload, body in zip(uploads, bodies, strict=True):
            self.add_to_ledger(session_id, upload, body)
        for upload, body in zip(uploads, bodies, strict=True):
            self.send(session_id, upload, body)

    def add_to_ledger(self, session_id: str, upload: dict[str, Any], body: bytes) -> None:
        """Record that the service has acknowledged a track."""
        digest, path = hashlib.sha256(body).digest(), upload["track"]["path"]
        entry = Entry(session_id, path, digest, len(body), registered=self.interval)
        self.registered.append(self.interval)
        self.ledger.add_track(upload["track_id"], entry)

    def send(self, session_id: str, upload: dict[str, Any], body: bytes) -> None:
        """Upload the bytes and have them verified; cancel a few tracks instead."""
        track_path = f"/v1/upload/{session_id}/track/{upload['track_id']}"
        if self.random.random() < 0.02:
            self.request("cancel", "DELETE", track_path)
            self.ledger.set_state(upload["track_id"], CANCELLED, self.interval)
            return
        start = time.monotonic()
        if upload["track_multipart_upload"]:
            self.put_parts(track_path, upload["track_multipart_upload"], body)
        else:
            self.put(track_path, upload["track_upload"], body)
        self.ledger.set_state(upload["track_id"], STORED, (start, time.monotonic()))
        track = self.complete_track(track_path)
        if track["status"] != "uploaded":
            self.ledger.add_violation(f"{upload['track_id'][:8]}... is in the store with status {track['status']}")
            return
        self.ledger.set_state(upload["track_id"], VERIFIED, self.interval)
        if self.random.random() < 0.1:
            self.check_object(upload["track_id"], track["path"], body)

    def complete_track(self, track_path: str) -> dict[str, Any]:
        """Complete a track until it is decided; return it."""
        deadline = time.monotonic() + RETRY_TIMEOUT
        while True:
            track = dict(self.request("complete", "POST", f"{track_path}/complete")["track"])
            if track["status"] != "verifying":
                return track
            self.backoff(deadline, "complete (verifying)")

    def put(self, track_path: str, target: dict[str, Any], body: bytes) -> None:
        """Upload a track in one PUT, with a new URL after each failure."""
        deadline = time.monotonic() + RETRY_TIMEOUT
        while True:
            status = self.send_to_store(target["upload_url"], target["headers"], body)
            # 412: a write-once PUT that arrived although its response was lost.
            if status in (200, 412):
                return
            self.backoff(deadline, "PUT")
            renewed = self.request("renew", "POST", f"{track_path}/renew")["track_upload"]
            if renewed is None:
                # It had arrived and was verified meanwhile.
                return
            target = renewed

    def put_parts(self, track_path: str, upload: dict[str, Any], body: bytes) -> None:
        """Upload a track in parts, each with a new URL after a failure."""
        for part in upload["parts"]:
            number, deadline = part["part_number"], time.monotonic() + RETRY_TIMEOUT
            chunk, payload = body[(number - 1) * PART_SIZE : number * PART_SIZE], {"part_numbers": [number]}
            while self.send_to_store(part["upload_url"], part["headers"], chunk) != 200:
                self.backoff(deadline, "PUT of a part")
                part = self.request("sign parts", "POST", f"{track_path}/parts", payload)["parts"][0]

    def check_object(self, track_id: str, path: str, body: bytes) -> None:
        """Check that an uploaded track is in the store at this moment, or as soon as the store responds."""
        deadline = time.monotonic() + RETRY_TIMEOUT
        while True:
            try:
                stored = object_digest(self.store_client, BUCKET, path)
                break
            except (MinioException, urllib3.exceptions.HTTPError):
                self.backoff(deadline, "read an object")
        if stored != (hashlib.sha256(body).digest(), len(body)):
            self.ledger.add_violation(f"{track_id[:8]}... is uploaded with other bytes")


def error_code(body: bytes) -> str:
    """Return the `code` of an error response, or `no JSON` if the response is not the service's."""
    try:
        return str(json.loads(body)["code"])
    except (ValueError, KeyError, TypeError):
        return "no JSON"


def iter_session_tracks(deployment: Target, session_id: str) -> Iterator[dict[str, Any]]:
    """Yield all tracks of a session as the service lists them. Raises LookupError for an unknown session."""
    pool = urllib3.PoolManager(timeout=30.0)
    offset, headers = 0, {"Authorization": f"Bearer {API_KEY}"}
    while True:
        url = f"{deployment.origin}/v1/upload/{session_id}/track?limit=200&offset={offset}"
        response = pool.request("GET", url, headers=headers)
        if response.status == 404:
            raise LookupError(session_id)
        if response.status != 200:
            raise SystemExit(f"The audit cannot list a session: {response.status} {error_code(response.data)}")
        page = json.loads(response.data)["tracks"]
        yield from page
        if len(page) < 200:
            return
        offset += 200


def complete_track(deployment: Target, session_id: str, track_id: str) -> dict[str, Any] | None:
    """Verify a track once more; return it once it is decided, or None if the service does not find the bytes."""
    pool, deadline = urllib3.PoolManager(timeout=30.0), time.monotonic() + LEASE_TIMEOUT
    url = f"{deployment.origin}/v1/upload/{session_id}/track/{track_id}/complete"
    while True:
        response = pool.request("POST", url, headers={"Authorization": f"Bearer {API_KEY}"})
        if response.status not in (200, 409):
            raise SystemExit(f"The audit cannot complete a track: {response.status} {error_code(response.data)}")
        track = dict(json.loads(response.data)["track"]) if response.status == 200 else None
        if track is None or track["status"] != "verifying" or time.monotonic() > deadline:
            return track
        time.sleep(1)


def read_track(deployment: Target, session_id: str, track_id: str) -> dict[str, Any] | None:
    """Return a track as the service knows it, or None for an unknown one."""
    url = f"{deployment.origin}/v1/upload/{session_id}/track/{track_id}"
    response = urllib3.PoolManager(timeout=30.0).request("GET", url)
    if response.status not in (200, 404):
        raise SystemExit(f"The audit cannot read a track: {response.status} {error_code(response.data)}")
    return dict(json.loads(response.data)["track"]) if response.status == 200 else None
