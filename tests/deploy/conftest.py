"""Fixtures of the tests of a deployment: its programs, its certificate, gunicorn and nginx."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from support.nginx import NGINX, Proxy, run_gunicorn, run_nginx
from support.packages import build
from support.processes import ROOT, Processes
from support.store import ACCESS_KEY, BUCKET, SECRET_KEY


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
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build(ROOT, tmp_path_factory.mktemp("wheel"))[0]


@pytest.fixture(scope="session")
def client_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the client."""
    return build(ROOT / "loadbay_client", tmp_path_factory.mktemp("client"))[0]


@pytest.fixture(scope="session")
def deployed_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The PATH of a deployment: the programs that requirements.lock installs, by hash, and those of the system."""
    folder = tmp_path_factory.mktemp("deployed")
    uv, venv = str(Path(sys.executable).with_name("uv")), str(folder / "venv")
    # With this machine's own index and certificates, as a developer would install it.
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    options = ["--quiet", "--compile-bytecode", "--require-hashes", "--python", venv]
    subprocess.run([uv, "pip", "sync", *options, str(ROOT / "requirements.lock")], check=True)
    return f"{folder}/venv/bin:/usr/bin:/bin"


@pytest.fixture(scope="module")
def store_settings(store_endpoint: str) -> dict[str, Any]:
    """The settings of the run's store."""
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    return {"S3_ENDPOINT": store_endpoint, "S3_BUCKET": BUCKET, **keys}


@pytest.fixture(scope="module")
def gunicorn(store_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a service with its own database."""
    folder = tmp_path_factory.mktemp("gunicorn")
    own = {"DATABASE_URL": f"sqlite:///{folder}/loadbay.db", "CREATE_MISSING": "1", "COVER_UPLOAD": "relay"}
    with run_gunicorn(Processes(), folder / "gunicorn.sock", {**store_settings, **own}):
        yield folder / "gunicorn.sock"


@pytest.fixture
def make_proxy(
    certificate: Path, tmp_path_factory: pytest.TempPathFactory, processes: Processes
) -> Iterator[Callable[..., Proxy]]:
    """Run nginx with changes to its configuration, and with further files of it."""
    if NGINX is None:
        pytest.skip("nginx is not installed: 'apt-get install nginx-light'.")
    with ExitStack() as stack:

        def make(changes: Mapping[str, str], extra_files: Mapping[str, str] = MappingProxyType({})) -> Proxy:
            folder = tmp_path_factory.mktemp("nginx")
            return stack.enter_context(run_nginx(processes, folder, certificate, changes, extra_files))

        yield make


@pytest.fixture
def proxy(make_proxy: Callable[..., Proxy], gunicorn: Path, processes: Processes) -> Iterator[Proxy]:
    """nginx in front of `gunicorn`."""
    yield make_proxy({"/run/loadbay/gunicorn.sock": str(gunicorn)})
    processes.outputs.append(gunicorn.with_suffix(".log").read_text())
