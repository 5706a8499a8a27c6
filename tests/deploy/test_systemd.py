"""deploy/loadbay.service and loadbay-worker.service, verified by systemd."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from support.processes import ROOT

pytestmark = pytest.mark.sqlite

UNITS = ("loadbay.service", "loadbay-worker.service")
TEXTS = {name: (ROOT / "deploy" / name).read_text() for name in UNITS}
MAX_EXPOSURE = 20
"""systemd's exposure score in tenths: 96 for a service without any protection, 20 and below is 'OK'."""


@pytest.fixture
def analyze(tmp_path):
    """Run systemd-analyze on a file system with the units and the programs that they start."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed: 'apt-get install systemd'.")
    units = tmp_path / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    for name, text in TEXTS.items():
        (units / name).write_text(text)
        for program in re.findall(r"^Exec\w+=(\S+)", text, re.MULTILINE):
            (tmp_path / program[1:]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / program[1:]).touch(0o755)

    def run_analyze(*arguments):
        command = ("systemd-analyze", f"--root={tmp_path}", "--man=no", *arguments)
        return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)

    return run_analyze


@pytest.mark.parametrize("name", UNITS)
def test_units_are_valid_and_hardened(analyze, name):
    """systemd accepts each unit, and rates its exposure as low."""
    verified = analyze("verify", "--recursive-errors=no", name)
    assert (verified.returncode, verified.stdout) == (0, "")
    security = analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE}", name)
    assert security.returncode == 0, security.stdout


def test_analyze_detects_errors(analyze, tmp_path):
    """Counter-test: systemd-analyze detects an invalid and an exposed unit."""
    unit = tmp_path / "etc" / "systemd" / "system" / UNITS[0]
    unit.write_text(
        re.sub("^(Protect|Private|System|Restrict).*$", "Nonsense=yes", TEXTS[UNITS[0]], flags=re.MULTILINE)
    )
    assert "Nonsense" in analyze("verify", "--recursive-errors=no", UNITS[0]).stdout
    assert analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE}", UNITS[0]).returncode == 1


def test_units_run_the_procfile_commands():
    """The units run the Procfile's commands, with the socket of nginx.conf."""
    procfile = dict(line.split(": ") for line in (ROOT / "Procfile").read_text().splitlines())
    config = (ROOT / "deploy" / "nginx.conf").read_text()
    socket = re.search(r"server unix:(\S+)", config)[1]
    service, worker = (text.replace("/srv/loadbay/.venv/bin/", "") for text in TEXTS.values())
    assert f"\nExecStartPre={procfile['release']}\n" in service
    assert f"\nExecStart={procfile['web'].replace('gunicorn', f'gunicorn --bind unix:{socket}')}\n" in service
    assert f"\nExecStart={procfile['worker']}\n" in worker


def test_units_have_the_same_hardening():
    """The worker has the same hardening as the service."""
    service, worker = (text.partition("User=")[2] for text in TEXTS.values())
    assert service == worker
