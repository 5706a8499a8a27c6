"""Detection of secrets in logs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from support.store import SECRET_KEY

PATTERN = re.compile(
    r'"upload_session_id": ?"([^"]+)"|X-Amz-Signature=([0-9a-f]{64})|"x-amz-signature": ?"([0-9a-f]{64})"'
    r"|(loadbay_(?:full|uploader)_[A-Za-z0-9]{12}_[A-Za-z0-9]{43})"
)
SECRET_SETTINGS = ("API_KEYS", "METRICS_TOKEN", "STORE_EVENT_SECRET", "WEBHOOK_SECRET", "AWS_SECRET_ACCESS_KEY")
MIN_LENGTH = 16
"""Characters of a secret. A shorter text may be in a log by accident."""


class SecretTracker:
    """The secrets that a test has used, none of which may be in a log."""

    def __init__(self) -> None:
        self.secrets = {SECRET_KEY}

    def add_from_text(self, text: str) -> None:
        """Add the secrets in the body of a response or in the output of a command."""
        self.secrets |= {secret for match in PATTERN.findall(text) for secret in match if secret}

    def add_from_settings(self, settings: Mapping[str, Any]) -> None:
        """Add the secrets among the settings of a service."""
        for value in filter(None, map(settings.get, SECRET_SETTINGS)):
            values = value.split(",") if isinstance(value, str) else value
            self.secrets |= {secret for secret in map(str.strip, values) if len(secret) >= MIN_LENGTH}

    def add_from_headers(self, headers: Mapping[str, Any]) -> None:
        """Add the key that a request carries, valid or not."""
        scheme, _, key = str(headers.get("Authorization", "")).partition(" ")
        self.secrets |= {key} if scheme.lower() == "bearer" and len(key) >= MIN_LENGTH else set()

    def leaked_in(self, texts: Iterable[str]) -> set[str]:
        """Return the secrets that are in one of the texts."""
        joined = "\n".join(texts)
        return {secret for secret in self.secrets if secret in joined}
