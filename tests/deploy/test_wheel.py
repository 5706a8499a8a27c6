"""The wheel, installed without a checkout: on its own, and beside a host that has modules of the same names."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import requests

from support.api import bearer
from support.database import run_statement
from support.packages import Installation, create_environment, run_uv, upload_folder
from support.processes import ROOT

HOST = Path(__file__).with_name("host")
EXTENSIONS = ("Flask-Cors", "Flask-Limiter", "Flask-SQLAlchemy", "flask-talisman", "Flask-WTF")
METRICS_TOKEN = "a-token-of-the-host"
UPLOADED = ["uploaded", "uploaded"]


@pytest.fixture(scope="session")
def host_environment(wheel, tmp_path_factory):
    """A bare environment with the wheel and the extensions of the host."""
    return create_environment(tmp_path_factory.mktemp("host"), f"{wheel}[metrics,server]", *EXTENSIONS)


@pytest.fixture(scope="session")
def oldest_environment(wheel, tmp_path_factory):
    """A bare environment with the oldest version of each direct dependency that the wheel accepts."""
    folder = tmp_path_factory.mktemp("oldest")
    pins = folder / "pins.txt"
    options = ("--quiet", "--no-header", "--no-annotate", "--all-extras", "--resolution", "lowest-direct")
    run_uv("pip", "compile", *options, "--output-file", str(pins), str(ROOT / "pyproject.toml"))
    return create_environment(folder / "venv", "--requirements", str(pins), str(wheel))


@pytest.fixture
def env(settings, make_database):
    """The settings, with a database that has no tables yet."""
    return {**settings, "DATABASE_URL": make_database(empty=True), "CREATE_MISSING": "0", "WEB_CONCURRENCY": "2"}


@pytest.fixture
def installation(request, tmp_path, env, processes):
    """The environment that the test names, with an empty folder to work in."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return Installation(processes, request.getfixturevalue(request.param), env, folder)


@pytest.fixture
def host(tmp_path, env, processes, host_environment):
    """The host's folder, in a bare environment."""
    shutil.copytree(HOST, tmp_path / "host", ignore=shutil.ignore_patterns("__pycache__"))
    return Installation(processes, host_environment, env, tmp_path / "host")


def count_requests(base: str) -> int:
    """Return the number of requests that all workers of a service have counted."""
    text = requests.get(f"{base}/metrics", headers=bearer(METRICS_TOKEN), timeout=20).text
    return sum(int(float(count)) for count in re.findall(r"duration_seconds_count\{method=.*\} (\S+)", text))


@pytest.mark.parametrize("installation", ["host_environment", "oldest_environment"], indirect=True)
def test_runs_without_a_checkout(installation, tmp_path):
    """`prepare`, gunicorn and the worker run from the wheel alone, on the newest and the oldest dependencies."""
    assert "Applied migration 0001" in installation.run("flask", "--app", "loadbay", "prepare")
    server = ("gunicorn", "--config", "python:loadbay.gunicorn_conf", "loadbay:create_app()")
    with installation.start(*server) as service, installation.start("flask", "--app", "loadbay", "worker") as worker:
        service.wait_for_http(f"{installation.base}/healthz")
        worker.wait_for_output("Worker started.")
        assert requests.get(f"{installation.base}/readyz", timeout=20).json()["ok"]
        assert upload_folder(installation.base, tmp_path) == UPLOADED
        assert worker.stop() == 0
    assert "Unhandled exception" not in service.output()
    assert list(installation.folder.iterdir()) == []


@pytest.mark.parametrize(("place", "prefix"), [("prefix", "/media"), ("root", ""), ("dispatcher", "/media")])
def test_works_in_a_host_with_the_same_names(host, tmp_path, place, prefix):
    """Uploads, pages, commands and metrics work beside the host's, in one database with the host's own tables."""
    host.env["PLACE"] = place
    command = ("flask", "loadbay") if place != "dispatcher" else ("flask", "--app", "loadbay")
    assert "Applied migration 0001" in host.run(*command, "prepare")
    assert host.run("flask", "worker") == "The host's worker.\n"
    with (
        host.start("gunicorn", "--config", "python:loadbay.gunicorn_conf", "app:app") as service,
        host.start(*command, "worker") as worker,
    ):
        service.wait_for_http(f"{host.base}/about")
        worker.wait_for_output("Worker started.")
        assert upload_folder(f"{host.base}{prefix}", tmp_path) == UPLOADED
        counts = [count_requests(f"{host.base}{prefix}") for _ in range(8)]
        assert counts == list(range(counts[0], counts[0] + 8)), "Each scrape has the requests of both workers."
        assert requests.get(f"{host.base}/tracks", timeout=20).json() == {"tracks": [{"title": "of the host"}]}
        assert "The docs of the host." in requests.get(f"{host.base}/about", timeout=20).text
        assert "of the host" in requests.get(f"{host.base}/static/page.js", timeout=20).text
        assert requests.get(f"{host.base}/nothing", timeout=20).headers["Content-Type"].startswith("text/html")
    assert "Unhandled exception" not in service.output() + worker.output()
    url = host.env["DATABASE_URL"]
    assert run_statement(url, "SELECT count(*) FROM loadbay_track")[0][0] == 2
    assert run_statement(url, "SELECT title FROM track") == [("of the host",)]
