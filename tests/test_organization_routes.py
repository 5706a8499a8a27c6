"""Routes for a full key, which read and change across sessions but never across organizations."""

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

FILE_NAME = 'Ünder "the" sea; filename=x.exe.wav'


class Organization:
    """A client with a full key of its own organization."""

    def __init__(self, app):
        self.client, self.id = app.test_client(), str(uuid4())
        self.headers = bearer(create_key(app, "--organization", self.id))

    def get(self, path, **options):
        """Send a GET with the key."""
        return self.client.get(path, headers=self.headers, **options)

    def post(self, path, **options):
        """Send a POST with the key."""
        return self.client.post(path, headers=self.headers, **options)

    def delete(self, path):
        """Send a DELETE with the key."""
        return self.client.delete(path, headers=self.headers)

    def create_session(self, collection=COLLECTION):
        """Create a session and return its id."""
        return self.post("/v1/upload_session", json={"collection_id": collection}).json["upload_session_id"]

    def upload_track(self, session, name="a.wav", body=None):
        """Upload and complete a track; return the response of registering it."""
        created = new_track(self.client, session, name)
        assert put(created["track_upload"], body or wav()).status_code == 200
        assert self.complete(created)["status"] == "uploaded"
        return created

    def complete(self, created):
        """Complete a track and return it."""
        path = f"/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/complete"
        return self.client.post(path).json["track"]


@pytest.fixture
def organization(app):
    """An organization."""
    return Organization(app)


@pytest.fixture
def other_organization(app):
    """Another organization."""
    return Organization(app)


def test_finds_a_track_by_id(organization):
    """A track can be read by its id alone."""
    created = organization.upload_track(organization.create_session())
    response = organization.get(f"/v1/track/{created['track_id']}")
    assert (response.json["upload_session_id"], response.json["track"]["status"]) == (
        created["upload_session_id"],
        "uploaded",
    )


def test_lists_the_tracks_of_a_collection(organization):
    """A collection's tracks are listed in order, across sessions, and may be filtered by status."""
    first, second, other = (
        organization.create_session(),
        organization.create_session(),
        organization.create_session(str(uuid4())),
    )
    sessions = [first, second, first, second]
    ids = [new_track(organization.client, session, f"{n}.wav")["track_id"] for n, session in enumerate(sessions)]
    new_track(organization.client, other)
    path = f"/v1/collection/{COLLECTION}/track"
    listed = organization.get(path).json
    assert ([track["id"] for track in listed["tracks"]], listed["count"]) == (ids, 4)
    assert [track["upload_session_id"] for track in listed["tracks"]] == sessions
    assert [track["id"] for track in organization.get(f"{path}?limit=2&offset=1").json["tracks"]] == ids[1:3]
    uploaded_id = organization.upload_track(second)["track_id"]
    uploaded = organization.get(f"{path}?status=uploaded").json
    assert ([track["id"] for track in uploaded["tracks"]], uploaded["count"]) == ([uploaded_id], 1)
    assert_error(organization.get(f"{path}?status=gone"), 400, "invalid_request", "status")


def test_pagination_is_stable_while_lists_grow(organization):
    """Paging through a growing list returns each item once."""
    sessions = [organization.create_session() for _ in range(4)]
    for number in range(8):
        new_track(organization.client, sessions[number % 4])
    tracks, opened = [], []
    for offset in range(0, 12, 3):
        tracks += [
            t["id"]
            for t in organization.get(f"/v1/collection/{COLLECTION}/track?limit=3&offset={offset}").json["tracks"]
        ]
        new_track(organization.client, sessions[0])
        page = organization.get(f"/v1/upload_session?limit=3&offset={offset}").json["upload_sessions"]
        opened += [session["id"] for session in page]
        organization.create_session(str(uuid4()))
    assert len(set(tracks)) == len(tracks) >= 11
    assert len(set(opened)) == len(opened) >= 5


def test_lists_sessions_by_collection_and_status(organization, clock):
    """Sessions are listed by collection and by their current status."""
    other = str(uuid4())
    expired, closed = organization.create_session(), organization.create_session()
    assert organization.client.post(f"/v1/upload_session/{closed}/close").status_code == 200
    clock.forward(3000)
    recent, other_session = organization.create_session(), organization.create_session(other)

    def list_ids(query):
        body = organization.get(f"/v1/upload_session?{query}").json
        assert body["count"] == len(body["upload_sessions"])
        return [session["id"] for session in body["upload_sessions"]]

    assert list_ids("") == [expired, closed, recent, other_session]
    assert list_ids(f"collection_id={other}") == [other_session]
    clock.forward(1000)
    assert list_ids("status=open") == [recent, other_session]
    assert list_ids("status=closed") == [closed]
    assert list_ids(f"status=expired&collection_id={COLLECTION}") == [expired]
    assert_error(organization.get("/v1/upload_session?collection_id=x"), 400, "invalid_request", "collection_id")


def test_deletes_a_track_with_its_objects(organization, bucket, settings):
    """Deleting a track removes its row, file and cover, and frees its place in the session."""
    created = organization.upload_track(organization.create_session())
    post_cover(created["track_cover_upload"], png(), "image/png")
    track = organization.complete(created)
    assert bucket.get(track["cover"]["path"]) == png()
    assert organization.delete(f"/v1/track/{created['track_id']}").status_code == 200
    assert bucket.get(track["path"]) is None
    assert bucket.get(track["cover"]["path"]) is None
    assert_error(organization.get(f"/v1/track/{created['track_id']}"), 404, "track_not_found")
    assert_error(organization.delete(f"/v1/track/{created['track_id']}"), 404, "track_not_found")
    assert (
        organization.get(f"/v1/upload_session/{created['upload_session_id']}").json["upload_session"]["track_count"]
        == 0
    )


def test_repeated_creation_of_a_deleted_track_is_not_found(organization):
    """A repeated request whose track was deleted creates no second one, and is no 500."""
    path, headers = f"/v1/upload/{organization.create_session()}/track", {"Idempotency-Key": "once"}
    created = organization.client.post(path, json={"file_name": "a.wav"}, headers=headers).json
    organization.delete(f"/v1/track/{created['track_id']}")
    assert_error(organization.client.post(path, json={"file_name": "a.wav"}, headers=headers), 404, "track_not_found")


def test_downloads_the_file_under_its_name(organization):
    """The download has the uploaded bytes, and the file name that the client declared."""
    created = organization.upload_track(organization.create_session(), FILE_NAME)
    response = organization.get(f"/v1/track/{created['track_id']}/download")
    assert response.headers["Cache-Control"] == "no-store"
    download = response.json["track_download"]
    assert 0 < download["ttl"] <= 300
    fetched = requests.get(download["download_url"], timeout=10)
    assert fetched.content == wav()
    header = fetched.headers["Content-Disposition"]
    assert header == disposition(FILE_NAME)
    assert unquote(header.rpartition("UTF-8''")[2]) == FILE_NAME
    assert header.partition(";")[0] == "attachment"
    assert "x.exe" not in header.partition("filename*")[0].replace("-filename-x-exe", "")


def test_rejects_the_download_of_a_pending_track(organization):
    """A track that is not uploaded cannot be downloaded."""
    created = new_track(organization.client, organization.create_session())
    assert_error(organization.get(f"/v1/track/{created['track_id']}/download"), 409, "not_uploaded")


def test_replaces_a_cover_once_the_new_one_is_verified(organization, bucket, clock):
    """A cover is replaced once the new one is verified, even in an expired session; until then it stays."""
    created = organization.upload_track(organization.create_session())
    post_cover(created["track_cover_upload"], png(), "image/png")
    first = organization.complete(created)["cover"]
    path = f"/v1/track/{created['track_id']}/cover"
    clock.forward(10_000)
    upload = organization.post(path).json["track_cover_upload"]
    clock.forward(-10_000)
    assert organization.complete(created)["cover"] == first
    assert post_cover(upload, HTML).status_code < 300
    after = organization.complete(created)["cover"]
    assert (after["status"], after["path"], after["failure"]) == (
        "uploaded",
        first["path"],
        "The cover is not a PNG, JPEG, GIF, WebP, AVIF, HEIC, TIFF or BMP picture.",
    )
    again = organization.post(path).json["track_cover_upload"]
    assert again["fields"]["key"] == upload["fields"]["key"]
    other = png(2, 3)
    assert post_cover(upload, other, "image/png").status_code < 300
    after = organization.complete(created)["cover"]
    assert (after["status"], after["width"], after["height"], after["failure"]) == ("uploaded", 2, 3, None)
    assert (after["path"], bucket.get(after["path"])) == (first["path"], other)
    third = organization.post(path).json["track_cover_upload"]
    assert third["fields"]["key"] != upload["fields"]["key"]
    assert post_cover(upload, png(9, 9), "image/png").status_code < 300
    assert organization.complete(created)["cover"] == after


def test_rejects_a_cover_replacement_before_the_upload(organization):
    """The cover of a track that is not uploaded cannot be replaced."""
    created = new_track(organization.client, organization.create_session())
    assert_error(organization.post(f"/v1/track/{created['track_id']}/cover"), 409, "not_uploaded")


def test_other_organizations_get_the_same_not_found(app, organization, other_organization):
    """Another organization's track gets exactly the response of a track that does not exist, on every route."""
    created = organization.upload_track(organization.create_session())
    foreign_routes, unknown_routes = (
        full_key_routes(app, track_id=track_id, collection_id=COLLECTION) for track_id in (created["track_id"], uuid4())
    )
    assert len(foreign_routes) >= 7
    for (method, path), (_, other) in zip(foreign_routes, unknown_routes, strict=True):
        responses = [
            other_organization.client.open(item, method=method, json={}, headers=other_organization.headers)
            for item in (path, other)
        ]
        for secret in (created["track_id"], created["upload_session_id"], created["track"]["path"]):
            assert secret not in responses[0].text, (method, path)
        bodies = [{**response.json, "api_request_id": ""} for response in responses]
        assert bodies[0] == bodies[1], (method, path)
        if path != other:
            assert_error(responses[0], 404, "track_not_found")
    for path in (f"/v1/collection/{COLLECTION}/track", "/v1/upload_session"):
        assert other_organization.get(path).json["count"] == 0
    assert other_organization.get(f"/v1/upload_session?collection_id={COLLECTION}").json["upload_sessions"] == []
    assert organization.get(f"/v1/track/{created['track_id']}").json["track"]["status"] == "uploaded"


def test_webhooks_get_their_own_organization_only(
    service, organization, other_organization, receiver, no_secrets_in_logs, worker
):
    """Each organization's webhook gets its own events, signed with its own secret, and no others."""
    with Receiver() as other:
        endpoints_by_organization = (
            (organization, receiver, endpoints.add(service, receiver.url, organization.id)[0]),
        )
        endpoints_by_organization += (
            (other_organization, other, endpoints.add(service, other.url, other_organization.id)[0]),
        )
        created = {}
        for sender, _, secret in endpoints_by_organization:
            no_secrets_in_logs.secrets |= {secret, "a-secret-of-the-url"}
            created[sender] = sender.upload_track(sender.create_session())
            sender.post(f"/v1/upload_session/{created[sender]['upload_session_id']}/close")
        drain(worker)
        for sender, target, secret in endpoints_by_organization:
            assert sorted(target.types()) == ["track.uploaded", "upload_session.completed"]
            session_ids = [message.verify(secret)["data"]["upload_session_id"] for message in target.accepted]
            assert set(session_ids) == {created[sender]["upload_session_id"]}


def test_timing_reveals_no_foreign_ids(organization, other_organization):
    """The response time does not reveal whether a track or collection belongs to another organization."""
    created = organization.upload_track(organization.create_session())
    batch = {"tracks": [{"file_name": f"{n}.wav"} for n in range(300)]}
    assert organization.post(f"/v1/upload/{created['upload_session_id']}/tracks", json=batch).status_code == 200
    track, lists = "/v1/track/{}", ("/v1/collection/{}/track", "/v1/upload_session?collection_id={}")
    pairs = [(track.format(created["track_id"]), track.format(uuid4()))]
    pairs += [(path.format(COLLECTION), path.format(uuid4())) for path in lists]
    # A busy machine may slow one of both down, but not ten times in a row.
    assert any(_take_the_same_time(other_organization, pairs) for _ in range(10))


def _take_the_same_time(other_organization, pairs):
    """Return whether both paths of each pair take about the same time, by the median of alternating requests."""
    durations = {path: [] for pair in pairs for path in pair}
    for _ in range(300):
        for path, times in durations.items():
            started = perf_counter()
            other_organization.get(path)
            times.append(perf_counter() - started)
    return all(0.8 < median(durations[foreign]) / median(durations[unknown]) < 1.25 for foreign, unknown in pairs)


def test_idempotency_keys_are_scoped_to_the_organization(organization, other_organization):
    """The same Idempotency-Key from another organization is another request."""
    ids = set()
    for sender in (organization, other_organization):
        headers = {**sender.headers, "Idempotency-Key": "same"}
        response = sender.client.post("/v1/upload_session", json={"collection_id": COLLECTION}, headers=headers)
        ids.add(response.json["upload_session_id"])
    assert len(ids) == 2


def test_routes_require_a_key_even_on_open_services(app, client):
    """These routes require a key even if ALLOW_ANONYMOUS is set."""
    for method, path in full_key_routes(app, track_id=uuid4(), collection_id=COLLECTION):
        assert_error(client.open(path, method=method), 401, "unauthorized")
    assert new_session(client)["ok"] is True
