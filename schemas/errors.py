"""marshmallow's messages, told to a caller."""

from __future__ import annotations

from typing import Any


def flatten_messages(messages: Any, where: str = "") -> list[str]:
    """Nested messages as sentences, each with the field that it is about in front."""
    if isinstance(messages, dict):
        return [s for k, v in messages.items() for s in flatten_messages(v, f"{where}.{k}".lstrip("."))]
    return [f"{where}: {message}" if where else str(message) for message in messages]


def batch_errors(messages: Any) -> list[dict[str, Any]] | None:
    """For a batch, the place (from 0) and the sentences of each item at fault; else None."""
    faults = messages.get("tracks")
    if not isinstance(faults, dict):
        return None
    return [{"index": number, "message": " ".join(flatten_messages(fault))} for number, fault in faults.items()]
