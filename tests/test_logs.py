"""Logs: redaction of secrets, one line per request, and W3C trace context."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import sys
from contextlib import suppress
from queue import Queue
from threading import Thread
from types import SimpleNamespace

import pytest
import requests

from app import create_app
from dev.store import free_port
from storage import ids
from storage.http import trace_context
from storage.s3 import bucket
from support.api import COLLECTION, new_session, new_track
from support.processes import ROOT, TIMEOUT, RunningProcess, wait_until
from support.sample_files import wav
from support.secret_tracker import SecretTracker, leaks_in_file
from support.store import SECRET_KEY, put
from web import log_format as logs
from web.fast.log import can_bypass_handlers
from web.log_format import REDACTING_FILTER, JSONFormatter, redact
from web.requests import UUID
from web.responses import DEFAULT_HEADERS

SESSION = "0b7e4c52-8a86-4d2b-9a2e-5d0f3a1c7e90"
SECRET = "Q7" * 21 + "x"
KEY = f"loadbay_full_abcdefghijkl_{SECRET}"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f"GET /v1/upload_session/{SESSION} HTTP/1.1", "GET /v1/upload_session/0b7e4c52... HTTP/1.1"),
        (f"/v1/upload/{SESSION}/track/{COLLECTION}", f"/v1/upload/0b7e4c52.../track/{COLLECTION}"),
        ("PUT /a?X-Amz-Signature=00ff&x=1", "PUT /a?X-Amz-Signature=...&x=1"),
        ("Authorization: Bearer some-key", "Authorization: Bearer ..."),
        (f"POST /v1//upload//%30{SESSION[1:].replace('-', '%2D')}/track", "POST /v1//upload//%30b7e4c52.../track"),
        (
            'Invalid request from ip=::1: Invalid HTTP Header: "A\'b key"',
            "Invalid request from ip=::1: Invalid HTTP Header: ...",
        ),
    ],
)
def test_redacts_session_ids_keys_and_signatures(text, redacted):
    """Session ids are shortened, keys and signatures removed."""
    assert redact(text) == redacted


def test_filter_redacts_the_arguments_of_a_record():
    """A log record's arguments are redacted, too."""
    record = logging.LogRecord("werkzeug", logging.INFO, "", 0, "%s", (f"/u/{SESSION}",), None)
    assert REDACTING_FILTER.filter(record)
    assert record.getMessage() == "/u/0b7e4c52..."


def test_flask_run_redacts_session_ids(settings, tmp_path, processes):
    """The request log of `flask run` has no whole session id."""
    port = free_port()
    command = (sys.executable, "-m", "flask", "--app", "app", "run", "--port", str(port))
    with processes.start(*command, env=settings, log=tmp_path / "log") as service:
        base = f"http://127.0.0.1:{port}"
        service.wait_for_http(base)
        session = requests.post(f"{base}/v1/upload_session", json={"collection_id": COLLECTION}, timeout=10).json()
        session_id = session["upload_session_id"]
        assert requests.get(f"{base}/v1/upload_session/{session_id}", timeout=10).status_code == 200
        assert f"/v1/upload_session/{session_id[:8]}..." in service.output()
        assert session_id not in service.output()


def test_tracker_detects_leaks(client):
    """The tracker detects the secrets that a test has met: a session's id, a signature, a key."""
    tracker = SecretTracker()
    created = new_track(client, new_session(client)["upload_session_id"])
    tracker.add_from_text(client.get(f"/v1/upload_session/{created['upload_session_id']}").text)
    tracker.add_from_text(str(created["track_upload"]["upload_url"]))
    signature = created["track_upload"]["upload_url"].rpartition("=")[2]
    assert tracker.leaked_in([f"it was {created['upload_session_id']}", "and more"]) == {created["upload_session_id"]}
    assert tracker.leaked_in([f"?X-Amz-Signature={signature}"]) == {signature}
    assert tracker.leaked_in(["nothing"]) == set()


def test_tracker_collects_all_secrets(make_client, settings, no_secrets_in_logs, processes):
    """The tracker collects keys that commands print, keys of the settings, and keys that requests carry."""
    own = {name: f"this-is-the-{name}" for name in ("API_KEYS", "METRICS_TOKEN", "STORE_EVENT_SECRET")}
    client = make_client(**own)
    created = client.application.test_cli_runner().invoke(args=["create-key", "--name", "a"]).output.split()[-1]
    client.get("/v1/upload_session", headers={"Authorization": "Bearer a-key-that-nobody-knows"})
    assert no_secrets_in_logs.secrets >= {*own.values(), created, "a-key-that-nobody-knows"}
    printed = processes.run(
        "flask", "--app", "app", "create-key", "--name", "b", env={**settings, "METRICS_TOKEN": "m" * 16}
    )
    assert printed.stdout.split()[-1] in processes.printed[-1]
    assert processes.settings[-1]["METRICS_TOKEN"] == "m" * 16


# --- Request log -----------------------------------------------------------------------------------------------------

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


@pytest.mark.parametrize(
    ("parent", "valid"),
    [
        (TRACEPARENT, True),
        (f"00-{TRACE_ID}-{PARENT_ID}-00", True),
        (f"cc-{TRACE_ID}-{PARENT_ID}-01", True),
        (f"cc-{TRACE_ID}-{PARENT_ID}-01-what-comes-later", True),
        (f"00-{TRACE_ID}-{PARENT_ID}-01-what-comes-later", False),
        (f"ff-{TRACE_ID}-{PARENT_ID}-01", False),
        (f"00-{'0' * 32}-{PARENT_ID}-01", False),
        (f"00-{TRACE_ID}-{'0' * 16}-01", False),
        (TRACEPARENT.upper(), False),
        (TRACEPARENT[:-1], False),
        (TRACEPARENT + "\n", False),
        (f"cc-{TRACE_ID}-{PARENT_ID}-01-{'x' * 10_000}", False),
        (f"cc-{TRACE_ID}-{PARENT_ID}-01-\n", False),
        ("", False),
        (None, False),
    ],
)
def test_continues_a_valid_trace(parent, valid):
    """A valid traceparent (W3C Trace Context) continues the trace with a new span id; others are ignored."""
    trace = trace_context.parse(parent, "vendor=1")
    assert (trace is not None) == valid
    if trace:
        assert (trace.trace_id, trace.parent_id, trace.state) == (TRACE_ID, PARENT_ID, "vendor=1")
        header = trace.headers()["traceparent"]
        assert header == f"00-{TRACE_ID}-{trace.span_id}-{int(parent[53:55], 16) & 1:02x}"
        assert trace.span_id != PARENT_ID
        assert trace_context.parse(header, None).parent_id == trace.span_id


@pytest.mark.parametrize("state", ["", "a=1\nb=2", "x" * 513, "é=1"])
def test_drops_an_invalid_tracestate(state):
    """A tracestate that cannot be forwarded safely is dropped."""
    assert "tracestate" not in trace_context.parse(TRACEPARENT, state).headers()


@pytest.fixture
def store_listener():
    """A listener in place of the store that closes every connection; `request()` returns the next request."""
    requests = Queue()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen():
            with suppress(OSError):
                while True:
                    with server.accept()[0] as caller:
                        requests.put(caller.recv(65536).decode())

        Thread(target=listen, daemon=True).start()
        yield SimpleNamespace(
            url=f"http://127.0.0.1:{server.getsockname()[1]}", request=lambda: requests.get(timeout=10)
        )
        server.shutdown(socket.SHUT_RDWR)


def test_forwards_the_trace_to_the_store(make_client, store_listener):
    """The store gets the trace in an unsigned header, and no trace of an earlier request."""
    make_client()
    client = make_client(S3_ENDPOINT=store_listener.url, CREATE_MISSING="0")
    session_id = new_session(client)["upload_session_id"]
    path = f"/v1/upload/{session_id}/track/{new_track(client, session_id)['track_id']}/complete"
    assert client.post(path, headers={"traceparent": TRACEPARENT, "tracestate": "vendor=1"}).status_code == 503
    store_request = store_listener.request().lower()
    assert f"traceparent: 00-{TRACE_ID}-" in store_request
    assert PARENT_ID not in store_request
    assert "tracestate: vendor=1" in store_request
    assert "traceparent" not in store_request.partition("authorization:")[2].partition("\r\n")[0]
    # A connection that ends is followed by one more request, whether the store is up at all.
    assert f"traceparent: 00-{TRACE_ID}-" in store_listener.request().lower()
    assert client.post(path).status_code == 503
    assert "traceparent" not in store_listener.request().lower()


def test_real_store_accepts_a_trace(client):
    """A real store accepts requests with trace headers."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    path = f"/v1/upload/{session_id}/track/{created['track_id']}/complete"
    response = client.post(path, headers={"traceparent": TRACEPARENT, "tracestate": "vendor=1"})
    assert response.json["track"]["status"] == "uploaded"


def test_accepts_a_uuid_as_request_id(client):
    """A UUID in X-Request-ID is used as the request's id, in the body and in the header."""
    client_id = "7D444840-9DC0-11D1-B245-5FFDCE74FAD2"
    for path in ("/v1/upload_session/nothing", "/nothing", "/healthz"):
        response = client.get(path, headers={"X-Request-ID": client_id})
        assert response.json["api_request_id"] == response.headers["X-Request-ID"] == client_id.lower()


@pytest.mark.parametrize("client_id", ["", "abc", "x" * 64, "x" * 5000, f"{SESSION}x", "{" + SESSION + "}", "é"])
def test_ignores_other_request_ids(client, client_id):
    """Any other X-Request-ID is ignored."""
    response = client.get("/healthz", headers={"X-Request-ID": client_id})
    assert UUID.fullmatch(response.json["api_request_id"])
    assert response.json["api_request_id"] not in (client_id, SESSION)


def test_session_id_is_no_request_id(client):
    """The session's id is a credential, so it cannot be the request's id, which is logged."""
    session_id = new_session(client)["upload_session_id"]
    response = client.get(f"/v1/upload_session/{session_id}", headers={"X-Request-ID": session_id.upper()})
    assert response.status_code == 200
    assert response.headers["X-Request-ID"] != session_id
    rejected = (("PUT", f"/v1/upload/{session_id}/track", 405), ("GET", f"/nowhere/{session_id}", 404))
    for method, path, status in rejected:
        response = client.open(path, method=method, headers={"X-Request-ID": session_id})
        assert response.status_code == status
        assert response.headers["X-Request-ID"] != session_id


@pytest.fixture
def logged_client(make_client):
    """A client of a service that logs its requests."""
    return make_client(LOG_REQUESTS="1")


FORMS = {
    "itself": str,
    "upper case": str.upper,
    "without hyphens": lambda text: text.replace("-", ""),
    "within a longer id": lambda text: f"req-{text}.1",
    "among other digits": lambda text: f"ab{text.replace('-', '')}cd",
    "with dots": lambda text: text.replace("-", "."),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("path", ["/nothing", "/v1/upload_session", "/v1/upload_session/nothing", "/openapi.json"])
def test_session_id_is_not_logged_whatever_request_carries_it(logged_client, caplog, form, path):
    """Sent as the id of a request that has nothing to do with the session, its id is neither repeated nor logged."""
    caplog.set_level(logging.INFO)
    session_id = new_session(logged_client)["upload_session_id"]
    response = logged_client.get(path, headers={"X-Request-ID": form(session_id)})
    logged_client.get(path, headers={"traceparent": f"00-{session_id.replace('-', '')}-{'1' * 16}-01"})
    assert session_id.replace("-", "") not in response.headers["X-Request-ID"].replace("-", "")
    logged = [getattr(record, "request", {}) | {"text": record.getMessage()} for record in caplog.records]
    assert any(line.get("method") == "GET" for line in logged)
    assert session_id.replace("-", "") not in re.sub("[-._]", "", str(logged).lower())


def test_session_ids_are_recognized_and_other_ids_are_not():
    """Every session's id is recognized; of others as good as none."""
    assert all(ids.contains_session_id(ids.new_session_id()) for _ in range(1000))
    others = [ids.new_uuid4() for _ in range(3000)] + [ids.new_uuid7_and_index()[0] for _ in range(3000)]
    assert sum(map(ids.contains_session_id, others)) <= 3
    assert len({ids.new_session_id() for _ in range(1000)}) == 1000
    assert UUID.fullmatch(ids.new_session_id())
    assert not any(map(ids.contains_session_id, ["", "0" * 32, "f" * 32, "-" * 64, "é" * 40]))


LEAKS = [
    "ERROR: duplicate key (id)=({session_id}) already exists",
    "PUT /tracks/a?X-Amz-Signature={signature}&x=1 403",
    "I0731 12:00:00 key={key}",
    "DETAIL: Failing row contains (7, {text}, null)",
]


@pytest.mark.parametrize("line", LEAKS)
def test_secrets_in_the_logs_of_store_and_database_are_found(tmp_path, line):
    """A session's id, a signature, a key or metadata is found in such a log, wherever in a line."""
    values = {
        "session_id": ids.new_session_id(),
        "signature": "0a" * 32,
        "key": SECRET_KEY,
        "text": "A text of metadata",
    }
    log, secrets = tmp_path / "log", {values[name] for name in ("session_id", "signature", "key")}
    log.write_text(f"harmless\n{line.format(**values)}\nharmless\n")
    (leak,) = leaks_in_file(log, secrets, {values["text"]})
    assert leak in line.format(**values)
    log.write_text(f"harmless {ids.new_session_id()} {'0b' * 32}\n")
    assert leaks_in_file(log, secrets, {values["text"]}) == set()


def test_metadata_of_requests_is_collected():
    """Texts of metadata are found at every depth of a request's body."""
    tracker = SecretTracker()
    tracker.add_metadata({"metadata": {"a": "a text of some length", "b": "short"}, "file_name": "x" * 20})
    tracker.add_metadata({"tracks": [{"metadata": {"list": [{"deep": "another text of some length"}]}}]})
    assert tracker.texts == {"a text of some length", "another text of some length"}


def disables_bypass(change):
    """Return whether `change` to our loggers or handler disables writing request lines directly to stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs.ROOT_LOGGER, "handlers", [])
        patch.setattr(logs.REQUEST_LOGGER, "handlers", [])
        # pytest replaces it.
        patch.setattr(sys, "stderr", sys.__stderr__)
        handler = logs.StderrHandler("json")
        patch.setattr(logs.LOGGER, "handlers", [handler])
        assert can_bypass_handlers()
        change(patch, handler)
        return not can_bypass_handlers()


@pytest.mark.parametrize(
    "change",
    [
        lambda patch, ours: patch.setattr(logs.ROOT_LOGGER, "handlers", [logging.NullHandler()]),
        lambda patch, ours: patch.setattr(logs.REQUEST_LOGGER, "handlers", [logging.NullHandler()]),
        lambda patch, ours: patch.setattr(logs.REQUEST_LOGGER, "filters", [REDACTING_FILTER]),
        lambda patch, ours: patch.setattr(logs.REQUEST_LOGGER, "propagate", False),
        lambda patch, ours: patch.setattr(logs.LOGGER, "handlers", [ours, logging.NullHandler()]),
        lambda patch, ours: patch.setattr(logs.LOGGER, "handlers", [logging.StreamHandler()]),
        lambda patch, ours: ours.addFilter(REDACTING_FILTER),
        lambda patch, ours: ours.setLevel(logging.ERROR),
        lambda patch, ours: ours.setFormatter(logging.Formatter()),
        lambda patch, ours: ours.setStream(sys.stdout),
        lambda patch, ours: (patch.setattr(sys, "__stderr__", None), ours.setStream(None)),
    ],
)
def test_host_changes_disable_the_bypass(change):
    """Any change that a host makes to our loggers or handler applies to request lines, too."""
    assert disables_bypass(lambda patch, ours: None) is False
    assert disables_bypass(change)


def test_log_level_applies_to_requests(make_client, caplog):
    """With the level WARNING, requests are not logged."""
    client = make_client(LOG_REQUESTS="1")
    with caplog.at_level(logging.WARNING, "loadbay"):
        new_session(client)
    assert not caplog.records


def test_json_record_is_one_redacted_line():
    """A log record of any content is one line of JSON, with its exception, and redacted."""
    try:
        raise ValueError(f'broken\n"by" /u/{SESSION}')
    except ValueError:
        record = logging.LogRecord("loadbay", logging.ERROR, "", 0, "a\n%s", (f"/u/{SESSION}",), sys.exc_info())
    line = JSONFormatter().format(record)
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["level"], fields["logger"], fields["message"]) == ("error", "loadbay", "a\n/u/0b7e4c52...")
    assert "ValueError: broken" in fields["exception"]
    assert SESSION not in line


def test_host_gets_requests_as_records(make_client, caplog):
    """A host with its own logging gets requests as log records, with text and structured fields."""
    client = make_client(LOG_REQUESTS="1")
    with caplog.at_level(logging.INFO, "loadbay"):
        created = new_session(client)
    (record,) = [record for record in caplog.records if record.name == "loadbay.requests"]
    assert record.request["api_request_id"] == created["api_request_id"]
    assert "method=POST route=/v1/upload_session status=200" in record.getMessage()


def test_requests_are_not_logged_by_default(client, caplog):
    """Without LOG_REQUESTS, requests are not logged."""
    with caplog.at_level(logging.INFO):
        new_session(client)
    assert not [record for record in caplog.records if record.name == "loadbay.requests"]


class LoggedService(RunningProcess):
    """The service under gunicorn, with its log."""

    def __init__(self, processes, settings, log, **env):
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        env = {**settings, "PORT": str(self.port), "WEB_CONCURRENCY": "2", **env}
        super().__init__(processes, sys.executable, "-m", "gunicorn", "wsgi:app", env=env, log=log)

    def __enter__(self):
        super().__enter__()
        self.wait_for_http(f"{self.base}/healthz")
        return self

    def get_with_headers(self, *headers):
        """Send a request with exactly these header lines, and return the response's status."""
        lines = "\r\n".join(["GET /v1/upload_session/nothing HTTP/1.1", "Host: x", *headers])
        return self.send_raw(f"{lines}\r\n\r\n")[0]

    def send_raw(self, text):
        """Send exactly this text, and return the response's status, headers and body."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as s:
            s.sendall(text.encode("latin-1"))
            return read_response(s)

    def send_until_timeout(self, text):
        """Send an incomplete request, abort its worker as gunicorn's timeout does, and return the response."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as s:
            s.sendall(text.encode("latin-1"))
            assert s.recv(100).startswith(b"HTTP/1.1 100")
            for pid in self.process_ids() - {self.process.pid}:
                os.kill(pid, signal.SIGABRT)
            return read_response(s)


def read_response(connection):
    """Read a response, and return its status, headers and body."""
    head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).decode().partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body


def test_gunicorn_logs_one_json_line_per_request(settings, tmp_path, processes):
    """Every line is JSON, gunicorn's too; each request has one line, with its route and without its session id."""
    with LoggedService(processes, settings, tmp_path / "log") as service:
        response = requests.post(
            f"{service.base}/v1/upload_session", json={"collection_id": COLLECTION}, timeout=10,
            headers={"X-Request-ID": "from-the-proxy.1", "traceparent": TRACEPARENT},
        )  # fmt: skip
        created = response.json()
        session_response = requests.get(
            f"{service.base}/v1/upload_session/{created['upload_session_id']}?x=1", timeout=10
        )
        not_found = requests.get(f"{service.base}/nothing/{created['upload_session_id']}", timeout=10)
    lines = [json.loads(line) for line in service.output().splitlines()]
    assert {"gunicorn.error", "loadbay.requests"} <= {line["logger"] for line in lines}
    first, second, third = [line for line in lines if line["logger"] == "loadbay.requests"]
    assert first["api_request_id"] == created["api_request_id"]
    assert (first["method"], first["route"], first["status"]) == ("POST", "/v1/upload_session", 200)
    assert first["bytes"] == len(response.content)
    assert 0 < first["duration_ms"] < 10_000
    assert (first["client_request_id"], first["trace_id"], first["parent_id"]) == (
        "from-the-proxy.1",
        TRACE_ID,
        PARENT_ID,
    )
    assert second["route"] == "/v1/upload_session/<upload_session_id>"
    assert second["api_request_id"] == session_response.headers["X-Request-ID"]
    assert not {"client_request_id", "trace_id"} & set(second)
    assert (third["route"], third["status"]) == ("", 404)
    assert third["api_request_id"] == not_found.json()["api_request_id"]
    assert created["upload_session_id"] not in service.output()


MALFORMED_REQUESTS = [
    (f"GET /healthz HTTP/1.1\r\nAuthorization Bearer {KEY}\r\n\r\n", 400),
    (f"GET /healthz HTTP/1.1\r\nAuthorization an-old-key-{SECRET}\r\n\r\n", 400),
    (f"GET /u/{SESSION}\r\n\r\n", 400),
    (f"GET /u/{SESSION} HTTP/1.1\r\nHost: x\r\nContent-Length: 1<2\r\n\r\n", 400),
    (f"<{SECRET}> /u/{SESSION} HTTP/1.1\r\n\r\n", 400),
    (f"GET /{'a' * 8190} HTTP/1.1\r\n\r\n", 414),
    (f"GET / HTTP/1.1\r\n{SECRET}: {'a' * 8190}\r\n\r\n", 431),
    ("GET / HTTP/1.1\r\n" + "A: b\r\n" * 65 + "\r\n", 431),
]
# The body is never sent.
INCOMPLETE_REQUEST = (
    f"POST /v1/upload/{SESSION}/track HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
)


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_errors_of_gunicorn_have_our_format(settings, tmp_path, no_secrets_in_logs, log_format, processes):
    """Requests that gunicorn rejects get our error format, and neither the response nor the log repeats them."""
    no_secrets_in_logs.secrets |= {SESSION, SECRET}
    with LoggedService(processes, settings, tmp_path / "log", LOG_FORMAT=log_format) as service:
        for payload, expected_status in (*MALFORMED_REQUESTS, (INCOMPLETE_REQUEST, 500)):
            status, headers, body = (
                service.send_until_timeout(payload) if payload is INCOMPLETE_REQUEST else service.send_raw(payload)
            )
            error = json.loads(body)
            assert (status, error["ok"]) == (expected_status, False), payload
            assert error["code"] == ("internal_error" if expected_status == 500 else "invalid_request")
            assert error["api_request_id"] == headers["X-Request-ID"]
            assert headers.items() >= dict(DEFAULT_HEADERS).items()
            assert "u/" not in body
            assert "<" not in body
            wait_until(
                lambda request_id=headers["X-Request-ID"]: request_id in service.output(), "The log lacks the response."
            )
        # The longest path that nginx passes is accepted.
        assert service.send_raw(f"GET /{'a' * 8000} HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 404
    assert f"POST /v1/upload/{SESSION[:8]}.../track" in service.output()
    assert no_secrets_in_logs.leaked_in([service.output()]) == set()


def test_gunicorn_trusts_no_proxy_by_default(settings, tmp_path, processes):
    """Forwarded headers of a local caller count only with TRUSTED_PROXIES."""
    with LoggedService(processes, {**settings, "COVER_UPLOAD": "relay"}, tmp_path / "log") as service:
        scheme_headers = "X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off"
        for header in ("SCRIPT_NAME: /x", "SCRIPT_NAME: /docs", "PATH_INFO: /nowhere", scheme_headers):
            assert service.send_raw(f"GET /docs HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n")[0] == 200
        payload = {"collection_id": COLLECTION, "track": {"file_name": "a.wav"}}
        header = {"X-Forwarded-Proto": "https"}
        created = requests.post(f"{service.base}/v1/upload_session", json=payload, headers=header, timeout=10).json()
        assert created["track_cover_upload"]["upload_url"].startswith("http://")


def test_store_timeouts_are_shorter_than_the_worker_timeout():
    """The timeouts of store requests add up to less than gunicorn's worker timeout."""
    worker_timeout = int(re.search(r"^timeout = (\d+)$", (ROOT / "gunicorn.conf.py").read_text(), re.MULTILINE)[1])
    timeouts = [
        part
        for timeout in (bucket.SHORT_TIMEOUT, bucket.LONG_TIMEOUT)
        for part in (timeout.connect_timeout, timeout.read_timeout)
    ]
    assert sum(timeouts) < worker_timeout


def test_log_lines_have_the_request_id(settings, tmp_path, processes):
    """Errors and requests are logged with the id that the client got."""
    create_app(settings)
    unreachable = {**settings, "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}", "CREATE_MISSING": "0"}
    with LoggedService(processes, unreachable, tmp_path / "log") as service:
        base = service.base
        body = {"collection_id": COLLECTION, "track": {"file_name": "a.mp3"}}
        created = requests.post(f"{base}/v1/upload_session", json=body, timeout=10).json()
        path = f"{base}/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/complete"
        request_id = requests.post(path, timeout=10).json()["api_request_id"]
    lines = [json.loads(line) for line in service.output().splitlines()]
    loggers = [line["logger"] for line in lines if line.get("api_request_id") == request_id]
    assert loggers == ["loadbay.store", "loadbay.requests"]


def test_log_format_and_log_requests(settings, tmp_path, processes):
    """LOG_FORMAT=text writes text, and LOG_REQUESTS=0 writes no request lines."""
    with LoggedService(processes, settings, tmp_path / "text", LOG_FORMAT="text") as service:
        assert service.get_with_headers() == 400
    assert " method=GET route=/v1/upload_session/<upload_session_id> status=400 " in service.output()
    with LoggedService(processes, settings, tmp_path / "none", LOG_REQUESTS="0") as service:
        assert service.get_with_headers() == 400
    assert "route" not in service.output()


HOSTILE_HEADERS = [
    'X-Request-ID: a"b\\',
    "X-Request-ID: EVIL\x85EVIL",
    "X-Request-ID: EVIL\u00a0EVIL",
    "X-Request-ID: EVIL%0aEVIL",
    "X-Request-ID: " + "EVIL" * 1000,
    "X-Request-ID: \x1b[31mEVIL",
    "traceparent: EVIL",
    f"traceparent: {TRACEPARENT}EVIL",
    f"traceparent: cc-{TRACE_ID}-{PARENT_ID}-01-EVIL",
    f"traceparent: {TRACEPARENT}\r\ntracestate: EVIL",
    "traceparent: " + "EVIL" * 1000,
    "X-Request-ID: abc\r\n EVIL",
    "X-Request-ID: abc\nEVIL: EVIL",
    "X-Request-ID: abc\r\nX-Request-ID: EVIL",
]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_hostile_headers_stay_out_of_the_log(settings, tmp_path, log_format, processes):
    """Invalid header values do not reach the log, and each request is exactly one line."""
    with LoggedService(processes, settings, tmp_path / "log", LOG_FORMAT=log_format) as service:
        lines_before = len(service.output().splitlines())
        for header in HOSTILE_HEADERS:
            assert service.get_with_headers(header) == 400
        assert service.get_with_headers("X-Request-ID: the-last") == 400
        wait_until(lambda: "the-last" in service.output(), "The last request is not logged.")
        lines = service.output().splitlines()[lines_before:]
    assert not [line for line in lines if "EVIL" in line or "\x1b" in line]
    if log_format == "json":
        assert all(json.loads(line) for line in lines)
    request_lines = [line for line in lines if "loadbay.requests" in line]
    # gunicorn itself rejects malformed ones, before they reach the service.
    assert len(HOSTILE_HEADERS) - 4 <= len(request_lines) <= len(HOSTILE_HEADERS) + 1
