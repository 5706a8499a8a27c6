"""What a log may not hold. Every test's logs are looked through for the secrets that it used: see conftest.py."""

from __future__ import annotations

import logging
import sys

import pytest
import requests

from conftest import COLLECTION, Secrets, new_session, new_track
from dev.store import free_port
from logs import SHORTEN, shortened
from running import Running

SESSION = "0b7e4c52-8a86-4d2b-9a2e-5d0f3a1c7e90"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"GET /v1/upload_session/{SESSION} HTTP/1.1", "GET /v1/upload_session/0b7e4c52... HTTP/1.1"),
        (f"/v1/upload/{SESSION}/track/{COLLECTION}", f"/v1/upload/0b7e4c52.../track/{COLLECTION}"),
        ("PUT /a?X-Amz-Signature=00ff&x=1", "PUT /a?X-Amz-Signature=...&x=1"),
        ("Authorization: Bearer some-key", "Authorization: Bearer ..."),
    ],
)
def test_shortened(text, told):
    """Session ids are cut to what tells them apart, keys and signatures are cut out."""
    assert shortened(text) == told


def test_filter():
    """A record's arguments are looked at, too."""
    record = logging.LogRecord("werkzeug", logging.INFO, "", 0, "%s", (f"/u/{SESSION}",), None)
    assert SHORTEN.filter(record)
    assert record.getMessage() == "/u/0b7e4c52..."


def test_flask_run(settings, tmp_path):
    """The development server's own log of requests holds no whole session id."""
    port = free_port()
    command = (sys.executable, "-m", "flask", "--app", "app", "run", "--port", str(port))
    with Running(*command, env=settings, log=tmp_path / "log") as service:
        base = f"http://127.0.0.1:{port}"
        service.wait_for_http(base)
        session = requests.post(f"{base}/v1/upload_session", json={"collection_id": COLLECTION}, timeout=10).json()
        id_ = session["upload_session_id"]
        assert requests.get(f"{base}/v1/upload_session/{id_}", timeout=10).status_code == 200
        assert f"/v1/upload_session/{id_[:8]}..." in service.output()
        assert id_ not in service.output()


def test_a_leak_is_seen(client):
    """The look through the logs finds what a test has met: a session's id, a signature, a key."""
    secrets = Secrets()
    made = new_track(client, new_session(client)["upload_session_id"])
    secrets.meet(client.get(f"/v1/upload_session/{made['upload_session_id']}").text)
    secrets.meet(str(made["track_upload"]["upload_url"]))
    signature = made["track_upload"]["upload_url"].rpartition("=")[2]
    assert secrets.told_by([f"it was {made['upload_session_id']}", "and more"]) == {made["upload_session_id"]}
    assert secrets.told_by([f"?X-Amz-Signature={signature}"]) == {signature}
    assert secrets.told_by(["nothing"]) == set()
