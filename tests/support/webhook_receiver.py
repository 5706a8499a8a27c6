"""A real HTTP server that receives webhooks and responds as a test tells it."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import orjson
from standardwebhooks import Webhook

from storage.worker import Worker


class Message(NamedTuple):
    """One received request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The message's id, which is the same for each attempt to deliver it."""
        return self.headers["webhook-id"]

    @property
    def type(self) -> str:
        """The event's type."""
        return str(orjson.loads(self.body)["type"])

    @property
    def data(self) -> dict[str, Any]:
        """The event's data."""
        return dict(orjson.loads(self.body)["data"])

    def verify(self, secret: str) -> dict[str, Any]:
        """Check the signature as a receiver does, and return the payload."""
        return dict(Webhook(secret).verify(self.body, self.headers))


Respond = Callable[[BaseHTTPRequestHandler, Message], int | None]
"""Returns the status of the response, or None if it has already written one."""


class Receiver:
    """A server that listens for the duration of a `with` block; `respond` may be replaced at any time.

    `received` has all messages, `accepted` those that got a status of 200 to 299.
    """

    def __init__(self, respond: Respond = lambda handler, message: 204, context: ssl.SSLContext | None = None):
        self.respond, self.context = respond, context
        self.received: list[Message] = []
        self.accepted: list[Message] = []
        self.lock = threading.Lock()
        self.server = self._create_server(0)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if context else 'http'}://localhost:{self.port}/hooks?token=a-secret-of-the-url"

    def _create_server(self, port: int) -> ThreadingHTTPServer:
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
        """Record a request and respond to it."""
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        message = Message(handler.path, {name.lower(): value for name, value in handler.headers.items()}, body)
        with self.lock:
            self.received.append(message)
        status = self.respond(handler, message)
        if status is not None:
            if 200 <= status < 300:
                with self.lock:
                    self.accepted.append(message)
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

    def __enter__(self) -> Receiver:
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        return self

    def stop(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()

    def restart(self) -> None:
        """Listen again, on the same port."""
        self.server = self._create_server(self.port)
        self.__enter__()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def types(self) -> list[str]:
        """Return the types of the accepted events, in the order in which they were received."""
        return [message.type for message in self.accepted]


def drain(worker: Worker, seconds: float = 10.0) -> None:
    """Let the worker deliver everything that is due, and wait until it is done."""
    deadline = time.monotonic() + seconds
    worker.step(0)
    while worker.in_flight():
        assert time.monotonic() < deadline
        worker.step(0.1)
