"""POST /v1/store_event/sns: messages of Amazon SNS, authenticated by their signature."""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from Crypto.Hash import SHA1, SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15

from app import create_app
from storage.errors import StorageUnavailable
from storage.noticing import sns
from support.api import assert_error, count_tracks, new_session, new_track
from support.sample_files import wav
from support.store import put, staged_key
from support.store_events import eventbridge_event, s3_event

pytestmark = pytest.mark.sqlite

TOPIC = "arn:aws:sns:eu-west-1:123456789012:uploads"
CERTIFICATE = f"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{'0' * 32}.pem"
CONFIRMATION = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=x&Token=y"
KEY = RSA.generate(2048)


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with one allowed topic and no bearer token."""
    return {**settings, "STORE_EVENT_TOPICS": TOPIC}


@pytest.fixture
def requested_urls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that the service requests from SNS, which responds with the public key of KEY."""
    urls: list[str] = []

    def get(url: str) -> bytes:
        urls.append(url)
        return KEY.public_key().export_key()

    sns._public_key.cache_clear()
    monkeypatch.setattr(sns, "_get", get)
    return urls


def sign(message: dict[str, Any], version: str = "2") -> dict[str, Any]:
    """Add the signature of SNS, as its documentation describes it."""
    message = {
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "Timestamp": "2030-01-31T12:00:00.000Z",
        "TopicArn": TOPIC,
        "SigningCertURL": CERTIFICATE,
        "SignatureVersion": version,
        **message,
    }
    names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
    digest = {"1": SHA1, "2": SHA256}.get(version, SHA256).new(text.encode())
    return {**message, "Signature": b64encode(pkcs1_15.new(KEY).sign(digest)).decode()}


def notification(content: Any, **more: str) -> dict[str, Any]:
    """Return a notification with an event in its `Message`."""
    return {"Type": "Notification", "Message": json.dumps(content), **more}


def post_message(client: Any, message: dict[str, Any]) -> Any:
    """Send a message as SNS does."""
    return client.post(
        "/v1/store_event/sns", data=json.dumps(message), content_type="text/plain; charset=UTF-8",
        headers={"x-amz-sns-message-type": str(message.get("Type"))},
    )  # fmt: skip


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("event", [s3_event, eventbridge_event])
@pytest.mark.parametrize("more", [{}, {"Subject": "Amazon S3 Notification"}])
def test_signed_message_verifies_its_track(client, requested_urls, version, event, more):
    """A notification of an allowed topic is accepted, with every signature version and event format."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    content = event(staged_key(created["track_upload"]))
    response = post_message(client, sign(notification(content, **more), version))
    assert (response.status_code, response.json["count"]) == (200, 1)
    assert count_tracks(client, session_id) == {"uploaded": 1}
    post_message(client, sign(notification({}), version))
    assert requested_urls == [CERTIFICATE]


@pytest.mark.parametrize(
    "changes",
    [
        {"Message": "{}"},
        {"TopicArn": "arn:aws:sns:eu-west-1:123456789012:others"},
        {"TopicArn": None},
        {"Signature": "x"},
        {"Signature": None},
        {"Signature": b64encode(bytes(256)).decode()},
        {"SignatureVersion": "3"},
        {"SignatureVersion": None},
        {"Type": "Other"},
        {"Type": []},
        {"SigningCertURL": None},
        {"SigningCertURL": CERTIFICATE.replace("https", "http")},
        {"SigningCertURL": CERTIFICATE.replace(".amazonaws.com", ".amazonaws.com.example.com")},
        {"SigningCertURL": CERTIFICATE.replace("https://", "https://example.com/")},
        {"SigningCertURL": CERTIFICATE.replace("sns.", "s3.")},
        {"SigningCertURL": CERTIFICATE.replace(".pem", ".pem?x")},
        {"SigningCertURL": CERTIFICATE.replace(".com/", ".com:444/")},
    ],
)
def test_rejects_messages_without_a_valid_signature(client, requested_urls, changes):
    """A changed message, one of another topic, or one with another certificate is rejected."""
    assert_error(post_message(client, {**sign(notification({"a": 1})), **changes}), 401, "unauthorized")
    assert set(requested_urls) <= {CERTIFICATE}


def test_rejects_messages_without_topics(settings, requested_urls):
    """Without STORE_EVENT_TOPICS, every message is rejected."""
    client = create_app({**settings, "STORE_EVENT_TOPICS": ""}).test_client()
    assert_error(post_message(client, sign(notification({}))), 401, "unauthorized", "STORE_EVENT_TOPICS")
    assert requested_urls == []


@pytest.mark.parametrize("content", ["no JSON", "[]", "7", "[" * 100_000])
def test_ignores_other_content(client, requested_urls, content):
    """A message whose content is no event, such as S3's test event, is accepted without effect."""
    response = post_message(client, sign({"Type": "Notification", "Message": content}))
    assert (response.status_code, response.json["count"]) == (200, 0)


def test_confirms_a_subscription(client, requested_urls):
    """A subscription to an allowed topic is confirmed at SNS, and at no other host."""
    message = {"Type": "SubscriptionConfirmation", "Message": "You have chosen ...", "Token": "y"}
    assert post_message(client, sign({**message, "SubscribeURL": CONFIRMATION})).status_code == 200
    assert requested_urls == [CERTIFICATE, CONFIRMATION]
    foreign = sign({**message, "SubscribeURL": "https://example.com/?Action=ConfirmSubscription&a=b"})
    assert_error(post_message(client, foreign), 401, "unauthorized", "SubscribeURL")
    assert_error(
        post_message(client, sign({**message, "SubscribeURL": CONFIRMATION, "TopicArn": "x"})), 401, "unauthorized"
    )
    assert requested_urls == [CERTIFICATE, CONFIRMATION]


def test_ended_subscription_is_logged(client, requested_urls, caplog):
    """The end of a subscription is logged."""
    message = {"Type": "UnsubscribeConfirmation", "Message": "m", "Token": "y", "SubscribeURL": CONFIRMATION}
    assert post_message(client, sign(message)).status_code == 200
    assert "was ended" in caplog.text
    assert requested_urls == [CERTIFICATE]


def test_unreachable_sns_is_unavailable(client, monkeypatch):
    """Without the certificate, the response is a 503, after which SNS sends the message again."""

    def unreachable(url: str) -> bytes:
        raise StorageUnavailable

    sns._public_key.cache_clear()
    monkeypatch.setattr(sns, "_get", unreachable)
    assert_error(post_message(client, sign(notification({}))), 503, "storage_unavailable")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to create a certificate")
def test_reads_an_x509_certificate(client, monkeypatch, tmp_path: Path):
    """The key is read from a PEM certificate, as SNS serves it."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    key.write_bytes(KEY.export_key())
    command = ["openssl", "req", "-x509", "-key", key, "-out", certificate, "-days", "1", "-subj", "/CN=sns"]
    subprocess.run(command, check=True, capture_output=True)
    sns._public_key.cache_clear()
    monkeypatch.setattr(sns, "_get", lambda url: certificate.read_bytes())
    assert post_message(client, sign(notification({}))).status_code == 200
