"""The Procfile, run by honcho as by a platform that sets PORT, DATABASE_URL and the variables of the store."""

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
from support.store import ADMIN, put

pytestmark = pytest.mark.postgresql

HONCHO = (str(Path(sys.executable).with_name("honcho")), "--env", "/dev/null")
"""honcho, without any .env file."""


@pytest.fixture
def platform_env(store_endpoint, make_database, deployed_path):
    """The variables that the platform sets. Its PostgreSQL and its store are empty."""
    return {
        "PORT": str(free_port()),
        # Some platforms still use this scheme.
        "DATABASE_URL": re.sub("^postgresql:", "postgres:", make_database(empty=True)),
        "S3_ENDPOINT": store_endpoint,
        "S3_BUCKET": f"procfile-{uuid4().hex}",
        **ADMIN,
        "PATH": deployed_path,
    }


def test_processes_handle_an_upload(platform_env, no_secrets_in_logs, tmp_path, processes):
    """After `release`, `web` and `worker` handle an upload, and SIGTERM stops both."""
    assert platform_env["DATABASE_URL"].startswith("postgres://")
    released = processes.run(*HONCHO, "start", "release", env=platform_env)
    assert f"Created bucket {platform_env['S3_BUCKET']}" in released.stdout, released.stdout
    created = processes.run(
        *HONCHO, "run", "flask", "--app", "app", "create-key", "--name", "our back end", env=platform_env
    )
    key = re.search(r"loadbay_full_\S+", created.stdout)[0]
    no_secrets_in_logs.add_from_text(key)
    with processes.start(*HONCHO, "start", "web", "worker", env=platform_env, log=tmp_path / "log") as running:
        running.wait_for_output("Worker started.", "Listening at")
        base = f"http://127.0.0.1:{platform_env['PORT']}"
        running.wait_for_http(f"{base}/healthz")
        assert requests.get(f"{base}/readyz", timeout=10).json()["ok"]
        assert upload_track(base, key)["status"] == "uploaded"
        assert requests.post(f"{base}/v1/upload_session", json={}, timeout=10).status_code == 401
        process_ids = running.process_ids()
        assert len(process_ids) >= 5, "honcho, the worker, gunicorn and its two workers"
        assert running.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert "Worker stopped." in running.output()
    assert "Shutting down: Master" in running.output()
    assert "Traceback" not in running.output()
    wait_until(lambda: not running_ids(process_ids), "Some processes still run.")
    assert run_statement(platform_env["DATABASE_URL"], "SELECT status FROM loadbay_track") == [("uploaded",)]


def test_release_is_idempotent(platform_env, processes):
    """A repeated release changes nothing, and a failed one has an exit status other than 0."""
    processes.run(*HONCHO, "start", "release", env=platform_env)
    repeated = processes.run(*HONCHO, "start", "release", env=platform_env)
    assert "Nothing to do" in repeated.stdout
    assert repeated.returncode == 0
    failed = processes.run(
        *HONCHO, "start", "release", env={**platform_env, "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    )
    assert failed.returncode != 0, failed.stdout


def upload_track(base, key):
    """Upload a file as a back end and its client do; return the track."""
    created = requests.post(
        f"{base}/v1/upload_session",
        json={"collection_id": COLLECTION, "track": {"file_name": "a.wav", "file_size": len(wav())}},
        headers={"Authorization": f"Bearer {key}"},
        timeout=10,
    ).json()
    assert put(created["track_upload"], wav()).status_code == 200
    path = f"/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/complete"
    return requests.post(f"{base}{path}", timeout=10).json()["track"]
