"""Rate limits, CORS, trusted proxies and trusted hosts: features that are off by default."""

from __future__ import annotations

import signal
import sys
import time
from uuid import uuid4

import pytest

from app import create_app
from storage.settings import SettingsError
from support.api import COLLECTION, assert_error, new_session, new_track
from support.redis_server import RedisServer
from web.responses import DEFAULT_HEADERS

pytestmark = pytest.mark.sqlite

ORIGIN = "https://app.example.com"
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}


def test_limits_and_cors_are_off_by_default(client):
    """Without the settings, no response has headers of rate limits or CORS."""
    response = client.post("/v1/upload_session", json={"collection_id": COLLECTION}, headers={"Origin": ORIGIN})
    assert [name for name, _ in response.headers if "RateLimit" in name or "Access-Control" in name] == []
    preflight = client.options("/v1/upload_session", headers=PREFLIGHT)
    assert "Access-Control-Allow-Origin" not in preflight.headers


def test_limits_the_track_rate_of_a_session(make_client, count_rows):
    """A session over its track rate gets a 429 with Retry-After; another session is not affected."""
    client = make_client(RATE_LIMIT_TRACKS="3/hour")
    first, second = (new_session(client)["upload_session_id"] for _ in range(2))
    remaining = []
    for _ in range(3):
        response = client.post(f"/v1/upload/{first}/track", json={"file_name": "a.wav"})
        assert response.headers["RateLimit-Policy"] == '"tracks";q=3;w=3600'
        remaining.append(response.headers["RateLimit"].split(";")[1])
    assert remaining == ["r=2", "r=1", "r=0"]
    response = client.post(f"/v1/upload/{first}/track", json={"file_name": "a.wav"})
    assert_error(response, 429, "too_many_requests")
    assert 0 < int(response.headers["Retry-After"]) <= 3600
    assert response.headers["RateLimit"].startswith('"tracks";r=0;t=')
    new_track(client, second)
    assert count_rows()["track"] == 4


def batch_payload(size):
    """Return the payload that registers `size` tracks."""
    return {"tracks": [{"file_name": f"{n}.wav"} for n in range(size)]}


def test_a_batch_counts_as_its_number_of_tracks(make_client):
    """A batch counts as many requests as it has tracks, and none if it is rejected."""
    client = make_client(RATE_LIMIT_TRACKS="3/hour")
    path = f"/v1/upload/{new_session(client)['upload_session_id']}/tracks"
    for size, remaining in ((2, 1), (2, None), (2, None), (1, 0), (1, None)):
        response = client.post(path, json=batch_payload(size))
        if remaining is None:
            assert_error(response, 429, "too_many_requests")
        else:
            assert response.headers["RateLimit"].startswith(f'"tracks";r={remaining};'), response.text


def test_batch_over_the_whole_limit_is_too_large(make_client):
    """A batch of more tracks than the limit is 413, since waiting would not help, and is not counted."""
    client = make_client(RATE_LIMIT_TRACKS="3/hour")
    path = f"/v1/upload/{new_session(client)['upload_session_id']}/tracks"
    response = client.post(path, json=batch_payload(4))
    assert_error(response, 413, "too_large", "tracks", "3")
    assert "Retry-After" not in response.headers
    assert client.post(path, json=batch_payload(3)).status_code == 200


def test_unknown_sessions_have_no_counters(make_client):
    """Unknown session ids create no counters, which would fill the memory."""
    client = make_client(RATE_LIMIT_TRACKS="3/hour")
    counters = client.application.extensions["loadbay"]["loadbay"].rates.limiter.storage.storage
    for _ in range(5):
        assert_error(client.post(f"/v1/upload/{uuid4()}/track", json={"file_name": "a"}), 404, "session_not_found")
        assert_error(client.post(f"/v1/upload/{uuid4()}/tracks", json=batch_payload(1)), 404, "session_not_found")
    assert len(counters) == 0
    new_track(client, new_session(client)["upload_session_id"])
    assert len(counters) == 1


def test_limits_the_session_rate_of_a_key(make_client):
    """A key over its session rate gets a 429; another key is not affected."""
    keys = ("first-key-0123456789", "other-key-0123456789")
    client = make_client(RATE_LIMIT_SESSIONS="1/hour", API_KEYS=",".join(keys))
    codes = []
    for key in (keys[0], keys[0], keys[1]):
        headers = {"Authorization": f"Bearer {key}"}
        codes.append(client.post("/v1/upload_session", json={"collection_id": COLLECTION}, headers=headers).status_code)
    assert codes == [200, 429, 200]


def test_requests_pass_if_the_counters_are_unreachable(make_client, monkeypatch, caplog):
    """If the counters are unreachable, requests pass, and the log has the reason."""
    client = make_client(RATE_LIMIT_SESSIONS="1/hour")
    rates = client.application.extensions["loadbay"]["loadbay"].rates

    def fail(*_, **__):
        raise rates.error(ConnectionError("connection refused"))

    monkeypatch.setattr(rates.limiter.storage, "incr", fail)
    for _ in range(3):
        new_session(client)
    assert "RATE_LIMIT_STORAGE" in caplog.text


@pytest.fixture
def redis_server(tmp_path):
    """A Redis of the test's own."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_redis_client(make_client, redis_server):
    """Create a client of an application that counts in Redis; its connections close with the test."""
    clients = []

    def make(**rates):
        clients.append(make_client(RATE_LIMIT_STORAGE=redis_server.url, **rates))
        return clients[-1]

    yield make
    for client in clients:
        client.application.extensions["loadbay"]["loadbay"].rates.limiter.storage.storage.close()


def test_processes_share_counters_in_redis(make_redis_client):
    """With Redis, the limits apply to all processes together."""
    first, second = (make_redis_client(RATE_LIMIT_TRACKS="3/hour") for _ in range(2))
    path = f"/v1/upload/{new_session(first)['upload_session_id']}/track"
    responses = [client.post(path, json={"file_name": "a.wav"}) for client in (first, second, first, second)]
    assert [response.status_code for response in responses] == [200, 200, 200, 429]
    assert [response.headers["RateLimit"].split(";")[1] for response in responses] == ["r=2", "r=1", "r=0", "r=0"]


def test_redis_that_stops_or_hangs_delays_no_request(make_redis_client, redis_server, caplog):
    """A Redis that is down or hangs delays no request for long; once it is back, it counts again."""
    client = make_redis_client(RATE_LIMIT_SESSIONS="2/hour")
    new_session(client)
    redis_server.stop()
    new_session(client)
    assert "RATE_LIMIT_STORAGE" in caplog.text
    redis_server.start()
    redis_server.process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    new_session(client)
    assert time.monotonic() - started < 2
    redis_server.process.send_signal(signal.SIGCONT)
    new_session(client)
    new_session(client)
    response = client.post("/v1/upload_session", json={"collection_id": COLLECTION})
    assert_error(response, 429, "too_many_requests")


def test_cors_allows_the_named_origins(make_client):
    """An origin of CORS_ORIGINS may send requests and read responses; another may not."""
    client = make_client(CORS_ORIGINS=f"{ORIGIN},https://b.example.com")
    response = client.post("/v1/upload_session", json={"collection_id": COLLECTION}, headers={"Origin": ORIGIN})
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"]
    assert response.headers["Vary"] == "Origin"
    rejected = client.post("/v1/upload_session", json={}, headers={"Origin": ORIGIN})
    assert_error(rejected, 400, "invalid_request")
    assert rejected.headers["Access-Control-Allow-Origin"] == ORIGIN
    foreign = client.get(f"/v1/upload_session/{COLLECTION}", headers={"Origin": "https://evil.example.com"})
    assert "Access-Control-Allow-Origin" not in foreign.headers


@pytest.mark.parametrize("path", ["/v1/upload_session", "/v1/upload/x/track", f"/v1/upload/{COLLECTION}/tracks"])
def test_preflight_is_answered_for_every_route(make_client, path):
    """A preflight needs no key, may be cached for hours, and grants no credentials."""
    client = make_client(CORS_ORIGINS="*", ALLOW_ANONYMOUS="")
    response = client.options(path, headers=PREFLIGHT)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
    assert int(response.headers["Access-Control-Max-Age"]) >= 600
    assert "Access-Control-Allow-Credentials" not in response.headers


def relay_url(client, **headers):
    """Return the relay URL of a cover for a request with these headers."""
    session = new_session(client)["upload_session_id"]
    response = client.post(f"/v1/upload/{session}/track", json={"file_name": "a.wav"}, headers=headers)
    return response.json["track_cover_upload"]["upload_url"]


def test_trusts_forwarded_headers_of_configured_proxies(make_client):
    """Forwarded headers count only with TRUSTED_PROXIES, host and prefix only if TRUSTED_PROXY_HEADERS names them."""
    forwarded = {"X-Forwarded-Host": "uploads.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/up"}
    assert relay_url(make_client(COVER_UPLOAD="relay"), **forwarded).startswith("http://localhost/v1/")
    # A platform's router passes the client's other headers on.
    platform = make_client(COVER_UPLOAD="relay", TRUSTED_PROXIES="1")
    assert relay_url(platform, **forwarded, **{"X-Forwarded-Port": "443"}).startswith("https://localhost/v1/")
    trusting = make_client(COVER_UPLOAD="relay", TRUSTED_PROXIES="1", TRUSTED_PROXY_HEADERS="Proto, host,prefix")
    assert relay_url(trusting, **forwarded, **{"X-Forwarded-Port": "99"}).startswith(
        "https://uploads.example.com/up/v1/"
    )


def test_rejects_untrusted_hosts(make_client):
    """With TRUSTED_HOSTS, a request for another host is rejected in the common format."""
    client = make_client(TRUSTED_HOSTS="uploads.example.com,localhost")
    assert new_session(client)["ok"] is True
    response = client.post(
        "/v1/upload_session", json={"collection_id": COLLECTION}, headers={"Host": "evil.example.com"}
    )
    assert_error(response, 400, "invalid_request")
    assert "evil" not in response.text


OVERRIDDEN_HEADERS = {
    "/docs": {"Cache-Control", "Content-Security-Policy"},
    "/openapi.json": {"Cache-Control", "Content-Security-Policy"},
    "/loadbay/page.js": {"Cache-Control"},
    "/.well-known/jwks.json": {"Cache-Control"},
    "/": {"Content-Security-Policy"},
}
"""The default headers that some responses override, by path."""


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "PUT"])
def test_every_response_has_the_security_headers(make_client, method):
    """Every response, of unknown routes too, forbids caching, framing, sniffing and referrers by default."""
    client = make_client(METRICS_TOKEN="a-token-of-the-tests")
    session = new_session(client)["upload_session_id"]
    headers = {"Authorization": "Bearer a-token-of-the-tests"}
    for rule in client.application.url_map.iter_rules():
        path = rule.rule.replace("<upload_session_id>", session).replace("<path:file_name>", "page.js")
        with client.open(path, method=method, headers=headers) as response:
            overridden = OVERRIDDEN_HEADERS.get(path, {"Content-Security-Policy"} if path.startswith("/u/") else set())
            for name, value in DEFAULT_HEADERS:
                assert response.headers.get(name) == value or (method == "GET" and name in overridden), (path, name)
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Request-ID"]
    assert set(client.open("/nowhere", method=method).headers.items()) >= set(DEFAULT_HEADERS)


@pytest.mark.parametrize("path", ["/v1//upload_session", "/docs//", "/docs/", "/nothing//<script>", "/u//x"])
def test_almost_matching_paths_do_not_redirect(client, path):
    """A path with other slashes than a route is 404, without a redirect."""
    response = client.get(path, headers={"Host": "evil.example.com"})
    assert_error(response, 404, "not_found")
    assert "Location" not in response.headers
    assert "evil" not in response.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RATE_LIMIT_TRACKS", "fast"),
        ("RATE_LIMIT_SESSIONS", "0/minute"),
        ("RATE_LIMIT_STORAGE", "file:///tmp"),
        ("RATE_LIMIT_STORAGE", "redis://host:99999/0"),
        ("RATE_LIMIT_STORAGE", "redis://:a-password@host:port/0"),
        ("RATE_LIMIT_STORAGE", "redis://host:6379/0?socket_timeout=soon"),
        ("RATE_LIMIT_STORAGE", "memcached://host"),
        ("TRUSTED_HOSTS", "a b"),
        ("TRUSTED_PROXIES", "-1"),
        ("TRUSTED_PROXY_HEADERS", "for,everything"),
        ("TRUSTED_PROXY_HEADERS", ","),
        ("CORS_ORIGINS", "app.example.com"),
    ],
)
def test_rejects_invalid_settings(settings, name, value):
    """An invalid setting aborts the start with an error that names it."""
    with pytest.raises(SettingsError, match=name) as e:
        create_app({"RATE_LIMIT_TRACKS": "3/hour", **settings, name: value})
    assert "a-password" not in str(e.value)


def test_missing_redis_package_is_reported(settings, monkeypatch):
    """If the package of a storage is missing, the error has the command that installs it."""
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(SettingsError, match=r"RATE_LIMIT_STORAGE.*pip install redis$"):
        create_app({**settings, "RATE_LIMIT_TRACKS": "3/hour", "RATE_LIMIT_STORAGE": "redis://host"})
