"""Credentials of AWS's chain, with and without botocore: their sources, their renewal, and the URLs they sign."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pytest
from minio.credentials.credentials import Credentials

from storage.clock import now as clock_now
from storage.errors import StorageRejected
from storage.s3 import credentials as credentials_module
from storage.s3.bucket import Bucket
from storage.s3.credentials import CredentialChain, CredentialsNotFound, fetch_credentials
from storage.settings import Settings
from support.api import assert_error, bearer, new_session, new_track, upload_track
from support.aws_services import CONTAINER_TOKEN, ROLE, WEB_IDENTITY, aws_services, iso
from support.processes import ROOT
from support.store import ACCESS_KEY, SECRET_KEY

pytestmark = pytest.mark.sqlite

UNSET = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_REGION",
    "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_DEFAULT_REGION",
)  # fmt: skip


@pytest.fixture
def services(monkeypatch, tmp_path):
    """AWS's services, in an environment that has nothing but them."""
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with aws_services() as services:
        for name in ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_SSO"):
            monkeypatch.setenv(name, services.endpoint)
        yield services


@pytest.fixture(params=["botocore", "minio"])
def library(request, monkeypatch):
    """The library whose chain is used."""
    if request.param == "minio":
        monkeypatch.setattr(credentials_module, "has_botocore", lambda: False)
    return request.param


# --- Sources ---


def test_finds_credentials_of_a_container(services, library, monkeypatch):
    """ECS: the container's URL is asked with its token."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{services.endpoint}/container")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", CONTAINER_TOKEN)
    credentials = fetch_credentials("eu-west-1")
    assert (credentials.access_key, credentials.session_token) == ("container-1", "token-of-container-1")
    assert 3500 < seconds_left(credentials) <= 3600


def test_finds_credentials_of_a_pod(services, library, monkeypatch, tmp_path):
    """EKS: the token in the file is exchanged for the role's credentials."""
    (tmp_path / "token").write_text(WEB_IDENTITY)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    credentials = fetch_credentials("eu-west-1")
    assert (credentials.access_key, credentials.secret_key) == ("web-1", "secret-of-web-1")
    assert 3500 < seconds_left(credentials) <= 3600


def test_finds_credentials_of_an_instance(services, library):
    """EC2: the instance's role, with a session of its metadata service."""
    assert fetch_credentials("eu-west-1").access_key == "instance-1"


def test_does_not_believe_that_expiring_credentials_last(services, library):
    """botocore takes an instance's credentials for valid that are about to expire: their own time counts."""
    services.lifetime = 600
    assert seconds_left(fetch_credentials("eu-west-1")) <= 600


def test_finds_keys_in_the_credentials_file(services, library, tmp_path, monkeypatch):
    """A profile of the shared file has keys that do not expire."""
    (tmp_path / "credentials").write_text("[music]\naws_access_key_id = AKFILE\naws_secret_access_key = in-the-file\n")
    monkeypatch.setenv("AWS_PROFILE", "music")
    credentials = fetch_credentials("eu-west-1")
    assert (credentials.access_key, credentials.expiration) == ("AKFILE", None)


def test_runs_the_credential_process_of_a_profile(services, tmp_path):
    """`credential_process` is run by botocore, with its expiry."""
    output = {"Version": 1, "AccessKeyId": "AKPROCESS", "SecretAccessKey": "s", "SessionToken": "t"}
    output["Expiration"] = iso(time.time() + 1800)
    script = tmp_path / "process"
    script.write_text(f"#!{sys.executable}\nprint({json.dumps(output)!r})\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {script}\n")
    credentials = fetch_credentials("eu-west-1")
    assert credentials.access_key == "AKPROCESS"
    assert 1700 < seconds_left(credentials) <= 1800


def test_finds_credentials_of_a_signed_in_profile(services, tmp_path):
    """SSO: the cached token of `aws sso login` is exchanged for the role's credentials."""
    start_url = "https://example.awsapps.com/start"
    cache = tmp_path / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    token = {"startUrl": start_url, "region": "eu-west-1", "accessToken": "an-sso-token-0123456789"}
    token["expiresAt"] = iso(time.time() + 3600)
    (cache / f"{hashlib.sha1(start_url.encode()).hexdigest()}.json").write_text(json.dumps(token))
    profile = {"sso_start_url": start_url, "sso_region": "eu-west-1", "sso_account_id": "111122223333"}
    lines = "\n".join(f"{name} = {value}" for name, value in {**profile, "sso_role_name": "uploads"}.items())
    (tmp_path / "config").write_text(f"[default]\n{lines}\n")
    # botocore knows the home directory from its import on.
    code = "from storage.s3.credentials import fetch_credentials as f; print(f('eu-west-1').access_key)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "sso-1", result.stderr


@pytest.mark.parametrize("status", [403, 500])
def test_says_that_there_are_no_credentials(services, library, monkeypatch, status, caplog, tmp_path):
    """A service that gives none is an error of the store's configuration, and is not asked again at once."""
    (tmp_path / "token").write_text(WEB_IDENTITY)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    services.status = status
    bucket = Bucket(Settings.load({"S3_ENDPOINT": "http://127.0.0.1:1", "S3_BUCKET": "tracks"}))
    for _ in range(2):
        with pytest.raises(StorageRejected):
            bucket.credentials()
    advice = [record.message for record in caplog.records if "cannot be looked up" in record.message]
    assert len(advice) == 1
    assert ("pip install 'loadbay[aws]'" in advice[0]) == (library == "minio")
    assert WEB_IDENTITY not in caplog.text


def test_malformed_files_are_no_internal_error(services, library, tmp_path, monkeypatch):
    """A credentials file that cannot be read is an error of the configuration."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "credentials").write_text("no section\n")
    with pytest.raises(CredentialsNotFound):
        fetch_credentials("eu-west-1")


# --- Renewal ---


def seconds_left(credentials):
    """Return the seconds until credentials expire."""
    return credentials.expiration.replace(tzinfo=UTC).timestamp() - time.time()


class Source:
    """A source of numbered credentials that live for `lifetime` seconds by the service's clock."""

    def __init__(self, lifetime):
        self.lifetime, self.count, self.fails = lifetime, 0, False

    def __call__(self, region):
        if self.fails:
            raise CredentialsNotFound("none")
        self.count += 1
        until = datetime.fromtimestamp(clock_now() + self.lifetime, UTC)
        return Credentials(f"key-{self.count}", "secret", "token", until)


def wait_for_renewal():
    """Wait until no thread renews credentials."""
    for thread in threading.enumerate():
        if thread.name == "credential-renewal":
            thread.join(5)


def test_renews_half_way_without_a_wait(clock):
    """Half-way to their expiry credentials are renewed by a thread, and the old ones sign meanwhile."""
    source = Source(3600)
    chain = CredentialChain("eu-west-1", source)
    assert chain.retrieve().access_key == "key-1"
    clock.forward(1790)
    assert (chain.retrieve().access_key, source.count) == ("key-1", 1)
    clock.forward(20)
    assert chain.retrieve().access_key == "key-1"
    wait_for_renewal()
    assert (chain.retrieve().access_key, chain.expires_at) == ("key-2", clock_now() + 3600)


def test_waits_for_new_credentials_in_the_last_minute(clock):
    """Credentials that are about to expire sign nothing any more."""
    source = Source(3600)
    chain = CredentialChain("eu-west-1", source)
    chain.retrieve()
    clock.forward(3550)
    assert chain.retrieve().access_key == "key-2"


def test_old_credentials_serve_through_an_outage_until_they_expire(clock):
    """A failed renewal does not matter before the credentials expire."""
    source = Source(3600)
    chain = CredentialChain("eu-west-1", source)
    chain.retrieve()
    source.fails = True
    clock.forward(3550)
    assert chain.retrieve().access_key == "key-1"
    clock.forward(60)
    with pytest.raises(CredentialsNotFound):
        chain.retrieve()
    source.fails = False
    clock.forward(10)
    assert chain.retrieve().access_key == "key-2"


def test_many_threads_cause_one_lookup():
    """Threads that need credentials at the same time share one lookup."""
    source, barrier = Source(3600), threading.Barrier(8)
    chain = CredentialChain("eu-west-1", source)

    def retrieve():
        barrier.wait()
        chain.retrieve()

    threads = [threading.Thread(target=retrieve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert source.count == 1


# --- URLs ---


@pytest.fixture
def expiring(settings, make_client, monkeypatch):
    """Create a client of a service whose credentials are the store's, and expire in some seconds."""

    def create(lifetime, **other):
        def fetch(region):
            return Credentials(ACCESS_KEY, SECRET_KEY, None, datetime.fromtimestamp(clock_now() + lifetime, UTC))

        monkeypatch.setattr(credentials_module, "fetch_credentials", fetch)
        return make_client(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", **other)

    return create


def parse(moment):
    """Return an ISO time in seconds."""
    return datetime.fromisoformat(moment).timestamp()


def test_urls_do_not_outlive_the_credentials(expiring):
    """`ttl` and `expires_at` of URLs, forms, parts and downloads end with the credentials that signed them."""
    client = expiring(200, COVER_UPLOAD="form", API_KEYS="k" * 16)
    session_id = new_session(client)["upload_session_id"]
    parts = new_track(client, session_id, "b.wav", multipart=True, file_size=6 * 2**20, part_size=5 * 2**20)
    created = upload_track(client, session_id)
    download = client.get(f"/v1/track/{created['track_id']}/download", headers=bearer("k" * 16)).json["track_download"]
    cover = client.post(f"/v1/track/{created['track_id']}/cover", headers=bearer("k" * 16)).json
    uploads = [created["track_upload"], created["track_cover_upload"], parts["track_multipart_upload"]]
    uploads.append(cover["track_cover_upload"])
    for upload in uploads:
        assert 190 < upload["ttl"] <= 200
        assert parse(upload["expires_at"]) <= time.time() + 201
    assert f"X-Amz-Expires={created['track_upload']['ttl']}" in created["track_upload"]["upload_url"]
    assert 190 < download["ttl"] <= 200


def test_urls_have_their_time_where_credentials_have_more(expiring):
    """Credentials that live longer do not change a URL's lifetime."""
    client = expiring(90_000)
    created = new_track(client, new_session(client)["upload_session_id"], "a.wav")
    assert created["track_upload"]["ttl"] in (3599, 3600)


def test_no_credentials_are_an_unavailable_store(settings, make_client, monkeypatch):
    """A request that cannot be signed is 503, as any other fault of the store."""
    client = make_client()
    session_id = new_session(client)["upload_session_id"]
    service = client.application.extensions["loadbay"]["loadbay"]
    service.bucket._static = None
    monkeypatch.setattr(service.bucket, "_chain", CredentialChain("eu-west-1", Source(-1)))
    response = client.post(f"/v1/upload/{session_id}/track", json={"file_name": "a.wav"})
    assert_error(response, 503, "storage_rejected")
