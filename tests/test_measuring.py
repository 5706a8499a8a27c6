"""Measurement of the store, the ways that are chosen by it, and what the service says of a store that does not suit."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from io import BytesIO
from uuid import uuid4

import pytest

from app import create_app
from storage.errors import StorageRejected
from storage.measuring import probing, stores
from storage.measuring.probing import Probe
from storage.s3.abilities import Abilities
from storage.s3.choices import UNSIGNED, WRITE_ONCE, choose, contradictions
from storage.service import Service
from storage.settings import Settings
from storage.uploads import inspection, tracks, verification
from storage.worker import Worker
from support.api import assert_error, complete, new_session, new_track, service_of
from support.database import query
from support.dialect_proxies import (
    CredulousProxy,
    EtaglessProxy,
    LastWriteWinsProxy,
    UnconditionalCopyProxy,
    UnlistableProxy,
    UnsealedPartsProxy,
)
from support.fault_proxy import Answer, running
from support.sample_files import checksum, png, wav
from support.store import BUCKET, post_cover, put
from support.worker import notice_once

PNG = png()
LEARN_IF_UNKNOWN = stores.learn_if_unknown
"""The function itself, before a fixture replaces it."""

SEAWEEDFS = Abilities(
    signatures=True, future_urls=True, signed_size=True, signed_type=True,
    enforced_checksums=("sha256", "crc64nvme", "crc32c"), checksum_mode=True,
    reported_checksums=("sha256", "crc64nvme", "crc32c"), whole_checksums=("crc64nvme", "crc32c"),
    plain_put=True, conditional_put=True, post_policy=True, enforced_policy=True, etags=True, copy=True,
    conditional_copy=True,
    copy_keeps_etag=True, copy_replaces_headers=True, keeps_types=True, ranges=True, multipart=True,
    sealed_parts=True, upload_listing=True, object_listing=True, batch_delete=True, versions=False,
)  # fmt: skip


@pytest.fixture
def settings(settings):
    """Settings with a prefix of the test's own, which shows objects that remain."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


def load(**values):
    """Load settings."""
    return Settings.load({"S3_ENDPOINT": "http://127.0.0.1:1", "S3_BUCKET": BUCKET, **values})


@pytest.fixture
def make_measured(settings):
    """Create an application in front of a proxy, after the store behind it was measured through it."""

    def make(proxy, **other):
        app = create_app({**settings, "S3_ENDPOINT": proxy.endpoint, **other})
        stores.learn(service_of(app))
        return app

    return make


# --- Measurement ------------------------------------------------------------------------------------------------------


def test_measures_every_ability_of_the_store(store_abilities):
    """The run's store has each ability that it is known to have."""
    assert replace(store_abilities, clock_skew=None) == SEAWEEDFS


def test_prepare_records_the_abilities_and_leaves_nothing(app, settings, bucket):
    """`flask prepare` measures the store, keeps the outcome with its time, and removes what it has written."""
    query(app, "DELETE FROM loadbay_store")
    result = app.test_cli_runner().invoke(args=["prepare"])
    assert result.exit_code == 0, result.output
    ((endpoint, name, abilities),) = query(app, "SELECT endpoint, bucket, abilities FROM loadbay_store")
    assert (endpoint, name) == (settings["S3_ENDPOINT"], BUCKET)
    assert replace(Abilities.from_json(json.loads(abilities)), clock_skew=None) == SEAWEEDFS
    assert bucket.keys(settings["S3_PREFIX"]) == []
    assert "Uploads" not in bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=settings["S3_PREFIX"])
    assert "Nothing to do" not in result.output


def test_first_start_measures_the_store_and_later_ones_do_not(settings, monkeypatch):
    """CREATE_MISSING measures a store of which nothing is known, and no other."""
    monkeypatch.setattr(stores, "learn_if_unknown", LEARN_IF_UNKNOWN)
    abilities, _ = stores.read(service_of(create_app(settings)))
    assert abilities.conditional_put is True
    monkeypatch.setattr(stores, "measure", lambda *args, **kwargs: pytest.fail("The store was measured again."))
    create_app(settings)


@pytest.mark.parametrize("step", ["_size", "_multipart", "_list_objects"])
def test_interrupted_measurement_leaves_nothing(service, settings, bucket, monkeypatch, step):
    """Ctrl-C in the middle of a measurement removes what was written, and records nothing."""

    def interrupt(self):
        self._signed_put("interrupted", b"x", {})
        self.uploads.append((self._key("u"), self.bucket.create_multipart_upload(self._key("u"), None)))
        raise KeyboardInterrupt

    monkeypatch.setattr(Probe, step, interrupt)
    before = stores.read(service)
    with pytest.raises(KeyboardInterrupt):
        stores.learn(service)
    assert stores.read(service) == before
    assert bucket.keys(settings["S3_PREFIX"]) == []
    assert "Uploads" not in bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=settings["S3_PREFIX"])


def test_interrupted_cleanup_is_finished(service, settings, bucket, monkeypatch):
    """Ctrl-C while the measurement cleans up does not leave the rest."""
    remove, interrupts = Probe._remove, [KeyboardInterrupt()]

    def interrupt(self, key):
        if interrupts:
            raise interrupts.pop()
        return remove(self, key)

    monkeypatch.setattr(Probe, "_remove", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stores.learn(service)
    assert bucket.keys(settings["S3_PREFIX"]) == []


def test_measurement_that_is_left_early_leaves_nothing(service, settings, bucket):
    """A consumer that stops has the rest cleaned up at once."""
    observations = stores.measure(service)
    for _ in range(12):
        next(observations)
    assert bucket.keys(settings["S3_PREFIX"]) != []
    observations.close()
    assert bucket.keys(settings["S3_PREFIX"]) == []


@pytest.fixture
def left_behind(service, settings, bucket):
    """Folders that three killed measurements left: of this deployment, of another one, and of one without a name."""
    folders = [f"{settings['S3_PREFIX']}.doctor/{name}" for name in (f"{service.deployment_id}/x/", "other/x/", "x/")]
    for folder in folders:
        bucket.s3.put_object(Bucket=BUCKET, Key=f"{folder}put", Body=b"x")
        bucket.s3.create_multipart_upload(Bucket=BUCKET, Key=f"{folder}parts")
    return folders


def uploads_below(bucket, prefix):
    """Return the keys of unfinished multipart uploads."""
    listing = bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    return {upload["Key"] for upload in listing.get("Uploads", [])}


@pytest.mark.parametrize("age", [0, probing.LEFT_BEHIND_AFTER + 60])
def test_measurement_removes_what_a_killed_one_left(service, settings, bucket, left_behind, monkeypatch, age):
    """Only what is this deployment's own, and older than any measurement, is removed: objects and uploads."""
    monkeypatch.setattr(probing, "clock_now", lambda: int(time.time()) + age)
    probe = probing.Probe(service.settings, owner=service.deployment_id)
    monkeypatch.setattr(probe, "_steps", list)
    assert [observation.ok for observation in probe.measure()] == [True]
    remaining = left_behind[1:] if age else left_behind
    assert set(bucket.keys(settings["S3_PREFIX"])) == {f"{folder}put" for folder in remaining}
    assert uploads_below(bucket, settings["S3_PREFIX"]) == {f"{folder}parts" for folder in remaining}


def test_killed_measurement_is_cleaned_up_by_the_next(service, settings, bucket, monkeypatch):
    """A measurement writes below its deployment's name, where the next one finds it."""
    observations = stores.measure(service)
    for _ in range(12):
        next(observations)
    left = bucket.keys(f"{settings['S3_PREFIX']}.doctor/{service.deployment_id}/")
    assert left == bucket.keys(settings["S3_PREFIX"]) != []
    with monkeypatch.context() as patch:
        # As after SIGKILL.
        patch.setattr(probing.Probe, "clean_up", lambda self: [])
        observations.close()
    monkeypatch.setattr(probing, "LEFT_BEHIND_AFTER", -60)
    stores.learn(service)
    assert bucket.keys(settings["S3_PREFIX"]) == []


def test_unknown_and_missing_abilities_are_read_as_unknown():
    """An ability that only another release knows is left out, and one that is missing is unknown."""
    known = Abilities.from_json({"copy": True, "teleports": True, "enforced_checksums": ["crc32c", "md5"]})
    assert known == Abilities(copy=True, enforced_checksums=("crc32c",))
    assert Abilities.from_json(json.loads(json.dumps(SEAWEEDFS.json()))) == SEAWEEDFS


def test_worker_measures_weekly_and_logs_changes(service, clock, caplog):
    """A store that has changed is noticed within a week, and the change is logged."""
    stores.save(service, replace(SEAWEEDFS, conditional_put=False, batch_delete=None))
    caplog.set_level(logging.WARNING)
    worker = Worker([service], notices=False)
    try:
        assert "conditional_put" not in run_jobs(worker, caplog)
        clock.forward(stores.MEASURE_INTERVAL + 1)
        text = run_jobs(worker, caplog)
    finally:
        worker.stop()
        worker.run()
    assert "conditional_put: False, now True" in text
    assert "batch_delete: None, now True" in text
    assert "etags" not in text
    assert service.choices.write_once


def run_jobs(worker, caplog):
    """Let a worker run the jobs that are due, and return what was logged."""
    worker.next_job_poll = 0
    worker.step(0)
    for thread in worker.job_threads.values():
        thread.join()
    return caplog.text


# --- Choices ----------------------------------------------------------------------------------------------------------


def test_safe_ways_are_chosen_for_an_unknown_store():
    """Of a store of which nothing is known, nothing is believed, and no setting changes that."""
    for settings in (load(), load(WRITE_ONCE_PUT="1", COVER_UPLOAD="form", CHECKSUM_HEADERS="1")):
        chosen = choose(settings, None)
        assert (chosen.write_once, chosen.cover_upload, chosen.signed_checksums) == (False, "relay", ())
        assert (chosen.trusts_copy, chosen.asks_checksums, chosen.trusted_checksums) == (False, False, ())


CHOICES = [
    ({}, {}, {"write_once": True, "cover_upload": "form", "trusts_copy": True}),
    ({"WRITE_ONCE_PUT": "0"}, {}, {"write_once": False, "distrusts_write_once": True}),
    ({"CHECKSUM_HEADERS": "0"}, {}, {"signed_checksums": (), "trusted_checksums": (), "asks_checksums": False}),
    ({"COVER_UPLOAD": "put"}, {}, {"cover_upload": "put"}),
    ({"COVER_UPLOAD": "relay"}, {}, {"cover_upload": "relay"}),
    ({}, {"enforced_policy": False}, {"cover_upload": "put"}),
    ({}, {"post_policy": None}, {"cover_upload": "put"}),
    ({}, {"enforced_policy": False, "signed_type": False}, {"cover_upload": "relay"}),
    ({}, {"enforced_policy": False, "plain_put": False}, {"cover_upload": "relay"}),
    ({}, {"enforced_policy": False, "plain_put": None}, {"cover_upload": "relay"}),
    ({}, {"conditional_put": False}, {"write_once": False, "distrusts_write_once": True}),
    ({}, {"conditional_put": None}, {"write_once": False, "distrusts_write_once": False}),
    ({}, {"enforced_checksums": ("crc32c",)}, {"signed_checksums": ("crc32c",), "trusted_checksums": ("crc32c",)}),
    ({}, {"enforced_checksums": ()}, {"trusted_checksums": ()}),
    ({}, {"reported_checksums": ("sha256",)}, {"trusted_checksums": ("sha256",)}),
    ({}, {"checksum_mode": False}, {"asks_checksums": False, "trusted_checksums": (), "whole_checksums": ()}),
    ({}, {"etags": False}, {"trusts_copy": False}),
    ({}, {"conditional_copy": False}, {"trusts_copy": False}),
    ({}, {"copy_replaces_headers": None}, {"trusts_copy": False}),
    ({}, {"object_listing": False}, {"lists_objects": False}),
    ({}, {"batch_delete": False}, {"batch_delete": False}),
    ({}, {"multipart": False}, {"multipart": False}),
    ({}, {"sealed_parts": False}, {"multipart": False}),
]


@pytest.mark.parametrize(("settings", "abilities", "expected"), CHOICES)
def test_choices_follow_the_abilities(settings, abilities, expected):
    """Each way follows what was measured, and a setting can always choose the safer one."""
    chosen = choose(load(**settings), replace(SEAWEEDFS, **abilities))
    assert {name: getattr(chosen, name) for name in expected} == expected


CONTRADICTIONS = [
    ({}, {"signatures": False}, "does not check signatures"),
    ({}, {"copy": False}, "cannot copy"),
    ({}, {"ranges": False}, "no ranges"),
    ({}, {"region": "eu-west-1"}, "Set S3_REGION=eu-west-1"),
    ({"WRITE_ONCE_PUT": "1"}, {"conditional_put": False}, "WRITE_ONCE_PUT=1 does not fit"),
    ({"CHECKSUM_HEADERS": "1"}, {"enforced_checksums": ()}, "CHECKSUM_HEADERS=1 does not fit"),
    ({"COVER_UPLOAD": "form"}, {"enforced_policy": False}, "COVER_UPLOAD=form does not fit"),
    ({"COVER_UPLOAD": "put"}, {"signed_size": False}, "COVER_UPLOAD=put does not fit"),
    ({"COVER_UPLOAD": "put"}, {"plain_put": False}, "COVER_UPLOAD=put does not fit"),
]


@pytest.mark.parametrize(("settings", "abilities", "sentence"), CONTRADICTIONS)
def test_settings_that_the_store_does_not_bear_out_are_refused(settings, abilities, sentence):
    """A setting that the store contradicts gets a sentence; the same setting fits a store that has the ability."""
    (problem,) = contradictions(load(**settings), replace(SEAWEEDFS, **abilities))
    assert sentence in problem
    assert contradictions(load(**settings), SEAWEEDFS) == []


def test_unsigned_store_is_accepted_for_tests_only():
    """ALLOW_UNSIGNED_STORE accepts a store that does not check signatures."""
    known = replace(SEAWEEDFS, signatures=False)
    assert contradictions(load(ALLOW_UNSIGNED_STORE="1"), known) == []


def test_unfit_settings_are_refused_by_requests_and_commands(make_client, app, caplog):
    """With settings that the store contradicts, requests are 503, and commands end with the sentence."""
    client = make_client(WRITE_ONCE_PUT="1")
    stores.save(service_of(client.application), replace(SEAWEEDFS, conditional_put=False))
    response = client.post("/v1/upload_session", json={"collection_id": str(uuid4())})
    assert_error(response, 503, "storage_rejected", "'flask --app app doctor'")
    assert WRITE_ONCE in caplog.text
    for command in ("worker", "sweep"):
        result = client.application.test_cli_runner().invoke(args=[command])
        assert (result.exit_code, WRITE_ONCE in result.output) == (1, True), result.output
    assert client.get("/healthz").status_code == 200
    assert app.test_client().post("/v1/upload_session", json={"collection_id": str(uuid4())}).status_code == 200


def test_prepare_refuses_a_store_that_does_not_check_signatures(app, monkeypatch):
    """`flask prepare` says why the store is refused, and ends with status 1."""
    monkeypatch.setattr(Probe, "_signatures", lambda self: (False, "", {}))
    result = app.test_cli_runner().invoke(args=["prepare"])
    assert (result.exit_code, UNSIGNED in result.output) == (1, True), result.output


def test_choices_are_read_once_a_minute(client, service, monkeypatch):
    """The abilities are read with one query, by the first request of a process and then once a minute."""
    statements = []
    execute = service.execute
    monkeypatch.setattr(service, "execute", lambda sql, params: statements.append(sql) or execute(sql, params))
    for _ in range(3):
        new_session(client)
    assert len([sql for sql in statements if "loadbay_store" in sql]) == 1
    service.expire_choices()
    new_session(client)
    assert len([sql for sql in statements if "loadbay_store" in sql]) == 2


WRITTEN = [
    {"S3_TAGGING": "team=audio"},
    {"S3_SSE": "AES256"},
    {"S3_EXPECTED_BUCKET_OWNER": "111122223333"},
    {"S3_IF_NONE_MATCH": "1"},
    {"S3_REGION": "eu-west-1"},
    {"S3_PUBLIC_ENDPOINT": "http://127.0.0.1:9"},
]


@pytest.mark.parametrize("changed", WRITTEN, ids=str)
def test_nothing_is_relied_on_once_settings_have_changed(app, settings, caplog, changed):
    """With other headers than those of the measurement only what the store lacks is known, and the log says so once."""
    stores.save(service_of(app), replace(SEAWEEDFS, batch_delete=False))
    service = Service(Settings.load({**settings, **changed}))
    for _ in range(2):
        service.expire_choices()
        service.refresh_choices()
    chosen = service.choices
    assert (chosen.cover_upload, chosen.write_once, chosen.trusts_copy) == ("relay", False, False)
    assert (chosen.signed_checksums, chosen.trusted_checksums, chosen.batch_delete) == ((), (), False)
    assert caplog.text.count("have changed since it was measured") == 1
    service.close()


def test_demands_of_settings_are_not_refused_before_the_store_is_measured_again(app, settings):
    """A setting that the store bore out before is no contradiction only because another one has changed."""
    service = Service(Settings.load({**settings, "COVER_UPLOAD": "form", "CHECKSUM_HEADERS": "1", "S3_SSE": "AES256"}))
    service.refresh_choices()
    assert (service.choices.cover_upload, service.problems) == ("relay", [])
    service.close()


def test_store_that_checks_no_signatures_stays_refused(app, settings):
    """A missing ability holds with other settings, too."""
    stores.save(service_of(app), replace(SEAWEEDFS, signatures=False))
    service = Service(Settings.load({**settings, "S3_SSE": "AES256"}))
    with pytest.raises(StorageRejected):
        service.refresh_choices()
    service.close()


def test_settings_that_no_request_depends_on_change_nothing(app, settings):
    """A change of the other settings leaves the measurement valid."""
    service = Service(Settings.load({**settings, "SESSION_TTL": "120", "S3_STORAGE_CLASS": "STANDARD_IA"}))
    service.refresh_choices()
    assert (service.choices.cover_upload, stores.is_current(service)) == ("form", True)
    service.close()


def test_first_start_measures_again_with_other_settings(settings, monkeypatch):
    """CREATE_MISSING measures a store again whose settings have changed, and reports no change of the store."""
    create_app(settings)
    monkeypatch.setattr(stores, "learn_if_unknown", LEARN_IF_UNKNOWN)
    service = service_of(create_app({**settings, "S3_TAGGING": "team=audio"}))
    assert stores.is_current(service)
    service.refresh_choices()
    assert service.choices.trusts_copy


def test_worker_measures_at_once_with_other_settings(app, settings, caplog):
    """A worker that starts with other settings measures the store again, and other processes follow."""
    caplog.set_level(logging.WARNING)
    service = Service(Settings.load({**settings, "S3_SSE": "AES256"}))
    worker = Worker([service], notices=False)
    try:
        run_jobs(worker, caplog)
    finally:
        worker.stop()
        worker.run()
    assert stores.is_current(service)
    assert service.choices.cover_upload == "form"
    assert "The store has changed" not in caplog.text
    service.close()


def test_another_process_learns_of_a_change(client, service):
    """A worker's measurement reaches the other processes with their next reading."""
    new_session(client)
    other = create_app({**vars_of(service)})
    stores.save(service_of(other), replace(SEAWEEDFS, conditional_put=False))
    assert service.choices.write_once
    service.expire_choices()
    new_session(client)
    assert not service.choices.write_once


def vars_of(service):
    """Return the settings of a service by the names of the environment."""
    names = ("s3_endpoint", "s3_bucket", "s3_prefix", "aws_access_key_id", "aws_secret_access_key", "database_url")
    return {name.upper(): getattr(service.settings, name) for name in names}


# --- Stores that lack an ability --------------------------------------------------------------------------------------


def upload(client, body, **payload):
    """Register a track, upload a body, whatever the store says, and return session, registration and track."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav", **payload)
    put(created["track_upload"], body)
    return session_id, created, complete(client, session_id, created)


@pytest.mark.parametrize("proxy_class", [EtaglessProxy, UnconditionalCopyProxy])
def test_copies_that_prove_nothing_are_inspected(store_endpoint, make_measured, bucket, proxy_class):
    """On a store without ETags or conditional copies, the copy itself is inspected and compared."""
    with running(proxy_class(store_endpoint)) as proxy:
        client = make_measured(proxy).test_client()
        assert not service_of(client.application).choices.trusts_copy
        body = wav()
        _, created, track = upload(client, body, checksum_sha256=checksum("sha256", body), content_type="audio/wav")
        assert (track["status"], track["integrity"]) == ("uploaded", "sha256")
        assert (track["etag"] is None) is (proxy_class is EtaglessProxy)
        put(created["track_upload"], wav(seed=1))
        assert bucket.get(track["path"]) == body
        assert bucket.head(track["path"])["ContentType"] == "audio/wav"


@pytest.mark.parametrize("proxy_class", [EtaglessProxy, UnconditionalCopyProxy])
def test_bytes_that_are_replaced_before_the_copy_are_not_believed(
    store_endpoint, make_measured, bucket, monkeypatch, proxy_class
):
    """A client that replaces its upload between inspection and copy gets what lies at the final key inspected."""
    with running(proxy_class(store_endpoint)) as proxy:
        client = make_measured(proxy).test_client()
        service = service_of(client.application)
        session_id = new_session(client)["upload_session_id"]
        created = new_track(client, session_id, "a.wav")
        put(created["track_upload"], wav())
        copy = service.bucket.copy

        def replace_first(*arguments, **options):
            put(created["track_upload"], b"<html>no audio" * 500)
            return copy(*arguments, **options)

        monkeypatch.setattr(service.bucket, "copy", replace_first)
        track = complete(client, session_id, created)
        assert (track["status"], track["failure_code"]) == ("failed", "not_audio")
        assert bucket.get(created["track"]["path"]) is None


class LateWrites:
    """Writes of one operation that a proxy holds back: their connection ends, and they arrive when they are let go."""

    def __init__(self, proxy, operation, part=""):
        self.held = []
        proxy.faults[operation, part] = self.held.append

    def arrive(self):
        """Carry out all that were held back, in order."""
        while self.held:
            self.held.pop(0)()


UNBOUND = [EtaglessProxy, UnconditionalCopyProxy]


@pytest.mark.parametrize("proxy_class", UNBOUND)
def test_copy_that_outlives_its_lease_replaces_nothing(store_endpoint, make_measured, bucket, clock, proxy_class):
    """While a copy may still arrive no second one is sent, and the track is `uploaded` with what has arrived."""
    with running(proxy_class(store_endpoint)) as proxy:
        client = make_measured(proxy).test_client()
        session_id = new_session(client)["upload_session_id"]
        created = new_track(client, session_id, "a.wav")
        put(created["track_upload"], wav())
        late = LateWrites(proxy, "CopyObject")
        assert complete(client, session_id, created)["status"] == "verifying"
        clock.forward(tracks.LEASE_SECONDS + 5)
        put(created["track_upload"], wav(seed=1))
        assert complete(client, session_id, created)["status"] == "verifying"
        assert len(late.held) == 1
        late.arrive()
        track = complete(client, session_id, created)
        assert (track["status"], bucket.get(track["path"])) == ("uploaded", wav(seed=1))
        put(created["track_upload"], wav(seed=2))
        late.arrive()
        assert bucket.get(track["path"]) == wav(seed=1)


@pytest.mark.parametrize("proxy_class", UNBOUND)
def test_copy_that_never_arrives_is_sent_again(store_endpoint, make_measured, bucket, clock, proxy_class):
    """After an hour the store has carried out a copy, or lost it: the next verification sends another."""
    with running(proxy_class(store_endpoint)) as proxy:
        client = make_measured(proxy).test_client()
        session_id = new_session(client, expires_in=7200)["upload_session_id"]
        created = new_track(client, session_id, "a.wav")
        put(created["track_upload"], wav())
        LateWrites(proxy, "CopyObject")
        assert complete(client, session_id, created)["status"] == "verifying"
        proxy.faults.clear()
        clock.forward(tracks.LATE_COPY_SECONDS + tracks.LEASE_SECONDS + 5)
        track = complete(client, session_id, created)
        assert (track["status"], bucket.get(track["path"])) == ("uploaded", wav())


@pytest.mark.parametrize("status", [500, 502, 504])
def test_copy_is_not_repeated_after_an_uncertain_answer(store_endpoint, make_measured, status):
    """A proxy's answer does not say that the store has stopped: the copy is not sent a second time."""
    sent = []
    with running(UnconditionalCopyProxy(store_endpoint)) as proxy:
        client = make_measured(proxy).test_client()
        session_id = new_session(client)["upload_session_id"]
        created = new_track(client, session_id, "a.wav")
        put(created["track_upload"], wav())
        proxy.faults["CopyObject", ""] = lambda forward: sent.append(forward) or Answer(status, {}, b"")
        assert [complete(client, session_id, created)["status"] for _ in range(2)] == ["verifying"] * 2
        assert len(sent) == 1
        sent[0]()
        assert complete(client, session_id, created)["status"] == "uploaded"


def test_verification_that_lost_its_lease_decides_nothing(store_endpoint, make_measured, bucket, clock, monkeypatch):
    """A result of copies that prove nothing counts under its lease only: the copy of a successor may follow it."""
    with running(UnconditionalCopyProxy(store_endpoint)) as proxy:
        client = make_measured(proxy).test_client()
        session_id = new_session(client, expires_in=7200)["upload_session_id"]
        created = new_track(client, session_id, "a.wav")
        put(created["track_upload"], wav())
        inspect, service = inspection.inspect_object, service_of(client.application)
        outcomes = []

        def be_overtaken(service_, row, source, key):
            copied = inspect(service_, row, source, key)
            if source == "copy" and not outcomes:
                outcomes.append("")
                clock.forward(tracks.LATE_COPY_SECONDS + tracks.LEASE_SECONDS + 5)
                put(created["track_upload"], wav(seed=1))
                late = LateWrites(proxy, "CopyObject")
                outcomes[0] = verification.refresh(service, tracks.read(service, session_id, row["id"])).status
                outcomes.append(late)
            return copied

        monkeypatch.setattr(inspection, "inspect_object", be_overtaken)
        assert complete(client, session_id, created)["status"] == "verifying"
        assert outcomes[0] == "verifying"
        outcomes[1].arrive()
        track = complete(client, session_id, created)
        assert (track["status"], bucket.get(track["path"])) == ("uploaded", wav(seed=1))


def test_late_write_of_a_cover_replaces_nothing(store_endpoint, make_measured, bucket, clock):
    """A cover whose write may still arrive is not written again within the hour."""
    with running(EtaglessProxy(store_endpoint)) as proxy:
        client = make_measured(proxy).test_client()
        session_id = new_session(client, expires_in=7200)["upload_session_id"]
        created = new_track(client, session_id, "a.wav", cover_fields=False)
        put(created["track_upload"], wav())
        complete(client, session_id, created)
        relay_cover(client, session_id, created, PNG)
        late = LateWrites(proxy, "PutObject", ".cover")
        assert complete(client, session_id, created)["cover"]["status"] == "verifying"
        clock.forward(tracks.LEASE_SECONDS + 5)
        proxy.faults.clear()
        assert complete(client, session_id, created)["cover"]["status"] == "verifying"
        late.arrive()
        clock.forward(tracks.LATE_COPY_SECONDS)
        cover = complete(client, session_id, created)["cover"]
        assert (cover["status"], bucket.get(cover["path"])) == ("uploaded", PNG)


def relay_cover(client, session_id, created, content):
    """Send a cover through the service."""
    path = f"/v1/upload/{session_id}/track/{created['track_id']}/cover"
    response = client.post(path, data={"file": (BytesIO(content), "c.png", "image/png")})
    assert response.status_code == 200, response.text


def test_cover_is_copied_by_value_where_copies_prove_nothing(store_endpoint, make_measured, bucket):
    """A cover is read, inspected and written by the service, so that an earlier one is not replaced by other bytes."""
    with running(EtaglessProxy(store_endpoint)) as proxy:
        client = make_measured(proxy).test_client()
        session_id = new_session(client)["upload_session_id"]
        created = new_track(client, session_id, "a.wav")
        put(created["track_upload"], wav())
        assert post_cover(created["track_cover_upload"], PNG).status_code == 204
        cover = complete(client, session_id, created)["cover"]
        assert (cover["status"], cover["etag"], cover["content_type"]) == ("uploaded", None, "image/png")
        assert bucket.get(cover["path"]) == PNG


@pytest.mark.parametrize("algorithm", ["sha256", "crc64nvme", "crc32c"])
def test_checksum_is_not_believed_of_a_store_that_only_repeats_it(store_endpoint, make_measured, algorithm):
    """A store that tells the checksum which it was sent, without comparing it, does not prove anything."""
    with running(CredulousProxy(store_endpoint)) as proxy:
        app = make_measured(proxy)
        assert stores.read(service_of(app))[0].reported_checksums
        assert service_of(app).choices.trusted_checksums == ()
        right, wrong = wav(), wav(seed=1)
        declared = {f"checksum_{algorithm}": checksum(algorithm, right), "file_size": len(right)}
        _, created, track = upload(app.test_client(), wrong, **declared)
        assert (track["status"], track["failure_code"]) == ("failed", "checksum_mismatch")
        assert f"x-amz-checksum-{algorithm}" not in created["track_upload"]["headers"]
        assert upload(app.test_client(), right, **declared)[2]["integrity"] == algorithm


def test_write_once_is_ignored_where_a_second_put_wins(store_endpoint, make_measured, bucket):
    """Write-once tracks are uploaded to staging, if a second PUT replaces an object of the store."""
    with running(LastWriteWinsProxy(store_endpoint)) as proxy:
        client = make_measured(proxy).test_client()
        _, created, track = upload(client, wav(), write_once=True)
        assert "If-None-Match" not in created["track_upload"]["headers"]
        put(created["track_upload"], wav(seed=1))
        assert (track["status"], bucket.get(track["path"])) == ("uploaded", wav())


def test_unlistable_store_is_asked_key_by_key(store_endpoint, make_measured, bucket):
    """The worker asks for each track, and a sweep ends, if nothing can be listed."""
    with running(UnlistableProxy(store_endpoint)) as proxy:
        app = make_measured(proxy)
        client, service = app.test_client(), service_of(app)
        assert (service.choices.lists_objects, service.choices.batch_delete) == (False, False)
        session_id = new_session(client)["upload_session_id"]
        created = new_track(client, session_id, "a.wav", cover_fields=False)
        put(created["track_upload"], wav())
        notice_once(service)
        ((status,),) = query(app, "SELECT status FROM loadbay_track")
        assert status == "uploaded"
        result = app.test_cli_runner().invoke(args=["sweep"])
        assert result.exit_code == 0, result.output


def test_files_are_sent_by_one_put_where_a_late_part_changes_an_uploaded_file(store_endpoint, make_measured, bucket):
    """A part's URL would change an uploaded file: no upload is in parts, and single PUTs work."""
    with running(UnsealedPartsProxy(store_endpoint)) as proxy:
        app = make_measured(proxy)
        known, _ = stores.read(service_of(app))
        assert (known.multipart, known.sealed_parts) == (True, False)
        client = app.test_client()
        session_id = new_session(client)["upload_session_id"]
        payload = {"file_name": "a.wav", "file_size": 6 * 2**20, "multipart": True}
        response = client.post(f"/v1/upload/{session_id}/track", json=payload)
        assert (response.status_code, response.json["track_multipart_upload"]) == (200, None)
        assert upload(client, wav())[2]["status"] == "uploaded"


def test_store_without_multipart_uploads_gets_single_puts(client, service):
    """A track that asks for a multipart upload gets a single PUT, up to the size that one may have."""
    session_id = new_session(client)["upload_session_id"]
    service.use_abilities(replace(SEAWEEDFS, multipart=False))
    payload = {"file_name": "a.wav", "file_size": len(wav()), "multipart": True, "part_size": 5 * 2**20}
    created = new_track(client, session_id, **payload)
    assert (created["track_upload"]["method"], created["track_multipart_upload"]) == ("PUT", None)
    put(created["track_upload"], wav())
    assert complete(client, session_id, created)["status"] == "uploaded"
    assert new_track(client, session_id, file_size=5 * 2**30)["track_upload"]["method"] == "PUT"
    batch = {"tracks": [payload, {"file_name": "b.wav"}]}
    response = client.post(f"/v1/upload/{session_id}/tracks", json=batch)
    assert [track["track_multipart_upload"] for track in response.json["tracks"]] == [None, None]


def test_file_that_needs_parts_is_refused_by_a_store_without(make_client):
    """A file above 5 GiB is rejected, whether or not it asks for parts."""
    client = make_client(MAX_TRACK_BYTES=str(10 * 2**30))
    session_id = new_session(client)["upload_session_id"]
    service_of(client.application).use_abilities(replace(SEAWEEDFS, multipart=False))
    for requested in ({}, {"multipart": True}, {"multipart": False}):
        payload = {"file_name": "a.wav", "file_size": 5 * 2**30 + 1, **requested}
        response = client.post(f"/v1/upload/{session_id}/track", json=payload)
        assert_error(response, 400, "invalid_request", "file_size: must be at most 5368709120 bytes, since")


def test_unknown_store_is_measured_before_it_is_used(settings, monkeypatch):
    """A presigned PUT that the store rejects ends the measurement, and nothing is recorded."""
    app = create_app(settings)
    query(app, "DELETE FROM loadbay_store")
    monkeypatch.setattr(Probe, "_put", lambda self: (False, "status 403 SignatureDoesNotMatch", {}))
    result = app.test_cli_runner().invoke(args=["prepare"])
    assert (result.exit_code, "SignatureDoesNotMatch" in result.output) == (1, True)
    assert query(app, "SELECT * FROM loadbay_store") == []
