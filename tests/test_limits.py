"""What a deploy turns on: rate limits, other sites' browsers, proxies and hosts that are trusted."""

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

ELSEWHERE = "https://app.example.com"
PREFLIGHT = {"Origin": ELSEWHERE, "Access-Control-Request-Method": "POST"}


def test_off_by_default(client):
    """Without the settings there is no limit, no other origin, and no header of either."""
    response = client.post("/v1/upload_session", json={"collection_id": COLLECTION}, headers={"Origin": ELSEWHERE})
    assert [name for name, _ in response.headers if "RateLimit" in name or "Access-Control" in name] == []
    preflight = client.options("/v1/upload_session", headers=PREFLIGHT)
    assert "Access-Control-Allow-Origin" not in preflight.headers


def test_tracks_per_session(make_client, count_rows):
    """A session that registers too fast is told when to go on; another one is not slowed."""
    client = make_client(RATE_LIMIT_TRACKS="3/hour")
    first, second = (new_session(client)["upload_session_id"] for _ in range(2))
    left = []
    for _ in range(3):
        response = client.post(f"/v1/upload/{first}/track", json={"file_name": "a.wav"})
        assert response.headers["RateLimit-Policy"] == '"tracks";q=3;w=3600'
        left.append(response.headers["RateLimit"].split(";")[1])
    assert left == ["r=2", "r=1", "r=0"]
    response = client.post(f"/v1/upload/{first}/track", json={"file_name": "a.wav"})
    assert_error(response, 429, "too_many_requests")
    assert 0 < int(response.headers["Retry-After"]) <= 3600
    assert response.headers["RateLimit"].startswith('"tracks";r=0;t=')
    new_track(client, second)
    assert count_rows()["track"] == 4


def batch_of(size):
    """The body that registers so many tracks."""
    return {"tracks": [{"file_name": f"{n}.wav"} for n in range(size)]}


def test_batches_count_their_tracks(make_client):
    """A batch counts as many as it has tracks; one that has too many takes nothing from a smaller one."""
    client = make_client(RATE_LIMIT_TRACKS="3/hour")
    path = f"/v1/upload/{new_session(client)['upload_session_id']}/tracks"
    for size, left in ((2, 1), (2, None), (2, None), (1, 0), (1, None)):
        response = client.post(path, json=batch_of(size))
        if left is None:
            assert_error(response, 429, "too_many_requests")
        else:
            assert response.headers["RateLimit"].startswith(f'"tracks";r={left};'), response.text


def test_batch_that_never_passes(make_client):
    """A batch of more tracks than the limit is told so: waiting would not help, and nothing is counted."""
    client = make_client(RATE_LIMIT_TRACKS="3/hour")
    path = f"/v1/upload/{new_session(client)['upload_session_id']}/tracks"
    response = client.post(path, json=batch_of(4))
    assert_error(response, 413, "too_large", "tracks", "3")
    assert "Retry-After" not in response.headers
    assert client.post(path, json=batch_of(3)).status_code == 200


def test_no_counts_of_nobody(make_client):
    """Sessions that nobody opened have no count, or whoever makes up ids would fill the memory."""
    client = make_client(RATE_LIMIT_TRACKS="3/hour")
    counts = client.application.extensions["loadbay"]["loadbay"].rates.limiter.storage.storage
    for _ in range(5):
        assert_error(client.post(f"/v1/upload/{uuid4()}/track", json={"file_name": "a"}), 404, "session_not_found")
        assert_error(client.post(f"/v1/upload/{uuid4()}/tracks", json=batch_of(1)), 404, "session_not_found")
    assert len(counts) == 0
    new_track(client, new_session(client)["upload_session_id"])
    assert len(counts) == 1


def test_sessions_per_key(make_client):
    """A key that opens sessions too fast is slowed, another is not."""
    keys = ("first-key-0123456789", "other-key-0123456789")
    client = make_client(RATE_LIMIT_SESSIONS="1/hour", API_KEYS=",".join(keys))
    codes = []
    for key in (keys[0], keys[0], keys[1]):
        headers = {"Authorization": f"Bearer {key}"}
        codes.append(client.post("/v1/upload_session", json={"collection_id": COLLECTION}, headers=headers).status_code)
    assert codes == [200, 429, 200]


def test_counts_out_of_reach(make_client, monkeypatch, caplog):
    """Where the counts cannot be reached, requests pass, and the log says why."""
    client = make_client(RATE_LIMIT_SESSIONS="1/hour")
    rates = client.application.extensions["loadbay"]["loadbay"].rates

    def away(*_, **__):
        raise rates.error(ConnectionError("nobody there"))

    monkeypatch.setattr(rates.limiter.storage, "incr", away)
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
def make_counting(make_client, redis_server):
    """Make a client of an application that counts in Redis; its connections end with the test."""
    created = []

    def make(**rates):
        created.append(make_client(RATE_LIMIT_STORAGE=redis_server.url, **rates))
        return created[-1]

    yield make
    for client in created:
        client.application.extensions["loadbay"]["loadbay"].rates.limiter.storage.storage.close()


def test_counts_in_redis(make_counting):
    """With Redis, processes count together: what one has let through, another knows."""
    first, second = (make_counting(RATE_LIMIT_TRACKS="3/hour") for _ in range(2))
    path = f"/v1/upload/{new_session(first)['upload_session_id']}/track"
    responses = [one.post(path, json={"file_name": "a.wav"}) for one in (first, second, first, second)]
    assert [response.status_code for response in responses] == [200, 200, 200, 429]
    assert [response.headers["RateLimit"].split(";")[1] for response in responses] == ["r=2", "r=1", "r=0", "r=0"]


def test_redis_stops_and_hangs(make_counting, redis_server, caplog):
    """A Redis that is away or hangs holds nobody up; once it is back, it counts."""
    client = make_counting(RATE_LIMIT_SESSIONS="2/hour")
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


def test_other_origin(make_client):
    """A site that is named may ask and read; one that is not may not."""
    client = make_client(CORS_ORIGINS=f"{ELSEWHERE},https://b.example.com")
    response = client.post("/v1/upload_session", json={"collection_id": COLLECTION}, headers={"Origin": ELSEWHERE})
    assert response.headers["Access-Control-Allow-Origin"] == ELSEWHERE
    assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"]
    assert response.headers["Vary"] == "Origin"
    refused = client.post("/v1/upload_session", json={}, headers={"Origin": ELSEWHERE})
    assert_error(refused, 400, "invalid_request")
    assert refused.headers["Access-Control-Allow-Origin"] == ELSEWHERE
    stranger = client.get(f"/v1/upload_session/{COLLECTION}", headers={"Origin": "https://evil.example.com"})
    assert "Access-Control-Allow-Origin" not in stranger.headers


@pytest.mark.parametrize("path", ["/v1/upload_session", "/v1/upload/x/track", f"/v1/upload/{COLLECTION}/tracks"])
def test_preflight(make_client, path):
    """A preflight is answered whoever is named, may be kept for hours, and opens nothing."""
    client = make_client(CORS_ORIGINS="*", ALLOW_ANONYMOUS="")
    response = client.options(path, headers=PREFLIGHT)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
    assert int(response.headers["Access-Control-Max-Age"]) >= 600
    assert "Access-Control-Allow-Credentials" not in response.headers


def relayed_to(client, **headers):
    """The URL of a relayed cover for a request with these headers."""
    session = new_session(client)["upload_session_id"]
    response = client.post(f"/v1/upload/{session}/track", json={"file_name": "a.wav"}, headers=headers)
    return response.json["track_cover_upload"]["upload_url"]


def test_forwarded_headers(make_client):
    """What a proxy says counts only where a proxy is configured, and of host and prefix only where it sets them."""
    said = {"X-Forwarded-Host": "uploads.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/up"}
    assert relayed_to(make_client(COVER_UPLOAD="relay"), **said).startswith("http://localhost/v1/")
    # The router of a platform leaves what a client says of the others.
    platform = make_client(COVER_UPLOAD="relay", TRUSTED_PROXIES="1")
    assert relayed_to(platform, **said, **{"X-Forwarded-Port": "443"}).startswith("https://localhost/v1/")
    trusting = make_client(COVER_UPLOAD="relay", TRUSTED_PROXIES="1", TRUSTED_PROXY_HEADERS="Proto, host,prefix")
    assert relayed_to(trusting, **said, **{"X-Forwarded-Port": "99"}).startswith("https://uploads.example.com/up/v1/")


def test_hosts(make_client):
    """With TRUSTED_HOSTS, a request for another host is refused in the one shape."""
    client = make_client(TRUSTED_HOSTS="uploads.example.com,localhost")
    assert new_session(client)["ok"] is True
    response = client.post(
        "/v1/upload_session", json={"collection_id": COLLECTION}, headers={"Host": "evil.example.com"}
    )
    assert_error(response, 400, "invalid_request")
    assert "evil" not in response.text


SPARED = {
    "/docs": {"Cache-Control", "Content-Security-Policy"},
    "/openapi.json": {"Cache-Control", "Content-Security-Policy"},
    "/static/page.js": {"Cache-Control"},
    "/": {"Content-Security-Policy"},
}
"""What some answers say otherwise: they may be kept, or are to be seen."""


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "PUT"])
def test_security_headers(make_client, method):
    """Every answer of every route, and of none, forbids to keep, frame, guess at or pass on what it holds."""
    client = make_client(METRICS_TOKEN="a-token-of-the-tests")
    session = new_session(client)["upload_session_id"]
    headers = {"Authorization": "Bearer a-token-of-the-tests"}
    for rule in client.application.url_map.iter_rules():
        path = rule.rule.replace("<upload_session_id>", session).replace("<path:file_name>", "page.js")
        with client.open(path, method=method, headers=headers) as response:
            spared = SPARED.get(path, {"Content-Security-Policy"} if path.startswith("/u/") else set())
            for name, value in DEFAULT_HEADERS:
                assert response.headers.get(name) == value or (method == "GET" and name in spared), (path, name)
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Request-ID"]
    assert set(client.open("/nowhere", method=method).headers.items()) >= set(DEFAULT_HEADERS)


@pytest.mark.parametrize("path", ["/v1//upload_session", "/docs//", "/docs/", "/nothing//<script>", "/u//x"])
def test_no_page_of_flasks_own(client, path):
    """A path that almost is one of ours is none, and the answer does not lead to it."""
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
def test_wrong_settings(settings, name, value):
    """A wrong one stops the start, by its name."""
    with pytest.raises(SettingsError, match=name) as e:
        create_app({"RATE_LIMIT_TRACKS": "3/hour", **settings, name: value})
    assert "a-password" not in str(e.value)


def test_storage_without_its_package(settings, monkeypatch):
    """Where the package is missing, the start stops with the command that brings it."""
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(SettingsError, match=r"RATE_LIMIT_STORAGE.*pip install redis$"):
        create_app({**settings, "RATE_LIMIT_TRACKS": "3/hour", "RATE_LIMIT_STORAGE": "redis://host"})
