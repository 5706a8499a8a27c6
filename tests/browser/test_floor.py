"""The oldest browsers that must do: what they lack is not used, and older ones are told so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import expect

from browser.helpers import MIB, expect_received, file_payload, random_wav
from support.processes import ROOT
from support.sample_files import png

TESTS = Path(__file__).parent
BIN = TESTS / "node_modules" / ".bin"
DELETE = """
(paths) => {
  window.deleted = paths.filter((path) => {
    const [name, key] = path.split(".");
    const whole = globalThis[name];
    const owners = key === undefined ? [[globalThis, name]] : [[whole, key], [whole?.prototype, key]];
    return owners.some(([owner, key]) => {
      if (owner === undefined || owner === null || !Object.hasOwn(owner, key)) return false;
      return Reflect.deleteProperty(owner, key);
    });
  });
}
"""


def require(program: str) -> Path:
    """Return the path of a program of node_modules, or skip the test."""
    if not (BIN / program).exists():
        pytest.skip("The tools are not installed: 'npm ci --prefix tests/browser' (Node 20 or later).")
    return BIN / program


@pytest.fixture(scope="module")
def lacking_paths() -> list[str]:
    """An API that the floor lacks, such as "AbortSignal.any"."""
    require("tsc")
    script = "import('./floor.mjs').then((floor) => console.log(JSON.stringify(floor.lackingPaths())))"
    completed = subprocess.run(["node", "-e", script], cwd=TESTS, capture_output=True, text=True, check=True)
    return list(json.loads(completed.stdout))


def test_main_path_works_without_what_the_floor_lacks(service, visit, bucket, page, slow_network, lacking_paths):
    """Choose, drop, pause, resume, cover, done: in a Chromium without all that a browser of the floor lacks."""
    page.add_init_script(f"({DELETE})({json.dumps(lacking_paths)})")
    session_id, body, cover = service.open_session(), random_wav(12 * MIB), png()
    uploader = visit(service, session_id, part_size=str(5 * MIB))
    deleted = page.evaluate("window.deleted")
    assert {"URL.canParse", "AbortSignal.any", "Array.toReversed", "Map.groupBy", "Navigator.wakeLock"} <= set(deleted)
    assert len(deleted) > 500
    uploader.choose(file_payload("01 One.wav", body), file_payload("cover.png", cover, "image/png"))
    slow_network.limit(4 * MIB)
    uploader.upload()
    expect(uploader.row("01 One.wav")).to_contain_text(re.compile(r"[2-9]\d%"))
    uploader.press("Pause 01 One.wav")
    slow_network.limit(-1)
    uploader.press("Resume 01 One.wav")
    expect_received(uploader.row("01 One.wav"))
    (track,) = service.tracks(session_id)
    assert (bucket.get(track["path"]), bucket.get(track["cover"]["path"])) == (body, cover)


def test_older_browser_is_told_so(service, page):
    """A browser below the floor gets the names of those that do, and nothing to press in vain."""
    page.add_init_script("delete AbortSignal.prototype.throwIfAborted; delete window.ResizeObserver")
    page.goto(f"{service.base}/u/{service.open_session()}")
    expect(page.get_by_role("heading", name="This browser is too old")).to_be_visible()
    expect(page.locator("loadbay-uploader").get_by_text("Firefox, Chrome, Edge or Safari").last).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)


def test_blocked_script_is_told(service, page):
    """The page says so after a while if its script is blocked, or too new for the browser to read."""
    page.route(re.compile(r"\.js$"), lambda route: route.abort())
    page.goto(f"{service.base}/u/{service.open_session()}")
    heading = page.get_by_role("heading", name="The upload area has not loaded")
    expect(heading).to_be_hidden()
    expect(heading).to_be_visible(timeout=20_000)


@pytest.mark.parametrize("context_options", [{"java_script_enabled": False}])
def test_page_without_scripts_asks_for_them(service, page, context_options):
    """The page asks for scripts that are switched off, and says what to do."""
    response = page.goto(f"{service.base}/u/{service.open_session()}")
    # Chromium's DevTools stop scripts, but its parser goes on as if there were some.
    assert "<noscript><p>This page needs JavaScript" in response.text()
    expect(page.get_by_role("heading", name="The upload area has not loaded")).to_be_visible(timeout=20_000)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("URL.canParse('a')", "possibly 'undefined'"),
        ("AbortSignal.any([])", "possibly 'undefined'"),
        ("[1].toReversed()", "possibly 'undefined'"),
        ("new CompressionStream('gzip')", "'CompressionStream' is possibly 'undefined'"),
        ("navigator.wakeLock.request('screen')", "'navigator.wakeLock' is possibly 'undefined'"),
        ("new Intl.Segmenter()", "'Intl.Segmenter' is possibly 'undefined'"),
        ("navigator.wakeLock?.request('screen'); [1].at(-1); structuredClone(1)", ""),
    ],
)
def test_lint_finds_what_the_floor_lacks_in_scripts(tmp_path, script, error):
    """The type check fails for what a browser of the floor lacks, unless its absence is provided for."""
    tsc = require("tsc")
    subprocess.run(["node", TESTS / "floor-types.mjs", tmp_path / ".floor"], check=True)
    shutil.copy(TESTS / "tsconfig.json", tmp_path)
    config = json.loads((TESTS / "tsconfig.json").read_text())
    (tmp_path / "tsconfig.json").write_text(json.dumps({**config, "include": [".floor/*.d.ts", "script.js"]}))
    (tmp_path / "script.js").write_text(script)
    output = subprocess.run([tsc, "--project", tmp_path], capture_output=True, text=True, check=False).stdout
    assert error in output
    assert bool(output) == bool(error)


@pytest.mark.parametrize(
    ("style", "lacking"),
    [
        ("a { color: light-dark(red, blue) }", "light-dark()"),
        ("a { --a: color-mix(in srgb, red, blue) }", "color-mix()"),
        ("a:has(b) { color: red }", ":has"),
        ("@container (width > 3px) { a { color: red } }", "@container"),
        ("a { height: 100dvh }", "dvh"),
        ("@supports (color: light-dark(red, red)) { a { color: light-dark(red, blue) } }", None),
        ("a { aspect-ratio: 1; inset: 0; height: 100vh }", None),
    ],
)
def test_lint_finds_what_the_floor_lacks_in_styles(style, lacking):
    """ESLint fails for what a browser of the floor lacks, unless `@supports` asks for it."""
    command = [require("eslint"), "--config", "eslint.config.mjs", "--stdin", "--stdin-filename", "style.css"]
    completed = subprocess.run(command, input=style, cwd=TESTS, capture_output=True, text=True, check=False)
    assert completed.returncode == (1 if lacking else 0), completed.stdout
    assert not lacking or f"“{lacking}”" in completed.stdout


def test_lint_passes_our_files():
    """Scripts and styles of the page use nothing that a browser of the floor lacks."""
    subprocess.run(["node", TESTS / "floor-types.mjs", TESTS / ".floor"], check=True)
    subprocess.run([require("tsc"), "--project", TESTS], check=True)
    subprocess.run([require("eslint"), "--config", TESTS / "eslint.config.mjs", "static"], cwd=ROOT, check=True)
