"""The adapter of docs/uppy.md, taken from there: Uppy uploads through our endpoints, from another site's page."""

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

from support.processes import ROOT, Processes
from support.sample_files import HTML, png, wav
from support.store import ACCESS_KEY, BUCKET, SECRET_KEY, start_store

MODULES = Path(__file__).with_name("node_modules")
MIB = 2**20
# The site's script: Uppy, the adapter, and functions for the tests to call.
SITE = """
import Uppy from '@uppy/core'
import { uploadToLoadbay } from './adapter.js'

window.covers = {}
window.open = (tracksUrl, options) => {
  window.uppy = new Uppy()
  uploadToLoadbay(uppy, tracksUrl, options, (file) => covers[file.name])
}
window.addCover = (input, name, type) => {
  covers[name] = new File([input.files[0]], 'cover', { type })
  input.value = ''
}
window.add = (input) => {
  for (const file of input.files) uppy.addFile({ name: file.name, type: file.type, data: file })
}
window.outcome = ({ successful, failed }) => ({
  successful: successful.map((file) => file.meta.track),
  failed: failed.map((file) => file.error),
})
"""
HOME = "<!doctype html><title>Another site</title><input type=file multiple><script src=site.js></script>"


class Handler(SimpleHTTPRequestHandler):
    """A server of the site's files without a log."""

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The origin of a site with Uppy and the adapter of docs/uppy.md."""
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
def store_endpoint(site: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store for these tests alone, which accepts the site's requests: its CORS rule would block others' pages."""
    folder = tmp_path_factory.mktemp("store")
    store = start_store(folder)
    settings = {
        "S3_ENDPOINT": store.endpoint, "S3_BUCKET": BUCKET, "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "DATABASE_URL": f"sqlite:///{folder}/doctor.db",
    }  # fmt: skip
    doctor = ("flask", "--app", "app", "doctor", "--origin", site, "--fix")
    completed = Processes().run(*doctor, env=settings)
    assert completed.returncode == 0, completed.stdout
    yield store.endpoint
    store.stop(signal.SIGKILL)


@pytest.fixture
def session(site: str, serve: Callable[..., Any], page: Page) -> tuple[Any, str]:
    """A service and the id of an open session; both service and store accept requests from the site."""
    return open_session(site, serve, page)


def open_session(site: str, serve: Callable[..., Any], page: Page, **settings: str) -> tuple[Any, str]:
    """Return a service with other settings and the id of an open session, and open the session in the site's page."""
    service = serve(CORS_ORIGINS=site, **settings)
    session_id = service.open_session()
    page.goto(site)
    page.evaluate(
        "url => open(url, { shouldUseMultipart: (file) => file.size > 5 * 2 ** 20 })",
        f"{service.base}/v1/upload/{session_id}/track",
    )
    return service, session_id


@pytest.fixture
def choose(page: Page, tmp_path: Path) -> Callable[..., None]:
    """Add files to Uppy through the page's file input, by name and content."""

    def choose_files(**bodies: bytes) -> None:
        paths = [tmp_path / name for name in bodies]
        for path in paths:
            path.write_bytes(bodies[path.name])
        page.locator("input").set_input_files(paths)
        page.evaluate("add(document.querySelector('input'))")

    return choose_files


def two_part_wav() -> bytes:
    """Return a WAV of two parts with different content."""
    return wav() + os.urandom(20 * MIB)


def test_small_and_multipart_files_are_uploaded(session, choose, page, bucket):
    """A small file and a multipart one are received unchanged, and verified by the service."""
    service, session_id = session
    bodies = {"Small One.wav": wav(), "big.wav": two_part_wav()}
    choose(**bodies)
    result = page.evaluate("uppy.upload().then(outcome)")
    assert result["failed"] == []
    tracks = {track["file_name"]: track for track in service.tracks(session_id)}
    assert tracks == {track["file_name"]: track for track in result["successful"]}
    for name, body in bodies.items():
        assert (tracks[name]["status"], tracks[name]["size"]) == ("uploaded", len(body))
        assert bucket.get(tracks[name]["path"]) == body
        assert bucket.head(tracks[name]["path"])["ContentType"] == "audio/wav"


def test_paused_multipart_upload_resumes(session, choose, page, bucket):
    """A paused multipart upload resumes where it stopped: no part is sent twice."""
    service, session_id = session
    body = two_part_wav()
    choose(**{"big.wav": body})
    sent: list[str] = []
    page.on("request", lambda request: sent.append(f"{request.method} {request.url}"))
    page.evaluate("""() => {
      window.paused = new Promise((resolve) =>
        uppy.once('s3-multipart:part-uploaded', () => { uppy.pauseAll(); resolve() }))
      window.done = uppy.upload().then(outcome)
    }""")
    page.evaluate("paused")
    [track] = service.tracks(session_id)
    assert track["status"] == "initialized"
    page.evaluate("uppy.resumeAll()")
    result = page.evaluate("done")
    assert [track["status"] for track in result["successful"]] == ["uploaded"]
    assert bucket.get(result["successful"][0]["path"]) == body
    puts = [re.findall(r"partNumber=(\d+)", line) for line in sent if line.startswith("PUT ")]
    assert puts.count(["1"]) == 1
    assert any(line.startswith("GET ") and line.endswith("/parts") for line in sent)


def test_canceled_upload_leaves_nothing(session, choose, page, bucket):
    """A multipart upload canceled in Uppy is cancelled at the service, and leaves nothing in the store."""
    service, session_id = session
    choose(**{"big.wav": two_part_wav()})
    page.evaluate("""() => {
      uppy.once('s3-multipart:part-uploaded', () => uppy.cancelAll())
      window.done = uppy.upload().then(outcome)
    }""")
    page.wait_for_event("response", lambda response: response.request.method == "DELETE")
    [track] = service.tracks(session_id)
    assert track["status"] == "cancelled"
    assert bucket.get(track["path"]) is None
    assert "Uploads" not in bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=track["path"])


def test_rejected_files_are_uppy_errors(session, choose, page, bucket):
    """A file that fails verification or is rejected becomes an error in Uppy, with the service's reason."""
    service, session_id = session
    choose(**{"page.mp3": HTML, "empty.mp3": b""})
    result = page.evaluate("uppy.upload().then(outcome)")
    assert result["successful"] == []
    [track] = service.tracks(session_id)
    assert track["status"] == "failed"
    assert track["failure"] in result["failed"]
    assert any("file_size" in error for error in result["failed"]), result


PNG = png(40, 40)


@pytest.mark.parametrize(("way", "method"), [("form", "POST"), ("put", "PUT"), ("relay", "POST")])
@pytest.mark.parametrize("name", ["small.wav", "big.wav"])
def test_covers_go_where_the_service_says(site, serve, settings, page, tmp_path, bucket, way, method, name):
    """A cover is sent by a form or a PUT to the store, or through the service, with a small file and one in parts."""
    service, session_id = open_session(site, serve, page, COVER_UPLOAD=way)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(f"{request.method} {request.url.split('?')[0]}"))
    files = {"cover.png": PNG, name: wav() if name == "small.wav" else two_part_wav()}
    for file_name, content in files.items():
        (tmp_path / file_name).write_bytes(content)
    page.locator("input").set_input_files(tmp_path / "cover.png")
    page.evaluate("name => addCover(document.querySelector('input'), name, 'image/png')", name)
    page.locator("input").set_input_files(tmp_path / name)
    page.evaluate("add(document.querySelector('input'))")
    result = page.evaluate("uppy.upload().then(outcome)")
    assert result["failed"] == []
    (track,) = service.tracks(session_id)
    assert (track["status"], track["cover"]["status"]) == ("uploaded", "uploaded")
    assert bucket.get(track["cover"]["path"]) == PNG
    assert bucket.get(track["path"]) == files[name]
    target = service.base if way == "relay" else settings["S3_ENDPOINT"]
    covers = [line for line in sent if line.startswith(f"{method} {target}") and is_cover(line, track, way)]
    assert len(covers) == 1, sent


def is_cover(line: str, track: dict[str, Any], way: str) -> bool:
    """Return whether a request has sent the cover of a track."""
    ends = {"form": f"/{BUCKET}/", "put": ".cover", "relay": f"/track/{track['id']}/cover"}
    return line.endswith(ends[way])


def test_rejected_cover_is_an_uppy_error(site, serve, page, tmp_path):
    """A cover that is too large ends its file's upload, with the reason."""
    open_session(site, serve, page, MAX_COVER_BYTES="100", COVER_UPLOAD="relay")
    (tmp_path / "cover.png").write_bytes(PNG + bytes(200))
    (tmp_path / "a.wav").write_bytes(wav())
    page.locator("input").set_input_files(tmp_path / "cover.png")
    page.evaluate("addCover(document.querySelector('input'), 'a.wav', 'image/png')")
    page.locator("input").set_input_files(tmp_path / "a.wav")
    page.evaluate("add(document.querySelector('input'))")
    result = page.evaluate("uppy.upload().then(outcome)")
    assert result["successful"] == []
    assert "413" in result["failed"][0]
