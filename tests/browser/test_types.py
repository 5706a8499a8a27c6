"""The types of static/types.js: tsc reports misspelled keys, and the API's description has the same keys."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.processes import ROOT

TESTS = Path(__file__).parent
TSC = TESTS / "node_modules" / ".bin" / "tsc"
TYPES = (ROOT / "static" / "types.js").read_text()
SESSION = "/v1/upload_session/{upload_session_id}"
UPLOAD = "/v1/upload/{upload_session_id}"
TRACKS = f"{UPLOAD}/track"
TRACK = f"{TRACKS}/{{track_id}}"
RESPONSES = {
    "CreatedSessionResponse": ("post", "/v1/upload_session"),
    "SessionResponse": ("get", SESSION),
    "TrackListResponse": ("get", TRACKS),
    "TrackResponse": ("get", TRACK),
    "Registration": ("post", TRACKS),
    "RegistrationListResponse": ("post", f"{UPLOAD}/tracks"),
    "VerificationListResponse": ("post", f"{UPLOAD}/complete"),
    "StoredPartsResponse": ("get", f"{TRACK}/parts"),
    "SignedPartsResponse": ("post", f"{TRACK}/parts"),
}


def declared_types():
    """Return the properties of each object type, with their types: `{"Track": {"id": "string", ...}, ...}`."""
    types = {}
    for block in re.findall(r"/\*\*.*?\*/", TYPES, re.DOTALL):
        if match := re.search(r"@typedef \{object\} (\w+)", block):
            types[match[1]] = {name: kind for kind, name in re.findall(r"@property \{(.+?)\} \[?(\w+)", block)}
        elif match := re.search(r"@typedef \{\{(.+)\}\} (\w+)", block):
            types[match[2]] = dict(re.findall(r"(\w+)\??: ([^,]+)", match[1]))
    return types


def schema_properties(document, schema):
    """Return the properties of a schema, through references and alternatives."""
    if "$ref" in schema:
        return schema_properties(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    properties = dict(schema.get("properties", {}))
    for part in [*schema.get("allOf", []), *schema.get("anyOf", []), *filter(None, [schema.get("items")])]:
        properties |= schema_properties(document, part)
    return properties


def unknown_keys(document, types, name, schema):
    """List the keys of the type `name`, and of those that it refers to, that the schema does not have."""
    properties = schema_properties(document, schema)
    unknown = [f"{name}.{key}" for key in types[name] if key not in properties] if properties else []
    for key, kind in types[name].items():
        for inner in types.keys() & set(re.findall(r"\w+", kind)):
            unknown += unknown_keys(document, types, inner, properties.get(key, {}))
    return unknown


@pytest.mark.parametrize("name", RESPONSES)
def test_response_types_match_the_api_description(client, name):
    """Every key of a response type is in the description of that response."""
    document = client.get("/openapi.json").json
    method, path = RESPONSES[name]
    content = document["paths"][path][method]["responses"]["200"]["content"]
    schema = content["application/json"]["schema"]
    assert schema_properties(document, schema)
    assert unknown_keys(document, declared_types(), name, schema) == []


def test_request_type_matches_the_api_description(client):
    """Every key of a registration is in the description of its request."""
    document = client.get("/openapi.json").json
    schema = document["paths"][TRACKS]["post"]["requestBody"]["content"]["application/json"]["schema"]
    keys = declared_types()["TrackRequest"].keys()
    assert keys <= schema_properties(document, schema).keys()


@pytest.fixture
def type_check(tmp_path):
    """Check a copy of static/ in which one text was replaced; returns what tsc prints."""
    if not TSC.exists():
        pytest.skip("TypeScript is not installed: 'npm ci --prefix tests/browser' (Node 18 or later).")

    def check(file_name, old, new):
        shutil.copytree(ROOT / "static", tmp_path / "static")
        (tmp_path / "tests" / "browser").mkdir(parents=True)
        config = tmp_path / "tests" / "browser" / "tsconfig.json"
        shutil.copy(TESTS / "tsconfig.json", config)
        subprocess.run(["node", TESTS / "floor-types.mjs", config.parent / ".floor"], check=True)
        path = tmp_path / "static" / file_name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        return subprocess.run([TSC, "--project", config], capture_output=True, text=True, check=False).stdout

    return check


@pytest.mark.parametrize(
    ("file_name", "old", "new", "error"),
    [
        ("uploader.js", "session.expires_at", "session.expire_at", "'expire_at' does not exist"),
        ("sender.js", "track_multipart_upload?.parts", "track_multipart?.parts", "'track_multipart' does not exist"),
        ("upload.js", "file_size: file.size", "size: file.size", "'size' does not exist"),
        ("upload.js", 'this.#setState("running")', 'this.#setState("started")', "'\"started\"' is not assignable"),
    ],
)
def test_misspelled_key_fails_the_type_check(type_check, file_name, old, new, error):
    """Misspelled keys of responses and requests, and misspelled states, are errors."""
    assert error in type_check(file_name, old, new)
