"""Hostile clients: what they do must do no harm, neither to the service nor to the other clients.

Each attack has an expected outcome: never a 500, no other 5xx while there is no fault, and nothing `uploaded` that is
not what was declared. Everything else of the outcome is only counted.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import urllib3
from minio.error import MinioException

from .clients import Client, ForgottenByBackup, error_code
from .deployment import API_KEY, BUCKET, Deployment
from .hostile_inputs import HostileFile, hostile_file, hostile_picture, hostile_request, raw_request, wav
from .ledger import Forgery, Ledger, is_accepted, object_digest, sha256_digest

DRIPS, DRIP_BYTES, DRIP_SECONDS = 8, 8, 0.5
"""Slow requests at once, and the bytes of each that are sent after each pause."""

TIMEOUT = 20.0
TRACKS_PER_SESSION = 50
SENDER_HEADERS = ("content-encoding", "content-disposition", "cache-control", "content-language", "expires")

NO_RESPONSE = 0


class Answer(NamedTuple):
    """The status of a response, or NO_RESPONSE, and its body."""

    status: int
    body: bytes = b""

    @property
    def outcome(self) -> str:
        """Status and code, for the report."""
        if self.status == NO_RESPONSE:
            return "no response"
        return str(self.status) if self.status < 400 else f"{self.status} {error_code(self.body)}"


class HostileClient(Client):
    """A client that attacks the service and the store."""

    def __init__(self, deployment: Deployment, ledger: Ledger, stop: threading.Event, seed: int):
        super().__init__(deployment, ledger, stop, seed)
        self.port, self.session_id, self.tracks_left = deployment.port, "", 0

    def work(self) -> None:
        """Attack once."""
        if self.tracks_left <= 0:
            self.open_session()
        self.tracks_left -= 1
        try:
            self.random.choice(ATTACKS)(self)
        except ForgottenByBackup:
            self.tracks_left = 0
            raise
        self.stop.wait(self.random.uniform(0, 0.2))

    def open_session(self) -> None:
        """Open the session for the next tracks."""
        payload = {"collection_id": str(uuid4()), "expires_in": 86_400}
        self.session_id = self.request("open a session", "POST", "/v1/upload_session", payload)["upload_session_id"]
        self.ledger.hostile_sessions[self.session_id] = self.interval
        self.tracks_left = TRACKS_PER_SESSION

    # --- Files and covers --------------------------------------------------------------------------------------------

    def send_hostile_file(self) -> None:
        """Upload a file that is not what it is declared to be, or with headers that it must not have."""
        file = hostile_file(self.random)
        upload = self.register(file.payload)
        if not file.may_pass:
            self.ledger.add_forgery(upload["track_id"], Forgery(self.session_id, file.name))
        target = upload["track_upload"]
        # The length that is sent is that of the file, whatever was declared.
        headers = {name: value for name, value in target["headers"].items() if name != "Content-Length"}
        self.send_to_store(target["upload_url"], {**file.headers, **headers}, file.body)
        track = self.complete(upload["track_id"], f"file: {file.name}")
        if track is not None and is_accepted(track, is_cover=False):
            self.check_accepted_file(track, file)

    def check_accepted_file(self, track: Mapping[str, Any], file: HostileFile) -> None:
        """Record a violation where a file was accepted that is not the one that was sent, or has its headers."""
        if not file.may_pass:
            self.ledger.add_violation(f"{track['id'][:8]}...: {file.name} is uploaded")
            return
        with suppress(MinioException, urllib3.exceptions.HTTPError):
            info = self.store_client.stat_object(BUCKET, track["path"])
            headers = {name for name in (info.metadata or {}) if name.lower() in SENDER_HEADERS}
            if headers:
                self.ledger.add_violation(f"{track['id'][:8]}...: {file.name} is uploaded with {', '.join(headers)}")
            if object_digest(self.store_client, BUCKET, track["path"]) != sha256_digest(file.body):
                self.ledger.add_violation(f"{track['id'][:8]}...: {file.name} is uploaded with other bytes")

    def send_hostile_cover(self) -> None:
        """Upload a cover that is no picture, or one that nobody can show, for a good track."""
        picture, body = hostile_picture(self.random), wav(self.random, 2000)
        upload = self.register({"file_name": "good.wav", "cover_fields": self.random.random() < 0.5})
        track_id, cover = upload["track_id"], upload["track_cover_upload"]
        if not picture.may_pass:
            self.ledger.add_forgery(track_id, Forgery(self.session_id, f"{picture.name} as a cover", is_cover=True))
        self.send_to_store(upload["track_upload"]["upload_url"], upload["track_upload"]["headers"], body)
        form = {**cover["fields"], "file": ("cover.jpg", picture.body, picture.content_type)}
        self.send("cover sent", cover["method"], cover["upload_url"], fields=form)
        track = self.complete(track_id, f"cover: {picture.name}")
        if track is not None and is_accepted(track, is_cover=True) and not picture.may_pass:
            self.ledger.add_violation(f"{track_id[:8]}...: {picture.name} is uploaded as a cover")

    def register(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Register a track as a good client does."""
        return self.request("register a track", "POST", f"/v1/upload/{self.session_id}/track", dict(payload))

    def complete(self, track_id: str, name: str) -> dict[str, Any] | None:
        """Complete a track; return it, or None where the response is an error."""
        path = f"/v1/upload/{self.session_id}/track/{track_id}/complete"
        answer = self.send(None, "POST", self.deployment.origin + path)
        track = dict(json.loads(answer.body)["track"]) if answer.status == 200 else None
        part = track["cover"] if track is not None and name.startswith("cover") else track
        outcome = answer.outcome if track is None else str(part["status"]) if part is not None else "no cover"
        self.ledger.add_attack(name, outcome)
        return track

    def send(self, name: str | None, method: str, url: str, **options: Any) -> Answer:
        """Send a request once, and judge the status if it is the service's. It is counted under `name`."""
        start = time.monotonic()
        try:
            response = self.pool.request(method, url, **options)
        except urllib3.exceptions.HTTPError:
            answer = Answer(NO_RESPONSE)
        else:
            answer = Answer(response.status, response.data)
        if url.startswith(self.deployment.origin):
            self.judge(name or "complete", answer, start)
        if name is not None:
            self.ledger.add_attack(name, answer.outcome)
        return answer

    def judge(self, name: str, answer: Answer, start: float) -> None:
        """Record a violation where the service's response must not be."""
        self.ledger.add_status(f"hostile: {name}", answer.status, error_code(answer.body), start)

    # --- Requests and connections ------------------------------------------------------------------------------------

    def send_hostile_request(self) -> None:
        """Send a request that is odd in its body, its headers or its path."""
        request = hostile_request(self.random, self.session_id, API_KEY)
        self.exchange(f"request: {request.name}", request.data)

    def drip_slowly(self) -> None:
        """Send valid requests at once, each a few bytes after the other."""
        body = json.dumps({"file_name": "slow.mp3"}).encode()
        data = raw_request("POST", f"/v1/upload/{self.session_id}/track", {}, body)
        connections = [self.connect() for _ in range(DRIPS)]
        for offset in range(0, len(data), DRIP_BYTES):
            for connection in connections:
                with suppress(OSError):
                    connection.sendall(data[offset : offset + DRIP_BYTES])
            if self.stop.wait(DRIP_SECONDS):
                break
        start = time.monotonic()
        for connection in connections:
            answer = read_answer(connection)
            self.judge("slow request", answer, start)
            self.ledger.add_attack("slow request", answer.outcome)

    def close_half(self) -> None:
        """Send a part of a request, or all of it, and close the sending half of the connection."""
        data = self.registration()
        cut = self.random.choice((0, 10, len(data) // 2, len(data) - 1, len(data)))
        self.exchange("half-closed connection", data[:cut], half_close=True)

    def reset_while_reading(self) -> None:
        """Reset the connection after some bytes of a large response."""
        tracks = {"tracks": [{"file_name": f"{number}.mp3"} for number in range(self.random.choice((1, 100)))]}
        connection = self.connect()
        with suppress(OSError), connection:
            path = f"/v1/upload/{self.session_id}/tracks"
            connection.sendall(raw_request("POST", path, {}, json.dumps(tracks).encode()))
            size = self.random.choice((0, 1, 100, 5000))
            if size:
                connection.recv(size)
            reset(connection)
        self.ledger.add_attack("connection reset", "not read")

    def break_off_upload(self) -> None:
        """Send a part of a file to the store, and close the connection in one way or the other."""
        body = wav(self.random, 100_000)
        upload = self.register({"file_name": "broken.wav"})
        self.ledger.add_forgery(upload["track_id"], Forgery(self.session_id, "a part of a file"))
        url = urlsplit(upload["track_upload"]["upload_url"])
        headers = {"Host": url.netloc, **upload["track_upload"]["headers"], "Content-Length": str(len(body))}
        data = raw_request("PUT", f"{url.path}?{url.query}", headers)
        with suppress(OSError), socket.create_connection((str(url.hostname), url.port or 80), TIMEOUT) as connection:
            connection.sendall(data + body[: self.random.randrange(len(body))])
            if self.random.random() < 0.5:
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1000)
            else:
                reset(connection)
        track = self.complete(upload["track_id"], "file: broken off")
        if track is not None and is_accepted(track, is_cover=False):
            self.ledger.add_violation(f"{track['id'][:8]}...: a part of a file is uploaded")

    def registration(self) -> bytes:
        """Return the request that registers a track."""
        return raw_request("POST", f"/v1/upload/{self.session_id}/track", {}, b'{"file_name": "a.mp3"}')

    def connect(self) -> socket.socket:
        """Connect to the service, through nginx; a refused connection is one that reads and writes nothing."""
        try:
            return socket.create_connection(("127.0.0.1", self.port), TIMEOUT)
        except OSError:
            return socket.socket()

    def exchange(self, name: str, data: bytes, *, half_close: bool = False) -> None:
        """Send the bytes of a request, and judge and count the response."""
        start, connection = time.monotonic(), self.connect()
        # A server may respond, and close, before it has read all.
        with suppress(OSError):
            connection.sendall(data)
        if half_close:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        answer = read_answer(connection)
        self.judge(name, answer, start)
        self.ledger.add_attack(name, answer.outcome)


def read_answer(connection: socket.socket) -> Answer:
    """Read a response until the connection is closed, and close it."""
    data = b""
    with connection, suppress(OSError):
        while chunk := connection.recv(65_536):
            data += chunk
    while data.startswith(b"HTTP/1.1 1"):
        # An interim response (RFC 9110, section 15.2).
        data = data.partition(b"\r\n\r\n")[2]
    head, _, body = data.partition(b"\r\n\r\n")
    status = head.split(b" ")[1:2]
    return Answer(int(status[0]), body) if status and status[0].isdigit() else Answer(NO_RESPONSE)


def reset(connection: socket.socket) -> None:
    """Close a connection by a reset (RST), whatever is still on its way."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


ATTACKS: tuple[Callable[[HostileClient], None], ...] = (
    HostileClient.send_hostile_file,
    HostileClient.send_hostile_file,
    HostileClient.send_hostile_file,
    HostileClient.send_hostile_cover,
    HostileClient.send_hostile_cover,
    HostileClient.send_hostile_request,
    HostileClient.send_hostile_request,
    HostileClient.send_hostile_request,
    HostileClient.send_hostile_request,
    HostileClient.close_half,
    HostileClient.reset_while_reading,
    HostileClient.break_off_upload,
    HostileClient.drip_slowly,
)
