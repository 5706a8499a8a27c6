"""The page's face: questions before something is lost, one true message, whose page it is, narrow screens."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from browser.helpers import expect_received, file_payload, random_wav
from support.processes import wait_until
from support.sample_files import wav

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def test_cancel_all_asks_and_keeps_the_summary(service, visit, page, bucket, slow_network):
    """All uploads are canceled only after a question; afterwards they can be started again together."""
    session_id, bodies = service.open_session(), {f"{name}.wav": random_wav(4_000_000) for name in "ab"}
    uploader = visit(service, session_id)
    uploader.choose(*(file_payload(name, body) for name, body in bodies.items()))
    uploader.upload(2)
    expect(uploader.row("a.wav")).to_contain_text("left")
    uploader.press("Cancel all")
    expect(page.get_by_role("dialog", name="Cancel 2 uploads?")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(uploader.row("a.wav")).not_to_contain_text("Canceled")
    uploader.press("Cancel all")
    uploader.press("Cancel uploads")
    expect(page.get_by_role("heading", name="2 files canceled")).to_be_visible()
    slow_network.limit(-1)
    uploader.press("Upload all again")
    expect(uploader.summary).to_contain_text("Done: 2 files received")
    tracks = [track for track in service.tracks(session_id) if track["status"] == "uploaded"]
    assert {track["file_name"]: bucket.get(track["path"]) for track in tracks} == bodies


def test_edited_titles_are_not_lost_without_a_question(service, visit, page):
    """Leaving the page asks once a title was edited, and not before."""
    questions = []
    page.on("dialog", lambda dialog: (questions.append(dialog.type), dialog.accept()))
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.wav", wav()))
    page.get_by_label("Title for a.wav").click()
    page.reload()
    assert questions == []
    page.get_by_text("Open until").wait_for()
    uploader.choose(file_payload("a.wav", wav()))
    page.get_by_label("Title for a.wav").press_sequentially("!")
    page.reload()
    assert questions == ["beforeunload"]


def test_number_field_takes_digits_only(service, visit, page):
    """The number field keeps digits alone, of any script, and sends what it shows."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(
        file_payload("a.wav", wav()), file_payload("b.wav", wav(seed=1)), file_payload("c.wav", wav(seed=2))
    )
    for name, typed, shown in (("a", "abc", ""), ("b", "1٢３x", "123"), ("c", "0", "")):
        field = page.get_by_label(f"Track number for {name}.wav")
        field.press_sequentially(typed)
        field.blur()
        expect(field).to_have_value(shown)
    uploader.upload(3)
    expect(uploader.summary).to_contain_text("Done: 3 files received")
    numbers = {track["file_name"]: track["metadata"].get("track_number") for track in service.tracks(session_id)}
    assert numbers == {"a.wav": None, "b.wav": 123, "c.wav": None}


def test_end_is_announced_and_shown_with_its_date(service, visit, page):
    """Ten minutes before the end there is a warning; after it, one message with the time of the end."""
    session_id = service.open_session(expires_in=500)
    visit(service, session_id)
    expect(page.get_by_role("heading", name=re.compile(r"This link expires in [78] min"))).to_be_visible()
    service.expire(session_id)
    page.reload()
    notice = page.get_by_role("region", name="This link has expired")
    expect(notice).to_contain_text(re.compile(r"It expired on \d+ \w+ 20\d\d at \d\d:\d\d\."))
    expect(page.locator("loadbay-uploader .notice:visible")).to_have_count(1)
    expect(page.get_by_text("Open until")).not_to_be_visible()


def test_file_in_progress_at_the_end_is_not_given_up(service, visit, page, bucket, slow_network):
    """If the link expires while a file is sent, the page says that it may still arrive; then it says what holds."""
    session_id, body = service.open_session(), random_wav(6_000_000)
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.wav", body))
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text("left")
    service.expire(session_id)
    uploader.choose(file_payload("b.wav", wav()))
    uploader.press("Upload 1 more file")
    expect(uploader.row("b.wav")).to_contain_text("The link expired before this file was received.")
    expect(page.get_by_role("region", name="This link has expired")).to_contain_text("keep this page open")
    slow_network.limit(-1)
    expect_received(uploader.row("a.wav"))
    expect(page.get_by_role("region", name="This link has expired")).not_to_contain_text("keep this page open")


def test_session_is_followed_without_a_reload(service, visit, page):
    """A page that was changed meanwhile shows it at its next look, in its new language."""
    session_id = service.open_session(page={"title": "One", "accent_color": "#7fd4c1"})
    page.clock.install()
    visit(service, session_id)
    expect(page.get_by_role("heading", name="One")).to_be_visible()
    service.change_page(session_id, title="Zwei", sender="Anna", language="de")
    page.clock.fast_forward(61_000)
    expect(page.get_by_role("heading", name="Zwei")).to_be_visible()
    expect(page.get_by_text("Von Anna")).to_be_visible()
    expect(page.get_by_role("button", name="Dateien auswählen")).to_be_visible()


@pytest.mark.parametrize(
    "context_options", [{"color_scheme": "light"}, {"color_scheme": "dark"}], ids=["light", "dark"]
)
def test_page_shows_whose_it_is(service, visit, page, context_options):
    """Title, sender, greeting and links are shown as text; a pale accent is mended until it can be read."""
    options = {
        "title": "Harbor Lights", "sender": "<b>Tidewater</b>", "greeting": "Hello\nthere", "accent_color": "#7fd4c1",
        "terms_url": "https://example.com/terms",
    }  # fmt: skip
    visit(service, service.open_session(page=options))
    expect(page.get_by_role("heading", name="Harbor Lights")).to_be_visible()
    expect(page.get_by_text("From <b>Tidewater</b>")).to_be_visible()
    expect(page.get_by_role("link", name="Terms")).to_have_attribute("href", "https://example.com/terms")
    assert page.get_by_role("link", name="Privacy").count() == 0
    button = page.get_by_role("button", name="Choose files")
    colors = button.evaluate("e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]")
    assert contrast(*colors) >= 4.5
    assert contrast(colors[0], page.evaluate("getComputedStyle(document.documentElement).backgroundColor")) >= 4.5


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colors as in WCAG 2.2."""

    def luminance(color: str) -> float:
        shares = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("context_options", [PHONE], ids=["phone"])
def test_phone_has_room_for_fingers_and_numbers(service, visit, page, slow_network, context_options):
    """On a phone targets have 44 px, rows are low, numbers are readable, and the summary stays in view."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    expect(page.get_by_text("Add your tracks")).to_be_visible()
    uploader.choose(*(file_payload(f"{number} Song.wav", random_wav(800_000)) for number in range(10, 22)))
    number = page.get_by_label("Track number for 10 Song.wav")
    assert number.evaluate("e => e.scrollWidth <= e.clientWidth")
    uploader.upload(12)
    expect(uploader.row("10 Song.wav")).to_contain_text("left")
    assert uploader.row("10 Song.wav").bounding_box()["height"] <= 130
    small = page.locator("loadbay-uploader button:visible:not(.remove-cover)").evaluate_all(
        """buttons => buttons.map((button) => [button.ariaLabel, button.getBoundingClientRect()])
          .filter(([, { width, height }]) => Math.min(width, height) < 44).map(([name]) => name)"""
    )
    assert small == []
    uploader.row("21 Song.wav").scroll_into_view_if_needed()
    assert page.evaluate("scrollY") > 200
    assert uploader.summary.bounding_box()["y"] == 0


def test_title_of_the_tab_shows_the_progress(service, visit, page, slow_network):
    """While files are sent, the tab's title has the percentage; at the end a check mark."""
    session_id = service.open_session(metadata={"batch_name": "Demo"})
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.wav", random_wav(400_000)))
    uploader.upload()
    expect(page).to_have_title(re.compile(r"^\d+% – Demo$"))
    slow_network.limit(-1)
    expect_received(uploader.row("a.wav"))
    expect(page).to_have_title("✓ Demo")


def test_screen_stays_on_while_files_are_sent(service, visit, page, slow_network):
    """The page asks for a wake lock while files are sent, and gives it back."""
    page.add_init_script(
        """window.locks = [];
        navigator.wakeLock.request = async (kind) => {
          locks.push(kind);
          return { release: async () => { locks.push("released"); } };
        };"""
    )
    uploader = visit(service, service.open_session())
    uploader.choose(file_payload("a.wav", random_wav(200_000)))
    uploader.upload()
    wait_until(lambda: page.evaluate("locks") == ["screen"], "No wake lock was asked for.")
    slow_network.limit(-1)
    expect_received(uploader.row("a.wav"))
    wait_until(lambda: page.evaluate("locks") == ["screen", "released"], "The wake lock was not given back.")


def test_names_have_their_own_direction(service, visit, page):
    """An Arabic title on an English page, and a Latin one on an Arabic page, are each written in their direction."""
    uploader = visit(service, service.open_session(metadata={"batch_name": "أغاني"}))
    uploader.choose(file_payload("أغنية.wav", wav()))
    for element in (page.get_by_role("heading", name="أغاني"), page.locator("loadbay-uploader input.title")):
        assert element.evaluate("e => getComputedStyle(e).direction") == "rtl"
