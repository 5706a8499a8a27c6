"""Dockerfile and compose.yaml: their files exist, and the image's content runs as it would in a container."""

from __future__ import annotations

import json
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
from support.processes import ROOT, open_sockets
from support.sample_files import png, wav
from support.store import ACCESS_KEY, SECRET_KEY, put

pytestmark = pytest.mark.sqlite

DOCKERFILE = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
COMPOSE = (ROOT / "compose.yaml").read_text()
COMPOSE_SERVICES = yaml.safe_load(COMPOSE)["services"]
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+):?\?is missing in \.env\}")
EXAMPLE_ENV = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
SETTINGS = {name.upper() for name in Settings.__dataclass_fields__} | {"PORT", "WEB_CONCURRENCY"}
USER = re.search(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)[1]
WRITABLE = re.search(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)[1]


def last_argument(instruction):
    """Return the arguments of the last such instruction in the Dockerfile."""
    return re.findall(rf"^{instruction} (.+)$", DOCKERFILE, re.MULTILINE)[-1]


@pytest.fixture
def image_folder(tmp_path):
    """A folder with the files that .dockerignore lets into the image."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    folder, copied = tmp_path / "image", set()
    for path in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split():
        included = False
        for rule in rules:
            pattern = rule.removeprefix("!").removeprefix("/")
            # A pattern is a file or folder of the top level, or its content; `*.py` does not include subfolders.
            if any(fnmatch(path, part) and (part != "*.py" or "/" not in path) for part in (pattern, f"{pattern}/*")):
                included = rule.startswith("!")
                copied |= {rule} if included else set()
        if included:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, folder / path)
    assert {rule for rule in rules if rule.startswith("!")} == copied, "A rule of .dockerignore matches no file."
    return folder


def in_container(folder: Path, data: Path, *command: str) -> list[str]:
    """Return a command line that runs `command` as in a container: as its user, on a read-only file system.

    Only `data` and /dev/shm are writable. The user may read root's files, since this machine's Python may be root's.
    """
    user = f"setpriv --reuid={USER} --regid={USER} --clear-groups --no-new-privs"
    read = "--inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
    mounts = f"mount --bind {data} {data} && mount -o remount,ro,bind / && cd {folder}"
    return ["unshare", "--mount", "sh", "-c", f"{mounts} && exec {user} {read} {shlex.join(command)}"]


def test_image_runs_on_a_read_only_file_system(
    image_folder, deployed_path, store_settings, no_secrets_in_logs, tmp_path, processes
):
    """The image's content starts and accepts an upload, without root, on a read-only file system."""
    if os.geteuid() != 0:
        pytest.skip("Only root can remount a file system read-only.")
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, int(USER), int(USER))
    variables = dict(part.split("=", 1) for part in shlex.split(last_argument("ENV")))
    assert variables["DATABASE_URL"].startswith(f"sqlite:///{WRITABLE}/")
    variables |= {"DATABASE_URL": variables["DATABASE_URL"].replace(WRITABLE, str(data), 1), "PATH": deployed_path}
    variables |= {"PORT": str(free_port()), "API_KEYS": API_KEY, "METRICS_TOKEN": API_KEY, "COVER_UPLOAD": "relay"}
    env = {**store_settings, **variables}
    prepared = subprocess.run(
        in_container(image_folder, data, "flask", "--app", "app", "prepare"), env=env, check=False
    )
    assert prepared.returncode == 0
    check = in_container(image_folder, data, *eval(re.search(r"HEALTHCHECK .* CMD (.+)$", DOCKERFILE, re.MULTILINE)[1]))
    assert subprocess.run(check, env=env, check=False, stderr=subprocess.DEVNULL).returncode == 1
    with processes.start(
        *in_container(image_folder, data, *eval(last_argument("CMD"))), env=env, log=tmp_path / "log"
    ) as running:
        base = f"http://127.0.0.1:{variables['PORT']}"
        running.wait_for_http(f"{base}/healthz")
        assert subprocess.run(check, env=env, check=False).returncode == 0
        assert upload_track(base)["status"] == "uploaded"
        assert requests.get(f"{base}/docs", timeout=10).status_code == 200
        assert requests.get(f"{base}/loadbay/page.js", timeout=10).status_code == 200
        assert requests.get(f"{base}/metrics", headers={"Authorization": f"Bearer {API_KEY}"}, timeout=10).text
        status = Path(f"/proc/{running.process.pid}/status").read_text()
        assert re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)[1] == USER
        assert running.stop(signal.SIGTERM) == 0
    assert "Traceback" not in running.output(), running.output()
    assert [path.name for path in data.iterdir()] == ["loadbay.db"]


def upload_track(base):
    """Upload a file and a relayed cover that needs a temporary file; return the track."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    body = {"collection_id": COLLECTION, "track": {"file_name": "a.wav"}}
    created = requests.post(f"{base}/v1/upload_session", json=body, headers=headers, timeout=10).json()
    assert put(created["track_upload"], wav()).status_code == 200
    cover = png().ljust(2**20, b"\0")
    url = created["track_cover_upload"]["upload_url"]
    assert requests.post(url, files={"file": ("cover.png", cover, "image/png")}, timeout=10).status_code == 200
    path = f"/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/complete"
    return requests.post(f"{base}{path}", timeout=10).json()["track"]


def test_health_check_works_with_trusted_hosts(store_settings, tmp_path, processes):
    """The health check succeeds for a service with TRUSTED_HOSTS."""
    port = free_port()
    variables = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/a.db",
        "TRUSTED_HOSTS": "uploads.example.com",
        "WEB_CONCURRENCY": "1",
    }
    env = {**store_settings, **variables, "PORT": str(port)}
    with processes.start("gunicorn", "wsgi:app", env=env, log=tmp_path / "log") as running:
        running.wait_for_http(f"http://127.0.0.1:{port}/healthz")
        assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=10).status_code == 400
        check = [sys.executable, str(ROOT / "deploy" / "healthcheck.py")]
        assert subprocess.run(check, env={"PORT": str(port)}, check=False).returncode == 0


def test_compose_settings_are_valid():
    """The variables that compose.yaml sets are settings, and valid once .env is complete."""
    filled = {
        name: value or ("0123456789abcdef" if f"{name}:?" in COMPOSE else "") for name, value in EXAMPLE_ENV.items()
    }
    for name in ("release", "web", "worker"):
        environment = COMPOSE_SERVICES[name]["environment"]
        assert set(environment) <= SETTINGS
        Settings.load({key: VARIABLE.sub(lambda match: filled[match[1]], text) for key, text in environment.items()})
    assert set(dict(part.split("=", 1) for part in shlex.split(last_argument("ENV")))) & SETTINGS == {
        "PORT",
        "DATABASE_URL",
    }


def test_metrics_are_available_inside_compose(settings):
    """Prometheus in the network of compose.yaml reads the metrics by the service's name and port."""
    env = COMPOSE_SERVICES["web"]["environment"]
    hosts = env["TRUSTED_HOSTS"].replace("${TRUSTED_HOSTS:?is missing in .env}", "uploads.example.com")
    client = create_app({**settings, "TRUSTED_HOSTS": hosts, "METRICS_TOKEN": API_KEY}).test_client()
    assert "0.0.0.0:8000" in COMPOSE_SERVICES["web"]["command"]
    assert "METRICS_TOKEN" in env
    for host, status in (("web:8000", 200), ("uploads.example.com", 200), ("172.18.0.5:8000", 400)):
        headers = {"Authorization": f"Bearer {API_KEY}", "Host": host}
        assert client.get("/metrics", headers=headers).status_code == status, host


def test_compose_waits_for_graceful_shutdown():
    """The stop grace period is longer than the graceful timeout."""
    graceful = int(re.search(r"^graceful_timeout = (\d+)$", (ROOT / "gunicorn.conf.py").read_text(), re.MULTILINE)[1])
    for name in ("web", "worker"):
        assert int(COMPOSE_SERVICES[name]["stop_grace_period"].removesuffix("s")) > graceful, name


def test_env_example_has_every_variable():
    """.env.example has exactly the variables of compose.yaml, and no values of secrets."""
    variables = set(VARIABLE.findall(COMPOSE))
    assert variables == set(EXAMPLE_ENV)
    for name, value in EXAMPLE_ENV.items():
        if re.search("SECRET|PASSWORD|API_KEYS|TOKEN", name):
            assert value == ""
    # No variable has a default, so that a missing one is an error.
    assert len(VARIABLE.findall(COMPOSE)) == COMPOSE.count("${")


def test_compose_mounts_and_commands_exist():
    """The mounted files exist at the paths of nginx.conf, and the commands are those of the Procfile."""
    config = (ROOT / "deploy" / "nginx.conf").read_text()
    mounts = [mount.split(":") for mount in COMPOSE_SERVICES["nginx"]["volumes"] if mount.startswith(("./", "socket"))]
    for source, target, *_ in mounts:
        assert source == "socket" or (ROOT / source).exists(), source
        assert target == "/etc/nginx/nginx.conf" or target.replace("nginx-store", "nginx-*") in config, target
    procfile = dict(line.split(": ") for line in (ROOT / "Procfile").read_text().splitlines())
    for name, key in (("release", "release"), ("worker", "worker")):
        assert " ".join(COMPOSE_SERVICES[name]["command"]) == procfile[key]
    assert COMPOSE_SERVICES["web"]["command"][0] == "gunicorn"
    assert COMPOSE_SERVICES["web"]["command"][-1] == procfile["web"].split()[-1]
    assert f"unix:{re.search('unix:([^ ]+)', config)[1]}" in COMPOSE_SERVICES["web"]["command"]


LISTENING, LOOPBACK = "0A", "0100007F"
"""The state of a socket and the address 127.0.0.1 in /proc/net/tcp."""


class ComposedStore(Store):
    """The store of compose.yaml, with its command and its identities, on ports of its own."""

    def command(self) -> list[str]:
        """Return the command line of compose.yaml, with other folders and ports."""
        weed, *_ = super().command()
        replaced = {"/data": str(self.folder), "8333": str(self.port)}
        replaced["/etc/seaweedfs/identities.json"] = str(self._identities_file)
        arguments = COMPOSE_SERVICES["seaweedfs"]["command"]
        for text, other in replaced.items():
            arguments = [argument.replace(text, other) for argument in arguments]
        return [weed, *arguments, *self._inner_ports()]

    def _write_identities(self) -> None:
        """Write the identities of compose.yaml, with the keys of the tests."""
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        content = yaml.safe_load(COMPOSE)["configs"]["identities"]["content"]
        self._identities_file.write_text(VARIABLE.sub(lambda match: keys[match[1]], content))


@pytest.fixture
def composed_store(tmp_path):
    """The store of compose.yaml."""
    store = ComposedStore(tmp_path / "store", free_port(), "tracks", ACCESS_KEY, SECRET_KEY)
    store.start()
    yield store
    store.stop(signal.SIGKILL)


def listening_addresses(process_id):
    """Return the addresses on which a process accepts TCP connections, as the kernel writes them."""
    own = open_sockets(process_id)
    tables = [Path(f"/proc/{process_id}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    sockets = [line.split() for table in tables for line in table]
    return [fields[1] for fields in sockets if fields[3] == LISTENING and f"socket:[{fields[9]}]" in own]


def test_compose_store_listens_on_loopback_alone(composed_store):
    """Other containers reach neither master, volume server nor filer, nor S3 past the gate."""
    addresses = listening_addresses(composed_store.process.pid)
    assert len(addresses) >= 5
    assert {address.partition(":")[0] for address in addresses} == {LOOPBACK}


def test_compose_gate_leads_to_the_store(composed_store, tmp_path, processes, settings):
    """The service works through the gate, with the identity of compose.yaml: everything that it needs is measured."""
    gate = COMPOSE_SERVICES["store-gate"]
    source, target, _ = gate["volumes"][0].split(":")
    assert (gate["network_mode"], target) == ("service:seaweedfs", "/etc/nginx/nginx.conf")
    port = free_port()
    config = (ROOT / source).read_text().replace("8333", str(composed_store.port)).replace("8334", str(port))
    (tmp_path / "nginx.conf").write_text(f"daemon off; pid {tmp_path}/pid;\n{config}")
    endpoint = COMPOSE_SERVICES["web"]["environment"]["S3_ENDPOINT"]
    assert endpoint == "http://seaweedfs:8334"
    assert "server seaweedfs:8334;" in (ROOT / "deploy" / "nginx-store.conf").read_text()
    command = ("nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"))
    with processes.start(*command, env={}, log=tmp_path / "nginx.log") as running:
        running.wait_for_http(f"http://127.0.0.1:{port}/healthz")
        values = {**settings, "S3_ENDPOINT": f"http://127.0.0.1:{port}", "S3_BUCKET": "tracks"}
        result = create_app(values).test_cli_runner().invoke(args=["doctor", "--fix", "--origin", "https://a.example"])
    assert result.exit_code == 0, result.output
    assert "not supported" not in result.output.rpartition("Checking again.")[2], result.output


def test_compose_identity_is_the_one_that_doctor_prints(settings):
    """The identity of compose.yaml is what `flask doctor --policy=seaweedfs` prints for its settings."""
    result = create_app(settings).test_cli_runner().invoke(args=["doctor", "--policy=seaweedfs"])
    (printed,), (composed,) = (
        json.loads(text)["identities"]
        for text in (result.stdout, yaml.safe_load(COMPOSE)["configs"]["identities"]["content"])
    )
    assert (printed["name"], printed["actions"]) == (composed["name"], composed["actions"])
    assert composed["credentials"][0]["secretKey"].startswith("${AWS_SECRET_ACCESS_KEY:?")
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} & set(COMPOSE_SERVICES["seaweedfs"]["environment"])
