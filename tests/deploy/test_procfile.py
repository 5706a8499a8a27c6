"""The Procfile, run by honcho as a platform would that sets PORT, DATABASE_URL, the variables of the store, no more."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from dev.store import free_port
from support.api import COLLECTION
from support.database import run_statement
from support.processes import running_ids, wait_until
from support.sample_files import wav
from support.store import ACCESS_KEY, SECRET_KEY, put

pytestmark = pytest.mark.postgresql

HONCHO = (str(Path(sys.executable).with_name("honcho")), "--env", "/dev/null")
"""honcho, whatever .env there is."""


@pytest.fixture
def platform(store_endpoint, make_database, deployed):
    """What the platform sets. Its PostgreSQL is empty, and so is its store."""
    return {
        "PORT": str(free_port()),
        # Some platforms still say it in this way.
        "DATABASE_URL": re.sub("^postgresql:", "postgres:", make_database(empty=True)),
        "S3_ENDPOINT": store_endpoint,
        "S3_BUCKET": f"procfile-{uuid4().hex}",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "PATH": deployed,
    }


def test_procfile(platform, no_secrets_in_logs, tmp_path, processes):
    """After `release`, `web` and `worker` take an upload to its end, and SIGTERM ends both at once."""
    assert platform["DATABASE_URL"].startswith("postgres://")
    released = processes.run(*HONCHO, "start", "release", env=platform)
    assert f"Created bucket {platform['S3_BUCKET']}" in released.stdout, released.stdout
    created = processes.run(
        *HONCHO, "run", "flask", "--app", "app", "create-key", "--name", "our back end", env=platform
    )
    key = re.search(r"loadbay_full_\S+", created.stdout)[0]
    no_secrets_in_logs.add_from_text(key)
    with processes.start(*HONCHO, "start", "web", "worker", env=platform, log=tmp_path / "log") as running:
        running.wait_for_output("The worker is at work", "Listening at")
        base = f"http://127.0.0.1:{platform['PORT']}"
        running.wait_for_http(f"{base}/healthz")
        assert requests.get(f"{base}/readyz", timeout=10).json()["ok"]
        assert upload(base, key)["status"] == "uploaded"
        assert requests.post(f"{base}/v1/upload_session", json={}, timeout=10).status_code == 401
        family = running.process_ids()
        assert len(family) >= 5, "honcho, a worker, gunicorn and two workers of its own"
        assert running.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert "The worker has stopped." in running.output()
    assert "Shutting down: Master" in running.output()
    assert "Traceback" not in running.output()
    wait_until(lambda: not running_ids(family), "Processes are left.")
    assert run_statement(platform["DATABASE_URL"], "SELECT status FROM loadbay_track") == [("uploaded",)]


def test_release_again(platform, processes):
    """A release of what is there changes nothing, and one that fails says so, so that the platform stops."""
    processes.run(*HONCHO, "start", "release", env=platform)
    again = processes.run(*HONCHO, "start", "release", env=platform)
    assert "Nothing was missing." in again.stdout
    assert again.returncode == 0
    away = processes.run(
        *HONCHO, "start", "release", env={**platform, "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    )
    assert away.returncode != 0, away.stdout


def upload(base, key):
    """Upload a file as a back end and its client do; returns what the service says of it."""
    opened = requests.post(
        f"{base}/v1/upload_session",
        json={"collection_id": COLLECTION, "track": {"file_name": "a.wav", "file_size": len(wav())}},
        headers={"Authorization": f"Bearer {key}"},
        timeout=10,
    ).json()
    assert put(opened["track_upload"], wav()).status_code == 200
    path = f"/v1/upload/{opened['upload_session_id']}/track/{opened['track_id']}/complete"
    return requests.post(f"{base}{path}", timeout=10).json()["track"]
