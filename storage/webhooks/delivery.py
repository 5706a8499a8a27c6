"""One delivery of a webhook: an HTTP POST, signed as Standard Webhooks says (https://www.standardwebhooks.com).

Nothing of the answer counts but its status. It is not read further, so that it may be as long as it likes; a
redirect is not followed; and all of it together, connecting to the last byte, has TOTAL_SECONDS.
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

CONNECT_SECONDS = 5
TOTAL_SECONDS = 15
USER_AGENT = "Loadbay-Webhooks"


class DeliveryError(Exception):
    """The receiver did not take the message; the text says why, and holds nothing that came from there."""


def send(url: str, secret: str, message_id: str, body: bytes, allow_private: bool = False) -> int:
    """POST a message; returns the status of the answer, 200 to 299. Raises NotDelivered.

    The name server's patience comes on top of TOTAL_SECONDS.
    """
    began = time.monotonic()
    try:
        target = url_guard.parse_webhook_url(url, allow_private)
        resolved = url_guard.resolve_public(target.host, target.port, allow_private)
        began = time.monotonic()
        status = _post(target, resolved, _headers(secret, message_id, body), body, began + TOTAL_SECONDS)
    except (AddressNotAllowed, InvalidRequest) as e:
        raise DeliveryError(str(e)) from e
    except (OSError, http.client.HTTPException, ValueError) as e:
        late = time.monotonic() - began >= TOTAL_SECONDS
        raise DeliveryError(_reason(TimeoutError() if late else e)) from e
    if 300 <= status < 400:
        raise DeliveryError(f"it answered {status}, and redirects are not followed")
    if not 200 <= status < 300:
        raise DeliveryError(f"it answered {status}")
    return status


def _headers(secret: str, message_id: str, body: bytes) -> dict[str, str]:
    now = clock_now()
    signature = Webhook(secret).sign(message_id, datetime.fromtimestamp(now, UTC), body.decode())
    headers = {"webhook-id": message_id, "webhook-timestamp": str(now), "webhook-signature": signature}
    return {**headers, "Content-Type": "application/json", "User-Agent": USER_AGENT}


def _post(target: WebhookURL, places: list[str], headers: dict[str, str], body: bytes, end: float) -> int:
    sock = _connect(places, target.port, end)
    if target.scheme == "https":
        # The certificate must be that of the name, though the connection goes to an address.
        name = target.host.rstrip(".")
        sock = _ssl_context().wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
    # A socket's timeout is for each packet: somebody who drips byte by byte is cut off by this.
    sock.settimeout(_remaining(end))
    cut = Timer(_remaining(end), _abort_socket, [sock])
    cut.daemon = True
    cut.start()
    try:
        return _exchange(target, sock, headers, body)
    finally:
        cut.cancel()
        sock.close()


def _remaining(end: float) -> float:
    return max(0.1, end - time.monotonic())


def _exchange(target: WebhookURL, sock: socket.socket, headers: dict[str, str], body: bytes) -> int:
    connection = http.client.HTTPConnection(target.host, target.port)
    if isinstance(sock, ssl.SSLSocket):
        sock.do_handshake()
        connection = http.client.HTTPSConnection(target.host, target.port, context=_ssl_context())
    # A connection that has its socket makes none: it is the one to the address that was looked at.
    connection.sock = sock
    connection.request("POST", target.path, body, headers)
    answer = connection.getresponse()
    answer.close()
    return answer.status


def _connect(places: list[str], port: int, end: float) -> socket.socket:
    for number, place in enumerate(places, 1):
        try:
            return socket.create_connection((place, port), min(CONNECT_SECONDS, _remaining(end)))
        except OSError:
            if number == len(places) or time.monotonic() >= end:
                raise
    raise OSError("There is no address.")


def _abort_socket(sock: socket.socket) -> None:
    try:
        # Past the TLS layer, which another thread is in the middle of.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        # It has ended by itself.
        return


@lru_cache(maxsize=1)
def _ssl_context() -> ssl.SSLContext:
    """The system's certificates, or those that SSL_CERT_FILE names."""
    return ssl.create_default_context()


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"it did not connect within {CONNECT_SECONDS} s, or not answer within {TOTAL_SECONDS} s"
    if isinstance(error, socket.gaierror):
        return "its name is not found"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    if isinstance(error, ConnectionRefusedError):
        return "it refused the connection"
    return f"the connection failed ({type(error).__name__})"
