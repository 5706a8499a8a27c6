"""POST /v1/upload/:upload_session_id/track, and the uploads that its presigned URLs allow."""

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
from support.sample_files import wav
from support.store import post_cover, put, staged_key

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
BODY = wav()
DIGEST = b64encode(sha256(BODY).digest()).decode()
DECLARED = {"file_size": len(BODY), "content_type": "audio/mpeg", "checksum_sha256": DIGEST}


@pytest.fixture
def session_id(client):
    """The id of an open session."""
    return new_session(client)["upload_session_id"]


def timestamp(text):
    """Parse a time of the API and return it as Unix time."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def all_keys(bucket, created):
    """Return the keys of all objects of a track, in staging and at its final keys."""
    path, staged = created["track"]["path"], staged_key(created["track_upload"])
    return bucket.keys(path.rpartition("/")[0]) + bucket.keys(staged.rpartition(".")[0])


# --- The response ---


def test_put_stores_the_bytes_at_the_path(client, bucket):
    """The bytes of a PUT to upload_url are at track.path once they are verified, and in staging until then."""
    created = new_track(client, new_session(client)["upload_session_id"])
    assert put(created["track_upload"], BODY).status_code == 200
    assert bucket.get(staged_key(created["track_upload"])) == BODY
    assert bucket.get(created["track"]["path"]) is None
    url = f"/v1/upload/{created['upload_session_id']}/track/{created['track_id']}"
    assert client.get(url).json["track"]["path"] == created["track"]["path"]
    assert bucket.get(created["track"]["path"]) == BODY


def test_track_names_its_session(client):
    """A track has the ids of its session, collection and creator."""
    creator = "9b2f5c1e-7a43-4d0b-8c6e-1f2a3b4c5d6e"
    session_id = new_session(client, creator_id=creator)["upload_session_id"]
    track = new_track(client, session_id)["track"]
    ids = {"upload_session_id": session_id, "collection_id": COLLECTION, "creator_id": creator}
    assert track.items() >= ids.items()
    assert client.get(f"/v1/upload/{session_id}/track").json["tracks"][0].items() >= ids.items()


def test_staging_keys_of_deployments_differ(client, make_client, settings, make_database):
    """Two deployments with one bucket and prefix have different staging keys."""
    other = make_client(DATABASE_URL=make_database())
    keys = [staged_key(new_track(c, new_session(c)["upload_session_id"])["track_upload"]) for c in (client, other)]
    prefixes = [key.rpartition("/")[0] for key in keys]
    assert all(re.fullmatch(r"incoming/[A-Za-z0-9_-]{22}", prefix) for prefix in prefixes)
    assert prefixes[0] != prefixes[1]


def test_contract_example_gets_the_contract_response(client, session_id):
    """The contract's example request gets the contract's response, with each key of its type."""
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


def test_undeclared_fields_need_no_headers_and_are_null(client, session_id):
    """Without declared fields, there are no headers to send, and the optional fields are null."""
    created = new_track(client, session_id)
    assert created["track_upload"]["headers"] == {}
    assert created["track_cover_upload"]["headers"] == {}
    for name in ("organization_index", "file_size", "content_type", "checksum_sha256"):
        assert created["track"][name] is None, name
    assert created["track"]["metadata"] == {}


def test_declared_fields_are_returned_and_bound(client, session_id, bucket):
    """Declared fields are returned, become the headers to send, and are accepted by the store."""
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


def test_cover_form_has_the_fields_of_a_post_policy(client, session_id):
    """The cover's fields are those that S3 requires of a POST policy form."""
    fields = new_track(client, session_id)["track_cover_upload"]["fields"]
    assert {"key", "policy", "x-amz-signature", "x-amz-date", "x-amz-credential", "x-amz-algorithm"} <= fields.keys()
    assert fields["Content-Type"] == "image/jpeg"


@pytest.mark.parametrize("name", ["organization_index", "metadata", "file_size", "content_type", "checksum_sha256"])
def test_null_is_the_same_as_absent(client, session_id, name):
    """An optional field that is null is treated as absent."""
    created = new_track(client, session_id, **{name: None})
    assert created["track"][name] == ({} if name == "metadata" else None)
    assert created["track_upload"]["headers"] == {}


def test_rejects_an_empty_file_by_name(client, session_id):
    """A `file_size` of 0 gets a sentence about empty files."""
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3", "file_size": 0})
    assert_error(response, 400, "invalid_request", "file_size", "empty file")


def test_ignores_unknown_keys(client, session_id):
    """A client cannot choose an id, a path or a status."""
    created = new_track(client, session_id, later=1, path="mine", id="mine", index="mine", status="uploaded")
    assert "mine" not in (created["track"]["path"], created["track"]["id"], created["track"]["index"])
    assert created["track"]["status"] == "initialized"


def test_tracks_of_the_same_name_have_their_own_paths(client, session_id, bucket):
    """Two tracks of the same file name have different paths, so that neither overwrites the other."""
    one, two = new_track(client, session_id), new_track(client, session_id)
    assert put(one["track_upload"], b"one").status_code == 200
    assert put(two["track_upload"], b"two").status_code == 200
    assert bucket.get(staged_key(one["track_upload"])) == b"one"
    assert bucket.get(staged_key(two["track_upload"])) == b"two"
    assert one["track"]["index"] != two["track"]["index"]


def test_keys_start_with_the_configured_prefix(make_client, bucket):
    """Every object key starts with S3_PREFIX."""
    client = make_client(S3_PREFIX="uploads/2026")
    created = new_track(client, new_session(client)["upload_session_id"])
    assert created["track"]["path"].startswith(f"uploads/2026/{COLLECTION}/")
    assert put(created["track_upload"], BODY).status_code == 200
    assert staged_key(created["track_upload"]).startswith("uploads/2026/incoming/")
    assert bucket.get(staged_key(created["track_upload"])) == BODY
    assert post_cover(created["track_cover_upload"], b"jpeg").ok
    assert bucket.get(staged_key(created["track_cover_upload"])) == b"jpeg"


def test_urls_use_the_public_endpoint(make_client):
    """URLs are signed for S3_PUBLIC_ENDPOINT, at which clients reach the store."""
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
def test_any_file_name_gets_a_safe_path(client, session_id, bucket, file_name, ending):
    """A file name is stored unchanged, and its object key is safe in every client."""
    created = new_track(client, session_id, file_name)
    path = created["track"]["path"]
    assert created["track"]["file_name"] == file_name
    assert re.fullmatch(rf"{COLLECTION}/[A-Za-z0-9_-]{{22}}/[A-Za-z0-9_.-]{{1,100}}", path)
    assert ".." not in path
    if ending is not None:
        assert path.endswith(ending)
    assert put(created["track_upload"], BODY).status_code == 200
    assert bucket.get(staged_key(created["track_upload"])) == BODY


# --- Expiry ---


def test_urls_expire_after_upload_url_ttl(make_client):
    """A URL is valid for UPLOAD_URL_TTL seconds if its session lives longer."""
    client = make_client(UPLOAD_URL_TTL="100")
    created = new_track(client, new_session(client)["upload_session_id"])
    for name in ("track_upload", "track_cover_upload"):
        assert created[name]["ttl"] == 100
        assert abs(timestamp(created[name]["expires_at"]) - time.time() - 100) < 3
    assert "X-Amz-Expires=100&" in created["track_upload"]["upload_url"]


@pytest.mark.parametrize("elapsed", [0, 30, 50])
def test_no_url_outlives_its_session(make_client, clock, elapsed):
    """A URL's lifetime is limited to the remaining time of its session."""
    client = make_client(UPLOAD_URL_TTL="604800")
    session = new_session(client, expires_in=60)
    clock.forward(elapsed)
    created = new_track(client, session["upload_session_id"])
    for name in ("track_upload", "track_cover_upload"):
        assert created[name]["ttl"] <= 60 - elapsed
        assert created[name]["expires_at"] <= session["expires_at"]


def test_rejects_tracks_of_an_expired_session(client, clock, count_rows):
    """An expired session accepts no tracks."""
    session = new_session(client, expires_in=60)
    clock.forward(60)
    before = count_rows()
    response = client.post(f"/v1/upload/{session['upload_session_id']}/track", json={"file_name": "a.mp3"})
    assert_error(response, 410, "session_expired", "upload_session_id")
    assert count_rows() == before


def test_rejects_tracks_of_an_unknown_session(client, count_rows):
    """A session that does not exist accepts no tracks."""
    response = client.post(f"/v1/upload/{COLLECTION}/track", json={"file_name": "a.mp3"})
    assert_error(response, 404, "session_not_found", "upload_session_id")
    assert count_rows()["track"] == 0


# --- Limits ---


def test_limits_the_tracks_of_a_session(make_client, count_rows):
    """A session accepts MAX_TRACKS_PER_SESSION tracks and no more."""
    client = make_client(MAX_TRACKS_PER_SESSION="2")
    session_id = new_session(client)["upload_session_id"]
    new_track(client, session_id)
    new_track(client, session_id)
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3"})
    assert_error(response, 409, "track_limit_reached")
    assert count_rows()["track"] == 2


def test_limits_the_declared_size(make_client, count_rows):
    """A declared size of MAX_TRACK_BYTES is accepted, and one byte more is rejected."""
    client = make_client(MAX_TRACK_BYTES="1000")
    session_id = new_session(client)["upload_session_id"]
    new_track(client, session_id, file_size=1000)
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.mp3", "file_size": 1001})
    assert_error(response, 413, "too_large", "file_size", "1000")
    assert count_rows()["track"] == 1


# --- Uploads that the store rejects ---


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
def test_store_rejects_a_body_that_differs_from_the_declaration(client, session_id, bucket, declared, body, headers):
    """The store rejects a body that differs from what was declared, and stores nothing."""
    created = new_track(client, session_id, **declared)
    assert 400 <= put(created["track_upload"], body, **headers).status_code < 500
    assert all_keys(bucket, created) == []
    assert put(created["track_upload"], BODY).status_code == 200


def test_store_rejects_another_path(client, session_id, bucket):
    """A URL is valid for its own key only, and for none below or above it."""
    created = new_track(client, session_id)
    path = staged_key(created["track_upload"])
    others = (path + "2", path[:-1], path + "/below", path.rpartition("/")[0], path.upper(), created["track"]["path"])
    for other in others:
        url = created["track_upload"]["upload_url"].replace(f"/{path}?", f"/{other}?")
        assert url != created["track_upload"]["upload_url"]
        assert requests.put(url, data=BODY, timeout=10).status_code == 403, other
    assert all_keys(bucket, created) == []


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST", "HEAD"])
def test_store_rejects_another_method(client, session_id, bucket, method):
    """A URL is valid for PUT only: its holder can neither read nor delete the object."""
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
def test_store_rejects_a_changed_url(client, session_id, bucket, old, new):
    """A URL is invalid once any part of it is changed."""
    created = new_track(client, session_id, file_size=len(BODY))
    url = created["track_upload"]["upload_url"]
    assert old in url
    assert 400 <= requests.put(url.replace(old, new), data=BODY, timeout=10).status_code < 500
    assert all_keys(bucket, created) == []


def test_store_rejects_expired_urls(make_client, bucket):
    """After the ttl, the store accepts neither the track nor the cover."""
    client = make_client(UPLOAD_URL_TTL="1")
    created = new_track(client, new_session(client)["upload_session_id"])
    time.sleep(2.1)
    assert put(created["track_upload"], BODY).status_code == 403
    assert post_cover(created["track_cover_upload"], b"jpeg").status_code in (400, 403)
    assert all_keys(bucket, created) == []


# --- Covers ---


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/png", "image/webp"])
def test_post_stores_the_cover(client, session_id, bucket, content_type):
    """A cover of any image type is accepted through the form, and stored with its type."""
    created = new_track(client, session_id)
    response = post_cover(created["track_cover_upload"], b"picture", **{"Content-Type": content_type})
    assert response.ok, response.text
    key = staged_key(created["track_cover_upload"])
    assert bucket.get(key) == b"picture"
    assert bucket.head(key)["ContentType"] == content_type


def test_store_limits_the_size_of_a_cover(make_client, bucket):
    """The store accepts a cover of MAX_COVER_BYTES and rejects one of a byte more."""
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
def test_store_rejects_a_changed_form(client, session_id, bucket, fields):
    """A form accepts an image at the cover's own key and nothing else."""
    created = new_track(client, session_id)
    before = bucket.keys(f"{COLLECTION}/other.cover") + bucket.keys(f"{COLLECTION}/cover.jpg")
    assert before == []
    assert 400 <= post_cover(created["track_cover_upload"], b"picture", **fields).status_code < 500
    assert all_keys(bucket, created) == []
    assert bucket.keys(f"{COLLECTION}/other.cover") + bucket.keys(f"{COLLECTION}/cover.jpg") == []


def test_extra_fields_make_no_cover_public(client, session_id):
    """Fields that the policy does not name make nothing public, even if the store ignores them."""
    created = new_track(client, session_id)
    post_cover(created["track_cover_upload"], b"picture", acl="public-read")
    url = created["track_cover_upload"]["upload_url"] + staged_key(created["track_cover_upload"])
    assert requests.get(url, timeout=10).status_code == 403


# --- Random input ---

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
def test_any_json_gets_a_defined_response(client, session_id, value):
    """Any JSON is accepted or rejected with an error of the client, never with a 500."""
    response = client.post(f"/v1/upload/{session_id}/track", json=value)
    assert response.status_code in (200, 400, 413), response.text
    assert response.json["ok"] is (response.status_code == 200)


@limits(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255))
def test_any_file_name_is_stored_or_rejected(client, session_id, file_name):
    """A file name is either rejected by field name or stored unchanged under a safe path."""
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": file_name})
    if response.status_code == 200:
        assert response.json["track"]["file_name"] == file_name
        assert re.fullmatch(
            rf"{COLLECTION}/[A-Za-z0-9_-]{{22}}/[A-Za-z0-9_.-]{{1,100}}", response.json["track"]["path"]
        )
    else:
        assert_error(response, 400, "invalid_request", "file_name")
