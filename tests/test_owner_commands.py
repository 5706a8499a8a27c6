"""`loadbay link`, `loadbay ls` and `loadbay get`: an owner makes a link, lists what came, and fetches it."""

from __future__ import annotations

import json
import re
import sys
from functools import partial

import pytest
import requests
from click.testing import CliRunner

from loadbay_client import Client
from loadbay_client.cli import loadbay
from loadbay_client.command_line import console, downloads
from loadbay_client.command_line.downloads import safe_name
from storage.formats.checksums import ChecksumReader
from support.api import COLLECTION, create_key, new_session, new_track, upload_track
from support.processes import ROOT
from support.sample_files import png, wav
from support.store import BUCKET, post_cover, put

pytestmark = pytest.mark.sqlite

COMMAND = (sys.executable, "-m", "loadbay_client")


@pytest.fixture
def key(app):
    """A full key."""
    return create_key(app)


@pytest.fixture
def run(server, key):
    """A function that runs the command in this process, and returns its result."""

    def run(*arguments, env=None):
        variables = {"LOADBAY_SERVER": server, "LOADBAY_KEY": key, **(env or {})}
        return CliRunner().invoke(loadbay, [str(argument) for argument in arguments], env=variables)

    return run


@pytest.fixture
def session_id(client):
    """The id of an open session."""
    return new_session(client)["upload_session_id"]


def files(folder):
    """Return the files of a folder that are not hidden, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def parts(folder):
    """Return the files that are not finished."""
    return list(folder.glob("*.part"))


def results(run, session, folder):
    """Run `loadbay get --json -q`, and return its results as (file, status, checked)."""
    result = run("get", session, folder, "--json", "-q")
    return [(item["file"], item["status"], item["checked"]) for item in json.loads(result.stdout)]


def test_link_opens_a_session_of_seven_days(run, client, server):
    """The link alone is printed; its session has title, sender and the limits, and lasts seven days by default."""
    result = run("link", "--title", "Summer", "--sender", "Label", "--max-tracks", 3, "--collection", COLLECTION)
    assert result.exit_code == 0, result.output
    assert re.fullmatch(rf"{re.escape(server)}/u/[0-9a-f-]{{36}}\n", result.stdout)
    session = client.get(f"/v1/upload_session/{result.stdout[-37:-1]}").json["upload_session"]
    assert (session["page"]["title"], session["page"]["sender"]) == ("Summer", "Label")
    assert (session["max_tracks"], session["collection_id"]) == (3, COLLECTION)
    assert requests.get(result.stdout.strip(), timeout=30).status_code == 200
    ends = {}
    for options in ([], ["--expires", "30d"], ["--expires", "90m"]):
        created = run("link", *options).stdout[-37:-1]
        session = client.get(f"/v1/upload_session/{created}").json["upload_session"]
        ends[tuple(options)] = (session["created_at"], session["expires_at"])
    assert len(set(ends.values())) == 3


@pytest.mark.parametrize("expires", ["0d", "31d", "7", "d", "7w", "59s", "-1d"])
def test_link_rejects_an_invalid_duration(run, expires):
    """A duration that is none, or longer than a session may be, is an invalid option."""
    result = run("link", "--expires", expires)
    assert result.exit_code == 2
    assert "--expires" in result.output


def test_link_needs_a_server_and_a_key(run, app):
    """Without a server the option is missing; an unknown key is an error that says what to do."""
    assert run("link", env={"LOADBAY_SERVER": ""}).exit_code == 2
    result = run("link", env={"LOADBAY_KEY": "not-a-key-of-this-service"})
    assert (result.exit_code, "--key" in result.output) == (1, True)


def test_ls_lists_the_files(run, client, server, session_id):
    """Each file is listed with status, size and title, by the session's id or its link; --json has the tracks."""
    upload_track(client, session_id, metadata={"title": "First\tTrack"})
    new_track(client, session_id, "b.wav", file_size=7)
    for session in (session_id, f"{server}/u/{session_id}", f"{server}/u/{session_id}?lang=de"):
        result = run("ls", session)
        lines = [line.split() for line in result.stdout.splitlines()]
        assert lines == [
            ["status", "bytes", "file", "title"],
            ["uploaded", str(len(wav())), "a.wav", "First", "Track"],
            ["initialized", "7", "b.wav"],
        ], result.output
    assert [track["file_name"] for track in json.loads(run("ls", session_id, "--json").stdout)] == ["a.wav", "b.wav"]
    assert run("ls", "nonsense").exit_code == 2
    assert run("ls", f"{'0' * 8}-0000-4000-8000-{'0' * 12}").exit_code == 1


def test_get_fetches_files_and_covers(run, client, session_id, tmp_path):
    """Uploaded files and their covers are fetched, with what each was checked by; what did not arrive is not there."""
    created = new_track(client, session_id, "song.wav")
    assert put(created["track_upload"], wav()).status_code == 200
    assert post_cover(created["track_cover_upload"], png()).status_code < 300
    client.post(f"/v1/upload/{session_id}/track/{created['track_id']}/complete")
    new_track(client, session_id, "missing.wav")
    folder = tmp_path / "new" / "folder"
    assert results(run, session_id, folder) == [("song.wav", "fetched", "md5"), ("song.png", "fetched", "md5")]
    assert files(folder) == {"song.wav": wav(), "song.png": png()}
    assert not parts(folder)
    assert results(run, session_id, folder) == [("song.wav", "present", "md5"), ("song.png", "present", "md5")]
    result = run("get", session_id, folder)
    assert (result.exit_code, result.stdout) == (0, "already there: 2\n")


def test_get_compares_declared_checksums(run, server, key, tmp_path):
    """The checksum that the client declared is compared, also a CRC of a file in parts."""
    (tmp_path / "a.wav").write_bytes(wav())
    (tmp_path / "b.wav").write_bytes(wav() + bytes(6 * 2**20))
    with Client(server, key, multipart_threshold=5 * 2**20, part_size=5 * 2**20).session(COLLECTION) as session:
        session.upload(tmp_path / "a.wav")
        session.upload(tmp_path / "b.wav")
    folder = tmp_path / "fetched"
    checked = {name: by for name, _, by in results(run, session.id, folder)}
    assert checked["b.wav"] == "crc64nvme"
    assert checked["a.wav"] in ("sha256", "crc64nvme", "crc32c")
    assert files(folder) == {name: (tmp_path / name).read_bytes() for name in checked}


@pytest.mark.parametrize("algorithm", ["sha256", "crc64nvme", "crc32c"])
def test_get_compares_each_kind_of_checksum(run, client, session_id, tmp_path, algorithm):
    """A declared checksum of each kind is compared; a local file of the same size with other bytes is another file."""
    reader = ChecksumReader(algorithm)
    reader.update(wav())
    upload_track(client, session_id, **{f"checksum_{algorithm}": reader.value()})
    other = bytes(len(wav()))
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.wav").write_bytes(other)
    assert results(run, session_id, folder) == [("a (2).wav", "fetched", algorithm)]
    assert files(folder) == {"a.wav": other, "a (2).wav": wav()}


def test_get_never_overwrites_another_file(run, client, session_id, tmp_path):
    """A file of another content stays, also if it is a link, or another track's of the same name."""
    bodies = [wav(), wav() + b"1", wav() + b"22"]
    for body in bodies:
        upload_track(client, session_id, body)
    (tmp_path / "a.wav").write_bytes(b"mine")
    (tmp_path / "outside").write_bytes(b"theirs")
    (tmp_path / "a (2).wav").symlink_to(tmp_path / "outside")
    names = [name for name, _, _ in results(run, session_id, tmp_path)]
    assert names == ["a (3).wav", "a (4).wav", "a (5).wav"]
    assert [(tmp_path / name).read_bytes() for name in names] == bodies
    assert (tmp_path / "a.wav").read_bytes() == b"mine"
    assert (tmp_path / "outside").read_bytes() == b"theirs"
    assert [status for _, status, _ in results(run, session_id, tmp_path)] == ["present"] * 3


def test_get_goes_on_where_it_stopped(run, client, session_id, tmp_path, monkeypatch):
    """Bytes that were received before are not fetched again."""
    body = wav() + bytes(range(256)) * 4096
    upload_track(client, session_id, body)
    folder = tmp_path / "files"
    monkeypatch.setattr(downloads.Downloader, "_publish", interrupt)
    assert run("get", session_id, folder).exit_code == 1
    (part,) = parts(folder)
    monkeypatch.undo()
    part.write_bytes(body[:1_000_000])
    received = []
    write = downloads.Downloader._write

    def count(self, source, path, start, response):
        received.append(start)
        write(self, source, path, start, response)

    monkeypatch.setattr(downloads.Downloader, "_write", count)
    assert results(run, session_id, folder) == [("a.wav", "fetched", "md5")]
    assert received == [1_000_000]
    assert files(folder) == {"a.wav": body}


def interrupt(*_):
    """Fail as a full disk does."""
    raise OSError(28, "No space left on device")


def test_get_rejects_what_is_not_the_file(run, server, key, tmp_path):
    """Bytes that do not have the declared checksum are fetched once more; the file is never given its name before."""
    (tmp_path / "a.wav").write_bytes(wav() + bytes(100_000))
    with Client(server, key).session(COLLECTION) as session:
        session.upload(tmp_path / "a.wav")
    folder = tmp_path / "fetched"
    results(run, session.id, folder)
    (folder / "a.wav").unlink()
    source = next(downloads._sources(next(Client(server, key).resume(session.id).tracks())))
    part = folder / f".loadbay-{source.key}-{source.version}.part"
    part.write_bytes(b"X" * 50_000)
    if not source.checksums:
        pytest.fail("The client declares a checksum.")
    assert [status for _, status, _ in results(run, session.id, folder)] == ["fetched"]
    assert (folder / "a.wav").read_bytes() == (tmp_path / "a.wav").read_bytes()


def test_get_reports_what_it_cannot_fetch(run, client, session_id, tmp_path, bucket):
    """A file that the store has lost is a failure; the others are fetched, and the exit status is 1."""
    lost = upload_track(client, session_id)
    upload_track(client, session_id, wav() + b"2")
    bucket.s3.delete_object(Bucket=BUCKET, Key=lost["track"]["path"])
    folder = tmp_path / "files"
    result = run_with_few_attempts(run, session_id, folder)
    assert result.exit_code == 1
    assert "failed: 1" in result.stdout
    assert list(files(folder).values()) == [wav() + b"2"]


def run_with_few_attempts(run, session_id, folder):
    """Run `loadbay get` with a client that gives up soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console, "Client", partial(Client, max_attempts=2))
        return run("get", session_id, folder)


def test_get_needs_a_full_key(run, app, client, session_id, tmp_path):
    """Without a key, or with an uploader's, the command ends with what to do."""
    upload_track(client, session_id)
    uploader = create_key(app, "--role", "uploader", "--collection", COLLECTION)
    for key in ("", uploader):
        result = run("get", session_id, tmp_path, env={"LOADBAY_KEY": key})
        assert result.exit_code == 1
        assert "key" in result.output


def test_get_has_the_folder_to_itself(run, session_id, tmp_path):
    """While one process fetches into a folder, another one is refused."""
    with downloads.lock_folder(tmp_path):
        result = run("get", session_id, tmp_path)
    assert (result.exit_code, "Another" in result.output) == (1, True)
    assert run("get", session_id, tmp_path).exit_code == 0


def test_ctrl_c_keeps_what_was_received(client, server, key, session_id, tmp_path, processes):
    """Ctrl-C ends the command with status 130, and the next run completes all files."""
    bodies = [wav() + bytes([number]) * 3_000_000 for number in range(20)]
    for body in bodies:
        upload_track(client, session_id, body)
    env = {"PYTHONPATH": str(ROOT), "LOADBAY_SERVER": server, "LOADBAY_KEY": key}
    command = (*COMMAND, "get", session_id, str(tmp_path / "files"))
    with processes.start(*command, env=env, log=tmp_path / "log") as process:
        process.wait_for_output("fetched")
        process.stop()
    assert "Interrupted" in (tmp_path / "log").read_text()
    assert len(files(tmp_path / "files")) < 20
    assert processes.run(*command, env=env).returncode == 0
    assert sorted(files(tmp_path / "files").values()) == sorted(bodies)
    assert not parts(tmp_path / "files")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../a.wav", "_._a.wav"),
        ("a\\b.wav", "a_b.wav"),
        (".loadbay.json", "_loadbay.json"),
        ("C:\\nul", "C__nul"),
        ("NUL.wav", "_NUL.wav"),
        ("a?.wav", "a_.wav"),
        ("a. ", "a"),
        ("..", "_"),
        ("", "_"),
        ("日本.wav", "日本.wav"),
        ("a\u202egpj.wav", "a_gpj.wav"),
    ],
)
def test_names_stay_in_the_folder(name, expected):
    """A name that an uploader has chosen leads out of no folder, and every system accepts it."""
    assert safe_name(name) == expected
    assert len(safe_name(name * 300).encode()) <= 240
