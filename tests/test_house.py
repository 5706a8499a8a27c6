"""The house: which room may import which, and that the README names every route and setting."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest
from pre_commit.clientlib import load_config
from pre_commit.commands.validate_config import validate_config

from storage.settings import Settings
from wire import VERSION

ROOT = Path(__file__).resolve().parent.parent
OURS = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
MAY = {
    "app.py": {"commands", "docs", "framework", "logs", "operations", "pages", "schemas", "storage", "wire"},
    "commands": {"loadbay_client", "schemas", "storage"},
    "describe.py": {"examples", "schemas", "storage", "wire"},
    "docs.py": {"describe", "framework", "wire"},
    "examples.py": set(),
    "framework.py": set(),
    "loadbay_client": set(),
    "logs.py": set(),
    "operations.py": {"framework", "logs", "storage", "wire"},
    "pages.py": {"framework", "operations", "storage", "wire"},
    "schemas": set(),
    "storage": set(),
    "wire.py": {"logs", "schemas", "storage"},
    "wsgi.py": {"app"},
}
STRANGERS = {"schemas": {"flask", "werkzeug", "peewee", "minio"}, "storage": {"flask", "werkzeug", "marshmallow"}}
README = (ROOT / "README.md").read_text()


def files(room: str) -> list[Path]:
    """The modules of a room."""
    return [ROOT / room] if room.endswith(".py") else sorted((ROOT / room).glob("*.py"))


def imported(path: Path) -> set[str]:
    """The top-level names that a module imports from elsewhere, and `.name` for those beside it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            found |= {f".{node.module}"} if node.module else {f".{name.name}" for name in node.names}
    return found


@pytest.mark.parametrize("room", MAY)
def test_direction_of_imports(room):
    """Each room imports what it may and nothing else of ours, and no library that is another room's business."""
    for path in files(room):
        names = imported(path)
        assert names & OURS <= MAY[room], path
        assert not names & STRANGERS.get(room, set()), path


@pytest.mark.parametrize("room", ["loadbay_client", "schemas", "storage"])
def test_no_circles(room):
    """No two modules of a room need each other, in however many steps."""
    beside = {path.stem: {n[1:] for n in imported(path) if n.startswith(".")} for path in files(room)}

    def reach(name: str, seen: frozenset[str]) -> None:
        assert name not in seen, f"{room}: a circle through {name}"
        for following in beside.get(name, ()):
            reach(following, seen | {name})

    for name in beside:
        reach(name, frozenset())


def test_routes_in_the_readme(app):
    """Every route stands in the README."""
    missing = [str(rule) for rule in app.url_map.iter_rules() if f"{rule}`" not in README]
    assert not missing


def test_settings_in_the_readme():
    """Every setting stands in the README's table."""
    missing = [item.name.upper() for item in fields(Settings) if f"`{item.name.upper()}`" not in README]
    assert not missing


def test_dependencies_in_the_readme():
    """Every direct dependency stands in the README with its reason."""
    names = [
        line.partition("==")[0].partition("[")[0]
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if "==" in line
    ]
    assert names
    assert [name for name in names if name.lower() not in README.lower()] == []


def test_pre_commit():
    """pre-commit takes its configuration, and runs what `make lint` does."""
    path = ROOT / ".pre-commit-config.yaml"
    assert validate_config([str(path)]) == 0
    entries = [hook["entry"] for repo in load_config(str(path))["repos"] for hook in repo["hooks"]]
    run = {" ".join(entry.removeprefix(".venv/bin/").removesuffix(" --force-exclude").split()) for entry in entries}
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    lint = {re.sub(r" (\.|Dockerfile|compose\.yaml)$", "", line) for line in re.findall(r"\$\(BIN\)/(.*)", recipe)}
    assert len(lint) == 5
    assert lint <= run


def test_changelog():
    """The first section is about the version that the service says it is, with its date once it is released."""
    first = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert re.fullmatch(rf"{re.escape(VERSION)} \((unreleased|\d{{4}}-\d\d-\d\d)\)", first)
