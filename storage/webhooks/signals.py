"""Signals: the events of webhooks for receivers in the worker's process, with the same retries and dead letters.

    from loadbay import signals

    @signals.track_uploaded.connect
    def add_to_library(service, *, id, timestamp, data, **_):
        print(data["path"])

With SIGNALS=1 the outbox has an endpoint for them. A receiver that raises an exception has not accepted the event, and
gets it again. As a worker may die between a receiver and the record of it, an event may come twice, with the same id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from blinker import Namespace

ENDPOINT = "signals:"
"""The URL of the endpoint in the outbox; no URL that can be added looks like it."""
ENDPOINT_ID = "51c4a15a-0000-4000-8000-000000000000"

_namespace = Namespace()
track_uploaded = _namespace.signal("track.uploaded")
track_failed = _namespace.signal("track.failed")
track_expired = _namespace.signal("track.expired")
upload_session_completed = _namespace.signal("upload_session.completed")


class NoReceivers(Exception):
    """No signal has a receiver in this process: it is not the one that the host's receivers are connected in."""


def send(sender: object, event_id: str, body: bytes) -> None:
    """Call the receivers of an event. Raises what a receiver raises, and NoReceivers."""
    if not any(signal.receivers for signal in _namespace.values()):
        raise NoReceivers
    event: Mapping[str, Any] = orjson.loads(body)
    if (signal := _namespace.get(event["type"])) is not None:
        signal.send(sender, id=event_id, **event)
