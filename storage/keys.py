"""API keys: who may create sessions and read across them."""

from __future__ import annotations

import hmac
from hashlib import sha256

from .errors import Unauthorized
from .service import Service


def authorize(service: Service, key: str | None) -> str:
    """Who asks: a digest of `key`, or `anonymous` where there is none and ALLOW_ANONYMOUS is set.

    Raises Unauthorized unless `key` is one of API_KEYS.
    """
    if key is None:
        if service.settings.allow_anonymous:
            return "anonymous"
        raise Unauthorized
    digest = sha256(key.encode()).digest()
    # Every key is compared, so that the time taken does not tell which one came close.
    matches = [hmac.compare_digest(digest, sha256(known.encode()).digest()) for known in service.settings.api_keys]
    if not any(matches):
        raise Unauthorized("Authorization: this API key is not known.")
    return digest.hex()


def authorize_store(service: Service, key: str | None) -> None:
    """Raise Unauthorized unless `key` is STORE_EVENT_SECRET, and there is one."""
    secret = service.settings.store_event_secret
    if not secret or key is None or not hmac.compare_digest(key.encode(), secret.encode()):
        raise Unauthorized("Authorization: the store's secret is needed here (STORE_EVENT_SECRET).")
