"""One delivery: a POST request, signed as Standard Webhooks requires (https://www.standardwebhooks.com).

Only the status of the response counts: its body is not read, however long it is, and redirects are not followed.
Connecting, sending and the response together have TOTAL_TIMEOUT.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from datetime import UTC, datetime
from functools import lru_cache
from threading import Timer

from standardwebhooks import Webhook

from storage import url_guard
from storage.clock import now as clock_now
from storage.errors import InvalidRequest
from storage.url_guard import AddressNotAllowed, WebhookURL

CONNECT_TIMEOUT = 5
TOTAL_TIMEOUT = 15
USER_AGENT = "Loadbay-Webhooks"


class DeliveryError(Exception):
    """The receiver did not accept the event. The message has the reason, and nothing that the receiver sent."""


def send(url: str, secret: str, message_id: str, body: bytes, allow_private: bool = False) -> int:
    """POST an event and return the status of the response, 200 to 299. Raises DeliveryError.

    A slow DNS lookup adds to TOTAL_TIMEOUT.
    """
    started = time.monotonic()
    try:
        target = url_guard.parse_webhook_url(url, allow_private)
        addresses = url_guard.resolve_public(target.host, target.port, allow_private)
        started = time.monotonic()
        status = _post(target, addresses, _headers(secret, message_id, body), body, started + TOTAL_TIMEOUT)
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


def _post(target: WebhookURL, addresses: list[str], headers: dict[str, str], body: bytes, deadline: float) -> int:
    sock = _connect(addresses, target.port, deadline)
    if target.scheme == "https":
        # The certificate must be valid for the host, although the connection goes to an address.
        hostname = target.host.rstrip(".")
        sock = _ssl_context().wrap_socket(sock, server_hostname=hostname, do_handshake_on_connect=False)
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
        connection = http.client.HTTPSConnection(target.host, target.port, context=_ssl_context())
    # With a socket http.client opens none of its own: the connection stays the one to the checked address.
    connection.sock = sock
    connection.request("POST", target.path, body, headers)
    response = connection.getresponse()
    response.close()
    return response.status


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


@lru_cache(maxsize=1)
def _ssl_context() -> ssl.SSLContext:
    """Return a context that trusts the system's certificates, or those of SSL_CERT_FILE."""
    return ssl.create_default_context()


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
