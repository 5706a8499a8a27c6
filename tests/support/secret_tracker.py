"""Detection of secrets in logs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from support.store import ADMIN_KEY, SECRET_KEY

PATTERN = re.compile(
    r'"upload_session_id": ?"([^"]+)"|X-Amz-Signature=([0-9a-f]{64})|"x-amz-signature": ?"([0-9a-f]{64})"'
    r"|(loadbay_(?:full|uploader)_[A-Za-z0-9]{12}_[A-Za-z0-9]{43})"
)
SECRET_SETTINGS = (
    "API_KEYS", "RECEIPT_KEYS", "METRICS_TOKEN", "STORE_EVENT_SECRET", "WEBHOOK_SECRET", "AWS_SECRET_ACCESS_KEY",
)  # fmt: skip
MIN_LENGTH = 16
"""Characters of a secret. A shorter text may be in a log by accident."""


TOKENS = tuple(
    re.compile(pattern)
    for pattern in (
        r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", r"[0-9a-f]{64}", r"loadbay_[a-z]+_\w{56}", r"[\w.+-]{16,}",
    )
)  # fmt: skip
"""Forms of secrets in a log: a session's id, a signature, an API key, or any long word."""


class SecretTracker:
    """The secrets that a test has used, none of which may be in a log.

    `texts` are those of metadata, which databases and stores must not log either.
    """

    def __init__(self) -> None:
        self.secrets = {SECRET_KEY, ADMIN_KEY[1]}
        self.texts: set[str] = set()

    def add_metadata(self, payload: object) -> None:
        """Add the texts of the metadata in a request's body."""
        for item in _find_all(payload, "metadata"):
            self.texts |= {text for text in _strings(item) if len(text) >= MIN_LENGTH}

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


def _find_all(payload: object, name: str) -> Iterator[object]:
    """Yield each value of the key `name` in a JSON document."""
    if isinstance(payload, Mapping):
        for key, value in payload.items():
            if key == name:
                yield value
            else:
                yield from _find_all(value, name)
    elif isinstance(payload, list):
        for item in payload:
            yield from _find_all(item, name)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def leaks_in_file(path: Path, secrets: set[str], texts: set[str]) -> set[str]:
    """Return those of all the secrets of a run, and texts of its metadata, that are in a log file."""
    leaks: set[str] = set()
    with path.open(errors="replace") as file:
        for line in file:
            leaks |= secrets.intersection(match for token in TOKENS for match in token.findall(line))
            leaks |= {text for text in texts if text in line}
    return leaks
