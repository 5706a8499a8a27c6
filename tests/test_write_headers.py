"""Encryption, storage class, tags, ids and owner of what is written, from registration to the final objects."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from io import BytesIO
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest

from storage.measuring import stores
from storage.s3 import bucket as bucket_module
from storage.s3.bucket import Bucket, StorePoolManager
from storage.s3.choices import choose
from storage.settings import Settings, SettingsError
from storage.uploads import covers, removals, staging
from support.api import COLLECTION, complete, create_key, new_session, new_track, service_of, track_url
from support.dialect_proxies import DENIED, ConditionalWritesProxy, DigestProxy, LockedProxy
from support.fault_proxy import Answer, running
from support.sample_files import checksum, png, wav
from support.store import ADMIN, BUCKET, measure, post_cover, put, send, staged_key

ORGANIZATION = "0e9b1f3a-5c1d-4c55-9d4c-6d8f1f0f2b11"
OWNER = "111122223333"
TAGGING = "team=audio&cost%20center=a%2Bb%3D42"
TAGS = {"team": "audio", "cost center": "a+b=42"}
WRITTEN = {
    "S3_SSE": "AES256",
    "S3_STORAGE_CLASS": "STANDARD_IA",
    "S3_TAGGING": TAGGING,
    "S3_OBJECT_METADATA": "session, organization, collection, track",
    "S3_EXPECTED_BUCKET_OWNER": OWNER,
}
WAV, PNG, OTHER_PNG = wav(0.5), png(), png(20, 10)
API_KEY = "a-key-for-the-tests-of-covers"
KEY = {"Authorization": f"Bearer {API_KEY}"}
MIB = 2**20


@pytest.fixture
def requests_sent(monkeypatch):
    """The service's requests to the store: method and headers of each."""
    sent, urlopen = [], StorePoolManager.urlopen

    def recording_urlopen(self, method, url, redirect=True, **options):
        sent.append((method, dict(options["headers"])))
        return urlopen(self, method, url, redirect, **options)

    monkeypatch.setattr(StorePoolManager, "urlopen", recording_urlopen)
    return sent


@pytest.fixture
def settings(settings):
    """Settings that ask for everything."""
    return {**settings, **WRITTEN}


@pytest.fixture
def session_id(client):
    """The id of an open session."""
    return new_session(client)["upload_session_id"]


def tags_of(bucket, key):
    """Return the tags of an object."""
    return {tag["Key"]: tag["Value"] for tag in bucket.s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]}


def ids_of(session_id, track_id):
    """Return the metadata of the objects of a track."""
    digest = hashlib.sha256(session_id.encode()).hexdigest()
    return {"track-id": track_id, "collection-id": COLLECTION, "upload-session-sha256": digest}


def assert_written(bucket, key, session_id, track_id, tags=TAGS):
    """Check that the store tells everything of a final object that the settings ask for."""
    head = bucket.head(key)
    assert (head["ServerSideEncryption"], head["StorageClass"]) == ("AES256", "STANDARD_IA")
    assert head["Metadata"] == ids_of(session_id, track_id)
    assert tags_of(bucket, key) == tags
    assert session_id not in str(head)


def assert_staged(bucket, key, tags=TAGS):
    """Check that an object in staging is encrypted and tagged, and has neither class nor ids."""
    head = bucket.head(key)
    assert (head["ServerSideEncryption"], head.get("StorageClass", "STANDARD")) == ("AES256", "STANDARD")
    assert head["Metadata"] == {}
    assert tags_of(bucket, key) == tags


@pytest.mark.parametrize("declared", [{}, {"checksum_sha256": checksum("sha256", WAV), "content_type": "audio/wav"}])
def test_plain_put_is_encrypted_in_staging_and_complete_at_its_final_key(client, bucket, session_id, declared):
    """A plain PUT is encrypted and tagged from the start; class and ids come with the copy."""
    created = new_track(client, session_id, "a.wav", file_size=len(WAV), **declared)
    upload = created["track_upload"]
    assert put(upload, WAV).status_code == 200
    assert_staged(bucket, staged_key(upload))
    track = complete(client, session_id, created)
    assert track["status"] == "uploaded"
    assert_written(bucket, track["path"], session_id, track["id"])


def test_write_once_put_is_final_without_a_copy(client, bucket, session_id, monkeypatch):
    """A write-once PUT writes everything itself, and is not copied for its ids."""
    created = new_track(client, session_id, "a.wav", write_once=True)
    assert put(created["track_upload"], WAV).status_code == 200
    monkeypatch.setattr(Bucket, "copy", None)
    track = complete(client, session_id, created)
    assert track["status"] == "uploaded"
    assert_written(bucket, track["path"], session_id, track["id"])


def test_ids_that_a_sender_adds_are_removed(client, bucket, session_id, make_client):
    """Metadata besides the ids is the sender's: such an object is copied without it."""
    created = new_track(client, session_id, "a.wav", write_once=True)
    answer = put(created["track_upload"], WAV, **{"x-amz-meta-title": "mine"})
    if answer.status_code == 200:
        # Amazon S3 rejects x-amz- headers that are not signed.
        track = complete(client, session_id, created)
        assert_written(bucket, track["path"], session_id, track["id"])
    else:
        assert answer.status_code == 403


def test_parts_make_an_encrypted_tagged_object(client, bucket, session_id):
    """A multipart upload is created with everything; a part is sent with the owner alone."""
    body = wav(0.5) + bytes(6 * MIB)
    payload = {"multipart": True, "part_size": 5 * MIB, "file_size": len(body), "content_type": "audio/wav"}
    created = new_track(client, session_id, "a.wav", **payload)
    for part in created["track_multipart_upload"]["parts"]:
        assert set(part["headers"]) == {"Content-Length", "x-amz-expected-bucket-owner"}
        start = (part["part_number"] - 1) * 5 * MIB
        assert put(part, body[start : start + part["size"]]).status_code == 200
    track = complete(client, session_id, created)
    assert track["status"] == "uploaded"
    assert_written(bucket, track["path"], session_id, track["id"])


@pytest.mark.parametrize("way", ["form", "put", "relay"])
def test_covers_are_encrypted_and_tagged_however_they_come(make_client, bucket, way):
    """A cover is encrypted in staging and has everything at its final key: by form, signed PUT or relay."""
    # SeaweedFS does not know the field `tagging` of a form, as its measurement shows.
    tagging = "" if way == "form" else TAGGING
    client = make_client(COVER_UPLOAD=way, S3_TAGGING=tagging)
    session_id = new_session(client)["upload_session_id"]
    declared = {"cover_size": len(PNG), "cover_content_type": "image/png"} if way == "put" else {}
    created = new_track(client, session_id, "a.wav", **declared)
    assert put(created["track_upload"], WAV).status_code == 200
    cover = created["track_cover_upload"]
    if way == "relay":
        path = urlsplit(cover["upload_url"]).path
        answer = client.post(path, data={"file": (BytesIO(PNG), "c.png", "image/png")})
    elif way == "put":
        answer = put(cover, PNG)
    else:
        answer = post_cover(cover, PNG, "image/png")
        assert_staged(bucket, cover["fields"]["key"], {})
    assert answer.status_code < 300, answer.text
    track = complete(client, session_id, created)
    assert track["cover"]["status"] == "uploaded"
    assert_written(bucket, track["cover"]["path"], session_id, track["id"], TAGS if tagging else {})


def test_store_without_tagged_forms_gets_covers_another_way(settings):
    """A store that knows no tags in a form is measured with them, so that covers come by a signed PUT."""
    loaded, abilities = Settings.load(settings), measure(settings)
    assert (abilities.post_policy, abilities.conditional_put, abilities.copy_replaces_headers) == (False, True, True)
    assert choose(loaded, abilities).cover_upload == "put"
    assert measure({**settings, "S3_TAGGING": ""}).post_policy is True


def test_headers_are_signed_and_named_to_the_client(client, session_id):
    """`headers` has what the signature covers, and the store rejects a PUT without one of them."""
    upload = new_track(client, session_id, "a.wav", write_once=True)["track_upload"]
    signed = parse_qs(urlsplit(upload["upload_url"]).query)["X-Amz-SignedHeaders"][0].split(";")
    assert sorted(name.lower() for name in upload["headers"]) == sorted(set(signed) - {"host"})
    expected = {
        "x-amz-server-side-encryption": "AES256", "x-amz-storage-class": "STANDARD_IA", "x-amz-tagging": TAGGING,
        "x-amz-expected-bucket-owner": OWNER, "If-None-Match": "*",
    }  # fmt: skip
    assert expected.items() <= upload["headers"].items()
    for name in upload["headers"]:
        headers = {other: value for other, value in upload["headers"].items() if other != name}
        answer = send("PUT", upload["upload_url"], data=WAV, headers=headers)
        assert answer.status_code in (400, 403), f"{name} may be left out: {answer.status_code}"


def test_form_binds_encryption_and_tags(client, session_id, bucket):
    """The policy of a form demands encryption and tags with their exact values."""
    form = new_track(client, session_id, "a.wav")["track_cover_upload"]
    conditions = json.loads(b64decode(form["fields"]["policy"]))["conditions"]
    document = form["fields"]["tagging"]
    assert document == (
        "<Tagging><TagSet><Tag><Key>team</Key><Value>audio</Value></Tag>"
        "<Tag><Key>cost center</Key><Value>a+b=42</Value></Tag></TagSet></Tagging>"
    )
    assert {"tagging": document} in conditions
    assert {"x-amz-server-side-encryption": "AES256"} in conditions
    changed = post_cover(form, PNG, "image/png", **{"x-amz-server-side-encryption": "aws:kms"})
    assert changed.status_code == 403


def test_ids_name_the_organization_of_a_key(make_client, bucket):
    """The organization of a key is among the ids, also of tracks that are registered in a batch."""
    client = make_client()
    key = create_key(client.application, "--organization", ORGANIZATION)
    authorization = {"Authorization": f"Bearer {key}"}
    session = client.post("/v1/upload_session", json={"collection_id": COLLECTION}, headers=authorization).json
    session_id = session["upload_session_id"]
    batch = {"tracks": [{"file_name": "a.wav", "write_once": True}]}
    created = client.post(f"/v1/upload/{session_id}/tracks", json=batch).json["tracks"][0]
    assert put(created["track_upload"], WAV).status_code == 200
    track = complete(client, session_id, created)
    assert bucket.head(track["path"])["Metadata"] == {
        **ids_of(session_id, track["id"]),
        "organization-id": ORGANIZATION,
    }


def test_every_request_names_the_owner(client, session_id, requests_sent):
    """Each request of the service has the account that must own the bucket, and a copy that of its source."""
    created = new_track(client, session_id, "a.wav")
    assert put(created["track_upload"], WAV).status_code == 200
    assert complete(client, session_id, created)["status"] == "uploaded"
    client.delete(track_url(session_id, new_track(client, session_id, "b.wav")))
    assert len(requests_sent) >= 3
    assert {headers.get("x-amz-expected-bucket-owner") for _, headers in requests_sent} == {OWNER}
    copies = [headers for _, headers in requests_sent if "x-amz-copy-source" in headers]
    assert [headers["x-amz-source-expected-bucket-owner"] for headers in copies] == [OWNER]


def test_nothing_is_signed_without_settings(make_client):
    """Without these settings a URL signs what it did without them."""
    client = make_client(**dict.fromkeys(WRITTEN, ""))
    created = new_track(client, new_session(client)["upload_session_id"], "a.wav")
    assert created["track_upload"]["headers"] == {}
    assert set(created["track_cover_upload"]["fields"]) == {
        "key", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "Content-Type", "policy", "x-amz-signature",
    }  # fmt: skip


# --- Settings ---

VALID = {"S3_ENDPOINT": "https://s3.eu-west-1.amazonaws.com", "S3_BUCKET": "tracks"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"S3_SSE": "SSE-C"}, "S3_SSE must be one of: AES256, aws:kms."),
        ({"S3_SSE_KMS_KEY_ID": "k"}, "S3_SSE_KMS_KEY_ID requires S3_SSE=aws:kms."),
        ({"S3_SSE": "AES256", "S3_SSE_KMS_KEY_ID": "k"}, "S3_SSE_KMS_KEY_ID requires"),
        ({"S3_SSE": "aws:kms", "S3_SSE_KMS_KEY_ID": "a b"}, "S3_SSE_KMS_KEY_ID must be"),
        ({"S3_STORAGE_CLASS": "DEEP_ARCHIVE"}, "S3_STORAGE_CLASS must be one of: STANDARD"),
        ({"S3_TAGGING": "team"}, "S3_TAGGING must be 1 to 10 tags"),
        ({"S3_TAGGING": "a=1&a=2"}, "S3_TAGGING must be"),
        ({"S3_TAGGING": "aws:a=1"}, "S3_TAGGING must be"),
        ({"S3_TAGGING": "a=%00"}, "S3_TAGGING must be"),
        ({"S3_TAGGING": "a=%ff"}, "S3_TAGGING must be"),
        ({"S3_TAGGING": "a=" + "1" * 257}, "S3_TAGGING must be"),
        ({"S3_TAGGING": "&".join(f"k{number}=1" for number in range(11))}, "S3_TAGGING must be"),
        ({"S3_OBJECT_METADATA": "track,creator"}, "S3_OBJECT_METADATA must be a comma-separated list of: track"),
        ({"S3_EXPECTED_BUCKET_OWNER": "me"}, "S3_EXPECTED_BUCKET_OWNER must be the 12 digits"),
        ({"S3_BUCKET": "music--euw1-az1--x-s3"}, "S3_BUCKET must be a general purpose bucket"),
        ({"S3_IF_NONE_MATCH": "always"}, "S3_IF_NONE_MATCH must be 1 or 0"),
        (
            {"S3_ENDPOINT": "https://s3-accesspoint.eu-west-1.amazonaws.com"},
            "S3_ADDRESSING must be virtual for the access points of S3_ENDPOINT.",
        ),
        (
            {"S3_ENDPOINT": "https://music-111122223333.s3-accesspoint.eu-west-1.amazonaws.com"},
            "set https://s3-accesspoint.eu-west-1.amazonaws.com and S3_BUCKET=music-111122223333.",
        ),
    ],
)
def test_rejects_settings_that_no_store_takes(values, message):
    """Unknown values are refused at the start, with a sentence that says what they must be."""
    with pytest.raises(SettingsError) as error:
        Settings.load({**VALID, **values})
    assert message in str(error.value)


def test_tags_are_encoded_in_one_way():
    """Tags are signed as the store reads them: spaces as %20."""
    assert Settings.load({**VALID, "S3_TAGGING": "cost center=a+b&é=1"}).s3_tagging == "cost%20center=a%20b&%C3%A9=1"


# --- Policies and locks of buckets ---


@pytest.fixture
def conditional(settings, store_endpoint, make_client):
    """A client of a service whose bucket demands If-None-Match, and the proxy that plays the policy."""
    with running(ConditionalWritesProxy(store_endpoint)) as proxy:
        yield make_client(S3_ENDPOINT=proxy.endpoint, S3_IF_NONE_MATCH="1", COVER_UPLOAD="relay"), proxy


@pytest.mark.parametrize("write_once", [False, True])
def test_bucket_may_demand_conditional_writes(conditional, bucket, write_once):
    """Every object is created with If-None-Match: the client's PUT, at each attempt, and the service's copies."""
    client, proxy = conditional
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav", write_once=write_once, file_size=len(WAV))
    assert created["track_upload"]["headers"]["If-None-Match"] == "*"
    assert put(created["track_upload"], b"x" * len(WAV)).status_code == 200
    assert complete(client, session_id, created)["status"] == "failed"
    renewed = client.post(track_url(session_id, created, "renew")).json
    assert put(renewed["track_upload"], WAV).status_code == 200
    if not write_once:
        track = complete(client, session_id, created)
        assert track["status"] == "uploaded"
        assert bucket.get(track["path"]) == WAV
    assert proxy.denied == []


def test_parts_and_covers_fit_conditional_writes(conditional, bucket):
    """Parts are joined with the condition, and a cover that is sent again replaces the one in staging."""
    client, proxy = conditional
    session_id = new_session(client)["upload_session_id"]
    body = WAV + bytes(6 * MIB)
    payload = {"multipart": True, "part_size": 5 * MIB, "file_size": len(body)}
    created = new_track(client, session_id, "a.wav", **payload)
    for part in created["track_multipart_upload"]["parts"]:
        start = (part["part_number"] - 1) * 5 * MIB
        assert put(part, body[start : start + part["size"]]).status_code == 200
    path = urlsplit(created["track_cover_upload"]["upload_url"]).path
    for content in (b"no picture", PNG):
        form = {"file": (BytesIO(content), "c.png", "image/png")}
        assert client.post(path, data=form).status_code == 200
    track = complete(client, session_id, created)
    assert (track["status"], track["cover"]["status"]) == ("uploaded", "uploaded")
    assert bucket.get(track["path"]) == body
    assert bucket.get(track["cover"]["path"]) == PNG
    assert proxy.denied == []


def replace_cover(client, track_id, content):
    """Ask for a replacement of a track's cover, and send it through the service."""
    target = client.post(f"/v1/track/{track_id}/cover", headers=KEY).json["track_cover_upload"]
    form = {"file": (BytesIO(content), "c.png", "image/png")}
    assert client.post(urlsplit(target["upload_url"]).path, data=form).status_code == 200


@pytest.fixture
def covered(make_client, settings, store_endpoint, bucket):
    """A track with a cover in such a bucket: client, proxy, ids and cover."""
    with running(ConditionalWritesProxy(store_endpoint)) as proxy:
        client = make_client(S3_ENDPOINT=proxy.endpoint, S3_IF_NONE_MATCH="1", COVER_UPLOAD="relay", API_KEYS=API_KEY)
        session_id = new_session(client)["upload_session_id"]
        created = new_track(client, session_id, "a.wav")
        assert put(created["track_upload"], WAV).status_code == 200
        path = urlsplit(created["track_cover_upload"]["upload_url"]).path
        assert client.post(path, data={"file": (BytesIO(PNG), "c.png", "image/png")}).status_code == 200
        track = complete(client, session_id, created)
        assert bucket.get(track["cover"]["path"]) == PNG
        yield client, proxy, session_id, created, track["cover"]


def test_replaced_cover_is_written_once_the_earlier_one_is_gone(covered, bucket):
    """A replacement takes the place of the earlier cover, with the condition."""
    client, proxy, session_id, created, cover = covered
    replace_cover(client, created["track_id"], OTHER_PNG)
    assert complete(client, session_id, created)["cover"]["etag"] != cover["etag"]
    assert bucket.get(cover["path"]) == OTHER_PNG
    assert proxy.denied == []


FAILURES = {"rejected": DENIED, "unavailable": Answer(503, {}, b""), "disconnected": None}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_earlier_cover_is_put_back_where_the_new_one_cannot_be_written(covered, bucket, failure):
    """A write that fails loses no cover: the earlier one is there, and the next verification writes the new one."""
    client, proxy, session_id, created, cover = covered
    replace_cover(client, created["track_id"], OTHER_PNG)
    failures = [failure]
    proxy.faults["PutObject", cover["path"]] = lambda forward: failures.pop() if failures else forward()
    assert client.post(track_url(session_id, created, "complete")).status_code in (200, 503)
    assert failures == []
    assert bucket.get(cover["path"]) == PNG
    assert bucket.head(cover["path"])["ContentType"] == "image/png"
    statement = "UPDATE loadbay_track SET lease_expires_at = 1 WHERE cover_chosen_etag IS NOT NULL"
    service_of(client.application).execute(statement, ())
    assert complete(client, session_id, created)["cover"]["etag"] != cover["etag"]
    assert bucket.get(cover["path"]) == OTHER_PNG


def test_cover_that_is_gone_from_staging_leaves_the_earlier_one(covered, bucket, monkeypatch):
    """The earlier cover is not deleted before the new one is at hand."""
    client, _, session_id, created, cover = covered
    service = service_of(client.application)
    replace_cover(client, created["track_id"], OTHER_PNG)
    inspect = covers.inspect

    def inspect_and_lose(service_, row):
        candidate = inspect(service_, row)
        bucket.s3.delete_object(Bucket=BUCKET, Key=staging.cover_key(service, row))
        return candidate

    monkeypatch.setattr(covers, "inspect", inspect_and_lose)
    complete(client, session_id, created)
    assert bucket.get(cover["path"]) == PNG


def test_store_is_measured_although_it_demands_conditional_writes(settings, conditional):
    """The measurement writes with If-None-Match, too, and finds that forms are not possible."""
    _, proxy = conditional
    abilities = measure({**settings, "S3_ENDPOINT": proxy.endpoint, "S3_IF_NONE_MATCH": "1"})
    assert (abilities.conditional_put, abilities.copy, abilities.multipart) == (True, True, True)
    assert abilities.post_policy is False


def test_uploads_to_a_bucket_with_object_lock(make_client, bucket):
    """In a bucket with default retention files are uploaded and locked, and staging is cleared all the same."""
    name = f"locked-{uuid4().hex[:12]}"
    bucket.s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    retention = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": retention}
    bucket.s3.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=lock)
    client = make_client(S3_BUCKET=name, **ADMIN)
    session_id = new_session(client)["upload_session_id"]
    declared = {"checksum_crc32c": checksum("crc32c", WAV), "file_size": len(WAV)}
    created = new_track(client, session_id, "a.wav", **declared)
    assert put(created["track_upload"], WAV).status_code == 200
    track = complete(client, session_id, created)
    assert (track["status"], track["integrity"]) == ("uploaded", "crc32c")
    assert bucket.s3.head_object(Bucket=name, Key=track["path"])["ObjectLockMode"] == "GOVERNANCE"
    assert removals.work_off(service_of(client.application)).objects_removed == 1
    assert "Contents" not in bucket.s3.list_objects_v2(Bucket=name, Prefix="incoming/")


@pytest.mark.parametrize(("takes_forms", "chosen"), [(False, "relay"), (True, "form")])
def test_covers_take_the_way_that_a_locked_bucket_accepts(make_client, store_endpoint, bucket, takes_forms, chosen):
    """In a bucket that demands a digest, covers come by a form only if that is accepted, and never by a bare PUT."""
    with running(DigestProxy(store_endpoint)) as proxy:
        proxy.takes_forms = takes_forms
        client = make_client(**dict.fromkeys(WRITTEN, ""), S3_ENDPOINT=proxy.endpoint)
        service = service_of(client.application)
        stores.learn(service)
        assert service.choices.cover_upload == chosen
        session_id = new_session(client)["upload_session_id"]
        declared = {"checksum_crc32c": checksum("crc32c", WAV), "cover_size": len(PNG)}
        created = new_track(client, session_id, "a.wav", cover_content_type="image/png", **declared)
        assert put(created["track_upload"], WAV).status_code == 200
        send_cover(client, created["track_cover_upload"], PNG)
        track = complete(client, session_id, created)
        assert (track["status"], track["cover"]["status"]) == ("uploaded", "uploaded")
        assert bucket.get(track["cover"]["path"]) == PNG
        assert client.delete(track_url(session_id, new_track(client, session_id))).status_code == 200
        assert removals.work_off(service).objects_removed >= 2


def send_cover(client, target, content):
    """Send a cover by a form, as the answer says: to the store, or through the service."""
    if target["fields"]:
        assert post_cover(target, content, "image/png").status_code in (200, 204)
    else:
        form = {"file": (BytesIO(content), "c.png", "image/png")}
        assert client.post(urlsplit(target["upload_url"]).path, data=form).status_code == 200


def test_locked_objects_do_not_stop_a_sweep(make_client, store_endpoint, bucket):
    """An object that the store does not let go is tried again later, and the others are removed."""
    with running(LockedProxy(store_endpoint)) as proxy:
        client = make_client(S3_ENDPOINT=proxy.endpoint)
        service, session_id = service_of(client.application), new_session(client)["upload_session_id"]
        service.bucket.choices = bucket_module.Choices(batch_delete=False)
        keys = []
        for _ in range(3):
            created = new_track(client, session_id, "a.wav")
            assert put(created["track_upload"], WAV).status_code == 200
            keys.append(staged_key(created["track_upload"]))
        proxy.locked = keys[0]
        errors = service.bucket.delete_objects(keys)
    assert errors == {keys[0]: "AccessDenied"}
    assert [bucket.get(key) is None for key in keys] == [False, True, True]


def test_own_writes_carry_a_digest(client, requests_sent):
    """A PUT of the service has Content-MD5, which Object Lock demands."""
    service = service_of(client.application)
    service.bucket.put("digest", BytesIO(PNG), len(PNG), "image/png")
    puts = [headers for method, headers in requests_sent if method == "PUT"]
    assert [headers["Content-MD5"] for headers in puts] == [bucket_module.content_md5(PNG)]
