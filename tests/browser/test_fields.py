"""Fields that a session asks for with each track: typed or chosen, for one row or for all, before and after."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, expect

from browser.helpers import MIB, expect_received, file_payload, random_wav
from support.processes import wait_until
from support.sample_files import png, wav

FIELDS = [
    {"name": "artist", "label": "Artist", "required": True},
    {"name": "isrc", "label": "ISRC"},
    {"name": "explicit", "label": "Explicit", "one_of": ["yes", "no"]},
    {"name": "title", "label": "Title", "required": True},
]

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def choose_tracks(uploader, *names: str) -> None:
    """Choose a WAV for each name, and wait until each row has its fields."""
    uploader.choose(*(file_payload(name, wav(seed=seed)) for seed, name in enumerate(names)))
    for name in names:
        expect(uploader.row(name).get_by_role("group")).to_have_count(1)


def group(uploader) -> Locator:
    """Open what applies to all tracks, and return it."""
    uploader.page.get_by_text("All tracks", exact=True).click()
    return uploader.page.locator("loadbay-uploader details")


def metadata(service, session_id) -> dict[str, dict]:
    """Return the metadata of the session's tracks by file name."""
    return {track["file_name"]: track["metadata"] for track in service.tracks(session_id)}


def wait_for_metadata(service, session_id, name: str, **expected: object) -> None:
    """Wait until the service has these values for a track, and no others."""
    wait_until(lambda: metadata(service, session_id)[name] == expected, f"{name} must have {expected}.")


def test_values_are_registered_with_the_track(service, visit):
    """Each row has an input for each field, a choice where there is one, and the required ones say so."""
    session_id = service.open_session(fields=FIELDS)
    uploader = visit(service, session_id)
    choose_tracks(uploader, "01 a.wav", "02 b.wav")
    row = uploader.row("01 a.wav")
    expect(row.get_by_role("textbox", name="Artist (required)", exact=True)).to_have_attribute("aria-required", "true")
    row.get_by_label("Artist (required)").fill("  The Band ")
    row.get_by_label("ISRC").fill("USRC17607839")
    assert row.get_by_label("Explicit").locator("option").all_inner_texts() == ["–", "yes", "no"]
    row.get_by_label("Explicit").select_option("no")
    # The title has an input of its own.
    expect(row.get_by_label("Title")).to_have_count(1)
    uploader.upload(2)
    expect_received(uploader.row("02 b.wav"))
    expect_received(row)
    assert metadata(service, session_id) == {
        "01 a.wav": {
            "title": "a", "track_number": 1, "artist": "The Band", "isrc": "USRC17607839", "explicit": "no",
        },
        "02 b.wav": {"title": "b", "track_number": 2},
    }  # fmt: skip


def test_values_are_changed_during_and_after_the_upload(service, visit, page, bucket, slow_network):
    """Values typed after the registration reach the service without a press, and emptied ones are removed."""
    session_id, body = service.open_session(fields=FIELDS), random_wav(6 * MIB)
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.wav", body))
    row = uploader.row("a.wav")
    row.get_by_label("ISRC").fill("X")
    uploader.upload()
    expect(row).to_contain_text("left")
    row.get_by_label("Artist (required)").fill("During")
    row.get_by_label("Title for a.wav").fill("New")
    wait_for_metadata(service, session_id, "a.wav", title="New", artist="During", isrc="X")
    slow_network.limit(-1)
    expect_received(row)
    row.get_by_label("ISRC").fill("")
    row.get_by_label("Explicit").select_option("yes")
    wait_for_metadata(service, session_id, "a.wav", title="New", artist="During", explicit="yes")
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_values_typed_while_files_wait_are_not_lost(service, visit, page, slow_network):
    """Files that are sent in parts are registered when it is their turn: until then, and then, values can be typed."""
    session_id = service.open_session(fields=FIELDS)
    uploader = visit(service, session_id, part_size=str(5 * MIB))
    uploader.choose(*(file_payload(f"{name}.wav", random_wav(9 * MIB)) for name in "abcd"))
    uploader.upload(4)
    expect(uploader.row("d.wav")).to_contain_text("Waiting")
    expect(uploader.row("a.wav")).to_contain_text("left")
    uploader.row("d.wav").get_by_label("Artist (required)").fill("Later")
    assert "d.wav" not in metadata(service, session_id)
    slow_network.limit(-1)
    expect(uploader.summary).to_contain_text("Done: 4 files received")
    wait_for_metadata(service, session_id, "d.wav", title="d", artist="Later")
    assert len(service.tracks(session_id)) == 4


def test_change_that_fails_is_told_and_made_later(service, visit, page):
    """While the service does not answer, the row says so, and leaving asks; then the value is saved."""
    session_id = service.open_session(fields=FIELDS)
    uploader = visit(service, session_id)
    choose_tracks(uploader, "a.wav")
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    page.route("**/track/*", lambda route: route.abort())
    uploader.row("a.wav").get_by_label("ISRC").fill("X")
    expect(uploader.row("a.wav")).to_contain_text("Not saved: Cannot reach the upload service.")
    page.unroute("**/track/*")
    uploader.row("a.wav").get_by_label("ISRC").fill("XY")
    expect(uploader.row("a.wav")).not_to_contain_text("Not saved")
    wait_for_metadata(service, session_id, "a.wav", title="a", isrc="XY")


def test_value_for_all_rows(service, visit, page):
    """A value is set for all rows at once, those that have arrived included."""
    session_id = service.open_session(fields=FIELDS)
    uploader = visit(service, session_id)
    choose_tracks(uploader, "01 a.wav")
    uploader.upload()
    expect_received(uploader.row("01 a.wav"))
    choose_tracks(uploader, "02 b.wav", "03 c.wav")
    everything = group(uploader)
    everything.get_by_label("Artist", exact=True).fill("The Band")
    everything.get_by_role("button", name="Set for all Artist").click()
    expect(uploader.status).to_have_text("Artist: set for 3 files.")
    everything.get_by_role("combobox", name="Explicit").select_option("yes")
    everything.get_by_role("button", name="Set for all Explicit").click()
    for name in ("01 a.wav", "02 b.wav", "03 c.wav"):
        expect(uploader.row(name).get_by_label("Artist (required)")).to_have_value("The Band")
    wait_for_metadata(service, session_id, "01 a.wav", title="a", track_number=1, artist="The Band", explicit="yes")
    uploader.upload(2)
    expect(uploader.summary).to_contain_text("Done: 3 files received")
    for values in metadata(service, session_id).values():
        assert (values["artist"], values["explicit"]) == ("The Band", "yes")


def test_one_cover_for_all(service, visit, page, bucket):
    """One picture becomes the cover of every track; one that is none is refused with its reason."""
    session_id, cover = service.open_session(), png()
    uploader = visit(service, session_id)
    choose_tracks(uploader, "01 a.wav", "02 b.wav", "03 c.wav")
    everything = group(uploader)
    chooser = everything.locator("input[type=file]")
    chooser.set_input_files(file_payload("notes.png", b"no picture", "image/png"))
    expect(uploader.status).to_have_text("This is not an image that can be a cover. Use a JPEG or PNG.")
    with page.expect_file_chooser() as choice:
        everything.get_by_role("button", name="One cover for all").click()
    choice.value.set_files(file_payload("front.png", cover, "image/png"))
    expect(uploader.status).to_have_text("One cover for all: set for 3 files.")
    uploader.upload(3)
    expect(uploader.summary).to_contain_text("Done: 3 files received")
    assert [bucket.get(track["cover"]["path"]) for track in service.tracks(session_id)] == [cover] * 3


def test_values_come_back_with_the_track(service, visit, page, slow_network):
    """A file chosen again after a reload has the values that were registered with it."""
    session_id, body = service.open_session(fields=FIELDS), random_wav(12 * MIB)
    uploader = visit(service, session_id, part_size=str(5 * MIB))
    uploader.choose(file_payload("a.wav", body))
    uploader.row("a.wav").get_by_label("Artist (required)").fill("The Band")
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text("left")
    uploader.press("Pause a.wav")
    page.reload()
    page.get_by_text("Open until").wait_for()
    uploader.choose(file_payload("a.wav", body))
    expect(uploader.row("a.wav").get_by_label("Artist (required)")).to_have_value("The Band")
    slow_network.limit(-1)
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    assert metadata(service, session_id)["a.wav"]["artist"] == "The Band"


def test_what_arrived_stays_if_the_page_says_so(service, visit):
    """Without `allow_changes`, values of what has arrived can only be read."""
    session_id = service.open_session(fields=FIELDS, page={"allow_changes": False})
    uploader = visit(service, session_id)
    choose_tracks(uploader, "a.wav")
    row = uploader.row("a.wav")
    uploader.upload()
    expect_received(row)
    expect(row.get_by_label("ISRC")).not_to_be_editable()
    expect(row.get_by_label("Explicit")).to_be_disabled()
    expect(row.get_by_label("Title for a.wav")).not_to_be_editable()


def test_last_value_is_saved_before_the_session_is_closed(service, visit, page):
    """A value that was just typed is saved first, and no longer missing."""
    session_id = service.open_session(fields=FIELDS[:1])
    uploader = visit(service, session_id)
    choose_tracks(uploader, "a.wav")
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    uploader.row("a.wav").get_by_label("Artist (required)").fill("The Band")
    uploader.press("I’m done")
    expect(page.get_by_role("heading", name="Receipt")).to_be_visible()
    assert metadata(service, session_id) == {"a.wav": {"title": "a", "artist": "The Band"}}


def test_replaced_file_keeps_the_values(service, visit, page, bucket):
    """A file in place of another has its values, also those that were edited after the upload."""
    session_id, body = service.open_session(fields=FIELDS), wav(seed=9)
    uploader = visit(service, session_id)
    choose_tracks(uploader, "01 a.wav")
    uploader.row("01 a.wav").get_by_label("ISRC").fill("X")
    uploader.upload()
    expect_received(uploader.row("01 a.wav"))
    uploader.row("01 a.wav").get_by_label("Artist (required)").fill("The Band")
    wait_for_metadata(service, session_id, "01 a.wav", title="a", track_number=1, isrc="X", artist="The Band")
    with page.expect_file_chooser() as choice:
        uploader.press("Replace 01 a.wav")
    choice.value.set_files(file_payload("new.wav", body))
    expect(uploader.row("01 a.wav")).to_have_count(0)
    expect_received(uploader.row("new.wav"))
    expect(uploader.row("new.wav").get_by_label("Artist (required)")).to_have_value("The Band")
    (track,) = (track for track in service.tracks(session_id) if track["status"] == "uploaded")
    assert track["metadata"] == {"title": "a", "track_number": 1, "isrc": "X", "artist": "The Band"}
    assert bucket.get(track["path"]) == body


def test_values_of_earlier_tracks_can_be_filled_in(service, visit, page):
    """A track received on an earlier visit has its fields, too, and they are saved as soon as they are left."""
    session_id = service.open_session(fields=FIELDS)
    uploader = visit(service, session_id)
    choose_tracks(uploader, "01 a.wav")
    uploader.row("01 a.wav").get_by_label("Explicit").select_option("no")
    uploader.upload()
    expect_received(uploader.row("01 a.wav"))
    page.reload()
    values = page.get_by_role("group", name="01 a.wav")
    expect(values.get_by_role("combobox", name="Explicit")).to_have_value("no")
    values.get_by_label("Artist (required)").fill(" The Band")
    values.get_by_label("ISRC").fill("X")
    values.get_by_label("ISRC").blur()
    values.get_by_role("combobox", name="Explicit").select_option("")
    expect(page.get_by_text("Saved: a.").first).to_be_visible()
    wait_for_metadata(service, session_id, "01 a.wav", title="a", track_number=1, artist="The Band", isrc="X")
    values.get_by_label("ISRC").fill("XY")
    uploader.press("I’m done")
    expect(page.get_by_role("heading", name="Receipt")).to_be_visible()
    assert metadata(service, session_id)["01 a.wav"]["isrc"] == "XY"


@pytest.mark.parametrize("context_options", [PHONE], ids=["phone"])
def test_controls_have_room_for_fingers(service, visit, page, context_options):
    """On a phone every control of the rows, and of what applies to all, has 44 px."""
    uploader = visit(service, service.open_session(fields=FIELDS))
    choose_tracks(uploader, "01 a.wav", "02 b.wav")
    group(uploader)
    kinds = ":is(button:not(.remove-cover), select, summary, input[type=text])"
    controls = page.locator(f"loadbay-uploader {kinds}:visible")
    assert controls.count() > 20
    sizes = controls.evaluate_all("list => list.map((item) => item.getBoundingClientRect().height)")
    assert min(sizes) >= 44
