"""`flask forget`: rows, objects, events and idempotency keys of chosen sessions are deleted, and nothing else."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from storage import erasure
from storage.db.models import IdempotencyKey, Removal
from storage.erasure import Selection
from storage.errors import StorageUnavailable
from storage.s3.bucket import Bucket
from storage.uploads import removals, staging, sweeper, tracks, verification
from support.api import assert_error, bearer, complete, create_key, new_session, new_track, track_url
from support.database import outbox_rows
from support.sample_files import HTML, png, wav
from support.store import BUCKET, post_cover, put

CREATOR, OTHER_CREATOR, COLLECTION, OTHER = (str(uuid4()) for _ in range(4))


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with a prefix of the test's own."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


def fill(client, **session: Any) -> dict[str, Any]:
    """Create a session with a track of each kind; return its id and the keys of its uploaded file and cover."""
    headers = {"Idempotency-Key": str(uuid4())}
    session = {"collection_id": COLLECTION, "creator_id": CREATOR, **session}
    session_id = client.post("/v1/upload_session", json=session, headers=headers).json["upload_session_id"]
    uploaded = new_track(client, session_id, "a.wav")
    put(uploaded["track_upload"], wav())
    post_cover(uploaded["track_cover_upload"], png())
    complete(client, session_id, uploaded)
    failed = new_track(client, session_id, "b.wav", write_once=True)
    put(failed["track_upload"], HTML)
    complete(client, session_id, failed)
    put(new_track(client, session_id, "c.wav")["track_upload"], wav())
    put(new_track(client, session_id, "d.wav", write_once=True)["track_upload"], wav())
    new_track(client, session_id, "e.wav", file_size=6 * 2**20, multipart=True)
    track = client.get(track_url(session_id, uploaded)).json["track"]
    return {"id": session_id, "keys": sorted([track["path"], track["cover"]["path"]]), "track_id": track["id"]}


def forget(app, *options: str, **kwargs: Any) -> Any:
    """Run `flask forget`."""
    return app.test_cli_runner().invoke(args=["forget", *options], **kwargs)


def test_forgets_a_collection_with_its_objects(
    app, client, service, bucket, settings, webhook_secret, count_rows, clock
):
    """With --objects nothing of the collection is left, and nothing of another one is touched."""
    session, other = fill(client), fill(client, collection_id=OTHER)
    events = {row["id"] for row in outbox_rows(service) if OTHER in row["data"]}
    result = forget(app, "--collection", COLLECTION, "--objects", "--yes")
    assert result.exit_code == 0, result.output
    for line in ("sessions deleted: 1", "tracks deleted: 5", "webhook deliveries deleted: 2", "keys deleted: 1"):
        assert line in result.output
    assert "to be removed by a worker" in result.output
    assert count_rows() == {"upload_session": 1, "track": 5}
    assert {row["id"] for row in outbox_rows(service)} == events
    assert IdempotencyKey.select().bind(service.database).count() == 1
    assert_error(client.get(f"/v1/upload_session/{session['id']}"), 404, "session_not_found")
    assert not any(COLLECTION in key for key in bucket.keys(settings["S3_PREFIX"]))
    uploads = bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=settings["S3_PREFIX"])["Uploads"]
    assert [OTHER in upload["Key"] for upload in uploads] == [True]
    assert set(other["keys"]) <= set(bucket.keys(settings["S3_PREFIX"]))
    clock.forward(3 * staging.LATE_UPLOAD_GRACE)
    removals.work_off(service)
    assert Removal.select().where(Removal.key.contains(COLLECTION)).bind(service.database).count() == 0


def test_uploaded_files_stay_unless_asked_for(app, client, service, bucket, settings, clock):
    """Without --objects the rows go, and the file and the cover that are uploaded stay, also after later sweeps."""
    session = fill(client)
    result = forget(app, "--session", session["id"], "--yes")
    assert "tracks deleted: 5" in result.output
    for _ in range(3):
        clock.forward(3600)
        sweeper.sweep(service)
    assert sorted(key for key in bucket.keys(settings["S3_PREFIX"]) if "incoming" not in key) == session["keys"]


@pytest.mark.parametrize(
    ("options", "deleted"),
    [
        (["--creator", CREATOR], 2),
        (["--collection", COLLECTION], 2),
        (["--collection", COLLECTION, "--creator", CREATOR], 1),
        (["--collection", COLLECTION, "--organization", OTHER], 0),
        (["--creator", COLLECTION], 0),
    ],
)
def test_options_narrow_the_selection(app, client, count_rows, options, deleted):
    """Sessions must have all the ids that are given."""
    for collection, creator in ((COLLECTION, CREATOR), (COLLECTION, OTHER_CREATOR), (OTHER, CREATOR)):
        new_session(client, collection_id=collection, creator_id=creator)
    assert forget(app, *options, "--yes").exit_code == 0
    assert count_rows()["upload_session"] == 3 - deleted


def test_organizations_are_told_apart(app, client, count_rows):
    """--organization leaves the sessions of others with the same collection."""
    for organization in (OTHER, CREATOR):
        headers = bearer(create_key(app, "--organization", organization))
        assert client.post("/v1/upload_session", json={"collection_id": COLLECTION}, headers=headers).status_code == 200
    assert "1 sessions" in forget(app, "--collection", COLLECTION, "--organization", OTHER, "--dry-run").output
    forget(app, "--collection", COLLECTION, "--organization", OTHER, "--yes")
    assert count_rows()["upload_session"] == 1


def test_asks_before_it_forgets(app, client, count_rows):
    """Without --yes the command asks; a dry run and a refusal change nothing."""
    new_track(client, new_session(client, collection_id=COLLECTION)["upload_session_id"])
    rows, options = count_rows(), ("--collection", COLLECTION)
    assert forget(app, *options, "--dry-run").output == "Would forget 1 sessions with 1 tracks.\n"
    assert forget(app, *options, input="n\n").exit_code == 1
    assert forget(app, *options, input="").exit_code == 1
    assert count_rows() == rows
    result = forget(app, *options, "--list", input="y\n")
    assert "cannot be undone" in result.output
    assert f"/{'track-1.mp3'}" in result.output
    assert count_rows() == {"upload_session": 0, "track": 0}
    assert "Nothing to forget." in forget(app, *options, "--yes").output


@pytest.mark.parametrize("options", [[], ["--organization", OTHER], ["--collection", "x"], ["--objects", "--yes"]])
def test_rejects_a_selection_of_everything(app, client, count_rows, options):
    """A run without collection, creator or session is a usage error."""
    new_session(client)
    assert forget(app, *options).exit_code == 2
    assert count_rows()["upload_session"] == 1


def test_store_outage_leaves_the_removals_recorded(app, client, service, bucket, settings, monkeypatch):
    """If the store does not answer, the rows go, and the worker removes the objects later."""
    session = fill(client)

    def fail(*_: object, **__: object) -> None:
        raise StorageUnavailable

    with monkeypatch.context() as patch:
        for call in ("delete_objects", "abort_multipart_upload", "head"):
            patch.setattr(Bucket, call, fail)
        result = forget(app, "--session", session["id"], "--objects", "--yes")
    assert (result.exit_code, "objects and uploads removed: 0" in result.output) == (0, True)
    assert set(session["keys"]) <= set(bucket.keys(settings["S3_PREFIX"]))
    removals.work_off(service)
    assert not any(COLLECTION in key for key in bucket.keys(settings["S3_PREFIX"]))


def test_interrupted_run_can_be_repeated(app, client, service, count_rows, bucket, settings, monkeypatch):
    """A run that ends in the middle of a session is finished by the next one."""
    for name in ("FIRST_ROWS", "MAX_ROWS"):
        monkeypatch.setattr(f"storage.db.batches.{name}", 2)
    session, selection = fill(client), Selection(COLLECTION)

    class Killed(BaseException):
        pass

    def die(row: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        erasure.erase(service, selection, objects=True, on_track=die)
    assert count_rows() == {"upload_session": 1, "track": 3}
    assert_error(client.post(f"/v1/upload/{session['id']}/track", json={"file_name": "a"}), 410, "session_closed")
    assert erasure.erase(service, selection, objects=True).tracks == 3
    removals.work_off(service)
    assert count_rows() == {"upload_session": 0, "track": 0}
    assert not any(COLLECTION in key for key in bucket.keys(settings["S3_PREFIX"]))


def test_verification_at_the_same_time_leaves_nothing(app, client, service, bucket, settings, monkeypatch, clock):
    """A track that is forgotten while its file is being copied leaves no file behind."""
    session_id = new_session(client, collection_id=COLLECTION)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    row, copy = tracks.read(service, session_id, created["track_id"]), Bucket.copy

    def erase_then_copy(self, *args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(Bucket, "copy", copy)
        erasure.erase(service, Selection(COLLECTION), objects=True)
        return copy(self, *args, **kwargs)

    monkeypatch.setattr(Bucket, "copy", erase_then_copy)
    verification.verify(service, [row])
    clock.forward(tracks.LEASE_SECONDS + 60)
    removals.work_off(service)
    assert bucket.keys(settings["S3_PREFIX"]) == []
