"""The files of static/ that a deploy serves: built, minified, compressed, under names with a hash, cached for ever."""

from __future__ import annotations

import filecmp
import gzip
import json
import re
import shutil
import subprocess

import pytest

from support.api import new_session
from support.processes import ROOT

BUILT = ROOT / "static" / "built"
TOOLS = ROOT / "tests" / "browser"
MANIFEST = json.loads((BUILT / "manifest.json").read_text())
NAMES = MANIFEST["names"]
FILES = sorted(NAMES.values())
PRELOAD = MANIFEST["preload"]
MAX_GZIPPED_BYTES = 25_000


@pytest.mark.slow
def test_built_files_are_fresh(tmp_path):
    """`make assets` was run after the last change of static/. It needs npm; a deploy does not."""
    if not (TOOLS / "node_modules" / "esbuild").exists():
        pytest.skip("esbuild is not installed: 'npm ci --prefix tests/browser' (Node 20 or later).")
    subprocess.run(["node", TOOLS / "assets.mjs", tmp_path / "built"], check=True)
    comparison = filecmp.dircmp(tmp_path / "built", BUILT)
    assert comparison.left_only == comparison.right_only == [], "Run 'make assets'."
    # Another version of zlib or brotli may compress otherwise.
    assert [name for name in comparison.diff_files if not name.endswith((".gz", ".br"))] == [], "Run 'make assets'."


@pytest.mark.parametrize("name", FILES)
def test_compressed_files_have_the_same_content(name):
    """Each built file is there compressed, too."""
    data = (BUILT / name).read_bytes()
    assert gzip.decompress((BUILT / f"{name}.gz").read_bytes()) == data
    if shutil.which("node"):
        script = "process.stdout.write(zlib.brotliDecompressSync(fs.readFileSync(process.argv[1])))"
        process = subprocess.run(["node", "-e", script, BUILT / f"{name}.br"], capture_output=True, check=True)
        assert process.stdout == data


def test_component_is_small():
    """The component with styles and English, before its lists, has at most 25 kB, compressed with gzip."""
    languages = {f"{path.stem}.js" for path in (ROOT / "static" / "messages").iterdir()}
    other = {"owner.js", "owner.css", *languages}
    sizes = {name: (BUILT / f"{NAMES[name]}.gz").stat().st_size for name in NAMES if name not in other}
    component = sum(size for name, size in sizes.items() if name in {"uploader.js", *PRELOAD})
    print(f"\nThe upload page's files, gzipped: {sizes}, together {sum(sizes.values())} bytes.")
    print(f"The component without what it loads later: {component} bytes.")
    assert component <= MAX_GZIPPED_BYTES


@pytest.mark.parametrize(
    ("accepted", "suffix"), [("gzip, br", ".br"), ("gzip", ".gz"), ("br;q=0, gzip", ".gz"), ("", "")]
)
def test_built_file_is_cached_for_ever(client, accepted, suffix):
    """A hashed name is immutable, and is sent in the best encoding that the client accepts."""
    for name in FILES:
        with client.get(f"/loadbay/{name}", headers={"Accept-Encoding": accepted}) as response:
            assert (response.status_code, response.data) == (200, (BUILT / (name + suffix)).read_bytes())
        headers = response.headers
        assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert headers.get("Content-Encoding") == {".br": "br", ".gz": "gzip", "": None}[suffix]
        assert "Accept-Encoding" in headers["Vary"]
        assert ("text/css" if name.endswith(".css") else "javascript") in headers["Content-Type"]
        assert headers["Access-Control-Allow-Origin"] == "*"


def test_page_loads_built_files(client):
    """The pages of a deploy name the built files only."""
    page = client.get(f"/u/{new_session(client)['upload_session_id']}").text
    names = re.findall(r'(?:href|src)="/loadbay/([^"]*)"', page)
    assert set(names) == {*PRELOAD, NAMES["page.js"], NAMES["page.css"], "icon.svg"}


def test_component_has_one_name_for_all_versions(client):
    """Sites name loadbay/uploader.js: it is the built one, and revalidated."""
    with client.get("/loadbay/uploader.js") as response:
        assert response.data == (BUILT / NAMES["uploader.js"]).read_bytes()
    assert response.headers["Cache-Control"] == "public, no-cache"
    with client.get("/loadbay/uploader.js", headers={"If-None-Match": response.headers["ETag"]}) as again:
        assert again.status_code == 304


def test_source_is_served_for_development(make_client):
    """BUILT_ASSETS=0 serves static/ as it is, and pages that name its files."""
    client = make_client(BUILT_ASSETS="0")
    page = client.get(f"/u/{new_session(client)['upload_session_id']}").text
    assert re.findall(r'<script type="module" src="([^"]*)"', page) == ["/loadbay/page.js"]
    with client.get("/loadbay/uploader.js") as response:
        assert response.data == (ROOT / "static" / "uploader.js").read_bytes()
