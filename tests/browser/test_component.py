"""<loadbay-uploader> on a page of another site, put there as docs/upload-page.md shows."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import expect

from browser.conftest import Uploader
from browser.test_upload import arrived, file
from conftest import COLLECTION
from support.processes import ROOT
from support.sample_files import HTML, wav

PAGE = (ROOT / "docs" / "upload-page.md").read_text()
SHOWN = re.search(r"<!-- component -->\n```html\n(.*?)```", PAGE, re.DOTALL)[1]
SITE = """<!doctype html><html lang="en"><title>A label</title>
<style>loadbay-uploader { --loadbay-accent: rgb(1, 2, 3); }</style>
<h1>A label</h1>
<script>
  window.heard = [];
  for (const name of ["file-uploaded", "file-failed", "session-complete"]) {
    document.addEventListener(name, (event) => heard.push([name, event.detail]));
  }
</script>
"""


@pytest.fixture
def site():
    """Another site: give it its page, and it tells its address."""

    class Page(BaseHTTPRequestHandler):
        html = ""

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(Page.html.encode())

        def log_message(self, *_):
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    origin = f"http://127.0.0.1:{server.server_port}"

    def put(service, session_id, attributes=""):
        own = {
            "https://uploads.example.com": service.base,
            "UPLOAD_SESSION_ID": session_id,
            '"></load': f'" {attributes}></load',
        }
        Page.html = SITE + SHOWN
        for example, meant in own.items():
            assert example in SHOWN
            Page.html = Page.html.replace(example, meant)
        return origin

    put.origin = origin
    yield put
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("how", ["named", "by the script"])
def test_another_site(serve, page, bucket, site, how):
    """One script tag and one element upload from another site, which hears what happens and chooses the colours."""
    service = serve(CORS_ORIGINS=site.origin)
    session_id = service.open_session()
    page.goto(site(service, session_id, f'server="{service.base}"' if how == "named" else ""))
    uploader = Uploader(page)
    page.get_by_text("Open until").wait_for()
    uploader.choose(file("1 good.wav", wav()), file("2 bad.wav", HTML))
    button = page.get_by_role("button", name="Upload 2 files")
    assert button.evaluate("button => getComputedStyle(button).backgroundColor") == "rgb(1, 2, 3)"
    button.click()
    expect(uploader.batch).to_contain_text("1 of 2 arrived, 1 did not")
    track = next(track for track in service.tracks(session_id) if track["file_name"] == "1 good.wav")
    assert bucket.get(track["path"]) == wav()
    heard = dict(page.evaluate("heard"))
    assert set(heard) == {"file-uploaded", "file-failed"}
    assert (heard["file-uploaded"]["file_name"], heard["file-uploaded"]["track_id"]) == ("1 good.wav", track["id"])
    assert heard["file-uploaded"]["track"]["path"] == track["path"]
    assert (heard["file-failed"]["file_name"], heard["file-failed"]["code"]) == ("2 bad.wav", "verification_failed")
    assert "not audio" in heard["file-failed"]["message"]
    uploader.press("Remove 2 bad.wav")
    page.wait_for_function("heard.length === 3")
    name, detail = page.evaluate("heard[2]")
    assert (name, [track["id"] for track in detail["tracks"]]) == ("session-complete", [track["id"]])


def test_site_that_is_not_named(serve, page, site):
    """A site that CORS_ORIGINS does not name gets the component, and no answer of the service."""
    service = serve(CORS_ORIGINS="https://other.example.com")
    page.goto(site(service, service.open_session()))
    expect(page.get_by_text("The service cannot be reached.").first).to_be_visible()


@pytest.mark.parametrize("session_id", [COLLECTION, "cut-off"])
def test_unknown_session(serve, page, site, session_id):
    """A session that is not there is told of as on the service's own page."""
    service = serve(CORS_ORIGINS="*")
    page.goto(site(service, session_id))
    expect(page.get_by_role("heading", name="This link leads nowhere")).to_be_visible()


def test_another_session(serve, page, bucket, site):
    """Given another session, the component begins anew; given files by a script, it lists them."""
    service = serve(CORS_ORIGINS="*")
    page.goto(site(service, service.open_session()))
    uploader, component, session_id = Uploader(page), page.locator("loadbay-uploader"), service.open_session()
    page.get_by_text("Open until").wait_for()
    uploader.choose(file("old.wav", wav()))
    expect(uploader.row("old.wav")).to_be_visible()
    component.evaluate("(e, id) => e.setAttribute('session', id)", session_id)
    expect(uploader.files.get_by_role("listitem")).to_have_count(0)
    component.evaluate("e => e.addFiles([new File(['RIFF1234WAVEfmt '], 'new.wav')])")
    uploader.upload()
    arrived(uploader.row("new.wav"))
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == b"RIFF1234WAVEfmt "


@pytest.mark.parametrize("address", ["http://", "ftp://uploads.example.com", "http://a:b"])
def test_server_that_is_no_address(serve, page, site, address):
    """A `server` that is no address is told of, and a right one put in its place works."""
    service = serve(CORS_ORIGINS=site.origin)
    page.goto(site(service, service.open_session(), f'server="{address}"'))
    expect(page.get_by_role("heading", name="Something is wrong with this page")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)
    page.locator("loadbay-uploader").evaluate("(e, base) => e.setAttribute('server', base)", service.base)
    page.get_by_text("Open until").wait_for()
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()


COLOURS = {
    "ink": (".lead", "color"),
    "soft": (".hint", "color"),
    "paper": (".batch", "background-color"),
    "line": (".batch", "border-bottom-color"),
    "accent": ("button.primary:not([hidden])", "background-color"),
    "on-accent": ("button.primary:not([hidden])", "color"),
    "good": ("[data-state=done] .state", "color"),
    "bad": ("[data-state=failed] .state", "color"),
}


def test_variables(serve, page, site):
    """Each documented variable colours what it says, set on the element or above it."""
    service = serve(CORS_ORIGINS=site.origin)
    page.goto(site(service, service.open_session()))
    documented = set(re.findall(r"`--loadbay-([a-z-]+)`", PAGE))
    assert documented == {*COLOURS, "font", "radius"}
    own = {name: f"rgb({number}, 20, 30)" for number, name in enumerate(COLOURS)}
    texts = [f"--loadbay-{name}: {value} !important;" for name, value in own.items()]
    page.add_style_tag(content="loadbay-uploader {" + "".join(texts) + "}")
    page.add_style_tag(content="html { --loadbay-font: Courier; --loadbay-radius: 5px; }")
    page.get_by_text("Open until").wait_for()
    uploader = Uploader(page)
    uploader.choose(file("good.wav", wav()), file("bad.wav", HTML))
    uploader.upload(2)
    expect(uploader.batch).to_contain_text("1 of 2 arrived, 1 did not")

    def style(selector, name):
        found = page.locator(f"loadbay-uploader {selector}").first
        return found.evaluate("(element, name) => getComputedStyle(element).getPropertyValue(name)", name)

    assert {name: style(*where) for name, where in COLOURS.items()} == own
    assert (style(".lead", "font-family"), style(".drop", "border-radius")) == ("Courier", "5px")
