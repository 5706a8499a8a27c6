"""The pages by keyboard, for screen readers, on a phone, in light and dark."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from browser.helpers import expect_received, file_payload, random_wav
from support.api import COLLECTION
from support.sample_files import HTML, png, wav

FIELDS = [
    {"name": "artist", "label": "Artist", "required": True},
    {"name": "long", "label": "Urheberrechtsgesellschaftsnummer" * 2, "one_of": ["a" * 60, "b"]},
]


def focused_name(page):
    """Return the accessible name or the text of the focused element."""
    return page.evaluate(
        """() => {
          let element = document.activeElement;
          while (element.shadowRoot) element = element.shadowRoot.activeElement;
          return element.getAttribute("aria-label") ?? element.textContent;
        }"""
    )


def tab_to(page, name):
    """Press Tab until the element with this name is focused."""
    for _ in range(30):
        page.keyboard.press("Tab")
        if focused_name(page) == name:
            return
    raise AssertionError(f"Tab did not reach {name}; the focus is on {focused_name(page)}.")


def test_page_works_by_keyboard_alone(service, visit, bucket, page, slow_network):
    """All controls work with the keyboard alone, and focus is never lost."""
    session_id, bodies = service.open_session(), {f"{name}.wav": random_wav(120_000) for name in "abc"}
    files = [file_payload(name, body) for name, body in bodies.items()]
    # Added early: a listener added right before the key press may be too late.
    page.on("filechooser", lambda chooser: chooser.set_files(files))
    uploader = visit(service, session_id)
    tab_to(page, "Choose files")
    page.keyboard.press("Enter")
    expect(uploader.files.get_by_role("listitem")).to_have_count(3)
    tab_to(page, "Title for a.wav")
    page.keyboard.press("Control+A")
    page.keyboard.type("Typed")
    tab_to(page, "Remove c.wav")
    page.keyboard.press("Space")
    expect(uploader.files.get_by_role("listitem")).to_have_count(2)
    assert focused_name(page).startswith("Add cover×b.wav")
    page.get_by_role("button", name="Upload 2 files").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Pause all")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Resume all", exact=True)).to_be_focused()
    slow_network.limit(-1)
    page.keyboard.press("Enter")
    expect(uploader.summary).to_contain_text("Done: 2 files received")
    assert focused_name(page) == "Done: 2 files received"
    tracks = {track["file_name"]: track for track in service.tracks(session_id)}
    assert {name: bucket.get(track["path"]) for name, track in tracks.items()} == {
        name: bodies[name] for name in ("a.wav", "b.wav")
    }
    assert tracks["a.wav"]["metadata"]["title"] == "Typed"


@pytest.fixture
def context_options(context_options, request):
    """The usual options; if the test has a `scheme`, in that color scheme and open to axe-core."""
    if "scheme" not in request.fixturenames:
        return context_options
    return {**context_options, "color_scheme": request.getfixturevalue("scheme"), "bypass_csp": True}


def violations(page):
    """Return what axe-core finds, of any impact."""
    report = Axe().run(page).response
    return [(item["id"], item["impact"], item["nodes"][0]["html"]) for item in report["violations"]]


# axe-core adds styles, which the page's Content-Security-Policy would block: see context_options.
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(service, visit, page, network, scheme):
    """axe-core finds nothing in any state of the page, nor on the other pages."""
    look = {"title": "Harbor Lights", "sender": "A label", "accent_color": "#7fd4c1"}
    session_id = service.open_session(page=look, fields=FIELDS)
    uploader, by_state = visit(service, session_id), {}
    by_state["empty"] = violations(page)
    uploader.choose(
        file_payload("a.wav", random_wav(300_000)),
        file_payload("b.wav", HTML),
        file_payload("a.png", png(), "image/png"),
        file_payload("c.pdf", b"%PDF-1.7"),
    )
    expect(uploader.row("a.wav")).to_be_visible()
    page.get_by_text("All tracks", exact=True).click()
    by_state["listed, one skipped"] = violations(page)
    network.limit(30_000)
    uploader.upload(2)
    expect(uploader.row("a.wav")).to_contain_text("left")
    expect(uploader.row("b.wav")).to_contain_text("Failed")
    by_state["running"] = violations(page)
    uploader.press("Pause a.wav")
    by_state["paused"] = violations(page)
    uploader.press("Resume a.wav")
    uploader.press("Cancel all")
    page.get_by_role("dialog").wait_for()
    by_state["question"] = violations(page)
    page.get_by_role("button", name="Cancel uploads").click()
    expect(uploader.row("a.wav")).to_contain_text("Canceled")
    by_state["canceled"] = violations(page)
    network.limit(-1)
    uploader.press("Upload again a.wav")
    expect(uploader.summary).to_contain_text("1 of 2 files received, 1 failed")
    by_state["failed"] = violations(page)
    uploader.press("Remove b.wav")
    expect(uploader.summary).to_contain_text("Done: 1 file received")
    by_state["done"] = violations(page)
    page.reload()
    page.get_by_role("heading", name="Received earlier: 1 file").wait_for()
    by_state["received earlier"] = violations(page)
    service.expire(session_id)
    page.reload()
    page.get_by_role("table").wait_for()
    by_state["expired, with a receipt"] = violations(page)
    for path in (f"/u/{COLLECTION}", "/"):
        page.goto(service.base + path)
        by_state[path] = violations(page)
    page.add_init_script("delete AbortSignal.prototype.throwIfAborted")
    page.goto(f"{service.base}/u/{session_id}")
    page.get_by_role("heading", name="This browser is too old").wait_for()
    by_state["too old"] = violations(page)
    assert {state: items for state, items in by_state.items() if items} == {}


@pytest.mark.parametrize("scheme", ["light"])
def test_axe_reports_a_nameless_button(service, page, scheme):
    """axe-core reports a violation if there is one."""
    page.goto(service.base)
    page.evaluate("document.body.append(document.createElement('button'))")
    assert violations(page)[0][0] == "button-name"


@pytest.mark.parametrize(
    "context_options", [{"viewport": {"width": 320, "height": 640}, "is_mobile": True, "has_touch": True}]
)
def test_nothing_overflows_a_narrow_phone(service, visit, bucket, page, network, context_options):
    """The narrowest phone needs no horizontal scrolling, in any state."""
    name = "01 " + "a long name without any place to break it".replace(" ", "_") * 2 + ".wav"
    session_id = service.open_session(metadata={"batch_name": "Donaudampfschiffe" * 3}, fields=FIELDS)
    body, widths = random_wav(200_000), {}

    def measure(state):
        widths[state] = page.evaluate("document.documentElement.scrollWidth")

    uploader = visit(service, session_id)
    measure("empty")
    uploader.choose(
        file_payload(name, body), file_payload("b.wav", HTML), file_payload("cover.png", png(), "image/png")
    )
    expect(uploader.row("b.wav")).to_be_visible()
    page.get_by_text("All tracks", exact=True).click()
    measure("listed")
    network.limit(100_000)
    uploader.upload(2)
    expect(uploader.row(name)).to_contain_text("left")
    measure("running")
    network.limit(-1)
    expect_received(uploader.row(name))
    expect(uploader.row("b.wav")).to_contain_text("Failed")
    measure("done")
    page.reload()
    page.get_by_role("heading", name="Received earlier: 1 file").wait_for()
    measure("earlier")
    page.goto(service.base)
    measure("start")
    assert widths == dict.fromkeys(("empty", "listed", "running", "done", "earlier", "start"), 320)
    track = next(track for track in service.tracks(session_id) if track["file_name"] == name)
    assert bucket.get(track["path"]) == body


def test_start_page_opens_a_session(service, page, bucket):
    """The start page's button opens a session and goes to its upload page, which works."""
    page.goto(service.base)
    expect(page.get_by_role("list", name="Service status")).to_contain_text("Store OK")
    page.get_by_role("button", name="Open an upload session").click()
    page.get_by_text("Open until").wait_for()
    session_id = page.url.rpartition("/")[2]
    page.locator("loadbay-uploader input[type=file]").first.set_input_files(file_payload("a.wav", wav()))
    page.get_by_role("button", name="Upload 1 file").click()
    page.get_by_text("✓ Received").wait_for()
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == wav()
