"""Deliveries to receivers that are down, slow or reject events: no event is lost, and no other receiver waits."""

from __future__ import annotations

import threading
import time

import pytest

from storage.db.models import Track
from storage.db.sqlite import LOCK_TIMEOUT
from storage.uploads import retention
from storage.webhooks import dead_letters, delivery, endpoints, outbox
from storage.worker import MAX_CONCURRENT_DELIVERIES
from support.api import complete, new_session, new_track, track_url, upload_track
from support.database import outbox_rows, run_statement
from support.processes import wait_until
from support.sample_files import HTML, wav
from support.store import put
from support.webhook_receiver import Receiver, drain

HOUR, DAY = 3600, 86_400


def test_delivers_everything_after_an_outage(client, service, receiver, webhook_secret, worker, clock):
    """A receiver that is down for an hour gets all events afterwards."""
    session_id = new_session(client, expires_in=DAY)["upload_session_id"]
    receiver.stop()
    created = [upload_track(client, session_id) for _ in range(6)]
    for _ in range(60):
        drain(worker)
        clock.forward(60)
    assert receiver.accepted == []
    assert outbox.backlog(service)[0] == 6
    assert outbox.backlog(service)[1] >= HOUR
    receiver.restart()
    for _ in range(120):
        drain(worker)
        clock.forward(60)
    assert {message.data["track_id"] for message in receiver.accepted} == {track["track_id"] for track in created}
    assert outbox.backlog(service) == (0, 0)


def respond_endlessly(handler, message):
    """Respond with an endless body."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(2**16))
    except OSError:
        return


def respond_slowly(handler, message):
    """Respond with one byte at a time, endlessly."""
    try:
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        return


def respond_with_garbage(handler, message):
    """Respond with text that is not HTTP."""
    handler.wfile.write(b"nonsense\r\n\r\n")


def redirect(handler, message):
    """Respond with a redirect to another path."""
    if message.path == "/other":
        return 204
    handler.send_response(307)
    handler.send_header("Location", "/other")
    handler.end_headers()
    return None


@pytest.mark.parametrize(
    ("respond", "reason"),
    [
        (lambda handler, message: 500, "response status 500"),
        (lambda handler, message: 404, "response status 404"),
        (redirect, "response status 307; redirects are not followed"),
        (respond_slowly, "no connection within 5 s, or no response within 1 s"),
        (lambda handler, message: time.sleep(3), "no connection within 5 s, or no response within 1 s"),
        (respond_with_garbage, "connection failed (BadStatusLine)"),
        (lambda handler, message: handler.connection.close(), "connection failed (RemoteDisconnected)"),
    ],
    ids=["500", "404", "redirect", "slow", "mute", "garbage", "hangup"],
)  # fmt: skip
def test_retries_a_failed_delivery(
    client, service, receiver, webhook_secret, worker, clock, monkeypatch, respond, reason
):
    """A failed delivery is retried after a delay, with an identical message."""
    monkeypatch.setattr(delivery, "TOTAL_TIMEOUT", 1)
    receiver.respond = respond
    upload_track(client, new_session(client)["upload_session_id"])
    started = time.monotonic()
    drain(worker)
    assert time.monotonic() - started < 2.5
    (row,) = outbox_rows(service)
    assert (row["error"], row["attempts"]) == (reason, 1)
    receiver.respond = lambda handler, message: 204
    drain(worker)
    assert receiver.accepted == [], "The delivery is retried without a delay."
    clock.forward(10)
    drain(worker)
    (message,) = receiver.accepted
    assert len(receiver.received) == 2
    assert (message.id, message.body) == (receiver.received[0].id, receiver.received[0].body)
    assert all(message.path == "/hooks?token=a-secret-of-the-url" for message in receiver.received)


def test_timeout_includes_connecting(receiver, webhook_secret, monkeypatch):
    """A delivery has TOTAL_SECONDS in all, the time to connect included."""
    monkeypatch.setattr(delivery, "TOTAL_TIMEOUT", 2)
    connect = delivery._connect
    monkeypatch.setattr(delivery, "_connect", lambda *args: (time.sleep(1.5), connect(*args))[1])
    receiver.respond = lambda handler, message: time.sleep(4)
    started = time.monotonic()
    with pytest.raises(delivery.DeliveryError, match="within 2 s"):
        delivery.send(receiver.url, webhook_secret, "msg_1", b"{}", allow_private=True)
    assert time.monotonic() - started < 3.2


def test_ignores_the_body_of_a_response(client, service, receiver, webhook_secret, worker):
    """A response counts by its status; its body is not read."""
    receiver.respond = respond_endlessly
    upload_track(client, new_session(client)["upload_session_id"])
    drain(worker, 5)
    assert outbox_rows(service) == []


def test_slow_receivers_delay_no_others(client, service, receiver, webhook_secret, worker, monkeypatch):
    """While some receivers hang, another one gets its events at its own pace."""
    monkeypatch.setattr(delivery, "TOTAL_TIMEOUT", 6)
    released = threading.Event()

    def wait_for_release(handler, message):
        return released.wait(10) and 204

    many = 20
    with Receiver(wait_for_release) as slow:
        for _ in range(many):
            endpoints.add(service, slow.url)
        session_id = new_session(client)["upload_session_id"]
        for _ in range(12):
            upload_track(client, session_id)
        started = time.monotonic()
        while len(receiver.accepted) < 12 and time.monotonic() - started < 5:
            worker.step(0.05)
        assert len(receiver.accepted) == 12
        assert time.monotonic() - started < 3
        wait_until(lambda: len(slow.received) >= many, "Not all of the slow ones have received an event.")
        assert len(slow.received) <= MAX_CONCURRENT_DELIVERIES // 2
        released.set()
        while outbox.backlog(service)[0]:
            worker.step(0.05)
        assert len(slow.accepted) == 12 * many


def test_events_of_a_track_are_delivered_in_order(client, service, receiver, webhook_secret, worker, clock):
    """A track's second event waits until its first is accepted; events of other tracks do not."""
    session_id = new_session(client, expires_in=DAY)["upload_session_id"]
    created = upload_track(client, session_id, HTML)
    receiver.respond = lambda handler, message: 500 if message.type == "track.failed" else 204
    drain(worker)
    renewed = client.post(track_url(session_id, created, "renew")).json
    put(renewed["track_upload"], wav())
    complete(client, session_id, created)
    other = upload_track(client, session_id)
    client.post(f"/v1/upload_session/{session_id}/close")
    clock.forward(10)
    drain(worker)
    clock.forward(10)
    drain(worker)
    assert [message.data["track_id"] for message in receiver.accepted] == [other["track_id"]]
    receiver.respond = lambda handler, message: 204
    for _ in range(10):
        clock.forward(60)
        drain(worker)
    assert receiver.types() == ["track.uploaded", "track.failed", "track.uploaded", "upload_session.completed"]


def test_dead_letters_can_be_replayed(client, service, receiver, webhook_secret, worker, clock):
    """An event that is rejected for a day becomes a dead letter: it is listed, not retried, and can be replayed."""
    receiver.respond = lambda handler, message: 500
    upload_track(client, new_session(client)["upload_session_id"])
    started = clock.time()
    while not list(dead_letters.list_dead_letters(service)):
        drain(worker)
        clock.forward(120)
        assert clock.time() - started < 2 * DAY
    assert DAY <= clock.time() - started < 1.3 * DAY
    assert len(receiver.received) == len(outbox.RETRY_DELAYS) + 1
    assert [row["error"] for row in dead_letters.list_dead_letters(service)] == ["response status 500"]
    assert outbox.backlog(service) == (0, 0)
    clock.forward(DAY)
    drain(worker)
    assert len(receiver.received) == len(outbox.RETRY_DELAYS) + 1
    receiver.respond = lambda handler, message: 204
    assert dead_letters.replay(service) == 1
    drain(worker)
    assert len(receiver.accepted) == 1
    assert {message.id for message in receiver.received} == {receiver.accepted[0].id}


def test_backlog_of_a_dead_receiver_becomes_dead_letters(client, service, receiver, webhook_secret, worker, clock):
    """After a day without success, pending events become dead letters too; after a month they are purged."""
    session_id = new_session(client)["upload_session_id"]
    created = [new_track(client, session_id, "a.wav") for _ in range(600)]
    Track.update(status="expired").where(Track.id.in_([track["track_id"] for track in created])).execute(
        service.database
    )
    receiver.stop()
    for _ in range(2 * 24):
        drain(worker)
        clock.forward(3600)
        if not outbox.backlog(service)[0]:
            break
    assert len(list(dead_letters.list_dead_letters(service))) == 600
    assert any(row["attempts"] == 0 for row in dead_letters.list_dead_letters(service))
    receiver.restart()
    assert retention.purge_dead_letters(service) == 0
    clock.forward(31 * DAY)
    assert retention.purge_dead_letters(service) == 600


def test_claims_all_due_events_despite_concurrent_writes(
    client, service, receiver, webhook_secret, settings, monkeypatch
):
    """Concurrent writes do not keep a worker from claiming all due events at once."""
    session_id = new_session(client)["upload_session_id"]
    for _ in range(4):
        upload_track(client, session_id)
    try_claim, started = outbox._try_claim, time.monotonic()

    def write_then_claim(*args):
        run_statement(settings["DATABASE_URL"], "UPDATE loadbay_job SET due_at = due_at + 1")
        return try_claim(*args)

    monkeypatch.setattr(outbox, "_try_claim", write_then_claim)
    assert len(outbox.claim(service, 4, {})) == 4
    assert time.monotonic() - started < LOCK_TIMEOUT
