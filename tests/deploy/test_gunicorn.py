"""gunicorn as gunicorn.conf.py configures it, with one worker: requests that wait for the store delay no other."""

from __future__ import annotations

import signal
import socket
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from app import create_app
from dev.store import free_port
from support.api import COLLECTION, service_of
from support.fault_proxy import fault_proxy
from support.processes import open_sockets, wait_until
from support.sample_files import wav
from support.store import put
from web.gunicorn_worker import MAX_CLOSING

pytestmark = pytest.mark.sqlite


class HeldStore:
    """Holds reads of objects until they are released. The service gives one up after two seconds."""

    def __init__(self, proxy):
        self.held, self.released = 0, threading.Event()
        proxy.faults["GetObject", ""] = self.hold

    def hold(self, forward):
        """Forward a read later."""
        self.held += 1
        return forward() if self.released.wait(20) else None

    def wait_for(self, count):
        """Wait until that many reads are held."""
        wait_until(lambda: self.held >= count, "The service does not read.")


class Client:
    """A client of the service at `base`."""

    def __init__(self, base):
        self.base, self.requests = base, ThreadPoolExecutor(4)
        self.session_id = self.open_session()

    def post(self, path, payload=None):
        """Send a request on a connection of its own, and return the body of its response."""
        response = requests.post(f"{self.base}{path}", json=payload or {}, timeout=20)
        assert response.status_code == 200, response.text
        return response.json()

    def open_session(self):
        """Open a session and return its id."""
        return self.post("/v1/upload_session", {"collection_id": COLLECTION})["upload_session_id"]

    def upload(self):
        """Register a track and upload its bytes; return its path in the API."""
        track = self.post(f"/v1/upload/{self.session_id}/track", {"file_name": "a.wav"})
        assert put(track["track_upload"], wav()).status_code == 200
        return f"/v1/upload/{self.session_id}/track/{track['track_id']}"

    def complete(self, track) -> Future[requests.Response]:
        """Complete a track, and return the response later."""
        return self.requests.submit(requests.post, f"{self.base}{track}/complete", timeout=20)


@pytest.fixture
def proxy(store_endpoint):
    """A proxy between the service and the store."""
    with fault_proxy(store_endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(proxy):
    """The proxy, which holds reads."""
    return HeldStore(proxy)


@pytest.fixture
def serve(processes, settings, proxy, store_endpoint, tmp_path):
    """Run gunicorn with one worker and more options: `with serve("--threads", "2") as (process, client)`."""
    settings = {**settings, "S3_ENDPOINT": proxy.endpoint, "S3_PUBLIC_ENDPOINT": store_endpoint}

    @contextmanager
    def run(*options):
        service_of(create_app(settings)).close()
        port = free_port()
        env = {**settings, "WEB_CONCURRENCY": "1", "PORT": str(port)}
        with processes.start("gunicorn", *options, "wsgi:app", env=env, log=tmp_path / "log") as process:
            process.wait_for_http(f"http://127.0.0.1:{port}/healthz")
            yield process, Client(f"http://127.0.0.1:{port}")

    return run


def is_uploaded(completion):
    """Wait for a completion, and return whether its track is `uploaded`."""
    return completion.result().json().get("track", {}).get("status") == "uploaded"


def test_requests_are_answered_while_others_wait_for_the_store(serve, store):
    """Sessions are opened and tracks registered while completions wait, one after the other; then these succeed."""
    with serve() as (_, client):
        tracks = [client.upload() for _ in range(3)]
        completions = []
        for number, track in enumerate(tracks):
            completions.append(client.complete(track))
            store.wait_for(number + 1)
            client.open_session()
            assert not completions[-1].done()
        store.released.set()
        for completion in completions:
            assert completion.result().status_code in (200, 503)
        # Threads that have waited accept requests again.
        assert all(is_uploaded(client.complete(track)) for track in [*tracks, client.upload()])


def test_number_of_waiting_requests_is_limited(serve, store):
    """If all threads wait, the next request is answered after one of them."""
    with serve("--threads", "2") as (_, client):
        tracks = [client.upload() for _ in range(2)]
        completions = [client.complete(track) for track in tracks]
        store.wait_for(2)
        client.open_session()
        # Less than the service waits for the store: else any completion would be done by then.
        assert wait(completions, timeout=1, return_when=FIRST_COMPLETED).done
        store.released.set()
        assert all(is_uploaded(client.complete(track)) for track in tracks)


REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def exchange(base, request):
    """Send a request and read its response to the end, without closing the connection; return it and the response."""
    address = urlsplit(base)
    connection = socket.create_connection((address.hostname, address.port), timeout=10)
    connection.sendall(request)
    with connection.makefile("rb") as response:
        return connection, response.read()


@pytest.mark.parametrize(("request_", "status"), [(REQUEST, b"200"), (b"Hello!\r\n\r\n", b"400")])
def test_clients_that_do_not_close_their_connections_delay_nobody(serve, request_, status):
    """Clients that have read a response to its end, and close nothing, do not keep the worker; their number is limited.

    gunicorn's sync worker waits two seconds for each.
    """
    with serve() as (process, client), ExitStack() as stack:
        begin, responses = time.monotonic(), []
        for _ in range(MAX_CLOSING + 50):
            connection, response = exchange(client.base, request_)
            stack.enter_context(connection)
            responses.append(response)
        client.open_session()
        assert time.monotonic() - begin < 10
        assert all(response.startswith(b"HTTP/1.1 " + status) for response in responses)
        (worker,) = process.process_ids() - {process.process.pid}
        assert MAX_CLOSING / 2 < len(open_sockets(worker)) < MAX_CLOSING + 20


def test_client_that_goes_on_sending_receives_its_response(serve):
    """Input after a request is discarded, so that its client can read the whole response."""
    with serve() as (_, client):
        address = urlsplit(client.base)
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
            connection.sendall(REQUEST + b"x" * 30_000)
            time.sleep(0.5)
            client.open_session()
            assert b"\r\n\r\n{" in connection.makefile("rb").read()


@pytest.mark.parametrize("moment", ["one request waits", "another thread accepts", "nothing to do"])
def test_stopped_worker_ends_what_it_has_begun(serve, store, settings, moment):
    """After SIGTERM a request that waits for the store is answered, and gunicorn exits, with the database closed."""
    with serve() as (process, client):
        completion = client.complete(client.upload())
        store.wait_for(1)
        # The main thread alone hears of the signal, and may be neither the one that accepts nor one that waits.
        if moment == "another thread accepts":
            client.open_session()
        if moment == "nothing to do":
            store.released.set()
            completion.result()
        process.process.send_signal(signal.SIGTERM)
        store.released.set()
        assert completion.result().status_code in (200, 503)
        # gunicorn kills a worker after 20 seconds.
        assert process.process.wait(15) == 0
    assert "Traceback" not in process.output()
    assert not Path(f"{settings['DATABASE_URL'].removeprefix('sqlite:///')}-wal").exists()
