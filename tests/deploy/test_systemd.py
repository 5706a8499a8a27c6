"""deploy/loadbay.service and loadbay-worker.service, as systemd itself reads them."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from support.processes import ROOT

pytestmark = pytest.mark.sqlite

UNITS = ("loadbay.service", "loadbay-worker.service")
TEXTS = {name: (ROOT / "deploy" / name).read_text() for name in UNITS}
EXPOSURE = 20
"""What systemd says of how exposed a service is, in tenths: 96 for one that takes no care, 20 and below is 'OK'."""


@pytest.fixture
def analyze(tmp_path):
    """Run systemd-analyze on a system that has nothing but what the units expect."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed: 'apt-get install systemd'.")
    units = tmp_path / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    for name, text in TEXTS.items():
        (units / name).write_text(text)
        for program in re.findall(r"^Exec\w+=(\S+)", text, re.MULTILINE):
            (tmp_path / program[1:]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / program[1:]).touch(0o755)

    def run(*arguments):
        command = ("systemd-analyze", f"--root={tmp_path}", "--man=no", *arguments)
        return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)

    return run


@pytest.mark.parametrize("name", UNITS)
def test_valid(analyze, name):
    """systemd finds nothing to say of it, and that it is well shut in."""
    verified = analyze("verify", "--recursive-errors=no", name)
    assert (verified.returncode, verified.stdout) == (0, "")
    shut = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", name)
    assert shut.returncode == 0, shut.stdout


def test_analyze_can_fail(analyze, tmp_path):
    """What the test before tells apart."""
    unit = tmp_path / "etc" / "systemd" / "system" / UNITS[0]
    unit.write_text(
        re.sub("^(Protect|Private|System|Restrict).*$", "Nonsense=yes", TEXTS[UNITS[0]], flags=re.MULTILINE)
    )
    assert "Nonsense" in analyze("verify", "--recursive-errors=no", UNITS[0]).stdout
    assert analyze("security", "--offline=true", f"--threshold={EXPOSURE}", UNITS[0]).returncode == 1


def test_commands():
    """They run what the Procfile runs; the socket is where nginx looks for it."""
    procfile = dict(line.split(": ") for line in (ROOT / "Procfile").read_text().splitlines())
    config = (ROOT / "deploy" / "nginx.conf").read_text()
    socket = re.search(r"server unix:(\S+)", config)[1]
    service, worker = (text.replace("/srv/loadbay/.venv/bin/", "") for text in TEXTS.values())
    assert f"\nExecStartPre={procfile['release']}\n" in service
    assert f"\nExecStart={procfile['web'].replace('gunicorn', f'gunicorn --bind unix:{socket}')}\n" in service
    assert f"\nExecStart={procfile['worker']}\n" in worker


def test_both_alike():
    """The worker is shut in as the service is."""
    service, worker = (text.partition("User=")[2] for text in TEXTS.values())
    assert service == worker
