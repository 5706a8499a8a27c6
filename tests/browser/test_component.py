"""<loadbay-uploader> on a page of another site, embedded as docs/upload-page.md shows."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import expect

from browser.helpers import Uploader, expect_received, file_payload, random_wav
from support.api import COLLECTION
from support.processes import ROOT
from support.sample_files import HTML, wav

DOCS = (ROOT / "docs" / "upload-page.md").read_text()
SNIPPET = re.search(r"<!-- component -->\n```html\n(.*?)```", DOCS, re.DOTALL)[1]
SITE = """<!doctype html><html lang="en"><title>A label</title>
<style>loadbay-uploader { --loadbay-accent: rgb(1, 2, 3); }</style>
<h1>A label</h1>
<script>
  window.firedEvents = [];
  for (const name of ["file-uploaded", "file-failed", "session-complete"]) {
    document.addEventListener(name, (event) => firedEvents.push([name, event.detail]));
  }
</script>
"""


@pytest.fixture
def site():
    """Another site: call it with the component's attributes to get the URL of its page."""

    class Page(BaseHTTPRequestHandler):
        html = ""

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(Page.html.encode())

        def log_message(self, *_):
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    origin = f"http://127.0.0.1:{server.server_port}"

    def publish(service, session_id, attributes=""):
        values = {
            "https://uploads.example.com": service.base,
            "UPLOAD_SESSION_ID": session_id,
            '"></load': f'" {attributes}></load',
        }
        Page.html = SITE + SNIPPET
        for example, value in values.items():
            assert example in SNIPPET
            Page.html = Page.html.replace(example, value)
        return origin

    publish.origin = origin
    yield publish
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("server", ["attribute", "script URL"])
def test_component_uploads_from_another_site(serve, page, bucket, site, server):
    """One script tag and one element upload from another site, which receives events and sets a color."""
    service = serve(CORS_ORIGINS=site.origin)
    session_id = service.open_session()
    page.goto(site(service, session_id, f'server="{service.base}"' if server == "attribute" else ""))
    uploader = Uploader(page)
    page.get_by_text("Open until").wait_for()
    uploader.choose(file_payload("1 good.wav", wav()), file_payload("2 bad.wav", HTML))
    button = page.get_by_role("button", name="Upload 2 files")
    assert button.evaluate("button => getComputedStyle(button).backgroundColor") == "rgb(1, 2, 3)"
    button.click()
    expect(uploader.summary).to_contain_text("1 of 2 files received, 1 failed")
    track, _ = sorted(service.tracks(session_id), key=lambda track: track["file_name"])
    assert bucket.get(track["path"]) == wav()
    events = dict(page.evaluate("firedEvents"))
    assert set(events) == {"file-uploaded", "file-failed"}
    assert (events["file-uploaded"]["file_name"], events["file-uploaded"]["track_id"]) == ("1 good.wav", track["id"])
    assert events["file-uploaded"]["track"]["path"] == track["path"]
    assert (events["file-failed"]["file_name"], events["file-failed"]["code"]) == ("2 bad.wav", "verification_failed")
    assert events["file-failed"]["message"] == "This is not an audio file, although its name says so."
    uploader.press("Remove 2 bad.wav")
    page.wait_for_function("firedEvents.length === 3")
    name, detail = page.evaluate("firedEvents[2]")
    assert (name, [track["id"] for track in detail["tracks"]]) == ("session-complete", [track["id"]])


def test_site_missing_in_cors_origins_gets_no_response(serve, page, site):
    """A site that CORS_ORIGINS does not name gets the component, and its visitors and developers are told why."""
    service, messages = serve(CORS_ORIGINS="https://other.example.com"), []
    page.on("console", lambda message: messages.append(message.text))
    page.goto(site(service, service.open_session()))
    expect(page.get_by_text("This website may not upload here yet.").first).to_be_visible()
    remedy = f"Loadbay: {service.base} sends no CORS headers for {site.origin}. Add the site to CORS_ORIGINS"
    assert len([text for text in messages if text.startswith(remedy)]) == 1


def test_bucket_without_cors_rules_is_reported(serve, page, site, bucket):
    """A store that answers, and does not let the site read it, is named to visitors and developers as such."""
    service, messages = serve(CORS_ORIGINS=site.origin), []
    page.on("console", lambda message: messages.append(message.text))
    page.goto(site(service, service.open_session(), 'retry-delay="300"'))
    uploader = Uploader(page)
    page.get_by_text("Open until").wait_for()
    # Playwright lets every site read a response without this header.
    other = {"Access-Control-Allow-Origin": "https://other.example.com"}
    page.route(f"{bucket.s3.meta.endpoint_url}/**", lambda route: route.fulfill(status=403, headers=other))
    uploader.choose(file_payload("a.wav", wav()))
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text("This website may not upload here yet.")
    assert [text for text in messages if "Add it to the bucket's CORS rules" in text]


@pytest.mark.parametrize("session_id", [COLLECTION, "cut-off"])
def test_unknown_session_shows_an_invalid_link(serve, page, site, session_id):
    """An unknown session is reported as on the service's own page."""
    service = serve(CORS_ORIGINS="*")
    page.goto(site(service, session_id))
    expect(page.get_by_role("heading", name="This link is not valid")).to_be_visible()


def test_changed_session_attribute_resets_the_list(serve, page, bucket, site):
    """A new session attribute resets the component; addFiles adds files by script."""
    service = serve(CORS_ORIGINS="*")
    page.goto(site(service, service.open_session()))
    uploader, component, session_id = Uploader(page), page.locator("loadbay-uploader"), service.open_session()
    page.get_by_text("Open until").wait_for()
    uploader.choose(file_payload("old.wav", wav()))
    expect(uploader.row("old.wav")).to_be_visible()
    component.evaluate("(e, id) => e.setAttribute('session', id)", session_id)
    expect(uploader.files.get_by_role("listitem")).to_have_count(0)
    component.evaluate("(e, body) => e.addFiles([new File([new Uint8Array(body)], 'new.wav')])", list(wav()))
    uploader.upload()
    expect_received(uploader.row("new.wav"))
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == wav()


@pytest.mark.parametrize("url", ["http://", "ftp://uploads.example.com", "http://a:b"])
def test_invalid_server_attribute_is_reported(serve, page, site, url):
    """An invalid server attribute is reported, and a valid one in its place works."""
    service = serve(CORS_ORIGINS=site.origin)
    page.goto(site(service, service.open_session(), f'server="{url}"'))
    expect(page.get_by_role("heading", name="This page is misconfigured")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)
    page.locator("loadbay-uploader").evaluate("(e, base) => e.setAttribute('server', base)", service.base)
    page.get_by_text("Open until").wait_for()
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()


COLORS = {
    "text": (".lead", "color"),
    "text-muted": (".hint", "color"),
    "background": (".summary", "background-color"),
    "border": (".summary", "border-bottom-color"),
    "accent": ("button.primary:not([hidden])", "background-color"),
    "on-accent": ("button.primary:not([hidden])", "color"),
    "success": ("[data-state=done] .status", "color"),
    "danger": ("[data-state=failed] .status", "color"),
}


def test_css_variables_set_their_colors(serve, page, site):
    """Each documented CSS variable sets its color, on the element or on an ancestor."""
    service = serve(CORS_ORIGINS=site.origin)
    page.goto(site(service, service.open_session()))
    documented = set(re.findall(r"`--loadbay-([a-z-]+)`", DOCS))
    assert documented == {*COLORS, "font", "radius"}
    colors = {name: f"rgb({number}, 20, 30)" for number, name in enumerate(COLORS)}
    declarations = [f"--loadbay-{name}: {value} !important;" for name, value in colors.items()]
    page.add_style_tag(content="loadbay-uploader {" + "".join(declarations) + "}")
    page.add_style_tag(content="html { --loadbay-font: Courier; --loadbay-radius: 5px; }")
    page.get_by_text("Open until").wait_for()
    uploader = Uploader(page)
    uploader.choose(file_payload("good.wav", wav()), file_payload("bad.wav", HTML))
    uploader.upload(2)
    expect(uploader.summary).to_contain_text("1 of 2 files received, 1 failed")

    def style(selector, name):
        element = page.locator(f"loadbay-uploader {selector}").first
        return element.evaluate("(element, name) => getComputedStyle(element).getPropertyValue(name)", name)

    assert {name: style(*where) for name, where in COLORS.items()} == colors
    assert (style(".lead", "font-family"), style(".drop-zone", "border-radius")) == ("Courier", "5px")


def test_script_drives_the_component(serve, page, bucket, site, network):
    """Properties, methods and events let a site's script do what a visitor does."""
    service = serve(CORS_ORIGINS=site.origin)
    session_id = service.open_session()
    page.goto(site(service, ""))
    component = page.locator("loadbay-uploader")
    page.evaluate(
        """() => {
          for (const name of ["file-added", "file-cancelled", "session-progress", "session-expired"]) {
            document.addEventListener(name, (event) => firedEvents.push([name, event.detail]));
          }
        }"""
    )
    component.evaluate("(e, id) => Object.assign(e, { session: id, retryDelay: 50 })", session_id)
    assert component.evaluate("e => [e.getAttribute('session'), e.retryDelay, e.partSize === 0]") == [
        session_id,
        50,
        True,
    ]
    page.get_by_text("Open until").wait_for()
    uploader = Uploader(page)
    body = random_wav(400_000)
    uploader.choose(file_payload("a.wav", body), file_payload("b.wav", wav()))
    network.limit(100_000)
    component.evaluate("e => e.start()")
    expect(uploader.row("a.wav")).to_contain_text("left")
    component.evaluate("e => e.pause()")
    expect(uploader.row("a.wav")).to_contain_text("Paused")
    network.limit(-1)
    component.evaluate("e => e.start()")
    expect(uploader.summary).to_contain_text("Done: 2 files received")
    tracks = {track["file_name"]: track for track in service.tracks(session_id)}
    assert bucket.get(tracks["a.wav"]["path"]) == body
    events = page.evaluate("firedEvents")
    assert [detail for name, detail in events if name == "file-added"] == [
        {"file_name": "a.wav", "folder": "", "size": len(body)},
        {"file_name": "b.wav", "folder": "", "size": len(wav())},
    ]
    size = len(body) + len(wav())
    last = [detail for name, detail in events if name == "session-progress"][-1]
    assert last == {"loaded": size, "total": size, "received": 2, "active": 0, "files": 2}
    network.limit(50_000)
    uploader.choose(file_payload("c.wav", random_wav(400_000)))
    component.evaluate("e => e.start()")
    expect(uploader.row("c.wav")).to_contain_text("left")
    component.evaluate("e => e.clear()")
    expect(uploader.files.get_by_role("listitem")).to_have_count(0)
    cancelled = [detail for name, detail in page.evaluate("firedEvents") if name == "file-cancelled"]
    assert [detail["file_name"] for detail in cancelled] == ["c.wav"]
    assert cancelled[0]["track_id"]


def test_slots_parts_and_messages_are_the_sites(serve, page, site):
    """A site fills slots, styles parts, and replaces messages; the slot for the end waits for it."""
    service = serve(CORS_ORIGINS=site.origin)
    page.goto(site(service, service.open_session()))
    page.get_by_text("Open until").wait_for()
    page.add_style_tag(content="loadbay-uploader::part(file done) { outline: 3px solid rgb(1, 2, 3) }")
    page.locator("loadbay-uploader").evaluate(
        """(e) => {
          e.innerHTML = '<b slot="heading">Your album</b><i slot="hint">WAV only</i><u slot="end">Thank you</u>';
          e.messages = { choose_files: "Pick files" };
        }"""
    )
    expect(page.get_by_text("Your album")).to_be_visible()
    expect(page.get_by_text("WAV only")).to_be_visible()
    expect(page.get_by_text("Drop tracks or folders here")).to_be_hidden()
    expect(page.get_by_text("Audio files, and images")).to_have_count(0)
    expect(page.get_by_role("button", name="Pick files")).to_be_visible()
    expect(page.get_by_text("Thank you")).to_be_hidden()
    uploader = Uploader(page)
    uploader.choose(file_payload("a.wav", wav()))
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    expect(page.get_by_text("Thank you")).to_be_visible()
    assert uploader.row("a.wav").evaluate("row => getComputedStyle(row).outlineColor") == "rgb(1, 2, 3)"
