"""README.md: what it tells is true, and its commands do what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from dev.run import tour
from dev.store import free_port
from storage.errors import ServiceError
from storage.settings import Settings
from support.processes import ROOT, Running, environment, run

pytestmark = pytest.mark.sqlite

README = (ROOT / "README.md").read_text()


def kinds(error: type[ServiceError]) -> set[type[ServiceError]]:
    """An error and all that derive from it."""
    return {error}.union(*map(kinds, error.__subclasses__()))


def test_tour(settings, bucket, tmp_path):
    """The tour, pasted into a shell, puts a track and a cover in the bucket."""
    port = free_port()
    command = ("flask", "--app", "app", "run", "--port", str(port))
    with Running(*command, env=settings, log=tmp_path / "log") as service:
        base = f"http://127.0.0.1:{port}"
        service.wait_for_http(base)
        done = run("bash", "-euo", "pipefail", "-c", tour(base), env={}, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    answers = re.findall(r"^\{.*?^\}", done.stdout, re.DOTALL | re.MULTILINE)
    track = json.loads(answers[-1])["track"]
    assert (track["status"], track["cover"]["status"]) == ("uploaded", "uploaded"), track
    assert bucket.get(track["path"]) == (tmp_path / "track-1.mp3").read_bytes()
    assert bucket.get(track["cover"]["path"]) == (tmp_path / "cover.png").read_bytes()


def test_embedding(tmp_path):
    """The example of embedding runs, and gives the host the routes under its prefix."""
    example = re.search(r"## Embed it.*?```python\n(.*?)```", README, re.DOTALL)[1]
    example += "\nprint(*sorted({str(rule) for rule in host.url_map.iter_rules()}), site.mounts['/uploads'])\n"
    done = run(sys.executable, "-c", example, env={"PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "/uploads/v1/upload_session" in done.stdout
    assert not list(tmp_path.iterdir()), "Making an application must not touch the disk."


def test_routes(app):
    """Every route stands in the table, with its method."""
    for rule in app.url_map.iter_rules():
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            assert f"| `{method} {rule.rule}` |" in README


def test_commands(app):
    """Every command of `flask` is told of, but its own."""
    for name in app.cli.commands:
        assert f"flask --app app {name}" in README


def test_settings():
    """The table has every setting, in order, with its default, and none beside."""
    table = README.partition("<!-- settings -->\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (\S+) \| .+\. \|$", table, re.MULTILINE)
    assert [name.lower() for name, _ in rows] == list(Settings.__dataclass_fields__)
    for name, said in rows:
        default = Settings.__dataclass_fields__[name.lower()].default
        default = ",".join(default) if isinstance(default, tuple) else default
        told = said.strip("`").replace("–", "")
        if default != "":
            assert told == str(int(default) if isinstance(default, bool) else default), name
        else:
            assert told in ("", "S3_ENDPOINT"), name


def test_error_codes():
    """The table has every code, beside its status."""
    for error in kinds(ServiceError):
        assert re.search(rf"^\| {error.status} \|.*`{error.code}`", README, re.MULTILINE), error.code


def test_example_of_an_error(client, settings):
    """The error that is shown is one that comes."""
    shown = json.loads(re.search(r"### Errors.*?```json\n(.*?)```", README, re.DOTALL)[1])
    session_id = client.post("/v1/upload_session", json={"collection_id": "123e4567-e89b-12d3-a456-426614174000"})
    answer = client.post(f"/v1/upload/{session_id.json['upload_session_id']}/track", json={})
    assert {**answer.json, "api_request_id": "uuid"} == shown


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_dependencies(name):
    """Each requirement has its reason, and is pinned."""
    for line in (ROOT / name).read_text().splitlines():
        if not line.startswith(("#", "-r", "types-")):
            package, pinned, _ = line.partition("==")
            package = package.partition("[")[0]
            assert pinned
            assert re.search(rf"\b{package}\b", README), package


def test_make_lists_its_commands():
    """`make` alone says what there is to say."""
    listed = subprocess.run(["make"], cwd=ROOT, env=environment({}), capture_output=True, text=True, check=True).stdout
    for name in ("run", "test", "lint", "bench"):
        assert f"make {name} " in listed
