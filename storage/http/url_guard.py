"""Webhook URLs, and the guard against server-side request forgery (SSRF): no webhook reaches a private network.

URLs come from outside, and so do the DNS answers for their hosts. A host is therefore resolved once, every address of
the answer is checked, and the connection goes to a checked address: a name that resolves differently a moment later
changes nothing. Unusual spellings of an address, such as 2130706433 or 0x7f.1, are checked as what they resolve to.
https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

from storage.errors import InvalidRequest

MAX_URL_LENGTH = 2048
DEFAULT_PORTS = {"https": 443, "http": 80}

# Networks that `ipaddress` calls global although they are not public: entries of IANA's special-purpose registries that
# are newer than the running Python, addresses that embed others (6to4 and its relays), and clouds' internal services
# (192.0.0.192 is Oracle's, 168.63.129.16 is Azure's).
NON_PUBLIC_NETWORKS = tuple(
    ip_network(text)
    for text in (
        "168.63.129.16/32", "192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24",
        "2001::/23", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "fec0::/10",
    )
)  # fmt: skip
# Networks without IPv4 reach IPv4 addresses under this prefix: RFC 6052, section 2.1.
NAT64 = ip_network("64:ff9b::/96")


NOT_PUBLIC = "the host has an address that is not public (see WEBHOOK_ALLOW_PRIVATE)"


class AddressNotAllowed(Exception):
    """A host has an address that must not be called; the message gives the reason."""


class WebhookURL(NamedTuple):
    """The parts of a webhook's URL: `host` as spelled, in lower case, and `path` with the query."""

    scheme: str
    host: str
    port: int
    path: str


def parse_webhook_url(url: str, allow_private: bool) -> WebhookURL:
    """Return the parts of a webhook's URL. Without `allow_private` it must be https, as events are confidential.

    Raises InvalidRequest.
    """
    if len(url) > MAX_URL_LENGTH or not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        raise InvalidRequest(f"url: must be 1 to {MAX_URL_LENGTH} visible ASCII characters, without backslashes.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidRequest("url: must have a valid host and port.") from None
    if parts.scheme not in DEFAULT_PORTS or (parts.scheme == "http" and not allow_private):
        raise InvalidRequest("url: must be an https:// URL (http:// is allowed with WEBHOOK_ALLOW_PRIVATE=1).")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidRequest("url: must have neither credentials nor a fragment; the signature authenticates events.")
    host = parts.hostname or ""
    if not re.fullmatch(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?|[0-9a-f:.]+", host) or port == 0:
        raise InvalidRequest("url: must have a valid host and port; write a non-ASCII host in its xn-- form.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return WebhookURL(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], path)


def is_public(text: str) -> bool:
    """Return whether an IP address, and any address embedded in it, belongs to the public internet."""
    address: IPv4Address | IPv6Address = ip_address(text)
    if isinstance(address, IPv6Address):
        embedded = address.ipv4_mapped
        if address in NAT64:
            embedded = IPv4Address(int(address) & 0xFFFF_FFFF)
        address = embedded or address
    special = address.is_multicast or address.is_reserved
    return address.is_global and not special and not any(address in network for network in NON_PUBLIC_NETWORKS)


def check_literal(host: str, allow_private: bool) -> None:
    """Raise AddressNotAllowed where a host is written as an address that is not public."""
    try:
        public = is_public(host)
    except ValueError:
        return
    if not public and not allow_private:
        raise AddressNotAllowed(NOT_PUBLIC)


def resolve_public(host: str, port: int, allow_private: bool) -> list[str]:
    """Return the addresses of a host, in the order in which to try them.

    Raises AddressNotAllowed if one of them is not public, and OSError if the host cannot be resolved.
    """
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers))
    if not allow_private and not all(map(is_public, addresses)):
        raise AddressNotAllowed(NOT_PUBLIC)
    return addresses
