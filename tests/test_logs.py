"""What a log may not hold. Every test's logs are looked through for the secrets that it used: see conftest.py."""

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
from storage import trace_context
from storage.s3 import bucket
from support.api import COLLECTION, new_session, new_track
from support.processes import ROOT, TIMEOUT, RunningProcess, wait_until
from support.sample_files import wav
from support.secret_tracker import SecretTracker
from support.store import put
from web import log_format as logs
from web.fast.log import can_bypass_handlers
from web.log_format import REDACTING_FILTER, JSONFormatter, redact
from web.requests import UUID
from web.responses import DEFAULT_HEADERS

SESSION = "0b7e4c52-8a86-4d2b-9a2e-5d0f3a1c7e90"
SECRET = "Q7" * 21 + "x"
KEY = f"loadbay_full_abcdefghijkl_{SECRET}"


@pytest.mark.parametrize(
    ("text", "told"),
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
def test_shortened(text, told):
    """Session ids are cut to what tells them apart, keys and signatures are cut out."""
    assert redact(text) == told


def test_filter():
    """A record's arguments are looked at, too."""
    record = logging.LogRecord("werkzeug", logging.INFO, "", 0, "%s", (f"/u/{SESSION}",), None)
    assert REDACTING_FILTER.filter(record)
    assert record.getMessage() == "/u/0b7e4c52..."


def test_flask_run(settings, tmp_path, processes):
    """The development server's own log of requests holds no whole session id."""
    port = free_port()
    command = (sys.executable, "-m", "flask", "--app", "app", "run", "--port", str(port))
    with processes.start(*command, env=settings, log=tmp_path / "log") as service:
        base = f"http://127.0.0.1:{port}"
        service.wait_for_http(base)
        session = requests.post(f"{base}/v1/upload_session", json={"collection_id": COLLECTION}, timeout=10).json()
        id_ = session["upload_session_id"]
        assert requests.get(f"{base}/v1/upload_session/{id_}", timeout=10).status_code == 200
        assert f"/v1/upload_session/{id_[:8]}..." in service.output()
        assert id_ not in service.output()


def test_a_leak_is_seen(client):
    """The look through the logs finds what a test has met: a session's id, a signature, a key."""
    secrets = SecretTracker()
    created = new_track(client, new_session(client)["upload_session_id"])
    secrets.add_from_text(client.get(f"/v1/upload_session/{created['upload_session_id']}").text)
    secrets.add_from_text(str(created["track_upload"]["upload_url"]))
    signature = created["track_upload"]["upload_url"].rpartition("=")[2]
    assert secrets.leaked_in([f"it was {created['upload_session_id']}", "and more"]) == {created["upload_session_id"]}
    assert secrets.leaked_in([f"?X-Amz-Signature={signature}"]) == {signature}
    assert secrets.leaked_in(["nothing"]) == set()


def test_secrets_that_are_noted(make_client, settings, no_secrets_in_logs, processes):
    """Keys that a command makes, here or in a process, those of the settings, and those that requests carry."""
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


# --- A line for each request -----------------------------------------------------------------------------------------

TRACE_ID, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{SPAN}-01"


@pytest.mark.parametrize(
    ("parent", "known"),
    [
        (PARENT, True),
        (f"00-{TRACE_ID}-{SPAN}-00", True),
        (f"cc-{TRACE_ID}-{SPAN}-01", True),
        (f"cc-{TRACE_ID}-{SPAN}-01-what-comes-later", True),
        (f"00-{TRACE_ID}-{SPAN}-01-what-comes-later", False),
        (f"ff-{TRACE_ID}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE_ID}-{'0' * 16}-01", False),
        (PARENT.upper(), False),
        (PARENT[:-1], False),
        (PARENT + "\n", False),
        (f"cc-{TRACE_ID}-{SPAN}-01-{'x' * 10_000}", False),
        (f"cc-{TRACE_ID}-{SPAN}-01-\n", False),
        ("", False),
        (None, False),
    ],
)
def test_traceparent(parent, known):
    """A trace goes on with its id and a span of ours, where W3C Trace Context calls it valid; else there is none."""
    found = trace_context.parse(parent, "vendor=1")
    assert (found is not None) == known
    if found:
        assert (found.trace_id, found.parent_id, found.state) == (TRACE_ID, SPAN, "vendor=1")
        told = found.headers()["traceparent"]
        assert told == f"00-{TRACE_ID}-{found.span_id}-{int(parent[53:55], 16) & 1:02x}"
        assert found.span_id != SPAN
        assert trace_context.parse(told, None).parent_id == found.span_id


@pytest.mark.parametrize("state", ["", "a=1\nb=2", "x" * 513, "é=1"])
def test_tracestate(state):
    """What comes along and cannot be passed on safely is left out."""
    assert "tracestate" not in trace_context.parse(PARENT, state).headers()


@pytest.fixture
def listener():
    """Someone who takes a store's place and hangs up after the request: `request()` is what he was sent."""
    heard = Queue()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen():
            with suppress(OSError):
                while True:
                    with server.accept()[0] as caller:
                        heard.put(caller.recv(65536).decode())

        Thread(target=listen, daemon=True).start()
        yield SimpleNamespace(url=f"http://127.0.0.1:{server.getsockname()[1]}", request=lambda: heard.get(timeout=10))
        server.shutdown(socket.SHUT_RDWR)


def test_trace_goes_on_to_the_store(make_client, listener):
    """The store is told of the trace, in a header that the signature does not cover; and of no older one."""
    make_client()
    client = make_client(S3_ENDPOINT=listener.url, CREATE_MISSING="0")
    session_id = new_session(client)["upload_session_id"]
    path = f"/v1/upload/{session_id}/track/{new_track(client, session_id)['track_id']}/complete"
    assert client.post(path, headers={"traceparent": PARENT, "tracestate": "vendor=1"}).status_code == 503
    sent = listener.request().lower()
    assert f"traceparent: 00-{TRACE_ID}-" in sent
    assert SPAN not in sent
    assert "tracestate: vendor=1" in sent
    assert "traceparent" not in sent.partition("authorization:")[2].partition("\r\n")[0]
    assert client.post(path).status_code == 503
    assert "traceparent" not in listener.request().lower()


def test_a_real_store_takes_a_trace(client):
    """A request that is part of a trace ends as well as any other."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    path = f"/v1/upload/{session_id}/track/{created['track_id']}/complete"
    response = client.post(path, headers={"traceparent": PARENT, "tracestate": "vendor=1"})
    assert response.json["track"]["status"] == "uploaded"


def test_request_id_taken(client):
    """A UUID as X-Request-ID names the request, in the body and in the header."""
    asked = "7D444840-9DC0-11D1-B245-5FFDCE74FAD2"
    for path in ("/v1/upload_session/nothing", "/nothing", "/healthz"):
        response = client.get(path, headers={"X-Request-ID": asked})
        assert response.json["api_request_id"] == response.headers["X-Request-ID"] == asked.lower()


@pytest.mark.parametrize("asked", ["", "abc", "x" * 64, "x" * 5000, f"{SESSION}x", "{" + SESSION + "}", "é"])
def test_request_id_not_taken(client, asked):
    """Anything else does not."""
    response = client.get("/healthz", headers={"X-Request-ID": asked})
    assert UUID.fullmatch(response.json["api_request_id"])
    assert response.json["api_request_id"] not in (asked, SESSION)


def test_session_is_no_request_id(client):
    """The id of the session is a credential: it does not become the request's name, which is logged."""
    session_id = new_session(client)["upload_session_id"]
    response = client.get(f"/v1/upload_session/{session_id}", headers={"X-Request-ID": session_id.upper()})
    assert response.status_code == 200
    assert response.headers["X-Request-ID"] != session_id
    refused = (("PUT", f"/v1/upload/{session_id}/track", 405), ("GET", f"/nowhere/{session_id}", 404))
    for method, path, status in refused:
        response = client.open(path, method=method, headers={"X-Request-ID": session_id})
        assert response.status_code == status
        assert response.headers["X-Request-ID"] != session_id


def changed_by(change):
    """Whether `change`, of the loggers or our handler, ends that a request's line goes straight to stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs.ROOT_LOGGER, "handlers", [])
        patch.setattr(logs.REQUEST_LOGGER, "handlers", [])
        # pytest has put something of its own in its place.
        patch.setattr(sys, "stderr", sys.__stderr__)
        ours = logs.StderrHandler("json")
        patch.setattr(logs.LOGGER, "handlers", [ours])
        assert can_bypass_handlers()
        change(patch, ours)
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
def test_a_host_may_change_the_logs(change):
    """Whatever a host changes about our loggers and our handler, a request's line heeds it."""
    assert changed_by(lambda patch, ours: None) is False
    assert changed_by(change)


def test_a_level_holds_for_requests_too(make_client, caplog):
    """A host that wants warnings alone gets no line for a request."""
    client = make_client(LOG_REQUESTS="1")
    with caplog.at_level(logging.WARNING, "loadbay"):
        new_session(client)
    assert not caplog.records


def test_json_lines():
    """Whatever a record holds, it is one line of JSON, its exception too, with secrets cut out."""
    try:
        raise ValueError(f'broken\n"by" /u/{SESSION}')
    except ValueError:
        record = logging.LogRecord("loadbay", logging.ERROR, "", 0, "a\n%s", (f"/u/{SESSION}",), sys.exc_info())
    line = JSONFormatter().format(record)
    assert "\n" not in line
    told = json.loads(line)
    assert (told["level"], told["logger"], told["message"]) == ("error", "loadbay", "a\n/u/0b7e4c52...")
    assert "ValueError: broken" in told["exception"]
    assert SESSION not in line


def test_host_that_logs(make_client, caplog):
    """A host with logs of its own gets the requests as records, in words and as values."""
    client = make_client(LOG_REQUESTS="1")
    with caplog.at_level(logging.INFO, "loadbay"):
        created = new_session(client)
    (record,) = [record for record in caplog.records if record.name == "loadbay.requests"]
    assert record.request["api_request_id"] == created["api_request_id"]
    assert "method=POST route=/v1/upload_session status=200" in record.getMessage()


def test_silent_by_default(client, caplog):
    """Nobody's requests are logged unasked."""
    with caplog.at_level(logging.INFO):
        new_session(client)
    assert not [record for record in caplog.records if record.name == "loadbay.requests"]


class Logged(RunningProcess):
    """The service under gunicorn, and its log."""

    def __init__(self, processes, settings, log, **env):
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        env = {**settings, "PORT": str(self.port), "WEB_CONCURRENCY": "2", **env}
        super().__init__(processes, sys.executable, "-m", "gunicorn", "wsgi:app", env=env, log=log)

    def __enter__(self):
        super().__enter__()
        self.wait_for_http(f"{self.base}/healthz")
        return self

    def raw(self, *headers):
        """Send a request with these header lines to the byte, and return the answer's status."""
        lines = "\r\n".join(["GET /v1/upload_session/nothing HTTP/1.1", "Host: x", *headers])
        return self.say(f"{lines}\r\n\r\n")[0]

    def say(self, payload):
        """Send these words, and return the answer: status, headers and body."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as s:
            s.sendall(payload.encode("latin-1"))
            return read_answer(s)

    def out_of_time(self, payload):
        """The answer to a request whose worker is told, as gunicorn does it, that its time is over."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as s:
            s.sendall(payload.encode("latin-1"))
            assert s.recv(100).startswith(b"HTTP/1.1 100")
            for pid in self.process_ids() - {self.process.pid}:
                os.kill(pid, signal.SIGABRT)
            return read_answer(s)


def read_answer(connection):
    """Status, headers and body of what comes."""
    head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).decode().partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body


def test_gunicorn_logs_json(settings, tmp_path, processes):
    """Every line is JSON, gunicorn's too; each request has one, with its route and without its session."""
    with Logged(processes, settings, tmp_path / "log") as service:
        response = requests.post(
            f"{service.base}/v1/upload_session", json={"collection_id": COLLECTION}, timeout=10,
            headers={"X-Request-ID": "from-the-proxy.1", "traceparent": PARENT},
        )  # fmt: skip
        created = response.json()
        read = requests.get(f"{service.base}/v1/upload_session/{created['upload_session_id']}?x=1", timeout=10)
        missed = requests.get(f"{service.base}/nothing/{created['upload_session_id']}", timeout=10)
    lines = [json.loads(line) for line in service.output().splitlines()]
    assert {"gunicorn.error", "loadbay.requests"} <= {line["logger"] for line in lines}
    first, second, third = [line for line in lines if line["logger"] == "loadbay.requests"]
    assert first["api_request_id"] == created["api_request_id"]
    assert (first["method"], first["route"], first["status"]) == ("POST", "/v1/upload_session", 200)
    assert first["bytes"] == len(response.content)
    assert 0 < first["duration_ms"] < 10_000
    assert (first["client_request_id"], first["trace_id"], first["parent_id"]) == ("from-the-proxy.1", TRACE_ID, SPAN)
    assert second["route"] == "/v1/upload_session/<upload_session_id>"
    assert second["api_request_id"] == read.headers["X-Request-ID"]
    assert not {"client_request_id", "trace_id"} & set(second)
    assert (third["route"], third["status"]) == ("", 404)
    assert third["api_request_id"] == missed.json()["api_request_id"]
    assert created["upload_session_id"] not in service.output()


REFUSED = [
    (f"GET /healthz HTTP/1.1\r\nAuthorization Bearer {KEY}\r\n\r\n", 400),
    (f"GET /healthz HTTP/1.1\r\nAuthorization an-old-key-{SECRET}\r\n\r\n", 400),
    (f"GET /u/{SESSION}\r\n\r\n", 400),
    (f"GET /u/{SESSION} HTTP/1.1\r\nHost: x\r\nContent-Length: 1<2\r\n\r\n", 400),
    (f"<{SECRET}> /u/{SESSION} HTTP/1.1\r\n\r\n", 400),
    (f"GET /{'a' * 8190} HTTP/1.1\r\n\r\n", 414),
    (f"GET / HTTP/1.1\r\n{SECRET}: {'a' * 8190}\r\n\r\n", 431),
    ("GET / HTTP/1.1\r\n" + "A: b\r\n" * 65 + "\r\n", 431),
]
# The body does not come.
ENDLESS = f"POST /v1/upload/{SESSION}/track HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize("format_", ["json", "text"])
def test_what_gunicorn_refuses(settings, tmp_path, no_secrets_in_logs, format_, processes):
    """What does not come as far as the service is answered in its shape, and neither answer nor log repeats it."""
    no_secrets_in_logs.secrets |= {SESSION, SECRET}
    with Logged(processes, settings, tmp_path / "log", LOG_FORMAT=format_) as service:
        for payload, meant in (*REFUSED, (ENDLESS, 500)):
            status, headers, body = service.out_of_time(payload) if payload is ENDLESS else service.say(payload)
            told = json.loads(body)
            assert (status, told["ok"]) == (meant, False), payload
            assert told["code"] == ("internal_error" if meant == 500 else "invalid_request")
            assert told["api_request_id"] == headers["X-Request-ID"]
            assert headers.items() >= dict(DEFAULT_HEADERS).items()
            assert "u/" not in body
            assert "<" not in body
            wait_until(lambda id_=headers["X-Request-ID"]: id_ in service.output(), "The log does not have the answer.")
        # As much as nginx lets through is read.
        assert service.say(f"GET /{'a' * 8000} HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 404
    assert f"POST /v1/upload/{SESSION[:8]}.../track" in service.output()
    assert no_secrets_in_logs.leaked_in([service.output()]) == set()


def test_gunicorn_believes_no_proxy(settings, tmp_path, processes):
    """What a caller from this machine says of scheme and path is a proxy's word only where TRUSTED_PROXIES says so."""
    with Logged(processes, {**settings, "COVER_UPLOAD": "relay"}, tmp_path / "log") as service:
        both = "X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off"
        for said in ("SCRIPT_NAME: /x", "SCRIPT_NAME: /docs", "PATH_INFO: /nowhere", both):
            assert service.say(f"GET /docs HTTP/1.1\r\nHost: x\r\n{said}\r\n\r\n")[0] == 200
        first = {"collection_id": COLLECTION, "track": {"file_name": "a.wav"}}
        said = {"X-Forwarded-Proto": "https"}
        created = requests.post(f"{service.base}/v1/upload_session", json=first, headers=said, timeout=10).json()
        assert created["track_cover_upload"]["upload_url"].startswith("http://")


def test_store_is_given_up_before_the_worker():
    """A store that says nothing is given up before gunicorn gives up the worker."""
    given = int(re.search(r"^timeout = (\d+)$", (ROOT / "gunicorn.conf.py").read_text(), re.MULTILINE)[1])
    waits = [
        part
        for timeout in (bucket.SHORT_TIMEOUT, bucket.LONG_TIMEOUT)
        for part in (timeout.connect_timeout, timeout.read_timeout)
    ]
    assert sum(waits) < given


def test_errors_name_their_request(settings, tmp_path, processes):
    """What goes wrong is logged under the id that the caller was told, and so is the request."""
    create_app(settings)
    away = {**settings, "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}", "CREATE_MISSING": "0"}
    with Logged(processes, away, tmp_path / "log") as service:
        base = service.base
        body = {"collection_id": COLLECTION, "track": {"file_name": "a.mp3"}}
        created = requests.post(f"{base}/v1/upload_session", json=body, timeout=10).json()
        path = f"{base}/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/complete"
        id_ = requests.post(path, timeout=10).json()["api_request_id"]
    lines = [json.loads(line) for line in service.output().splitlines()]
    named = [line["logger"] for line in lines if line.get("api_request_id") == id_]
    assert named == ["loadbay.store", "loadbay.requests"]


def test_text_and_silence(settings, tmp_path, processes):
    """LOG_FORMAT=text is for people, LOG_REQUESTS=0 for who wants none."""
    with Logged(processes, settings, tmp_path / "text", LOG_FORMAT="text") as service:
        assert service.raw() == 400
    assert " method=GET route=/v1/upload_session/<upload_session_id> status=400 " in service.output()
    with Logged(processes, settings, tmp_path / "none", LOG_REQUESTS="0") as service:
        assert service.raw() == 400
    assert "route" not in service.output()


HOSTILE = [
    'X-Request-ID: a"b\\',
    "X-Request-ID: EVIL\x85EVIL",
    "X-Request-ID: EVIL\u00a0EVIL",
    "X-Request-ID: EVIL%0aEVIL",
    "X-Request-ID: " + "EVIL" * 1000,
    "X-Request-ID: \x1b[31mEVIL",
    "traceparent: EVIL",
    f"traceparent: {PARENT}EVIL",
    f"traceparent: cc-{TRACE_ID}-{SPAN}-01-EVIL",
    f"traceparent: {PARENT}\r\ntracestate: EVIL",
    "traceparent: " + "EVIL" * 1000,
    "X-Request-ID: abc\r\n EVIL",
    "X-Request-ID: abc\nEVIL: EVIL",
    "X-Request-ID: abc\r\nX-Request-ID: EVIL",
]


@pytest.mark.parametrize("format_", ["json", "text"])
def test_hostile_headers(settings, tmp_path, format_, processes):
    """Nothing of a header that is not what it should be reaches the log, and no line is more or less than one."""
    with Logged(processes, settings, tmp_path / "log", LOG_FORMAT=format_) as service:
        before = len(service.output().splitlines())
        for header in HOSTILE:
            assert service.raw(header) == 400
        assert service.raw("X-Request-ID: the-last") == 400
        wait_until(lambda: "the-last" in service.output(), "The last was not logged.")
        lines = service.output().splitlines()[before:]
    assert not [line for line in lines if "EVIL" in line or "\x1b" in line]
    if format_ == "json":
        assert all(json.loads(line) for line in lines)
    requested = [line for line in lines if "loadbay.requests" in line]
    # gunicorn itself refuses the malformed ones, before the service hears of them.
    assert len(HOSTILE) - 4 <= len(requested) <= len(HOSTILE) + 1
