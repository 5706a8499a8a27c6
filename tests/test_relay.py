"""POST /v1/upload/:upload_session_id/track/:track_id/cover: the relay of covers for clients that send `file` alone."""

from io import BytesIO
from urllib.parse import urlsplit

import pytest
from flask import Flask

import app as app_module
from storage.uploads import staging, tracks
from support.api import COLLECTION, assert_error, complete, new_session, new_track
from support.sample_files import jpeg, png, wav
from support.store import post_cover, put

pytestmark = pytest.mark.sqlite

JPEG = b"\xff\xd8\xff\xe0picture"


@pytest.fixture
def client(make_client):
    """A client of a service that relays covers of up to 1,000 bytes."""
    return make_client(COVER_UPLOAD="relay", MAX_COVER_BYTES="1000")


@pytest.fixture
def created(client):
    """A new track."""
    return new_track(client, new_session(client)["upload_session_id"])


def post_form(client, url, body=JPEG, content_type="image/jpeg", name="cover.jpg"):
    """Send a form with only `file`, as a client of the contract does."""
    return client.post(urlsplit(url).path, data={"file": (BytesIO(body), name, content_type)})


def relayed(client, created, bucket):
    """Return the relayed cover as the store has it in staging, or None."""
    service = client.application.extensions["loadbay"]["loadbay"]
    row = tracks.read(service, created["upload_session_id"], created["track_id"])
    return bucket.get(staging.cover_key(service, row))


def test_relays_a_cover_to_the_store(client, created, bucket):
    """A form with only `file` uploads the cover, which is at its path once it is verified."""
    response = post_form(client, created["track_cover_upload"]["upload_url"])
    assert response.status_code == 200
    assert response.json["ok"] is True
    assert response.json["track_id"] == created["track_id"]
    assert relayed(client, created, bucket) == JPEG
    post_form(client, created["track_cover_upload"]["upload_url"], png())
    assert put(created["track_upload"], wav()).status_code == 200
    cover = client.post(f"/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/complete").json[
        "track"
    ]["cover"]
    assert (cover["status"], cover["path"]) == ("uploaded", created["track"]["cover_path"])
    assert bucket.get(cover["path"]) == png()
    assert bucket.head(cover["path"])["ContentType"] == "image/png"


def test_upload_url_is_a_route_of_the_service(client, created):
    """The cover's upload_url is a route of the service and needs no fields; the track's is the store's."""
    upload = created["track_cover_upload"]
    assert upload["method"] == "POST"
    assert upload["upload_url"] == (
        f"http://localhost/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/cover"
    )
    assert upload["fields"] == {}
    assert upload["ttl"] > 0
    assert put(created["track_upload"], b"audio").status_code == 200


def test_later_cover_replaces_an_earlier_one(client, created, bucket):
    """A cover may be sent again: the last one counts."""
    for body in (JPEG, JPEG + b"2"):
        assert post_form(client, created["track_cover_upload"]["upload_url"], body).status_code == 200
        assert relayed(client, created, bucket) == body


def test_accepts_a_cover_of_the_size_limit(client, created, bucket):
    """A cover of MAX_COVER_BYTES is accepted."""
    assert post_form(client, created["track_cover_upload"]["upload_url"], bytes(1000)).status_code == 200
    assert relayed(client, created, bucket) == bytes(1000)


@pytest.mark.parametrize("size", [0, 1001, 66_000, 400_000])
def test_rejects_an_empty_or_too_large_cover(client, created, bucket, size):
    """An empty cover or one over MAX_COVER_BYTES is rejected, however large."""
    response = post_form(client, created["track_cover_upload"]["upload_url"], bytes(size))
    assert_error(response, 413, "too_large")
    assert relayed(client, created, bucket) is None


OTHER_TYPES = ["text/html", "application/octet-stream", "audio/mpeg", "ximage/png", "image"]
INVALID_TYPES = ["image/", "image/\x01", "image/\u1234", "image/a b", "image/a/b", f"image/{'x' * 128}"]


@pytest.mark.parametrize("content_type", [*OTHER_TYPES, *INVALID_TYPES])
def test_rejects_other_types(client, created, bucket, content_type):
    """A file that is not declared as an image is rejected."""
    response = post_form(client, created["track_cover_upload"]["upload_url"], content_type=content_type)
    assert_error(response, 415, "unsupported_media_type", "file")
    assert relayed(client, created, bucket) is None


@pytest.mark.parametrize(
    "data", [{}, {"other": (BytesIO(JPEG), "a.jpg", "image/jpeg")}, {"file": "text"}], ids=["empty", "other", "text"]
)
def test_rejects_a_form_without_a_file(client, created, data):
    """A form without a `file` is rejected by that name."""
    url = urlsplit(created["track_cover_upload"]["upload_url"]).path
    response = client.post(url, data=data, content_type="multipart/form-data")
    assert_error(response, 400, "invalid_request", "file")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{}", "application/json"),
        (JPEG, "image/jpeg"),
        (b"file=x", "application/x-www-form-urlencoded"),
        (b"x", None),
    ],
)
def test_rejects_a_body_that_is_no_form(client, created, body, content_type):
    """A body that is no multipart form is rejected."""
    url = urlsplit(created["track_cover_upload"]["upload_url"]).path
    assert_error(client.post(url, data=body, content_type=content_type), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "multipart/form-data"),
        (b"garbage", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\n\xff\xfe\r\n\r\n--x--", "multipart/form-data; boundary=x"),
        (b"--x\r\n" + b"A: b\r\n" * 5000 + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"--x--", "multipart/form-data; boundary=" + "x" * 5000),
    ],
)
def test_rejects_a_malformed_form(client, created, bucket, body, content_type):
    """A malformed form is an error of the client."""
    url = urlsplit(created["track_cover_upload"]["upload_url"]).path
    response = client.post(url, data=body, content_type=content_type)
    assert response.status_code in (400, 413), response.text
    assert response.json["ok"] is False
    assert relayed(client, created, bucket) is None


def test_unknown_track_is_not_found(client, created):
    """A track that does not exist, or that belongs to another session, accepts no cover."""
    session_id, track_id = created["upload_session_id"], created["track_id"]
    other = new_session(client)["upload_session_id"]
    for path in (f"{session_id}/track/{COLLECTION}", f"{other}/track/{track_id}"):
        assert_error(post_form(client, f"/v1/upload/{path}/cover"), 404, "track_not_found", "track_id")


def test_unknown_session_is_not_found(client, created):
    """A session that does not exist accepts no cover."""
    response = post_form(client, f"/v1/upload/{COLLECTION}/track/{created['track_id']}/cover")
    assert_error(response, 404, "session_not_found", "upload_session_id")


@pytest.mark.parametrize("name", ["upload_session_id", "track_id"])
def test_rejects_invalid_ids(client, created, name):
    """An id that is no UUID is rejected by name."""
    ids = {"upload_session_id": created["upload_session_id"], "track_id": created["track_id"], name: "nonsense"}
    response = post_form(client, "/v1/upload/{upload_session_id}/track/{track_id}/cover".format(**ids))
    assert_error(response, 400, "invalid_request", name)


def test_rejects_covers_of_an_expired_session(client, created, clock, bucket):
    """An expired session accepts no covers."""
    clock.forward(3600)
    assert_error(post_form(client, created["track_cover_upload"]["upload_url"]), 410, "session_expired")
    assert relayed(client, created, bucket) is None


def test_direct_forms_require_cover_fields(make_client):
    """With COVER_UPLOAD=form, a client without `cover_fields` may still send `file` alone."""
    client = make_client(COVER_UPLOAD="form")
    session_id = new_session(client)["upload_session_id"]
    plain, direct = (new_track(client, session_id, cover_fields=fields) for fields in (None, True))
    assert plain["track_cover_upload"]["fields"] == {}
    assert post_form(client, plain["track_cover_upload"]["upload_url"]).status_code == 200
    assert post_cover(direct["track_cover_upload"], JPEG).status_code == 204
    renewed = client.post(f"/v1/upload/{session_id}/track/{direct['track_id']}/renew").json
    assert renewed["track_cover_upload"]["fields"].keys() == direct["track_cover_upload"]["fields"].keys()


PICTURE = jpeg()
DECLARED = {"cover_fields": True, "cover_size": len(PICTURE), "cover_content_type": "image/jpeg"}


def test_cover_is_put_to_the_store(make_client, bucket):
    """With COVER_UPLOAD=put, a cover of a declared size and type is sent by a signed PUT; the store enforces both."""
    client = make_client(COVER_UPLOAD="put")
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav", **DECLARED)
    upload = created["track_cover_upload"]
    assert (upload["method"], upload["fields"]) == ("PUT", {})
    assert upload["headers"] == {"Content-Length": str(len(PICTURE)), "Content-Type": "image/jpeg"}
    assert put(upload, PICTURE + b"!", **{"Content-Length": str(len(PICTURE) + 1)}).status_code == 403
    assert put(upload, PICTURE, **{"Content-Type": "text/html"}).status_code == 403
    renewed = client.post(f"/v1/upload/{session_id}/track/{created['track_id']}/renew").json["track_cover_upload"]
    assert put(renewed, PICTURE).status_code == 200
    put(created["track_upload"], wav())
    cover = complete(client, session_id, created)["cover"]
    assert (cover["status"], cover["content_type"]) == ("uploaded", "image/jpeg")
    put(upload, PICTURE[:-1] + b"\0")
    assert bucket.get(cover["path"]) == PICTURE


@pytest.mark.parametrize(
    "declared",
    [
        {"cover_fields": False},
        {"cover_size": None},
        {"cover_content_type": None},
        {"cover_content_type": "text/html"},
        {"cover_size": 11 * 2**20},
        {"cover_size": 0},
    ],
)
def test_cover_that_cannot_be_put_is_relayed(make_client, declared):
    """With COVER_UPLOAD=put, a client that does not ask for it, or declares no acceptable cover, gets the relay."""
    client = make_client(COVER_UPLOAD="put")
    created = new_track(client, new_session(client)["upload_session_id"], **{**DECLARED, **declared})
    upload = created["track_cover_upload"]
    assert (upload["method"], upload["headers"], upload["fields"]) == ("POST", {}, {})
    assert post_form(client, upload["upload_url"]).status_code == 200


def test_batch_gets_the_same_covers(make_client):
    """Tracks of a batch get their own PUTs, as single ones do."""
    client = make_client(COVER_UPLOAD="put")
    session_id = new_session(client)["upload_session_id"]
    items = [{"file_name": "a.wav", **DECLARED}, {"file_name": "b.wav"}]
    created = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": items}).json["tracks"]
    assert [item["track_cover_upload"]["method"] for item in created] == ["PUT", "POST"]


@pytest.mark.parametrize(("way", "method"), [("auto", "POST"), ("form", "POST"), ("put", "PUT"), ("relay", "POST")])
def test_answer_says_how_a_cover_is_sent(make_client, way, method):
    """A client that declares everything gets the way that the deploy has chosen, and `auto` is a form on this store."""
    client = make_client(COVER_UPLOAD=way)
    created = new_track(client, new_session(client)["upload_session_id"], **DECLARED)
    assert created["track_cover_upload"]["method"] == method
    assert bool(created["track_cover_upload"]["fields"]) is (way in ("auto", "form"))


def test_replacement_is_no_put_of_the_declared_size(make_client):
    """A cover that replaces another has a size of its own, which is not declared."""
    client = make_client(COVER_UPLOAD="put", API_KEYS="a-full-key-of-the-tests")
    headers = {"Authorization": "Bearer a-full-key-of-the-tests"}
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav", **DECLARED)
    put(created["track_upload"], wav())
    complete(client, session_id, created)
    upload = client.post(f"/v1/track/{created['track_id']}/cover", headers=headers).json["track_cover_upload"]
    assert (upload["method"], upload["fields"]) == ("POST", {})


@pytest.mark.parametrize("root", ["", "/api", "/api/v1"])
def test_upload_url_has_the_prefix(settings, root):
    """The relay's URL is right at any prefix, in every response."""
    host = Flask(__name__)
    host.register_blueprint(app_module.loadbay, url_prefix=root or None, config=settings)
    client = host.test_client()
    headers = {"Host": "uploads.example.com:8080"}
    body = {"collection_id": COLLECTION, "track": {"file_name": "a.wav"}}
    created = client.post(f"{root}/v1/upload_session", json=body, headers=headers).json
    path = f"{root}/v1/upload/{created['upload_session_id']}/track/{created['track_id']}"
    url = f"http://uploads.example.com:8080{path}/cover"
    assert created["track_cover_upload"]["upload_url"] == url
    renewed = client.post(f"{path}/renew", headers=headers).json
    assert renewed["track_cover_upload"]["upload_url"] == url
    assert post_form(client, url).status_code == 200
