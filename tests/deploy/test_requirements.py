"""requirements.lock: all that a deploy installs, and nothing that is of one machine."""

from __future__ import annotations

import re
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.processes import ROOT

pytestmark = pytest.mark.sqlite

LOCK = (ROOT / "requirements.lock").read_text()


def pins(text):
    """The requirements of a file, by name, without their hashes."""
    lines = [line.partition(" \\")[0] for line in text.splitlines() if re.match(r"[A-Za-z]", line)]
    found: dict[str, list[Requirement]] = {}
    for requirement in map(Requirement, lines):
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def suits(requirement):
    """Whether a requirement is for this Python and system."""
    return requirement.marker is None or requirement.marker.evaluate()


def test_direct_requirements():
    """Each pin of requirements.txt is in the lock, at the same version."""
    locked = pins(LOCK)
    for name, (direct,) in pins((ROOT / "requirements.txt").read_text()).items():
        assert [found.specifier for found in locked[name]] == [direct.specifier], f"{name}: run 'make lock'."


def test_complete():
    """What each of them needs in turn is in the lock, at a version that suits it."""
    locked = pins(LOCK)
    extras = {"psycopg": "binary"}
    for name, found in locked.items():
        for needed in map(Requirement, (requires(name) if any(map(suits, found)) else None) or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": extras.get(name, "")}):
                service = [
                    one for one in locked[canonicalize_name(needed.name)] if not one.marker or one.marker.evaluate()
                ]
                assert len(service) == 1
                assert needed.specifier.contains(str(service[0].specifier)[2:]), (name, needed)


def test_pinned_with_hashes():
    """Each is pinned and has hashes; where they come from is for whoever installs them to say."""
    parts = re.split(r"\n(?=[a-z])", LOCK)
    assert len(parts) > 20
    for part in parts[1:]:
        assert re.match(
            r"[a-z0-9-]+==[0-9a-z.]+( ; [^\\\n]+)? \\\n( +--hash=sha256:[0-9a-f]{64}( \\\n|\n?$))+$", part
        ), part
    assert not re.search(r"://|--(extra-)?index|--find|/\w", LOCK)


def test_enough(deployed_path, store_settings, tmp_path, processes):
    """The service starts with what the lock installs, and nothing of a dev box."""
    env = {**store_settings, "DATABASE_URL": f"sqlite:///{tmp_path}/loadbay.db", "PATH": deployed_path}
    done = processes.run("gunicorn", "--check-config", "wsgi:app", env=env)
    assert done.returncode == 0, done.stdout
    assert processes.run("flask", "--app", "app", "prepare", env=env).returncode == 0
    assert processes.run("python", "-c", "import pytest", env=env).returncode == 1
