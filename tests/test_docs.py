"""The documentation: it builds, its links lead somewhere, and what it says about the code is true."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import click
import pytest
import yaml

import loadbay_client
import schemas
from commands import LazyCommand
from dev.build_hook import build_nested
from dev.docs import COMMON_CODES, error_table, regenerate
from dev.mkdocs_hooks import rewrite_links
from schemas import tracks, upload_sessions
from storage.errors import ServiceError
from storage.settings import Settings
from storage.webhooks.outbox import RETRY_DELAYS
from support.api import full_key_routes
from support.docs import API, DOCS, NAMES, SNIPPETS
from support.processes import ROOT
from support.store import ACCESS_KEY, SECRET_KEY

pytestmark = pytest.mark.sqlite

# --- The site --------------------------------------------------------------------------------------------------------


def test_site_builds_and_loads_nothing_from_elsewhere(tmp_path, processes):
    """MkDocs builds the site without a warning, and no page loads a script, style, font or image of another site."""
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site"))
    done = processes.run(*command, env={"NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stdout
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|iframe)[^>]+src=\"?([^\s\">]+)|<link[^>]+href=\"?([^\s\">]+)", page.read_text()
        )
        assert [url for pair in loaded for url in pair if re.match(r"(https?:)?//", url)] == [], page.name


def test_links_are_rewritten_for_the_site():
    """Links between the root's files and those in docs/ become links between the site's pages."""
    assert (
        rewrite_links("[a](docs/api.md#tracks) [b](SECURITY.md)", "index.md") == "[a](api.md#tracks) [b](security.md)"
    )
    assert rewrite_links("[a](../README.md) [b](errors.md)", "api.md") == "[a](index.md) [b](errors.md)"
    assert rewrite_links("[a](../deploy.md)", "adr/0009-gunicorn-workers.md") == "[a](../deploy.md)"
    assert rewrite_links('<img src="docs/images/a.png">', "index.md") == '<img src="images/a.png">'


# --- Links on a forge ------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges make them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    """Every relative link of a page leads to a file of the repository, and to a heading in it."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / name).read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
        file, _, anchor = (target[0] or target[1]).partition("#")
        if not file.startswith(("http://", "https://")):
            path = (ROOT / name).parent / file if file else ROOT / name
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), target


# --- Snippets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: f"{snippet.page}:{snippet.line}")
def test_snippets_are_valid(snippet):
    """Every block of a known language is valid in it."""
    if snippet.language == "python":
        ast.parse(snippet.text)
    elif snippet.language == "json":
        json.loads(snippet.text)
    elif snippet.language == "yaml":
        yaml.safe_load(snippet.text)
    elif snippet.language == "toml":
        tomllib.loads(snippet.text)
    elif snippet.language == "sh":
        subprocess.run(["bash", "-n"], input=snippet.text, text=True, check=True)
    else:
        assert snippet.language in ("", "html", "js")


def test_embedding_examples_upload_and_take_an_event(settings, tmp_path, processes):
    """The examples of embedding, run one after another beside the package, give a host that responds at once."""
    examples = [s.text for s in SNIPPETS if s.page == "docs/embedding.md" and s.language == "python"]
    assert len(examples) == 3
    build_nested(ROOT, tmp_path / "loadbay")
    script = "\n".join(examples).replace("http://127.0.0.1:8333", settings["S3_ENDPOINT"])
    script = script.replace('"loadbay-secret"', f'"{SECRET_KEY}"')
    script = script.replace('"AWS_ACCESS_KEY_ID": "loadbay"', f'"AWS_ACCESS_KEY_ID": "{ACCESS_KEY}"')
    script += CHECK_HOST
    done = processes.run(sys.executable, "-c", script, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "track_not_found" in done.stdout
    assert done.stdout.endswith("responses: 200 200\n")


CHECK_HOST = """
from werkzeug.test import Client
request = {"json": {"collection_id": "123e4567-e89b-12d3-a456-426614174000"}}
request["headers"] = {"Authorization": "Bearer a-key-of-16-characters-or-more"}
statuses = [Client(app).post("/uploads/v1/upload_session", **request).status_code for app in (host, site)]
print("responses:", *statuses)
"""


def test_example_of_an_error(client):
    """The error that docs/errors.md shows is one that the API returns."""
    shown = next(json.loads(s.text) for s in SNIPPETS if (s.page, s.language) == ("docs/errors.md", "json"))
    session = client.post("/v1/upload_session", json={"collection_id": "123e4567-e89b-12d3-a456-426614174000"}).json
    response = client.post(f"/v1/upload/{session['upload_session_id']}/track", json={}).json
    assert {**response, "api_request_id": shown["api_request_id"]} == shown


# --- Reference -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_generated_tables_are_fresh(name):
    """The tables that are generated from the code are up to date: `make docs` writes them."""
    assert regenerate((ROOT / name).read_text()) == (ROOT / name).read_text(), "Run 'make docs'."


def test_settings_table_has_every_setting():
    """The table has every setting, in order."""
    names = re.findall(
        r"^\| `([A-Z0-9_]+)` \|", (DOCS / "settings.md").read_text().partition("<!-- end -->")[0], re.MULTILINE
    )
    assert names == [item.name.upper() for item in fields(Settings)]


def all_errors(error: type[ServiceError]) -> set[type[ServiceError]]:
    """Return an error class and all that derive from it."""
    return {error}.union(*map(all_errors, error.__subclasses__()))


def test_error_table_has_every_code():
    """The table has every error code, beside its status."""
    for error in all_errors(ServiceError):
        assert re.search(rf"^\| {error.status} \| `{error.code}` \|", error_table(), re.MULTILINE), error.code


def endpoints() -> dict[str, str]:
    """Return the auth column of the API page's table, by endpoint."""
    return dict(re.findall(r"^\| `([A-Z]+ /\S*)` \| (.+?) \|", API, re.MULTILINE))


def test_endpoint_table_has_every_route(app):
    """The API page lists every route with its method, and no other."""
    routes = {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert endpoints().keys() == routes


def test_auth_column_is_true(app):
    """The auth column says what each endpoint asks for."""
    own = {
        "POST /v1/upload_session": "API key",
        "POST /v1/store_event": "`STORE_EVENT_SECRET`",
        "POST /v1/store_event/sns": "signature",
        "POST /v1/store_event/<store_token>": "`STORE_EVENT_SECRET` in the path",
        "GET /metrics": "`METRICS_TOKEN`",
        "PATCH /v1/upload_session/<upload_session_id>": "full API key",
    }
    full = {
        re.sub(r"\bID\b", "", f"{method} {path}")
        for method, path in full_key_routes(app, track_id="ID", collection_id="ID")
    }
    for endpoint, auth in endpoints().items():
        if re.sub(r"<\w+>", "", endpoint) in full:
            assert auth == "full API key", endpoint
        elif "<upload_session_id>" in endpoint:
            assert auth == own.get(endpoint, "session id"), endpoint
        else:
            assert auth == own.get(endpoint, "none"), endpoint


def documented_names(heading: str) -> list[str]:
    """Return the names in the first column of the table under a heading of the API page."""
    section = re.split(r"^#+ ", API.partition(f"# {heading}\n")[2], flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


@pytest.mark.parametrize(
    ("heading", "schema"),
    [
        ("Create an upload session", schemas.CreateUploadSession),
        ("Register a track", schemas.CreateTrack),
        ("Get URLs for more parts", schemas.SignParts),
        ("Create an API key", schemas.CreateApiKey),
        ("Sessions", upload_sessions.UploadSessionSchema),
        ("Tracks", tracks.TrackSchema),
    ],
)
def test_tables_have_every_field(heading, schema):
    """The tables of parameters and of fields have all names of their schema."""
    assert documented_names(heading) == [field.data_key or name for name, field in schema().fields.items()]


def test_every_error_of_an_endpoint_is_known():
    """The API page names the common error codes."""
    assert [code for code in COMMON_CODES if f"`{code}`" not in API.partition("### Authentication")[0]] == []


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group, with its full name."""
    for name, command in group.commands.items():
        command = command.command if isinstance(command, LazyCommand) else command
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def test_commands_and_their_options_are_documented(app):
    """Every command of ours is in the documentation, with each of its options."""
    text = "".join((DOCS / name).read_text() for name in ("commands.md", "client.md", "webhooks.md"))
    for name, command in commands(app.cli, "flask"):
        assert f"`{name}" in text or f"`{name.replace('flask', 'flask --app app')}" in text, name
        for option in (option for param in command.params for option in param.opts if option.startswith("--")):
            assert f"`{option}" in text or f" {option}" in text, (name, option)


def test_component_is_as_documented():
    """The attributes, events and CSS variables in docs/upload-page.md are those of the component."""
    page = (DOCS / "upload-page.md").read_text().partition("## The component")[2]
    scripts = "".join(path.read_text() for path in sorted((ROOT / "static").glob("*.js")))
    names = [name for name in re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE) if not name.startswith("--")]
    assert len(names) == 14
    assert [name for name in names if f'"{name}"' not in scripts] == []
    variables = set(re.findall(r"var\(--loadbay-([a-z-]+)", (ROOT / "static" / "uploader.css").read_text()))
    assert set(re.findall(r"`--loadbay-([a-z-]+)`", page)) == variables


def test_doctor_prints_what_is_documented():
    """The outcomes and the advice in docs/commands.md are those that `flask doctor` prints."""
    source = (ROOT / "storage" / "doctor.py").read_text()
    sample = next(s.text for s in SNIPPETS if s.page == "docs/commands.md" and s.text.startswith("pass"))
    checks = re.findall(r"^(?:pass|not supported) +([a-zA-Z -]+?)  ", sample, re.MULTILINE)
    assert len(checks) == 3
    assert [text for text in (*checks, *re.findall(r"-> (.+)", sample)) if f'"{text}"' not in source] == []


def test_client_is_as_documented():
    """The classes, methods and parameters in docs/client.md are those of the client."""
    page = (DOCS / "client.md").read_text()
    for call, parameters in re.findall(r"`session\.(\w+)\((.*?)\)`", page):
        known = inspect.signature(getattr(loadbay_client.Session, call)).parameters
        assert set(re.findall(r"\w+(?==)", parameters)) <= known.keys(), call
    options = page.partition("| `Client(server")[2].partition("\n")[0]
    documented = {"server", "key", *re.findall(r"`(\w+)(?:\(.*?\))?`", options)}
    assert documented == {item.name for item in fields(loadbay_client.Client)}
    assert set(re.findall(r"^\| `(\w+)` \|", page.partition("| exception |")[2], re.MULTILINE)) == {
        name
        for name, value in vars(loadbay_client).items()
        if inspect.isclass(value) and issubclass(value, loadbay_client.ClientError)
    } - {"ClientError"}


def test_retry_policy_is_documented():
    """docs/webhooks.md has the delays between the attempts of a delivery."""
    units = {"s": 1, "min": 60, "h": 3600}
    delays = re.search(r"^\| delays \| (.+), each", (DOCS / "webhooks.md").read_text(), re.MULTILINE)
    assert delays
    assert tuple(int(n) * units[unit] for n, unit in re.findall(r"(\d+) (\w+)", delays[1])) == RETRY_DELAYS


def requirements(name: str) -> list[str]:
    """Return the names of the packages that a requirements file pins."""
    lines = (ROOT / name).read_text().splitlines()
    return [re.split(r"[\[= ]", line)[0] for line in lines if re.match(r"[A-Za-z]", line) and "==" in line]


@pytest.mark.parametrize(
    "name",
    [
        "requirements.txt",
        "requirements-run.txt",
        "requirements-test.txt",
        "requirements-lint.txt",
        "requirements-matrix.txt",
        "requirements.lock",
    ],
)
def test_dependencies_are_documented(name):
    """Each requirement is in docs/dependencies.md, with its license where the package declares one."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \|", (DOCS / "dependencies.md").read_text(), re.MULTILINE)
    licenses = {re.sub("_", "-", package.lower()): license for cell, license in rows for package in cell.split(", ")}
    for package in requirements(name):
        if not package.startswith("types-"):
            listed = licenses[re.sub("_", "-", package.lower())]
            try:
                declared = metadata(package).get("License-Expression") or ""
            except PackageNotFoundError:
                declared = ""
            assert declared in listed, package


def test_every_folder_is_on_the_map():
    """docs/architecture.md says what each folder of the repository is for."""
    text = (DOCS / "architecture.md").read_text()
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {line.partition("/")[0] for line in tracked.splitlines() if "/" in line and not line.startswith(".")}
    assert [folder for folder in sorted(folders - {"docs"}) if f"`{folder}/" not in text] == []


def test_words_are_defined():
    """The glossary defines the terms of the domain, in alphabetical order."""
    terms = re.findall(r"^### (.+)$", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    assert terms == sorted(terms, key=str.lower)
    assert {
        "Session",
        "Track",
        "Index",
        "Path",
        "Incoming, staging",
        "Sweep",
        "Outbox",
        "Lease",
        "Relay",
        "Dead letter",
    } <= set(terms)
