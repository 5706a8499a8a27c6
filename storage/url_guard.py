"""Where a webhook may lead: never into the network that the service itself stands in.

A URL comes from outside, and so do the answers of the name server for it. So a name is resolved once, every address
that came is looked at, and the connection goes to the very address that was looked at: a name that points elsewhere
a moment later changes nothing (OWASP, Server Side Request Forgery Prevention). Odd spellings of an address, such as
2130706433 or 0x7f.1, resolve to what they mean, and are judged by that.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

from storage.errors import InvalidRequest

MAX_URL = 2048
PORTS = {"https": 443, "http": 80}

# What ipaddress calls global and is no place of the public internet for all that: IANA's special-purpose registries
# beyond the Python that runs, addresses that carry other addresses inside (6to4, and relays to it), and those of
# clouds' own services (192.0.0.192 is Oracle's, 168.63.129.16 is Azure's).
NON_PUBLIC_NETWORKS = tuple(
    ip_network(text)
    for text in (
        "168.63.129.16/32", "192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24",
        "2001::/23", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "fec0::/10",
    )
)  # fmt: skip
# A network without IPv4 reaches it under this prefix: RFC 6052, section 2.1.
NAT64 = ip_network("64:ff9b::/96")


class AddressNotAllowed(Exception):
    """There is no address there that may be called; the message says why."""


class WebhookURL(NamedTuple):
    """A URL taken apart: `host` as it is spelt there, `path` with its query."""

    scheme: str
    host: str
    port: int
    path: str


def parse_webhook_url(url: str, allow_private: bool) -> WebhookURL:
    """Take a webhook's URL apart. Without `allow_private` it must be https, as what is sent is nobody else's business.

    Raises InvalidRequest.
    """
    if len(url) > MAX_URL or not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        raise InvalidRequest(f"url: takes at most {MAX_URL} visible ASCII characters.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidRequest("url: takes a URL whose host and port are valid.") from None
    if parts.scheme not in PORTS or (parts.scheme == "http" and not allow_private):
        raise InvalidRequest("url: takes an https:// URL (http:// only with WEBHOOK_ALLOW_PRIVATE=1).")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidRequest("url: takes neither credentials before the host nor a fragment; the signature is the key.")
    host = parts.hostname or ""
    if not re.fullmatch(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?|[0-9a-f:.]+", host) or port == 0:
        raise InvalidRequest("url: takes a URL whose host and port are valid; a name beyond ASCII is spelt with xn--.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return WebhookURL(parts.scheme, host, port or PORTS[parts.scheme], path)


def is_public(text: str) -> bool:
    """Whether an IP address is one of the public internet, and so is whatever address it carries inside."""
    address: IPv4Address | IPv6Address = ip_address(text)
    if isinstance(address, IPv6Address):
        inside = address.ipv4_mapped
        if address in NAT64:
            inside = IPv4Address(int(address) & 0xFFFF_FFFF)
        address = inside or address
    odd = address.is_multicast or address.is_reserved or any(address in network for network in NON_PUBLIC_NETWORKS)
    return address.is_global and not odd


def resolve_public(host: str, port: int, allow_private: bool) -> list[str]:
    """The addresses of a host, in the order in which to try them.

    Raises Refused where one of them is not public, and OSError where the name is not found.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(place[4][0]) for place in found))
    if not allow_private and not all(map(is_public, addresses)):
        raise AddressNotAllowed("its address is not one of the public internet (WEBHOOK_ALLOW_PRIVATE)")
    return addresses
