"""`flask doctor` against the real store, and against stores that break its promises."""

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
from support.dialect_proxies import PageProxy
from support.fake_store import Reply
from support.fake_store import fake_store as serve_answers
from support.fault_proxy import fault_proxy, running
from support.store import ADMIN, BUCKET, Bucket, start_store

pytestmark = pytest.mark.sqlite

ORIGIN = "https://app.example.com"


def run_doctor(settings, *options):
    """Run the command; return its exit status, the outcomes by check, and its output."""
    runner = create_app(settings).test_cli_runner()
    result = runner.invoke(args=["doctor", "--json", *options])
    checks = [json.loads(line) for line in result.stdout.splitlines() if line.startswith('{"name"')]
    return result.exit_code, {check["name"]: check["outcome"] for check in checks}, result.output


@pytest.fixture
def settings(settings):
    """Settings with a prefix of the test's own, which shows objects that remain."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


def test_real_store_passes_every_check(settings, bucket):
    """The real store passes every check, and no object remains in it."""
    status, outcomes, printed = run_doctor(settings, "--origin", ORIGIN)
    assert status == 0, printed
    assert outcomes.pop("lifecycle of staging") == "fail"
    assert set(outcomes.values()) == {"pass"}, printed
    assert len(outcomes) >= 19
    assert bucket.keys(settings["S3_PREFIX"]) == []
    assert "Uploads" not in bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=settings["S3_PREFIX"])


def test_prints_a_table_by_default(settings):
    """Without --json, each check is one line."""
    result = create_app(settings).test_cli_runner().invoke(args=["doctor"])
    assert result.exit_code == 0, result.output
    assert "pass" in result.output
    assert "POST policy: size enforced" in result.output


COPIED = b"<CopyObjectResult><ETag>&quot;0&quot;</ETag></CopyObjectResult>"
HOP_BY_HOP = ("content-length", "transfer-encoding", "connection", "content-encoding")


class FakeStore(BaseHTTPRequestHandler):
    """A proxy of the real store with one defect, chosen by the class attributes."""

    ignores: str = ""
    store: str = ""
    cors = True
    disconnects = ""
    rejects: tuple[str, str] = ("", "")

    def forward(self):
        if self.command == self.disconnects:
            return
        if self.command == self.rejects[0] and self.rejects[1] in self.path:
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
        if self.ignores == "copy" and "x-amz-copy-source" in self.headers and status == 412:
            status, content = 200, COPIED
        if self.command == self.ignores and 400 <= status < 500:
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

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_OPTIONS = forward

    def log_message(self, *_):
        """Write no log."""


@pytest.fixture
def fake_store(store_endpoint):
    """Start a store with a defect: `fake_store(ignores="PUT")` returns its endpoint."""
    servers = []

    def start(**defects):
        handler = type("Handler", (FakeStore,), {"store": store_endpoint, **defects})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def failed_checks(outcomes):
    """Return the names of the failed checks, except for the lifecycle rules, which the test bucket lacks."""
    return {name for name, outcome in outcomes.items() if outcome not in ("pass", "skipped")} - {LIFECYCLE}


def test_proxy_without_a_defect_passes(settings, fake_store):
    """The proxy itself changes nothing, so that the other tests show its defects."""
    status, outcomes, printed = run_doctor({**settings, "S3_ENDPOINT": fake_store()}, "--origin", ORIGIN)
    assert (status, failed_checks(outcomes)) == (0, set()), printed


def test_detects_ignored_signed_headers(settings, fake_store):
    """A store that accepts any PUT fails each check of signed headers."""
    status, outcomes, _ = run_doctor({**settings, "S3_ENDPOINT": fake_store(ignores="PUT")})
    assert status == 1
    # The response to a copy is read from its body, not from its status.
    assert failed_checks(outcomes) == {
        "signed size enforced", "signed type enforced", "signed checksum enforced", "write-once PUT",
        "signatures checked", "settings",
    }  # fmt: skip


def test_detects_an_ignored_post_policy(settings, fake_store):
    """A store that accepts any form is only a warning, unless COVER_UPLOAD=form demands it."""
    settings = {**settings, "S3_ENDPOINT": fake_store(ignores="POST")}
    status, outcomes, printed = run_doctor(settings)
    rules = "size enforced", "type enforced", "key enforced", "signature checked"
    policies = {f"POST policy: {rule}" for rule in rules}
    assert (status, failed_checks(outcomes)) == (0, policies)
    assert '"cover_upload": "put"' in printed
    status, outcomes, printed = run_doctor({**settings, "COVER_UPLOAD": "form"})
    assert (status, failed_checks(outcomes)) == (1, {*policies, "settings"})
    assert "COVER_UPLOAD=form does not fit the store" in printed


def test_reports_a_closed_connection(settings, fake_store):
    """A store that closes the connection fails that check only, and the others are run."""
    status, outcomes, printed = run_doctor(
        {**settings, "S3_ENDPOINT": fake_store(disconnects="OPTIONS")}, "--origin", ORIGIN
    )
    assert (status, failed_checks(outcomes)) == (1, {f"CORS for {ORIGIN}"}), printed
    assert outcomes["cleanup"] == "pass"


@pytest.mark.parametrize("origins", ["", "*"])
def test_skips_cors_without_an_origin(settings, origins):
    """Without an origin, the CORS check is skipped, and the option is shown."""
    status, outcomes, printed = run_doctor({**settings, "CORS_ORIGINS": origins})
    assert (status, outcomes["CORS"]) == (0, "skipped")
    assert "--origin" in printed


@pytest.mark.parametrize(
    ("rejected", "expected"),
    [(("DELETE", "/put"), ["put"]), (("DELETE", ""), ["put", "copy"])],
)
def test_reports_objects_that_cannot_be_deleted(settings, fake_store, bucket, rejected, expected):
    """Objects that the store does not delete are reported by key."""
    status, outcomes, printed = run_doctor({**settings, "S3_ENDPOINT": fake_store(rejects=rejected)})
    remaining = {key.rpartition("/")[2] for key in bucket.keys(settings["S3_PREFIX"])}
    assert remaining >= set(expected)
    assert (status, outcomes["cleanup"]) == (1, "fail"), printed
    assert all(f"/{name}" in printed for name in remaining)
    assert len(remaining) == 1 or rejected[1] != "/put"


def test_names_the_permission_that_is_missing(settings, fake_store):
    """A request that the store rejects for this key is named, with the permission that it needs."""
    status, outcomes, printed = run_doctor({**settings, "S3_ENDPOINT": fake_store(rejects=("DELETE", "uploadId"))})
    assert (status, failed_checks(outcomes)) == (0, {"multipart"}), printed
    assert "AbortMultipartUpload: AccessDenied (permission s3:AbortMultipartUpload)" in printed


@pytest.mark.parametrize(("largest", "status"), [("5368709120", 0), ("5368709121", 1)])
def test_multipart_is_required_for_large_tracks_only(settings, fake_store, largest, status):
    """A store without multipart upload suffices if no track is that large."""
    settings = {**settings, "S3_ENDPOINT": fake_store(rejects=("PUT", "partNumber")), "MAX_TRACK_BYTES": largest}
    exit_status, outcomes, printed = run_doctor(settings)
    assert (exit_status, failed_checks(outcomes)) == (
        status,
        {"multipart", "finished upload sealed", "multipart checksums"},
    ), printed


def test_detects_ignored_copy_conditions(settings, fake_store, store_endpoint):
    """A store that ignores the condition of a copy might copy other bytes than were verified: copies are inspected."""
    status, outcomes, printed = run_doctor({**settings, "S3_ENDPOINT": fake_store(ignores="copy")})
    assert (status, failed_checks(outcomes)) == (0, {"conditional copy"}), printed
    assert '"trusts_copy": false' in printed


def test_detects_rejected_downloads(settings, fake_store):
    """A store that rejects presigned downloads fails."""
    status, outcomes, printed = run_doctor({**settings, "S3_ENDPOINT": fake_store(rejects=("GET", "disposition"))})
    assert (status, failed_checks(outcomes)) == (1, {"presigned GET"}), printed


def test_prints_the_missing_cors_rule(settings, fake_store):
    """If a preflight is not allowed, the required CORS rule is printed."""
    status, outcomes, printed = run_doctor({**settings, "S3_ENDPOINT": fake_store(cors=False)}, "--origin", ORIGIN)
    assert (status, failed_checks(outcomes)) == (1, {f"CORS for {ORIGIN}"})
    assert '"AllowedOrigins"' in printed


@pytest.mark.parametrize(
    ("wrong", "first"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret-0123456789"}, "credentials"),
        ({"S3_BUCKET": "there-is-none", "CREATE_MISSING": "", **ADMIN}, "bucket"),
        ({"S3_PUBLIC_ENDPOINT": "http://127.0.0.1:9"}, "public endpoint"),
        ({"S3_ENDPOINT": "http://127.0.0.1:9"}, "store reachable"),
    ],
)
def test_names_the_first_failure(app, settings, wrong, first):
    """The first failure is reported with its solution, and the checks that depend on it are skipped."""
    assert app
    status, outcomes, printed = run_doctor({**settings, **wrong})
    assert status == 1
    assert outcomes[first] == "fail", printed
    assert outcomes["presigned PUT"] == "skipped"
    assert "wrong-secret" not in printed


def test_missing_tables_fail(settings, tmp_path):
    """A database without tables is reported as such."""
    other = {**settings, "CREATE_MISSING": "", "DATABASE_URL": f"sqlite:///{tmp_path}/empty.db"}
    status, outcomes, printed = run_doctor(other)
    assert (status, outcomes["database"]) == (1, "fail")
    assert "prepare" in printed


def test_detects_clock_skew(settings, monkeypatch):
    """A clock that is off by minutes fails."""
    monkeypatch.setattr("storage.measuring.stores.time", lambda: time() + 300)
    status, outcomes, _ = run_doctor(settings)
    assert (status, failed_checks(outcomes)) == (1, {"clock"})


def test_fix_adds_the_cors_rule(settings, bucket):
    """--fix adds the CORS rule to the existing ones."""
    other = {"AllowedOrigins": ["https://other.example.com"], "AllowedMethods": ["GET"]}
    name = f"cors-{uuid4().hex[:8]}"
    bucket.s3.create_bucket(Bucket=name)
    bucket.s3.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [other]})
    settings = {**settings, "S3_BUCKET": name, **ADMIN}
    status, outcomes, printed = run_doctor(settings, "--origin", ORIGIN)
    assert (status, failed_checks(outcomes)) == (1, {f"CORS for {ORIGIN}"}), printed
    status, outcomes, printed = run_doctor(settings, "--origin", ORIGIN, "--fix")
    assert status == 0, printed
    rules = bucket.s3.get_bucket_cors(Bucket=name)["CORSRules"]
    assert [rule["AllowedOrigins"] for rule in rules] == [other["AllowedOrigins"], [ORIGIN]]


@pytest.mark.parametrize(
    ("origin", "methods", "headers", "allowed"),
    [
        ("*", "PUT", "*", True),
        (ORIGIN, "GET, put", "A, b", True),
        ("https://b.example.com", "PUT", "*", False),
        ("*", "GET", "*", False),
        ("*", "PUT", "a", False),
        ("", "", "", False),
    ],
)
def test_reads_a_preflight_as_a_browser_does(origin, methods, headers, allowed):
    """A preflight's response is evaluated as by a browser."""
    values = {"Origin": origin, "Methods": methods, "Headers": headers}
    response_headers = {f"Access-Control-Allow-{name}": value for name, value in values.items() if value}
    assert preflight_allows(200, response_headers, ORIGIN, "PUT", ["a", "b"]) is allowed
    assert preflight_allows(403, response_headers, ORIGIN, "PUT", ["a", "b"]) is False


def test_new_rule_follows_the_existing_ones():
    """A new CORS rule is added after the existing ones."""
    first = add_rule(None, [ORIGIN])
    both = add_rule(first, ["https://b.example.com"])
    assert both.count(b"<CORSRule>") == 2
    assert both.index(ORIGIN.encode()) < both.index(b"https://b.example.com")


# --- Causes -----------------------------------------------------------------------------------------------------------


def advice_of(printed, name):
    """Return detail and advice of a check in the command's output."""
    checks = [json.loads(line) for line in printed.splitlines() if line.startswith('{"name"')]
    return next(f"{check['detail']} -> {check['advice']}" for check in checks if check["name"] == name)


CAUSES = {
    "secret": ({"AWS_SECRET_ACCESS_KEY": "wrong-secret-0123456789"}, "credentials", "AccessDenied"),
    "key": ({"AWS_ACCESS_KEY_ID": "no-such-key"}, "credentials", "AccessDenied"),
    "host": ({"S3_ENDPOINT": "http://no-such-host.invalid"}, "store reachable", "The host's name is not known here"),
    "port": ({"S3_ENDPOINT": "http://127.0.0.1:9"}, "store reachable", "Nothing listens there"),
    "public host": ({"S3_PUBLIC_ENDPOINT": "http://no-such-host.invalid"}, "public endpoint", "S3_PUBLIC_ENDPOINT"),
}


@pytest.mark.parametrize(("wrong", "check", "text"), CAUSES.values(), ids=CAUSES)
def test_each_cause_has_its_own_advice(app, settings, wrong, check, text):
    """A wrong key, host or port is told apart, with the store's own code or the setting to correct."""
    assert app
    status, outcomes, printed = run_doctor({**settings, **wrong, "CREATE_MISSING": ""})
    assert (status, outcomes[check]) == (1, "fail"), printed
    assert text in advice_of(printed, check)


def test_tls_is_told_from_an_outage(app, settings):
    """An endpoint that speaks no TLS gets advice about http:// and https://."""
    wrong = {"S3_ENDPOINT": settings["S3_ENDPOINT"].replace("http://", "https://"), "CREATE_MISSING": ""}
    status, _, printed = run_doctor({**settings, **wrong})
    assert (status, "TLS fails" in advice_of(printed, "store reachable")) == (1, True), printed


def page_of_a_proxy(_request):
    """Answer as a proxy does that knows no such host."""
    return Reply(404, b"<html>no such site</html>", {"Content-Type": "text/html", "Server": "a-proxy"})


def test_proxy_in_place_of_the_store_is_named(app, settings):
    """A page of another server is no store."""
    with serve_answers(page_of_a_proxy) as (bucket, _):
        wrong = {"S3_PUBLIC_ENDPOINT": bucket._settings.s3_endpoint}
        status, outcomes, printed = run_doctor({**settings, **wrong})
    assert (status, outcomes["public endpoint"]) == (1, "fail"), printed
    assert "a-proxy" in advice_of(printed, "public endpoint")
    assert "A proxy or another server answers" in advice_of(printed, "public endpoint")


def test_store_with_a_page_for_what_is_not_signed_is_a_store(settings, store_endpoint):
    """A page at the root says nothing, where a signed request is answered as by S3."""
    with running(PageProxy(store_endpoint)) as proxy:
        status, outcomes, printed = run_doctor({**settings, "S3_ENDPOINT": proxy.endpoint})
    assert (status, failed_checks(outcomes)) == (0, set()), printed


def test_region_is_followed_and_named(app, settings):
    """A bucket in another region is found, and S3_REGION is what has to be set."""

    def answer(request):
        if "/eu-west-1/" in request.headers.get("Authorization", ""):
            return Reply(200)
        return Reply(301, b"", {"x-amz-bucket-region": "eu-west-1"}) if request.path != "/" else Reply(403)

    with serve_answers(answer) as (bucket, _):
        endpoint = bucket._settings.s3_endpoint
        status, outcomes, printed = run_doctor({**settings, "S3_ENDPOINT": endpoint, "CREATE_MISSING": ""})
    assert (status, outcomes["region"], outcomes["presigned PUT"]) == (1, "fail", "skipped"), printed
    assert "Set S3_REGION=eu-west-1" in advice_of(printed, "region")


@pytest.mark.parametrize("method", ["DELETE", "GET"])
def test_missing_permission_is_named(settings, fake_store, method):
    """A request that is denied is shown with S3's name for the permission that it needs."""
    part = {"DELETE": "uploadId", "GET": "uploads"}[method]
    _, _, printed = run_doctor({**settings, "S3_ENDPOINT": fake_store(rejects=(method, part))})
    check, permission = {
        "DELETE": ("multipart", "s3:AbortMultipartUpload"),
        "GET": ("list uploads", "s3:ListBucketMultipartUploads"),
    }[method]
    assert permission in advice_of(printed, check)


def test_interrupted_command_leaves_nothing(settings, bucket, monkeypatch):
    """Ctrl-C while a check is printed ends the command, and what was written is removed."""

    def interrupt(check):
        if check.name == "write-once PUT":
            raise KeyboardInterrupt

    monkeypatch.setattr("commands.doctor._print_check", interrupt)
    result = create_app(settings).test_cli_runner().invoke(args=["doctor"])
    assert result.exit_code == 1
    assert bucket.keys(settings["S3_PREFIX"]) == []


# --- Lifecycle rules --------------------------------------------------------------------------------------------------

RULES = lifecycle.staging_rules("uploads/incoming/x/", "x", 3)
THEIRS = (
    b'<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule><ID>theirs</ID>'
    b"<Filter><And><Prefix>a/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter><Status>Enabled</Status>"
    b"<Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition></Rule></LifecycleConfiguration>"
)


def test_keeps_the_lifecycle_rules_of_others():
    """Merging keeps other rules unchanged, and replaces ours instead of repeating them."""
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


FORMS = [
    b"<Filter><Prefix>%s</Prefix></Filter>",
    b"<Filter><And><Prefix>%s</Prefix></And></Filter>",
    b"<Prefix>%s</Prefix>",
    b"<Filter></Filter><Prefix>%s</Prefix>",
]


@pytest.mark.parametrize("form", FORMS)
def test_finds_rules_in_each_form_of_their_prefix(form):
    """A store may tell a rule's prefix in another form than it was set in."""
    merged, prefix = lifecycle.merge_rules(None, RULES), RULES[0]["Filter"]["Prefix"].encode()
    stored = merged.replace(FORMS[0] % prefix, form % prefix)
    assert lifecycle.missing_rules(stored, RULES) == []
    assert lifecycle.missing_rules(stored.replace(prefix, prefix + b"other/"), RULES) == RULES


def test_fix_waits_until_the_store_tells_the_rules(settings, store_endpoint):
    """A store that answers with the earlier rules for a moment is asked again."""
    name, answers = f"rules-{uuid4().hex[:8]}", []
    Bucket(store_endpoint).s3.create_bucket(Bucket=name)
    with fault_proxy(store_endpoint) as proxy:

        def tell_earlier_rules(forward):
            answers.append(forward())
            successes = sum(answer.status == 200 for answer in answers)
            return answers[0] if successes <= 3 else answers[-1]

        proxy.faults["GetObject", "lifecycle="] = tell_earlier_rules
        settings = {**settings, "S3_ENDPOINT": proxy.endpoint, "S3_BUCKET": name, **ADMIN}
        status, outcomes, printed = run_doctor(settings, "--fix")
    assert (status, outcomes["lifecycle of staging"]) == (0, "pass"), printed


def test_fix_adds_lifecycle_rules(settings, tmp_path):
    """Without a rule for staging, doctor prints one, and --fix adds it to the existing ones."""
    store = start_store(tmp_path / "store")
    try:
        settings = {**settings, "S3_ENDPOINT": store.endpoint}
        create_app(settings)
        s3 = Bucket(store.endpoint).s3
        theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}}
        s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": [theirs]})
        status, outcomes, printed = run_doctor(settings)
        assert (status, outcomes["lifecycle of staging"]) == (0, "fail")
        assert f'"Prefix": "{settings["S3_PREFIX"]}incoming/' in printed
        status, outcomes, printed = run_doctor(settings, "--fix")
        assert (status, outcomes["lifecycle of staging"]) == (0, "pass"), printed
        rules = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
        assert len(rules) == 3
        assert rules[0] == theirs
    finally:
        store.stop(signal.SIGKILL)
