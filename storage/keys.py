"""API keys: who may create sessions and read across them."""

from __future__ import annotations

import hmac
from hashlib import sha256

from .errors import Unauthorized
from .service import Service


def authorize(service: Service, key: str | None) -> None:
    """Raise Unauthorized unless `key` is one of API_KEYS, or there is none and ALLOW_ANONYMOUS is set."""
    if key is None:
        if service.settings.allow_anonymous:
            return
        raise Unauthorized
    digest = sha256(key.encode()).digest()
    # Every key is compared, so that the time taken does not tell which one came close.
    matches = [hmac.compare_digest(digest, sha256(known.encode()).digest()) for known in service.settings.api_keys]
    if not any(matches):
        raise Unauthorized("Authorization: this API key is not known.")
