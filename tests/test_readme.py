"""README.md: short, and its commands do what it says."""

from __future__ import annotations

import json
import re

import pytest

from dev.run import tour
from dev.store import free_port
from support.processes import ROOT

pytestmark = pytest.mark.sqlite

README = (ROOT / "README.md").read_text()
MAX_LINES = 150


def test_readme_is_short():
    """The README fits on a few screens; everything else is in docs/."""
    assert len(README.splitlines()) < MAX_LINES


def test_tour_uploads_a_track_and_its_cover(settings, bucket, tmp_path, processes):
    """The tour, pasted into a shell, puts a track and a cover in the bucket."""
    port = free_port()
    command = ("flask", "--app", "app", "run", "--port", str(port))
    with processes.start(*command, env=settings, log=tmp_path / "log") as service:
        base = f"http://127.0.0.1:{port}"
        service.wait_for_http(base)
        done = processes.run("bash", "-euo", "pipefail", "-c", tour(base), env={}, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    responses = re.findall(r"^\{.*?^\}", done.stdout, re.DOTALL | re.MULTILINE)
    track = json.loads(responses[-1])["track"]
    assert (track["status"], track["cover"]["status"]) == ("uploaded", "uploaded"), track
    assert bucket.get(track["path"]) == (tmp_path / "track-1.wav").read_bytes()
    assert bucket.get(track["cover"]["path"]) == (tmp_path / "cover.png").read_bytes()


def test_every_dependency_has_a_reason():
    """The README names each direct dependency of the service, with the reason why it is there."""
    reasons = dict(re.findall(r"^\| ([\w, -]+) \| (.+) \|$", README.partition("## Dependencies")[2], re.MULTILINE))
    names = {name for cell in reasons for name in cell.lower().split(", ")}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert {re.split(r"[\[=]", line)[0].lower() for line in lines if not line.startswith("#")} == names - {"package"}


def test_make_lists_its_commands(processes):
    """`make` without arguments lists the commands."""
    listed = processes.run("make", env={}).stdout
    for name in ("run", "test", "lint", "docs", "bench"):
        assert f"make {name} " in listed
