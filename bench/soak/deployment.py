"""A complete deployment: nginx, gunicorn, the worker, PostgreSQL and SeaweedFS, as processes that may be killed."""

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
from . import clock
from .ledger import Rollback
from .receiver import Receiver

BUCKET, ACCESS_KEY, SECRET_KEY = "tracks", "soak", "soak-secret-0123456789"
API_KEY = "a-key-of-the-soak-0123456789"
WEBHOOK_SECRET = "whsec_c2VjcmV0IG9mIHRoZSB3ZWJob29rIG9mIHRoZSBzb2Fr"
PYTHON = os.environ.get("SOAK_PYTHON", sys.executable)
"""The Python of the service: one with only what a deployment installs, whose memory is measured (`make soak`)."""

FLASK = [PYTHON, "-m", "flask", "--app", "app"]
STOP_SECONDS = 30.0
"""The time for an orderly exit of gunicorn or the worker."""

RESTART_SECONDS = 1.0
"""The pause before a restart, as a process manager such as systemd makes it."""

# The buffers, limits and timeouts of deploy/nginx.conf, without TLS.
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


class SupervisedProcess:
    """A process that is restarted whenever it exits, unless it is suspended or stopped."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path):
        self.name, self.command, self.env = name, command, env
        self.extra_env: Mapping[str, str] = {}
        self.log = (folder / f"{name}.log").open("ab")
        self.enabled = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped = False
        self.thread = threading.Thread(target=self._supervise, daemon=True)

    def start(self) -> None:
        """Start it and its supervision."""
        self.enabled.set()
        self.thread.start()

    def _supervise(self) -> None:
        while not self.stopped:
            self.enabled.wait()
            if self.stopped:
                return
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env={**os.environ, **self.env, **self.extra_env}, stdout=self.log,
                stderr=self.log, start_new_session=True,
            )  # fmt: skip
            self.process.wait()
            time.sleep(0 if self.stopped else RESTART_SECONDS)

    def send(self, signum: signal.Signals) -> None:
        """Send it a signal if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signum)

    def suspend(self, signum: signal.Signals = signal.SIGTERM) -> None:
        """End it, and do not restart it for now."""
        self.enabled.clear()
        self.send(signum)

    def wait(self, seconds: float) -> None:
        """Wait until it has exited; kill it after so many seconds."""
        if self.process is None:
            return
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def resume(self) -> None:
        """Restart it."""
        self.enabled.set()

    @property
    def pid(self) -> int:
        """The process id, or 0 if it was never started."""
        return self.process.pid if self.process is not None else 0

    def children(self) -> list[int]:
        """Return the process ids of its children."""
        pid = self.pid
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def stop(self) -> None:
        """End it and its supervision."""
        self.stopped = True
        self.send(signal.SIGTERM)
        self.enabled.set()
        self.wait(15)
        self.log.close()


class Deployment:
    """All processes, with their data in `folder`, for the length of a `with` block."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        self.store = Store(folder / "store", free_port(), BUCKET, ACCESS_KEY, SECRET_KEY)
        self.postgres = Postgres()
        self.receiver = Receiver()
        self.processes: list[SupervisedProcess] = []
        self.rollbacks: list[Rollback] = []

    def __enter__(self) -> Deployment:
        try:
            return self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _start(self) -> Deployment:
        self.store.start()
        self.postgres.start()
        webhook = {"WEBHOOK_URL": self.receiver.url, "WEBHOOK_SECRET": WEBHOOK_SECRET, "WEBHOOK_ALLOW_PRIVATE": "1"}
        self.env = {**self.settings, **webhook, "DATABASE_URL": self.postgres.url, "SWEEP_INTERVAL": "60"}
        run_flask(self.env, "prepare")
        self.gunicorn = self._supervise("gunicorn", gunicorn_command(f"unix:{self.folder}/gunicorn.sock"), self.env)
        self.worker = self._supervise("worker", [*FLASK, "worker"], self.env)
        config = self.folder / "nginx.conf"
        config.write_text(NGINX.format(folder=self.folder, port=self.port))
        # Started by root, nginx runs its workers as nobody, who may not open the socket.
        directives = f"daemon off;{' user root;' if os.geteuid() == 0 else ''}"
        options = ["-c", str(config), "-e", str(self.folder / "nginx-error.log"), "-g", directives]
        self.nginx = self._supervise("nginx", [nginx_path(), "-p", str(self.folder), *options], {})
        wait_until_ready(self.origin)
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        for process in reversed(self.processes):
            process.stop()
        self.receiver.close()
        self.postgres.stop()
        self.store.resume()
        self.store.stop()

    @property
    def settings(self) -> dict[str, str]:
        """The service's settings, without its database."""
        return {
            "S3_ENDPOINT": self.store.endpoint, "S3_BUCKET": BUCKET, "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "API_KEYS": API_KEY, "WEB_CONCURRENCY": "2", "LOG_REQUESTS": "0",
        }  # fmt: skip

    def _supervise(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> SupervisedProcess:
        process = SupervisedProcess(name, command, env, self.folder)
        self.processes.append(process)
        process.start()
        return process

    def store_client(self) -> Minio:
        """Return a client of the store with the service's own credentials."""
        return Minio(self.store.endpoint.removeprefix("http://"), ACCESS_KEY, SECRET_KEY, secure=False)

    def set_clock(self, seconds: int) -> None:
        """Restart gunicorn and the worker with a clock that is so many seconds ahead."""
        for process in (self.gunicorn, self.worker):
            process.extra_env = clock.environment(self.folder, seconds) if seconds else {}
            process.send(signal.SIGTERM)

    def back_up_database(self) -> Path:
        """Copy PostgreSQL's data, for which it is stopped; return the copy."""
        data, copy = self._database_folder(), Path(str(self.postgres.folder)) / "backup"
        self.rollbacks.append(Rollback(time.monotonic()))
        self.postgres.pause()
        # Owner and permissions must stay, too.
        subprocess.run(["cp", "-a", str(data), str(copy)], check=True)
        self.postgres.resume()
        return copy

    def restore_database(self, copy: Path) -> None:
        """Replace PostgreSQL's data by the copy, while nothing else of the service runs."""
        for process in (self.gunicorn, self.worker):
            process.suspend()
        for process in (self.gunicorn, self.worker):
            process.wait(STOP_SECONDS)
        self.postgres.pause()
        shutil.rmtree(self._database_folder())
        copy.rename(self._database_folder())
        self.postgres.resume()
        self.rollbacks[-1].end = time.monotonic()
        for process in (self.gunicorn, self.worker):
            process.resume()

    def _database_folder(self) -> Path:
        return Path(str(self.postgres.folder)) / "data"

    def log_texts(self) -> dict[str, str]:
        """Return everything that the service has logged, by process."""
        return {
            process.name: (self.folder / f"{process.name}.log").read_text(errors="replace")
            for process in (self.gunicorn, self.worker)
        }


def gunicorn_command(address: str) -> list[str]:
    """Return the command line of gunicorn at `address`: HOST:PORT, or unix:PATH."""
    return [PYTHON, "-m", "gunicorn", "--bind", address, "wsgi:app"]


def run_flask(env: Mapping[str, str], *arguments: str) -> None:
    """Run a command of the service. Exits with its output if it fails."""
    command = [*FLASK, *arguments]
    result = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if result.returncode:
        raise SystemExit(f"flask {arguments[0]} failed:\n{result.stdout.decode(errors='replace')}")


def nginx_path() -> str:
    """Return the path of nginx. Exits if it is not installed."""
    path = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if path is None:
        raise SystemExit("nginx is not installed: apt-get install nginx-light")
    return path


def wait_until_ready(origin: str, seconds: float = 60) -> None:
    """Wait until the service reports that its database and its store are ready. Exits after so many seconds."""
    if not wait_until(lambda: ready(origin), seconds):
        raise SystemExit(f"The service was not ready within {seconds:g} seconds.")


def ready(origin: str) -> bool:
    """Return True if the service reports that its database and its store are ready."""
    try:
        with urlopen(f"{origin}/readyz", timeout=5) as response:
            return bool(response.status == 200)
    except (HTTPError, OSError):
        return False


def wait_until(condition: Callable[[], Any], seconds: float) -> bool:
    """Wait until `condition()` is true; return False after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False
