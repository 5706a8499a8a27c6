"""The API in this process (`Uploads`), and the signals."""

from __future__ import annotations

import gc
import time
from threading import Event, Thread
from uuid import UUID, uuid4

import pytest
from blinker import ANY
from flask import Flask, current_app, has_request_context

from app import create_app, loadbay
from embedding import types
from embedding.uploads import Uploads
from storage.errors import InvalidRequest, NotUploaded, SessionNotFound, TrackNotFound
from storage.webhooks import dead_letters, environment, signals
from storage.worker import Worker
from support.api import COLLECTION, new_session, service_of, upload_track
from support.database import query
from support.processes import wait_until
from support.sample_files import wav
from support.store import put, send


@pytest.fixture
def uploads(app):
    """The API of `app` in this process."""
    return Uploads(app, base_url="https://site.example/media/")


@pytest.fixture(autouse=True)
def no_receivers():
    """Disconnect the receivers of a test."""
    yield
    for signal in signals.SIGNALS.values():
        for receive in list(signal.receivers_for(ANY)):
            signal.disconnect(receive)


@pytest.fixture
def received():
    """The events that receivers have got: sender and event of each."""
    events = []

    def receive(sender, **event):
        events.append((sender, event))

    for signal in signals.SIGNALS.values():
        signal.connect(receive)
    return events


def upload(uploads, session_id, **options):
    """Register a track and upload its bytes; return its id."""
    registered = uploads.register_track(session_id, "a.wav", **options)
    assert put(registered["track_upload"], wav()).status_code == 200
    return registered["track_id"]


def deliver(worker, count=1):
    """Let the worker send what is due and record it."""
    for _ in range(count):
        worker.step(timeout=0)
        wait_until(lambda: all(future.done() for future in worker.in_flight()), "A delivery does not end.")
        worker.step(timeout=0)


# --- Calls ------------------------------------------------------------------------------------------------------------


def test_whole_life_of_a_track(uploads):
    """Open, read, list, register, complete, download, close and delete, without a request."""
    session = uploads.open_session(UUID(COLLECTION), metadata={"batch_name": "Summer"}, expires_in=600)
    assert (session["collection_id"], session["metadata"]) == (COLLECTION, {"batch_name": "Summer"})
    assert uploads.page_url(session["id"]) == f"https://site.example/media/u/{session['id']}"
    track_id = upload(uploads, session["id"], metadata={"title": "First"}, file_size=len(wav()))
    assert uploads.complete_track(track_id)["status"] == "uploaded"
    assert uploads.read_track(track_id)["metadata"] == {"title": "First"}
    download = uploads.sign_download(track_id)
    assert send("GET", download["download_url"]).content == wav()
    assert [track["id"] for track in uploads.list_tracks(session["id"])] == [track_id]
    assert [track["id"] for track in uploads.list_collection(COLLECTION, status="uploaded")] == [track_id]
    assert uploads.list_collection(COLLECTION, status="failed") == []
    assert [row["id"] for row in uploads.list_sessions(collection_id=COLLECTION, limit=1)] == [session["id"]]
    assert [track["status"] for track in uploads.close_session(session["id"])] == ["uploaded"]
    assert uploads.read_session(session["id"])["status"] == "closed"
    uploads.delete_track(track_id)
    with pytest.raises(TrackNotFound):
        uploads.read_track(track_id)


def test_page_url_needs_the_public_url(app):
    """Without `base_url` a link would lead nowhere, and is refused."""
    uploads = Uploads(app)
    with pytest.raises(ValueError, match="base_url="):
        uploads.page_url(uploads.open_session(COLLECTION)["id"])


def test_checks_are_those_of_the_routes(uploads):
    """Invalid parameters and unknown ids are the same errors as over HTTP."""
    for collection, options, text in (
        ("nonsense", {}, "collection_id"),
        (COLLECTION, {"expires_in": 1}, "expires_in: must be from 60"),
        (COLLECTION, {"metadata": {"x": {1, 2}}}, "cannot be written as JSON"),
    ):
        with pytest.raises(InvalidRequest, match=text):
            uploads.open_session(collection, **options)
    with pytest.raises(InvalidRequest, match="limit: must be from 1 to 200"):
        uploads.list_sessions(limit=1000)
    with pytest.raises(InvalidRequest, match="upload_session_id: "):
        uploads.read_session("nonsense")
    with pytest.raises(SessionNotFound):
        uploads.read_session(uuid4())
    with pytest.raises(NotUploaded):
        uploads.sign_download(uploads.register_track(uploads.open_session(COLLECTION)["id"], "a.wav")["track_id"])


def test_covers_are_relayed_at_the_public_url(uploads):
    """The URL to which a cover is posted begins with `base_url`, in a request of the host, too."""
    session_id = uploads.open_session(COLLECTION)["id"]
    with uploads.app.test_request_context("/of/the/host"):
        created = uploads.register_track(session_id, "a.wav")
    path = f"/v1/upload/{session_id}/track/{created['track_id']}/cover"
    assert created["track_cover_upload"]["upload_url"] == f"https://site.example/media{path}"


def test_sees_the_tracks_of_its_organization_only(app, uploads):
    """Another organization's tracks are not found."""
    other = Uploads(app, organization_id=str(uuid4()))
    track_id = upload(uploads, uploads.open_session(COLLECTION)["id"])
    with pytest.raises(TrackNotFound):
        other.read_track(track_id)
    assert other.list_sessions() == []


def test_names_the_registration(settings, app):
    """`name` selects one of several registrations; an unknown one is an error."""
    host = Flask("host")
    host.register_blueprint(loadbay, url_prefix="/second", name="second", config=settings)
    assert Uploads(host, "second").open_session(COLLECTION)
    with pytest.raises(LookupError, match="'loadbay'"):
        Uploads(host)
    with pytest.raises(LookupError):
        Uploads(Flask("other"))


def test_closes_all_connections(uploads):
    """After `close` the service has no connection, and opens new ones if it is used all the same."""
    uploads.open_session(COLLECTION)
    uploads.close()
    assert uploads.service.database.is_closed()


def test_types_have_the_fields_of_the_responses(client):
    """The types of sessions, tracks and uploads have the keys that the API responds with."""
    documented = client.get("/openapi.json").json["components"]["schemas"]
    for name in ("UploadSession", "Track", "Cover", "Upload", "CoverUpload", "MultipartUpload", "Part", "Download"):
        declared = {key for kind in getattr(types, name).__mro__ for key in getattr(kind, "__annotations__", {})}
        assert set(getattr(types, name).__annotations__) | declared == set(documented[name]["properties"]), name
    for name, options in (("CreateUploadSession", "SessionOptions"), ("CreateTrack", "TrackOptions")):
        assert set(getattr(types, options).__annotations__) < set(documented[name]["properties"])


# --- Signals ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def signal_app(settings):
    """An application that sends signals."""
    return create_app({**settings, "SIGNALS": True})


@pytest.fixture
def signal_worker(signal_app):
    """A worker for `signal_app`, whose receivers run in its context."""
    worker = Worker([service_of(signal_app)], sweeps=False, notices=False, signal_context=signal_app.app_context)
    yield worker
    worker.stop()
    worker.run()


def test_signals_have_what_webhooks_have(signal_app, signal_worker, received):
    """A receiver gets `track.uploaded` and `upload_session.completed`, each once, with the data of the webhook."""
    client = signal_app.test_client()
    session_id = new_session(client)["upload_session_id"]
    track = upload_track(client, session_id, metadata={"title": "First"})
    client.post(f"/v1/upload_session/{session_id}/close")
    deliver(signal_worker, 3)
    assert [event["type"] for _, event in received] == ["track.uploaded", "upload_session.completed"]
    sender, event = received[0]
    assert sender is service_of(signal_app)
    assert event.keys() == {"id", "type", "timestamp", "data"}
    assert (event["data"]["track_id"], event["data"]["metadata"]) == (track["track_id"], {"title": "First"})
    assert event["id"].startswith("msg_")


def test_receivers_outlive_the_function_that_connects_them(signal_app, signal_worker):
    """A receiver that a host's `create_app` defines is kept until it is disconnected, unless it is connected weakly."""
    events = []

    def create_host():
        signals.track_uploaded.connect(lambda _service, **event: events.append(event["id"]))
        signals.track_uploaded.connect(lambda _service, **event: events.append("weak"), weak=True)

    create_host()
    gc.collect()
    client = signal_app.test_client()
    upload_track(client, new_session(client)["upload_session_id"])
    deliver(signal_worker)
    assert len(events) == 1
    assert events[0].startswith("msg_")


def test_failing_receiver_gets_the_event_again(signal_app, signal_worker, caplog):
    """An exception of a receiver is logged, and the event is sent again with the same id; receivers have a context."""
    events = []

    @signals.track_uploaded.connect
    def receive(_service, **event):
        assert current_app.name == "loadbay"
        assert not has_request_context()
        events.append(event)
        if len(events) == 1:
            raise KeyError("a bug of the host")

    client = signal_app.test_client()
    upload_track(client, new_session(client)["upload_session_id"])
    deliver(signal_worker)
    assert "a bug of the host" in caplog.text
    query(signal_app, "UPDATE loadbay_webhook_delivery SET due_at = 0")
    query(signal_app, "UPDATE loadbay_webhook SET retry_at = 0")
    deliver(signal_worker)
    assert len(events) == 2
    assert events[0] == events[1]


def test_events_wait_for_a_process_with_receivers(signal_app, signal_worker):
    """A worker without any receiver loses no event."""
    client = signal_app.test_client()
    upload_track(client, new_session(client)["upload_session_id"])
    deliver(signal_worker)
    ((error, due_at),) = query(signal_app, "SELECT error, due_at FROM loadbay_webhook_delivery")
    assert error == "no receiver is connected in the worker's process"
    assert due_at > time.time()


def test_signals_are_off_by_default(app, client, worker, received):
    """Without SIGNALS nothing is written for them; unset again, what is pending becomes a dead letter."""
    upload_track(client, new_session(client)["upload_session_id"])
    deliver(worker)
    assert received == []
    assert query(app, "SELECT count(*) FROM loadbay_webhook")[0][0] == 0


def test_signals_can_be_switched_off(settings, signal_app):
    """Once SIGNALS is unset, pending events become dead letters, which can be replayed when it is set again."""
    client, service = signal_app.test_client(), service_of(signal_app)
    upload_track(client, new_session(client)["upload_session_id"])
    assert environment.sync_signals(service) == []
    other = service_of(create_app(settings))
    assert [row["error"] for row in dead_letters.list_dead_letters(other)] == ["SIGNALS is not set"]
    assert environment.sync_signals(service) == ["Enabled the signals."]
    assert dead_letters.replay(service) == 1
    result = signal_app.test_cli_runner().invoke(args=["webhooks", "list"])
    assert "(SIGNALS)" in result.output
    for command in ("test", "remove"):
        result = signal_app.test_cli_runner().invoke(args=["webhooks", command, signals.ENDPOINT_ID])
        assert result.exit_code == 1
        assert "ignals" in result.output


def test_worker_runs_in_a_thread_of_the_host(signal_app, received):
    """`run_worker` delivers signals until its event is set."""
    uploads, stop = Uploads(signal_app), Event()
    thread = Thread(target=uploads.run_worker, args=[stop])
    thread.start()
    try:
        uploads.complete_track(upload(uploads, uploads.open_session(COLLECTION)["id"]))
        wait_until(lambda: received, "No signal is received.")
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
