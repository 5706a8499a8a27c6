"""One delivery: a POST request, signed as Standard Webhooks requires (https://www.standardwebhooks.com).

Only the status of the response counts: its body is not read, however long it is, and redirects are not followed.
Connecting, sending and the response together have TOTAL_TIMEOUT.
"""

from __future__ import annotations

import http
import http.client
import socket
import ssl
import time
from base64 import b64encode
from datetime import UTC, datetime
from threading import Timer
from typing import BinaryIO, cast
from urllib.parse import unquote, urlsplit

from standardwebhooks import Webhook

from storage.clock import now as clock_now
from storage.errors import InvalidRequest
from storage.http import url_guard
from storage.http.tls import tls_context
from storage.http.url_guard import AddressNotAllowed, WebhookURL

CONNECT_TIMEOUT = 5
TOTAL_TIMEOUT = 15
USER_AGENT = "Loadbay-Webhooks"


class DeliveryError(Exception):
    """The receiver did not accept the event. The message has the reason, and nothing that the receiver sent."""


def send(
    url: str, secret: str, message_id: str, body: bytes, allow_private: bool = False, proxy: str | None = None
) -> int:
    """POST an event and return the status of the response, 200 to 299. Raises DeliveryError.

    A slow DNS lookup adds to TOTAL_TIMEOUT. Through `proxy` (http://user:password@host:port) the connection is a tunnel
    (RFC 9110, 9.3.6): the proxy looks the host up, and only an address in the URL itself is checked here.
    """
    started = time.monotonic()
    try:
        target = url_guard.parse_webhook_url(url, allow_private)
        addresses = [] if proxy else url_guard.resolve_public(target.host, target.port, allow_private)
        url_guard.check_literal(target.host, allow_private)
        started = time.monotonic()
        deadline = started + TOTAL_TIMEOUT
        sock = _connect_through(proxy, target, deadline) if proxy else _connect(addresses, target.port, deadline)
        status = _post(target, sock, _headers(secret, message_id, body), body, deadline)
    except (AddressNotAllowed, InvalidRequest) as e:
        raise DeliveryError(str(e)) from e
    except (OSError, http.client.HTTPException, ValueError) as e:
        timed_out = time.monotonic() - started >= TOTAL_TIMEOUT
        raise DeliveryError(_reason(TimeoutError() if timed_out else e)) from e
    if 300 <= status < 400:
        raise DeliveryError(f"response status {status}; redirects are not followed")
    if not 200 <= status < 300:
        raise DeliveryError(f"response status {status}")
    return status


def _headers(secret: str, message_id: str, body: bytes) -> dict[str, str]:
    now = clock_now()
    signature = Webhook(secret).sign(message_id, datetime.fromtimestamp(now, UTC), body.decode())
    headers = {"webhook-id": message_id, "webhook-timestamp": str(now), "webhook-signature": signature}
    return {**headers, "Content-Type": "application/json", "User-Agent": USER_AGENT}


def _post(target: WebhookURL, sock: socket.socket, headers: dict[str, str], body: bytes, deadline: float) -> int:
    if target.scheme == "https":
        # The certificate must be valid for the host, although the connection goes to an address.
        hostname = target.host.rstrip(".")
        sock = tls_context().wrap_socket(sock, server_hostname=hostname, do_handshake_on_connect=False)
    # A socket's timeout restarts with every packet; the timer also ends a connection that sends byte by byte.
    sock.settimeout(_remaining(deadline))
    timer = Timer(_remaining(deadline), _abort_socket, [sock])
    timer.daemon = True
    timer.start()
    try:
        return _exchange(target, sock, headers, body)
    finally:
        timer.cancel()
        sock.close()


def _remaining(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())


def _exchange(target: WebhookURL, sock: socket.socket, headers: dict[str, str], body: bytes) -> int:
    connection = http.client.HTTPConnection(target.host, target.port)
    if isinstance(sock, ssl.SSLSocket):
        sock.do_handshake()
        connection = http.client.HTTPSConnection(target.host, target.port, context=tls_context())
    # With a socket http.client opens none of its own: the connection stays the one to the checked address.
    connection.sock = sock
    connection.request("POST", target.path, body, headers)
    return _final_status(sock)


class _Stream:
    """A source of responses for http.client: one file for all of them, since it reads ahead."""

    def __init__(self, file: BinaryIO):
        self._file = file

    def makefile(self, _mode: str) -> BinaryIO:
        """Return the file."""
        return self._file


def _final_status(sock: socket.socket) -> int:
    """Return the status of the final response. Interim ones, such as 103, are no last word (RFC 9110, 15.2)."""
    responses: list[http.client.HTTPResponse] = []
    with sock.makefile("rb") as file:
        while True:
            # Kept, because one that is collected closes the file.
            responses.append(http.client.HTTPResponse(cast(socket.socket, _Stream(file)), method="POST"))
            responses[-1].begin()
            status = responses[-1].status
            if status >= 200 or status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                return status


def _connect_through(proxy: str, target: WebhookURL, deadline: float) -> socket.socket:
    """Return a connection to the target through a proxy. Raises DeliveryError where the proxy refuses."""
    parts = urlsplit(proxy)
    sock = socket.create_connection((parts.hostname, parts.port or 80), min(CONNECT_TIMEOUT, _remaining(deadline)))
    timer = Timer(_remaining(deadline), _abort_socket, [sock])
    timer.daemon = True
    timer.start()
    try:
        address = f"[{target.host}]:{target.port}" if ":" in target.host else f"{target.host}:{target.port}"
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
        headers = f"Proxy-Authorization: Basic {b64encode(login.encode()).decode()}\r\n" if login else ""
        sock.settimeout(_remaining(deadline))
        sock.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n".encode())
        # It has a file of the socket, which stays open with it.
        with http.client.HTTPResponse(sock, method="CONNECT") as response:
            response.begin()
        if not 200 <= response.status < 300:
            raise DeliveryError(f"the proxy of WEBHOOK_PROXY answered with status {response.status}")
    except BaseException:
        sock.close()
        raise
    finally:
        timer.cancel()
    return sock


def _connect(addresses: list[str], port: int, deadline: float) -> socket.socket:
    for number, address in enumerate(addresses, 1):
        try:
            return socket.create_connection((address, port), min(CONNECT_TIMEOUT, _remaining(deadline)))
        except OSError:
            if number == len(addresses) or time.monotonic() >= deadline:
                raise
    raise OSError("The host has no address.")


def _abort_socket(sock: socket.socket) -> None:
    try:
        # Below the TLS layer, which another thread is using.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        # The connection has ended already.
        return


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no connection within {CONNECT_TIMEOUT} s, or no response within {TOTAL_TIMEOUT} s"
    if isinstance(error, socket.gaierror):
        return "host not found"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verification failed: {error.verify_message}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return f"connection failed ({type(error).__name__})"
