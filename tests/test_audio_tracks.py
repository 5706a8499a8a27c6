"""Facts about audio files in tracks: in responses, manifests, events and lists, and covers that are in the files."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from support import audio_samples
from support.api import COLLECTION, bearer, complete, create_key, new_session, new_track, track_url
from support.audio_samples import id3
from support.sample_files import png, wav
from support.store import BUCKET, post_cover, put, staged_key
from support.webhook_receiver import drain

MP3 = audio_samples.audio()["cbr.mp3"]
WITH_COVER = audio_samples.audio()["cover.mp3"]


@pytest.fixture
def session_id(client: FlaskClient) -> str:
    """The id of an open session."""
    return str(new_session(client)["upload_session_id"])


@pytest.fixture
def covered_session_id(client: FlaskClient) -> str:
    """The id of an open session that asks for embedded covers."""
    return str(new_session(client, embedded_cover=True)["upload_session_id"])


def upload(client, session_id, name, body, **options):
    """Register, upload and complete a track; return the response to its registration, and the track."""
    created = new_track(client, session_id, name, **options)
    parts = created["track_multipart_upload"]
    assert put(parts["parts"][0] if parts else created["track_upload"], body).status_code == 200
    return created, complete(client, session_id, created)


@pytest.fixture
def store_calls(service, monkeypatch) -> list[str]:
    """The operations that the service asks the store for, in order."""
    calls: list[str] = []
    monkeypatch.setattr(service.bucket, "_observer", lambda operation, outcome, seconds: calls.append(operation))
    return calls


# --- Facts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"write_once": True}, {"multipart": True, "file_size": len(MP3)}],
    ids=["plain", "write once", "in parts"],
)
def test_tells_the_facts_of_a_track(client, session_id, options):
    """A verified track has the facts of its file, however it was uploaded, and keeps them."""
    created, track = upload(client, session_id, "song.mp3", MP3, **options)
    expected = audio_samples.probed()["cbr.mp3"]
    facts = track["audio"]
    assert facts.pop("duration") == pytest.approx(float(expected["duration"]), rel=0.01)
    assert facts == {
        "container": "mp3", "codec": "mp3", "exact": True, "sample_rate": 44_100, "channels": 2, "bit_depth": None,
        "bit_rate": 64_000, "picture": None,
        "tags": {
            "title": "Título", "artist": "Artist", "album": "Album", "track_number": 3, "disc_number": 1,
            "isrc": "USRC17607839",
        },
    }  # fmt: skip
    assert client.get(track_url(session_id, created)).json["track"]["audio"]["tags"] == facts["tags"]


def test_tells_no_facts_of_what_is_not_known_to_be_audio(client, session_id):
    """Before the verification, and for a file without a header, `audio` is null."""
    created = new_track(client, session_id, "a.ul")
    assert created["track"]["audio"] is None
    put(created["track_upload"], audio_samples.noise(5000))
    track = complete(client, session_id, created)
    assert (track["status"], track["audio"], track["detected_type"]) == ("uploaded", None, None)


def test_forgets_the_facts_of_a_failed_attempt(client, session_id):
    """A renewed track has no facts until its next file is verified."""
    created = new_track(client, session_id, "a.mp3", file_size=len(MP3))
    put(created["track_upload"], MP3)
    declared = new_track(client, session_id, "b.mp3")
    put(declared["track_upload"], audio_samples.OTHERS["html"])
    assert complete(client, session_id, declared)["status"] == "failed"
    renewed = client.post(track_url(session_id, declared, "renew")).json
    assert renewed["track"]["audio"] is None
    put(renewed["track_upload"], MP3)
    assert complete(client, session_id, declared)["audio"]["codec"] == "mp3"


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("video.mp4", "its content is video/mp4"),
        ("video.webm", "its content is video/webm"),
        ("video.ogv", "its content is video/ogg"),
    ],
)
def test_refuses_a_video_under_an_audio_name(client, session_id, name, failure):
    """A video that is named as a song fails, and its type is reported; under its own name it is a file as any."""
    body = audio_samples.videos()[name]
    track = upload(client, session_id, "song.mp3", body)[1]
    assert (track["status"], track["failure"]) == ("failed", f"The file is not audio: {failure}.")
    track = upload(client, session_id, name, body)[1]
    assert (track["status"], track["audio"]) == ("uploaded", None)
    assert track["detected_type"].startswith("video/")


def test_reads_what_lies_behind_the_first_bytes(client, session_id, store_calls):
    """Frames behind a large picture take one more request to the store, and a plain WAV takes none."""
    art = b"APIC" + struct.pack(">I", 300_014) + b"\0\0" + b"\0image/jpeg\0\3\0\xff\xd8\xff\xe0" + bytes(299_996)
    created = new_track(client, session_id, "a.mp3", write_once=True, cover_fields=False)
    put(created["track_upload"], id3(10 + len(art), art) + MP3)
    assert complete(client, session_id, created)["audio"]["picture"] == {"type": "image/jpeg", "size": 300_000}
    assert store_calls == ["GetObject", "GetObject"]
    store_calls.clear()
    track = upload(client, session_id, "a.wav", wav(30), write_once=True, cover_fields=False)[1]
    assert (track["audio"]["duration"], store_calls) == (30, ["GetObject"])


@pytest.mark.parametrize(
    ("options", "rules", "code"),
    [
        ({"file_size": len(MP3) - 1}, None, "size_mismatch"),
        ({}, {"audio": {"max_file_size": 1000, "containers": ["wav"]}}, "rule_file_size"),
    ],
)
def test_reads_nothing_more_of_a_file_of_the_wrong_size(client, bucket, store_calls, options, rules, code):
    """A file that is refused for its size costs one request to the store, although its frames lie far behind."""
    session_id = new_session(client, rules=rules)["upload_session_id"]
    art = b"APIC" + struct.pack(">I", 300_014) + b"\0\0" + b"\0image/jpeg\0\3\0" + bytes(300_000)
    created = new_track(client, session_id, "a.mp3", cover_fields=False, **options)
    key, body = staged_key(created["track_upload"]), id3(10 + len(art), art) + MP3
    bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    track = complete(client, session_id, created)
    assert (track["failure_code"], track["detected_type"], track["audio"]) == (code, None, None)
    assert store_calls == ["GetObject"]


def test_sends_facts_in_events(client, session_id, receiver, webhook_secret, worker):
    """The event of a verified track has its facts, as JSON; that of a failed one has null."""
    track = upload(client, session_id, "a.mp3", MP3)[1]
    upload(client, session_id, "b.mp3", audio_samples.OTHERS["html"])
    drain(worker)
    facts = {message.data["file_name"]: message.data["audio"] for message in receiver.accepted}
    assert facts == {"a.mp3": track["audio"], "b.mp3": None}


def test_lists_facts_in_the_manifest(client, session_id):
    """The manifest of a closed session has the facts of each track."""
    upload(client, session_id, "a.mp3", MP3)
    upload(client, session_id, "a.wav", wav())
    manifest = client.post(f"/v1/upload_session/{session_id}/close").json["manifest"]
    assert [track["audio"]["codec"] for track in manifest["tracks"]] == ["mp3", "pcm"]


def test_filters_and_orders_a_collection_by_facts(app):
    """A collection's tracks are filtered by container and codec, and ordered by duration; unknown ones come last."""
    client, headers = app.test_client(), bearer(create_key(app, "--organization", str(uuid4())))
    session = client.post("/v1/upload_session", json={"collection_id": COLLECTION}, headers=headers)
    bodies = {"long.wav": wav(2), "a.mp3": MP3, "short.wav": wav(0.1), "a.ul": audio_samples.noise(900)}
    for name, body in bodies.items():
        upload(client, session.json["upload_session_id"], name, body)

    def listed(query: str) -> list[str]:
        response = client.get(f"/v1/collection/{COLLECTION}/track?{query}", headers=headers)
        assert response.json["count"] == len(response.json["tracks"]), response.text
        return [track["file_name"] for track in response.json["tracks"]]

    assert listed("codec=pcm") == ["long.wav", "short.wav"]
    assert listed("container=mp3&status=uploaded") == ["a.mp3"]
    assert listed("codec=flac") == []
    assert listed("order=duration") == ["short.wav", "a.mp3", "long.wav", "a.ul"]
    assert listed("order=-duration&codec=pcm") == ["long.wav", "short.wav"]
    assert listed("order=registration")[-1] == "a.ul"
    assert client.get(f"/v1/collection/{COLLECTION}/track?order=size", headers=headers).status_code == 400


# --- Covers in files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cover.mp3", "cover.flac", "cover.m4a"])
def test_takes_the_embedded_cover(client, bucket, covered_session_id, name):
    """The picture in a file becomes the track's cover where the session asks for it and none was sent."""
    body = audio_samples.audio()[name]
    created, track = upload(client, covered_session_id, name, body)
    cover = track["cover"]
    assert (cover["status"], cover["embedded"], cover["content_type"]) == ("uploaded", True, "image/jpeg")
    assert (cover["width"], cover["height"], cover["size"]) == (32, 32, track["audio"]["picture"]["size"])
    assert bucket.get(cover["path"]) in body
    assert complete(client, covered_session_id, created)["cover"] == cover


def test_takes_no_embedded_cover_unless_asked(client, bucket, session_id):
    """A session that does not ask for embedded covers has none of them."""
    session = client.get(f"/v1/upload_session/{session_id}").json["upload_session"]
    assert session["embedded_cover"] is False
    track = upload(client, session_id, "a.mp3", WITH_COVER)[1]
    assert (track["cover"], track["audio"]["picture"]["type"]) == (None, "image/jpeg")
    assert bucket.get(track["cover_path"]) is None


def test_prefers_a_cover_that_was_sent(client, bucket, covered_session_id):
    """A cover that was uploaded before the verification counts, not the one in the file."""
    created = new_track(client, covered_session_id, "a.mp3", cover_fields=True)
    put(created["track_upload"], WITH_COVER)
    assert post_cover(created["track_cover_upload"], png(), "image/png").ok
    cover = complete(client, covered_session_id, created)["cover"]
    assert (cover["content_type"], cover["embedded"]) == ("image/png", False)
    assert bucket.get(cover["path"]) == png()


@pytest.mark.parametrize("cover_fields", [True, False], ids=["to the store", "relayed"])
def test_replaces_the_embedded_cover_by_one_that_is_sent(client, bucket, covered_session_id, cover_fields):
    """A cover that comes later replaces the one in the file; after that, no other does."""
    created = new_track(client, covered_session_id, "a.mp3", cover_fields=cover_fields)
    put(created["track_upload"], WITH_COVER)
    assert complete(client, covered_session_id, created)["cover"]["embedded"] is True
    form = created["track_cover_upload"]
    if cover_fields:
        assert post_cover(form, png(), "image/png").ok
    else:
        files = {"file": (io.BytesIO(png()), "cover.png", "image/png")}
        assert client.post(form["upload_url"], data=files).status_code == 200
    cover = complete(client, covered_session_id, created)["cover"]
    assert (cover["content_type"], cover["embedded"], cover["status"]) == ("image/png", False, "uploaded")
    assert bucket.get(cover["path"]) == png()


def test_ignores_an_embedded_picture_that_is_none(client, covered_session_id, store_calls):
    """Bytes in a file that only claim to be a picture are no cover and no failure, and are read once."""
    art = b"APIC" + struct.pack(">I", 5014) + b"\0\0" + b"\0image/jpeg\0\3\0" + audio_samples.noise(5000)
    created, track = upload(client, covered_session_id, "a.mp3", id3(10 + len(art), art) + MP3, cover_fields=False)
    assert (track["status"], track["cover"]) == ("uploaded", None)
    store_calls.clear()
    complete(client, covered_session_id, created)
    assert store_calls == []


def test_ignores_an_embedded_picture_that_is_too_large(client, service, covered_session_id, monkeypatch):
    """A picture above MAX_COVER_BYTES is not taken from a file."""
    monkeypatch.setattr(service, "settings", replace(service.settings, max_cover_bytes=100))
    assert upload(client, covered_session_id, "a.mp3", WITH_COVER)[1]["cover"] is None
