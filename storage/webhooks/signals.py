"""Signals: the events of webhooks for receivers in the worker's process, with the same retries and dead letters.

    from loadbay import signals

    @signals.track_uploaded.connect
    def add_to_library(service, *, id, timestamp, data, **_):
        print(data["path"])

With SIGNALS=1 the outbox has an endpoint for them. A receiver that raises an exception has not accepted the event, and
gets it again. As a worker may die between a receiver and the record of it, an event may come twice, with the same id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import orjson
from blinker import ANY, NamedSignal

ENDPOINT = "signals:"
"""The URL of the endpoint in the outbox; no URL that can be added looks like it."""
ENDPOINT_ID = "51c4a15a-0000-4000-8000-000000000000"

Receiver = TypeVar("Receiver", bound=Callable[..., Any])


class EventSignal(NamedSignal):
    """A signal that keeps its receivers, such as the functions that a host defines in its `create_app`.

    blinker would forget them with the end of that function, and every event would become a dead letter.
    """

    def connect(self, receiver: Receiver, sender: Any = ANY, weak: bool = False) -> Receiver:
        """Connect a receiver until it is disconnected; with `weak`, until nothing else refers to it."""
        return super().connect(receiver, sender, weak)


track_uploaded = EventSignal("track.uploaded")
track_failed = EventSignal("track.failed")
track_expired = EventSignal("track.expired")
upload_session_completed = EventSignal("upload_session.completed")
SIGNALS = {signal.name: signal for signal in (track_uploaded, track_failed, track_expired, upload_session_completed)}


class NoReceivers(Exception):
    """No signal has a receiver in this process: it is not the one that the host's receivers are connected in."""


def send(sender: object, event_id: str, body: bytes) -> None:
    """Call the receivers of an event. Raises what a receiver raises, and NoReceivers."""
    if not any(signal.receivers for signal in SIGNALS.values()):
        raise NoReceivers
    event: Mapping[str, Any] = orjson.loads(body)
    if (signal := SIGNALS.get(event["type"])) is not None:
        signal.send(sender, id=event_id, **event)
