"""A small HTTP server that answers as a test says: for answers that no store at hand gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from storage.s3.bucket import Bucket
from storage.settings import Settings


class Request(NamedTuple):
    """A request that the server has received."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Reply(NamedTuple):
    """A response with these headers. Without a Content-Length, the connection's end shows that of the body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}


Answer = Callable[[Request], Reply]


@contextmanager
def fake_store(answer: Answer) -> Iterator[tuple[Bucket, list[Request]]]:
    """Yield a bucket `tracks` at a server that answers with `answer`, and the requests that it has received."""
    requests: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

        def handle_request(self) -> None:
            """Record the request, and send the answer."""
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            request = Request(self.command, unquote(parts.path), query, dict(self.headers), body)
            requests.append(request)
            reply = answer(request)
            self.send_response_only(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.close_connection = True
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_request

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield bucket_at(f"http://127.0.0.1:{server.server_port}"), requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def bucket_at(endpoint: str) -> Bucket:
    """Return the bucket `tracks` at an endpoint."""
    keys = {"AWS_ACCESS_KEY_ID": "an-access-key", "AWS_SECRET_ACCESS_KEY": "a-secret-key-of-the-tests"}
    return Bucket(Settings.load({"S3_ENDPOINT": endpoint, "S3_BUCKET": "tracks", **keys}))
