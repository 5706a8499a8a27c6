"""Dependencies: what the service imports is a requirement of its own, at versions that were tested."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from dev.matrix import DEFAULT, STORES
from dev.store import StoreError, free_port
from dev.stores import JuiceFS, Ministack, Moto, Rclone
from support.processes import ROOT

pytestmark = pytest.mark.sqlite

SERVICE = ("app.py", "wsgi.py", "gunicorn.conf.py", "web", "schemas", "storage", "commands", "embedding")
OURS = {name.removesuffix(".py") for name in SERVICE}
REQUIREMENTS = (ROOT / "requirements.txt").read_text()
OPTIONAL = {"botocore"}
"""Packages of an extra that a checkout's deploy does not install; requirements-aws.txt pins them."""

TESTED = {
    "Flask": ((3, 1, 0), (3, 1, 3)),
    "Werkzeug": ((3, 1, 8), (3, 1, 9)),
    "click": ((8, 4, 0), (8, 5, 1)),
}
"""The oldest and the newest version that the tests of routes, pages and embedding passed with."""


def imported_packages() -> set[str]:
    """Return the top-level names that the service imports, without its own and the standard library's."""
    names: set[str] = set()
    for entry in SERVICE:
        path = ROOT / entry
        for file in [path] if path.is_file() else path.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    names |= {item.name.partition(".")[0] for item in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names.add((node.module or "").partition(".")[0])
    return names - OURS - OPTIONAL - sys.stdlib_module_names


def test_each_import_is_a_direct_requirement():
    """Every imported package is a direct requirement, since another package may stop requiring it."""
    pinned = {re.split(r"[=\[]", line)[0].lower() for line in REQUIREMENTS.splitlines() if "==" in line}
    distributions, packages = packages_distributions(), imported_packages()
    assert {"flask", "werkzeug", "click"} <= packages
    assert {name for name in packages if not {item.lower() for item in distributions[name]} & pinned} == set()


def test_optional_packages_are_extras():
    """A package that is imported only if it is installed is an extra of the wheel, and the tests have it."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    packages = {re.split(r"[>\[]", item)[0] for items in extras.values() for item in items}
    assert packages >= OPTIONAL
    pins = (ROOT / "requirements-aws.txt").read_text()
    assert all(f"\n{name}==" in pins for name in OPTIONAL)
    assert "\n-r requirements-aws.txt\n" in (ROOT / "requirements-test.txt").read_text()


def test_stores_of_the_matrix_are_pinned_and_kept_to_themselves():
    """The stores of `make matrix` are pinned, in an environment of their own that no other file installs."""
    lines = [line for line in (ROOT / "requirements-matrix.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w-]+(\[\w+\])?==[\w.]+", line)] == []
    packages = {store.package for store in (JuiceFS, Ministack, Moto, Rclone)}
    assert packages <= {re.split(r"[\[=]", line)[0] for line in lines}
    assert all(STORES[name].version() for name in DEFAULT)
    others = [path for path in ROOT.glob("requirements-*.txt") if "-r requirements-matrix.txt" in path.read_text()]
    assert others == []


def test_missing_store_says_what_to_install(tmp_path, monkeypatch):
    """A store of the matrix whose program is missing is an error, and says what installs it."""
    monkeypatch.setattr("dev.stores.PROGRAMS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in set(STORES) - {"seaweedfs"}:
        with pytest.raises(StoreError, match=r"is not installed: (run 'make matrix'|apt-get install)"):
            STORES[name].create(tmp_path / name, free_port()).start()


@pytest.mark.parametrize("name", TESTED)
def test_pinned_versions_are_in_the_tested_range(name):
    """The pin of each library whose internals matter is in the tested range, which requirements.txt names."""
    pin = re.search(rf"^{name}==([0-9.]+)$", REQUIREMENTS, re.MULTILINE)[1]
    oldest, newest = TESTED[name]
    assert oldest <= tuple(map(int, pin.split("."))) <= newest
    assert f"{name} {'.'.join(map(str, oldest))} to {'.'.join(map(str, newest))}" in REQUIREMENTS.replace("\n# ", " ")
