"""Amazon SNS messages that carry notifications of the store: signatures, and confirmations of subscriptions.

SNS sends no bearer token, but signs its messages:
https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
A signature shows that a message is of SNS; only STORE_EVENT_TOPICS shows that its topic is the operator's.
"""

from __future__ import annotations

import json
import logging
import re
from base64 import b64decode
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import urllib3

from storage.errors import StorageUnavailable, Unauthorized
from storage.http.proxies import ProxiedPoolManager
from storage.noticing import store_events
from storage.service import Service

if TYPE_CHECKING:
    from Crypto.PublicKey.RSA import RsaKey

logger = logging.getLogger("loadbay.store")

HOST = r"https://sns\.[a-z0-9-]{3,32}\.amazonaws\.com(?:\.cn)?"
_certificate_url = re.compile(rf"{HOST}/SimpleNotificationService-[A-Za-z0-9]{{1,64}}\.pem")
_confirmation_url = re.compile(rf"{HOST}/\?Action=ConfirmSubscription&[!-~]{{1,2000}}")

SIGNED_FIELDS = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
"""The fields that are signed, by type of message, in the order of the signature. `Subject` may be absent."""

SIGNATURE_VERSIONS = ("1", "2")
MAX_CERTIFICATE_BYTES = 65_536

_http = ProxiedPoolManager(timeout=urllib3.Timeout(connect=1, read=2), retries=False)


def handle_message(service: Service, message: Mapping[str, Any]) -> int:
    """Handle an SNS message, and return the number of tracks that it was about.

    A subscription is confirmed if its topic is one of STORE_EVENT_TOPICS. Raises Unauthorized for another topic or a
    wrong signature, and StorageUnavailable where SNS or the store is unreachable, so that SNS sends the message again.
    """
    if message.get("TopicArn") not in service.settings.store_event_topics:
        raise Unauthorized("TopicArn: must be one of STORE_EVENT_TOPICS.")
    verify_signature(message)
    if message["Type"] == "Notification":
        return store_events.handle_notification(service, _content(message["Message"]))
    if message["Type"] == "SubscriptionConfirmation":
        _confirm(message)
    else:
        logger.warning("The subscription to %s was ended: store events no longer arrive.", message["TopicArn"])
    return 0


def verify_signature(message: Mapping[str, Any]) -> None:
    """Raise Unauthorized unless SNS has signed the message, and StorageUnavailable where that cannot be checked."""
    fields, version = SIGNED_FIELDS.get(str(message.get("Type"))), str(message.get("SignatureVersion"))
    url, signature = message.get("SigningCertURL"), message.get("Signature")
    if fields is None or version not in SIGNATURE_VERSIONS or not isinstance(signature, str):
        raise Unauthorized("The message must be signed by Amazon SNS.")
    if not isinstance(url, str) or not _certificate_url.fullmatch(url):
        raise Unauthorized("SigningCertURL: must be an https URL of Amazon SNS.")
    present = [name for name in fields if name != "Subject" or message.get("Subject") is not None]
    signed = "".join(f"{name}\n{message.get(name)}\n" for name in present)
    try:
        _verify(_public_key(url), version, signed.encode(), b64decode(signature, validate=True))
    except ValueError as e:
        raise Unauthorized("Signature: does not match the message.") from e


def _verify(key: RsaKey, version: str, signed: bytes, signature: bytes) -> None:
    """Raise ValueError where the signature is not of this key, or not of what was signed."""
    # Imported here, as a deploy without SNS does not need it.
    from Crypto.Hash import SHA1, SHA256
    from Crypto.Signature import pkcs1_15

    pkcs1_15.new(key).verify({"1": SHA1, "2": SHA256}[version].new(signed), signature)


@lru_cache(maxsize=16)
def _public_key(url: str) -> RsaKey:
    """Return the key of a certificate. The URL names one certificate for good, which TLS shows to be of SNS."""
    # Imported here, as a deploy without SNS does not need it.
    from Crypto.PublicKey import RSA

    return RSA.import_key(_get(url))


def _get(url: str) -> bytes:
    try:
        response = _http.request("GET", url, redirect=False, preload_content=False)
        try:
            body = response.read(MAX_CERTIFICATE_BYTES)
        finally:
            response.close()
    except (urllib3.exceptions.HTTPError, OSError) as e:
        logger.error("Amazon SNS is unreachable (%s)", type(e).__name__)
        raise StorageUnavailable("Amazon SNS is unreachable.") from e
    if response.status != 200:
        logger.error("Amazon SNS answered with status %s", response.status)
        raise StorageUnavailable("Amazon SNS did not answer as expected.")
    return body


def _confirm(message: Mapping[str, Any]) -> None:
    url = message["SubscribeURL"]
    if not isinstance(url, str) or not _confirmation_url.fullmatch(url):
        raise Unauthorized("SubscribeURL: must be an https URL of Amazon SNS.")
    _get(url)
    logger.info("Subscribed to %s for store events.", message["TopicArn"])


def _content(text: object) -> Mapping[str, Any]:
    """Return the notification in a message, or an empty one where it is not JSON."""
    try:
        content = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        content = None
    return content if isinstance(content, dict) else {}
