"""Servers and Pythons: whole uploads with the wheel under each server, and on each Python that the project names."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import requests

from support.api import COLLECTION
from support.packages import PYTHONS, Installation, create_environment, find_python, upload_folder
from support.sample_files import wav

pytestmark = pytest.mark.sqlite

GUNICORN = ("gunicorn", "--config", "python:loadbay.gunicorn_conf")
SERVERS = {
    "gunicorn": (*GUNICORN, "loadbay:create_app()"),
    "gthread": (*GUNICORN, "--worker-class", "gthread", "--threads", "4", "loadbay:create_app()"),
    "gevent": (*GUNICORN, "--worker-class", "gevent", "loadbay:create_app()"),
    "waitress": ("waitress-serve", "--host=127.0.0.1", "--port={port}", "--call", "loadbay:create_app"),
    "granian": (
        "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", "{port}", "--factory", "loadbay:create_app",
    ),
    "flask": ("flask", "--app", "loadbay", "run", "--port", "{port}"),
}  # fmt: skip


@pytest.fixture(scope="session")
def servers_environment(wheel, tmp_path_factory):
    """An environment with the wheel and all servers."""
    folder = tmp_path_factory.mktemp("servers")
    return create_environment(folder, f"{wheel}[server]", "gevent==26.9.0", "waitress==3.0.2", "granian==2.8.9")


@pytest.fixture
def install(settings, tmp_path, processes):
    """Use an environment in an empty folder, with warnings of resources that are not closed."""
    folder = tmp_path / "empty"
    folder.mkdir()
    env = {**settings, "PYTHONWARNINGS": "always::ResourceWarning", "WEB_CONCURRENCY": "2"}
    env["XDG_STATE_HOME"] = str(tmp_path / "state")
    return lambda environment: Installation(processes, environment, env, folder)


@contextmanager
def serve_with(installation, command):
    """Start a server, which must be ready, and stop it at the end; no connection may be left open."""
    with installation.start(*(part.format(port=installation.port) for part in command)) as service:
        service.wait_for_http(f"{installation.base}/healthz")
        assert requests.get(f"{installation.base}/readyz", timeout=20).json()["ok"]
        yield
    # Servers leave sockets of their own.
    for text in ("Unhandled exception", "unclosed database", "was deleted while still open"):
        assert text not in service.output()


@pytest.mark.parametrize("server", SERVERS)
def test_server_handles_an_upload(servers_environment, install, tmp_path, server):
    """Each WSGI server handles a file with its cover, and one in parts."""
    installation = install(servers_environment)
    with serve_with(installation, SERVERS[server]):
        assert upload_folder(installation.base, tmp_path) == ["uploaded", "uploaded"]


@pytest.mark.parametrize("version", PYTHONS)
def test_python_handles_an_upload(wheel, client_wheel, install, tmp_path, version):
    """On each Python, the service and its worker handle whole uploads, and the client's command uploads a folder."""
    python = find_python(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed.")
    environment = create_environment(tmp_path / "venv", f"{wheel}[server]", f"{client_wheel}[cli]", python=python)
    installation = install(environment)
    assert installation.run("python", "--version").startswith(f"Python {version}.")
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "a.wav").write_bytes(wav())
    worker = installation.start("flask", "--app", "loadbay", "worker")
    with worker, serve_with(installation, SERVERS["gthread"]):
        worker.wait_for_output("Worker started.")
        assert upload_folder(installation.base, tmp_path) == ["uploaded", "uploaded"]
        command = ("loadbay", "upload", str(tmp_path / "album"), "--server", installation.base)
        assert "uploaded" in installation.run(*command, "--collection", COLLECTION)
        assert worker.stop() == 0
    assert "Traceback" not in worker.output()
