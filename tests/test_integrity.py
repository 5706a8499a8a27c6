"""Declared checksums: by what a file is proven, and that no other bytes pass, whatever the store enforces and tells."""

from __future__ import annotations

import random
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient

from app import create_app
from storage.formats.checksums import ALGORITHMS, declared_checksum
from storage.noticing import polling
from storage.s3 import integrity
from storage.uploads import staging, tracks, verification
from support.api import assert_error, complete, new_session, new_track, service_of, track_url
from support.fault_proxy import ChecksumBlindProxy, running
from support.sample_files import checksum, wav
from support.store import BUCKET, put, staged_key

MIB = 2**20
BODY, OTHER = wav(seed=1), wav(seed=2)
BIG = wav(0.1) + random.Random(1).randbytes(6 * MIB)
CRCS = ("crc64nvme", "crc32c")


@pytest.fixture
def session_id(client: FlaskClient) -> str:
    """The id of an open session."""
    return str(new_session(client)["upload_session_id"])


@pytest.fixture(params=[False, True], ids=["ignores", "rejects"])
def blind_app(request, settings, store_endpoint):
    """An application whose store neither enforces nor tells checksums."""
    with running(ChecksumBlindProxy(store_endpoint, rejects_algorithm=request.param)) as proxy:
        yield create_app({**settings, "S3_ENDPOINT": proxy.endpoint})


@pytest.fixture
def blind_client(blind_app):
    """A client of `blind_app`."""
    return blind_app.test_client()


def register(client: FlaskClient, body: bytes, algorithm: str, **payload: Any) -> tuple[str, dict[str, Any]]:
    """Register a track with the checksum of `body` in a new session; return the session's id and the response."""
    session_id = str(new_session(client)["upload_session_id"])
    declared = {"file_size": len(body), f"checksum_{algorithm}": checksum(algorithm, body)}
    return session_id, new_track(client, session_id, "a.wav", **declared, **payload)


def put_parts(created: dict[str, Any], body: bytes) -> None:
    """Upload the parts of `body`."""
    size = created["track_multipart_upload"]["part_size"]
    for part in created["track_multipart_upload"]["parts"]:
        start = (part["part_number"] - 1) * size
        response = requests.put(
            part["upload_url"], data=body[start : start + size], headers=part["headers"], timeout=20
        )
        assert response.status_code == 200, response.text


def flipped(body: bytes) -> bytes:
    """Return `body` with one bit changed near its end."""
    return body[:-100] + bytes([body[-100] ^ 1]) + body[-99:]


# --- Values -----------------------------------------------------------------------------------------------------------


def test_checksums_have_the_known_values():
    """The checksums of the customary check input are those of the catalog of CRCs and of FIPS 180."""
    assert checksum("crc32c", b"123456789") == "4waSgw=="
    assert checksum("crc64nvme", b"123456789") == "rosUhgp5mIg="
    assert checksum("sha256", b"123456789") == "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="
    assert [checksum(algorithm, b"") for algorithm in CRCS] == ["AAAAAAAAAAA=", "AAAAAA=="]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("write_once", [False, True])
def test_store_enforces_and_proves_a_declared_checksum(client, service, bucket, monkeypatch, algorithm, write_once):
    """A declared checksum is signed: the store rejects other bytes, and tells what proves the file, unread."""
    calls: list[str] = []
    session_id, created = register(client, BODY, algorithm, write_once=write_once, cover_fields=False)
    upload, header = created["track_upload"], f"x-amz-checksum-{algorithm}"
    assert upload["headers"][header] == created["track"][f"checksum_{algorithm}"] == checksum(algorithm, BODY)
    assert created["track"]["integrity"] is None
    assert put(upload, OTHER).status_code == 400
    assert put(upload, OTHER, **{header: checksum(algorithm, OTHER)}).status_code == 403
    assert put(upload, BODY).status_code == 200
    monkeypatch.setattr(service.bucket, "_observer", lambda operation, outcome, seconds: calls.append(operation))
    track = complete(client, session_id, created)
    assert (track["status"], track["integrity"]) == ("uploaded", algorithm)
    assert bucket.get(track["path"]) == BODY
    assert calls == ["GetObject", "HeadObject", *([] if write_once else ["CopyObject"])]
    closed = client.post(f"/v1/upload_session/{session_id}/close").json
    assert closed["manifest"]["tracks"][0]["integrity"] == algorithm


@pytest.mark.parametrize("declared", [{}, {"file_size": len(BODY)}])
def test_file_without_a_checksum_is_proven_by_its_size(client, session_id, declared):
    """Without a declared checksum, `integrity` is `size`, once the file is uploaded."""
    created = new_track(client, session_id, "a.wav", **declared)
    assert created["track"]["integrity"] is None
    put(created["track_upload"], BODY)
    assert complete(client, session_id, created)["integrity"] == "size"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rejects_a_second_checksum(client, session_id, algorithm):
    """A track has at most one checksum, as an upload to S3 has; null is none."""
    every = {f"checksum_{name}": checksum(name, BODY) for name in ALGORITHMS}
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.wav", **every})
    assert_error(response, 400, "invalid_request", "checksum_sha256", "only checksum")
    one = {name: value if name.endswith(algorithm) else None for name, value in every.items()}
    assert new_track(client, session_id, "a.wav", **one)["track"][f"checksum_{algorithm}"]


# --- Stores that do not check -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("write_once", [False, True])
def test_reads_what_the_store_does_not_prove(blind_client, bucket, algorithm, write_once):
    """A file whose checksum the store neither enforces nor tells is read: the declared bytes pass, any others fail."""
    session_id, created = register(blind_client, BODY, algorithm, write_once=write_once)
    assert put(created["track_upload"], BODY).status_code == 200
    track = complete(blind_client, session_id, created)
    assert (track["status"], track["integrity"]) == ("uploaded", algorithm)
    assert bucket.get(track["path"]) == BODY
    session_id, created = register(blind_client, BODY, algorithm, write_once=write_once)
    assert put(created["track_upload"], flipped(BODY)).status_code == 200
    track = complete(blind_client, session_id, created)
    assert (track["status"], track["integrity"]) == ("failed", None)
    assert "not the one that was declared" in track["failure"]
    if not write_once:
        assert bucket.get(track["path"]) is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_bytes_that_came_another_way_are_compared(client, bucket, algorithm):
    """Bytes that were written past the signed URL are read, as the store has no checksum of that kind for them."""
    session_id, created = register(client, BODY, algorithm)
    bucket.s3.put_object(Bucket=BUCKET, Key=staged_key(created["track_upload"]), Body=flipped(BODY))
    assert complete(client, session_id, created)["status"] == "failed"
    session_id, created = register(client, BODY, algorithm)
    bucket.s3.put_object(Bucket=BUCKET, Key=staged_key(created["track_upload"]), Body=BODY)
    assert complete(client, session_id, created)["integrity"] == algorithm


def test_renewed_track_is_read_again(blind_client, bucket):
    """A track that failed can be renewed, and passes with the declared bytes."""
    session_id, created = register(blind_client, BODY, "crc32c", write_once=True)
    put(created["track_upload"], flipped(BODY))
    assert complete(blind_client, session_id, created)["status"] == "failed"
    renewed = blind_client.post(track_url(session_id, created, "renew")).json
    put(renewed["track_upload"], BODY)
    track = complete(blind_client, session_id, created)
    assert (track["status"], track["integrity"]) == ("uploaded", "crc32c")
    assert bucket.get(track["path"]) == BODY


def test_wrong_bytes_at_the_final_key_are_no_copy(blind_app, blind_client):
    """An object that a failed attempt left at the final key is not the copy of the same wrong bytes, sent again."""
    service = service_of(blind_app)
    session_id, created = register(blind_client, BODY, "crc32c", write_once=True)
    put(created["track_upload"], flipped(BODY))
    assert complete(blind_client, session_id, created)["status"] == "failed"
    renewed = blind_client.post(track_url(session_id, created, "renew")).json
    put(renewed["track_upload"], flipped(BODY))
    (row,) = tracks.read_many(service, [created["track_id"]])
    info = service.bucket.head(staging.track_key(service, row))
    choice = {"chosen_source": "incoming", "chosen_etag": info.etag, "size": info.size, "lease_expires_at": 2**40}
    assert tracks.update(service, row, "status = 'initialized'", (), choice)
    assert verification.find_copy(service, row) is None
    assert blind_client.post(track_url(session_id, created, "complete")).json["track"]["status"] == "verifying"


def test_large_file_is_read_by_the_worker(blind_app, blind_client, bucket, monkeypatch):
    """A request does not read a file that may take longer; the worker does."""
    service = service_of(blind_app)
    for body, status, proof in ((BODY, "uploaded", "crc64nvme"), (flipped(BODY), "failed", None)):
        session_id, created = register(blind_client, BODY, "crc64nvme")
        put(created["track_upload"], body)
        monkeypatch.setattr(integrity, "READ_BYTES_PER_SECOND", len(BODY) / 25)
        response = blind_client.post(track_url(session_id, created, "complete"))
        assert response.json["track"]["status"] == "verifying"
        assert response.headers["Retry-After"]
        assert polling.resume(service, lambda: None).uploaded == (status == "uploaded")
        track = blind_client.get(track_url(session_id, created)).json["track"]
        assert (track["status"], track["integrity"]) == (status, proof)


@pytest.mark.parametrize("write_once", [False, True])
def test_file_that_is_replaced_while_it_is_read_fails(blind_app, blind_client, bucket, monkeypatch, write_once):
    """The bytes that are copied are those that were read: a file that is replaced meanwhile is not taken."""
    service = service_of(blind_app)
    session_id, created = register(blind_client, BIG, "crc32c", write_once=write_once)
    put(created["track_upload"], BIG)
    read_range, key = service.bucket.read_range, staged_key(created["track_upload"])
    monkeypatch.setattr(integrity, "READ_BYTES", 4 * MIB)

    def replace_before(*arguments: Any) -> bytes:
        if arguments[2]:
            bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=flipped(BIG))
        return read_range(*arguments)

    monkeypatch.setattr(service.bucket, "read_range", replace_before)
    track = complete(blind_client, session_id, created)
    assert (track["status"], track["integrity"]) == ("failed", None)
    assert "replaced" in track["failure"]


def test_reading_takes_ranges_of_bounded_size(blind_app, blind_client, monkeypatch):
    """A file is read in ranges that fit into memory, on condition of its ETag."""
    service = service_of(blind_app)
    session_id, created = register(blind_client, BIG, "sha256")
    put(created["track_upload"], BIG)
    read_range, lengths = service.bucket.read_range, list[int]()
    monkeypatch.setattr(integrity, "READ_BYTES", MIB)

    def note_length(key: str, etag: str, offset: int, length: int) -> bytes:
        lengths.append(length)
        return read_range(key, etag, offset, length)

    monkeypatch.setattr(service.bucket, "read_range", note_length)
    assert complete(blind_client, session_id, created)["integrity"] == "sha256"
    assert lengths == [MIB] * 6 + [len(BIG) - 6 * MIB]


def test_store_without_checksum_headers(settings):
    """With CHECKSUM_HEADERS=0 no checksum goes to the store, and a file with one is read."""
    client = create_app({**settings, "CHECKSUM_HEADERS": "0"}).test_client()
    session_id, created = register(client, BODY, "crc32c")
    assert created["track_upload"]["headers"] == {"Content-Length": str(len(BODY))}
    put(created["track_upload"], BODY)
    assert complete(client, session_id, created)["integrity"] == "crc32c"
    session_id, created = register(client, BIG, "crc64nvme", multipart=True, part_size=5 * MIB)
    put_parts(created, flipped(BIG))
    assert complete(client, session_id, created)["status"] == "failed"


# --- Parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", CRCS)
def test_parts_are_proven_as_a_whole(client, bucket, service, monkeypatch, algorithm):
    """The store computes a checksum of the whole object from its parts, and compares it when they are joined."""
    calls: list[str] = []
    session_id, created = register(client, BIG, algorithm, multipart=True, part_size=5 * MIB, cover_fields=False)
    put_parts(created, BIG)
    monkeypatch.setattr(service.bucket, "_observer", lambda operation, outcome, seconds: calls.append(operation))
    track = complete(client, session_id, created)
    assert (track["status"], track["integrity"]) == ("uploaded", algorithm)
    assert calls == ["ListParts", "CompleteMultipartUpload", "GetObject", "HeadObject"]
    head = bucket.head(track["path"])
    assert head[f"Checksum{algorithm.upper()}"] == checksum(algorithm, BIG)
    assert head["ChecksumType"] == "FULL_OBJECT"


@pytest.mark.parametrize("algorithm", CRCS)
def test_other_parts_are_rejected(client, bucket, algorithm):
    """Parts of another file fail when they are joined, and nothing lies at the final key."""
    session_id, created = register(client, BIG, algorithm, multipart=True, part_size=5 * MIB)
    put_parts(created, flipped(BIG))
    track = complete(client, session_id, created)
    assert (track["status"], track["integrity"]) == ("failed", None)
    assert "not the one that was declared" in track["failure"]
    assert bucket.get(track["path"]) is None


@pytest.mark.parametrize("algorithm", CRCS)
def test_parts_are_read_where_the_store_does_not_prove_them(blind_client, bucket, algorithm):
    """The joined object is read where the store knows no checksum of the whole."""
    for body, status, proof in ((BIG, "uploaded", algorithm), (flipped(BIG), "failed", None)):
        session_id, created = register(blind_client, BIG, algorithm, multipart=True, part_size=5 * MIB)
        put_parts(created, body)
        track = complete(blind_client, session_id, created)
        assert (track["status"], track["integrity"]) == (status, proof)


def test_rejects_sha256_in_parts(client, session_id):
    """S3 has no SHA-256 of a whole multipart upload; the message names what to declare instead."""
    payload = {
        "file_name": "a.wav",
        "multipart": True,
        "file_size": len(BIG),
        "checksum_sha256": checksum("sha256", BIG),
    }
    response = client.post(f"/v1/upload/{session_id}/track", json=payload)
    assert_error(response, 400, "invalid_request", "checksum_sha256", "checksum_crc64nvme")


def test_checksum_of_parts_is_none_of_the_whole(service, bucket):
    """A checksum that the store computed of the parts' checksums is not compared with one of the whole."""
    key = "composite"
    upload = bucket.s3.create_multipart_upload(Bucket=BUCKET, Key=key, ChecksumAlgorithm="SHA256")
    part = bucket.s3.upload_part(
        Bucket=BUCKET, Key=key, UploadId=upload["UploadId"], PartNumber=1, Body=BODY, ChecksumAlgorithm="SHA256"
    )
    parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}]
    bucket.s3.complete_multipart_upload(
        Bucket=BUCKET, Key=key, UploadId=upload["UploadId"], MultipartUpload={"Parts": parts}
    )
    assert "-1" in bucket.head(key)["ChecksumSHA256"]
    assert service.bucket.head(key).checksums == {}


def test_declaration_has_at_most_one_checksum():
    """A declaration without a checksum has none, and one with a checksum has its algorithm and value."""
    nothing = {f"checksum_{algorithm}": None for algorithm in ALGORITHMS}
    assert declared_checksum(nothing) is None
    assert declared_checksum({**nothing, "checksum_crc32c": "AAAAAA=="}) == ("crc32c", "AAAAAA==")
