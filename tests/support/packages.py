"""Distributions that the tests build, and the environments that they install them in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests

from dev.store import free_port
from loadbay_client import Client
from support.api import COLLECTION
from support.processes import ROOT, Processes, RunningProcess
from support.sample_files import png, wav

CLASSIFIERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
PYTHONS = [version for item in CLASSIFIERS if "." in (version := item.rpartition(" :: ")[2])]
"""The versions of Python that the package is for."""

UV = str(Path(sys.executable).with_name("uv"))


def build(source: Path, target: Path) -> tuple[Path, Path]:
    """Build the wheel and the sdist of the project at `source`, and return their paths."""
    command = (sys.executable, "-m", "hatchling", "build", "--directory", str(target))
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    (wheel,), (sdist,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return wheel, sdist


def run_uv(*arguments: str) -> str:
    """Run uv with this machine's own index and certificates, as a developer would; return its output."""
    command = (UV, *arguments)
    result = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert result.returncode == 0, result.stdout
    return result.stdout


def create_environment(folder: Path, *requirements: str, python: str = sys.executable) -> Path:
    """Install requirements in a new virtual environment at `folder`, and return it. Options of uv may be among them."""
    run_uv("venv", "--quiet", "--no-python-downloads", "--python", python, str(folder))
    run_uv("pip", "install", "--quiet", "--python", str(folder), *requirements)
    return folder


def upload_folder(base: str, folder: Path, key: str | None = None) -> list[str]:
    """Upload a file with its cover, and one in parts, to the service at `base`; return the statuses of the tracks."""
    client = Client(base, key, multipart_threshold=5 * 2**20, part_size=5 * 2**20, max_attempts=3)
    (folder / "small.wav").write_bytes(wav())
    (folder / "small.png").write_bytes(png())
    (folder / "large.wav").write_bytes(wav() + bytes(6 * 2**20))
    with client.session(COLLECTION) as session:
        session.upload(folder / "small.wav", cover=folder / "small.png")
        session.upload(folder / "large.wav")
        tracks = list(session.tracks())
        check_page(f"{base}/u/{session.id}")
    assert [track["cover"] and track["cover"]["status"] for track in tracks] == ["uploaded", None]
    return [track["status"] for track in tracks]


def check_page(url: str) -> None:
    """Check that the upload page and all that it links to are served, under the page's own policy."""
    page = requests.get(url, timeout=20)
    assert page.status_code == 200, page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    links = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert len(links) > 3
    for link in links:
        response = requests.get(urljoin(url, link), timeout=20)
        assert response.status_code == 200, link
        assert "of the host" not in response.text, link


class Installation:
    """Programs of an environment, run in a folder that has no checkout."""

    def __init__(self, processes: Processes, environment: Path, env: Mapping[str, Any], folder: Path):
        self.processes, self.folder, self.port = processes, folder, free_port()
        self.env = {**env, "PATH": f"{environment}/bin:/usr/bin:/bin", "PORT": str(self.port)}
        self.base = f"http://127.0.0.1:{self.port}"

    def run(self, *command: str) -> str:
        """Run a program, which must succeed, and return its output."""
        result = self.processes.run(*command, env=self.env, cwd=self.folder)
        assert result.returncode == 0, result.stdout
        return result.stdout

    def start(self, *command: str) -> RunningProcess:
        """Start a program."""
        log = self.folder.parent / f"{command[0]}.log"
        return self.processes.start(*command, env=self.env, log=log, cwd=self.folder)


def find_python(version: str) -> str | None:
    """Return the interpreter of a version such as `3.12`, of the system or of pyenv, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python{version}"), *sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python")))]
    check = "import os, sys, venv; print('%d.%d' % sys.version_info[:2], os.path.realpath(sys.executable))"
    for candidate in filter(None, candidates):
        # A shim of pyenv may stand for no interpreter.
        result = subprocess.run([candidate, "-c", check], capture_output=True, text=True, check=False)
        number, _, executable = result.stdout.strip().partition(" ")
        if number == version:
            return executable
    return None
