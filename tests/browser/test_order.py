"""The order of the list: moved by keys, by dragging and by two presses, and numbered anew."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from browser.helpers import expect_received, file_payload
from support.processes import wait_until
from support.sample_files import wav

NAMES = ["01 a.wav", "02 b.wav", "03 c.wav", "04 d.wav"]


def choose_tracks(uploader, *names: str) -> None:
    """Choose a WAV for each name, and wait until the rows can be moved."""
    uploader.choose(*(file_payload(name, wav(seed=seed)) for seed, name in enumerate(names)))
    for name in names:
        expect(handle(uploader, name)).to_be_visible()


def handle(uploader, name: str):
    """Return the button that moves a row."""
    return uploader.page.get_by_role("button", name=f"Move {name}", exact=True)


def expect_rows(uploader, expected: list[tuple[str, str]]) -> None:
    """Wait until number and title of each row, from the first to the last, are these."""
    script = "list => list.map((row) => [row.querySelector('.number').value, row.querySelector('.title').value])"
    rows = uploader.files.locator("li.row")
    wait_until(lambda: [tuple(row) for row in rows.evaluate_all(script)] == expected, f"The rows are not {expected}.")


def numbers(service, session_id) -> dict[str, int | None]:
    """Return the tracks' numbers by file name, as the service has them."""
    return {track["file_name"]: track["metadata"].get("track_number") for track in service.tracks(session_id)}


def test_keys_move_a_row(service, visit, page):
    """Arrow keys, Home and End move a row: the numbers stay in order, the focus stays, and the place is announced."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    choose_tracks(uploader, *NAMES)
    handle(uploader, "03 c.wav").focus()
    page.keyboard.press("ArrowUp")
    expect(uploader.status).to_have_text("c is now 2 of 4.")
    expect_rows(uploader, [("1", "a"), ("2", "c"), ("3", "b"), ("4", "d")])
    expect(handle(uploader, "03 c.wav")).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    expect_rows(uploader, [("1", "c"), ("2", "a"), ("3", "b"), ("4", "d")])
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    expect_rows(uploader, [("1", "a"), ("2", "b"), ("3", "d"), ("4", "c")])
    uploader.upload(4)
    expect(uploader.summary).to_contain_text("Done: 4 files received")
    assert numbers(service, session_id) == {"01 a.wav": 1, "02 b.wav": 2, "04 d.wav": 3, "03 c.wav": 4}


@pytest.mark.parametrize("context_options", [{}, {"viewport": {"width": 390, "height": 844}}], ids=["wide", "narrow"])
def test_row_is_dragged(service, visit, page):
    """A row dragged by its handle takes the place where it is let go, up or down; the others make room meanwhile."""
    uploader = visit(service, service.open_session())
    choose_tracks(uploader, *NAMES)

    def drag(name: str, onto: str) -> None:
        grip = handle(uploader, name)
        grip.scroll_into_view_if_needed()
        start, end = grip.bounding_box(), handle(uploader, onto).bounding_box()
        page.mouse.move(start["x"] + 20, start["y"] + 15)
        page.mouse.down()
        page.mouse.move(end["x"] + 20, (start["y"] + end["y"]) / 2)
        page.mouse.move(end["x"] + 20, end["y"] + 15)
        expect(uploader.files.locator("li.dragged")).to_have_count(1)
        page.mouse.up()
        expect(uploader.files.locator("li.dragged")).to_have_count(0)

    drag("01 a.wav", onto="03 c.wav")
    expect_rows(uploader, [("1", "b"), ("2", "c"), ("3", "a"), ("4", "d")])
    drag("04 d.wav", onto="02 b.wav")
    expect_rows(uploader, [("1", "d"), ("2", "b"), ("3", "c"), ("4", "a")])
    # It was no press that picks a row.
    expect(handle(uploader, "04 d.wav")).not_to_have_attribute("aria-pressed", "true")
    transforms = uploader.files.locator("li.row").evaluate_all("list => list.map((row) => row.style.transform)")
    assert transforms == [""] * 4


def test_two_presses_move_a_row(service, visit, page):
    """A press picks a row, and the next one lets it take a place: for whoever can neither drag nor press keys."""
    uploader = visit(service, service.open_session())
    choose_tracks(uploader, *NAMES)
    handle(uploader, "04 d.wav").click()
    expect(handle(uploader, "04 d.wav")).to_have_attribute("aria-pressed", "true")
    expect(uploader.status).to_contain_text("the same button of the track whose place this one is to take")
    handle(uploader, "02 b.wav").click()
    expect(uploader.status).to_have_text("d is now 2 of 4.")
    expect_rows(uploader, [("1", "a"), ("2", "d"), ("3", "b"), ("4", "c")])
    expect(handle(uploader, "04 d.wav")).not_to_have_attribute("aria-pressed", "true")
    handle(uploader, "04 d.wav").click()
    page.keyboard.press("Escape")
    expect(handle(uploader, "04 d.wav")).not_to_have_attribute("aria-pressed", "true")


def test_order_of_received_tracks_reaches_the_service(service, visit, page):
    """Tracks that have arrived are moved and numbered as well."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    choose_tracks(uploader, *NAMES[:2])
    uploader.upload(2)
    for name in NAMES[:2]:
        expect_received(uploader.row(name))
    handle(uploader, "02 b.wav").press("ArrowUp")
    wait_until(lambda: numbers(service, session_id) == {"01 a.wav": 2, "02 b.wav": 1}, "The numbers were not saved.")


def test_numbers_out_of_order_stay_until_numbered_anew(service, visit, page):
    """Numbers that do not follow the list stay with their tracks; a press numbers all in the order of the list."""
    uploader = visit(service, service.open_session())
    choose_tracks(uploader, "02 b.wav", "03 c.wav")
    choose_tracks(uploader, "01 a.wav", "x.wav")
    handle(uploader, "01 a.wav").press("Home")
    expect_rows(uploader, [("1", "a"), ("2", "b"), ("3", "c"), ("", "x")])
    handle(uploader, "03 c.wav").press("ArrowUp")
    expect_rows(uploader, [("1", "a"), ("3", "c"), ("2", "b"), ("", "x")])
    page.get_by_text("All tracks", exact=True).click()
    page.get_by_role("button", name="Number in this order").click()
    expect(uploader.status).to_have_text("The tracks are now numbered in this order.")
    expect_rows(uploader, [("1", "a"), ("2", "c"), ("3", "b"), ("4", "x")])


def test_discs_are_numbered_by_themselves(service, visit, page):
    """Each disc begins with 1, and a track that moves to another disc is on that one."""
    uploader = visit(service, service.open_session())
    choose_tracks(uploader, "1-01 a.wav", "1-02 b.wav", "2-01 c.wav")
    handle(uploader, "2-01 c.wav").press("ArrowUp")
    expect_rows(uploader, [("1-01", "a"), ("1-02", "c"), ("2-01", "b")])
    uploader.page.get_by_label("Track number for 2-01 c.wav").fill("2-07")
    page.get_by_text("All tracks", exact=True).click()
    page.get_by_role("button", name="Number in this order").click()
    expect_rows(uploader, [("1-01", "a"), ("2-01", "c"), ("2-02", "b")])


def test_single_row_cannot_be_moved(service, visit):
    """One row has no other place, and nothing applies to all."""
    uploader = visit(service, service.open_session())
    uploader.choose(file_payload("a.wav", wav()))
    expect(uploader.page.get_by_role("button", name="Play a.wav")).to_be_visible()
    expect(handle(uploader, "a.wav")).to_have_count(0)
    expect(uploader.page.get_by_text("All tracks", exact=True)).not_to_be_visible()
