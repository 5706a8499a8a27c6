"""docs/uppy.md: its adapter, as it stands there, makes Uppy upload through our endpoints, from another site's page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Page

from conftest import BUCKET, start_store
from support.processes import ROOT, run
from support.sample_files import HTML, wav

MODULES = Path(__file__).with_name("node_modules")
MIB = 2**20
# What a site of its own would have: Uppy, the adapter, and two functions for the test to call.
SITE = """
import Uppy from '@uppy/core'
import { uploadToLoadbay } from './adapter.js'

window.open = (tracksUrl, options) => {
  window.uppy = new Uppy()
  uploadToLoadbay(uppy, tracksUrl, options)
}
window.add = (input) => {
  for (const file of input.files) uppy.addFile({ name: file.name, type: file.type, data: file })
}
window.told = ({ successful, failed }) => ({
  successful: successful.map((file) => file.meta.track),
  failed: failed.map((file) => file.error),
})
"""
HOME = "<!doctype html><title>Another site</title><input type=file multiple><script src=site.js></script>"


class Handler(SimpleHTTPRequestHandler):
    """A site's files, without a log."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The origin of a site that has Uppy and the adapter of docs/uppy.md."""
    if not (MODULES / ".bin" / "esbuild").exists():
        pytest.skip("Uppy is not installed: 'npm ci --prefix tests/browser' (Node 18 or later).")
    folder = tmp_path_factory.mktemp("site")
    adapter = re.search(r"<!-- adapter -->\n```js\n(.*?)```", (ROOT / "docs" / "uppy.md").read_text(), re.DOTALL)
    assert adapter
    (folder / "adapter.js").write_text(adapter[1])
    (folder / "index.js").write_text(SITE)
    (folder / "index.html").write_text(HOME)
    bundle = [MODULES / ".bin" / "esbuild", "index.js", "--bundle", "--outfile=site.js", "--log-level=warning"]
    subprocess.run(bundle, cwd=folder, env={**os.environ, "NODE_PATH": str(MODULES)}, check=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def store_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store of our own: the rule that lets the site in would keep the other tests' pages out."""
    store = start_store(tmp_path_factory.mktemp("store"))
    yield store.endpoint
    store.stop(signal.SIGKILL)


@pytest.fixture
def session(site: str, settings: dict[str, Any], serve: Callable[..., Any], page: Page) -> tuple[Any, str]:
    """A service and a store that let the site in, and an open session: the page's Uppy uploads into it."""
    service = serve(CORS_ORIGINS=site)
    fixed = run("flask", "--app", "app", "doctor", "--origin", site, "--fix", env=settings)
    assert fixed.returncode == 0, fixed.stdout
    session_id = service.open_session()
    page.goto(site)
    page.evaluate(
        "url => open(url, { shouldUseMultipart: (file) => file.size > 5 * 2 ** 20 })",
        f"{service.base}/v1/upload/{session_id}/track",
    )
    return service, session_id


@pytest.fixture
def choose(page: Page, tmp_path: Path) -> Callable[..., None]:
    """Give files to Uppy, by name and bytes, as a person chooses them."""

    def choose_files(**bodies: bytes) -> None:
        paths = [tmp_path / name for name in bodies]
        for path in paths:
            path.write_bytes(bodies[path.name])
        page.locator("input").set_input_files(paths)
        page.evaluate("add(document.querySelector('input'))")

    return choose_files


def big() -> bytes:
    """A WAV of two parts, unlike each other."""
    return wav() + os.urandom(20 * MIB)


def test_small_and_multipart(session, choose, page, bucket):
    """A small file and one in parts arrive byte for byte, and the service calls them uploaded."""
    service, session_id = session
    bodies = {"Small One.wav": wav(), "big.wav": big()}
    choose(**bodies)
    told = page.evaluate("uppy.upload().then(told)")
    assert told["failed"] == []
    tracks = {track["file_name"]: track for track in service.tracks(session_id)}
    assert tracks == {track["file_name"]: track for track in told["successful"]}
    for name, body in bodies.items():
        assert (tracks[name]["status"], tracks[name]["size"]) == ("uploaded", len(body))
        assert bucket.get(tracks[name]["path"]) == body
        assert bucket.head(tracks[name]["path"])["ContentType"] == "audio/wav"


def test_pause_and_resume(session, choose, page, bucket):
    """An upload in parts that is paused goes on where it stopped: no part is sent twice."""
    service, session_id = session
    body = big()
    choose(**{"big.wav": body})
    sent: list[str] = []
    page.on("request", lambda request: sent.append(f"{request.method} {request.url}"))
    page.evaluate("""() => {
      window.paused = new Promise((resolve) =>
        uppy.once('s3-multipart:part-uploaded', () => { uppy.pauseAll(); resolve() }))
      window.done = uppy.upload().then(told)
    }""")
    page.evaluate("paused")
    [track] = service.tracks(session_id)
    assert track["status"] == "initialized"
    page.evaluate("uppy.resumeAll()")
    told = page.evaluate("done")
    assert [track["status"] for track in told["successful"]] == ["uploaded"]
    assert bucket.get(told["successful"][0]["path"]) == body
    puts = [re.findall(r"partNumber=(\d+)", line) for line in sent if line.startswith("PUT ")]
    assert puts.count(["1"]) == 1
    assert any(line.startswith("GET ") and line.endswith("/parts") for line in sent)


def test_cancelled(session, choose, page, bucket):
    """An upload in parts that is cancelled in Uppy is cancelled here, and leaves nothing in the store."""
    service, session_id = session
    choose(**{"big.wav": big()})
    page.evaluate("""() => {
      uppy.once('s3-multipart:part-uploaded', () => uppy.cancelAll())
      window.done = uppy.upload().then(told)
    }""")
    page.wait_for_event("response", lambda response: response.request.method == "DELETE")
    [track] = service.tracks(session_id)
    assert track["status"] == "cancelled"
    assert bucket.get(track["path"]) is None
    assert "Uploads" not in bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=track["path"])


def test_refused(session, choose, page, bucket):
    """What is not what it says, or is not taken at all, is an error in Uppy too, with the service's reason."""
    choose(**{"page.mp3": HTML, "empty.mp3": b""})
    told = page.evaluate("uppy.upload().then(told)")
    assert told["successful"] == []
    assert any("not audio" in error for error in told["failed"]), told
    assert any("file_size" in error for error in told["failed"]), told
