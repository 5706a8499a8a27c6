"""The wheel and the sdist: their names, their bytes, their dependencies, and the programs that start from them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest
from mypy import api as mypy
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dev.build_hook import FILES, FOLDERS, prefix_imports, source_files
from support.packages import build, create_environment
from support.processes import ROOT

pytestmark = pytest.mark.sqlite

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {"requirements.txt", "requirements-aws.txt", "requirements-docs.txt"}
IMPORT = """
import sys
import loadbay
own = {"app", "wsgi", "commands", "embedding", "migrations", "schemas", "storage", "templates", "web"}
assert "loadbay.app" not in sys.modules, "import loadbay does nothing"
from loadbay import create_app, loadbay as blueprint
assert not own & sys.modules.keys()
assert blueprint.name == "loadbay"
for optional in ("gunicorn", "prometheus_client", "redis", "flask_swagger_ui"):
    try:
        __import__(optional)
    except ImportError:
        continue
    raise AssertionError(optional)
"""


@pytest.fixture(scope="module")
def bare_environment(wheel, tmp_path_factory):
    """A virtual environment with the wheel and what it requires, without any extra."""
    return create_environment(tmp_path_factory.mktemp("bare"), str(wheel))


def test_wheel_has_one_top_level_name(wheel):
    """The wheel has everything below `loadbay`: templates, static files, migrations, SQL, types."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert {name.partition("/")[0] for name in names} == {"loadbay"}
    assert {name.split("/")[1] for name in names} - set(FOLDERS) == {
        "__init__.py", "app.py", "wsgi.py", "gunicorn_conf.py", "py.typed",
    }  # fmt: skip
    files = {path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()}
    own = {f"loadbay/{path.relative_to(ROOT)}" for path in files if "__pycache__" not in path.parts}
    assert own <= set(names)


def test_wheel_imports_itself_under_its_name(wheel):
    """No module of the wheel imports one of ours by its name in the source."""
    forbidden = {*FOLDERS, "app", "wsgi", "loadbay_client"}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                for node in ast.walk(ast.parse(archive.read(name))):
                    used = [item.name for item in node.names] if isinstance(node, ast.Import) else []
                    used += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                    assert not {module.partition(".")[0] for module in used} & forbidden, name


def test_prefixes_imports_and_strings_that_name_a_module():
    """Imports, `importlib` and entry points are prefixed; logger names, prose and other packages are not."""
    source = (
        "from storage.errors import A\nfrom web import pages\nimport schemas\nimport app as b\n"
        "from storages import x\nfrom .storage import y\n"
        "def f():\n    from app import create_app\n"
        "p = 'storage.db.migrate'\nq = \"storage.errors:ServiceError\"\nr = 'storage.nothing.at_all'\n"
        "s = 'loadbay.storage'\nt = 'from storage import z', 'wsgi.input'\nü = 'é', 'web.pages'\n"
    )
    assert prefix_imports(source, ROOT) == (
        "from loadbay.storage.errors import A\nfrom loadbay.web import pages\nfrom loadbay import schemas\n"
        "from loadbay import app as b\n"
        "from storages import x\nfrom .storage import y\n"
        "def f():\n    from loadbay.app import create_app\n"
        "p = 'loadbay.storage.db.migrate'\nq = \"loadbay.storage.errors:ServiceError\"\nr = 'storage.nothing.at_all'\n"
        "s = 'loadbay.storage'\nt = 'from storage import z', 'wsgi.input'\nü = 'é', 'loadbay.web.pages'\n"
    )


@pytest.mark.parametrize("statement", ["import storage.errors", "import os, schemas"])
def test_refuses_imports_that_bind_another_name(statement):
    """An import that would bind `loadbay` instead of `storage` fails the build."""
    with pytest.raises(ValueError, match="Line 1: write 'from package import module'"):
        prefix_imports(statement, ROOT)


def test_builds_are_reproducible(wheel, tmp_path):
    """A second build has the same bytes, and so has the wheel that is built from the sdist."""
    repeated, sdist = build(ROOT, tmp_path / "second")
    assert repeated.read_bytes() == wheel.read_bytes()
    assert build(ROOT, tmp_path / "third")[1].read_bytes() == sdist.read_bytes()
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    from_sdist, _ = build(tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "from_sdist")
    assert from_sdist.read_bytes() == wheel.read_bytes()


def test_leaves_out_what_is_not_source(tmp_path):
    """Bytecode, and hidden files that an editor or a system has left, are not packaged."""
    for name in (*FILES, "storage/ids.py", "storage/.ids.py.swp", "static/.DS_Store", "web/__pycache__/pages.pyc"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [name for _, name in source_files(tmp_path)] == [*FILES.values(), "storage/ids.py"]


def test_refuses_an_editable_installation():
    """An editable installation, which could not nest anything, fails with what to do instead."""
    command = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--dry-run", "-e", ROOT)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "run it from the checkout, or install the wheel" in result.stdout + result.stderr


@pytest.mark.parametrize("source", ["path", "git", "sdist"])
def test_installs_from_each_source(tmp_path, source):
    """A checkout, a git address and an sdist can be installed, with the build requirements that pip downloads."""
    if source == "sdist":
        requirement = str(build(ROOT, tmp_path / "dist")[1])
    else:
        requirement = {"path": str(ROOT), "git": f"loadbay @ git+file://{ROOT}"}[source]
    environment = create_environment(tmp_path / "venv", "--no-deps", requirement)
    (folder,) = environment.glob("lib/python3*/site-packages")
    assert {path.name for path in folder.glob("[a-z]*") if ".dist-info" not in path.name} == {"loadbay"}
    assert (folder / "loadbay" / "py.typed").exists()


def pins() -> dict[str, Requirement]:
    """Return the pinned requirements of a checkout by name."""
    lines = [line for name in PINS for line in (ROOT / name).read_text().splitlines()]
    requirements = [Requirement(line) for line in lines if re.match("[A-Za-z]", line)]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def test_ranges_and_pins_name_the_same_packages():
    """Each pin is within the wheel's range for the package, and each package of the wheel has a pin."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for extra in extras.values() for line in extra)]
    ranges = {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}
    pinned = pins()
    assert ranges.keys() == pinned.keys()
    for name, requirement in ranges.items():
        assert requirement.specifier.contains(str(pinned[name].specifier)[2:]), name
        assert requirement.extras == pinned[name].extras
        assert {item.operator for item in requirement.specifier} == {">=", "<"}, name


def test_import_needs_no_extra(bare_environment, processes):
    """`import loadbay` does nothing, and what the extras bring is imported only where it is used."""
    result = processes.run(str(bare_environment / "bin" / "python"), "-c", IMPORT, env={}, cwd=bare_environment)
    assert result.returncode == 0, result.stdout


TYPED_HOST = """
from flask import Flask
from loadbay import ServiceError, SettingsError, Uploads, create_app, loadbay, signals

host = Flask("host")
host.register_blueprint(loadbay, config={})
uploads = Uploads(host)
expires_at: str = uploads.open_session("id", metadata={"batch_name": "Summer"})["expires_at"]
application: Flask = create_app({})

@signals.track_uploaded.connect
def add_to_library(_service: object, *, data: dict[str, object], **_: object) -> None:
    print(data["path"])
"""


def test_installed_package_is_typed(bare_environment, tmp_path):
    """mypy checks the code of a host against the types of the installed package."""
    options = [
        "--strict",
        "--python-executable",
        str(bare_environment / "bin" / "python"),
        "--cache-dir",
        str(tmp_path),
    ]
    for line, status in (("add_to_library", 0), ("uploads.open_session('id', expires='soon')", 1)):
        (tmp_path / "host.py").write_text(f"{TYPED_HOST}\n{line}\n")
        output, errors, actual = mypy.run([*options, str(tmp_path / "host.py")])
        assert actual == status, output + errors


@pytest.mark.parametrize(
    ("setting", "package"),
    [
        ({"METRICS_TOKEN": "a-token-of-16-characters"}, "prometheus_client"),
        ({"RATE_LIMIT_SESSIONS": "6/minute", "RATE_LIMIT_STORAGE": "redis://127.0.0.1:1/0"}, "redis"),
    ],
)
def test_settings_name_the_package_that_they_need(bare_environment, processes, tmp_path, setting, package):
    """A setting whose package is not installed is refused with its name."""
    env = {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_BUCKET": "tracks", **setting}
    flask = str(bare_environment / "bin" / "flask")
    result = processes.run(flask, "--app", "loadbay", "routes", env=env, cwd=tmp_path)
    assert result.returncode != 0
    assert f"requires a package: pip install {package}\n" in result.stdout
    assert "Traceback" not in result.stdout


# --- The client -------------------------------------------------------------------------------------------------------


def test_client_is_a_distribution_of_its_own(client_wheel):
    """The client's wheel has `loadbay_client` alone, requires urllib3 alone, and has types and a license."""
    with zipfile.ZipFile(client_wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("METADATA"))
    packaged = {name for name in names if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "loadbay_client").rglob("*.py")}
    assert packaged == {*modules, "loadbay_client/py.typed", "loadbay_client/file_rules.json"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert (ROOT / "loadbay_client" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    required = re.findall(r"^Requires-Dist: ([a-z0-9]+)[^;]*$", metadata, re.MULTILINE)
    assert required == ["urllib3"]


def test_client_wheel_from_its_sdist_is_the_same(client_wheel, tmp_path):
    """The client's wheel is reproducible, from its sdist, too."""
    repeated, sdist = build(ROOT / "loadbay_client", tmp_path / "second")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    from_sdist, _ = build(tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "from_sdist")
    assert repeated.read_bytes() == client_wheel.read_bytes() == from_sdist.read_bytes()


def test_client_command_runs_without_the_service(client_wheel, tmp_path, processes):
    """The command runs in an environment with the extra alone, and says what it needs without it."""
    environment = create_environment(tmp_path / "venv", str(client_wheel))
    python, loadbay = (str(environment / "bin" / name) for name in ("python", "loadbay"))
    assert processes.run(python, "-c", "import loadbay_client", env={}, cwd=tmp_path).returncode == 0
    without = processes.run(loadbay, "--version", env={}, cwd=tmp_path)
    assert (without.returncode, "pip install 'loadbay-client[cli]'" in without.stdout) == (1, True)
    environment = create_environment(tmp_path / "cli", f"{client_wheel}[cli]")
    loadbay = str(environment / "bin" / "loadbay")
    assert processes.run(loadbay, "--version", env={}, cwd=tmp_path).stdout.startswith("loadbay, version ")
    (tmp_path / "a.mp3").write_bytes(b"ID3")
    missing = processes.run(loadbay, "upload", "a.mp3", env={}, cwd=tmp_path)
    assert (missing.returncode, "Missing option '--server'" in missing.stdout) == (2, True)
    assert processes.run(loadbay, "upload", "a.mp3", "--dry-run", env={}, cwd=tmp_path).returncode == 0
