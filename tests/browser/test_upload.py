"""The upload page in a real browser, on a real store: what arrives is looked at in the bucket, byte for byte."""

from __future__ import annotations

import os
import re

import pytest
from playwright.sync_api import expect

from support.processes import wait_until
from support.sample_files import HTML, png, wav

MIB = 2**20


def file(name, body, content_type="audio/wav"):
    """A file to choose."""
    return {"name": name, "mimeType": content_type, "buffer": body}


def sound(size):
    """Something that begins as a WAV does, of `size` bytes, each time another."""
    return wav(0.01) + os.urandom(size - len(wav(0.01)))


def arrived(row):
    """The row says that its file has arrived."""
    expect(row).to_contain_text("✓ Arrived")


def test_one_file(service, visit, bucket):
    """A file that is chosen and sent arrives, and is said to have arrived once the service has checked it."""
    session_id = service.open_session(metadata={"batch_name": "Summer <b>2024</b>"})
    uploader, body = visit(service, session_id), wav()
    expect(uploader.page.get_by_role("heading", level=1)).to_have_text("Summer <b>2024</b>")
    uploader.choose(file("01 - First Track.wav", body))
    assert service.tracks(session_id) == []
    uploader.upload()
    arrived(uploader.row("First Track"))
    expect(uploader.batch).to_contain_text("It has arrived")
    (track,) = service.tracks(session_id)
    assert (track["status"], track["file_name"]) == ("uploaded", "01 - First Track.wav")
    assert (track["content_type"], track["file_size"]) == ("audio/wav", len(body))
    assert track["metadata"] == {"title": "First Track", "track_number": 1}
    assert bucket.get(track["path"]) == body


def test_words_are_edited(service, visit, bucket):
    """Number and title are guesses, which can be changed until the file is sent."""
    session_id = service.open_session()
    uploader, body = visit(service, session_id), wav()
    uploader.choose(file("7 seven.wav", body))
    title = uploader.page.get_by_label("Title of 7 seven.wav")
    expect(title).to_have_value("seven")
    title.fill("  Sieben <script> ")
    uploader.page.get_by_label("Track number of 7 seven.wav").fill("12")
    uploader.upload()
    arrived(uploader.row("7 seven.wav"))
    expect(title).not_to_be_editable()
    (track,) = service.tracks(session_id)
    assert track["metadata"] == {"title": "Sieben <script>", "track_number": 12}
    assert bucket.get(track["path"]) == body


def test_several_files(service, visit, bucket, slow):
    """Three run at once, each with its progress; the next one is registered when its turn comes."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    # So that a busy machine sees the first three while none of them is done.
    slow.limit(100_000)
    bodies = {f"{number:02} track.wav": sound(200_000) for number in range(1, 7)}
    uploader.choose(*(file(name, body) for name, body in bodies.items()))
    uploader.upload(6)
    expect(uploader.row("01 track.wav")).to_contain_text(re.compile(r"[1-9]\d?% · .*/s · \d+ s left"))
    expect(uploader.batch).to_contain_text(re.compile(r"[1-9]\d?% of 1\.2 MB · \d+(\.\d)? kB/s · \d+ s left"))
    expect(uploader.row("06 track.wav")).to_contain_text("Waiting")
    assert len(service.tracks(session_id)) == 3
    share = uploader.row("01 track.wav").get_by_role("progressbar").evaluate("bar => bar.value")
    assert 0 < share < 1
    whole = uploader.batch.get_by_role("progressbar").evaluate("bar => bar.value")
    assert 0 < whole < share
    slow.limit(-1)
    expect(uploader.batch).to_contain_text("All 6 have arrived")
    tracks = service.tracks(session_id)
    assert {track["file_name"]: bucket.get(track["path"]) for track in tracks} == bodies
    expect(uploader.status).to_have_text("All done: 6 files arrived.")


def test_folder_is_dropped(service, visit, bucket, line, tmp_path):
    """A folder that is dropped gives its tracks in order, with their covers, and nothing else that lies in it."""
    album = tmp_path / "Album"
    bodies = {"CD 1/01 One.wav": sound(5000), "CD 1/02 Two.wav": sound(5000), "CD 2/01 Uno.wav": sound(5000)}
    covers = {"CD 1/cover.png": png(5, 5), "CD 1/02 Two.png": png(6, 6), "CD 2/scan.png": png(7, 7)}
    for name, body in {**bodies, **covers, "CD 1/.DS_Store": b"x", "CD 1/notes.txt": b"x"}.items():
        (album / name).parent.mkdir(parents=True, exist_ok=True)
        (album / name).write_bytes(body)
    session_id = service.open_session()
    uploader = visit(service, session_id)
    line.drop(album)
    rows = uploader.files.get_by_role("listitem")
    expect(rows).to_contain_text(
        ["Album / CD 1 / 01 One.wav", "Album / CD 1 / 02 Two.wav", "Album / CD 2 / 01 Uno.wav"]
    )
    expect(uploader.page.get_by_text("neither sound nor picture: notes.txt.").first).to_be_visible()
    uploader.upload(3)
    expect(uploader.batch).to_contain_text("All 3 have arrived")
    found = {f"{track['metadata']['folder']}/{track['file_name']}": track for track in service.tracks(session_id)}
    assert {name: bucket.get(track["path"]) for name, track in found.items()} == {
        f"Album/{name}": body for name, body in bodies.items()
    }
    own = {name: bucket.get(track["cover"]["path"]) for name, track in found.items()}
    assert own["Album/CD 1/01 One.wav"] == covers["CD 1/cover.png"]
    assert own["Album/CD 1/02 Two.wav"] == covers["CD 1/02 Two.png"]
    assert own["Album/CD 2/01 Uno.wav"] == covers["CD 2/scan.png"]


def test_files_are_dropped(service, visit, bucket, page):
    """Files that a script has put together can be dropped, beside the component as well."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    page.evaluate(
        """() => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File(["RIFF1234WAVEfmt "], "a.wav", { type: "audio/wav" }));
          document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        }"""
    )
    uploader.upload()
    arrived(uploader.row("a.wav"))
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == b"RIFF1234WAVEfmt "


def test_cover_is_picked(service, visit, bucket, page):
    """A cover can be picked by hand and taken away again; it is sent with its track."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(file("one.wav", wav()), file("two.wav", wav(seed=1)), file("cover.png", png(), "image/png"))
    uploader.press("No cover for two.wav")
    picture = page.get_by_label("Cover of two.wav, none yet")
    expect(picture).to_be_focused()
    picture.set_input_files(file("mine.png", png(9, 9), "image/png"))
    expect(page.get_by_label("Cover of two.wav: mine.png")).to_be_attached()
    uploader.upload(2)
    expect(uploader.batch).to_contain_text("All 2 have arrived")
    one, two = sorted(service.tracks(session_id), key=lambda track: track["file_name"])
    assert (bucket.get(one["cover"]["path"]), bucket.get(two["cover"]["path"])) == (png(), png(9, 9))
    assert two["cover"]["content_type"] == "image/png"


def test_cover_that_is_none(service, visit, bucket, page):
    """What only calls itself a picture does not keep its track back; another one can be sent afterwards."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(file("one.wav", wav()), file("one.png", HTML, "image/png"))
    uploader.upload()
    arrived(uploader.row("one.wav"))
    expect(uploader.row("one.wav")).to_contain_text("The cover: The cover is not a picture.")
    with page.expect_response(lambda answer: answer.url.endswith("/complete")):
        page.get_by_label("Cover of one.wav: one.png").set_input_files(file("better.png", png(), "image/png"))
    expect(uploader.row("one.wav")).not_to_contain_text("not a picture")
    expect(page.get_by_label("Cover of one.wav: better.png")).to_be_disabled()
    (track,) = service.tracks(session_id)
    assert (bucket.get(track["path"]), bucket.get(track["cover"]["path"])) == (wav(), png())


def test_what_is_not_audio(service, visit, bucket):
    """A file that does not pass the service's check is said not to have arrived, and why; so is an empty one."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(file("page.wav", HTML), file("empty.wav", b""), file("good.wav", wav()))
    uploader.upload(3)
    expect(uploader.batch).to_contain_text("1 of 3 arrived, 2 did not")
    expect(uploader.row("page.wav")).to_contain_text("The file is not audio")
    expect(uploader.row("empty.wav")).to_contain_text("The file is empty.")
    good, bad = sorted(service.tracks(session_id), key=lambda track: track["file_name"])
    assert (good["status"], bad["status"]) == ("uploaded", "failed")
    assert (bucket.get(good["path"]), bucket.get(bad["path"])) == (wav(), None)


def test_big_file_in_parts(service, visit, bucket, page, tmp_path):
    """A big file goes in parts, a few at once, none of them twice."""
    session_id, body = service.open_session(), sound(21 * MIB)
    (tmp_path / "set.wav").write_bytes(body)
    uploader = visit(service, session_id, part_size=str(5 * MIB))
    sent = []
    page.on("request", lambda request: sent.extend(re.findall(r"partNumber=(\d+)", request.url)))
    uploader.choose(tmp_path / "set.wav")
    uploader.upload()
    arrived(uploader.row("set.wav"))
    assert sorted(sent) == ["1", "2", "3", "4", "5"]
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_pause_resume_cancel(service, visit, bucket, slow):
    """Each file can be paused, taken up again and cancelled; so can all of them."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    bodies = {name: sound(800_000) for name in ("a.wav", "b.wav", "c.wav", "d.wav")}
    uploader.choose(*(file(name, body) for name, body in bodies.items()))
    uploader.upload(4)
    uploader.press("Pause a.wav")
    expect(uploader.row("a.wav")).to_contain_text("Paused")
    expect(uploader.page.get_by_role("button", name="Resume a.wav")).to_be_focused()
    uploader.press("Cancel b.wav")
    expect(uploader.row("b.wav")).to_contain_text("Cancelled")
    uploader.press("Pause all")
    expect(uploader.row("d.wav")).to_contain_text("Paused")
    slow.limit(-1)
    uploader.press("Resume")
    expect(uploader.batch).to_contain_text("All 3 have arrived")
    found = {track["file_name"]: track for track in service.tracks(session_id)}
    assert found["b.wav"]["status"] == "cancelled"
    assert bucket.get(found["b.wav"]["path"]) is None
    for name in ("a.wav", "c.wav", "d.wav"):
        assert bucket.get(found[name]["path"]) == bodies[name]
    uploader.press("Upload again b.wav")
    expect(uploader.batch).to_contain_text("All 4 have arrived")
    (again,) = (t for t in service.tracks(session_id) if t["file_name"] == "b.wav" and t["status"] == "uploaded")
    assert bucket.get(again["path"]) == bodies["b.wav"]


def test_cancel_all(service, visit, bucket, slow):
    """All can be cancelled at once; nothing of them stays in the bucket."""
    session_id = service.open_session()
    uploader = visit(service, session_id)
    uploader.choose(*(file(f"{name}.wav", sound(1_000_000)) for name in "abcde"))
    uploader.upload(5)
    expect(uploader.row("a.wav")).to_contain_text("left")
    uploader.press("Cancel all")
    expect(uploader.files.get_by_text("Cancelled")).to_have_count(5)
    told = ["cancelled"] * 3
    wait_until(lambda: [track["status"] for track in service.tracks(session_id)] == told, "The service was not told.")
    tracks = service.tracks(session_id)
    assert [bucket.get(track["path"]) for track in tracks] == [None] * 3


def test_leaving_asks_first(service, visit, page, slow):
    """Leaving asks while something is on its way, and only then."""
    session_id = service.open_session()
    uploader, asked = visit(service, session_id), []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    uploader.choose(file("a.wav", sound(150_000)))
    page.reload()
    page.get_by_text("Open until").wait_for()
    assert asked == []
    uploader.choose(file("a.wav", sound(400_000)))
    uploader.upload()
    expect(uploader.row("a.wav")).to_contain_text("left")
    page.reload()
    assert asked == ["beforeunload"]


def test_arrived_earlier(service, visit, bucket, page, tmp_path):
    """What has arrived is there when the page is opened again, and the same file is not sent twice."""
    session_id, body = service.open_session(), sound(5000)
    (tmp_path / "01 Song.wav").write_bytes(body)
    uploader = visit(service, session_id)
    uploader.choose(tmp_path / "01 Song.wav")
    uploader.upload()
    arrived(uploader.row("01 Song.wav"))
    uploader = visit(service, session_id)
    expect(page.get_by_role("heading", name="Arrived earlier: 1 file")).to_be_visible()
    uploader.choose(tmp_path / "01 Song.wav")
    expect(page.get_by_text("Arrived earlier: 01 Song.wav.").first).to_be_visible()
    expect(uploader.files.get_by_role("listitem")).to_have_count(0)
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body


def test_no_referer(service, visit, page):
    """The session's id goes to the service in paths, and to nobody in a Referer."""
    session_id, told = service.open_session(), []
    page.on("request", lambda request: told.append(request.headers.get("referer", "")))
    uploader = visit(service, session_id)
    uploader.choose(file("a.wav", wav()))
    uploader.upload()
    arrived(uploader.row("a.wav"))
    assert len(told) > 10
    assert not any(session_id in referer for referer in told)


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
def names(service, visit, page):
    """Call a function of names.js."""
    visit(service, service.open_session())
    return lambda call, *values: page.evaluate(
        f"async values => {{ const names = await import('/static/names.js'); return ({call})(names, ...values); }}",
        values,
    )


def test_guesses(names):
    """Title and number as people write them into names."""
    guessed = names("(n, all) => all.map(n.guess)", list(GUESSES))
    assert {name: (g["title"], g["number"]) for name, g in zip(GUESSES, guessed, strict=True)} == GUESSES


def test_covers_of_many(names):
    """Thousands of tracks with covers find each other while nobody notices."""
    call = """(n, count) => {
        const item = (i, ending) => ({ name: `${i} Täck.${ending}`, folder: `${i % 9}` });
        const items = (ending) => Array.from({ length: count }, (_, i) => item(i, ending));
        const began = performance.now();
        const { covers, left } = n.matchCovers(items("wav"), [...items("PNG"), { name: "Cover.jpg", folder: "none" }]);
        return [covers.size, left.length, performance.now() - began];
    }"""
    matched, left, milliseconds = names(call, 5000)
    assert (matched, left) == (5000, 1)
    assert milliseconds < 2000


def test_declared_names(names, service):
    """A name that the service would not take is changed as little as may be."""
    odd = ["a\u202eb.wav", "tab\there.wav", "x" * 300 + ".wav", "fine – name.wav"]
    told = names("(n, all) => all.map(n.declaredName)", odd)
    assert told == ["a_b.wav", "tab_here.wav", "x" * 251 + ".wav", "fine – name.wav"]
