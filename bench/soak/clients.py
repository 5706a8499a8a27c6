"""Clients that upload as good clients do: they try again what may pass, and believe nothing but an answer."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any
from uuid import uuid4

import urllib3
from minio.error import MinioException

from .ledger import CANCELLED, STORED, VERIFIED, Entry, Ledger, digest
from .stage import BUCKET, KEY, Stage

MIB = 2**20
PART = 5 * MIB
SMALL, BIG = (1024, MIB), (6 * MIB, 12 * MIB)
PATIENCE = 90.0
"""Seconds for which a client tries one thing again before it gives up."""
HOUR = 3600
AGAIN = {403, 408, 409, 429, 500, 502, 503, 504}


class GivenUp(Exception):
    """What was tried did not pass within PATIENCE, or the soak is over."""


class Refused(Exception):
    """An answer that no further try will change."""


class Uploader(threading.Thread):
    """One client. `clock_off` is how many seconds its clock is ahead; it sends that time as its Date."""

    def __init__(self, stage: Stage, ledger: Ledger, over: threading.Event, seed: int, clock_off: int, room: int):
        super().__init__(daemon=True)
        self.stage, self.ledger, self.over = stage, ledger, over
        self.dice, self.clock_off, self.room = random.Random(seed), clock_off, room
        self.noise = self.dice.randbytes(12 * MIB + 64)
        timeout = urllib3.Timeout(connect=5, read=20)
        self.pool = urllib3.PoolManager(maxsize=2, retries=False, timeout=timeout)
        self.bucket = stage.bucket()

    def run(self) -> None:
        """Upload one session after the other."""
        while not self.over.is_set():
            try:
                self.upload_session()
            except GivenUp as e:
                self.ledger.given_up[str(e)] += 1
            except Refused as e:
                self.ledger.lied(f"a right request was refused: {e}")

    # --- What a client does ------------------------------------------------------------------------------------------

    def upload_session(self) -> None:
        """Open a session, put tracks in it, and close it at times."""
        payload = {"collection_id": str(uuid4()), "expires_in": 86_400}
        session_id = self.ask("open a session", "POST", "/v1/upload_session", payload)["upload_session_id"]
        self.ledger.opened(session_id)
        kind = self.dice.choices(["one by one", "batch", "parts"], [10, 10, 1])[0]
        if kind == "batch":
            bodies = [self.make(*SMALL) for _ in range(self.dice.randint(5, 20))]
            self.batch(session_id, bodies)
        else:
            for _ in range(1 if kind == "parts" else self.dice.randint(1, 4)):
                self.one(session_id, self.make(*(BIG if kind == "parts" else SMALL)), kind == "parts")
        told = self.ask("read a session", "GET", f"/v1/upload_session/{session_id}")["upload_session"]
        if told["track_count"] < self.ledger.sessions[session_id]:
            self.ledger.lied(f"a session counts {told['track_count']} of {self.ledger.sessions[session_id]} tracks")
        if self.dice.random() < 0.5:
            self.ask("close a session", "POST", f"/v1/upload_session/{session_id}/close")

    def make(self, least: int, most: int) -> bytes:
        """Bytes that no other file has. Small ones once the room for them gets scarce."""
        if self.ledger.stored_bytes > self.room:
            least, most = 512, 4096
        size, start = self.dice.randint(least, most), self.dice.randint(0, 4096)
        return b"ID3" + uuid4().bytes + self.noise[start : start + size - 19]

    def payload(self, body: bytes, parts: bool = False) -> dict[str, Any]:
        """What is declared of a file: its size always, for parts that it comes in them, else mostly its checksum."""
        payload: dict[str, Any] = {"file_name": f"{self.dice.randint(1, 99):02} Soak.mp3", "file_size": len(body)}
        if parts:
            return {**payload, "multipart": True, "part_size": PART}
        if self.dice.random() < 0.7:
            payload["checksum_sha256"] = base64.b64encode(hashlib.sha256(body).digest()).decode()
        return {**payload, "write_once": self.dice.random() < 0.5}

    def one(self, session_id: str, body: bytes, parts: bool) -> None:
        """Register and send one track."""
        made = self.ask("register a track", "POST", f"/v1/upload/{session_id}/track", self.words(body, parts))
        self.enter(session_id, made, body)
        self.send(session_id, made, body)

    def batch(self, session_id: str, bodies: list[bytes]) -> None:
        """Register many, then send each."""
        payload = {"tracks": [self.words(body) for body in bodies]}
        made = self.ask("register a batch", "POST", f"/v1/upload/{session_id}/tracks", payload)["tracks"]
        for one, body in zip(made, bodies, strict=True):
            self.enter(session_id, one, body)
        for one, body in zip(made, bodies, strict=True):
            self.send(session_id, one, body)

    def enter(self, session_id: str, made: dict[str, Any], body: bytes) -> None:
        """The service has acknowledged a track."""
        entry = Entry(session_id, made["track"]["path"], hashlib.sha256(body).digest(), len(body))
        self.ledger.registered(made["track_id"], entry)

    def send(self, session_id: str, made: dict[str, Any], body: bytes) -> None:
        """Send the bytes and have them checked; cancel some instead."""
        there = f"/v1/upload/{session_id}/track/{made['track_id']}"
        if self.dice.random() < 0.02:
            self.ask("cancel", "DELETE", there)
            self.ledger.came_to(made["track_id"], CANCELLED)
            return
        if made["track_multipart_upload"]:
            self.put_parts(there, made["track_multipart_upload"], body)
        else:
            self.put(there, made, body)
        self.ledger.came_to(made["track_id"], STORED)
        track = self.ask("complete", "POST", f"{there}/complete")["track"]
        if track["status"] != "uploaded":
            self.ledger.lied(f"{made['track_id'][:8]}... is in the store, and is said to be {track['status']}")
            return
        self.ledger.came_to(made["track_id"], VERIFIED)
        if self.dice.random() < 0.1:
            self.look(made["track_id"], track["path"], body)

    def put(self, there: str, made: dict[str, Any], body: bytes) -> None:
        """Send a track in one PUT, by a fresh URL after each failure."""
        to, end = made["track_upload"], time.monotonic() + PATIENCE
        while True:
            status = self.store("PUT", to["upload_url"], to["headers"], body)
            # 412: a write-once PUT that arrived though its answer was lost.
            if status in (200, 412):
                return
            self.pause(end, "PUT")
            renewed = self.ask("renew", "POST", f"{there}/renew")["track_upload"]
            if renewed is None:
                # It had arrived, and somebody has looked meanwhile.
                return
            to = renewed

    def put_parts(self, there: str, upload: dict[str, Any], body: bytes) -> None:
        """Send a track in parts, each by a fresh URL after each failure."""
        for part in upload["parts"]:
            number, end = part["part_number"], time.monotonic() + PATIENCE
            piece = body[(number - 1) * PART : number * PART]
            while self.store("PUT", part["upload_url"], part["headers"], piece) != 200:
                self.pause(end, "PUT of a part")
                part = self.ask("sign parts", "POST", f"{there}/parts", {"part_numbers": [number]})["parts"][0]

    def look(self, track_id: str, path: str, body: bytes) -> None:
        """What is said to be uploaded must be there at that moment, as soon as the store answers."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                there = digest(self.bucket, BUCKET, path)
                break
            except (MinioException, urllib3.exceptions.HTTPError):
                self.pause(end, "look into the store")
        if there != (hashlib.sha256(body).digest(), len(body)):
            self.ledger.lied(f"{track_id[:8]}... was said to be uploaded, and is not what was sent")

    # --- How it asks -------------------------------------------------------------------------------------------------

    def ask(self, name: str, method: str, path: str, payload: Any = None) -> dict[str, Any]:
        """Ask the service until it answers; one Idempotency-Key for all tries. Raises GivenUp, Refused."""
        headers = {"Idempotency-Key": str(uuid4()), "Authorization": f"Bearer {KEY}", "Date": self.date()}
        body = None
        if payload is not None:
            body, headers["Content-Type"] = json.dumps(payload).encode(), "application/json"
        end = time.monotonic() + PATIENCE
        while True:
            began = time.monotonic()
            try:
                answer = self.pool.request(method, self.stage.origin + path, headers=headers, body=body)
            except urllib3.exceptions.HTTPError as e:
                self.ledger.failed("service", type(e).__name__)
                self.pause(end, name)
                continue
            if answer.status == 200:
                self.ledger.answered(name, time.monotonic() - began)
                return dict(json.loads(answer.data))
            code = code_of(answer.data)
            if answer.status >= 500:
                self.ledger.failed("service", f"{answer.status} {code}")
            elif answer.status not in AGAIN:
                raise Refused(f"{name}: {answer.status} {code}")
            self.pause(end, name)

    def store(self, method: str, url: str, headers: dict[str, str], body: bytes) -> int:
        """Ask the store once; the status, or 0 where there was no answer."""
        began = time.monotonic()
        try:
            answer = self.pool.request(method, url, headers={**headers, "Date": self.date()}, body=body)
        except urllib3.exceptions.HTTPError as e:
            self.ledger.failed("store", type(e).__name__)
            return 0
        if answer.status == 200:
            self.ledger.answered("PUT to the store", time.monotonic() - began)
        else:
            self.ledger.failed("store", str(answer.status))
        return answer.status

    def pause(self, end: float, what: str) -> None:
        """Wait a moment before the next try. Raises GivenUp."""
        if time.monotonic() > end:
            raise GivenUp(what)
        time.sleep(self.dice.uniform(0.1, 1.0))

    def date(self) -> str:
        """The time, as this client has it."""
        return formatdate(time.time() + self.clock_off, usegmt=True)


def code_of(body: bytes) -> str:
    """The word for programs in an error's answer; `no JSON` where it is none of the service's."""
    try:
        return str(json.loads(body)["code"])
    except (ValueError, KeyError, TypeError):
        return "no JSON"


def session_tracks(stage: Stage, session_id: str) -> Iterator[dict[str, Any]]:
    """All tracks of a session, as the service tells of them."""
    pool = urllib3.PoolManager(timeout=30.0)
    offset, headers = 0, {"Authorization": f"Bearer {KEY}"}
    while True:
        url = f"{stage.origin}/v1/upload/{session_id}/track?limit=200&offset={offset}"
        answer = pool.request("GET", url, headers=headers)
        if answer.status != 200:
            raise SystemExit(f"The audit cannot read a session: {answer.status} {code_of(answer.data)}")
        found = json.loads(answer.data)["tracks"]
        yield from found
        if len(found) < 200:
            return
        offset += 200


def complete_again(stage: Stage, session_id: str, track_id: str) -> dict[str, Any] | None:
    """What the service says of a track that it is to check once more; None where it does not find the bytes."""
    pool = urllib3.PoolManager(timeout=30.0)
    url = f"{stage.origin}/v1/upload/{session_id}/track/{track_id}/complete"
    answer = pool.request("POST", url, headers={"Authorization": f"Bearer {KEY}"})
    if answer.status not in (200, 409):
        raise SystemExit(f"The audit cannot complete a track: {answer.status} {code_of(answer.data)}")
    return dict(json.loads(answer.data)["track"]) if answer.status == 200 else None
