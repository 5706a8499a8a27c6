"""nginx with the configuration of a deployment, in front of gunicorn."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from dev.store import free_port, port_is_taken
from support.processes import ROOT, Processes, RunningProcess, wait_until

NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
NGINX_CONF = (ROOT / "deploy" / "nginx.conf").read_text()
API_KEY = "a-key-of-the-tests-0123456789"
TEMPORARY_FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextmanager
def run_gunicorn(processes: Processes, socket_path: Path, settings: Mapping[str, Any]) -> Iterator[RunningProcess]:
    """Run the service in one worker, with gunicorn.conf.py, on a Unix socket."""
    command = ("gunicorn", "--bind", f"unix:{socket_path}", "wsgi:app")
    trust = dict(re.findall(r"(TRUSTED_PROX[A-Z_]+)=(\S+)", (ROOT / "deploy" / "loadbay.service").read_text()))
    env = {"WEB_CONCURRENCY": "1", **trust, "API_KEYS": API_KEY, **settings}
    with processes.start(*command, env=env, log=socket_path.with_suffix(".log")) as process:
        process.wait_for_output("Booting worker")
        yield process


@dataclass
class Proxy:
    """A running nginx, at `https://localhost:{port}` and `http://localhost:{http_port}`."""

    port: int
    http_port: int
    folder: Path
    session: requests.Session

    @property
    def base(self) -> str:
        """The base URL for clients."""
        return f"https://localhost:{self.port}"

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request with the API key, and return the response."""
        headers = {"Authorization": f"Bearer {API_KEY}", **options.pop("headers", {})}
        return self.session.request(method, f"{self.base}{path}", headers=headers, timeout=20, **options)

    def log(self) -> str:
        """Return the text of the access log."""
        return (self.folder / "access.log").read_text()


def has_ipv6() -> bool:
    """Return whether this machine can listen on its loopback address of IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


HAS_IPV6 = has_ipv6()


def without_ipv6(text: str) -> str:
    """Return a configuration as docs/deploy.md describes it for a machine without IPv6, if this is one."""
    return text if HAS_IPV6 else re.sub(r" *listen \[::\].*\n", "", text)


@contextmanager
def run_nginx(
    processes: Processes, folder: Path, certificate: Path, changes: Mapping[str, str], extra_files: Mapping[str, str]
) -> Iterator[Proxy]:
    """Run nginx with deploy/nginx.conf, in which only paths and ports are replaced, and what `changes` has.

    `extra_files` are further files of its configuration, by name.
    """
    proxy = Proxy(free_port(), free_port(), folder, requests.Session())
    # The proxies and certificates of this machine do not apply.
    proxy.session.trust_env = False
    proxy.session.verify = str(certificate / "cert.pem")
    temporary = "".join(f"{name}_temp_path {folder}/{name};\n" for name in TEMPORARY_FOLDERS)
    (folder / "nginx-test.conf").write_text(temporary)
    (folder / "tls").symlink_to(certificate)
    for name, text in extra_files.items():
        (folder / name).write_text(text.replace("/etc/loadbay/", f"{folder}/"))
    (folder / "nginx.conf").write_text(_test_configuration(proxy, changes))
    own = f"daemon off; pid {folder}/nginx.pid; user root;"
    files = ("-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "start.log"))
    command = (str(NGINX), *files, "-g", own)
    with processes.start(*command, env={}, log=folder / "nginx.log") as process:
        wait_until(lambda: port_is_taken(proxy.port) or process.process.poll() is not None, "nginx does not listen.")
        assert process.process.poll() is None, process.output() + (folder / "start.log").read_text()
        yield proxy
    processes.outputs.extend(path.read_text() for path in folder.glob("*.log"))


def _test_configuration(proxy: Proxy, changes: Mapping[str, str]) -> str:
    """Return deploy/nginx.conf with the paths and ports of a test, and with `changes`."""
    replacements = {
        "/srv/loadbay/static/": f"{ROOT}/static/",
        "/etc/loadbay/": f"{proxy.folder}/",
        "/var/log/nginx/": f"{proxy.folder}/",
        "listen 80;": f"listen 127.0.0.1:{proxy.http_port};",
        "listen 443 ": f"listen 127.0.0.1:{proxy.port} ",
        "listen [::]:80;": f"listen [::1]:{proxy.http_port};",
        "listen [::]:443 ": f"listen [::1]:{proxy.port} ",
    }
    text = without_ipv6(NGINX_CONF)
    replacements = {old: new for old, new in replacements.items() if HAS_IPV6 or "[::]" not in old}
    for old, new in {**replacements, **changes}.items():
        assert old in text, old
        text = text.replace(old, new)
    return text
