"""Everybody can use the pages: by keyboard, by screen reader, on a phone, in light and in dark."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from browser.test_upload import arrived, file, sound
from conftest import COLLECTION
from support.sample_files import HTML, png, wav


def focused(page):
    """What has the focus, by its accessible name or its text."""
    return page.evaluate(
        """() => {
          let element = document.activeElement;
          while (element.shadowRoot) element = element.shadowRoot.activeElement;
          return element.getAttribute("aria-label") ?? element.textContent;
        }"""
    )


def tab_to(page, name):
    """Press Tab until something of this name has the focus."""
    for _ in range(30):
        page.keyboard.press("Tab")
        if focused(page) == name:
            return
    raise AssertionError(f"Tab never led to {name}; at last to {focused(page)}.")


def test_keyboard(service, visit, bucket, page, slow):
    """All of it can be done with the keyboard alone, and the focus is never lost."""
    session_id, bodies = service.open_session(), {f"{name}.wav": sound(120_000) for name in "abc"}
    # From before the page is there: a listener that is set right before the key may come too late.
    page.on("filechooser", lambda chooser: chooser.set_files([file(name, body) for name, body in bodies.items()]))
    uploader = visit(service, session_id)
    tab_to(page, "Choose files")
    page.keyboard.press("Enter")
    expect(uploader.files.get_by_role("listitem")).to_have_count(3)
    tab_to(page, "Title of a.wav")
    page.keyboard.press("Control+A")
    page.keyboard.type("Typed")
    tab_to(page, "Remove c.wav")
    page.keyboard.press("Space")
    expect(uploader.files.get_by_role("listitem")).to_have_count(2)
    assert focused(page).startswith("cover×b.wav")
    page.get_by_role("button", name="Upload 2 files").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Pause all")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Resume", exact=True)).to_be_focused()
    slow.limit(-1)
    page.keyboard.press("Enter")
    expect(uploader.batch).to_contain_text("All 2 have arrived")
    assert focused(page) == "All 2 have arrived"
    found = {track["file_name"]: track for track in service.tracks(session_id)}
    assert {name: bucket.get(track["path"]) for name, track in found.items()} == {
        name: bodies[name] for name in ("a.wav", "b.wav")
    }
    assert found["a.wav"]["metadata"]["title"] == "Typed"


@pytest.fixture
def look(look, request):
    """As usual; where the test names a `scheme`, in that one, and open to axe-core."""
    if "scheme" not in request.fixturenames:
        return look
    return {**look, "color_scheme": request.getfixturevalue("scheme"), "bypass_csp": True}


def check(page):
    """What axe-core finds that is serious or worse."""
    found = Axe().run(page).response["violations"]
    return [(fault["id"], fault["nodes"][0]["html"]) for fault in found if fault["impact"] in ("serious", "critical")]


# axe-core measures with styles of its own, which the page's policy rightly refuses.
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe(service, visit, page, line, scheme):
    """axe-core finds nothing serious: empty, listed, running, paused, failed, done, over, unknown, at the start."""
    session_id = service.open_session()
    uploader, faults = visit(service, session_id), {}
    faults["empty"] = check(page)
    uploader.choose(file("a.wav", sound(300_000)), file("b.wav", HTML), file("a.png", png(), "image/png"))
    expect(uploader.row("a.wav")).to_be_visible()
    faults["listed"] = check(page)
    line.limit(100_000)
    uploader.upload(2)
    expect(uploader.row("a.wav")).to_contain_text("left")
    expect(uploader.row("b.wav")).to_contain_text("Not arrived")
    faults["running"] = check(page)
    uploader.press("Pause a.wav")
    faults["paused"] = check(page)
    line.limit(-1)
    uploader.press("Resume a.wav")
    expect(uploader.batch).to_contain_text("1 of 2 arrived, 1 did not")
    faults["failed"] = check(page)
    uploader.press("Remove b.wav")
    expect(uploader.batch).to_contain_text("It has arrived")
    faults["done"] = check(page)
    service.expire(session_id)
    page.reload()
    page.get_by_text("This link has run out").first.wait_for()
    faults["over"] = check(page)
    for path in (f"/u/{COLLECTION}", "/"):
        page.goto(service.base + path)
        faults[path] = check(page)
    assert {state: found for state, found in faults.items() if found} == {}


@pytest.mark.parametrize("scheme", ["light"])
def test_axe_sees(service, page, scheme):
    """The check finds a fault where there is one."""
    page.goto(service.base)
    page.evaluate("document.body.append(document.createElement('button'))")
    assert check(page)[0][0] == "button-name"


@pytest.mark.parametrize("look", [{"viewport": {"width": 320, "height": 640}, "is_mobile": True, "has_touch": True}])
def test_narrow(service, visit, bucket, page, line, look):
    """On the narrowest phone nothing has to be scrolled sideways, whatever is shown."""
    name = "01 " + "a long name without any place to break it".replace(" ", "_") * 2 + ".wav"
    session_id, body, widths = (
        service.open_session(metadata={"batch_name": "Donaudampfschiffe" * 3}),
        sound(200_000),
        {},
    )

    def measure(state):
        widths[state] = page.evaluate("document.documentElement.scrollWidth")

    uploader = visit(service, session_id)
    measure("empty")
    uploader.choose(file(name, body), file("b.wav", HTML), file("cover.png", png(), "image/png"))
    expect(uploader.row("b.wav")).to_be_visible()
    measure("listed")
    line.limit(100_000)
    uploader.upload(2)
    expect(uploader.row(name)).to_contain_text("left")
    measure("running")
    line.limit(-1)
    arrived(uploader.row(name))
    expect(uploader.row("b.wav")).to_contain_text("Not arrived")
    measure("done")
    page.goto(service.base)
    measure("start")
    assert widths == dict.fromkeys(("empty", "listed", "running", "done", "start"), 320)
    track = next(track for track in service.tracks(session_id) if track["file_name"] == name)
    assert bucket.get(track["path"]) == body


def test_start_page(service, page, bucket):
    """The start page's button opens a session and leads to its page, which works."""
    page.goto(service.base)
    expect(page.get_by_role("list", name="What the service stands on")).to_contain_text("Store is well")
    page.get_by_role("button", name="Open an upload session").click()
    page.get_by_text("Open until").wait_for()
    session_id = page.url.rpartition("/")[2]
    page.locator("loadbay-uploader input[type=file]").first.set_input_files(file("a.wav", wav()))
    page.get_by_role("button", name="Upload 1 file").click()
    page.get_by_text("✓ Arrived").wait_for()
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == wav()
