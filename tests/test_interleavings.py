"""Interleavings of a verification with other events, each at each of its steps.

Afterwards, the bytes at a track's path are those that its row names, or the track is not `uploaded`; and once the
session has ended, the bucket has no other objects.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import md5
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import requests
import urllib3

from storage.errors import NotUploaded
from storage.noticing import store_events
from storage.s3.bucket import Bucket, StorePoolManager
from storage.uploads import (
    arrivals,
    covers,
    inspection,
    organization,
    removals,
    staging,
    sweeper,
    tracks,
    verification,
)
from storage.uploads.verification import Outcome
from support.api import new_session, new_track
from support.sample_files import HTML, png, wav
from support.store import BUCKET, post_cover, put, staged_key

FIRST, SECOND = wav(), wav(seed=1)
END_OF_SESSION = 61 + staging.LATE_UPLOAD_GRACE
"""Seconds after which a session of a minute can be swept."""

AFTER_LEASE = tracks.LEASE_SECONDS + 1


class Killed(BaseException):
    """A crash of the verification's process."""


@pytest.fixture
def settings(settings):
    """Settings with a prefix of the test's own, and a secret for store events."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/", "STORE_EVENT_SECRET": "a-secret-of-the-store"}


class Scene:
    """One track whose bytes are uploaded, and the events that may happen to it."""

    def __init__(self, client, service, bucket, clock, prefix, kind):
        self.client, self.service, self.bucket, self.clock, self.prefix = client, service, bucket, clock, prefix
        self.session_id = new_session(client, expires_in=60)["upload_session_id"]
        options = {"plain": {}, "headers": {"write_once": True}, "parts": {"multipart": True, "file_size": len(FIRST)}}
        self.kind, self.created = kind, new_track(client, self.session_id, "a.wav", **options[kind])
        self.upload(FIRST)

    def upload(self, body: bytes) -> None:
        """Send bytes by the track's URL, which a second write-once PUT is too late for."""
        if self.kind == "parts":
            put(self.created["track_multipart_upload"]["parts"][0], body)
        else:
            # A header that the signature does not cover.
            headers = {"Content-Encoding": "gzip"} if self.kind == "headers" else {}
            put(self.created["track_upload"], body, **headers)

    @property
    def row(self):
        """Return the track's row as it is now."""
        return tracks.read(self.service, self.session_id, self.created["track_id"])

    def verify(self) -> Outcome:
        """Run another verification."""
        return verification.refresh(self.service, self.row)

    def upload_again(self) -> None:
        """Send other bytes by the same URL."""
        self.upload(SECOND)

    def upload_again_and_verify(self) -> None:
        """Send other bytes, and have another process verify them."""
        self.upload(SECOND)
        self.verify()

    def renew(self) -> None:
        """Ask for new URLs."""
        tracks.renew(self.service, self.session_id, self.created["track_id"])

    def cancel(self) -> None:
        """Cancel the track."""
        tracks.cancel(self.service, self.session_id, self.created["track_id"])

    def delete(self) -> None:
        """Delete the track."""
        organization.delete(self.service, "", self.created["track_id"])

    def sweep(self) -> None:
        """Let the session end, and sweep it."""
        self.clock.forward(END_OF_SESSION)
        sweeper.sweep(self.service)
        self.clock.forward(-END_OF_SESSION)

    def notify(self) -> None:
        """Receive the store's event for the upload."""
        key = staged_key(self.created["track_upload"])
        record = {"s3": {"bucket": {"name": BUCKET}, "object": {"key": key}}}
        store_events.handle_notification(self.service, {"Records": [record]})

    def die(self) -> None:
        """End the verification's process."""
        raise Killed

    def upload_again_and_die(self) -> None:
        """Send other bytes, and end the verification's process."""
        self.upload(SECOND)
        raise Killed

    def settle(self) -> str:
        """Verify until nothing changes, check the row against the store, and return the row's status."""
        for _ in range(2):
            self.clock.forward(AFTER_LEASE)
            rows = tracks.read_many(self.service, [self.created["track_id"]])
            for row in rows:
                verification.refresh(self.service, row)
        self.clock.forward(-2 * AFTER_LEASE)
        rows = tracks.read_many(self.service, [self.created["track_id"]])
        for row in rows:
            self.check(row)
        return rows[0]["status"] if rows else "deleted"

    def check(self, row) -> None:
        """Compare the row with the store."""
        if row["status"] == "uploaded":
            info = self.service.bucket.head(row["path"])
            assert (info.etag, info.size, info.has_sender_headers) == (row["etag"], row["size"], False)
            body = self.bucket.get(row["path"])
            assert body in (FIRST, SECOND)
            if self.kind != "parts":
                assert row["etag"] == md5(body).hexdigest()

    def finish(self) -> None:
        """End the session, sweep it, and check that nothing but verified files is left."""
        self.clock.forward(END_OF_SESSION)
        sweeper.sweep(self.service)
        self.clock.forward(2 * staging.LATE_UPLOAD_GRACE)
        removals.work_off(self.service)
        rows = tracks.read_many(self.service, [self.created["track_id"]])
        uploaded = [row["path"] for row in rows if row["status"] == "uploaded"]
        assert self.bucket.keys(self.prefix) == uploaded
        assert "Uploads" not in self.bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=self.prefix)


@pytest.fixture
def run_at(monkeypatch):
    """Run a function once, when the next verification reaches a point: `run_at(point, function)`."""

    def arm(point: str, function: Callable[[], Any]) -> None:
        owner, name, after = POINTS[point]
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            monkeypatch.setattr(owner, name, original)
            if not after:
                function()
            result = original(*args, **kwargs)
            if after:
                function()
            return result

        monkeypatch.setattr(owner, name, call)

    return arm


POINTS = {
    "after the inspection": (inspection, "inspect", True),
    "before the copy": (Bucket, "copy", False),
    "after the copy": (Bucket, "copy", True),
    "before the join": (Bucket, "complete_multipart_upload", False),
    "after the join": (Bucket, "complete_multipart_upload", True),
    "after the cover's inspection": (covers, "inspect", True),
}

EVENTS = [
    Scene.verify, Scene.upload_again, Scene.upload_again_and_verify, Scene.renew, Scene.cancel, Scene.delete,
    Scene.sweep, Scene.notify, Scene.die, Scene.upload_again_and_die,
]  # fmt: skip
STATUS = {Scene.cancel: "cancelled", Scene.delete: "deleted"}
COPY_POINTS = ("after the inspection", "before the copy", "after the copy")
JOIN_POINTS = ("after the inspection", "before the join", "after the join")
CASES = [("plain", point) for point in COPY_POINTS]
CASES += [("headers", point) for point in COPY_POINTS]
CASES += [("parts", point) for point in JOIN_POINTS]
# The bytes that were chosen are gone before they are copied.
REPLACED = {
    ("plain", "after the inspection", Scene.upload_again),
    ("plain", "before the copy", Scene.upload_again),
    ("plain", "before the copy", Scene.upload_again_and_verify),
    ("plain", "before the copy", Scene.upload_again_and_die),
}


@pytest.fixture
def scene(client, service, bucket, clock, settings):
    """Create a track and upload it in a mode: `scene(kind)`."""
    return lambda kind: Scene(client, service, bucket, clock, settings["S3_PREFIX"], kind)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
@pytest.mark.parametrize(("kind", "point"), CASES)
def test_event_during_a_verification(scene, run_at, kind, point, event):
    """After any event at any step, path and row agree, and a failed track can be renewed."""
    track = scene(kind)
    run_at(point, lambda: event(track))
    try:
        verification.refresh(track.service, track.row)
    except Killed:
        assert event in (Scene.die, Scene.upload_again_and_die)
    status = track.settle()
    expected = "failed" if (kind, point, event) in REPLACED else STATUS.get(event, "uploaded")
    if kind == "parts" and event in (Scene.upload_again, Scene.upload_again_and_verify, Scene.upload_again_and_die):
        # A store may join the part that it has, or refuse it for its ETag.
        expected = status if status in ("uploaded", "failed") else expected
    assert status == expected
    if status == "failed" and kind != "parts":
        track.created = track.client.post(f"{url(track)}/renew").json
        track.upload(SECOND)
        assert track.verify().status == "uploaded"
        assert track.bucket.get(track.row["path"]) == SECOND
    track.finish()


def url(track):
    """Return the URL of a track."""
    return f"/v1/upload/{track.session_id}/track/{track.created['track_id']}"


def test_concurrent_verifications_agree(scene, run_at):
    """A verification that runs at every step of another one has the same result."""
    track, statuses = scene("plain"), []
    for point in COPY_POINTS:
        run_at(point, lambda: statuses.append(track.verify().status))
    assert verification.refresh(track.service, track.row).status == "uploaded"
    assert set(statuses) <= {"uploaded", "verifying"}
    assert track.settle() == "uploaded"
    track.finish()


def test_store_rejects_a_copy_after_its_lease(scene, monkeypatch, clock):
    """The store rejects a copy that arrives after its lease, even if the source has the chosen bytes again."""
    monkeypatch.setattr(tracks, "work_seconds", lambda size: verification.MARGIN_SECONDS + 2)
    track, urlopen = scene("plain"), StorePoolManager.urlopen

    def delay_copy(self, method, url, *args, **kwargs):
        if method != "PUT":
            return urlopen(self, method, url, *args, **kwargs)
        monkeypatch.setattr(StorePoolManager, "urlopen", urlopen)
        old_url = track.created["track_upload"]
        clock.forward(verification.MARGIN_SECONDS + 3)
        put(old_url, SECOND)
        assert track.verify().status == "failed"
        track.created = track.client.post(f"/v1/upload/{track.session_id}/track/{track.created['track_id']}/renew").json
        track.upload(SECOND)
        assert track.verify().status == "uploaded"
        # The bytes that were chosen first are back where the copy will look for them.
        put(old_url, FIRST)
        time.sleep(3.2)
        return urlopen(self, method, url, *args, **kwargs)

    monkeypatch.setattr(StorePoolManager, "urlopen", delay_copy)
    response = track.client.post(f"/v1/upload/{track.session_id}/track/{track.created['track_id']}/complete")
    assert response.json["track"]["status"] == "uploaded"
    assert track.settle() == "uploaded"
    assert track.bucket.get(track.row["path"]) == SECOND


def test_verification_stops_after_its_lease(scene, monkeypatch, clock):
    """A verification that resumes after its lease requests no copy, and leaves the track to its successor."""
    track, transfer = scene("plain"), verification.transfer
    calls = []

    def sleep(service, claim, deadline):
        monkeypatch.setattr(verification, "transfer", transfer)
        clock.forward(AFTER_LEASE)
        assert track.verify().status == "uploaded"
        claim.ends -= AFTER_LEASE
        monkeypatch.setattr(Bucket, "copy", lambda *args, **kwargs: calls.append(args))
        return transfer(service, claim, deadline)

    monkeypatch.setattr(verification, "transfer", sleep)
    assert verification.refresh(track.service, track.row).status == "uploaded"
    assert calls == []


def test_reports_verifying_during_a_long_copy(scene, run_at, client, clock):
    """Requests during another verification get `verifying`, with Retry-After."""
    track, responses = scene("plain"), []
    path = f"/v1/upload/{track.session_id}/track/{track.created['track_id']}"
    run_at("before the copy", lambda: responses.extend([client.post(f"{path}/complete"), client.get(path)]))
    assert verification.refresh(track.service, track.row).status == "uploaded"
    for response in responses:
        assert (response.status_code, response.json["track"]["status"]) == (200, "verifying")
        assert 1 <= int(response.headers["Retry-After"]) <= 10


def test_long_copy_is_finalized_later(scene, monkeypatch, client):
    """A copy that exceeds the request's deadline leaves the track `verifying`, and is finalized once it exists."""
    track, urlopen = scene("plain"), StorePoolManager.urlopen
    late = []

    def time_out(self, method, url, *args, **kwargs):
        if method == "PUT":
            late.append((url, kwargs))
            raise urllib3.exceptions.ReadTimeoutError(self.connection_from_url(url), url, "timed out")
        return urlopen(self, method, url, *args, **kwargs)

    monkeypatch.setattr(StorePoolManager, "urlopen", time_out)
    path = f"/v1/upload/{track.session_id}/track/{track.created['track_id']}"
    response = client.post(f"{path}/complete")
    assert (response.status_code, response.json["track"]["status"]) == (200, "verifying")
    monkeypatch.setattr(StorePoolManager, "urlopen", urlopen)
    request, options = late[0]
    assert requests.put(request, headers=options["headers"], timeout=10).status_code == 200
    assert client.post(f"{path}/complete").json["track"]["status"] == "uploaded"
    track.finish()


@pytest.mark.parametrize("skew", [-300, -40, 40, 300])
def test_copies_are_signed_by_the_stores_clock(scene, monkeypatch, skew):
    """A copy's signature, which is valid for seconds, uses the store's clock."""
    monkeypatch.setattr("storage.s3.bucket.time", SimpleNamespace(time=lambda: time.time() + skew))
    track = scene("plain")
    assert verification.refresh(track.service, track.row).status == "uploaded"


# --- Covers -----------------------------------------------------------------------------------------------------------

COVERS = (png(), png(2, 3), png(4, 5))


class CoverScene(Scene):
    """An uploaded track whose cover has been uploaded."""

    def __init__(self, *args):
        super().__init__(*args, "plain")
        assert self.verify().status == "uploaded"
        self.form = self.created["track_cover_upload"]

    def send(self, cover: bytes) -> None:
        """Send a cover by the current form."""
        post_cover(self.form, cover, "image/png")

    def upload_again(self) -> None:
        """Send another cover by the same form."""
        self.send(COVERS[1])

    def upload_again_and_verify(self) -> None:
        """Send another cover, and have another process verify it."""
        self.send(COVERS[1])
        self.verify()

    def upload_again_and_die(self) -> None:
        """Send another cover, and end the verification's process."""
        self.send(COVERS[1])
        raise Killed

    def reject(self) -> None:
        """Send something else than a picture by the same form."""
        post_cover(self.form, HTML)

    def replace(self) -> None:
        """Ask for a form for a new cover, which is refused while one is being verified."""
        replacement = covers.presign_replacement(self.service, self.row, "")
        self.form = {**replacement, "fields": replacement["fields_"]}
        self.send(COVERS[2])

    def check(self, row) -> None:
        """Compare the cover with the store, besides the track."""
        super().check(row)
        if row["cover_status"] == "uploaded":
            body = self.bucket.get(row["cover_path"])
            assert body in COVERS
            assert (row["cover_etag"], row["cover_size"]) == (md5(body).hexdigest(), len(body))

    def finish(self) -> None:
        """End the session and the replacement, sweep, and check that nothing but verified files is left."""
        self.clock.forward(self.service.settings.upload_url_ttl + END_OF_SESSION)
        sweeper.sweep(self.service)
        sweeper.sweep(self.service)
        rows = tracks.read_many(self.service, [self.created["track_id"]])
        keys = [row["path"] for row in rows if row["status"] == "uploaded"]
        keys += [row["cover_path"] for row in rows if row["cover_status"] == "uploaded"]
        assert sorted(self.bucket.keys(self.prefix)) == sorted(keys)


COVER_EVENTS = [
    Scene.verify, CoverScene.upload_again, CoverScene.upload_again_and_verify, CoverScene.reject, Scene.delete,
    Scene.sweep, Scene.die, CoverScene.upload_again_and_die, CoverScene.replace,
]  # fmt: skip
COVER_POINTS = ("after the cover's inspection", "before the copy", "after the copy")


@pytest.mark.parametrize("replacement", [False, True], ids=["first", "replacement"])
@pytest.mark.parametrize("event", COVER_EVENTS, ids=lambda event: event.__name__)
@pytest.mark.parametrize("point", COVER_POINTS)
def test_event_during_the_verification_of_a_cover(
    client, service, bucket, clock, settings, run_at, point, event, replacement
):
    """After any event at any step, the cover at its path is the one that the row names."""
    track = CoverScene(client, service, bucket, clock, settings["S3_PREFIX"])
    if replacement:
        track.send(COVERS[0])
        assert track.verify().row["cover_status"] == "uploaded"
        track.replace()
    else:
        track.send(COVERS[0])
    run_at(point, lambda: event(track))
    try:
        verification.refresh(track.service, track.row)
    except (Killed, NotUploaded):
        assert event in (Scene.die, CoverScene.upload_again_and_die)
    except covers.InvalidTrackState:
        assert event == CoverScene.replace
    assert track.settle() == ("deleted" if event == Scene.delete else "uploaded")
    if event == Scene.verify:
        assert track.row["cover_status"] == "uploaded"
    track.finish()


SWEEP_POINTS: dict[str, tuple[Any, str, bool]] = {
    "before the sweep": (sweeper, "sweep", False),
    "before staging is listed": (arrivals, "list_staged", False),
    "before the tracks are read": (tracks, "read_many", False),
    "after the tracks were read": (tracks, "read_many", True),
    "before the removals": (removals, "work_off", False),
    "after the sweep": (sweeper, "sweep", True),
}
POINTS |= SWEEP_POINTS


@pytest.mark.parametrize("point", SWEEP_POINTS)
def test_sweep_leaves_the_cover_of_a_failed_track(client, service, bucket, settings, run_at, point):
    """A failed track that is renewed before, during or after a sweep keeps the cover that was sent for it."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], HTML)
    post_cover(created["track_cover_upload"], COVERS[0], "image/png")
    path = f"/v1/upload/{session_id}/track/{created['track_id']}"
    assert client.post(f"{path}/complete").json["track"]["status"] == "failed"
    renewed = []
    run_at(point, lambda: renewed.append(client.post(f"{path}/renew").json))
    sweeper.sweep(service)
    sweeper.sweep(service)
    put(renewed[0]["track_upload"], FIRST)
    track = client.post(f"{path}/complete").json["track"]
    assert (track["status"], track["cover"]["status"]) == ("uploaded", "uploaded")
    assert bucket.get(track["cover"]["path"]) == COVERS[0]
