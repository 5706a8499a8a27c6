"""POST /v1/upload/:upload_session_id/track, and what its URLs let into the store."""

import re
import time
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from support.api import COLLECTION, assert_error, new_session, new_track
from support.store import post_cover, put, staged_key

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
BODY = b"some audio"
DIGEST = b64encode(sha256(BODY).digest()).decode()
DECLARED = {"file_size": len(BODY), "content_type": "audio/mpeg", "checksum_sha256": DIGEST}


@pytest.fixture
def session_id(client):
    """A session's id."""
    return new_session(client)["upload_session_id"]


def seconds(text):
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def all_keys(bucket, created):
    """Return the keys of all objects of a track, in staging and at its final keys."""
    path, staged = created["track"]["path"], staged_key(created["track_upload"])
    return bucket.keys(path.rpartition("/")[0]) + bucket.keys(staged.rpartition(".")[0])


# --- What is answered ---


def test_bytes_arrive_at_path(client, bucket):
    """The bytes of a PUT to upload_url lie at track.path once they are verified, and in staging until then."""
    created = new_track(client, new_session(client)["upload_session_id"])
    assert put(created["track_upload"], b"some audio").status_code == 200
    assert bucket.get(staged_key(created["track_upload"])) == b"some audio"
    assert bucket.get(created["track"]["path"]) is None
    url = f"/v1/upload/{created['upload_session_id']}/track/{created['track_id']}"
    assert client.get(url).json["track"]["path"] == created["track"]["path"]
    assert bucket.get(created["track"]["path"]) == b"some audio"


def test_track_names_its_session(client):
    """A track carries the ids of its session, collection and creator."""
    creator = "9b2f5c1e-7a43-4d0b-8c6e-1f2a3b4c5d6e"
    session_id = new_session(client, creator_id=creator)["upload_session_id"]
    track = new_track(client, session_id)["track"]
    ids = {"upload_session_id": session_id, "collection_id": COLLECTION, "creator_id": creator}
    assert track.items() >= ids.items()
    assert client.get(f"/v1/upload/{session_id}/track").json["tracks"][0].items() >= ids.items()


def test_staging_keys_of_deployments_differ(client, make_client, settings, make_database):
    """Two deployments that share a bucket and a prefix never share a staging key."""
    other = make_client(DATABASE_URL=make_database())
    keys = [staged_key(new_track(c, new_session(c)["upload_session_id"])["track_upload"]) for c in (client, other)]
    prefixes = [key.rpartition("/")[0] for key in keys]
    assert all(re.fullmatch(r"incoming/[A-Za-z0-9_-]{22}", prefix) for prefix in prefixes)
    assert prefixes[0] != prefixes[1]


def test_example_of_the_contract(client, session_id):
    """The contract's example request gets the contract's response, each key of its type."""
    response = client.post(
        f"/v1/upload/{session_id}/track",
        json={"file_name": "track-1.mp3", "metadata": {"track_number": 1, "title": "First Track"}},
    )
    body = response.json
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert body["ok"] is True
    assert body["upload_session_id"] == session_id
    assert UUID.fullmatch(body["track_id"])
    assert UUID.fullmatch(body["api_request_id"])
    assert body["api_request_id"] == response.headers["X-Request-ID"]
    assert body["track"]["id"] == body["track_id"]
    assert body["track"]["metadata"] == {"track_number": 1, "title": "First Track"}
    assert re.fullmatch(r"[A-Za-z0-9_-]+", body["track"]["index"])
    assert body["track"]["path"] == f"{COLLECTION}/{body['track']['index']}/track-1.mp3"
    for name, method in (("track_upload", "PUT"), ("track_cover_upload", "POST")):
        upload = body[name]
        assert upload["method"] == method
        assert urlsplit(upload["upload_url"]).scheme == "http"
        assert type(upload["ttl"]) is int
        assert upload["ttl"] > 0
        assert TIME.fullmatch(upload["expires_at"])


def test_nothing_declared(client, session_id):
    """Where nothing was declared there is no header to send, and what was not given is null."""
    created = new_track(client, session_id)
    assert created["track_upload"]["headers"] == {}
    assert created["track_cover_upload"]["headers"] == {}
    for name in ("organization_index", "file_size", "content_type", "checksum_sha256"):
        assert created["track"][name] is None, name
    assert created["track"]["metadata"] == {}


def test_all_declared(client, session_id, bucket):
    """What was declared is told back, is what to send, and the store takes it."""
    created = new_track(client, session_id, organization_index="A-1", **DECLARED)
    assert created["track"].items() >= {**DECLARED, "organization_index": "A-1"}.items()
    assert created["track_upload"]["headers"] == {
        "Content-Length": str(len(BODY)),
        "Content-Type": "audio/mpeg",
        "x-amz-checksum-sha256": DIGEST,
    }
    assert put(created["track_upload"], BODY).status_code == 200
    key = staged_key(created["track_upload"])
    assert bucket.get(key) == BODY
    assert bucket.head(key)["ContentType"] == "audio/mpeg"


def test_fields_of_the_cover(client, session_id):
    """The cover's fields hold all that the store's form wants, for exactly the cover's key."""
    fields = new_track(client, session_id)["track_cover_upload"]["fields"]
    assert {"key", "policy", "x-amz-signature", "x-amz-date", "x-amz-credential", "x-amz-algorithm"} <= fields.keys()
    assert fields["Content-Type"] == "image/jpeg"


@pytest.mark.parametrize("name", ["organization_index", "metadata", "file_size", "content_type", "checksum_sha256"])
def test_null_counts_as_not_given(client, session_id, name):
    """An optional that is null is as good as left out."""
    created = new_track(client, session_id, **{name: None})
    assert created["track"][name] == ({} if name == "metadata" else None)
    assert created["track_upload"]["headers"] == {}


def test_rejects_an_empty_file_by_name(client, session_id):
    """A `file_size` of 0 gets a sentence about empty files."""
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3", "file_size": 0})
    assert_error(response, 400, "invalid_request", "file_size", "empty file")


def test_unknown_keys_are_ignored(client, session_id):
    """Nobody can choose an id or a path by saying one."""
    created = new_track(client, session_id, later=1, path="mine", id="mine", index="mine", status="uploaded")
    assert "mine" not in (created["track"]["path"], created["track"]["id"], created["track"]["index"])
    assert created["track"]["status"] == "initialized"


def test_same_name_twice(client, session_id, bucket):
    """Two tracks of one name never share a path, and neither overwrites the other."""
    one, two = new_track(client, session_id), new_track(client, session_id)
    assert put(one["track_upload"], b"one").status_code == 200
    assert put(two["track_upload"], b"two").status_code == 200
    assert bucket.get(staged_key(one["track_upload"])) == b"one"
    assert bucket.get(staged_key(two["track_upload"])) == b"two"
    assert one["track"]["index"] != two["track"]["index"]


def test_prefix(make_client, bucket):
    """S3_PREFIX stands in front of every key."""
    client = make_client(S3_PREFIX="uploads/2026")
    created = new_track(client, new_session(client)["upload_session_id"])
    assert created["track"]["path"].startswith(f"uploads/2026/{COLLECTION}/")
    assert put(created["track_upload"], BODY).status_code == 200
    assert staged_key(created["track_upload"]).startswith("uploads/2026/incoming/")
    assert bucket.get(staged_key(created["track_upload"])) == BODY
    assert post_cover(created["track_cover_upload"], b"jpeg").ok
    assert bucket.get(staged_key(created["track_cover_upload"])) == b"jpeg"


def test_public_endpoint(make_client):
    """URLs are signed for S3_PUBLIC_ENDPOINT, where clients reach the store."""
    client = make_client(S3_PUBLIC_ENDPOINT="https://s3.example.com:443")
    created = new_track(client, new_session(client)["upload_session_id"])
    for name in ("track_upload", "track_cover_upload"):
        assert created[name]["upload_url"].startswith("https://s3.example.com/tracks/")


@pytest.mark.parametrize(
    ("file_name", "ending"),
    [
        ("track 1.mp3", "/track-1.mp3"),
        ("🎵🎶.mp3", "/track.mp3"),
        ("音楽.flac", "/track.flac"),
        ("Café Olé.MP3", "/Cafe-Ole.MP3"),
        ("100% + more?#&.wav", "/100-more.wav"),
        ("..hidden", None),
        ("no extension", "/no-extension"),
        ("a" * 251 + ".mp3", "/" + "a" * 80 + ".mp3"),
        ("dots.in.the.name.mp3", "/dots-in-the-name.mp3"),
        ("-rf.mp3", "/rf.mp3"),
        ("x.'; DROP TABLE track; --", None),
        ("<script>alert(1)</script>".replace("/", "") + ".mp3", None),
    ],
)
def test_file_names(client, session_id, bucket, file_name, ending):
    """Any name of a file is kept as it was given, under a path that is safe everywhere."""
    created = new_track(client, session_id, file_name)
    path = created["track"]["path"]
    assert created["track"]["file_name"] == file_name
    assert re.fullmatch(rf"{COLLECTION}/[A-Za-z0-9_-]{{22}}/[A-Za-z0-9_.-]{{1,100}}", path)
    assert ".." not in path
    if ending is not None:
        assert path.endswith(ending)
    assert put(created["track_upload"], BODY).status_code == 200
    assert bucket.get(staged_key(created["track_upload"])) == BODY


# --- Time ---


def test_a_url_lives_for_upload_url_ttl(make_client):
    """A URL lives for UPLOAD_URL_TTL where its session lives longer."""
    client = make_client(UPLOAD_URL_TTL="100")
    created = new_track(client, new_session(client)["upload_session_id"])
    for name in ("track_upload", "track_cover_upload"):
        assert created[name]["ttl"] == 100
        assert abs(seconds(created[name]["expires_at"]) - time.time() - 100) < 3
    assert "X-Amz-Expires=100&" in created["track_upload"]["upload_url"]


@pytest.mark.parametrize("passed", [0, 30, 50])
def test_no_url_outlives_its_session(make_client, clock, passed):
    """A URL's life is cut to what is left of its session."""
    client = make_client(UPLOAD_URL_TTL="604800")
    session = new_session(client, expires_in=60)
    clock.forward(passed)
    created = new_track(client, session["upload_session_id"])
    for name in ("track_upload", "track_cover_upload"):
        assert created[name]["ttl"] <= 60 - passed
        assert created[name]["expires_at"] <= session["expires_at"]


def test_expired_session(client, clock, count_rows):
    """A session whose time is over takes no track."""
    session = new_session(client, expires_in=60)
    clock.forward(60)
    before = count_rows()
    response = client.post(f"/v1/upload/{session['upload_session_id']}/track", json={"file_name": "a.mp3"})
    assert_error(response, 410, "session_expired", "upload_session_id")
    assert count_rows() == before


def test_unknown_session(client, count_rows):
    """A session that never was takes no track."""
    response = client.post(f"/v1/upload/{COLLECTION}/track", json={"file_name": "a.mp3"})
    assert_error(response, 404, "session_not_found", "upload_session_id")
    assert count_rows()["track"] == 0


# --- Limits ---


def test_most_tracks(make_client, count_rows):
    """A session takes MAX_TRACKS_PER_SESSION tracks and not one more."""
    client = make_client(MAX_TRACKS_PER_SESSION="2")
    session_id = new_session(client)["upload_session_id"]
    new_track(client, session_id)
    new_track(client, session_id)
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3"})
    assert_error(response, 409, "track_limit_reached")
    assert count_rows()["track"] == 2


def test_largest_track(make_client, count_rows):
    """A declared size of MAX_TRACK_BYTES is taken, one byte more is not."""
    client = make_client(MAX_TRACK_BYTES="1000")
    session_id = new_session(client)["upload_session_id"]
    new_track(client, session_id, file_size=1000)
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3", "file_size": 1001})
    assert_error(response, 413, "too_large", "file_size", "1000")
    assert count_rows()["track"] == 1


# --- What the store refuses ---


@pytest.mark.parametrize(
    ("declared", "body", "headers"),
    [
        ({"file_size": len(BODY)}, BODY + b"!", {}),
        ({"file_size": len(BODY)}, BODY[:-1], {}),
        ({"file_size": len(BODY)}, b"", {"Content-Length": "0"}),
        ({"content_type": "audio/mpeg"}, BODY, {"Content-Type": "audio/flac"}),
        ({"content_type": "audio/mpeg"}, BODY, {"Content-Type": "audio/mpeg; charset=utf-8"}),
        ({"content_type": "audio/mpeg"}, BODY, {"Content-Type": None}),
        ({"checksum_sha256": DIGEST}, BODY, {"x-amz-checksum-sha256": b64encode(bytes(32)).decode()}),
        ({"checksum_sha256": DIGEST}, BODY, {"x-amz-checksum-sha256": None}),
        ({"checksum_sha256": DIGEST}, b"other bytes", {}),
        (DECLARED, b"some video", {}),
    ],
    ids=[
        "one byte more",
        "one byte less",
        "empty",
        "other type",
        "type with a parameter",
        "no type",
        "other checksum",
        "no checksum",
        "right checksum, wrong body",
        "all declared, wrong body",
    ],
)
def test_store_refuses_what_was_not_declared(client, session_id, bucket, declared, body, headers):
    """A body that is not the declared one is refused by the store, and nothing is left there."""
    created = new_track(client, session_id, **declared)
    assert 400 <= put(created["track_upload"], body, **headers).status_code < 500
    assert all_keys(bucket, created) == []
    assert put(created["track_upload"], BODY).status_code == 200


def test_store_refuses_another_path(client, session_id, bucket):
    """A URL opens its own path and no other, nor one below or above it."""
    created = new_track(client, session_id)
    path = staged_key(created["track_upload"])
    others = (path + "2", path[:-1], path + "/below", path.rpartition("/")[0], path.upper(), created["track"]["path"])
    for other in others:
        url = created["track_upload"]["upload_url"].replace(f"/{path}?", f"/{other}?")
        assert url != created["track_upload"]["upload_url"]
        assert requests.put(url, data=BODY, timeout=10).status_code == 403, other
    assert all_keys(bucket, created) == []


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST", "HEAD"])
def test_store_refuses_another_method(client, session_id, bucket, method):
    """A URL is for PUT only: whoever holds it can neither read nor remove what was uploaded."""
    created = new_track(client, session_id)
    assert put(created["track_upload"], BODY).status_code == 200
    response = requests.request(method, created["track_upload"]["upload_url"], timeout=10)
    assert 400 <= response.status_code < 500
    assert BODY not in response.content
    assert bucket.get(staged_key(created["track_upload"])) == BODY


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("X-Amz-Expires=", "X-Amz-Expires=9"),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
        ("X-Amz-SignedHeaders=content-length%3Bhost", "X-Amz-SignedHeaders=host"),
        ("X-Amz-Date=2", "X-Amz-Date=3"),
        ("us-east-1", "us-east-2"),
        ("X-Amz-Algorithm", "acl&X-Amz-Algorithm"),
    ],
)
def test_store_refuses_a_changed_url(client, session_id, bucket, old, new):
    """Nothing in a URL can be changed by who holds it."""
    created = new_track(client, session_id, file_size=len(BODY))
    url = created["track_upload"]["upload_url"]
    assert old in url
    assert 400 <= requests.put(url.replace(old, new), data=BODY, timeout=10).status_code < 500
    assert all_keys(bucket, created) == []


def test_store_refuses_after_the_ttl(make_client, bucket):
    """Once the ttl is over the store takes neither track nor cover."""
    client = make_client(UPLOAD_URL_TTL="1")
    created = new_track(client, new_session(client)["upload_session_id"])
    time.sleep(2.1)
    assert put(created["track_upload"], BODY).status_code == 403
    assert post_cover(created["track_cover_upload"], b"jpeg").status_code in (400, 403)
    assert all_keys(bucket, created) == []


# --- Covers ---


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/png", "image/webp"])
def test_cover_arrives(client, session_id, bucket, content_type):
    """A cover of any image type is taken through the form, under the cover's path."""
    created = new_track(client, session_id)
    response = post_cover(created["track_cover_upload"], b"picture", **{"Content-Type": content_type})
    assert response.ok, response.text
    key = staged_key(created["track_cover_upload"])
    assert bucket.get(key) == b"picture"
    assert bucket.head(key)["ContentType"] == content_type


def test_largest_cover(make_client, bucket):
    """A cover of MAX_COVER_BYTES is taken by the store, one of a byte more is not."""
    client = make_client(MAX_COVER_BYTES="1000")
    created = new_track(client, new_session(client)["upload_session_id"])
    assert 400 <= post_cover(created["track_cover_upload"], bytes(1001)).status_code < 500
    assert 400 <= post_cover(created["track_cover_upload"], b"").status_code < 500
    assert all_keys(bucket, created) == []
    assert post_cover(created["track_cover_upload"], bytes(1000)).ok
    assert bucket.get(staged_key(created["track_cover_upload"])) == bytes(1000)


@pytest.mark.parametrize(
    "fields",
    [
        {"Content-Type": "text/html"},
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": ""},
        {"Content-Type": "ximage/jpeg"},
        {"key": f"{COLLECTION}/other.cover"},
        {"key": f"{COLLECTION}/${{filename}}"},
        {"x-amz-signature": "0" * 64},
        {"policy": b64encode(b'{"expiration": "2099-01-01T00:00:00Z", "conditions": []}').decode()},
        {"x-amz-date": "20200101T000000Z"},
    ],
    ids=lambda fields: " ".join(f"{k}={v[:24]}" for k, v in fields.items()),
)
def test_store_refuses_a_changed_form(client, session_id, bucket, fields):
    """A form lets in an image at the cover's own key and nothing else."""
    created = new_track(client, session_id)
    before = bucket.keys(f"{COLLECTION}/other.cover") + bucket.keys(f"{COLLECTION}/cover.jpg")
    assert before == []
    assert 400 <= post_cover(created["track_cover_upload"], b"picture", **fields).status_code < 500
    assert all_keys(bucket, created) == []
    assert bucket.keys(f"{COLLECTION}/other.cover") + bucket.keys(f"{COLLECTION}/cover.jpg") == []


def test_no_field_opens_a_cover_to_everyone(client, session_id):
    """Whether or not a store minds fields that the policy does not name, they make nothing public."""
    created = new_track(client, session_id)
    post_cover(created["track_cover_upload"], b"picture", acl="public-read")
    url = created["track_cover_upload"]["upload_url"] + staged_key(created["track_cover_upload"])
    assert requests.get(url, timeout=10).status_code == 403


# --- Anything at all ---

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
OPTIONAL = ("organization_index", "metadata", "file_size", "content_type", "checksum_sha256", "write_once", "part_size")
OPTIONAL += ("cover_fields",)


@limits(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    json_values
    | st.fixed_dictionaries(
        {"file_name": st.text(max_size=300) | json_values}, optional=dict.fromkeys(OPTIONAL, json_values)
    )
)
def test_any_json(client, session_id, value):
    """Whatever JSON comes, the answer is never a fault of ours."""
    response = client.post(f"/v1/upload/{session_id}/track", json=value)
    assert response.status_code in (200, 400, 413), response.text
    assert response.json["ok"] is (response.status_code == 200)


@limits(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255))
def test_any_file_name(client, session_id, file_name):
    """A name is either refused by name, or kept as it is under a safe path."""
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": file_name})
    if response.status_code == 200:
        assert response.json["track"]["file_name"] == file_name
        assert re.fullmatch(
            rf"{COLLECTION}/[A-Za-z0-9_-]{{22}}/[A-Za-z0-9_.-]{{1,100}}", response.json["track"]["path"]
        )
    else:
        assert_error(response, 400, "invalid_request", "file_name")
