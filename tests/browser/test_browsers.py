"""The main path in Firefox and WebKitGTK: choose, drop, pause, resume, cover, done, byte for byte.

The other tests of this folder run in Chromium.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from browser.helpers import MIB, random_wav
from browser.webdriver import Browser, find_firefox, find_webkit
from support.sample_files import png
from support.slow_proxy import SlowProxy

BROWSERS = {"Firefox": (find_firefox, "firefox-esr"), "WebKitGTK": (find_webkit, "webkit2gtk-driver xvfb xauth")}
DEEP = "const root = document.querySelector('loadbay-uploader').shadowRoot ?? document.createElement('p');"
ROW = f"{DEEP} const row = [...root.querySelectorAll('li')].find((row) => row.textContent.includes(arguments[0]));"
BUTTON = f"{DEEP} return [...root.querySelectorAll('button')].find((button) => !button.hidden && arguments[0] ==="
BUTTON += " (button.getAttribute('aria-label') ?? button.textContent))"
# No driver drops files from outside the browser. These are as real: a file input of the page has chosen them.
DROP = """
const data = new DataTransfer();
for (const file of arguments[0].files) data.items.add(file);
const target = document.querySelector('loadbay-uploader').shadowRoot.querySelector('.drop-zone');
for (const type of ['dragenter', 'dragover', 'drop']) {
  target.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, composed: true, cancelable: true }));
}
"""
INPUT = "const input = document.createElement('input'); Object.assign(input, { type: 'file', multiple: true });"
INPUT += "document.body.append(input); return input"


@pytest.fixture(params=BROWSERS)
def other_browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Firefox, then WebKitGTK."""
    find, package = BROWSERS[request.param]
    start = find()
    if start is None:
        pytest.skip(f"{request.param} is not installed: run 'apt-get install {package}'.")
    with start() as browser:
        yield browser


@pytest.fixture
def proxy(store_endpoint: str) -> Iterator[SlowProxy]:
    """A connection to the store that a test can slow down."""
    with SlowProxy(store_endpoint) as proxy:
        yield proxy


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """Write the files to choose, and return their contents by name."""
    bodies = {
        "01 One.wav": random_wav(12 * MIB),
        "02 Zwei Ü.wav": random_wav(70_000),
        "03 Trois.wav": random_wav(90_000),
    }
    bodies["01 One.png"] = png(8, 8)
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
    return bodies


def press(browser: Browser, name: str) -> None:
    """Press the button with this accessible name, as soon as there is one."""
    browser.click(browser.wait(BUTTON, name))


def wait_for(browser: Browser, text: str) -> None:
    """Wait for a text anywhere in the component."""
    browser.wait(f"{DEEP} return root.textContent.includes(arguments[0])", text)


@pytest.mark.parametrize("assets", ["1", "0"])
def test_main_path(
    other_browser: Browser, serve: Callable[..., Any], proxy: SlowProxy, bucket: Any, files: dict[str, bytes],
    tmp_path: Path, assets: str,
) -> None:  # fmt: skip
    """Chosen and dropped files, one of them paused and resumed, and a cover, arrive unchanged."""
    browser, service = other_browser, serve(S3_PUBLIC_ENDPOINT=proxy.endpoint, BUILT_ASSETS=assets)
    session_id = service.open_session()
    browser.visit(f"{service.base}/u/{session_id}")
    wait_for(browser, "Open until")
    browser.run("document.querySelector('loadbay-uploader').setAttribute('part-size', '5242880')")
    # In parts only if the page asks for them from this size on.
    browser.choose(browser.run(f"{DEEP} return root.querySelector('input[type=file]')"), tmp_path / "01 One.wav")
    dropped = browser.run(INPUT)
    browser.choose(dropped, *(tmp_path / name for name in files if name != "01 One.wav"))
    browser.run(DROP, dropped)
    browser.wait(f"{DEEP} return root.querySelectorAll('li img:not([hidden])').length === 1")
    proxy.rate = 3 * MIB
    press(browser, "Upload 3 files")
    browser.wait(f"{ROW} return row.querySelector('progress').value > 0.3", "01 One.wav")
    press(browser, "Pause 01 One.wav")
    browser.wait(f"{ROW} return row.dataset.state === 'paused'", "01 One.wav")
    proxy.rate = 0
    press(browser, "Resume 01 One.wav")
    browser.wait(f"{DEEP} return root.querySelectorAll('li[data-state=done]').length === 3")
    wait_for(browser, "Done: 3 files received")
    tracks = {track["file_name"]: track for track in service.tracks(session_id)}
    assert {name: bucket.get(track["path"]) for name, track in tracks.items()} == {
        name: body for name, body in files.items() if name.endswith(".wav")
    }
    assert bucket.get(tracks["01 One.wav"]["cover"]["path"]) == files["01 One.png"]
    browser.visit(f"{service.base}/u/{session_id}")
    wait_for(browser, "Received earlier: 3 files")
