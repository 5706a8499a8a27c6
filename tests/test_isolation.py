"""Faults of single objects are neither errors of the service nor outages, and do not delay other tracks."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app import create_app
from storage.service import Service
from storage.uploads import sweeper, tracks, verification
from support.api import complete, count_tracks, expire_session, new_session, new_track, service_of, track_url
from support.fault_proxy import Answer, Fault, FaultProxy, fault_proxy
from support.sample_files import HTML, png, wav
from support.store import post_cover, put, staged_key

XML_ERROR = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>%s</Code><Message>no</Message></Error>'
EXPIRES = "Wed, 21 Oct 2065 07:28:00 GMT"
XML = {"Content-Type": "application/xml"}


@pytest.fixture
def proxy(store_endpoint):
    """A proxy between the service and the store."""
    with fault_proxy(store_endpoint) as proxy:
        yield proxy


@pytest.fixture
def settings(settings: dict[str, Any], proxy: FaultProxy, store_endpoint: str) -> dict[str, Any]:
    """Settings that send the service through the proxy, and its clients to the store."""
    prefix = f"{uuid4()}/"
    return {**settings, "S3_ENDPOINT": proxy.endpoint, "S3_PUBLIC_ENDPOINT": store_endpoint, "S3_PREFIX": prefix}


@pytest.fixture
def session_id(client):
    """The id of an open session."""
    return new_session(client)["upload_session_id"]


# --- Uploads of clients ---


def picture(width: int, height: int) -> bytes:
    """Return a PNG whose header declares that size."""
    data = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return png()[:8] + struct.pack(">I", 13) + data + struct.pack(">I", zlib.crc32(data)) + png()[33:]


@pytest.mark.parametrize("write_once", [False, True], ids=["plain", "write once"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "br, zstd"},
        {"Content-Disposition": "inline; filename=x.html", "Content-Type": "text/html"},
        {"Cache-Control": "public, max-age=31536000", "Content-Language": "de", "Expires": EXPIRES},
    ],
    ids=lambda headers: ", ".join(headers),
)
def test_headers_of_the_sender_are_dropped(client, bucket, session_id, headers, write_once):
    """Unsigned headers of the client do not fail a verification, and are not stored with the verified file."""
    created = new_track(client, session_id, "a.wav", write_once=write_once)
    assert put(created["track_upload"], wav(), **headers).status_code == 200
    track = complete(client, session_id, created)
    assert track["status"] == "uploaded"
    stored = bucket.head(track["path"])
    assert stored["ContentType"] == track["detected_type"]
    dropped = {"ContentEncoding", "ContentDisposition", "CacheControl", "ContentLanguage", "Expires"}
    assert {name for name in dropped & stored.keys() if stored[name]} == set()
    assert stored["Metadata"] == {}
    assert bucket.get(track["path"]) == wav()


def test_declared_type_is_stored(client, bucket, session_id):
    """The declared type is stored with the verified file, in every upload mode."""
    for options in ({}, {"write_once": True}):
        created = new_track(client, session_id, "a.wav", content_type="audio/x-wav", **options)
        assert put(created["track_upload"], wav()).status_code == 200
        assert bucket.head(complete(client, session_id, created)["path"])["ContentType"] == "audio/x-wav"


@pytest.mark.parametrize(
    "cover",
    [
        picture(2**31, 1),
        picture(1, 2**32 - 1),
        picture(0, 1),
        b"P6\n9223372036854775808 1\n255\n" + bytes(3),
        b"P5\n" + b"9" * 400 + b" 1\n255\n",
        b"GIF89a" + bytes(2),
        png()[:20],
        b"\xff\xd8\xff\xe0" + bytes(100),
    ],
    ids=["2^31 wide", "2^32 high", "no width", "netpbm 2^63", "netpbm 400 digits", "gif", "cut png", "jpeg"],
)
def test_hostile_pictures_are_rejected(client, session_id, cover):
    """A picture whose size exceeds every column fails as a cover; its track is uploaded all the same."""
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    assert post_cover(created["track_cover_upload"], cover, "image/png").status_code == 204
    track = complete(client, session_id, created)
    assert (track["status"], track["cover"]["status"]) == ("uploaded", "failed")


# --- Responses of the store ---


def respond_with(status: int, body: bytes = b"", **headers: str) -> Fault:
    """Return a fault that replaces the store's response."""
    answer = Answer(status, {name.replace("_", "-"): value for name, value in headers.items()} or XML, body)
    return lambda forward: answer


def with_headers(**headers: str) -> Fault:
    """Return a fault that changes headers of the store's response."""
    changed = {name.replace("_", "-").lower(): value for name, value in headers.items()}

    def change(forward: Callable[[], Answer]) -> Answer:
        answer = forward()
        return answer._replace(headers={**{k.lower(): v for k, v in answer.headers.items()}, **changed})

    return change


def no_response(forward: Callable[[], Answer]) -> None:
    """End the connection without a response."""


READ_FAULTS: dict[str, Fault] = {
    "InternalError": respond_with(500, XML_ERROR % b"InternalError"),
    "a gateway's error": respond_with(502, b"<html>bad gateway", Content_Type="text/html"),
    "InvalidObjectState": respond_with(403, XML_ERROR % b"InvalidObjectState"),
    "an unknown error": respond_with(400, XML_ERROR % b"KMS.DisabledException"),
    "an error that is no XML": respond_with(400, b"<Error><Code>"),
    "no response": no_response,
    "a long ETag": with_headers(ETag=f'"{"a" * 300}"'),
    "an ETag of odd characters": with_headers(ETag='"\xe4\xf6 \x7f"'),
    "a long version": with_headers(x_amz_version_id="v" * 2000),
    "a size beyond 64 bits": with_headers(Content_Range=f"bytes 0-99/{2**64}"),
    "a size that is none": with_headers(Content_Range="bytes 0-99/*"),
    "a wrong length": with_headers(Content_Length="7"),
}
COPY_FAULTS: dict[str, Fault] = {
    "InternalError": respond_with(500, XML_ERROR % b"InternalError"),
    "200 with an error": respond_with(200, XML_ERROR % b"InternalError"),
    "200 with an unknown error": respond_with(200, XML_ERROR % b"Whatever"),
    "200 with nothing": respond_with(200, b""),
    "200 with spaces": respond_with(200, b"   \n  "),
    "200 with something else": respond_with(200, b"<html></html>"),
    "200 without an ETag": respond_with(200, b"<CopyObjectResult></CopyObjectResult>"),
    "an unknown error": respond_with(400, XML_ERROR % b"InvalidRequest"),
    "no response": no_response,
}
LIST_FAULTS: dict[str, Fault] = {
    "InternalError": respond_with(500, XML_ERROR % b"InternalError"),
    "200 with nothing": respond_with(200, b""),
    "parts that are none": respond_with(
        200, b"<ListPartsResult><Part><PartNumber>x</PartNumber></Part></ListPartsResult>"
    ),
    "no response": no_response,
}
FAULTS = [("GetObject", *item) for item in READ_FAULTS.items()]
FAULTS += [("CopyObject", *item) for item in COPY_FAULTS.items()]
FAULTS += [("ListParts", *item) for item in LIST_FAULTS.items()]
FAULTS += [("CompleteMultipartUpload", *item) for item in COPY_FAULTS.items()]
IDS = [f"{operation}: {name}" for operation, name, _ in FAULTS]


@pytest.fixture
def short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits for a busy store, and as many attempts for a missing response as for other faults."""
    monkeypatch.setattr("storage.s3.errors.RETRY_SECONDS", 0.1)
    monkeypatch.setattr("storage.s3.errors.FIRST_BACKOFF", 0.02)
    monkeypatch.setattr(verification, "UNAVAILABLE_WEIGHT", verification.FAULT_WEIGHT)


def upload_in_mode(client: Any, session_id: str, kind: str, body: bytes) -> dict[str, Any]:
    """Register a track and upload its bytes: by a plain PUT, a write-once PUT or in parts."""
    options = {"plain": {}, "once": {"write_once": True}, "parts": {"multipart": True, "file_size": len(body)}}[kind]
    created = new_track(client, session_id, "a.wav", **options)
    target = created["track_multipart_upload"]["parts"][0] if kind == "parts" else created["track_upload"]
    assert put(target, body).status_code == 200
    return created


@pytest.mark.parametrize(("operation", "name", "fault"), FAULTS, ids=IDS)
def test_fault_of_one_object_fails_its_track_only(
    app, client, session_id, proxy, short_retries, caplog, operation, name, fault
):
    """The track is retried, logged by its id, and finally failed; other tracks are uploaded meanwhile."""
    kind = "parts" if operation in ("ListParts", "CompleteMultipartUpload") else "plain"
    victim = upload_in_mode(client, session_id, kind, wav())
    neighbors = [upload_in_mode(client, session_id, kind, wav(seed=1)) for kind in ("plain", "once", "parts")]
    staged = operation == "GetObject"
    key = staged_key(victim["track_upload"]) if staged else victim["track"]["path"]
    proxy.faults[operation, key] = fault
    with caplog.at_level(logging.ERROR):
        response = client.post(track_url(session_id, victim, "complete"))
        assert response.status_code == 200, response.text
        assert response.json["track"]["status"] == "verifying"
        assert int(response.headers["Retry-After"]) > 0
        # A connection that the faulty answer ended may be a neighbor's next one.
        for _ in range(5):
            batch_response = client.post(f"/v1/upload/{session_id}/complete", json={})
            assert batch_response.status_code == 200, batch_response.text
            assert victim["track_id"] in [item["track_id"] for item in batch_response.json["tracks"]]
            rows = client.get(f"/v1/upload/{session_id}/track").json["tracks"]
            statuses = {row["id"]: row["status"] for row in rows}
            if list(statuses.values()).count("uploaded") == len(neighbors):
                break
    assert statuses.pop(victim["track_id"]) in ("initialized", "verifying")
    assert list(statuses.values()) == ["uploaded"] * len(neighbors)
    assert victim["track_id"] in caplog.text
    service = service_of(app)
    expire_session(app, session_id)
    for _ in range(verification.MAX_FAULTS // verification.FAULT_WEIGHT):
        end_lease(service, session_id, victim)
        sweeper.sweep(service)
    track = client.get(track_url(session_id, victim)).json["track"]
    assert track["status"] == "failed"
    assert "could not be read" in track["failure"]
    assert client.get(f"/v1/upload_session/{session_id}").json["upload_session"]["status"] == "expired"
    assert sweeper.sweep(service).sessions == 0


def end_lease(service: Service, session_id: str, created: dict[str, Any]) -> None:
    """Expire the lease of a track, if it has one."""
    row = tracks.read(service, session_id, created["track_id"])
    tracks.update(service, row, "status = 'initialized' AND lease IS NOT NULL", (), {"lease_expires_at": 1})


def test_temporary_fault_fails_no_track(client, session_id, proxy, short_retries):
    """A track is uploaded once its fault has passed, however often it was retried."""
    created = upload_in_mode(client, session_id, "plain", wav())
    proxy.faults["CopyObject", created["track"]["path"]] = respond_with(200, b"")
    for _ in range(3):
        assert complete(client, session_id, created)["status"] == "verifying"
    proxy.faults.clear()
    assert complete(client, session_id, created)["status"] == "uploaded"


def test_retries_a_busy_store(client, session_id, proxy):
    """A response to slow down is retried within the same request."""
    created, statuses = upload_in_mode(client, session_id, "plain", wav()), [503, 503]

    def busy(forward: Callable[[], Answer]) -> Answer:
        return Answer(statuses.pop(), XML, XML_ERROR % b"SlowDown") if statuses else forward()

    proxy.faults["CopyObject", created["track"]["path"]] = busy
    assert complete(client, session_id, created)["status"] == "uploaded"
    assert statuses == []


def test_busy_store_is_an_outage(client, session_id, proxy, short_retries):
    """A store that only responds that it is busy is a 503 with Retry-After."""
    created = upload_in_mode(client, session_id, "plain", wav())
    slow_down = respond_with(503, XML_ERROR % b"SlowDown")
    for operation in ("GetObject", "HeadObject"):
        proxy.faults[operation, ""] = slow_down
    response = client.post(track_url(session_id, created, "complete"))
    assert (response.status_code, response.json["code"]) == (503, "storage_unavailable")
    assert int(response.headers["Retry-After"]) > 0


# --- Random input ---

FILES = st.one_of(
    st.sampled_from([wav(), wav(0.1), HTML, b"", b"\x00", b"RIFF", b"ID3" + b"\xff" * 40, b"OggS", b"PK\x03\x04"]),
    st.binary(max_size=200),
)
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Encoding", "Content-Disposition", "Cache-Control", "Content-Language", "Content-Type"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60),
    max_size=3,
)
HOSTILE = st.tuples(st.sampled_from(["plain", "once"]), FILES, HEADERS, st.none() | st.sampled_from(FAULTS))


@hypothesis_settings(deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))
@given(hostile=st.lists(HOSTILE, min_size=1, max_size=4), cover=st.binary(max_size=99) | st.sampled_from([png(), HTML]))
def test_random_uploads_and_responses_cause_no_server_error(settings, proxy, short_retries, hostile, cover):
    """Random uploads and responses of the store cause no 500 or 503, and other tracks become final."""
    app = create_app(settings)
    client = app.test_client()
    proxy.faults.clear()
    session_id = new_session(client)["upload_session_id"]
    good = upload_in_mode(client, session_id, "plain", wav())
    post_cover(good["track_cover_upload"], cover, "image/png")
    others = []
    for kind, body, headers, fault in hostile:
        options: dict[str, Any] = {"write_once": True} if kind == "once" else {}
        created = new_track(client, session_id, "a.wav", **options)
        uploaded = put(created["track_upload"], body, **headers).status_code == 200
        if fault is not None:
            key = created["track"]["path"] if fault[0] == "CopyObject" else staged_key(created["track_upload"])
            proxy.faults[fault[0], key] = fault[2]
        others.append((created, fault if uploaded else FAULTS[0]))
    response = client.post(f"/v1/upload/{session_id}/complete", json={})
    assert response.status_code == 200, response.text
    for created, _ in others:
        assert client.get(track_url(session_id, created)).status_code == 200
        assert client.post(track_url(session_id, created, "complete")).status_code in (200, 409)
    assert complete(client, session_id, good)["status"] == "uploaded"
    for created, fault in others:
        status = client.get(track_url(session_id, created)).json["track"]["status"]
        assert status in ("uploaded", "failed") or fault is not None
    proxy.faults.clear()
    expire_session(app, session_id)
    service = service_of(app)
    for created, _ in others:
        end_lease(service, session_id, created)
    sweeper.sweep(service)
    assert "initialized" not in count_tracks(client, session_id)
