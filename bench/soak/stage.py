"""What runs: nginx before gunicorn, the worker, PostgreSQL and SeaweedFS, each a process that may be killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from minio import Minio

from dev.postgres import Postgres
from dev.store import Store, free_port

from ..server import ROOT
from .receiver import Receiver

BUCKET, ACCESS_KEY, SECRET_KEY = "tracks", "soak", "soak-secret-0123456789"
KEY = "a-key-of-the-soak-0123456789"
WEBHOOK_SECRET = "whsec_c2VjcmV0IG9mIHRoZSB3ZWJob29rIG9mIHRoZSBzb2Fr"
RESTART_SECONDS = 1.0
"""A process manager such as systemd starts again what ended, after this pause."""

# What a client meets of deploy/nginx.conf, without TLS: buffers, limits, who is answered when nobody is there.
NGINX = """
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 10304k;
    upstream loadbay {{ server unix:{folder}/gunicorn.sock fail_timeout=0; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://loadbay;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_read_timeout 65s;
        }}
    }}
}}
"""


class Kept:
    """A process that is started again whenever it ends, until it is told to stay away."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path):
        self.name, self.command, self.env = name, command, env
        self.log = (folder / f"{name}.log").open("ab")
        self.wanted = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self.over = False
        self.thread = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        """Start it, and keep it running."""
        self.wanted.set()
        self.thread.start()

    def _keep(self) -> None:
        while not self.over:
            self.wanted.wait()
            if self.over:
                return
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env={**os.environ, **self.env}, stdout=self.log, stderr=self.log,
                start_new_session=True,
            )  # fmt: skip
            self.process.wait()
            time.sleep(0 if self.over else RESTART_SECONDS)

    def send(self, sign: signal.Signals) -> None:
        """Send it a signal, where it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(sign)

    def away(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """End it, and do not start it again for now."""
        self.wanted.clear()
        self.send(sign)

    def back(self) -> None:
        """Start it again."""
        self.wanted.set()

    def children(self) -> list[int]:
        """The ids of the processes that it started."""
        pid = self.process.pid if self.process is not None else 0
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def stop(self) -> None:
        """End it for good."""
        self.over = True
        self.send(signal.SIGTERM)
        self.wanted.set()
        if self.process is not None:
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.log.close()


class Stage:
    """All of it, in `folder`, for as long as the `with` block lasts."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        self.store = Store(folder / "store", free_port(), BUCKET, ACCESS_KEY, SECRET_KEY)
        self.postgres = Postgres()
        self.receiver = Receiver()
        self.kept: list[Kept] = []

    def __enter__(self) -> Stage:
        try:
            return self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _start(self) -> Stage:
        self.store.start()
        self.postgres.start()
        webhook = {"WEBHOOK_URL": self.receiver.url, "WEBHOOK_SECRET": WEBHOOK_SECRET, "WEBHOOK_ALLOW_PRIVATE": "1"}
        env = {**self.settings, **webhook, "DATABASE_URL": self.postgres.url}
        flask = [sys.executable, "-m", "flask", "--app", "app"]
        subprocess.run([*flask, "prepare"], cwd=ROOT, env={**os.environ, **env}, check=True, stdout=subprocess.DEVNULL)
        self.gunicorn = self._keep("gunicorn", self.gunicorn_command(self.folder), env)
        self.worker = self._keep("worker", [*flask, "worker"], {**env, "SWEEP_INTERVAL": "60"})
        config = self.folder / "nginx.conf"
        config.write_text(NGINX.format(folder=self.folder, port=self.port))
        # nginx's workers are nobody's where root starts it, and then the socket is not theirs to open.
        own = f"daemon off;{' user root;' if os.geteuid() == 0 else ''}"
        options = ["-c", str(config), "-e", str(self.folder / "nginx-error.log"), "-g", own]
        self.nginx = self._keep("nginx", [nginx(), "-p", str(self.folder), *options], {})
        until_ready(self.origin)
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        for kept in reversed(self.kept):
            kept.stop()
        self.receiver.close()
        self.postgres.stop()
        self.store.resume()
        self.store.stop()

    @property
    def settings(self) -> dict[str, str]:
        """The service's settings, but for its database."""
        return {
            "S3_ENDPOINT": self.store.endpoint, "S3_BUCKET": BUCKET, "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "API_KEYS": KEY, "WEB_CONCURRENCY": "2", "LOG_REQUESTS": "0",
        }  # fmt: skip

    @staticmethod
    def gunicorn_command(folder: Path) -> list[str]:
        """gunicorn as a deploy runs it, on a socket in `folder`."""
        return [sys.executable, "-m", "gunicorn", "--bind", f"unix:{folder}/gunicorn.sock", "wsgi:app"]

    def _keep(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> Kept:
        kept = Kept(name, command, env, self.folder)
        self.kept.append(kept)
        kept.start()
        return kept

    def bucket(self) -> Minio:
        """The bucket, by the keys of whoever runs the service."""
        return Minio(self.store.endpoint.removeprefix("http://"), ACCESS_KEY, SECRET_KEY, secure=False)

    def resident_mib(self) -> float:
        """The memory of the largest of gunicorn's workers."""
        sizes = [0]
        for pid in self.gunicorn.children():
            try:
                sizes.append(int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]))
            except (OSError, IndexError):
                continue
        return max(sizes) / 1024


def nginx() -> str:
    """The program. Exits where there is none."""
    found = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if found is None:
        raise SystemExit("nginx is not installed: apt-get install nginx-light")
    return found


def until_ready(origin: str, seconds: float = 60) -> None:
    """Wait until the service says that its database and its store are there. Exits where it never does."""
    if not until(lambda: _ready(origin), seconds):
        raise SystemExit(f"The service was not ready within {seconds:g} seconds.")


def _ready(origin: str) -> bool:
    try:
        with urlopen(f"{origin}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (HTTPError, OSError):
        return False


def until(happened: Callable[[], Any], seconds: float) -> bool:
    """Wait until `happened()`; whether it did in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if happened():
            return True
        time.sleep(0.1)
    return False
