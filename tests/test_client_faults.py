"""The Python client against a scripted service: verification in batches, and the faults of the protocol."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter, deque

import pytest
from werkzeug.wrappers import Request, Response

from loadbay_client import APIError, Client, ConnectionFailed, File, UploadCancelled, VerificationFailed, batch, retry
from loadbay_client import upload as upload_module
from support.live_server import serve
from support.sample_files import audio

SESSION = "5e5510n0-0000-4000-8000-000000000000"
UNKNOWN_ROUTE = (404, {"code": "not_found", "message": "Not Found"}, {})


class FakeService:
    """A service and its object store in memory, whose answers to requests for verification are scripted.

    `statuses` has by file name the statuses to answer with before `uploaded`; `errors` the error responses of the next
    requests to verify a batch; `put_errors` the statuses of the next PUTs. `renew_response` answers each request for a
    new URL. `holds` has events by file name that a PUT of the file waits for. `paths` are the requests to the API in
    order, without the session's prefix, and `batches` the file names of each verified batch.
    """

    def __init__(self, **statuses):
        self.statuses = {name: deque(values) for name, values in statuses.items()}
        self.errors, self.put_errors, self.cover_statuses = deque(), deque(), deque()
        self.renew_response, self.retry_after, self.holds = None, "1", {}
        self.paths, self.batches, self.tracks, self.lock = [], [], {}, threading.Lock()

    def __call__(self, environ, start_response):
        request = Request(environ)
        payload = request.get_json(silent=True) or {} if request.path.startswith("/v1/") else {}
        status, body, headers = self.respond(request, payload)
        response = Response(status=status, headers=headers)
        response.data = b"" if body is None else json.dumps(body).encode()
        return response(environ, start_response)

    def respond(self, request, payload):
        """Return the status, the JSON object and the headers of the response to a request."""
        if request.path.startswith("/store/"):
            return self.put(request)
        path = request.path.removeprefix(f"/v1/upload/{SESSION}").removeprefix("/v1")
        with self.lock:
            self.paths.append(re.sub("/track/[^/]+/", "/track/ID/", path))
            return self.respond_api(path, payload, request.url_root)

    def respond_api(self, path, payload, url_root):
        """Return the response of the API to a request for `path` in the session."""
        match path.split("/")[1:]:
            case ["upload_session"]:
                return 200, {"upload_session_id": SESSION, "upload_session": {"status": "open"}}, {}
            case ["upload_session", _]:
                return 200, {"upload_session": {"status": "open"}}, {}
            case ["upload_session", _, "close"]:
                return 200, {"manifest": {"tracks": []}}, {}
            case ["tracks"]:
                return 200, {"tracks": [self.register(item, url_root) for item in payload["tracks"]]}, {}
            case ["track"]:
                return 200, self.register(payload, url_root), {}
            case ["track", track_id, "renew"]:
                return self.renew_response or (200, self.registration(track_id, url_root), {})
            case ["track", track_id, "complete"]:
                return self.complete_track(track_id)
            case ["complete"]:
                return self.errors.popleft() if self.errors else self.complete_tracks(payload["track_ids"])
        return UNKNOWN_ROUTE

    def register(self, item, url_root):
        """Add a track and return its registration."""
        track_id = f"track-{len(self.tracks)}"
        self.tracks[track_id] = {
            "id": track_id, "file_name": item["file_name"], "status": "initialized", "failure": None, "cover": None,
            "size": item["file_size"], "path": track_id, "metadata": item["metadata"],
        }  # fmt: skip
        return self.registration(track_id, url_root)

    def registration(self, track_id, url_root):
        """Return a track with its upload targets."""
        cover = {"method": "POST", "upload_url": f"{url_root}store/cover", "headers": {}}
        return {
            "track_id": track_id, "track": self.tracks[track_id], "track_multipart_upload": None,
            "track_upload": {"upload_url": f"{url_root}store/{track_id}", "headers": {}},
            "track_cover_upload": cover,
        }  # fmt: skip

    def put(self, request):
        """Return the response of the object store to a file or cover."""
        request.get_data()
        track_id = request.path.rpartition("/")[2]
        if track_id in self.tracks and (hold := self.holds.get(self.tracks[track_id]["file_name"])):
            hold.wait(10)
        if self.put_errors:
            return self.put_errors.popleft(), None, {}
        return 200, None, {}

    def verify(self, track_id):
        """Return the status of a track and the track after one more verification."""
        track = self.tracks[track_id]
        script = self.statuses.get(track["file_name"].partition(".")[0])
        status = script.popleft() if script else "uploaded"
        if self.cover_statuses:
            track["cover"] = {"status": self.cover_statuses.popleft(), "failure": None}
        track["status"] = "initialized" if status == "not_uploaded" else status
        track["failure"] = "The file is empty." if status == "failed" else None
        return status, dict(track)

    def complete_track(self, track_id):
        """Return the response to a request to verify one track."""
        status, track = self.verify(track_id)
        if status == "not_uploaded":
            return 409, {"code": "not_uploaded", "message": "no bytes"}, {}
        return 200, {"track": track}, {"Retry-After": self.retry_after} if status == "verifying" else {}

    def complete_tracks(self, track_ids):
        """Return the response to a request to verify several tracks."""
        self.batches.append([self.tracks[track_id]["file_name"] for track_id in track_ids])
        results = [(track_id, *self.verify(track_id)) for track_id in track_ids]
        tracks = [{"track_id": track_id, "status": status, "track": track} for track_id, status, track in results]
        is_unfinished = any(item["status"] == "verifying" for item in tracks)
        return 200, {"tracks": tracks}, {"Retry-After": self.retry_after} if is_unfinished else {}


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch):
    """Shorten the pauses between attempts."""
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.01)


@pytest.fixture
def make_files(tmp_path):
    """Factory of files with the given names."""

    def make(*names):
        for name in names:
            (tmp_path / name).write_bytes(audio(name.encode()))
        return [File(tmp_path / name) for name in names]

    return make


def upload_all(service, files, **options):
    """Upload files to a fake service; return the error of each by its name, in the order of the outcomes."""
    with serve(service) as url:
        session = Client(url, max_attempts=3).session("collection")
        outcomes = list(session.upload_all(files, **options))
    for outcome in outcomes:
        assert (outcome.track is None) != (outcome.error is None)
    return {outcome.file.path.name: outcome.error for outcome in outcomes}


def test_album_takes_three_requests(make_files):
    """Upload an album with a request to open the session, one to register its files and one to verify them."""
    service, names = FakeService(), [f"{number}.mp3" for number in range(12)]
    errors = upload_all(service, make_files(*names))
    assert errors == dict.fromkeys(names)
    assert service.paths == ["/upload_session", "/tracks", "/complete"]


def test_asks_again_only_for_unfinished_tracks(make_files):
    """Report verified tracks at once, and ask for one that is `verifying` again after the service's Retry-After."""
    service = FakeService(b=["verifying", "verifying"])
    service.retry_after, pauses = "1", []
    files = make_files("a.mp3", "b.mp3", "c.mp3")
    with serve(service) as url:
        client = Client(url, on_retry=lambda error, pause: pauses.append((str(error), pause)))
        session, finished = client.session("collection"), {}
        for outcome in session.upload_all(files):
            finished[outcome.file.path.name] = time.monotonic()
            assert outcome.track["status"] == "uploaded"
    assert service.batches[1:] == [["b.mp3"], ["b.mp3"]]
    assert finished["b.mp3"] - max(finished["a.mp3"], finished["c.mp3"]) > 1.9
    assert pauses == [("Track not verified yet. The service is still verifying it.", 1.0)] * 2


def test_gives_up_on_a_verification_that_does_not_end(make_files, monkeypatch):
    """Report a track that stays `verifying`, and upload the others."""
    monkeypatch.setattr(upload_module, "VERIFYING_SECONDS", 0.3)
    service = FakeService(a=["verifying"] * 1000)
    service.retry_after = "0"
    errors = upload_all(service, make_files("a.mp3", "b.mp3"))
    assert isinstance(errors["a.mp3"], VerificationFailed)
    assert (errors["a.mp3"].status, errors["b.mp3"]) == ("verifying", None)
    assert "still verifying" in str(errors["a.mp3"])


def test_retries_a_batch_that_the_service_cannot_verify_now(make_files):
    """Repeat the request to verify a batch after 503, with the pause that the service asks for."""
    service = FakeService()
    unavailable = (503, {"code": "storage_unavailable", "message": "away"}, {"Retry-After": "1"})
    service.errors.extend([unavailable, (500, {"code": "internal_error", "message": "failed"}, {})])
    started = time.monotonic()
    assert upload_all(service, make_files("a.mp3", "b.mp3")) == {"a.mp3": None, "b.mp3": None}
    assert time.monotonic() - started > 1
    assert Counter(service.paths)["/complete"] == 3


def test_reports_each_file_if_no_attempt_to_verify_succeeds(make_files):
    """Report the service's error for each file of a batch after all attempts."""
    service = FakeService()
    service.errors.extend([(503, {"code": "database_unavailable", "message": "away"}, {})] * 3)
    errors = upload_all(service, make_files("a.mp3", "b.mp3"))
    assert [error.code for error in errors.values()] == ["database_unavailable"] * 2


@pytest.mark.parametrize("response", [UNKNOWN_ROUTE, (405, {"code": "method_not_allowed"}, {}), (404, None, {})])
def test_verifies_tracks_one_by_one_with_an_older_service(make_files, response):
    """Ask a service without the endpoint for batches once, and verify each track by itself from then on."""
    service = FakeService(a=["failed"], b=["verifying"], c=["not_uploaded"])
    service.errors.extend([response] * 100)
    files = make_files(*(f"{name}.mp3" for name in "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNO"))
    errors = upload_all(service, files)
    assert str(errors.pop("a.mp3")) == "Track failed. The file is empty."
    assert set(errors.values()) == {None}
    assert (len(errors), Counter(service.paths)["/complete"]) == (50, 1)


def test_one_unknown_track_does_not_fail_its_batch(make_files):
    """Verify the tracks of a batch one by one if the service rejects it, and the next batch together again."""
    service = FakeService(b=["cancelled"])
    service.errors.append((404, {"code": "track_not_found", "message": "b"}, {}))
    files = make_files(*(f"{name}.mp3" for name in "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNO"))
    errors = upload_all(service, files)
    assert str(errors.pop("b.mp3")) == "Track cancelled."
    assert set(errors.values()) == {None}
    assert service.batches


def test_asks_again_for_a_file_that_the_store_does_not_have_yet(make_files):
    """Ask a few times for a file that was sent, and report it if the object store does not have it then."""
    service = FakeService(a=["not_uploaded"] * 2, b=["not_uploaded"] * 100)
    files = make_files("a.mp3", "b.mp3")
    with serve(service) as url:
        outcomes = list(Client(url).session("collection").upload_all(files))
    errors = {outcome.file.path.name: outcome.error for outcome in outcomes}
    assert errors["a.mp3"] is None
    assert str(errors["b.mp3"]) == "Track not uploaded. The object store accepted it but does not have it."
    assert errors["b.mp3"].status == "not_uploaded"
    assert Counter(name for names in service.batches for name in names) == {"a.mp3": 3, "b.mp3": 4}


def test_reports_finished_files_while_others_are_sent(make_files):
    """Verify the files sent so far about every second, not only at the end."""
    service, files = FakeService(a=["failed"]), make_files("a.mp3", "b.mp3", "slow.mp3")
    service.holds["slow.mp3"] = threading.Event()
    order = []
    with serve(service) as url:
        for outcome in Client(url).session("collection").upload_all(files):
            order.append(outcome.file.path.name)
            if len(order) == 2:
                service.holds["slow.mp3"].set()
    assert order[2:] == ["slow.mp3"]
    assert service.batches == [["a.mp3", "b.mp3"], ["slow.mp3"]] or service.batches == [
        ["b.mp3", "a.mp3"],
        ["slow.mp3"],
    ]


def test_registers_no_more_than_it_can_verify(make_files, monkeypatch):
    """Register further files only after earlier ones, so that memory does not grow with their number."""
    monkeypatch.setattr(batch, "MAX_UNVERIFIED", 64)
    service, counts = FakeService(), {"registered": 0, "finished": 0, "most": 0}
    files = make_files(*(f"{number}.mp3" for number in range(600)))

    def on_registered(registered):
        counts["registered"] += len(registered)
        counts["most"] = max(counts["most"], counts["registered"] - counts["finished"])

    with serve(service) as url:
        for _ in Client(url).session("collection").upload_all(iter(files), parallel=4, on_registered=on_registered):
            counts["finished"] += 1
    assert counts["finished"] == 600
    assert counts["most"] <= 64 + 2 * batch.BATCH_SIZE + batch.MIN_QUEUED
    assert len(service.batches) <= 2 * 600 / batch.BATCH_SIZE


def test_reports_sent_files_if_the_service_vanishes(make_files):
    """Report ConnectionFailed for files that were sent but cannot be verified."""
    service, files = FakeService(), make_files("a.mp3", "b.mp3")
    service.holds["b.mp3"] = threading.Event()
    with serve(service) as url:
        session = Client(url, max_attempts=2).session("collection")
        session.api.pool.connection_pool_kw["timeout"] = 1
        complete = session.api.pool.request

        def request(method, target, **options):
            if target.endswith("/complete"):
                target = "http://127.0.0.1:9/v1"
            else:
                service.holds["b.mp3"].set()
            return complete(method, target, **options)

        session.api.pool.request = request
        errors = [outcome.error for outcome in session.upload_all(files)]
    assert [type(error) for error in errors] == [ConnectionFailed] * 2


def test_leaving_early_stops_waiting_for_a_verification(make_files):
    """Leave the loop at once while a track is `verifying`, and leave the single upload when it is cancelled."""
    service = FakeService(b=["verifying"] * 100)
    service.retry_after = "30"
    with serve(service) as url:
        session = Client(url).session("collection")
        started = time.monotonic()
        for outcome in session.upload_all(make_files("a.mp3", "b.mp3")):
            assert outcome.file.path.name == "a.mp3"
            break
        threading.Timer(0.3, session.api.retry_policy.stop.set).start()
        registration = session.register(make_files("b.mp3"))[0]
        with pytest.raises(UploadCancelled):
            session.send(make_files("b.mp3")[0], registration)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("statuses", [["verifying", "verifying"], ["not_uploaded", "not_uploaded"]])
def test_single_upload_waits_for_its_verification(make_files, statuses):
    """Ask again for one track by its own endpoint until it is verified."""
    service = FakeService(a=statuses)
    service.retry_after = "0"
    (file,) = make_files("a.mp3")
    with serve(service) as url:
        assert Client(url).session("collection").upload(file.path)["status"] == "uploaded"
    assert service.paths == ["/upload_session", "/track", *["/track/ID/complete"] * 3]


def test_waits_for_the_verification_of_a_cover(make_files, tmp_path):
    """Ask again for an uploaded track whose cover is `verifying`; the form has no fields if the service gives none."""
    service = FakeService()
    service.retry_after = "0"
    service.cover_statuses.extend(["verifying", "verifying", "uploaded"])
    (tmp_path / "cover.png").write_bytes(b"\x89PNG")
    (file,) = make_files("a.mp3")
    errors = upload_all(service, [File(file.path, cover=tmp_path / "cover.png")])
    assert errors == {"a.mp3": None}
    assert len(service.batches) == 3


def test_counts_a_file_as_sent_if_the_service_verified_it_meanwhile(make_files):
    """Verify a file whose URL is not renewed because the service found the bytes of an attempt without response."""
    service, progress = FakeService(), Counter()
    service.put_errors.append(500)
    service.renew_response = (409, {"code": "track_state_conflict", "message": "the track is uploaded"}, {})
    errors = upload_all(service, make_files("a.mp3"), on_progress=lambda file, count: progress.update([file] * count))
    assert errors == {"a.mp3": None}


def test_reports_a_conflict_of_a_track_that_was_not_sent(make_files):
    """Report the service's reason if the URL of a file that it does not have is not renewed."""
    service = FakeService(a=["not_uploaded"] * 9)
    service.put_errors.append(500)
    service.renew_response = (409, {"code": "track_state_conflict", "message": "register it as a new track"}, {})
    errors = upload_all(service, make_files("a.mp3"))
    assert isinstance(errors["a.mp3"], APIError)
    assert "register it as a new track" in str(errors["a.mp3"])


@pytest.mark.parametrize("response", ["verifying", "conflict"])
def test_sends_nothing_for_an_existing_track_that_was_sent_before(make_files, response):
    """Verify a file of an earlier run without sending it again if the service has its bytes."""
    service, (file,), progress = FakeService(a=["verifying"]), make_files("a.mp3"), Counter()
    service.retry_after = "0"
    track_id = service.register({"file_name": "a.mp3", "file_size": 8, "metadata": None}, "http://127.0.0.1:9/")[
        "track_id"
    ]
    conflict = (409, {"code": "track_state_conflict", "message": "the track is uploaded"}, {})
    renewed = (200, {"track_id": track_id, "track": {"status": "verifying"}}, {})
    service.renew_response = conflict if response == "conflict" else renewed
    errors = upload_all(
        service,
        [file],
        existing_tracks={file: track_id},
        on_progress=lambda file, count: progress.update({file: count}),
    )
    assert errors == {"a.mp3": None}
    assert progress == {file: file.path.stat().st_size}
