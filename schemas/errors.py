"""Validation errors as sentences for the caller."""

from __future__ import annotations

from typing import Any


def flatten_messages(messages: Any, prefix: str = "") -> list[str]:
    """Return marshmallow's nested messages as sentences, each prefixed with the dotted name of its field."""
    if isinstance(messages, dict):
        return [s for key, value in messages.items() for s in flatten_messages(value, f"{prefix}.{key}".lstrip("."))]
    return [f"{prefix}: {message}" if prefix else str(message) for message in messages]


def batch_errors(messages: Any) -> list[dict[str, Any]] | None:
    """Return `index` (from 0) and `message` of each invalid item of a batch, or None for any other request."""
    errors = messages.get("tracks")
    if not isinstance(errors, dict):
        return None
    return [{"index": number, "message": " ".join(flatten_messages(error))} for number, error in errors.items()]
