"""Webhook URLs: no address inside the service's own network is reached, by any notation or name."""

from __future__ import annotations

import socket

import pytest

from storage.errors import InvalidRequest
from storage.http import url_guard
from storage.http.tls import tls_context
from storage.webhooks import delivery
from storage.webhooks.delivery import DeliveryError, send
from support.certificates import self_signed, server_context
from support.webhook_receiver import Receiver

SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cyBvZiBhZGRyZXNzZXM="
MESSAGE = ("msg_1", b'{"type": "webhook.test"}')


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.10", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
        "169.254.169.254", "192.0.0.192", "192.0.2.1", "198.18.0.1", "203.0.113.5", "224.0.0.1", "239.1.1.1",
        "240.0.0.1", "255.255.255.255", "168.63.129.16", "100.100.100.200", "192.88.99.1",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "fe80::1",
        "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "100::1",
    ],
)  # fmt: skip
def test_private_addresses_are_not_public(address):
    """Addresses of this machine, of private networks and of cloud services are not public, embedded ones included."""
    assert not url_guard.is_public(address)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "93.184.215.14", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8",
     "64:ff9b::808:808"],
)  # fmt: skip
def test_internet_addresses_are_public(address):
    """Addresses of the public internet may be called."""
    assert url_guard.is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "localhost.", "LOCALHOST", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0",
     "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]",
     "169.254.169.254"],
)  # fmt: skip
def test_sends_nothing_to_any_notation_of_localhost(host):
    """A URL with any notation of this machine's address or name is not called."""
    with Receiver() as receiver, pytest.raises(DeliveryError) as refusal:
        send(f"https://{host}:{receiver.port}/", SECRET, *MESSAGE)
    assert "not public" in str(refusal.value) or "host not found" in str(refusal.value)
    assert receiver.received == []


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks", "//example.com", "ftp://example.com", "file:///etc/passwd", "gopher://127.0.0.1:6379/_x",
        "http://example.com/", "https://", "https:///path", "https://user:password@example.com/",
        "https://user@example.com", "https://example.com#fragment", "https://example.com:0/", "https://example.com:65536/",
        "https://example.com:port/", "https://exa mple.com/", "https://example.com/\r\nX: y", "https://example.com\\@evil",
        "https://münchen.example/", "https://example.com/ä", "https://[::1/", "https://[fe80::1%25eth0]/",
        "https://example..com/", f"https://{'a' * 64}.example.com/", "https://example.com/" + "x" * 2048,
    ],
)  # fmt: skip
def test_rejects_invalid_urls(url):
    """A URL that is not valid for a webhook is rejected with an error."""
    with pytest.raises(InvalidRequest, match="url: must"):
        url_guard.parse_webhook_url(url, allow_private=False)


def test_parses_urls():
    """The path and query of a URL are sent unchanged."""
    target = url_guard.parse_webhook_url("https://Hooks.Example.com:8443/a%20b/?token=x&y=%2F", allow_private=False)
    assert target == ("https", "hooks.example.com", 8443, "/a%20b/?token=x&y=%2F")
    assert url_guard.parse_webhook_url("https://example.com?x=1", allow_private=False).path == "/?x=1"
    assert url_guard.parse_webhook_url("http://[::1]/", allow_private=True) == ("http", "::1", 80, "/")


class FakeResolver:
    """A resolver that returns the given results, one after the other, for names in .example."""

    def __init__(self, monkeypatch, *results):
        self.results, self.calls = list(results), 0
        self.getaddrinfo = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.resolve)

    def resolve(self, host, port, *args, **kwargs):
        if not host.rstrip(".").endswith(".example"):
            return self.getaddrinfo(host, port, *args, **kwargs)
        self.calls += 1
        addresses = self.results.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["127.0.0.1", "93.184.215.14"]])
def test_rejects_names_with_a_private_address(monkeypatch, addresses):
    """A name with a private address is rejected, even if it has public ones as well."""
    FakeResolver(monkeypatch, addresses)
    with pytest.raises(DeliveryError, match="not public"):
        send("https://rebound.example/", SECRET, *MESSAGE)


def test_resolves_a_name_once(monkeypatch):
    """A name is resolved once, so that a later change to a private address has no effect (DNS rebinding)."""
    resolver = FakeResolver(monkeypatch, ["93.184.215.14"], ["127.0.0.1"])
    connections = []

    def connect(address, timeout):
        connections.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(delivery.socket, "create_connection", connect)
    with Receiver() as receiver, pytest.raises(DeliveryError, match="connection refused"):
        send(f"https://rebound.example:{receiver.port}/", SECRET, *MESSAGE)
    assert connections == [("93.184.215.14", receiver.port)]
    assert resolver.calls == 1
    assert receiver.received == []


def test_tries_the_next_address(monkeypatch):
    """If one address of a name is unreachable, the next one is tried."""
    FakeResolver(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    with Receiver() as receiver:
        assert send(f"http://two.example:{receiver.port}/", SECRET, *MESSAGE, allow_private=True) == 204
    assert receiver.received[0].headers["host"] == f"two.example:{receiver.port}"


@pytest.fixture
def certificate(tmp_path):
    """A file with a certificate for hooks.example and its key."""
    return self_signed(tmp_path, "DNS:hooks.example")


@pytest.fixture
def trust(monkeypatch):
    """Trust the certificates of a file, instead of the system's."""

    def trust_file(path):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        tls_context.cache_clear()

    yield trust_file
    tls_context.cache_clear()


@pytest.mark.parametrize(
    ("host", "trusted", "reason"),
    [
        ("hooks.example", True, None),
        ("hooks.example.", True, None),
        ("other.example", True, "Hostname mismatch"),
        ("127.0.0.1", True, "IP address mismatch"),
        ("hooks.example", False, "self-signed certificate"),
    ],
)
def test_certificate_must_match_the_name(monkeypatch, certificate, trust, host, trusted, reason):
    """The connection goes to an address, but the certificate must be trusted and match the name."""
    FakeResolver(monkeypatch, ["127.0.0.1"])
    monkeypatch.setattr(url_guard, "is_public", lambda address: True)
    if trusted:
        trust(certificate)
    with Receiver(context=server_context(certificate)) as receiver:
        url = f"https://{host}:{receiver.port}/hooks"
        if reason is None:
            assert send(url, SECRET, *MESSAGE) == 204
            assert receiver.received[0].verify(SECRET) == {"type": "webhook.test"}
        else:
            with pytest.raises(DeliveryError, match=f"certificate verification failed: .*{reason}"):
                send(url, SECRET, *MESSAGE)
            assert receiver.received == []
