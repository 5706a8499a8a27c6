"""The instruments of the benchmark: what they send, and what they count."""

from __future__ import annotations

import io
import threading
import time
import wave
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.pacing import pace
from bench.peers.albums import COVER
from bench.peers.clients import LARGE_FILE, PART_SIZE
from bench.peers.scenarios import CLIENTS, MODES
from bench.peers.sending import MIB, content, part
from bench.verification.bare_client import is_complete, request_bytes, send_all
from bench.verification.counting_proxy import CountingProxy
from storage.formats import pictures

pytestmark = pytest.mark.sqlite


@contextmanager
def http_server(respond):
    """Run a server that calls `respond` with the handler of each GET."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            respond(self)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def answer(handler, body=b"{}", status=200):
    """Send a response."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


# --- Files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_a_wav_of_its_declared_size():
    """The service, which looks into each file, finds what a client would send."""
    data = b"".join(content(7))
    assert len(data) == MIB
    with wave.open(io.BytesIO(data)) as file:
        assert file.getnframes() == (MIB - 44) // 2
    assert data != b"".join(content(8))


def test_parts_add_up_to_a_file():
    """A multipart upload has as many bytes as the same file in one piece, and its header."""
    pieces = [
        b"".join(part(7, LARGE_FILE, start, min(PART_SIZE, LARGE_FILE - start)))
        for start in range(0, LARGE_FILE, PART_SIZE)
    ]
    assert sum(map(len, pieces)) == LARGE_FILE
    assert pieces[0][:52] == b"".join(content(7, LARGE_FILE))[:52]


def test_a_cover_is_a_picture():
    """An album's cover is accepted as what it is declared to be."""
    assert pictures.identify_bytes(COVER) == pictures.Picture("image/png", 64, 64)


@pytest.mark.parametrize("name", MODES)
def test_a_mode_and_the_store_alone_send_the_same_files(name):
    """The numbers and sizes of files are alike, and each client has as many large files as any other."""
    mode = MODES[name]
    assert mode.ours.sizes == mode.alone.sizes == mode.flask.sizes
    assert mode.ours.count(1000) * mode.ours.sizes[0] == pytest.approx(1000 * MIB, rel=0.05)
    assert mode.ours.count(1000) % CLIENTS == 0


# --- Instruments ------------------------------------------------------------------------------------------------------


def test_the_proxy_counts_requests_in_flight():
    """Requests that wait for the server at once are in flight together."""
    barrier = threading.Barrier(3)

    def respond(handler):
        barrier.wait(10)
        answer(handler)

    with http_server(respond) as origin, CountingProxy(origin, 0.01) as proxy:
        send_all(proxy.url, [request_bytes("GET", f"{proxy.url}/", {})] * 6, connections=3)
        assert (proxy.requests, proxy.peak, proxy.in_flight) == (6, 3, 0)
        assert 1 < proxy.mean <= 3


@pytest.mark.parametrize(
    ("response", "complete"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{", False),
        (b"HTTP/1.1 200 OK\r\nContent-Le", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", False),
    ],
)
def test_the_bare_client_knows_the_end_of_a_response(response, complete):
    """A response ends with its length, or with its last chunk."""
    assert is_complete(response) is complete


def test_the_bare_client_fails_with_a_failed_request():
    """An error of the server does not pass for a fast response."""
    with http_server(lambda handler: answer(handler, status=503)) as origin, pytest.raises(RuntimeError, match="503"):
        send_all(origin, [request_bytes("GET", f"{origin}/", {})])


def test_a_request_that_waits_for_another_is_slow():
    """Latency counts from the time at which a request is due, not from the time at which the server takes it."""
    lock, first = threading.Lock(), threading.Event()

    def respond(handler):
        with lock:
            if not first.is_set():
                first.set()
                time.sleep(0.5)
        handler.close_connection = True
        answer(handler)

    with http_server(respond) as origin:
        paced = pace(f"{origin}/", None, rate=20, seconds=1)
    assert (len(paced.latencies), paced.failed) == (20, 0)
    assert sum(latency > 0.15 for latency in paced.latencies) >= 5


def test_other_responses_are_counted():
    """An error is no response of status 200, however fast it is."""

    def respond(handler):
        handler.close_connection = True
        answer(handler, status=500)

    with http_server(respond) as origin:
        paced = pace(f"{origin}/", None, rate=20, seconds=0.5)
    assert (paced.latencies, paced.failed) == ([], 10)
