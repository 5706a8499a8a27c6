"""The webhooks of the OpenAPI document, built from the events that the outbox sends."""

from __future__ import annotations

from typing import Any

from storage.webhooks.events import EVENTS, Event

HEADERS = {
    "webhook-id": ("The ID of the event, the same in each attempt.", "msg_9f86d081884c7d659a2feaa0c55ad015"),
    "webhook-timestamp": ("The time of the attempt in seconds since the epoch.", "1738321200"),
    "webhook-signature": ("HMAC-SHA256 signatures of the event, separated by spaces.", "v1,..."),
}
"""The headers of a delivery: https://github.com/standard-webhooks/standard-webhooks"""
DELIVERY = (
    "Delivered at least once, in the order of the events of each track. A 2xx response within 15 seconds acknowledges "
    "the event; anything else, a redirect included, is retried."
)


def webhook_paths() -> dict[str, Any]:
    """Return the `webhooks` of the document: one request for each type of event."""
    return {name: {"post": _operation(name, event)} for name, event in EVENTS.items()}


def _operation(name: str, event: Event) -> dict[str, Any]:
    parameters = [
        {
            "name": header,
            "in": "header",
            "required": True,
            "description": description,
            "schema": {"type": "string"},
            "example": example,
        }
        for header, (description, example) in HEADERS.items()
    ]
    return {
        "operationId": name.replace(".", "_"),
        "summary": event.description.rstrip("."),
        "description": DELIVERY,
        "security": [],
        "parameters": parameters,
        "requestBody": {"required": True, "content": {"application/json": _message(name, event)}},
        "responses": {"2XX": {"description": "The event is acknowledged."}},
    }


def _message(name: str, event: Event) -> dict[str, Any]:
    timestamp = {"type": "string", "format": "date-time", "description": "The time of the event."}
    data = {
        "type": "object",
        "description": event.description,
        "required": list(event.fields),
        "properties": event.fields,
    }
    schema = {
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {"type": {"const": name, "description": "The type."}, "timestamp": timestamp, "data": data},
    }
    example = {name: field["example"] for name, field in event.fields.items()}
    if name in ("track.failed", "track.expired"):
        example["status"] = name.partition(".")[2]
    return {"schema": schema, "example": {"type": name, "timestamp": "2030-01-31T11:00:00Z", "data": example}}
