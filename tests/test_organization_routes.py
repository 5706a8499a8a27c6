"""Reading and changing across sessions, with a full key, and never across organizations."""

from __future__ import annotations

from statistics import median
from time import perf_counter
from urllib.parse import unquote
from uuid import uuid4

import pytest
import requests

from storage.uploads.organization import disposition
from storage.webhooks import endpoints
from support.api import COLLECTION, assert_error, bearer, create_key, full_key_routes, new_session, new_track
from support.sample_files import HTML, png, wav
from support.store import post_cover, put
from support.webhook_receiver import Receiver, drain

STRANGE = 'Ünder "the" sea; filename=x.exe.wav'


class Organization:
    """A client with a key of its own organization."""

    def __init__(self, app):
        self.client, self.id = app.test_client(), str(uuid4())
        self.headers = bearer(create_key(app, "--organization", self.id))

    def get(self, path, **options):
        return self.client.get(path, headers=self.headers, **options)

    def post(self, path, **options):
        return self.client.post(path, headers=self.headers, **options)

    def delete(self, path):
        return self.client.delete(path, headers=self.headers)

    def session(self, collection=COLLECTION):
        """Open a session; returns its id."""
        return self.post("/v1/upload_session", json={"collection_id": collection}).json["upload_session_id"]

    def uploaded(self, session, name="a.wav", body=None):
        """A track whose bytes have come and are checked."""
        created = new_track(self.client, session, name)
        assert put(created["track_upload"], body or wav()).status_code == 200
        assert self.complete(created)["status"] == "uploaded"
        return created

    def complete(self, created):
        """Have a track checked; returns it."""
        path = f"/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/complete"
        return self.client.post(path).json["track"]


@pytest.fixture
def ours(app):
    """An organization."""
    return Organization(app)


@pytest.fixture
def theirs(app):
    """Another one."""
    return Organization(app)


def test_track(ours):
    """A track is found by its id alone."""
    created = ours.uploaded(ours.session())
    response = ours.get(f"/v1/track/{created['track_id']}")
    assert (response.json["upload_session_id"], response.json["track"]["status"]) == (
        created["upload_session_id"],
        "uploaded",
    )


def test_collection(ours):
    """A collection's tracks come in their order, from whichever session, and by status."""
    first, second, other = ours.session(), ours.session(), ours.session(str(uuid4()))
    sessions = [first, second, first, second]
    ids = [new_track(ours.client, session, f"{n}.wav")["track_id"] for n, session in enumerate(sessions)]
    new_track(ours.client, other)
    path = f"/v1/collection/{COLLECTION}/track"
    listed = ours.get(path).json
    assert ([track["id"] for track in listed["tracks"]], listed["count"]) == (ids, 4)
    assert [track["upload_session_id"] for track in listed["tracks"]] == sessions
    assert [track["id"] for track in ours.get(f"{path}?limit=2&offset=1").json["tracks"]] == ids[1:3]
    done = ours.uploaded(second)["track_id"]
    uploaded = ours.get(f"{path}?status=uploaded").json
    assert ([track["id"] for track in uploaded["tracks"]], uploaded["count"]) == ([done], 1)
    assert_error(ours.get(f"{path}?status=gone"), 400, "invalid_request", "status")


def test_lists_are_stable(ours):
    """Whoever pages through a list while it grows meets each item once."""
    sessions = [ours.session() for _ in range(4)]
    for number in range(8):
        new_track(ours.client, sessions[number % 4])
    tracks, opened = [], []
    for offset in range(0, 12, 3):
        tracks += [
            t["id"] for t in ours.get(f"/v1/collection/{COLLECTION}/track?limit=3&offset={offset}").json["tracks"]
        ]
        new_track(ours.client, sessions[0])
        page = ours.get(f"/v1/upload_session?limit=3&offset={offset}").json["upload_sessions"]
        opened += [session["id"] for session in page]
        ours.session(str(uuid4()))
    assert len(set(tracks)) == len(tracks) >= 11
    assert len(set(opened)) == len(opened) >= 5


def test_sessions(ours, clock):
    """Sessions are listed by collection and by what they are now."""
    other = str(uuid4())
    old, closed = ours.session(), ours.session()
    assert ours.client.post(f"/v1/upload_session/{closed}/close").status_code == 200
    clock.forward(3000)
    new, elsewhere = ours.session(), ours.session(other)

    def listed(query):
        found = ours.get(f"/v1/upload_session?{query}").json
        assert found["count"] == len(found["upload_sessions"])
        return [session["id"] for session in found["upload_sessions"]]

    assert listed("") == [old, closed, new, elsewhere]
    assert listed(f"collection_id={other}") == [elsewhere]
    clock.forward(1000)
    assert listed("status=open") == [new, elsewhere]
    assert listed("status=closed") == [closed]
    assert listed(f"status=expired&collection_id={COLLECTION}") == [old]
    assert_error(ours.get("/v1/upload_session?collection_id=x"), 400, "invalid_request", "collection_id")


def test_delete(ours, bucket, settings):
    """A deleted track is gone: row, bytes and cover, and its place is free again."""
    created = ours.uploaded(ours.session())
    post_cover(created["track_cover_upload"], png(), "image/png")
    track = ours.complete(created)
    assert bucket.get(track["cover"]["path"]) == png()
    assert ours.delete(f"/v1/track/{created['track_id']}").status_code == 200
    assert bucket.get(track["path"]) is None
    assert bucket.get(track["cover"]["path"]) is None
    assert_error(ours.get(f"/v1/track/{created['track_id']}"), 404, "track_not_found")
    assert_error(ours.delete(f"/v1/track/{created['track_id']}"), 404, "track_not_found")
    assert ours.get(f"/v1/upload_session/{created['upload_session_id']}").json["upload_session"]["track_count"] == 0


def test_delete_and_repeat(ours):
    """A creating request that is repeated after its track was deleted makes no second one, and no fault."""
    path, headers = f"/v1/upload/{ours.session()}/track", {"Idempotency-Key": "once"}
    created = ours.client.post(path, json={"file_name": "a.wav"}, headers=headers).json
    ours.delete(f"/v1/track/{created['track_id']}")
    assert_error(ours.client.post(path, json={"file_name": "a.wav"}, headers=headers), 404, "track_not_found")


def test_download(ours):
    """The bytes come back, as a file with the name that its owner gave."""
    created = ours.uploaded(ours.session(), STRANGE)
    response = ours.get(f"/v1/track/{created['track_id']}/download")
    assert response.headers["Cache-Control"] == "no-store"
    download = response.json["track_download"]
    assert 0 < download["ttl"] <= 300
    fetched = requests.get(download["download_url"], timeout=10)
    assert fetched.content == wav()
    header = fetched.headers["Content-Disposition"]
    assert header == disposition(STRANGE)
    assert unquote(header.rpartition("UTF-8''")[2]) == STRANGE
    assert header.partition(";")[0] == "attachment"
    assert "x.exe" not in header.partition("filename*")[0].replace("-filename-x-exe", "")


def test_download_of_nothing(ours):
    """A track that is not uploaded has no bytes to fetch."""
    created = new_track(ours.client, ours.session())
    assert_error(ours.get(f"/v1/track/{created['track_id']}/download"), 409, "not_uploaded")


def test_fresh_cover(ours, bucket, clock):
    """A cover is replaced when the other is there and good, in a session that is over, too; until then it stays."""
    created = ours.uploaded(ours.session())
    post_cover(created["track_cover_upload"], png(), "image/png")
    first = ours.complete(created)["cover"]
    path = f"/v1/track/{created['track_id']}/cover"
    clock.forward(10_000)
    upload = ours.post(path).json["track_cover_upload"]
    clock.forward(-10_000)
    assert ours.complete(created)["cover"] == first
    assert post_cover(upload, HTML).status_code < 300
    after = ours.complete(created)["cover"]
    assert (after["status"], after["path"], after["failure"]) == (
        "uploaded",
        first["path"],
        "The cover is not a picture.",
    )
    again = ours.post(path).json["track_cover_upload"]
    assert again["fields"]["key"] == upload["fields"]["key"]
    other = png(2, 3)
    assert post_cover(upload, other, "image/png").status_code < 300
    after = ours.complete(created)["cover"]
    assert (after["status"], after["width"], after["height"], after["failure"]) == ("uploaded", 2, 3, None)
    assert (after["path"], bucket.get(after["path"])) == (first["path"], other)
    third = ours.post(path).json["track_cover_upload"]
    assert third["fields"]["key"] != upload["fields"]["key"]
    assert post_cover(upload, png(9, 9), "image/png").status_code < 300
    assert ours.complete(created)["cover"] == after


def test_fresh_cover_too_early(ours):
    """A track that is not uploaded has a cover upload of its own."""
    created = new_track(ours.client, ours.session())
    assert_error(ours.post(f"/v1/track/{created['track_id']}/cover"), 409, "not_uploaded")


def test_organizations_never_meet(app, ours, theirs):
    """Another organization's track is as unknown as one that never was, to the letter; no route tells of it."""
    created = ours.uploaded(ours.session())
    service, nowhere = (
        full_key_routes(app, track_id=id_, collection_id=COLLECTION) for id_ in (created["track_id"], uuid4())
    )
    assert len(service) >= 7
    for (method, path), (_, other) in zip(service, nowhere, strict=True):
        send = lambda path, method=method: theirs.client.open(path, method=method, json={}, headers=theirs.headers)  # noqa: E731
        responses = [send(each) for each in (path, other)]
        for secret in (created["track_id"], created["upload_session_id"], created["track"]["path"]):
            assert secret not in responses[0].text, (method, path)
        bodies = [{**response.json, "api_request_id": ""} for response in responses]
        assert bodies[0] == bodies[1], (method, path)
        if path != other:
            assert_error(responses[0], 404, "track_not_found")
    for path in (f"/v1/collection/{COLLECTION}/track", "/v1/upload_session"):
        assert theirs.get(path).json["count"] == 0
    assert theirs.get(f"/v1/upload_session?collection_id={COLLECTION}").json["upload_sessions"] == []
    assert ours.get(f"/v1/track/{created['track_id']}").json["track"]["status"] == "uploaded"


def test_events_never_cross(service, ours, theirs, receiver, no_secrets_in_logs, worker):
    """Each organization is told of its own tracks and sessions, under its own secret, and of no other's."""
    with Receiver() as other:
        places = ((ours, receiver, endpoints.add(service, receiver.url, ours.id)[0]),)
        places += ((theirs, other, endpoints.add(service, other.url, theirs.id)[0]),)
        created = {}
        for each, _, secret in places:
            no_secrets_in_logs.secrets |= {secret, "a-secret-of-the-url"}
            created[each] = each.uploaded(each.session())
            each.post(f"/v1/upload_session/{created[each]['upload_session_id']}/close")
        drain(worker)
        for each, at, secret in places:
            assert sorted(at.types()) == ["track.uploaded", "upload_session.completed"]
            told = [message.verify(secret)["data"]["upload_session_id"] for message in at.accepted]
            assert set(told) == {created[each]["upload_session_id"]}


def test_no_difference_in_time(ours, theirs):
    """Whether a track or a collection is another organization's or nobody's cannot be told by a clock."""
    created = ours.uploaded(ours.session())
    batch = {"tracks": [{"file_name": f"{n}.wav"} for n in range(300)]}
    assert ours.post(f"/v1/upload/{created['upload_session_id']}/tracks", json=batch).status_code == 200
    track, lists = "/v1/track/{}", ("/v1/collection/{}/track", "/v1/upload_session?collection_id={}")
    pairs = [(track.format(created["track_id"]), track.format(uuid4()))]
    pairs += [(path.format(COLLECTION), path.format(uuid4())) for path in lists]
    # A busy machine may slow one and not the other, but not three times in a row.
    assert any(_same_time(theirs, pairs) for _ in range(3))


def _same_time(theirs, pairs):
    """Whether both paths of each pair take about as long, as the median of many, in turn, has it."""
    taken = {path: [] for pair in pairs for path in pair}
    for _ in range(300):
        for path, times in taken.items():
            began = perf_counter()
            theirs.get(path)
            times.append(perf_counter() - began)
    return all(0.8 < median(taken[foreign]) / median(taken[unknown]) < 1.25 for foreign, unknown in pairs)


def test_idempotency_keys_of_organizations(ours, theirs):
    """The same Idempotency-Key from another organization is another request."""
    ids = set()
    for each in (ours, theirs):
        headers = {**each.headers, "Idempotency-Key": "same"}
        response = each.client.post("/v1/upload_session", json={"collection_id": COLLECTION}, headers=headers)
        ids.add(response.json["upload_session_id"])
    assert len(ids) == 2


def test_key_is_needed(app, client):
    """Without a key nobody reads across sessions, on a dev box either."""
    for method, path in full_key_routes(app, track_id=uuid4(), collection_id=COLLECTION):
        assert_error(client.open(path, method=method), 401, "unauthorized")
    assert new_session(client)["ok"] is True
