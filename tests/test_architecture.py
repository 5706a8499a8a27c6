"""The architecture: which part may import which; checks before a commit, and the changelog."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from pre_commit.clientlib import load_config
from pre_commit.commands.validate_config import validate_config

from web.responses import VERSION

ROOT = Path(__file__).resolve().parent.parent
OURS = {"app", "wsgi", "web", "schemas", "storage", "commands", "embedding", "loadbay_client", "dev", "bench"}
LEAVES = {
    "storage.clock", "storage.errors", "storage.http", "storage.ids", "storage.metrics", "storage.settings",
}  # fmt: skip
DATABASE_AND_STORE = {*LEAVES, "storage.db", "storage.s3"}
COMPOSED = {*DATABASE_AND_STORE, "storage.page", "storage.metrics.prometheus", "storage.rate_limits", "storage.service"}
ALLOWED_IMPORTS = {
    "wsgi": {"app", "storage.db.driver"},
    "app": {"commands", "schemas", "storage", "web"},
    "web": {"schemas", "storage", "web"},
    "web.fast_flask": {"web.blueprint", "web.fast.routes"},
    "web.blueprint": set(),
    "schemas": {"schemas"},
    "storage": {"storage"},
    **{name: {"storage.errors", "storage.http", "storage.ids"} for name in LEAVES},
    "storage.formats": {"storage.errors", "storage.formats"},
    "storage.db": {*LEAVES, "storage.db"},
    "storage.s3": {*LEAVES, "storage.formats", "storage.s3"},
    "storage.page": LEAVES,
    "storage.sharing": {*COMPOSED, "storage.sharing", "storage.uploads"},
    "storage.metrics.prometheus": LEAVES,
    "storage.rate_limits": LEAVES,
    "storage.service": COMPOSED,
    "storage.api_keys": COMPOSED,
    "storage.uploads": {*COMPOSED, "storage.formats", "storage.uploads"},
    "storage.noticing": {*COMPOSED, "storage.uploads", "storage.noticing"},
    "storage.measuring": {*COMPOSED, "storage.formats", "storage.jobs", "storage.measuring"},
    "storage.webhooks": {*COMPOSED, "storage.webhooks"},
    "commands": {"commands", "schemas", "storage"},
    "embedding": {"app", "embedding", "schemas", "storage", "web"},
    "loadbay_client": {"loadbay_client"},
}
"""The imports that each part of the tree may use; the longest name that fits a module decides."""
FORBIDDEN_LIBRARIES = {
    "schemas": {"flask", "werkzeug", "peewee", "minio"},
    "storage": {"flask", "werkzeug", "marshmallow"},
    "loadbay_client": {"flask", "werkzeug", "peewee", "minio", "marshmallow"},
}
MAX_MODULES = 14
IMPORTED_LATER = {
    "Crypto", "anycrc", "apispec", "botocore", "limits", "minio", "playhouse", "prometheus_client", "psycopg",
    "redis", "standardwebhooks", "commands.context", "storage.db.migrate", "storage.db.postgres", "storage.doctor",
    "storage.measuring", "storage.metrics.prometheus", "storage.webhooks.delivery", "storage.worker",
    "web.openapi.spec",
}  # fmt: skip
"""What a process imports only when it needs it: each makes every start slower, and every worker larger."""
ROOT_MODULES = {"app.py", "wsgi.py", "gunicorn.conf.py"}


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name, but for tests, development tools and migrations."""
    paths = [ROOT / "app.py", ROOT / "wsgi.py"]
    for folder in ("web", "schemas", "storage", "commands", "embedding", "loadbay_client"):
        paths += sorted((ROOT / folder).rglob("*.py"))
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


MODULES = modules()


def imported(name: str) -> set[str]:
    """Return the dotted names that a module imports: modules of ours, and packages of others."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {item.name for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            inner = {f"{base}.{item.name}" for item in node.names} & MODULES.keys()
            names |= inner or {base}
    return names


def within(name: str, parts: set[str]) -> bool:
    """Return whether the module `name` is one of `parts` or below one."""
    return any(name == part or name.startswith(f"{part}.") for part in parts)


@pytest.mark.parametrize("name", MODULES)
def test_imports_follow_the_architecture(name):
    """Each part imports only the parts and libraries that it may."""
    part = max((part for part in ALLOWED_IMPORTS if within(name, {part})), key=len)
    used = imported(name)
    ours = {other for other in used if other.partition(".")[0] in OURS}
    assert {other for other in ours if not within(other, ALLOWED_IMPORTS[part])} == set()
    libraries = FORBIDDEN_LIBRARIES.get(name.partition(".")[0], set())
    assert {other.partition(".")[0] for other in used} & libraries == set()


def test_imports_have_no_cycles():
    """No module imports itself, directly or indirectly."""
    needs = {name: imported(name) & MODULES.keys() - {name} for name in MODULES}

    def reach(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"cycle: {' -> '.join((*path, name))}"
        if name not in done:
            for following in needs[name]:
                reach(following, (*path, name))
            done.add(name)

    done: set[str] = set()
    for name in needs:
        reach(name, ())


def test_import_leaves_out_what_is_needed_later(processes):
    """Importing and creating the application imports nothing that only some processes need, or most need later."""
    env = {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_BUCKET": "tracks", "DATABASE_URL": "sqlite:///unused.db"}
    code = "import sys, wsgi; print(*sys.modules)"
    imported = processes.run(sys.executable, "-c", code, env=env).stdout.split()
    assert {name for name in imported if within(name, IMPORTED_LATER)} == set()
    assert "flask" in imported


def test_root_has_no_other_modules():
    """The root has the modules of the application, and no others."""
    assert {path.name for path in ROOT.glob("*.py")} == ROOT_MODULES


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES.values()} - {ROOT}))
def test_folders_stay_small(folder):
    """No folder has more than MAX_MODULES modules."""
    assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= MAX_MODULES


def test_pre_commit_runs_make_lint():
    """pre-commit accepts its configuration, and runs everything that `make lint` does."""
    path = ROOT / ".pre-commit-config.yaml"
    assert validate_config([str(path)]) == 0
    entries = [hook["entry"] for repo in load_config(str(path))["repos"] for hook in repo["hooks"]]
    run = {" ".join(entry.removeprefix(".venv/bin/").removesuffix(" --force-exclude").split()) for entry in entries}
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    lint = {re.sub(r" (\.|Dockerfile|compose\.yaml)$", "", line) for line in re.findall(r"\$\(BIN\)/(.*)", recipe)}
    assert {"ruff check", "mypy", "codespell"} <= lint <= run


def test_changelog_starts_with_the_version():
    """The changelog's first section is the service's version, with a date once it is released."""
    first = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert re.fullmatch(rf"{re.escape(VERSION)} \((unreleased|\d{{4}}-\d\d-\d\d)\)", first)
