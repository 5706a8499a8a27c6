"""nginx, with the very configuration that a deploy has, in front of gunicorn."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import requests

from conftest import ACCESS_KEY, BUCKET, SECRET_KEY
from dev.store import free_port, port_is_taken
from support import processes
from support.processes import ROOT, Running, wait_until

NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
KEY = "a-key-of-the-tests-0123456789"
KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for localhost, cert.pem, and its key, key.pem."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The PATH of a deploy: the programs that requirements.lock installs, its hashes checked, and the system's."""
    folder = tmp_path_factory.mktemp("deployed")
    uv, venv = str(Path(sys.executable).with_name("uv")), str(folder / "venv")
    # As whoever runs the tests would install: from the index, and by the certificates, of this machine.
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    options = ["--quiet", "--compile-bytecode", "--require-hashes", "--python", venv]
    subprocess.run([uv, "pip", "sync", *options, str(ROOT / "requirements.lock")], check=True)
    return f"{folder}/venv/bin:/usr/bin:/bin"


@contextmanager
def run_gunicorn(place: Path, settings: Mapping[str, Any]) -> Iterator[Running]:
    """The service in one sync worker, as gunicorn.conf.py has it, on a socket."""
    command = ("gunicorn", "--bind", f"unix:{place}", "wsgi:app")
    trust = dict(re.findall(r"(TRUSTED_PROX[A-Z_]+)=(\S+)", (ROOT / "deploy" / "loadbay.service").read_text()))
    env = {"WEB_CONCURRENCY": "1", **trust, "API_KEYS": KEY, **settings}
    with Running(*command, env=env, log=place.with_suffix(".log")) as process:
        process.wait_for("Booting worker")
        yield process


@dataclass
class Proxy:
    """An nginx that runs, at `https://localhost:port`, `http://localhost:plain`."""

    port: int
    plain: int
    folder: Path
    session: requests.Session

    @property
    def base(self) -> str:
        """Where clients reach the service."""
        return f"https://localhost:{self.port}"

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request with the key, and give the answer."""
        headers = {"Authorization": f"Bearer {KEY}", **options.pop("headers", {})}
        return self.session.request(method, f"{self.base}{path}", headers=headers, timeout=20, **options)

    def log(self) -> str:
        """What its access log holds."""
        return (self.folder / "access.log").read_text()


def has_ipv6() -> bool:
    """Whether something can listen on this machine's own address of IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


HAS_IPV6 = has_ipv6()


def without_ipv6(text: str) -> str:
    """A configuration as docs/deploy.md says where there is no IPv6; as it is where there is."""
    return text if HAS_IPV6 else re.sub(r" *listen \[::\].*\n", "", text)


@contextmanager
def run_nginx(
    folder: Path, certificate: Path, changes: Mapping[str, str], beside: Mapping[str, str]
) -> Iterator[Proxy]:
    """nginx with deploy/nginx.conf, in which nothing is changed but where things are, and what `changes` says.

    `beside` are more files of its configuration, by name.
    """
    proxy = Proxy(free_port(), free_port(), folder, requests.Session())
    # The machine's own proxies and certificates are none of its business.
    proxy.session.trust_env = False
    proxy.session.verify = str(certificate / "cert.pem")
    (folder / "nginx-test.conf").write_text("".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in KINDS))
    (folder / "tls").symlink_to(certificate)
    for name, text in beside.items():
        (folder / name).write_text(text.replace("/etc/loadbay/", f"{folder}/"))
    places = {
        "/srv/loadbay/static/": f"{ROOT}/static/",
        "/etc/loadbay/": f"{folder}/",
        "/var/log/nginx/": f"{folder}/",
        "listen 80;": f"listen 127.0.0.1:{proxy.plain};",
        "listen 443 ": f"listen 127.0.0.1:{proxy.port} ",
        "listen [::]:80;": f"listen [::1]:{proxy.plain};",
        "listen [::]:443 ": f"listen [::1]:{proxy.port} ",
    }
    text = without_ipv6((ROOT / "deploy" / "nginx.conf").read_text())
    places = {before: after for before, after in places.items() if HAS_IPV6 or "[::]" not in before}
    for before, after in {**places, **changes}.items():
        assert before in text, before
        text = text.replace(before, after)
    (folder / "nginx.conf").write_text(text)
    own = f"daemon off; pid {folder}/nginx.pid; user root;"
    files = ("-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "start.log"))
    command = (str(NGINX), *files, "-g", own)
    with Running(*command, env={}, log=folder / "nginx.log") as process:
        wait_until(lambda: port_is_taken(proxy.port) or process.process.poll() is not None, "nginx never listened.")
        assert process.process.poll() is None, process.output() + (folder / "start.log").read_text()
        yield proxy
    processes.OUTPUTS.extend(path.read_text() for path in folder.glob("*.log"))


@pytest.fixture(scope="module")
def store_settings(store_endpoint: str) -> dict[str, Any]:
    """The settings that lead to the run's store."""
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    return {"S3_ENDPOINT": store_endpoint, "S3_BUCKET": BUCKET, **keys}


@pytest.fixture(scope="module")
def gunicorn(store_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a service with a database of its own."""
    folder = tmp_path_factory.mktemp("gunicorn")
    own = {"DATABASE_URL": f"sqlite:///{folder}/loadbay.db", "CREATE_MISSING": "1", "COVER_UPLOAD": "relay"}
    with run_gunicorn(folder / "gunicorn.sock", {**store_settings, **own}):
        yield folder / "gunicorn.sock"


@pytest.fixture
def make_proxy(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Proxy]]:
    """Run nginx with these changes to its configuration, and with these files beside it."""
    if NGINX is None:
        pytest.skip("nginx is not installed: 'apt-get install nginx-light'.")
    with ExitStack() as stack:

        def make(changes: Mapping[str, str], beside: Mapping[str, str] = MappingProxyType({})) -> Proxy:
            return stack.enter_context(run_nginx(tmp_path_factory.mktemp("nginx"), certificate, changes, beside))

        yield make


@pytest.fixture
def proxy(make_proxy: Callable[..., Proxy], gunicorn: Path) -> Iterator[Proxy]:
    """nginx in front of `gunicorn`."""
    yield make_proxy({"/run/loadbay/gunicorn.sock": str(gunicorn)})
    processes.OUTPUTS.append(gunicorn.with_suffix(".log").read_text())
