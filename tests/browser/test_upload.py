"""The upload page in a real browser, on a real store: uploads are compared with the bucket, byte for byte."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest
from playwright.sync_api import expect

from browser.helpers import MIB, expect_received, file_payload, random_wav
from support.processes import wait_until
from support.sample_files import HTML, png, wav

BROKEN_HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


def test_file_is_uploaded_and_verified(service, visit, bucket):
    """A chosen file is uploaded unchanged, and shown as received once the service has verified it."""
    session_id = service.open_session(metadata={"batch_name": "Summer <b>2024</b>"})
    uploader, body = visit(service, session_id), wav()
    expect(uploader.page.get_by_role("heading", level=1)).to_have_text("Summer <b>2024</b>")
    uploader.choose(file_payload("01 - First Track.wav", body))
    assert service.tracks(session_id) == []
    uploader.upload()
    expect_received(uploader.row("First Track"))
    expect(uploader.summary).to_contain_text("Done: 1 file received")
    (track,) = service.tracks(session_id)
    assert (track["status"], track["file_name"]) == ("uploaded", "01 - First Track.wav")
    assert (track["content_type"], track["file_size"]) == ("audio/wav", len(body))
    assert track["metadata"] == {"title": "First Track", "track_number": 1}
    assert bucket.get(track["path"]) == body


def test_title_and_number_can_be_edited(service, visit, bucket):
    """Title and number are guessed, and can be edited before the upload and after it."""
    session_id = service.open_session()
    uploader, body = visit(service, session_id), wav()
    uploader.choose(file_payload("07 seven.wav", body))
    title = uploader.page.get_by_label("Title for 07 seven.wav")
    expect(title).to_have_value("seven")
    title.fill("  Sieben <script> ")
    uploader.page.get_by_label("Track number for 07 seven.wav").fill("12")
    uploader.upload()
    expect_received(uploader.row("07 seven.wav"))
    (track,) = service.tracks(session_id)
    assert track["metadata"] == {"title": "Sieben <script>", "track_number": 12}
    title.fill("Seven")
    wait_until(lambda: service.tracks(session_id)[0]["metadata"]["title"] == "Seven", "The title was not saved.")
    assert bucket.get(track["path"]) == body


def test_three_files_upload_at_once(service, visit, bucket, slow_network):
    """All files are registered at once and three uploaded at once, each with its progress; the others wait."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    # Slow enough that the first three are still in progress, even on a busy machine.
    slow_network.limit(100_000)
    bodies = {f"{number:02} track.wav": random_wav(200_000) for number in range(1, 7)}
    uploader.choose(*(file_payload(name, body) for name, body in bodies.items()))
    uploader.upload(6)
    expect(uploader.row("01 track.wav")).to_contain_text(re.compile(r"[1-9]\d?% · .*/s · \d+ secs? left"))
    expect(uploader.summary).to_contain_text(re.compile(r"[1-9]\d?% of 1\.2 MB · \d+(\.\d)? kB/s · \d+ secs? left"))
    expect(uploader.row("06 track.wav")).to_contain_text("Waiting")
    assert len(service.tracks(session_id)) == 6
    expect(uploader.files.get_by_text("Waiting")).to_have_count(3)
    share = uploader.row("01 track.wav").get_by_role("progressbar").evaluate("bar => bar.value")
    assert 0 < share < 1
    whole = uploader.summary.get_by_role("progressbar").evaluate("bar => bar.value")
    assert 0 < whole < share
    slow_network.limit(-1)
    expect(uploader.summary).to_contain_text("Done: 6 files received")
    tracks = service.tracks(session_id)
    assert {track["file_name"]: bucket.get(track["path"]) for track in tracks} == bodies
    expect(uploader.status).to_have_text("Done: 6 files received")


def test_dropped_folder_adds_tracks_with_covers(service, visit, bucket, network, tmp_path):
    """A dropped folder adds its tracks in order, with their covers; other files are skipped."""
    album = tmp_path / "Album"
    bodies = {
        "CD 1/01 One.wav": random_wav(5000),
        "CD 1/02 Two.wav": random_wav(5000),
        "CD 2/01 Uno.wav": random_wav(5000),
    }
    covers = {"CD 1/cover.png": png(5, 5), "CD 1/02 Two.png": png(6, 6), "CD 2/scan.png": png(7, 7)}
    for name, body in {**bodies, **covers, "CD 1/.DS_Store": b"x", "CD 1/notes.txt": b"x"}.items():
        (album / name).parent.mkdir(parents=True, exist_ok=True)
        (album / name).write_bytes(body)
    session_id = service.open_session()
    uploader = visit(service, session_id)
    network.drop(album)
    rows = uploader.files.get_by_role("listitem")
    expect(rows).to_contain_text(
        ["Album / CD 1 / 01 One.wav", "Album / CD 1 / 02 Two.wav", "Album / CD 2 / 01 Uno.wav"]
    )
    skipped = uploader.page.get_by_role("region", name="Skipped")
    expect(skipped).to_contain_text("Album / CD 1 / notes.txt This is neither audio nor an image.")
    uploader.upload(3)
    expect(uploader.summary).to_contain_text("Done: 3 files received")
    tracks = {f"{track['metadata']['folder']}/{track['file_name']}": track for track in service.tracks(session_id)}
    assert {name: bucket.get(track["path"]) for name, track in tracks.items()} == {
        f"Album/{name}": body for name, body in bodies.items()
    }
    uploaded = {name: bucket.get(track["cover"]["path"]) for name, track in tracks.items()}
    assert uploaded["Album/CD 1/01 One.wav"] == covers["CD 1/cover.png"]
    assert uploaded["Album/CD 1/02 Two.wav"] == covers["CD 1/02 Two.png"]
    assert uploaded["Album/CD 2/01 Uno.wav"] == covers["CD 2/scan.png"]


def test_files_dropped_beside_the_component_are_added(service, visit, bucket, page):
    """Files created by a script can be dropped anywhere on the page."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    page.evaluate(
        """(body) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([new Uint8Array(body)], "a.wav", { type: "audio/wav" }));
          document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        list(wav()),
    )
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == wav()


def test_cover_can_be_selected_and_removed(service, visit, bucket, page):
    """A cover can be removed and selected by hand; it is uploaded with its track."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(
        file_payload("one.wav", wav()),
        file_payload("two.wav", wav(seed=1)),
        file_payload("cover.png", png(), "image/png"),
    )
    uploader.press("Remove cover of two.wav")
    cover_input = page.get_by_label("Add cover for two.wav")
    expect(cover_input).to_be_focused()
    cover_input.set_input_files(file_payload("mine.png", png(9, 9), "image/png"))
    expect(page.get_by_label("Cover for two.wav: mine.png")).to_be_attached()
    uploader.upload(2)
    expect(uploader.summary).to_contain_text("Done: 2 files received")
    one, two = sorted(service.tracks(session_id), key=lambda track: track["file_name"])
    assert (bucket.get(one["cover"]["path"]), bucket.get(two["cover"]["path"])) == (png(), png(9, 9))
    assert two["cover"]["content_type"] == "image/png"


def test_invalid_cover_does_not_fail_its_track(service, visit, bucket, page):
    """A picture that the service rejects fails as a cover only; another cover can be uploaded afterwards."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(file_payload("one.wav", wav()), file_payload("one.heic", BROKEN_HEIC, "image/heic"))
    uploader.upload()
    expect_received(uploader.row("one.wav"))
    (track,) = service.tracks(session_id)
    failure = "This is not an image that can be a cover."
    expect(uploader.row("one.wav")).to_contain_text(f"Cover: {failure}")
    with page.expect_response(lambda response: response.url.endswith("/complete")):
        page.get_by_label("Cover for one.wav: one.heic").set_input_files(file_payload("better.png", png(), "image/png"))
    expect(uploader.row("one.wav")).not_to_contain_text(failure)
    expect(page.get_by_label("Cover for one.wav: better.png")).to_be_disabled()
    (track,) = service.tracks(session_id)
    assert (bucket.get(track["path"]), bucket.get(track["cover"]["path"])) == (wav(), png())


def test_invalid_files_fail_with_the_reason(service, visit, bucket):
    """A file that fails verification and an empty file are shown as failed, with the reason."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(file_payload("page.wav", HTML), file_payload("empty.wav", b""), file_payload("good.wav", wav()))
    skipped = uploader.page.get_by_role("region", name="Skipped")
    expect(skipped).to_contain_text("empty.wav The file is empty.")
    uploader.upload(2)
    expect(uploader.summary).to_contain_text("1 of 2 files received, 1 failed")
    good, bad = sorted(service.tracks(session_id), key=lambda track: track["file_name"])
    assert (good["status"], bad["status"]) == ("uploaded", "failed")
    expect(uploader.row("page.wav")).to_contain_text("This is not an audio file, although its name says so.")
    assert bucket.get(good["path"]) == wav()


def test_large_file_is_sent_in_parts(service, visit, bucket, page, tmp_path):
    """A large file is sent in parts, none of them twice."""
    session_id, body = service.open_session(), random_wav(21 * MIB)
    (tmp_path / "set.wav").write_bytes(body)
    uploader = visit(service, session_id, part_size=str(5 * MIB))
    sent = []
    page.on("request", lambda request: sent.extend(re.findall(r"partNumber=(\d+)", request.url)))
    uploader.choose(tmp_path / "set.wav")
    uploader.upload()
    expect_received(uploader.row("set.wav"))
    assert sorted(sent) == ["1", "2", "3", "4", "5"]
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_large_file_is_sent_at_once_where_the_store_has_no_multipart_uploads(serve, visit, bucket, page):
    """A large file is sent by the single PUT that the service names, also after the page was loaded again."""
    service = serve()
    with closing(sqlite3.connect(service.database)) as database, database:
        database.execute("UPDATE loadbay_store SET abilities = json_set(abilities, '$.multipart', json('false'))")
    session_id, body = service.open_session(), random_wav(21 * MIB)
    uploader = visit(service, session_id, part_size=str(5 * MIB))
    puts = []
    page.on("request", lambda request: puts.append(request.url) if request.method == "PUT" else None)
    uploader.choose(file_payload("set.wav", body))
    uploader.upload()
    expect_received(uploader.row("set.wav"))
    assert (len(puts), "partNumber" in puts[0]) == (1, False)
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_files_can_be_paused_resumed_and_canceled(service, visit, bucket, slow_network):
    """Each file can be paused, resumed and canceled; so can all of them."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    bodies = {name: random_wav(800_000) for name in ("a.wav", "b.wav", "c.wav", "d.wav")}
    uploader.choose(*(file_payload(name, body) for name, body in bodies.items()))
    uploader.upload(4)
    uploader.press("Pause a.wav")
    expect(uploader.row("a.wav")).to_contain_text("Paused")
    expect(uploader.page.get_by_role("button", name="Resume a.wav")).to_be_focused()
    uploader.press("Cancel b.wav")
    expect(uploader.row("b.wav")).to_contain_text("Canceled")
    uploader.press("Pause all")
    expect(uploader.row("d.wav")).to_contain_text("Paused")
    slow_network.limit(-1)
    uploader.press("Resume all")
    expect(uploader.summary).to_contain_text("Done: 3 files received")
    tracks = {track["file_name"]: track for track in service.tracks(session_id)}
    assert tracks["b.wav"]["status"] == "cancelled"
    assert bucket.get(tracks["b.wav"]["path"]) is None
    for name in ("a.wav", "c.wav", "d.wav"):
        assert bucket.get(tracks[name]["path"]) == bodies[name]
    uploader.press("Upload again b.wav")
    expect(uploader.summary).to_contain_text("Done: 4 files received")
    (again,) = (t for t in service.tracks(session_id) if t["file_name"] == "b.wav" and t["status"] == "uploaded")
    assert bucket.get(again["path"]) == bodies["b.wav"]


def test_all_files_can_be_canceled(service, visit, bucket, slow_network):
    """All files can be canceled at once, which leaves none of them in the bucket."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(*(file_payload(f"{name}.wav", random_wav(1_000_000)) for name in "abcde"))
    uploader.upload(5)
    expect(uploader.row("a.wav")).to_contain_text("left")
    uploader.press("Cancel all")
    dialog = uploader.page.get_by_role("dialog", name="Cancel 5 uploads?")
    dialog.get_by_role("button", name="Cancel uploads").click()
    expect(uploader.files.get_by_text("Canceled")).to_have_count(5)
    expected = ["cancelled"] * 5
    wait_until(
        lambda: [track["status"] for track in service.tracks(session_id)] == expected, "The tracks were not canceled."
    )
    tracks = service.tracks(session_id)
    assert [bucket.get(track["path"]) for track in tracks] == [None] * 5


def test_leaving_the_page_asks_during_uploads_only(service, visit, page, slow_network):
    """Leaving the page asks for confirmation while an upload is in progress, and only then."""
    session_id = service.open_session()
    uploader, dialogs = visit(service, session_id), []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.type), dialog.accept()))
    uploader.choose(file_payload("a.wav", random_wav(150_000)))
    page.reload()
    page.get_by_text("Open until").wait_for()
    assert dialogs == []
    uploader.choose(file_payload("a.wav", random_wav(400_000)))
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text("left")
    page.reload()
    assert dialogs == ["beforeunload"]


def test_received_files_are_not_uploaded_twice(service, visit, bucket, page, tmp_path):
    """Files received on an earlier visit are listed, and the same file is not uploaded again."""
    session_id, body = service.open_session(), random_wav(5000)
    (tmp_path / "01 Song.wav").write_bytes(body)
    uploader = visit(service, session_id)
    uploader.choose(tmp_path / "01 Song.wav")
    uploader.upload()
    expect_received(uploader.row("01 Song.wav"))
    uploader = visit(service, session_id)
    expect(page.get_by_role("heading", name="Received earlier: 1 file")).to_be_visible()
    uploader.choose(tmp_path / "01 Song.wav")
    expect(page.get_by_text("Already received: 01 Song.wav.").first).to_be_visible()
    expect(uploader.files.get_by_role("listitem")).to_have_count(0)
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_session_id_is_in_no_referer(service, visit, page):
    """The session id is in no Referer header."""
    session_id, referrers = service.open_session(), []
    page.on("request", lambda request: referrers.append(request.headers.get("referer", "")))
    uploader = visit(service, session_id)
    uploader.choose(file_payload("a.wav", wav()))
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    assert len(referrers) > 10
    assert not any(session_id in referrer for referrer in referrers)


GUESSES = {
    "01 - First Track.wav": ("First Track", 1),
    "02. Zweites Stück.mp3": ("Zweites Stück", 2),
    "1-07 Second_Track.flac": ("Second Track", 7),
    "track-3.mp3": ("Track 3", 3),
    "07.wav": ("07", 7),
    "my-own_song.aiff": ("my own song", None),
    "1999 - Party.mp3": ("1999 - Party", None),
    "2nd Movement.wav": ("2nd Movement", None),
    "12 – Dash.wav": ("Dash", 12),
    "Cafe\u0301.wav": ("Café", None),
    "00 Intro.wav": ("Intro", None),
    "no ending": ("no ending", None),
}


@pytest.fixture
def file_names(service, visit, page):
    """Call a function of file-names.js and track-names.js."""
    visit(service, service.open_session())
    load = "const module = { ...await import('/loadbay/file-names.js'), ...await import('/loadbay/track-names.js') };"
    return lambda call, *values: page.evaluate(
        f"async values => {{ {load} return ({call})(module, ...values); }}", values
    )


def test_metadata_is_guessed_from_file_names(file_names):
    """Title and number are guessed from common forms of file names."""
    call = "(module, names) => names.flatMap((name) => module.guessTitles([{ name, folder: '' }]))"
    guessed = file_names(call, list(GUESSES))
    assert {name: (g["title"], g["number"]) for name, g in zip(GUESSES, guessed, strict=True)} == GUESSES


def test_matching_thousands_of_covers_is_fast(file_names):
    """Thousands of tracks are matched with their covers within two seconds."""
    call = """(module, count) => {
        const file = (i, extension) => ({ name: `${i} Täck.${extension}`, folder: `${i % 9}` });
        const files = (extension) => Array.from({ length: count }, (_, i) => file(i, extension));
        const images = [...files("PNG"), { name: "Cover.jpg", folder: "none" }];
        const start = performance.now();
        const { covers, unmatched } = module.matchCovers(files("wav"), images);
        return [covers.size, unmatched.length, performance.now() - start];
    }"""
    matched, unmatched, milliseconds = file_names(call, 5000)
    assert (matched, unmatched) == (5000, 1)
    assert milliseconds < 2000


def test_upload_names_have_no_forbidden_characters(file_names):
    """A name that the service would reject is changed as little as possible."""
    odd = ["a\u202eb.wav", "tab\there.wav", "x" * 300 + ".wav", "fine – name.wav"]
    safe = file_names("(module, names) => names.map(module.uploadName)", odd)
    assert safe == ["a_b.wav", "tab_here.wav", "x" * 251 + ".wav", "fine – name.wav"]
