"""`flask doctor --conformance`, and checks that notice a store or a service which does not do what it should."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from flask import Flask

from app import create_app, loadbay
from storage.measuring import conformance, stores
from storage.measuring.conformance import CHECKS
from storage.measuring.flow import Flow, Violation
from storage.measuring.probing import Probe
from storage.s3.integrity import Proof
from storage.uploads import verification
from support.api import service_of
from support.database import query
from support.dialect_proxies import CredulousProxy, LastWriteWinsProxy, UnsealedPartsProxy
from support.fault_proxy import running
from support.flows import serve_flow
from support.store import BUCKET

pytestmark = pytest.mark.sqlite

KEY = "a-full-key-of-the-tests-0123456789"


@pytest.fixture
def settings(settings):
    """Settings with a prefix of the test's own, which shows objects that remain."""
    own = {"S3_PREFIX": f"{uuid4()}/", "API_KEYS": KEY, "MAX_COVER_BYTES": str(conformance.MAX_COVER_BYTES)}
    return {**settings, **own}


def remaining(bucket, settings):
    """Return what is stored below the prefix: keys of objects, and those of multipart uploads."""
    prefix = settings["S3_PREFIX"]
    uploads = bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads", [])
    return bucket.keys(prefix) + [upload["Key"] for upload in uploads]


def run(app, *options, group=()):
    """Run the command; return its exit status, the checks by name, the store's object, and its output."""
    result = app.test_cli_runner().invoke(args=[*group, "doctor", "--conformance", "--json", *options])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    checks = {line["name"].removeprefix("conformance: "): line for line in lines if "name" in line}
    return result.exit_code, checks, lines[-1].get("store"), result.output


# --- The command ------------------------------------------------------------------------------------------------------


def test_store_conforms_and_nothing_is_left(app, settings, bucket):
    """The real store passes every check, and neither the bucket nor the database has anything of them."""
    status, checks, store, output = run(app)
    assert status == 0, output
    assert list(store["conformance"]) == [*CHECKS, "cleanup"]
    assert {checks[name]["outcome"] for name in store["conformance"]} == {"pass"}, output
    assert store["conformance"]["cover"] == "pass: by a form"
    assert remaining(bucket, settings) == []
    assert query(app, "SELECT * FROM loadbay_upload_session") == []


def test_host_runs_the_checks_on_its_service(settings, monkeypatch):
    """In a host application, the command of a registration checks that registration's store."""
    monkeypatch.setattr(conformance, "CHECKS", {"plain upload": CHECKS["plain upload"]})
    host = Flask("host")
    host.register_blueprint(loadbay, name="uploads", url_prefix="/uploads", config=settings, cli_group="uploads")
    status, checks, _, output = run(host, group=("uploads",))
    assert (status, checks["plain upload"]["outcome"]) == (0, "pass"), output


def test_failed_check_is_reported_and_keeps_no_other(app, settings, bucket, monkeypatch):
    """A check that fails says why, the next one runs, and the command ends with status 1."""

    def fail(flow):
        upload = flow.register()
        flow.put(upload, conformance.BODY)
        raise Violation("other bytes than the uploaded ones")

    monkeypatch.setattr(conformance, "CHECKS", {"plain upload": fail, "cover": CHECKS["cover"]})
    status, checks, store, output = run(app)
    assert (status, checks["plain upload"]["outcome"], checks["cover"]["outcome"]) == (1, "fail", "pass"), output
    assert store["conformance"]["plain upload"] == "fail: other bytes than the uploaded ones"
    assert "report it" in checks["plain upload"]["advice"]
    assert remaining(bucket, settings) == []


@pytest.mark.parametrize("name", ["upload in parts", "cover"])
def test_interrupted_checks_leave_nothing(app, settings, bucket, monkeypatch, name):
    """Ctrl-C in the middle of a check removes what it has uploaded, and its parts."""

    def interrupt(flow):
        monkeypatch.setattr(flow, "expect_uploaded", interrupted)
        CHECKS[name](flow)

    def interrupted(*arguments):
        assert remaining(bucket, settings) != []
        raise KeyboardInterrupt

    monkeypatch.setattr(conformance, "CHECKS", {name: interrupt})
    result = app.test_cli_runner().invoke(args=["doctor", "--conformance"])
    assert result.exit_code == 1
    assert "Aborted" in result.output
    assert remaining(bucket, settings) == []


def test_interrupted_cleanup_is_finished(app, settings, bucket, monkeypatch):
    """Ctrl-C while the checks clean up does not leave the rest."""
    clean_up, interrupts = Flow.clean_up, [KeyboardInterrupt()]

    def interrupt(self, prefix):
        if interrupts:
            raise interrupts.pop()
        return clean_up(self, prefix)

    monkeypatch.setattr(conformance, "CHECKS", {"plain upload": CHECKS["plain upload"]})
    monkeypatch.setattr(Flow, "clean_up", interrupt)
    result = app.test_cli_runner().invoke(args=["doctor", "--conformance"])
    assert (result.exit_code, interrupts) == (1, [])
    assert remaining(bucket, settings) == []


def test_checks_are_skipped_on_a_store_that_is_not_usable(app, monkeypatch):
    """A check that fails, and that the service requires, keeps everything from being uploaded."""
    monkeypatch.setattr(Probe, "_ranges", lambda self: (False, "none", {}))
    status, checks, store, output = run(app)
    assert (status, checks["all"]["outcome"]) == (1, "skipped"), output
    assert store["conformance"] == {"all": "skipped: the checks above must pass first"}


# --- Checks that can fail ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxy_class", "name", "message"),
    [
        (LastWriteWinsProxy, "write-once upload", "accepts a second PUT"),
        (UnsealedPartsProxy, "upload in parts", "other bytes than the uploaded ones"),
        (CredulousProxy, "other bytes than a checksum", "accepts what it rejected when it was measured"),
    ],
)
def test_store_that_does_less_than_was_measured_is_noticed(
    settings, store_endpoint, store_abilities, proxy_class, name, message
):
    """A service that believes another measurement than the store bears out fails the check."""
    with running(proxy_class(store_endpoint)) as proxy:
        app = create_app({**settings, "S3_ENDPOINT": proxy.endpoint})
        with serve_flow(app, KEY, store_abilities) as flow, pytest.raises(Violation, match=message):
            CHECKS[name](flow)


def test_service_that_believes_what_it_has_not_read_is_noticed(settings, store_endpoint, monkeypatch):
    """On a store that compares no checksum, a service that reads nothing either calls other bytes `uploaded`."""
    with running(CredulousProxy(store_endpoint)) as proxy:
        app = create_app({**settings, "S3_ENDPOINT": proxy.endpoint})
        stores.learn(service_of(app))
        known, _ = stores.read(service_of(app))
        with serve_flow(app, KEY, known) as flow:
            assert "failed" in CHECKS["other bytes than a checksum"](flow)
            proven = Proof("sha256")
            monkeypatch.setattr(verification, "read_object", lambda *arguments: proven)
            with pytest.raises(Violation, match="uploaded instead of failed"):
                CHECKS["other bytes than a checksum"](flow)


def test_service_that_keeps_what_it_should_remove_is_noticed(app, service, store_abilities, monkeypatch):
    """A track that is cancelled or deleted must leave no object."""
    monkeypatch.setattr(service.bucket, "remove", lambda key: None)
    monkeypatch.setattr(service.bucket, "delete_objects", lambda keys: {})
    with serve_flow(app, KEY, store_abilities) as flow, pytest.raises(Violation, match="is still stored"):
        CHECKS["removal"](flow)


DOWNLOADS = [
    "plain upload", "noticed by a read", "declared size, type, checksum", "no audio", "write-once upload",
    "upload in parts", "wrong parts", "batch", "cover", "odd names", "removal",
]  # fmt: skip


@pytest.mark.parametrize("name", DOWNLOADS)
def test_changed_bytes_are_noticed(app, store_abilities, monkeypatch, name):
    """A check fails where a download has other bytes than were uploaded."""
    with serve_flow(app, KEY, store_abilities) as flow:
        send = flow.client.send

        def send_changed(method, url, **options):
            answer = send(method, url, **options)
            return answer._replace(body=answer.body[::-1]) if method == "GET" else answer

        monkeypatch.setattr(flow.client, "send", send_changed)
        with pytest.raises(Violation, match="other bytes than the uploaded ones"):
            CHECKS[name](flow)
