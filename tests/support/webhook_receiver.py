"""A receiver of webhooks: a real HTTP server, which takes note of what comes and answers as a test wishes."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import orjson
from flask.testing import FlaskClient
from standardwebhooks import Webhook

from conftest import new_track, put
from storage.db.models import WebhookDelivery
from storage.service import Service
from storage.worker import Worker
from support.sample_files import wav
from test_complete import complete


class Message(NamedTuple):
    """What came in one request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The message's id, which is the same each time that it comes."""
        return self.headers["webhook-id"]

    @property
    def type(self) -> str:
        """The event's type."""
        return str(orjson.loads(self.body)["type"])

    @property
    def data(self) -> dict[str, Any]:
        """What is told."""
        return dict(orjson.loads(self.body)["data"])

    def verified(self, secret: str) -> dict[str, Any]:
        """The payload, as the library hands it to a receiver who checks the signature."""
        return dict(Webhook(secret).verify(self.body, self.headers))


Answer = Callable[[BaseHTTPRequestHandler, Message], int | None]
"""Says with which status to answer; None where it has answered by itself."""


class Receiver:
    """Listens for the length of a `with`; `answer` may be changed meanwhile."""

    def __init__(self, answer: Answer = lambda handler, message: 204, context: ssl.SSLContext | None = None):
        self.answer, self.context = answer, context
        self.came: list[Message] = []
        self.taken: list[Message] = []
        self.lock = threading.Lock()
        self.server = self._server(0)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if context else 'http'}://localhost:{self.port}/hooks?token=a-secret-of-the-url"

    def _server(self, port: int) -> ThreadingHTTPServer:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        if self.context is not None:
            server.socket = self.context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        return server

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Take note of a request and answer it."""
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        message = Message(handler.path, {name.lower(): value for name, value in handler.headers.items()}, body)
        with self.lock:
            self.came.append(message)
        status = self.answer(handler, message)
        if status is not None:
            if 200 <= status < 300:
                with self.lock:
                    self.taken.append(message)
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

    def __enter__(self) -> Receiver:
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        return self

    def down(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()

    def up(self) -> None:
        """Listen again, at the same place."""
        self.server = self._server(self.port)
        self.__enter__()

    def __exit__(self, *_: object) -> None:
        self.down()

    def types(self) -> list[str]:
        """The types of what was taken, in the order in which it came."""
        return [message.type for message in self.taken]


def upload(client: FlaskClient, session_id: str, body: bytes | None = None, **payload: Any) -> dict[str, Any]:
    """Register a track, send its bytes and complete it; returns the answer to registering it."""
    made = new_track(client, session_id, "a.wav", **payload)
    assert put(made["track_upload"], body or wav()).status_code == 200
    complete(client, session_id, made)
    return made


def drain(worker: Worker, seconds: float = 10.0) -> None:
    """Let the worker do all that is due, and wait until it is done."""
    deadline = time.monotonic() + seconds
    worker.step(0)
    while worker.in_flight():
        assert time.monotonic() < deadline
        worker.step(0.1)


def outbox_rows(service: Service) -> list[dict[str, Any]]:
    """The rows of what is to be delivered."""
    return list(WebhookDelivery.select().order_by(WebhookDelivery.seq).dicts().execute(service.database))
