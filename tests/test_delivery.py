"""Receivers that are away, slow or refuse: no event is lost, and nobody else waits."""

from __future__ import annotations

import threading
import time

import pytest

from storage.db.models import Track
from storage.db.sqlite import LOCK_TIMEOUT
from storage.webhooks import dead_letters, delivery, endpoints, outbox
from storage.worker import MAX_CONCURRENT_DELIVERIES
from support.api import complete, new_session, new_track, track_url, upload_track
from support.database import outbox_rows, run_statement
from support.sample_files import HTML, wav
from support.store import put
from support.webhook_receiver import Receiver, drain

HOUR, DAY = 3600, 86_400


def test_down_for_an_hour(client, service, receiver, webhook_secret, worker, clock):
    """A receiver that is away for an hour gets everything when it is back."""
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


def huge(handler, message):
    """Answer with a body that never ends."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(2**16))
    except OSError:
        return


def drip(handler, message):
    """Answer a byte at a time, and never come to an end."""
    try:
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        return


def nonsense(handler, message):
    """Answer with something that is no HTTP."""
    handler.wfile.write(b"nonsense\r\n\r\n")


def elsewhere(handler, message):
    """Answer with a redirect to another path."""
    if message.path == "/other":
        return 204
    handler.send_response(307)
    handler.send_header("Location", "/other")
    handler.end_headers()
    return None


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (lambda handler, message: 500, "response status 500"),
        (lambda handler, message: 404, "response status 404"),
        (elsewhere, "response status 307; redirects are not followed"),
        (drip, "no connection within 5 s, or no response within 1 s"),
        (lambda handler, message: time.sleep(3), "no connection within 5 s, or no response within 1 s"),
        (nonsense, "connection failed (BadStatusLine)"),
        (lambda handler, message: handler.connection.close(), "connection failed (RemoteDisconnected)"),
    ],
    ids=["500", "404", "redirect", "drip", "mute", "nonsense", "hangup"],
)  # fmt: skip
def test_refused_then_taken(client, service, receiver, webhook_secret, worker, clock, monkeypatch, response, reason):
    """What is not taken comes again after a pause, the same message to the letter."""
    monkeypatch.setattr(delivery, "TOTAL_TIMEOUT", 1)
    receiver.respond = response
    upload_track(client, new_session(client)["upload_session_id"])
    began = time.monotonic()
    drain(worker)
    assert time.monotonic() - began < 2.5
    (row,) = outbox_rows(service)
    assert (row["error"], row["attempts"]) == (reason, 1)
    receiver.respond = lambda handler, message: 204
    drain(worker)
    assert receiver.accepted == [], "It must be left alone for some seconds."
    clock.forward(10)
    drain(worker)
    (message,) = receiver.accepted
    assert len(receiver.received) == 2
    assert (message.id, message.body) == (receiver.received[0].id, receiver.received[0].body)
    assert all(came.path == "/hooks?token=a-secret-of-the-url" for came in receiver.received)


def test_time_to_connect_counts(receiver, webhook_secret, monkeypatch):
    """A delivery has TOTAL_TIMEOUT in all, however long it takes to connect."""
    monkeypatch.setattr(delivery, "TOTAL_TIMEOUT", 2)
    connect = delivery._connect
    monkeypatch.setattr(delivery, "_connect", lambda *args: (time.sleep(1.5), connect(*args))[1])
    receiver.respond = lambda handler, message: time.sleep(4)
    began = time.monotonic()
    with pytest.raises(delivery.DeliveryError, match="within 2 s"):
        delivery.send(receiver.url, webhook_secret, "msg_1", b"{}", allow_private=True)
    assert time.monotonic() - began < 3.2


def test_huge_answer(client, service, receiver, webhook_secret, worker):
    """An answer counts by its status; however long it is, nobody reads it."""
    receiver.respond = huge
    upload_track(client, new_session(client)["upload_session_id"])
    drain(worker, 5)
    assert outbox_rows(service) == []


def test_one_holds_up_no_other(client, service, receiver, webhook_secret, worker, monkeypatch):
    """While some receivers hang, another is told of everything at its own pace."""
    monkeypatch.setattr(delivery, "TOTAL_TIMEOUT", 6)
    over = threading.Event()
    hang = lambda handler, message: over.wait(10) and 204  # noqa: E731
    many = 20
    with Receiver(hang) as slow:
        for _ in range(many):
            endpoints.add(service, slow.url)
        session_id = new_session(client)["upload_session_id"]
        for _ in range(12):
            upload_track(client, session_id)
        began = time.monotonic()
        while len(receiver.accepted) < 12 and time.monotonic() - began < 5:
            worker.step(0.05)
        assert len(receiver.accepted) == 12
        assert time.monotonic() - began < 3
        assert many <= len(slow.received) <= MAX_CONCURRENT_DELIVERIES // 2
        over.set()
        while outbox.backlog(service)[0]:
            worker.step(0.05)
        assert len(slow.accepted) == 12 * many


def test_order_of_a_track(client, service, receiver, webhook_secret, worker, clock):
    """A track's events come in order: the second waits until the first is taken, and other tracks do not."""
    session_id = new_session(client, expires_in=DAY)["upload_session_id"]
    created = upload_track(client, session_id, HTML)
    receiver.respond = lambda handler, message: 500 if message.type == "track.failed" else 204
    drain(worker)
    again = client.post(track_url(session_id, created, "renew")).json
    put(again["track_upload"], wav())
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


def test_parked_and_replayed(client, service, receiver, webhook_secret, worker, clock):
    """What is refused for a day is parked: listed, tried no more, and tried again when it is replayed."""
    receiver.respond = lambda handler, message: 500
    upload_track(client, new_session(client)["upload_session_id"])
    began = clock.time()
    while not list(dead_letters.list_dead_letters(service)):
        drain(worker)
        clock.forward(120)
        assert clock.time() - began < 2 * DAY
    assert DAY <= clock.time() - began < 1.3 * DAY
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


def test_backlog_of_a_dead_receiver_is_parked(client, service, receiver, webhook_secret, worker, clock):
    """Where nothing is taken for a day, what waits behind is parked with it; after a month it is forgotten."""
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
    assert dead_letters.purge_dead_letters(service) == 0
    clock.forward(31 * DAY)
    assert dead_letters.purge_dead_letters(service) == 600


def test_claims_while_others_write(client, service, receiver, webhook_secret, settings, monkeypatch):
    """However much others write meanwhile, what is due is claimed, all of it and at once."""
    session_id = new_session(client)["upload_session_id"]
    for _ in range(4):
        upload_track(client, session_id)
    take, began = outbox._try_claim, time.monotonic()

    def take_after_another(*args):
        run_statement(settings["DATABASE_URL"], "UPDATE loadbay_job SET due_at = due_at + 1")
        return take(*args)

    monkeypatch.setattr(outbox, "_try_claim", take_after_another)
    assert len(outbox.claim(service, 4, {})) == 4
    assert time.monotonic() - began < LOCK_TIMEOUT
