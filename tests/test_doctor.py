"""`flask doctor`, against the real store, and against stores that lie."""

from __future__ import annotations

import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time
from uuid import uuid4

import pytest
import requests

from app import create_app
from storage.doctor import LIFECYCLE
from storage.s3 import lifecycle
from storage.s3.cors import add_rule, preflight_allows
from support.store import BUCKET, Bucket, start_store

pytestmark = pytest.mark.sqlite

ORIGIN = "https://app.example.com"


def examine(settings, *options):
    """Run the command; returns its exit status, the outcome of each check by its name, and all that it printed."""
    runner = create_app(settings).test_cli_runner()
    result = runner.invoke(args=["doctor", "--json", *options])
    checks = [json.loads(line) for line in result.stdout.splitlines() if line.startswith('{"name"')]
    return result.exit_code, {check["name"]: check["outcome"] for check in checks}, result.output


@pytest.fixture
def settings(settings):
    """A prefix of its own, so that what is left over is seen."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


def test_well(settings, bucket):
    """The real store passes every check, and nothing is left in it."""
    status, outcomes, printed = examine(settings, "--origin", ORIGIN)
    assert status == 0, printed
    assert outcomes.pop("lifecycle of staging") == "fail"
    assert set(outcomes.values()) == {"pass"}, printed
    assert len(outcomes) >= 19
    assert bucket.keys(settings["S3_PREFIX"]) == []
    assert "Uploads" not in bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=settings["S3_PREFIX"])


def test_table(settings):
    """People get a line for each check."""
    result = create_app(settings).test_cli_runner().invoke(args=["doctor"])
    assert result.exit_code == 0, result.output
    assert "pass" in result.output
    assert "POST policy: size enforced" in result.output


COPIED = b"<CopyObjectResult><ETag>&quot;0&quot;</ETag></CopyObjectResult>"
HOP_BY_HOP = ("content-length", "transfer-encoding", "connection", "content-encoding")


class Liar(BaseHTTPRequestHandler):
    """Hands requests on to the real store; where that refuses one of the method that it lies about, all is well."""

    lies: str = ""
    store: str = ""
    cors = True
    hangs_up = ""
    refuses: tuple[str, str] = ("", "")

    def handle_any(self):
        if self.command == self.hangs_up:
            return
        if self.command == self.refuses[0] and self.refuses[1] in self.path:
            self.send_response_only(403)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = dict(self.headers.items())
        response = requests.request(
            self.command, f"{self.store}{self.path}", data=body, headers=headers, timeout=10, allow_redirects=False
        )
        status, content = response.status_code, response.content
        if self.lies == "copy" and "x-amz-copy-source" in self.headers and status == 412:
            status, content = 200, COPIED
        if self.command == self.lies and 400 <= status < 500:
            status = 200
        self.send_response_only(status)
        for name, value in response.headers.items():
            hidden = not self.cors and name.lower().startswith("access-control")
            if name.lower() not in HOP_BY_HOP and not hidden:
                self.send_header(name, value)
        length = str(len(content))
        self.send_header(
            "Content-Length", response.headers.get("Content-Length", "0") if self.command == "HEAD" else length
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_OPTIONS = handle_any

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def liar(store_endpoint):
    """Start a store that lies: `liar(lies="PUT")` returns its endpoint."""
    servers = []

    def start(**ways):
        kind = type("ThisLiar", (Liar,), {"store": store_endpoint, **ways})
        server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def failed(outcomes):
    """Return the names of the checks that did not pass, but for the lifecycle rules, which the test bucket lacks."""
    return {name for name, outcome in outcomes.items() if outcome not in ("pass", "skipped")} - {LIFECYCLE}


def test_honest_proxy(settings, liar):
    """The proxy alone changes nothing, so that what the others show is their lies."""
    status, outcomes, printed = examine({**settings, "S3_ENDPOINT": liar()}, "--origin", ORIGIN)
    assert (status, failed(outcomes)) == (0, set()), printed


def test_store_that_ignores_signed_headers(settings, liar):
    """A store that takes any PUT is caught at each promise."""
    status, outcomes, _ = examine({**settings, "S3_ENDPOINT": liar(lies="PUT")})
    assert status == 1
    # A copy is told by its body, not by its status.
    assert failed(outcomes) == {
        "signed size enforced", "signed type enforced", "signed checksum enforced", "write-once PUT",
    }  # fmt: skip


def test_store_that_ignores_the_policy(settings, liar):
    """A store that takes any form is caught; with the relay, nobody depends on it."""
    settings = {**settings, "S3_ENDPOINT": liar(lies="POST")}
    status, outcomes, printed = examine(settings)
    policies = {f"POST policy: {what} enforced" for what in ("size", "type", "key")}
    assert (status, failed(outcomes)) == (1, policies)
    assert "COVER_UPLOAD=relay" in printed
    status, outcomes, _ = examine({**settings, "COVER_UPLOAD": "relay"})
    assert (status, failed(outcomes)) == (0, policies)


def test_store_that_hangs_up(settings, liar):
    """A store that hangs up on a browser's preflight is told of, and what follows is looked at all the same."""
    status, outcomes, printed = examine({**settings, "S3_ENDPOINT": liar(hangs_up="OPTIONS")}, "--origin", ORIGIN)
    assert (status, failed(outcomes)) == (1, {f"CORS for {ORIGIN}"}), printed
    assert outcomes["cleanup"] == "pass"


@pytest.mark.parametrize("origins", ["", "*"])
def test_cors_not_asked(settings, origins):
    """Without a site to ask for, it is said that CORS was not looked at, and how it is."""
    status, outcomes, printed = examine({**settings, "CORS_ORIGINS": origins})
    assert (status, outcomes["CORS"]) == (0, "skipped")
    assert "--origin" in printed


@pytest.mark.parametrize(
    ("refused", "left"),
    [(("DELETE", "/put"), ["put"]), (("DELETE", "uploadId"), []), (("DELETE", ""), ["put", "copy"])],
)
def test_left_over(settings, liar, bucket, refused, left):
    """What cannot be removed is told of, and keeps nothing else."""
    status, outcomes, printed = examine({**settings, "S3_ENDPOINT": liar(refuses=refused)})
    kept = {key.rpartition("/")[2] for key in bucket.keys(settings["S3_PREFIX"])}
    assert kept >= set(left)
    assert (status, failed(outcomes)) == ((1, {"cleanup"}) if left else (0, set())), printed
    assert all(f"/{name}" in printed for name in kept)
    assert len(kept) == 1 or refused[1] != "/put"


@pytest.mark.parametrize(("largest", "status"), [("67108864", 0), ("67108865", 1)])
def test_store_without_parts(settings, liar, largest, status):
    """A store that takes nothing in parts is good enough where no file is so large."""
    settings = {**settings, "S3_ENDPOINT": liar(refuses=("PUT", "partNumber")), "MAX_TRACK_BYTES": largest}
    got, outcomes, printed = examine(settings)
    assert (got, failed(outcomes)) == (status, {"multipart"}), printed


def test_store_that_copies_anything(settings, liar, store_endpoint):
    """A store that copies whatever lies there by now is caught: what was checked would not be what is kept."""
    status, outcomes, printed = examine({**settings, "S3_ENDPOINT": liar(lies="copy")})
    assert (status, "conditional copy" in failed(outcomes)) == (1, True), printed


def test_no_downloads(settings, liar):
    """A store that gives nothing out is told of."""
    status, outcomes, printed = examine({**settings, "S3_ENDPOINT": liar(refuses=("GET", "disposition"))})
    assert (status, failed(outcomes)) == (1, {"presigned GET"}), printed


def test_no_cors(settings, liar):
    """Without an answer to a browser's preflight, the rule to set is printed."""
    status, outcomes, printed = examine({**settings, "S3_ENDPOINT": liar(cors=False)}, "--origin", ORIGIN)
    assert (status, failed(outcomes)) == (1, {f"CORS for {ORIGIN}"})
    assert '"AllowedOrigins"' in printed


@pytest.mark.parametrize(
    ("wrong", "first"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret-0123456789"}, "credentials"),
        ({"S3_BUCKET": "there-is-none", "CREATE_MISSING": ""}, "bucket"),
        ({"S3_PUBLIC_ENDPOINT": "http://127.0.0.1:9"}, "public endpoint"),
        ({"S3_ENDPOINT": "http://127.0.0.1:9"}, "store reachable"),
    ],
)
def test_something_is_missing(app, settings, wrong, first):
    """What is missing is named, with what to do; what depends on it is not tried."""
    assert app
    status, outcomes, printed = examine({**settings, **wrong})
    assert status == 1
    assert outcomes[first] == "fail", printed
    assert outcomes["presigned PUT"] == "skipped"
    assert "wrong-secret" not in printed


def test_no_tables(settings, tmp_path):
    """A database without tables is told apart from one that is away."""
    other = {**settings, "CREATE_MISSING": "", "DATABASE_URL": f"sqlite:///{tmp_path}/empty.db"}
    status, outcomes, printed = examine(other)
    assert (status, outcomes["database"]) == (1, "fail")
    assert "prepare" in printed


def test_clock(settings, monkeypatch):
    """A clock that is off is told."""
    monkeypatch.setattr("storage.doctor.time", lambda: time() + 300)
    status, outcomes, _ = examine(settings)
    assert (status, failed(outcomes)) == (1, {"clock"})


def test_fix(settings, bucket):
    """--fix sets the rule beside those that are there, and the store then holds both."""
    other = {"AllowedOrigins": ["https://other.example.com"], "AllowedMethods": ["GET"]}
    name = f"cors-{uuid4().hex[:8]}"
    bucket.s3.create_bucket(Bucket=name)
    bucket.s3.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [other]})
    settings = {**settings, "S3_BUCKET": name}
    status, outcomes, printed = examine(settings, "--origin", ORIGIN)
    assert (status, failed(outcomes)) == (1, {f"CORS for {ORIGIN}"}), printed
    status, outcomes, printed = examine(settings, "--origin", ORIGIN, "--fix")
    assert status == 0, printed
    rules = bucket.s3.get_bucket_cors(Bucket=name)["CORSRules"]
    assert [rule["AllowedOrigins"] for rule in rules] == [other["AllowedOrigins"], [ORIGIN]]


@pytest.mark.parametrize(
    ("origin", "methods", "headers", "well"),
    [
        ("*", "PUT", "*", True),
        (ORIGIN, "GET, put", "A, b", True),
        ("https://b.example.com", "PUT", "*", False),
        ("*", "GET", "*", False),
        ("*", "PUT", "a", False),
        ("", "", "", False),
    ],
)
def test_allows(origin, methods, headers, well):
    """A preflight's answer is read as a browser reads it."""
    said = {"Origin": origin, "Methods": methods, "Headers": headers}
    told = {f"Access-Control-Allow-{name}": value for name, value in said.items() if value}
    assert preflight_allows(200, told, ORIGIN, "PUT", ["a", "b"]) is well
    assert preflight_allows(403, told, ORIGIN, "PUT", ["a", "b"]) is False


def test_rules_stay():
    """A new rule goes behind those that are there."""
    once = add_rule(None, [ORIGIN])
    twice = add_rule(once, ["https://b.example.com"])
    assert twice.count(b"<CORSRule>") == 2
    assert twice.index(ORIGIN.encode()) < twice.index(b"https://b.example.com")


# --- Lifecycle rules --------------------------------------------------------------------------------------------------

RULES = lifecycle.staging_rules("uploads/incoming/x/", "x", 3)
THEIRS = (
    b'<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule><ID>theirs</ID>'
    b"<Filter><And><Prefix>a/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter><Status>Enabled</Status>"
    b"<Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition></Rule></LifecycleConfiguration>"
)


def test_lifecycle_rules_of_others_stay():
    """Merging keeps other rules to the letter, and replaces ours instead of repeating them."""
    merged = lifecycle.merge_rules(THEIRS, RULES)
    rule = THEIRS.partition(b"<Rule>")[2].partition(b"</Rule>")[0]
    assert rule in merged
    assert lifecycle.missing_rules(THEIRS, RULES) == RULES
    assert lifecycle.missing_rules(merged, RULES) == []
    again = lifecycle.merge_rules(merged, [{**RULES[0], "Status": "Disabled"}])
    assert again.count(b"<Rule>") == 3
    assert lifecycle.missing_rules(again, RULES) == RULES[:1]
    assert lifecycle.missing_rules(None, RULES) == RULES
    assert (
        lifecycle.missing_rules(merged.replace(b' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', b""), RULES) == []
    )


def test_fix_adds_lifecycle_rules(settings, tmp_path):
    """Without a rule for staging, doctor prints one; --fix adds it beside those that the bucket has."""
    store = start_store(tmp_path / "store")
    try:
        settings = {**settings, "S3_ENDPOINT": store.endpoint}
        create_app(settings)
        s3 = Bucket(store.endpoint).s3
        theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}}
        s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": [theirs]})
        status, outcomes, printed = examine(settings)
        assert (status, outcomes["lifecycle of staging"]) == (0, "fail")
        assert f'"Prefix": "{settings["S3_PREFIX"]}incoming/' in printed
        status, outcomes, printed = examine(settings, "--fix")
        assert (status, outcomes["lifecycle of staging"]) == (0, "pass"), printed
        rules = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
        assert len(rules) == 3
        assert rules[0] == theirs
    finally:
        store.stop(signal.SIGKILL)
