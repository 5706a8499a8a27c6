"""The Python client: what it sends is in the bucket, whatever goes wrong on the way."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time

import pytest
import urllib3

from app import create_app
from conftest import COLLECTION, start_store
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
from loadbay_client import upload as module
from support.live_server import serve
from support.processes import ROOT, run
from support.sample_files import png

pytestmark = pytest.mark.sqlite
MIB = 2**20
PNG = png()
KEY = "a-key-of-16-characters-or-more"


@pytest.fixture
def server(app):
    """The address of a service that runs."""
    with serve(app) as url:
        yield url


@pytest.fixture
def make_file(tmp_path):
    """Make a file of that many bytes, each file of others."""

    def make(name="track-1.mp3", size=100_000):
        path = tmp_path / name
        path.write_bytes(b"ID3" + name.encode() + b"." * (size - 3 - len(name.encode())))
        return path

    return make


def test_upload(server, client, bucket, make_file):
    """A file is in the bucket byte for byte, the service knows it, and the session is closed."""
    path = make_file()
    with Client(server).session(COLLECTION) as session:
        track = session.upload(path, metadata={"title": "First Track"})
    assert (track["status"], track["metadata"], track["content_type"]) == (
        "uploaded", {"title": "First Track"}, "audio/mpeg",
    )  # fmt: skip
    assert bucket.get(track["path"]) == path.read_bytes()
    kept = client.get(f"/v1/upload_session/{session.id}").json["upload_session"]
    assert (kept["status"], kept["tracks"]["uploaded"]) == ("closed", 1)


def test_left_open_by_an_error(server, client):
    """A session that ends in an error stays open, so that it can go on."""
    with pytest.raises(FileNotFoundError), Client(server).session(COLLECTION) as session:
        session.upload("not-there.mp3")
    assert client.get(f"/v1/upload_session/{session.id}").json["upload_session"]["status"] == "open"


@pytest.mark.parametrize("mode", ["direct", "relay"])
def test_cover(make_client, bucket, make_file, tmp_path, mode):
    """A cover goes along, by a form of the store's or of the service's."""
    picture = tmp_path / "cover.png"
    picture.write_bytes(PNG)
    with serve(make_client(COVER_UPLOAD=mode).application) as url, Client(url).session(COLLECTION) as session:
        track = session.upload(make_file(), cover=picture)
    assert track["cover"]["status"] == "uploaded"
    assert bucket.get(track["cover"]["path"]) == PNG


def test_parts(server, bucket, make_file):
    """A big file goes in parts and arrives whole."""
    path = make_file(size=12 * MIB + 1)
    with Client(server, multipart_from=1, part_size=5 * MIB).session(COLLECTION) as session:
        track = session.upload(path)
    assert bucket.get(track["path"]) == path.read_bytes()


def test_parts_that_are_there(server, bucket, make_file, monkeypatch):
    """A part that has arrived is not sent again."""
    path, sent = make_file(size=12 * MIB), []
    session = Client(server, multipart_from=1, part_size=5 * MIB).session(COLLECTION)
    file = File(path)
    upload = session.register([file])[0]
    part = upload["track_multipart_upload"]["parts"][1]
    body = path.read_bytes()[5 * MIB : 10 * MIB]
    assert session.service.pool.request("PUT", part["upload_url"], headers=part["headers"], body=body).status == 200

    def spied(pool, method, url, headers, body):
        sent.append(int(re.search("partNumber=([0-9]+)", url)[1]))
        return send(pool, method, url, headers, body)

    send = module.send
    monkeypatch.setattr(module, "send", spied)
    track = session.send(file, upload)
    assert sent == [1, 3]
    assert bucket.get(track["path"]) == path.read_bytes()


def test_many(server, bucket, make_file):
    """Many files go at once; each outcome is its own file's, and every byte is told of."""
    files = [File(make_file(f"{number}.mp3", 1000 + number)) for number in range(70)]
    told, lock = dict.fromkeys(files, 0), threading.Lock()

    def advance(file, count):
        with lock:
            told[file] += count

    with Client(server).session(COLLECTION) as session:
        outcomes = list(session.upload_all(files, advance=advance))
    assert sorted(outcome.file.path for outcome in outcomes) == sorted(file.path for file in files)
    for outcome in outcomes:
        assert outcome.error is None
        assert bucket.get(outcome.track["path"]) == outcome.file.path.read_bytes()
    assert told == {file: file.path.stat().st_size for file in files}


def test_one_at_fault(server, make_file):
    """A file that the service refuses stops no other."""
    files = [File(make_file("a.mp3")), File(make_file("b.mp3"), name="../../b.mp3\0"), File(make_file("c.mp3"))]
    session = Client(server).session(COLLECTION)
    errors = {outcome.file.path.name: outcome.error for outcome in session.upload_all(files)}
    assert errors.pop("b.mp3").code == "invalid_request"
    assert errors == {"a.mp3": None, "c.mp3": None}


def test_too_large(make_client, bucket, make_file):
    """A file in parts that is too large for the service stops no other."""
    sizes = {"a.mp3": 1000, "parts.mp3": 11 * MIB, "b.mp3": 2000, "good.mp3": 6 * MIB}
    files = [File(make_file(*each)) for each in sizes.items()]
    with serve(make_client(MAX_TRACK_BYTES=str(6 * MIB)).application) as url:
        session = Client(url, multipart_from=8 * MIB, part_size=5 * MIB).session(COLLECTION)
        outcomes = {outcome.file.upload_name: outcome for outcome in session.upload_all(files)}
        tracks = list(session.tracks())
    assert outcomes.pop("parts.mp3").error.code == "too_large"
    assert sorted(track["file_name"] for track in tracks) == ["a.mp3", "b.mp3", "good.mp3"]
    for outcome in outcomes.values():
        assert outcome.error is None
        assert bucket.get(outcome.track["path"]) == outcome.file.path.read_bytes()


def test_part_size_at_fault(server, make_file):
    """Where the one in parts is at fault, the others are registered once."""
    files = [File(make_file(name, size)) for name, size in (("a.mp3", 1000), ("big.mp3", 2 * MIB), ("b.mp3", 1000))]
    session = Client(server, multipart_from=MIB, part_size=1).session(COLLECTION)
    errors = {outcome.file.upload_name: outcome.error for outcome in session.upload_all(files)}
    assert errors.pop("big.mp3").code == "invalid_request"
    assert errors == {"a.mp3": None, "b.mp3": None}
    assert sorted(track["file_name"] for track in session.tracks()) == ["a.mp3", "b.mp3"]


def test_full_session(server, make_file):
    """A session takes as many of a batch as it has places for."""
    files = [File(make_file(f"{number}.mp3", 1000)) for number in range(5)]
    session = Client(server).session(COLLECTION, max_tracks=3)
    errors = [outcome.error for outcome in session.upload_all(files)]
    assert sorted(error.code for error in errors if error) == ["track_limit_reached"] * 2


def test_register_all_or_none(server, make_file):
    """Where one of several cannot be registered, none is left behind."""
    files = [File(make_file("a.mp3")), File(make_file("big.mp3", 2 * MIB))]
    session = Client(server, multipart_from=MIB, part_size=1).session(COLLECTION)
    with pytest.raises(APIError, match="part_size"):
        session.register(files)
    assert [track["status"] for track in session.tracks()] == ["cancelled"]


def test_leaving_early(server, bucket, make_file):
    """Whoever leaves `upload_all` before its end stops what is on its way, and goes on with the session."""
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


@pytest.mark.parametrize("mode", ["direct", "relay"])
@pytest.mark.parametrize("closed", [False, True])
def test_cover_afterwards(make_client, bucket, make_file, tmp_path, mode, closed):
    """A track that has arrived without its cover gets it afterwards, in a session that is closed as well."""
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
        with pytest.raises(VerificationFailed, match="not a picture"):
            session.send_cover(file, track["id"])
        picture.write_bytes(PNG)
        assert bucket.get(session.send_cover(file, track["id"])["cover"]["path"]) == PNG


def test_urls_that_are_over(server, bucket, make_file, clock):
    """A URL that the store takes no more is renewed."""
    for size in (100_000, 6 * MIB):
        path = make_file(size=size)
        clock.ahead = -2 * 3600
        session = Client(server, multipart_from=5 * MIB).session(COLLECTION, expires_in=86_400)
        upload = session.register([File(path)])[0]
        clock.ahead = 0
        track = session.send(File(path), upload)
        assert bucket.get(track["path"]) == path.read_bytes()


def test_store_goes_and_comes(settings, tmp_path, make_file):
    """A store that stops in the middle and comes back has the whole file in the end."""
    store = start_store(tmp_path / "store")
    path, stopped = make_file(size=12 * MIB), []
    app = create_app({**settings, "S3_ENDPOINT": store.endpoint})

    def advance(_file, _count):
        if not stopped:
            stopped.append(True)
            store.stop()
            threading.Timer(1, store.start).start()

    try:
        with serve(app) as url:
            session = Client(url, multipart_from=1, part_size=5 * MIB).session(COLLECTION)
            (outcome,) = session.upload_all([File(path)], advance=advance)
            assert outcome.error is None
            assert outcome.track["size"] == 12 * MIB
    finally:
        store.stop(signal.SIGKILL)
    assert stopped


PASSING_ANSWERS = [(404, b""), (409, b"<Code>OperationAborted</Code>"), (400, b"<Code>RequestTimeout</Code>")]


@pytest.mark.parametrize("multipart_from", [1, 64 * MIB])
@pytest.mark.parametrize("passing", PASSING_ANSWERS, ids=lambda passing: passing[0])
def test_store_that_is_coming_up(server, bucket, make_file, monkeypatch, multipart_from, passing):
    """A store that does not know yet what it is sent, or is not ready for it, has not said its last word."""
    session, early = Client(server, multipart_from=multipart_from).session(COLLECTION), []
    ask = session.service.pool.request

    def request(method, url, **kwargs):
        if method == "PUT" and len(early) < 2:
            early.append(url)
            return urllib3.HTTPResponse(passing[1], status=passing[0])
        return ask(method, url, **kwargs)

    monkeypatch.setattr(session.service.pool, "request", request)
    path = make_file()
    track = session.upload(path)
    assert len(early) == 2
    assert bucket.get(track["path"]) == path.read_bytes()


def test_file_that_changes(server, client, make_file):
    """A file that is another when it is sent than when it was registered is refused by the store."""
    path = make_file()
    session = Client(server, tries=2).session(COLLECTION)
    upload = session.register([File(path)])[0]
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(StoreError):
        session.send(File(path), upload)
    kept = client.get(f"/v1/upload/{session.id}/track/{upload['track_id']}").json["track"]
    assert kept["status"] == "initialized"


@pytest.mark.parametrize("multipart_from", [1, 2**30])
@pytest.mark.parametrize("change", [-5 * MIB, 5 * MIB])
def test_file_that_changes_on_its_way(server, client, make_file, multipart_from, change):
    """A file that shrinks or grows while it is sent fails at once, and passes for no one's."""
    path, asked = make_file(size=12 * MIB), []
    session = Client(server, multipart_from=multipart_from, part_size=5 * MIB).session(COLLECTION)

    def advance(_file, _count):
        if not asked:
            asked.append(True)
            os.truncate(path, 12 * MIB + change)

    started = time.monotonic()
    (outcome,) = session.upload_all([File(path)], advance=advance)
    assert isinstance(outcome.error, FileError)
    assert time.monotonic() - started < 5
    (track,) = session.tracks()
    assert track["status"] == "initialized"


def test_file_that_vanishes(server, make_file):
    """A file that is gone when its turn comes fails; the others arrive."""
    files = [File(make_file(f"{number}.mp3")) for number in range(8)]

    def gone(_made):
        files[7].path.unlink()

    outcomes = Client(server).session(COLLECTION).upload_all(files, parallel=1, registered=gone)
    errors = {outcome.file: outcome.error for outcome in outcomes}
    assert isinstance(errors.pop(files[7]), FileError)
    assert set(errors.values()) == {None}


def test_part_of_an_older_state(server, bucket, make_file):
    """A part that arrived before the file was changed is sent again."""
    path = make_file(size=12 * MIB)
    session = Client(server, multipart_from=1, part_size=5 * MIB).session(COLLECTION)
    upload = session.register([File(path)])[0]
    part = upload["track_multipart_upload"]["parts"][1]
    assert session.service.pool.request("PUT", part["upload_url"], body=bytes(5 * MIB)).status == 200
    track = session.send(File(path), upload)
    assert bucket.get(track["path"]) == path.read_bytes()


@pytest.mark.parametrize("multipart_from", [6 * MIB, 2**30])
def test_service_with_its_own_threshold(make_client, bucket, make_file, multipart_from):
    """Whatever the service thinks to be big, every file goes as the client has chosen."""
    files = [File(make_file(f"{size}.mp3", size)) for size in (1000, 7 * MIB, 2000)]
    with serve(make_client(MULTIPART_THRESHOLD_BYTES=str(5 * MIB)).application) as url:
        session = Client(url, multipart_from=multipart_from).session(COLLECTION)
        outcomes = list(session.upload_all(files))
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert all(bucket.get(outcome.track["path"]) == outcome.file.path.read_bytes() for outcome in outcomes)


def test_retries_are_told(make_file):
    """Whoever wants to know is told of each pause."""
    told = []
    with pytest.raises(ConnectionFailed):
        Client("http://127.0.0.1:9", tries=3, on_retry=lambda *what: told.append(what)).session(COLLECTION)
    assert [(type(error), 0 < pause < 1) for error, pause in told] == [(ConnectionFailed, True)] * 2


@pytest.mark.parametrize(
    "server", ["uploads.example.com", "ftp://a", "http://", "https://user:secret@a/", "http://a/?b"]
)
def test_no_address(server):
    """What is no address is told at once, without a password that is in it."""
    with pytest.raises(ValueError, match=r"^server: ") as caught:
        Client(server)
    assert "secret" not in str(caught.value)


def test_refused(make_client):
    """A refusal carries the service's words, and no secret."""
    with serve(make_client(ALLOW_ANONYMOUS="").application) as url, pytest.raises(APIError) as caught:
        Client(url, "loadbay_full_abcdefghijkl_wrong-and-secret").session(COLLECTION)
    assert (caught.value.status, caught.value.code) == (401, "unauthorized")
    assert caught.value.api_request_id in str(caught.value)
    assert "secret" not in str(caught.value) + repr(Client(url, "secret"))


def test_nobody_there():
    """A server that is away is told of after some tries, without the path that was asked for."""
    with pytest.raises(ConnectionFailed, match=r"http://127.0.0.1:9 cannot be reached") as caught:
        Client("http://127.0.0.1:9", tries=2).session(COLLECTION)
    assert "/v1/" not in str(caught.value)


def test_something_else_there(store_endpoint):
    """A server that is another program is told of as such."""
    with pytest.raises(APIError, match="is it Loadbay"):
        Client(store_endpoint, tries=1).session(COLLECTION)


@pytest.mark.parametrize("multipart_from", [1, 2**30])
def test_memory(server, tmp_path, multipart_from):
    """A file of 200 MiB needs no more memory than a small one."""
    big = tmp_path / "big.bin"
    with big.open("wb") as file:
        file.truncate(200 * MIB)
    program = f"""
import resource
from loadbay_client import Client
with Client({server!r}, multipart_from={multipart_from}).session({COLLECTION!r}) as session:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert session.upload({str(big)!r})["size"] == {200 * MIB}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = run(sys.executable, "-c", program, env={"PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert int(done.stdout) < 20 * 1024


def test_readme(server, tmp_path, bucket, make_file):
    """The example in docs/client.md does what it says."""
    make_file()
    (tmp_path / "cover.png").write_bytes(PNG)
    example = re.search(r"<!-- client -->\n```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)[
        1
    ]
    assert "http://127.0.0.1:5000" in example
    example = example.replace("http://127.0.0.1:5000", server)
    done = run(sys.executable, "-c", example, env={"PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    status, path = done.stdout.split()
    assert status == "uploaded"
    assert bucket.get(path) == (tmp_path / "track-1.mp3").read_bytes()
