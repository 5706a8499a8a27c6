"""The Python client, against a running service and a real object store."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest
import urllib3

from app import create_app
from loadbay_client import (
    APIError,
    Client,
    ClientError,
    ConnectionFailed,
    File,
    FileError,
    StoreError,
    UploadCancelled,
    VerificationFailed,
)
from loadbay_client import upload as upload_module
from storage.measuring import stores
from support.api import COLLECTION, service_of
from support.dialect_proxies import KmsProxy
from support.fault_proxy import running
from support.live_server import serve
from support.processes import ROOT
from support.sample_files import audio, checksum, png
from support.store import start_store

pytestmark = pytest.mark.sqlite
MIB = 2**20
PNG = png()
KEY = "a-key-of-16-characters-or-more"


@pytest.fixture
def make_file(tmp_path):
    """Factory of files with the given name and size in bytes; the content depends on the name."""

    def make(name="track-1.mp3", size=100_000):
        path = tmp_path / name
        path.write_bytes(audio(name.encode(), size))
        return path

    return make


def test_uploads_a_file_and_closes_the_session(server, client, bucket, make_file):
    """Upload one file: the object has its bytes, the track its metadata, and the session is closed."""
    path = make_file()
    with Client(server).session(COLLECTION) as session:
        track = session.upload(path, metadata={"title": "First Track"})
    assert (track["status"], track["metadata"], track["content_type"]) == (
        "uploaded", {"title": "First Track"}, "audio/mpeg",
    )  # fmt: skip
    assert bucket.get(track["path"]) == path.read_bytes()
    upload_session = client.get(f"/v1/upload_session/{session.id}").json["upload_session"]
    assert (upload_session["status"], upload_session["tracks"]["uploaded"]) == ("closed", 1)


def test_leaves_the_session_open_after_an_exception(server, client):
    """Leave a session open if its `with` block raises, so that the upload can be resumed."""
    with pytest.raises(FileNotFoundError), Client(server).session(COLLECTION) as session:
        session.upload("missing.mp3")
    assert client.get(f"/v1/upload_session/{session.id}").json["upload_session"]["status"] == "open"


def test_large_file_is_sent_at_once_where_the_store_has_no_multipart_uploads(server, app, bucket, make_file):
    """A file that is to be sent in parts is sent by the single PUT that the service names instead."""
    service = service_of(app)
    abilities, _ = stores.read(service)
    stores.save(service, replace(abilities, multipart=False))
    with Client(server, multipart_threshold=50_000).session(COLLECTION) as session:
        track = session.upload(make_file())
    assert (track["status"], track["integrity"]) == ("uploaded", "crc64nvme")
    assert bucket.get(track["path"]) == make_file().read_bytes()


@pytest.mark.parametrize("mode", ["form", "put", "relay"])
def test_uploads_a_cover_with_its_file(make_client, bucket, make_file, tmp_path, mode):
    """Send a cover by the form of the object store or of the service."""
    picture = tmp_path / "cover.png"
    picture.write_bytes(PNG)
    with serve(make_client(COVER_UPLOAD=mode).application) as url, Client(url).session(COLLECTION) as session:
        track = session.upload(make_file(), cover=picture)
    assert track["cover"]["status"] == "uploaded"
    assert bucket.get(track["cover"]["path"]) == PNG


def test_uploads_a_large_file_in_parts(server, bucket, make_file):
    """Upload a file in parts, the last of one byte."""
    path = make_file(size=10 * MIB + 1)
    with Client(server, multipart_threshold=1, part_size=5 * MIB).session(COLLECTION) as session:
        track = session.upload(path)
    assert bucket.get(track["path"]) == path.read_bytes()
    assert track["checksum_crc64nvme"] == checksum("crc64nvme", path.read_bytes())
    assert track["integrity"] == "crc64nvme"


def test_sends_only_missing_parts(server, bucket, make_file, monkeypatch):
    """Skip a part that the object store already has."""
    path, sent = make_file(size=12 * MIB), []
    session = Client(server, multipart_threshold=1, part_size=5 * MIB).session(COLLECTION)
    file = File(path)
    registration = session.register([file])[0]
    part = registration["track_multipart_upload"]["parts"][1]
    body = path.read_bytes()[5 * MIB : 10 * MIB]
    assert session.api.pool.request("PUT", part["upload_url"], headers=part["headers"], body=body).status == 200

    def recording_send(pool, method, url, headers, body):
        sent.append(int(re.search("partNumber=([0-9]+)", url)[1]))
        return send(pool, method, url, headers, body)

    send = upload_module.send
    monkeypatch.setattr(upload_module, "send", recording_send)
    track = session.send(file, registration)
    assert sent == [1, 3]
    assert bucket.get(track["path"]) == path.read_bytes()


def test_uploads_many_files_in_parallel(server, bucket, make_file):
    """Upload more files than one batch holds; outcomes and progress belong to the right file."""
    files = [File(make_file(f"{number}.mp3", 1000 + number)) for number in range(70)]
    progress, lock = dict.fromkeys(files, 0), threading.Lock()

    def on_progress(file, count):
        with lock:
            progress[file] += count

    with Client(server).session(COLLECTION) as session:
        outcomes = list(session.upload_all(files, on_progress=on_progress))
    assert sorted(outcome.file.path for outcome in outcomes) == sorted(file.path for file in files)
    for outcome in outcomes:
        assert outcome.error is None
        assert bucket.get(outcome.track["path"]) == outcome.file.path.read_bytes()
    assert progress == {file: file.path.stat().st_size for file in files}


def test_album_with_covers_takes_three_requests(app, bucket, make_file, tmp_path):
    """Upload files with covers in three requests to the service: the session, the registration and the verification."""
    picture, paths = tmp_path / "cover.png", []
    picture.write_bytes(PNG)

    def recording_app(environ, start_response):
        paths.append(environ["PATH_INFO"].rpartition("/")[2])
        return app(environ, start_response)

    files = [File(make_file(f"{number}.mp3"), cover=picture) for number in range(12)]
    with serve(recording_app) as url:
        outcomes = list(Client(url).session(COLLECTION).upload_all(files))
    assert [outcome.error for outcome in outcomes] == [None] * 12
    assert paths == ["upload_session", "tracks", "complete"]
    for outcome in outcomes:
        assert bucket.get(outcome.track["path"]) == outcome.file.path.read_bytes()
        assert bucket.get(outcome.track["cover"]["path"]) == PNG


def test_uploads_the_others_if_one_name_is_invalid(server, make_file):
    """Report a file with an invalid name and upload the rest of its batch."""
    files = [File(make_file("a.mp3")), File(make_file("b.mp3"), name="../../b.mp3\0"), File(make_file("c.mp3"))]
    session = Client(server).session(COLLECTION)
    errors = {outcome.file.path.name: outcome.error for outcome in session.upload_all(files)}
    assert errors.pop("b.mp3").code == "invalid_request"
    assert errors == {"a.mp3": None, "c.mp3": None}


def test_uploads_the_others_if_one_is_too_large(make_client, bucket, make_file):
    """Report a multipart file above the service's limit and upload the others, each registered once."""
    sizes = {"a.mp3": 1000, "parts.mp3": 11 * MIB, "b.mp3": 2000, "good.mp3": 6 * MIB}
    files = [File(make_file(name, size)) for name, size in sizes.items()]
    with serve(make_client(MAX_TRACK_BYTES=str(6 * MIB)).application) as url:
        session = Client(url, multipart_threshold=8 * MIB, part_size=5 * MIB).session(COLLECTION)
        outcomes = {outcome.file.upload_name: outcome for outcome in session.upload_all(files)}
        tracks = list(session.tracks())
    assert outcomes.pop("parts.mp3").error.code == "too_large"
    assert sorted(track["file_name"] for track in tracks) == ["a.mp3", "b.mp3", "good.mp3"]
    for outcome in outcomes.values():
        assert outcome.error is None
        assert bucket.get(outcome.track["path"]) == outcome.file.path.read_bytes()


def test_registers_the_others_once_if_a_part_size_is_invalid(server, make_file):
    """Report a file whose part size is invalid; the others are registered once."""
    files = [File(make_file(name, size)) for name, size in (("a.mp3", 1000), ("big.mp3", 2 * MIB), ("b.mp3", 1000))]
    session = Client(server, multipart_threshold=MIB, part_size=1).session(COLLECTION)
    errors = {outcome.file.upload_name: outcome.error for outcome in session.upload_all(files)}
    assert errors.pop("big.mp3").code == "invalid_request"
    assert errors == {"a.mp3": None, "b.mp3": None}
    assert sorted(track["file_name"] for track in session.tracks()) == ["a.mp3", "b.mp3"]


def test_fills_a_session_up_to_its_track_limit(server, make_file):
    """Upload as many files as the session accepts and report the rest."""
    files = [File(make_file(f"{number}.mp3", 1000)) for number in range(5)]
    session = Client(server).session(COLLECTION, max_tracks=3)
    errors = [outcome.error for outcome in session.upload_all(files)]
    assert sorted(error.code for error in errors if error) == ["track_limit_reached"] * 2


def test_register_cancels_all_if_one_is_rejected(server, make_file):
    """Cancel the registered tracks if `register` fails for one file."""
    files = [File(make_file("a.mp3")), File(make_file("big.mp3", 2 * MIB))]
    session = Client(server, multipart_threshold=MIB, part_size=1).session(COLLECTION)
    with pytest.raises(APIError, match="part_size"):
        session.register(files)
    assert [track["status"] for track in session.tracks()] == ["cancelled"]


def test_session_is_usable_after_leaving_upload_all_early(server, bucket, make_file):
    """Leave the loop of `upload_all` after the first outcome, then upload more in the same session."""
    files = [File(make_file(f"{number}.mp3", 1000)) for number in range(40)]
    session = Client(server).session(COLLECTION)
    for outcome in session.upload_all(files):
        assert outcome.error is None
        break
    path = make_file("another.mp3")
    assert bucket.get(session.upload(path)["path"]) == path.read_bytes()
    more = [File(make_file(f"more {number}.mp3")) for number in range(3)]
    assert [outcome.error for outcome in session.upload_all(more)] == [None] * 3
    assert issubclass(UploadCancelled, ClientError)


@pytest.mark.parametrize("mode", ["form", "put", "relay"])
@pytest.mark.parametrize("closed", [False, True])
def test_adds_a_missing_cover_later(make_client, bucket, make_file, tmp_path, mode, closed):
    """Send the cover of a track that was uploaded without it, also in a closed session."""
    picture = tmp_path / "cover.png"
    picture.write_bytes(b"no picture")
    file = File(make_file(), cover=picture)
    with serve(make_client(COVER_UPLOAD=mode, API_KEYS=KEY).application) as url:
        session = Client(url, KEY).session(COLLECTION)
        (outcome,) = session.upload_all([file])
        assert "without its cover" in str(outcome.error)
        (track,) = session.tracks()
        if closed:
            session.close()
        with pytest.raises(VerificationFailed, match="without its cover"):
            session.send_cover(file, track["id"])
        picture.write_bytes(PNG)
        assert bucket.get(session.send_cover(file, track["id"])["cover"]["path"]) == PNG


def test_renews_expired_urls(server, bucket, make_file, clock):
    """Request new URLs when the object store rejects expired ones."""
    for size in (100_000, 6 * MIB):
        path = make_file(size=size)
        clock.offset = -2 * 3600
        session = Client(server, multipart_threshold=5 * MIB).session(COLLECTION, expires_in=86_400)
        registration = session.register([File(path)])[0]
        clock.offset = 0
        track = session.send(File(path), registration)
        assert bucket.get(track["path"]) == path.read_bytes()


def test_continues_after_a_restart_of_the_store(settings, tmp_path, make_file):
    """Finish an upload during which the object store stops for a second."""
    store = start_store(tmp_path / "store")
    path, stops = make_file(size=12 * MIB), []
    app = create_app({**settings, "S3_ENDPOINT": store.endpoint})

    def restart_once(_file, _count):
        if not stops:
            stops.append(True)
            store.stop()
            threading.Timer(1, store.start).start()

    try:
        with serve(app) as url:
            session = Client(url, multipart_threshold=1, part_size=5 * MIB).session(COLLECTION)
            (outcome,) = session.upload_all([File(path)], on_progress=restart_once)
            assert outcome.error is None
            assert outcome.track["size"] == 12 * MIB
    finally:
        store.stop(signal.SIGKILL)
    assert stops


TRANSIENT_RESPONSES = [(404, b""), (409, b"<Code>OperationAborted</Code>"), (400, b"<Code>RequestTimeout</Code>")]


@pytest.mark.parametrize("multipart_threshold", [1, 64 * MIB])
@pytest.mark.parametrize("response", TRANSIENT_RESPONSES, ids=lambda response: response[0])
def test_retries_transient_errors_of_the_store(server, bucket, make_file, monkeypatch, multipart_threshold, response):
    """Retry responses of a store that is starting, busy with an earlier attempt, or lost the connection."""
    session = Client(server, multipart_threshold=multipart_threshold).session(COLLECTION)
    request, rejected = session.api.pool.request, []

    def reject_twice(method, url, **kwargs):
        if method == "PUT" and len(rejected) < 2:
            rejected.append(url)
            return urllib3.HTTPResponse(response[1], status=response[0])
        return request(method, url, **kwargs)

    monkeypatch.setattr(session.api.pool, "request", reject_twice)
    path = make_file()
    track = session.upload(path)
    assert len(rejected) == 2
    assert bucket.get(track["path"]) == path.read_bytes()


def test_store_rejects_a_file_changed_since_registration(server, client, make_file):
    """Send a file with other bytes than were registered: its checksum is signed, so the object store rejects it."""
    path = make_file()
    session = Client(server, max_attempts=2).session(COLLECTION)
    registration = session.register([File(path)])[0]
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(StoreError):
        session.send(File(path), registration)
    track = client.get(f"/v1/upload/{session.id}/track/{registration['track_id']}").json["track"]
    assert track["status"] == "initialized"


@pytest.mark.parametrize("multipart_threshold", [1, 2**30])
@pytest.mark.parametrize("change", [-5 * MIB, 5 * MIB])
def test_fails_at_once_if_a_file_changes_during_its_upload(server, make_file, multipart_threshold, change):
    """Report a FileError without retries for a file that shrinks or grows while it is sent."""
    path, changes = make_file(size=12 * MIB), []
    session = Client(server, multipart_threshold=multipart_threshold, part_size=5 * MIB).session(COLLECTION)

    def truncate_once(_file, _count):
        if not changes:
            changes.append(change)
            os.truncate(path, 12 * MIB + change)

    started = time.monotonic()
    (outcome,) = session.upload_all([File(path)], on_progress=truncate_once)
    assert isinstance(outcome.error, FileError)
    assert time.monotonic() - started < 5
    (track,) = session.tracks()
    assert track["status"] == "initialized"


def test_uploads_the_others_if_a_file_vanishes(server, make_file):
    """Report a file that was deleted after its registration and upload the others."""
    files = [File(make_file(f"{number}.mp3")) for number in range(8)]

    def delete_last(_registered):
        files[7].path.unlink()

    outcomes = Client(server).session(COLLECTION).upload_all(files, parallel=1, on_registered=delete_last)
    errors = {outcome.file: outcome.error for outcome in outcomes}
    assert isinstance(errors.pop(files[7]), FileError)
    assert set(errors.values()) == {None}


def test_sends_a_part_again_if_the_file_changed(server, bucket, make_file):
    """Replace a stored part of the right size whose bytes are not the file's."""
    path = make_file(size=12 * MIB)
    session = Client(server, multipart_threshold=1, part_size=5 * MIB).session(COLLECTION)
    registration = session.register([File(path)])[0]
    part = registration["track_multipart_upload"]["parts"][1]
    assert session.api.pool.request("PUT", part["upload_url"], body=bytes(5 * MIB)).status == 200
    track = session.send(File(path), registration)
    assert bucket.get(track["path"]) == path.read_bytes()


def test_sends_a_replaced_part_until_it_counts(server, bucket, make_file, monkeypatch):
    """Send a replaced part again while the service lists the earlier version, as some stores keep both for a while."""
    path = make_file(size=12 * MIB)
    session = Client(server, multipart_threshold=1, part_size=5 * MIB).session(COLLECTION)
    registration = session.register([File(path)])[0]
    part = registration["track_multipart_upload"]["parts"][1]
    assert session.api.pool.request("PUT", part["upload_url"], body=bytes(5 * MIB)).status == 200
    listings, list_parts = [], session.api.list_parts

    def list_earlier_parts(track_path):
        listings.append(list_parts(track_path))
        return listings[0] if len(listings) < 3 else listings[-1]

    monkeypatch.setattr(session.api, "list_parts", list_earlier_parts)
    track = session.send(File(path), registration)
    assert bucket.get(track["path"]) == path.read_bytes()
    assert len(listings) >= 3


def test_takes_no_etag_of_an_encrypted_part_for_an_md5(make_client, store_endpoint, bucket, make_file):
    """Parts that are encrypted with KMS have ETags that look like MD5s: they are neither sent again nor rejected."""
    path = make_file(size=12 * MIB)
    with running(KmsProxy(store_endpoint)) as proxy, serve(make_client(S3_ENDPOINT=proxy.endpoint).application) as url:
        session = Client(url, multipart_threshold=1, part_size=5 * MIB, max_attempts=2).session(COLLECTION)
        registration = session.register([File(path)])[0]
        part = registration["track_multipart_upload"]["parts"][1]
        body = path.read_bytes()[5 * MIB : 10 * MIB]
        assert session.api.pool.request("PUT", part["upload_url"], headers=part["headers"], body=body).status == 200
        track = session.send(File(path), registration)
    assert track["status"] == "uploaded"
    assert bucket.get(track["path"]) == path.read_bytes()


@pytest.mark.parametrize("multipart_threshold", [6 * MIB, 2**30])
def test_client_threshold_overrides_the_service(make_client, bucket, make_file, multipart_threshold):
    """Choose between one PUT and parts by the client's threshold, whatever the service's is."""
    files = [File(make_file(f"{size}.mp3", size)) for size in (1000, 7 * MIB, 2000)]
    with serve(make_client(MULTIPART_THRESHOLD_BYTES=str(5 * MIB)).application) as url:
        session = Client(url, multipart_threshold=multipart_threshold).session(COLLECTION)
        outcomes = list(session.upload_all(files))
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert all(bucket.get(outcome.track["path"]) == outcome.file.path.read_bytes() for outcome in outcomes)


def test_calls_on_retry_before_each_pause():
    """Call `on_retry` with the error and the pause in seconds, once less than there are attempts."""
    retries = []

    def on_retry(error, pause):
        retries.append((type(error), 0 < pause < 1))

    with pytest.raises(ConnectionFailed):
        Client("http://127.0.0.1:9", max_attempts=3, on_retry=on_retry).session(COLLECTION)
    assert retries == [(ConnectionFailed, True)] * 2


@pytest.mark.parametrize(
    "server", ["uploads.example.com", "ftp://a", "http://", "https://user:secret@a/", "http://a/?b"]
)
def test_rejects_an_invalid_server_url(server):
    """Raise ValueError for an invalid URL without repeating a password in it."""
    with pytest.raises(ValueError, match=r"^server: must ") as caught:
        Client(server)
    assert "secret" not in str(caught.value)


def test_api_errors_have_code_and_request_id_but_no_key(make_client):
    """Raise APIError with the service's code and request id; neither it nor the client's repr contains the key."""
    with serve(make_client(ALLOW_ANONYMOUS="").application) as url, pytest.raises(APIError) as caught:
        Client(url, "loadbay_full_abcdefghijkl_wrong-and-secret").session(COLLECTION)
    assert (caught.value.status, caught.value.code) == (401, "unauthorized")
    assert caught.value.api_request_id in str(caught.value)
    assert "secret" not in str(caught.value) + repr(Client(url, "secret"))


def test_unreachable_server_is_reported_without_the_path():
    """Raise ConnectionFailed with the server's URL but no path, which may contain a session id."""
    with pytest.raises(ConnectionFailed, match=r"http://127.0.0.1:9 cannot be reached") as caught:
        Client("http://127.0.0.1:9", max_attempts=2).session(COLLECTION)
    assert "/v1/" not in str(caught.value)


def test_reports_a_server_that_is_not_loadbay(store_endpoint):
    """Raise APIError with a hint if the server's response is not JSON."""
    with pytest.raises(APIError, match="Is it a Loadbay service") as caught:
        Client(store_endpoint, max_attempts=1).session(COLLECTION)
    assert caught.value.code == "invalid_response"


def test_error_codes_are_stable():
    """Pin the codes that programs compare."""
    errors = (ClientError, ConnectionFailed, UploadCancelled, FileError, StoreError, VerificationFailed)
    assert [error.code for error in errors] == [
        "client_error", "connection_failed", "upload_cancelled", "file_error", "storage_rejected",
        "verification_failed",
    ]  # fmt: skip


@pytest.mark.parametrize("multipart_threshold", [1, 2**30])
def test_memory_does_not_grow_with_the_file(server, tmp_path, multipart_threshold, processes):
    """Upload 200 MiB with less than 20 MiB of additional memory."""
    path = tmp_path / "big.bin"
    with path.open("wb") as file:
        file.truncate(200 * MIB)
    program = f"""
import resource
from loadbay_client import Client
with Client({server!r}, multipart_threshold={multipart_threshold}).session({COLLECTION!r}) as session:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert session.upload({str(path)!r})["size"] == {200 * MIB}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    process = processes.run(sys.executable, "-c", program, env={"PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    assert process.returncode == 0, process.stdout
    assert int(process.stdout) < 20 * 1024


def documented_example():
    """Return the Python example of the documentation, which `<!-- client -->` marks."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        if match := re.search(r"<!-- client -->\n```python\n(.*?)```", path.read_text(), re.DOTALL):
            return match[1]
    return pytest.fail("No document contains the client's example.")


def test_documented_example_runs(server, tmp_path, bucket, make_file, processes):
    """Run the documentation's example against the service and compare the stored bytes."""
    make_file()
    (tmp_path / "cover.png").write_bytes(PNG)
    example = documented_example()
    assert "http://127.0.0.1:5000" in example
    example = example.replace("http://127.0.0.1:5000", server)
    process = processes.run(sys.executable, "-c", example, env={"PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    assert process.returncode == 0, process.stdout
    status, path = process.stdout.split()
    assert status == "uploaded"
    assert bucket.get(path) == (tmp_path / "track-1.mp3").read_bytes()
