"""Proxies of the environment for the store and the client, and the one that a deploy names for webhooks."""

from __future__ import annotations

import os
from urllib.parse import quote, urlsplit

import pytest

from loadbay_client import Client, retry
from storage.http.proxies import proxy_for
from storage.settings import Settings, SettingsError
from storage.webhooks import delivery
from storage.webhooks.delivery import DeliveryError
from support.api import COLLECTION, complete, new_session, new_track, upload_track
from support.fault_proxy import running
from support.forward_proxy import LOGIN, ForwardProxy
from support.processes import open_sockets, wait_until
from support.sample_files import wav
from support.store import put
from support.webhook_receiver import Receiver, drain

pytestmark = pytest.mark.sqlite

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
SECRET = "whsec_" + "c2VjcmV0LW9mLTI0LWJ5dGVzLWxvbmc="


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    """An environment without proxies."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


CASES = [
    ({}, "https://s3.example.com/a", None),
    ({"HTTPS_PROXY": "http://proxy:3128"}, "https://s3.example.com/a", "http://proxy:3128"),
    ({"https_proxy": "proxy:3128"}, "https://s3.example.com/a", "http://proxy:3128"),
    ({"HTTPS_PROXY": "http://proxy:3128"}, "http://s3.example.com/a", None),
    ({"http_proxy": "http://proxy:3128"}, "http://s3.example.com/a", "http://proxy:3128"),
    ({"ALL_PROXY": "http://proxy:3128"}, "https://s3.example.com/a", "http://proxy:3128"),
    ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "example.com"}, "https://s3.example.com/a", None),
    ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, "https://s3.example.com/a", None),
    ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "s3.example.com:9000"}, "https://s3.example.com:9000/", None),
    ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "ample.com"}, "https://example.com/", "http://proxy:3128"),
]


@pytest.mark.parametrize(("environment", "url", "proxy"), CASES)
@pytest.mark.parametrize("function", [proxy_for, retry.proxy_for])
def test_environment_names_the_proxy_for_a_url(monkeypatch, function, environment, url, proxy):
    """Service and client read the variables in the same way, by scheme and host."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert function(url) == proxy


@pytest.mark.parametrize("login", ["", LOGIN])
def test_store_is_reached_through_the_proxy(client, store_endpoint, monkeypatch, login):
    """All requests of the service to the store go through the proxy of the environment, with its login."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    with running(ForwardProxy(login)) as proxy:
        user = f"{quote('user')}:{quote('p@ss word')}@" if login else ""
        monkeypatch.setenv("http_proxy", f"http://{user}{proxy.address}")
        assert complete(client, session_id, created)["status"] == "uploaded"
        assert set(proxy.targets) == {urlsplit(store_endpoint).netloc}
        count = len(proxy.targets)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert client.get("/readyz").status_code == 200
    assert len(proxy.targets) == count >= 2


def test_proxy_that_is_down_is_an_outage_of_the_store(client, monkeypatch):
    """A proxy that does not answer is told as the store's outage."""
    created = new_track(client, new_session(client)["upload_session_id"], "a.wav")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    response = client.get(f"/v1/upload/{created['upload_session_id']}/track/{created['track_id']}")
    assert (response.status_code, response.json["code"]) == (503, "storage_unavailable")


def test_client_sends_everything_through_the_proxy(server, store_endpoint, monkeypatch, tmp_path, bucket):
    """The Python client reaches service and store through the proxy of the environment."""
    path = tmp_path / "a.wav"
    path.write_bytes(wav())
    with running(ForwardProxy()) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
        monkeypatch.setenv("no_proxy", "")
        with Client(server).session(COLLECTION) as session:
            track = session.upload(path)
    assert bucket.get(track["path"]) == wav()
    assert set(proxy.targets) == {urlsplit(server).netloc, urlsplit(store_endpoint).netloc}


# --- Webhooks ---


@pytest.mark.parametrize("login", ["", LOGIN])
def test_webhooks_go_through_a_tunnel_of_the_proxy(make_client, login, receiver, monkeypatch):
    """Events reach their receiver through WEBHOOK_PROXY, and the environment's proxy does not count for them."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running(ForwardProxy(login)) as proxy:
        user = f"user:{quote('p@ss word')}@" if login else ""
        status = delivery.send(receiver.url, SECRET, "msg_1", b"{}", True, f"http://{user}{proxy.address}")
    assert (status, proxy.targets) == (204, [urlsplit(receiver.url).netloc])
    assert [message.id for message in receiver.accepted] == ["msg_1"]


def test_worker_uses_the_proxy_of_the_settings(client, service, webhook_secret, receiver, worker, monkeypatch):
    """The worker sends events through WEBHOOK_PROXY."""
    upload_track(client, new_session(client)["upload_session_id"])
    with running(ForwardProxy()) as proxy:
        object.__setattr__(service.settings, "webhook_proxy", f"http://{proxy.address}")
        drain(worker)
    assert proxy.targets == [urlsplit(receiver.url).netloc]
    assert len(receiver.accepted) == 1


@pytest.mark.parametrize(("login", "refuses", "status"), [(LOGIN, 0, 407), ("", 403, 403)])
def test_refusal_of_the_proxy_is_the_reason_of_a_failure(receiver, login, refuses, status):
    """A proxy that refuses is named in the reason, and nothing that it says; the connection to it is closed."""
    before = open_sockets(os.getpid())
    with running(ForwardProxy(login, refuses)) as proxy, pytest.raises(DeliveryError) as error:
        delivery.send(receiver.url, SECRET, "msg_1", b"{}", True, f"http://{proxy.address}")
    assert str(error.value) == f"the proxy of WEBHOOK_PROXY answered with status {status}"
    wait_until(lambda: open_sockets(os.getpid()) <= before, "A connection is still open.")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254"])
def test_private_addresses_are_refused_before_the_proxy_is_asked(host):
    """A URL with a private address is not sent to the proxy."""
    with running(ForwardProxy()) as proxy, pytest.raises(DeliveryError, match="not public"):
        delivery.send(f"https://{host}/", SECRET, "msg_1", b"{}", False, f"http://{proxy.address}")
    assert proxy.targets == []


@pytest.mark.parametrize(
    "value", ["proxy:3128", "https://proxy:3128", "http://", "http://proxy:3128/path", "http://a b"]
)
def test_setting_must_be_a_url_of_a_proxy(value):
    """A proxy is named by an http URL."""
    with pytest.raises(SettingsError, match="WEBHOOK_PROXY must be a URL such as"):
        Settings.load({"S3_ENDPOINT": "http://127.0.0.1:1", "S3_BUCKET": "tracks", "WEBHOOK_PROXY": value})


# --- Interim responses ---


def respond_after(interim, final):
    """Return a receiver's function that sends interim responses before the final one."""

    def respond(handler, message):
        for status in interim:
            handler.wfile.write(f"HTTP/1.1 {status} Wait\r\nLink: </a>; rel=preload\r\n\r\n".encode())
        return final

    return respond


@pytest.mark.parametrize("interim", [[103], [100, 103, 103], [102], [199]])
@pytest.mark.parametrize("final", [204, 200])
def test_interim_responses_are_no_last_word(interim, final):
    """The status that counts is the first that is final."""
    with Receiver(respond_after(interim, final)) as receiver:
        assert delivery.send(receiver.url, SECRET, "msg_1", b"{}", True) == final


def test_failure_after_an_interim_response_is_a_failure():
    """An early hint does not make a failure a success."""
    with Receiver(respond_after([103], 500)) as receiver, pytest.raises(DeliveryError, match="response status 500"):
        delivery.send(receiver.url, SECRET, "msg_1", b"{}", True)


def respond_with_hints_for_ever(handler, message):
    """Send interim responses until the connection ends."""
    try:
        while True:
            handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    except OSError:
        return


def test_endless_interim_responses_end_with_the_time(monkeypatch):
    """A receiver that only hints is a failure once the time is over."""
    monkeypatch.setattr(delivery, "TOTAL_TIMEOUT", 1)
    with Receiver(respond_with_hints_for_ever) as receiver, pytest.raises(DeliveryError):
        delivery.send(receiver.url, SECRET, "msg_1", b"{}", True)
