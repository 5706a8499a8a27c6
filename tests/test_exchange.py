"""Exchanges with the store: what is received of answers of all kinds, and which connections are kept."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest
import urllib3
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from storage.http.exchange import Exchanges
from storage.http.tls import tls_context
from support.certificates import self_signed, server_context
from support.processes import ROOT

TIMEOUT = urllib3.Timeout(connect=1, read=0.5)
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: a\r\n\r\nhello"


class Server:
    """A server that answers each request with the next of `answers`; None ends the connection."""

    def __init__(self, *answers: bytes | None, context: ssl.SSLContext | None = None):
        self.answers, self.connections, self.requests = list(answers), 0, list[bytes]()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http{'s' * bool(context)}://127.0.0.1:{self.socket.getsockname()[1]}/bucket/key"
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def serve(self) -> None:
        """Accept connections until the test is over, each in a thread of its own."""
        with suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.connections += 1
                Thread(target=self._serve_connection, args=[connection], daemon=True).start()

    def _serve_connection(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        while request := connection.recv(65_536):
            self.requests.append(request)
            answer = self.answers.pop(0) if self.answers else None
            if answer is None:
                return
            connection.sendall(answer)
            if b"Connection: close" in answer or b"Content-Length" not in answer:
                return


@contextmanager
def serving(*answers: bytes | None, context: ssl.SSLContext | None = None) -> Iterator[tuple[Exchanges, Server]]:
    """Run a server with these answers, and provide what sends requests to it."""
    server, exchanges = Server(*answers, context=context), Exchanges()
    thread = Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield exchanges, server
    finally:
        exchanges.clear()
        server.answers.clear()
        server.socket.close()


def get(exchanges: Exchanges, server: Server, method: str = "GET", limit: int = 5):
    """Send a request."""
    return exchanges.send(method, server.url, {"X-Name": "value"}, TIMEOUT, limit)


ANSWERS = {
    "by length": (PLAIN, b"hello"),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
    "until the end": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", b"hello"),
    "longer than asked for": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello all", b"hello"),
    "after early hints": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN, b"hello"),
    "no content": (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", b""),
    "an error, whole": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n<Error />", b"<Error />"),
}


@pytest.mark.parametrize(("answer", "body"), ANSWERS.values(), ids=ANSWERS)
def test_body_is_received_as_far_as_it_is_of_use(answer, body):
    """However its end is told, of the body there are at most as many bytes as were asked for, of an error all."""
    with serving(answer) as (exchanges, server):
        assert get(exchanges, server).data == body


def test_connection_is_used_again():
    """A complete answer leaves its connection for the next request."""
    with serving(*[PLAIN] * 3) as (exchanges, server):
        for _ in range(3):
            response = get(exchanges, server)
            assert (response.status, response.headers.get("Etag"), "ETAG" in response.headers) == (200, "a", True)
        assert server.connections == 1
    assert server.requests[0].startswith(b"GET /bucket/key HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nX-Name: value\r\n" in server.requests[0]


CLOSING = {
    "closed by the store": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "with a rest": b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"hello" * 180_000,
}


@pytest.mark.parametrize("answer", CLOSING.values(), ids=CLOSING)
def test_connection_with_a_rest_is_not_used_again(answer):
    """The next request never gets what was left of the last answer."""
    with serving(answer, PLAIN) as (exchanges, server):
        assert get(exchanges, server).data == b"hello"
        assert get(exchanges, server).headers.get("etag") == "a"
        assert server.connections == 2


def test_unasked_answer_is_never_taken_for_the_next_one():
    """Bytes that a store sends beyond its answer end the connection; a HEAD has no body, whatever it claims."""
    forged = PLAIN.replace(b"ETag: a", b"ETag: b")
    with serving(PLAIN + forged, PLAIN) as (exchanges, server):
        assert get(exchanges, server, "HEAD").data == b""
        assert get(exchanges, server).headers.get("etag") == "a"
        assert server.connections == 2


def test_ended_connection_is_noticed_before_it_is_used():
    """A connection that the store has ended since is replaced."""
    with serving(PLAIN, None, PLAIN) as (exchanges, server):
        assert get(exchanges, server).status == 200
        with pytest.raises(ProtocolError):
            get(exchanges, server)
        assert get(exchanges, server).status == 200


NO_ANSWERS = {
    "nothing": b"",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nConte",
    "half a body": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n",
}


@pytest.mark.parametrize("answer", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_answer_that_ends_early_is_none(answer):
    """A store that stops is not taken for one that answers."""
    with serving(answer) as (exchanges, server), pytest.raises(ProtocolError):
        get(exchanges, server)


WRONG = {
    "a control character": b"HTTP/1.1 200 OK\r\nETag: \x7f\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths": b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "length and chunks": b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50_000 + b"Content-Length: 5\r\n",
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_answer_that_http_does_not_allow_is_an_error(answer):
    """An answer that contradicts itself, or a head without end, is never guessed at."""
    with serving(answer) as (exchanges, server), pytest.raises(ValueError, match=r"HTTP|headers"):
        get(exchanges, server)


def test_store_that_never_ends_its_answer_is_left():
    """Neither silence nor an answer that comes byte by byte is waited for without end."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"
    with serving(answer) as (exchanges, server), pytest.raises(ReadTimeoutError):
        get(exchanges, server)


def test_header_cannot_end_its_line():
    """A value with a line break is refused before anything is sent."""
    with serving(PLAIN) as (exchanges, server), pytest.raises(ValueError, match="line break"):
        exchanges.send("GET", server.url, {"X-Name": "a\r\nX-Other: b"}, TIMEOUT, 5)


FORKING = """
import os, sys, urllib3
from storage.http.exchange import Exchanges
from storage.s3.parallel import call_each

exchanges, url, timeout = Exchanges(), sys.argv[1], urllib3.Timeout(connect=1, read=1)

def ask():
    return exchanges.send("GET", url, {}, timeout, 5).data

ask()
call_each(str, range(4), 1e12)
child = os.fork()
results = ask(), call_each(str, range(4), 1e12)
assert results == (b"hello", ["0", "1", "2", "3"])
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="There is no fork on Windows.")
def test_forked_process_shares_neither_connections_nor_threads():
    """A server may load the application and use the store before it forks its workers."""
    with serving(*[PLAIN] * 3) as (_, server):
        command = [sys.executable, "-W", "ignore", "-c", FORKING, server.url]
        subprocess.run(command, cwd=ROOT, check=True, timeout=20)
        assert len(server.requests) == 3
        assert server.connections == 2


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    """A certificate for 127.0.0.1 that is trusted."""
    certificate = self_signed(tmp_path, "IP:127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls_context.cache_clear()
    yield certificate
    tls_context.cache_clear()


def test_tls_connection_is_verified_and_used_again(trusted):
    """A store with a trusted certificate for its name is asked over one connection."""
    with serving(*[PLAIN] * 2, context=server_context(trusted)) as (exchanges, server):
        assert [get(exchanges, server).data for _ in range(2)] == [b"hello"] * 2
        assert server.connections == 1


def test_unasked_answer_over_tls_is_never_taken_for_the_next_one(trusted):
    """Bytes that OpenSSL has received beyond an answer end the connection, too."""
    forged = PLAIN.replace(b"ETag: a", b"ETag: b")
    answer = PLAIN.replace(b"5", b"70000").replace(b"hello", b"x" * 70_000) + forged
    with serving(answer, PLAIN, context=server_context(trusted)) as (exchanges, server):
        assert get(exchanges, server, limit=70_000).data == b"x" * 70_000
        assert get(exchanges, server).headers.get("etag") == "a"


def test_certificate_for_another_name_is_refused(tmp_path, monkeypatch):
    """A certificate that is trusted, but not for the store's host, ends the handshake."""
    certificate = self_signed(tmp_path, "DNS:other.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls_context.cache_clear()
    with serving(PLAIN, context=server_context(certificate)) as (exchanges, server), pytest.raises(ssl.SSLError):
        get(exchanges, server)
    tls_context.cache_clear()
