"""A proxy in front of the store that replaces responses for certain keys."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from support.store import BUCKET, Bucket

HOP_BY_HOP = {"connection", "content-length", "transfer-encoding", "keep-alive"}


class Answer(NamedTuple):
    """A response: that of the store, or what takes its place."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Fault = Callable[[Callable[[], Answer]], Answer | None]
"""Returns a response, possibly after forwarding the request to the store; None closes the connection."""


class HTTPService(Protocol):
    """Something that serves HTTP."""

    server: ThreadingHTTPServer


P = TypeVar("P", bound=HTTPService)


class FaultProxy:
    """A proxy of the store at `endpoint`. `faults` has the faults by operation and part of a key."""

    def __init__(self, endpoint: str):
        self.store = urlsplit(endpoint).netloc
        self.faults: dict[tuple[str, str], Fault] = {}
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

            def handle_request(self) -> None:
                """Forward the request, unless a fault is set for it."""
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fault = proxy.fault_for(operation_of(self.command, self.path), unquote(self.path))
                # A fault may forward the request later, when the next one has come on this connection.
                request = copy(self)
                answer = fault(lambda: proxy.forward(request, body)) if fault else proxy.forward(request, body)
                if answer is None:
                    self.close_connection = True
                else:
                    self.send(answer)

            def send(self, answer: Answer) -> None:
                """Send a response as it is, however wrong."""
                self.send_response_only(answer.status)
                headers = {name.lower(): value for name, value in answer.headers.items()}
                for name, value in {"content-length": str(len(answer.body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)
                    if headers.get("content-length", str(len(answer.body))) != str(len(answer.body)):
                        self.close_connection = True

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_request

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def fault_for(self, operation: str, path: str) -> Fault | None:
        """Return the fault that is set for a request."""
        for (faulty, part), fault in list(self.faults.items()):
            if faulty == operation and part in path:
                return fault
        return None

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Send the request to the store, with the Host header that its signature covers, and return the response."""
        connection = http.client.HTTPConnection(self.store, timeout=10)
        try:
            connection.request(request.command, request.path, body or None, dict(request.headers))
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        headers = {name: value for name, value in response.headers.items() if name.lower() not in HOP_BY_HOP}
        if request.command == "HEAD":
            headers["Content-Length"] = response.headers.get("Content-Length", "0")
        return Answer(response.status, headers, content)


class ChecksumBlindProxy(FaultProxy):
    """Plays a store that neither enforces nor tells checksums, and knows none of a whole multipart upload.

    With `rejects_algorithm` it rejects a multipart upload with a checksum, else it creates one without.
    """

    def __init__(self, endpoint: str, rejects_algorithm: bool = False):
        super().__init__(endpoint)
        self.bucket, self.rejects_algorithm = Bucket(endpoint), rejects_algorithm

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Send the request to the store without anything that makes it check, and its response without a checksum."""
        names = {name.lower() for name in request.headers}
        if request.command == "PUT" and any(name.startswith("x-amz-checksum-") for name in names):
            return self._put_unchecked(request, body)
        if request.command == "POST" and "x-amz-checksum-algorithm" in names and self.rejects_algorithm:
            return Answer(501, {"Content-Type": "application/xml"}, b"<Error><Code>NotImplemented</Code></Error>")
        status, headers, content = super().forward(request, body)
        headers = {name: value for name, value in headers.items() if not name.lower().startswith("x-amz-checksum-")}
        return Answer(status, headers, content)

    def _put_unchecked(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        key = unquote(urlsplit(request.path).path).removeprefix(f"/{BUCKET}/")
        condition = {"IfNoneMatch": "*"} if request.headers.get("If-None-Match") else {}
        response = self.bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=body, **condition)
        return Answer(200, {"ETag": response["ETag"]}, b"")


def operation_of(method: str, path: str) -> str:
    """Return S3's name of the operation, as far as the faults tell operations apart."""
    query = parse_qs(urlsplit(path).query, keep_blank_values=True)
    if "uploadId" in query:
        return {"GET": "ListParts", "POST": "CompleteMultipartUpload"}.get(method, method)
    if method == "PUT" and "x-amz-copy-source" in query.get("X-Amz-SignedHeaders", [""])[0]:
        return "CopyObject"
    return {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}.get(method, method)


@contextmanager
def fault_proxy(endpoint: str) -> Iterator[FaultProxy]:
    """Run a proxy in front of the store at `endpoint`."""
    with running(FaultProxy(endpoint)) as proxy:
        yield proxy


@contextmanager
def running(proxy: P) -> Iterator[P]:
    """Run a proxy, or another service."""
    thread = Thread(target=proxy.server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        thread.join()
        proxy.server.server_close()
