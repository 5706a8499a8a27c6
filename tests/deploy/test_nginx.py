"""deploy/nginx.conf, unchanged, with gunicorn, one worker and a real store."""

from __future__ import annotations

import re
import socket
import ssl
import time
from contextlib import ExitStack
from functools import partial
from uuid import UUID, uuid4

import orjson
import pytest
import requests

from app import MAX_BATCH_BYTES, create_app
from dev.store import free_port
from storage.settings import Settings
from support.api import COLLECTION
from support.nginx import HAS_IPV6, NGINX_CONF, run_gunicorn, without_ipv6
from support.processes import ROOT, wait_until
from support.sample_files import png, wav
from support.store import put

pytestmark = pytest.mark.sqlite

SOCKET = "/run/loadbay/gunicorn.sock"
SLOW_CLIENTS = 20
LONG_REQUEST = b"GET /" + b"a" * 9_000
FAST_SECONDS = 5
"""Seconds for a request that does not have to wait for others, on a busy machine."""


def open_session(proxy, path=""):
    """Create a session and return its id."""
    response = proxy.request("POST", f"{path}/v1/upload_session", json={"collection_id": COLLECTION})
    assert response.status_code == 200, response.text
    return response.json()["upload_session_id"]


def assert_error_format(response, status, code):
    """Check that the response is an error in the common format, of nginx or of the service."""
    body = response.json()
    assert (response.status_code, body["code"], body["ok"]) == (status, code, False), body
    assert sorted(body) == ["api_request_id", "code", "message", "ok"]
    assert str(UUID(body["api_request_id"])) == response.headers["X-Request-ID"]
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"


def connect(proxy):
    """Open a TLS connection to nginx, for requests that are slow or malformed."""
    plain = socket.create_connection(("127.0.0.1", proxy.port), 10)
    return ssl.create_default_context(cafile=proxy.session.verify).wrap_socket(plain, server_hostname="localhost")


def test_uploads_a_track_and_a_cover(proxy):
    """A track and a relayed cover are uploaded and verified."""
    session = open_session(proxy)
    created = proxy.request("POST", f"/v1/upload/{session}/track", json={"file_name": "a.wav"}).json()
    assert put(created["track_upload"], wav()).status_code == 200
    cover = created["track_cover_upload"]
    # The cover is relayed by the service, so that its link is one that nginx serves.
    assert cover["upload_url"].startswith(f"{proxy.base}/v1/")
    response = proxy.session.post(cover["upload_url"], files={"file": ("cover.png", png(), "image/png")}, timeout=20)
    assert response.status_code == 200, response.text
    completed = proxy.request("POST", f"/v1/upload/{session}/track/{created['track_id']}/complete").json()
    assert (completed["track"]["status"], completed["track"]["cover"]["status"]) == ("uploaded", "uploaded")


def test_serves_under_a_prefix(make_proxy, gunicorn):
    """With the documented change for a prefix, all links have the prefix, and nothing else is served."""
    lines = re.search(r"replace the next line with:\n *# +(.*)\n\n? *(location / .*)\n", NGINX_CONF)
    proxy = make_proxy({SOCKET: str(gunicorn), lines[2]: lines[1]})
    session = open_session(proxy, "/uploads")
    created = proxy.request("POST", f"/uploads/v1/upload/{session}/track", json={"file_name": "a.wav"}).json()
    assert created["track_cover_upload"]["upload_url"].startswith(f"{proxy.base}/uploads/v1/upload/")
    page = proxy.request("GET", f"/uploads/u/{session}").text
    links = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert links
    assert all(proxy.request("GET", link).status_code == 200 for link in links), links
    assert any(link.startswith("/uploads/loadbay/") for link in links)
    assert proxy.request("GET", "/v1/upload_session").status_code == 404


def test_ignores_forwarded_headers_of_clients(proxy):
    """A client cannot choose the scheme, host, address or prefix that the service sees."""
    session = open_session(proxy)
    headers = {
        "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example", "X-Forwarded-Port": "1",
        "X-Forwarded-Prefix": "/evil", "X-Forwarded-For": "192.0.2.1", "Forwarded": "host=evil.example;proto=http",
    }  # fmt: skip
    created = proxy.request("POST", f"/v1/upload/{session}/track", json={"file_name": "a.wav"}, headers=headers).json()
    assert created["track_cover_upload"]["upload_url"].startswith(f"{proxy.base}/v1/upload/{session}/")
    assert "192.0.2.1" not in proxy.log()


def test_redirects_http_to_https(proxy):
    """Plain HTTP is redirected to HTTPS."""
    response = requests.post(f"http://localhost:{proxy.http_port}/v1/x?y=1", allow_redirects=False, timeout=10)
    assert (response.status_code, response.headers["Location"]) == (308, "https://localhost/v1/x?y=1")
    assert proxy.request("GET", "/healthz").headers["Strict-Transport-Security"]


@pytest.mark.skipif(not HAS_IPV6, reason="This machine has no IPv6.")
def test_serves_ipv6(proxy):
    """Clients with IPv6 are served, and redirected to HTTPS."""
    with socket.create_connection(("::1", proxy.port), 10) as plain:
        context = ssl.create_default_context(cafile=proxy.session.verify)
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b"".join(iter(lambda: client.recv(65536), b"")).startswith(b"HTTP/1.1 200 ")
    assert requests.get(f"http://[::1]:{proxy.http_port}/", allow_redirects=False, timeout=10).status_code == 308


def test_request_id_is_logged(proxy):
    """A client's X-Request-ID is passed on, a missing one is generated, and both are in the log."""
    client_id = str(uuid4())
    assert proxy.request("GET", "/healthz", headers={"X-Request-ID": client_id}).json()["api_request_id"] == client_id
    generated_id = proxy.request("GET", "/healthz").json()["api_request_id"]
    wait_until(lambda: client_id in proxy.log() and generated_id in proxy.log(), "The log lacks a request id.")


def test_slow_clients_delay_no_others(proxy):
    """Clients that send or receive slowly delay no others, even with one worker."""
    session = open_session(proxy)
    head = f"POST /v1/upload/{session}/track HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    incomplete = [head.encode(), f"{head}Content-Length: 1000\r\n\r\n{{".encode()]
    unread = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(proxy)) for _ in range(SLOW_CLIENTS)]
        for number, client in enumerate(slow):
            client.sendall([*incomplete, unread][number % 3])
        started = time.monotonic()
        for _ in range(10):
            open_session(proxy)
            # Each sends another byte, so that none of them times out.
            for number, client in enumerate(slow):
                client.sendall(b" " if number % 3 == 1 else b"")
        assert time.monotonic() - started < FAST_SECONDS


def test_slow_client_blocks_gunicorn_without_nginx(gunicorn):
    """Counter-test: without nginx, a slow client blocks the only worker."""
    with socket.socket(socket.AF_UNIX) as slow, socket.socket(socket.AF_UNIX) as other:
        slow.connect(str(gunicorn))
        slow.sendall(b"GET /healthz HTTP/1.1\r\n")
        time.sleep(0.2)
        other.connect(str(gunicorn))
        other.settimeout(0.5)
        other.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(TimeoutError):
            other.recv(100)


def test_accepts_the_largest_valid_bodies(proxy):
    """nginx passes the largest batch and the largest cover that the service accepts."""
    session = open_session(proxy)
    tracks = {"tracks": [{"file_name": "a.wav"}]}
    body = orjson.dumps(tracks).ljust(MAX_BATCH_BYTES)
    headers = {"Content-Type": "application/json"}
    assert proxy.request("POST", f"/v1/upload/{session}/tracks", data=body, headers=headers).status_code == 200
    created = proxy.request("POST", f"/v1/upload/{session}/track", json={"file_name": "a.wav"}).json()
    cover = png().ljust(Settings.max_cover_bytes, b"\0")
    url = created["track_cover_upload"]["upload_url"]
    response = proxy.session.post(url, files={"file": ("cover.png", cover, "image/png")}, timeout=20)
    assert response.status_code == 200, response.text


def test_too_large_bodies_get_our_error(proxy):
    """A body that is too large for the service or for nginx gets a 413 in the common format."""
    session = open_session(proxy)
    headers = {"Content-Type": "application/json"}
    # The service rejects these without reading them: the response must not get lost while the client still sends.
    for _ in range(30):
        response = proxy.request("POST", f"/v1/upload/{session}/track", data=bytes(MAX_BATCH_BYTES), headers=headers)
        assert_error_format(response, 413, "too_large")
    limit = 1024 * int(re.search(r"client_max_body_size (\d+)k;", NGINX_CONF)[1])
    response = proxy.request("POST", f"/v1/upload/{session}/tracks", data=bytes(limit + 1), headers=headers)
    assert_error_format(response, 413, "too_large")
    wait_until(lambda: '"upstream":""' in proxy.log(), "The request reached the service.")


def test_malformed_requests_get_our_error(proxy):
    """A malformed or too long request gets an error in the common format."""
    for payload, status in (
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (LONG_REQUEST, 414),
    ):
        with connect(proxy) as client:
            client.sendall(payload)
            response = b"".join(iter(lambda: client.recv(65536), b"")).decode()
        assert response.startswith(f"HTTP/1.1 {status} "), response
        assert orjson.loads(response.partition("\r\n\r\n")[2])["code"] == "invalid_request"
    assert_error_format(proxy.request("GET", "/", headers={"X-Long": "a" * 40_000}), 431, "invalid_request")


def test_serves_static_files_as_the_service_does(proxy, settings):
    """nginx serves every built file with the service's headers, and without the service."""
    direct = create_app(settings).test_client()
    for path in sorted([*(ROOT / "static" / "built").glob("*.js"), *(ROOT / "static" / "built").glob("*.css")]):
        plain = {"Accept-Encoding": "identity"}
        served = proxy.request("GET", f"/loadbay/{path.name}", headers=plain)
        expected = direct.get(f"/loadbay/{path.name}", headers=plain)
        assert served.status_code == 200, path.name
        assert served.content == expected.data == path.read_bytes()
        for name in (
            "Content-Type", "Cache-Control", "Access-Control-Allow-Origin", "Cross-Origin-Resource-Policy",
            "X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy", "Last-Modified",
        ):  # fmt: skip
            assert served.headers[name] == expected.headers[name], (path.name, name)
        expected.close()
        unchanged = {**plain, "If-None-Match": served.headers["ETag"]}
        assert proxy.request("GET", f"/loadbay/{path.name}", headers=unchanged).status_code == 304
        packed = proxy.request("GET", f"/loadbay/{path.name}", headers={"Accept-Encoding": "gzip"})
        assert (packed.headers["Content-Encoding"], packed.content) == ("gzip", path.read_bytes())
    assert '"upstream":"unix' not in proxy.log()
    assert_error_format(proxy.request("GET", "/loadbay/nothing.js"), 404, "not_found")
    assert_error_format(proxy.request("POST", "/loadbay/page.js"), 405, "method_not_allowed")
    for path in ("/loadbay/../app.py", "/loadbay/%2e%2e/app.py", "/loadbay/..%2fapp.py", "/loadbay/"):
        assert "create_app" not in proxy.session.get(f"{proxy.base}{path}", timeout=10).text


def test_log_has_no_secrets(proxy):
    """The log has every request, but no session id, query or key of any form."""
    session, track = open_session(proxy), str(uuid4())
    paths = [
        f"/v1/upload/{session}/track", f"/v1/upload_session/{session}/close", f"/u/{session}", f"/u/{session}/",
        f"/v1/upload/{session}/track/{track}/complete", f"/v1/upload/{session.upper()}/track", f"/typo/{session}",
        f"/v1/upload/%{ord(session[0]):x}{session[1:]}/track", f"/v1/upload/{track}/{session}/{session}",
        f"//v1//upload/{session}//{session}",
    ]  # fmt: skip
    for path in paths:
        proxy.request("GET", f"{path}?a-query={session}", headers={"Referer": f"{proxy.base}/u/{session}"})
    requests.get(f"http://localhost:{proxy.http_port}/u/{session}", allow_redirects=False, timeout=10)
    # nginx logs a request after its response.
    wait_until(lambda: proxy.log().count("\n") == 1 + len(paths) + 1, "The log lacks a request.")
    lines = [orjson.loads(line) for line in proxy.log().splitlines()]
    everything = "".join(path.read_text() for path in proxy.folder.glob("*.log")).lower()
    assert "a-query" not in everything
    assert session[9:] not in everything
    assert f"/v1/upload/{track[:8]}..." in everything
    assert [line["path"] for line in lines[1:3]] == [
        f"/v1/upload/{session[:8]}.../track", f"/v1/upload_session/{session[:8]}.../close",
    ]  # fmt: skip


def test_missing_service_gets_our_error(make_proxy, tmp_path):
    """While the service is down, clients get a 503 with Retry-After in the common format."""
    proxy = make_proxy({SOCKET: str(tmp_path / "nobody.sock")})
    session = str(uuid4())
    for method, path in (("GET", "/healthz"), ("POST", f"/v1/upload/{session}/track")):
        response = proxy.request(method, path)
        assert_error_format(response, 503, "service_unavailable")
        assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert session not in "".join(path.read_text() for path in proxy.folder.glob("*.log"))


def test_hanging_service_gets_our_error(make_proxy, tmp_path):
    """A service that never responds gets the same 503."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        proxy = make_proxy({SOCKET: str(tmp_path / "silent.sock"), "proxy_read_timeout 65s": "proxy_read_timeout 1s"})
        response = proxy.request("GET", "/healthz")
    assert_error_format(response, 503, "service_unavailable")
    wait_until(lambda: '"upstream_status":"504"' in proxy.log(), "The log lacks the reason.")


def test_passes_errors_of_the_service(proxy):
    """An error of the service reaches the client unchanged."""
    response = proxy.request("GET", f"/v1/upload_session/{uuid4()}")
    assert_error_format(response, 404, "session_not_found")
    assert proxy.session.post(f"{proxy.base}/v1/upload_session", timeout=10).headers["WWW-Authenticate"]


def test_stopped_service_costs_no_request(make_proxy, gunicorn, store_settings, processes, tmp_path):
    """With several services, one that stops fails no request."""
    settings = {**store_settings, "DATABASE_URL": f"sqlite:///{gunicorn.parent}/loadbay.db"}
    second = tmp_path / "second.sock"
    servers = f"server unix:{gunicorn} fail_timeout=2s; server unix:{second} fail_timeout=2s;"
    proxy = make_proxy({f"server unix:{SOCKET} fail_timeout=2s;": servers})
    with run_gunicorn(processes, second, settings):
        sessions = {open_session(proxy) for _ in range(4)}
    sessions |= {open_session(proxy) for _ in range(4)}
    assert len(sessions) == 8
    wait_until(lambda: proxy.log().count("\n") == 8, "The log lacks a request.")
    served = [orjson.loads(line)["upstream"].split(", ")[-1] for line in proxy.log().splitlines()]
    assert set(served[:4]) == {f"unix:{gunicorn}", f"unix:{second}"}
    assert set(served[4:]) == {f"unix:{gunicorn}"}


def test_nginx_serves_the_store_over_tls(make_proxy, store_endpoint, store_settings, bucket, processes, tmp_path):
    """With nginx-store.conf, presigned URLs work over TLS, and no log has their signatures."""
    store = free_port()
    text = without_ipv6((ROOT / "deploy" / "nginx-store.conf").read_text())
    text = text.replace("seaweedfs:8334", store_endpoint.removeprefix("http://"))
    text = text.replace("listen 8333", f"listen 127.0.0.1:{store}").replace("[::]:8333", f"[::1]:{store}")
    settings = {**store_settings, "S3_PUBLIC_ENDPOINT": f"https://localhost:{store}", "CREATE_MISSING": "1"}
    service = tmp_path / "service.sock"
    with run_gunicorn(processes, service, {**settings, "DATABASE_URL": f"sqlite:///{tmp_path}/loadbay.db"}):
        proxy = make_proxy({SOCKET: str(service)}, {"nginx-store.conf": text})
        body = wav(30)
        payload = {"file_name": "a.wav", "file_size": len(body)}
        created = proxy.request("POST", f"/v1/upload/{open_session(proxy)}/track", json=payload).json()
        url = created["track_upload"]["upload_url"]
        assert url.startswith(f"https://localhost:{store}/")
        put_body = partial(proxy.session.put, url, headers=created["track_upload"]["headers"], timeout=20)
        assert put_body(data=body[:-1]).status_code == 403
        assert put_body(data=body).status_code == 200
        completed = proxy.request(
            "POST", f"/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/complete"
        ).json()
    assert completed["track"]["status"] == "uploaded"
    assert bucket.get(completed["track"]["path"]) == body
    assert "Signature" not in "".join(path.read_text() for path in proxy.folder.glob("*.log"))
