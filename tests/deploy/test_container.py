"""Dockerfile and compose.yaml: what they name is there, and what the image would hold runs as it would there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import requests
import yaml

from app import create_app
from dev.store import Store, free_port
from storage.settings import Settings
from support.api import COLLECTION
from support.nginx import API_KEY
from support.processes import ROOT
from support.sample_files import png, wav
from support.store import ACCESS_KEY, SECRET_KEY, put

pytestmark = pytest.mark.sqlite

DOCKERFILE = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
COMPOSE = (ROOT / "compose.yaml").read_text()
SERVICES = yaml.safe_load(COMPOSE)["services"]
REFERENCE = re.compile(r"\$\{([A-Z0-9_]+):?\?is missing in \.env\}")
EXAMPLE = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
SETTINGS = {name.upper() for name in Settings.__dataclass_fields__} | {"PORT", "WEB_CONCURRENCY"}
USER = re.search(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)[1]
WRITABLE = re.search(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)[1]


def last(word):
    """What follows the last of these words at the beginning of a line in Dockerfile."""
    return re.findall(rf"^{word} (.+)$", DOCKERFILE, re.MULTILINE)[-1]


@pytest.fixture
def image(tmp_path):
    """A folder with what .dockerignore lets into the image."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    folder, copied = tmp_path / "image", set()
    for path in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split():
        held = False
        for rule in rules:
            pattern = rule.removeprefix("!").removeprefix("/")
            # A pattern names a file or a folder of the top level, or what is in it; `*` goes no deeper.
            if any(fnmatch(path, part) and (part != "*.py" or "/" not in path) for part in (pattern, f"{pattern}/*")):
                held = rule.startswith("!")
                copied |= {rule} if held else set()
        if held:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, folder / path)
    assert {rule for rule in rules if rule.startswith("!")} == copied, "Nothing is there for one of these."
    return folder


def sealed(folder: Path, data: Path, *command: str) -> list[str]:
    """A command line that runs `command` as in a container: its user, and nothing to write to but `data` and /dev/shm.

    It may read what is root's, as the Python of this machine may be.
    """
    user = f"setpriv --reuid={USER} --regid={USER} --clear-groups --no-new-privs"
    read = "--inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
    mounts = f"mount --bind {data} {data} && mount -o remount,ro,bind / && cd {folder}"
    return ["unshare", "--mount", "sh", "-c", f"{mounts} && exec {user} {read} {shlex.join(command)}"]


def test_image(image, deployed_path, store_settings, no_secrets_in_logs, tmp_path, processes):
    """What the image holds starts and takes an upload, not as root, on a file system that is read-only."""
    if os.geteuid() != 0:
        pytest.skip("Only root can make a file system read-only.")
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, int(USER), int(USER))
    own = dict(part.split("=", 1) for part in shlex.split(last("ENV")))
    assert own["DATABASE_URL"].startswith(f"sqlite:///{WRITABLE}/")
    own |= {"DATABASE_URL": own["DATABASE_URL"].replace(WRITABLE, str(data), 1), "PATH": deployed_path}
    own |= {"PORT": str(free_port()), "API_KEYS": API_KEY, "METRICS_TOKEN": API_KEY, "COVER_UPLOAD": "relay"}
    env = {**store_settings, **own}
    prepared = subprocess.run(sealed(image, data, "flask", "--app", "app", "prepare"), env=env, check=False)
    assert prepared.returncode == 0
    check = sealed(image, data, *eval(re.search(r"HEALTHCHECK .* CMD (.+)$", DOCKERFILE, re.MULTILINE)[1]))
    assert subprocess.run(check, env=env, check=False, stderr=subprocess.DEVNULL).returncode == 1
    with processes.start(*sealed(image, data, *eval(last("CMD"))), env=env, log=tmp_path / "log") as running:
        base = f"http://127.0.0.1:{own['PORT']}"
        running.wait_for_http(f"{base}/healthz")
        assert subprocess.run(check, env=env, check=False).returncode == 0
        assert upload(base)["status"] == "uploaded"
        assert requests.get(f"{base}/docs", timeout=10).status_code == 200
        assert requests.get(f"{base}/static/page.js", timeout=10).status_code == 200
        assert requests.get(f"{base}/metrics", headers={"Authorization": f"Bearer {API_KEY}"}, timeout=10).text
        status = Path(f"/proc/{running.process.pid}/status").read_text()
        assert re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)[1] == USER
        assert running.stop(signal.SIGTERM) == 0
    assert "Traceback" not in running.output(), running.output()
    assert [path.name for path in data.iterdir()] == ["loadbay.db"]


def upload(base):
    """Upload a file and a relayed cover that needs a temporary file; returns what the service says of the track."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    body = {"collection_id": COLLECTION, "track": {"file_name": "a.wav"}}
    opened = requests.post(f"{base}/v1/upload_session", json=body, headers=headers, timeout=10).json()
    assert put(opened["track_upload"], wav()).status_code == 200
    cover = png().ljust(2**20, b"\0")
    url = opened["track_cover_upload"]["upload_url"]
    assert requests.post(url, files={"file": ("cover.png", cover, "image/png")}, timeout=10).status_code == 200
    path = f"/v1/upload/{opened['upload_session_id']}/track/{opened['track_id']}/complete"
    return requests.post(f"{base}{path}", timeout=10).json()["track"]


def test_health_of_a_service_with_names(store_settings, tmp_path, processes):
    """A service that knows no 127.0.0.1 by name is well all the same."""
    port = free_port()
    own = {"DATABASE_URL": f"sqlite:///{tmp_path}/a.db", "TRUSTED_HOSTS": "uploads.example.com", "WEB_CONCURRENCY": "1"}
    env = {**store_settings, **own, "PORT": str(port)}
    with processes.start("gunicorn", "wsgi:app", env=env, log=tmp_path / "log") as running:
        running.wait_for_http(f"http://127.0.0.1:{port}/healthz")
        assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=10).status_code == 400
        check = [sys.executable, str(ROOT / "deploy" / "healthcheck.py")]
        assert subprocess.run(check, env={"PORT": str(port)}, check=False).returncode == 0


def test_settings_of_compose():
    """What compose.yaml sets for the service is a setting, and right once .env is filled in."""
    filled = {name: value or ("0123456789abcdef" if f"{name}:?" in COMPOSE else "") for name, value in EXAMPLE.items()}
    for name in ("release", "web", "worker"):
        environment = SERVICES[name]["environment"]
        assert set(environment) <= SETTINGS
        Settings.load({key: REFERENCE.sub(lambda found: filled[found[1]], text) for key, text in environment.items()})
    assert set(dict(part.split("=", 1) for part in shlex.split(last("ENV")))) & SETTINGS == {"PORT", "DATABASE_URL"}


def test_metrics_of_compose(settings):
    """A Prometheus beside the service asks for it by the name and the port that it has in that network."""
    env = SERVICES["web"]["environment"]
    hosts = env["TRUSTED_HOSTS"].replace("${TRUSTED_HOSTS:?is missing in .env}", "uploads.example.com")
    client = create_app({**settings, "TRUSTED_HOSTS": hosts, "METRICS_TOKEN": API_KEY}).test_client()
    assert "0.0.0.0:8000" in SERVICES["web"]["command"]
    assert "METRICS_TOKEN" in env
    for host, status in (("web:8000", 200), ("uploads.example.com", 200), ("172.18.0.5:8000", 400)):
        headers = {"Authorization": f"Bearer {API_KEY}", "Host": host}
        assert client.get("/metrics", headers=headers).status_code == status, host


def test_ends_of_compose():
    """A service has the time that it asks for to bring what has begun to its end."""
    graceful = int(re.search(r"^graceful_timeout = (\d+)$", (ROOT / "gunicorn.conf.py").read_text(), re.MULTILINE)[1])
    for name in ("web", "worker"):
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > graceful, name


def test_variables_of_compose():
    """.env.example has what compose.yaml asks for, and nothing else; no secret has a value there or here."""
    asked = set(REFERENCE.findall(COMPOSE))
    assert asked == set(EXAMPLE)
    for name, value in EXAMPLE.items():
        if re.search("SECRET|PASSWORD|API_KEYS|TOKEN", name):
            assert value == ""
    # Nothing has a default, so that what was forgotten is asked for.
    assert len(REFERENCE.findall(COMPOSE)) == COMPOSE.count("${")


def test_files_of_compose():
    """What compose.yaml mounts of ours is there, lies where nginx.conf looks for it, and commands are real."""
    config = (ROOT / "deploy" / "nginx.conf").read_text()
    mounts = [mount.split(":") for mount in SERVICES["nginx"]["volumes"] if mount.startswith(("./", "socket"))]
    for source, target, *_ in mounts:
        assert source == "socket" or (ROOT / source).exists(), source
        assert target == "/etc/nginx/nginx.conf" or target.replace("nginx-store", "nginx-*") in config, target
    procfile = dict(line.split(": ") for line in (ROOT / "Procfile").read_text().splitlines())
    for name, key in (("release", "release"), ("worker", "worker")):
        assert " ".join(SERVICES[name]["command"]) == procfile[key]
    assert SERVICES["web"]["command"][0] == "gunicorn"
    assert SERVICES["web"]["command"][-1] == procfile["web"].split()[-1]
    assert f"unix:{re.search('unix:([^ ]+)', config)[1]}" in SERVICES["web"]["command"]


def test_store_of_compose(tmp_path):
    """The store's command, run by the same program, makes a store that others reach."""

    class Composed(Store):
        def command(self):
            weed, *_ = super().command()
            told = [part.replace("/data", str(self.folder)) for part in SERVICES["seaweedfs"]["command"]]
            return [weed, *(part.replace("8333", str(self.port)) for part in told)]

    store = Composed(tmp_path / "store", free_port(), "tracks", ACCESS_KEY, SECRET_KEY)
    store.start()
    try:
        # Another address than the one that its parts use among themselves.
        assert requests.get(f"http://127.0.0.2:{store.port}/healthz", timeout=10).status_code == 200
        assert requests.get(f"http://127.0.0.2:{store.port}/tracks", timeout=10).status_code == 403
    finally:
        store.stop(signal.SIGKILL)
