"""`loadbay upload`: folders, the printed result, and resuming."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
import time

import pytest
import requests
from click.testing import CliRunner

from loadbay_client import Client, RegisteredFile, __version__
from loadbay_client.cli import upload
from loadbay_client.files import discover, stat_signature
from loadbay_client.resume_state import ResumeState
from support.api import COLLECTION, create_key
from support.live_server import serve
from support.processes import ROOT
from support.sample_files import HTML, audio, png

pytestmark = pytest.mark.sqlite

KEY = "a-key-of-16-characters-or-more"
START_SECONDS = 5
"""Seconds that starting the command may take on a busy machine."""
COMMAND = (sys.executable, "-m", "loadbay_client", "upload")


@pytest.fixture
def env(server, tmp_path):
    """Environment of the command, with a state folder of its own."""
    return {"PYTHONPATH": str(ROOT), "LOADBAY_SERVER": server, "XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def album(tmp_path):
    """Folder with 150 files of 200 kB."""
    folder = tmp_path / "album"
    folder.mkdir()
    for number in range(150):
        (folder / f"{number:03}.mp3").write_bytes(audio(bytes([number]) * 200_000))
    return folder


def parse_result(output):
    """Return the tracks by their local path, and the failures, from the JSON at the end of the output."""
    result = json.loads(output[output.index("\n{\n") :] if not output.startswith("{") else output)
    return {track["metadata"]["path"]: track for track in result["tracks"]}, result["failed"]


def state_files(tmp_path):
    """Return the paths of the states that the command has stored."""
    return list((tmp_path / "state").rglob("*.json"))


def interrupt(processes, command, env, tmp_path, output):
    """Run the command and interrupt it once its output contains `output`."""
    with processes.start(*command, env=env, log=tmp_path / "log") as process:
        process.wait_for_output(output)
        process.stop()


def all_stored(bucket, tmp_path, tracks):
    """Return whether the object of each track has the bytes of its local file."""
    return all(bucket.get(track["path"]) == (tmp_path / path).read_bytes() for path, track in tracks.items())


def test_uploads_folders_with_covers(env, tmp_path, bucket, processes):
    """Upload nested folders and single files with their covers, and report a picture that is no cover."""
    folder = tmp_path / "album"
    (folder / "disc 2").mkdir(parents=True)
    paths = ("album/01 one.mp3", "album/02 🎵.mp3", "album/disc 2/01 one.mp3", "single.wav")
    for path in paths:
        (tmp_path / path).write_bytes(audio(path.encode() * 1000))
    (folder / "Cover.png").write_bytes(png(3, 3))
    (folder / "01 one.png").write_bytes(png(4, 4))
    for number in (1, 2):
        # The only picture of a folder would be the cover.
        (folder / "disc 2" / f"booklet {number}.png").write_bytes(png(5, 5))
    (folder / ".hidden.mp3").write_bytes(audio())
    (folder / "Thumbs.db").write_bytes(b"x")
    process = processes.run(
        *COMMAND, "album", "single.wav", "--collection", COLLECTION, "--json", env=env, cwd=tmp_path
    )
    assert process.returncode == 0, process.stdout
    tracks, failed = parse_result(process.stdout)
    assert failed == []
    assert set(tracks) == set(paths)
    assert all_stored(bucket, tmp_path, tracks)
    covers = {path: track["cover"] and bucket.get(track["cover"]["path"]) for path, track in tracks.items()}
    assert covers.pop("album/01 one.mp3") == png(4, 4)
    assert covers.pop("album/02 🎵.mp3") == png(3, 3)
    assert set(covers.values()) == {None}
    assert re.findall("Skipped.*", process.stdout) == [
        "Skipped, as it is no file's cover: booklet 1.png",
        "Skipped, as it is no file's cover: booklet 2.png",
    ]
    assert state_files(tmp_path) == []


def test_prints_a_table(env, album, processes):
    """Print one table row for each file, with its status, size in bytes, local path and object key."""
    process = processes.run(*COMMAND, str(album), "--collection", COLLECTION, env=env)
    assert process.returncode == 0, process.stdout
    assert re.search(r"^status +bytes +file +path or error$", process.stdout, re.MULTILINE)
    assert len(re.findall(r"^uploaded +200204 +album/[0-9]{3}\.mp3 +\S+$", process.stdout, re.MULTILINE)) == 150


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_resumes_after_an_interruption(env, tmp_path, album, bucket, sign, processes):
    """Continue with `--resume` after Ctrl-C or a crash; every file is uploaded exactly once."""
    command = (*COMMAND, str(album), "--collection", COLLECTION, "--json")
    with processes.start(*command, env=env, log=tmp_path / "log") as process:
        process.wait_for_output("[5/150]")
        started = time.monotonic()
        status = process.stop(sign)
    assert time.monotonic() - started < 5
    assert status == (130 if sign == signal.SIGINT else -signal.SIGKILL), process.output()
    if sign == signal.SIGINT:
        assert "--resume" in process.output()
    (state_file,) = state_files(tmp_path)
    assert stat.S_IMODE(state_file.stat().st_mode) == 0o600
    resumed = processes.run(*command, "--resume", env=env)
    assert resumed.returncode == 0, resumed.stdout
    assert "Already uploaded: " in resumed.stdout
    tracks, failed = parse_result(resumed.stdout)
    assert (len(tracks), failed) == (150, [])
    assert all_stored(bucket, tmp_path, tracks)
    assert state_files(tmp_path) == []


def test_resume_does_not_send_again_what_was_not_verified(env, tmp_path, bucket, processes, monkeypatch):
    """Verify a file that was sent before the interruption instead of sending it again, and send the others."""
    folder = tmp_path / "album"
    folder.mkdir()
    for name in ("a.mp3", "b.mp3"):
        (folder / name).write_bytes(audio(name.encode()))
    monkeypatch.setenv("XDG_STATE_HOME", env["XDG_STATE_HOME"])
    session, files = Client(env["LOADBAY_SERVER"]).session(COLLECTION), discover([folder]).files
    registrations = session.register(files)
    upload = registrations[0]["track_upload"]
    response = requests.put(upload["upload_url"], files[0].path.read_bytes(), headers=upload["headers"], timeout=10)
    assert response.status_code == 200
    state = ResumeState.load(env["LOADBAY_SERVER"], COLLECTION, [folder])
    state.add_session(session.id, restart=True)
    state.add_tracks(
        RegisteredFile(file, registration["track_id"], stat_signature(file.path))
        for file, registration in zip(files, registrations, strict=True)
    )
    process = processes.run(*COMMAND, str(folder), "--collection", COLLECTION, "--json", "--resume", env=env)
    assert process.returncode == 0, process.stdout
    assert "Already uploaded: 1 files." in process.stdout
    assert "[1/1] b.mp3: uploaded" in process.stdout
    assert all_stored(bucket, tmp_path, parse_result(process.stdout)[0])


def test_resume_uploads_changed_files_again(env, tmp_path, album, bucket, processes):
    """Upload files as they are now if they changed after the first of two interruptions."""
    command = (*COMMAND, str(album), "--collection", COLLECTION, "--json")
    interrupt(processes, command, env, tmp_path, "[40/150]")
    for path in album.iterdir():
        path.write_bytes(path.read_bytes() + b"more")
    # The second run registers some of the changed files and uploads few of them; the first uploaded many.
    interrupt(processes, (*command, "--resume"), env, tmp_path, "[1/150]")
    process = processes.run(*command, "--resume", env=env)
    assert process.returncode == 0, process.stdout
    tracks, failed = parse_result(process.stdout)
    assert (len(tracks), failed) == (150, [])
    assert all_stored(bucket, tmp_path, tracks)


def test_resume_opens_a_new_session_if_the_old_one_ended(env, tmp_path, album, client, bucket, processes):
    """Upload the remaining files in a new session if the old one is closed, and no finished file again."""
    command = (*COMMAND, str(album), "--collection", COLLECTION, "--json")
    interrupt(processes, command, env, tmp_path, "[5/150]")
    (state_file,) = state_files(tmp_path)
    (first,) = json.loads(state_file.read_text())["sessions"]
    client.post(f"/v1/upload_session/{first}/close")
    interrupt(processes, (*command, "--resume"), env, tmp_path, "[5/")
    sessions = json.loads(state_file.read_text())["sessions"]
    process = processes.run(*command, "--resume", env=env)
    assert process.returncode == 0, process.stdout
    tracks, failed = parse_result(process.stdout)
    assert (len(tracks), failed, len(sessions), sessions[0]) == (150, [], 2, first)
    assert all_stored(bucket, tmp_path, tracks)
    responses = [client.get(f"/v1/upload_session/{session_id}") for session_id in sessions]
    counts = [response.json["upload_session"]["tracks"]["uploaded"] for response in responses]
    assert sum(counts) == 150
    assert all(count >= 5 for count in counts)


def test_reports_unreadable_files_and_folders(env, tmp_path, monkeypatch, album):
    """Report a file and a folder without read permission as failed and upload the others."""
    # Simulated, as a privileged user can read everything.
    access, scandir = os.access, os.scandir
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "closed").mkdir()
    (tmp_path / "more" / "a.mp3").write_bytes(audio())

    def scandir_without_closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir_without_closed)
    monkeypatch.setattr(os, "access", lambda path, mode: "003" not in str(path) and access(path, mode))
    paths = [str(album), str(tmp_path / "more"), "--collection", COLLECTION, "--json"]
    result = CliRunner(env=env).invoke(upload, paths)
    assert result.exit_code == 1, result.output
    tracks, failed = parse_result(result.stdout)
    assert len(tracks) == 150
    assert {failure["file"]: failure["error"] for failure in failed} == {
        str(album / "003.mp3"): "The file cannot be read.",
        str(tmp_path / "more" / "closed"): "The folder cannot be read.",
    }


def test_reports_what_cannot_be_uploaded(env, tmp_path, bucket, processes):
    """Report empty files, broken links, links to folders and pipes, upload the rest, and exit with status 1."""
    folder, target = tmp_path / "album", tmp_path / "target"
    folder.mkdir()
    target.mkdir()
    (target / "b.mp3").write_bytes(audio(b"b"))
    (folder / "a.mp3").write_bytes(audio(b"a"))
    (folder / "empty.mp3").touch()
    (folder / "broken.mp3").symlink_to("nowhere")
    (folder / "linked").symlink_to(target)
    (folder / "linked.mp3").symlink_to(target / "b.mp3")
    os.mkfifo(folder / "pipe.mp3")
    process = processes.run(*COMMAND, "album", "--collection", COLLECTION, "--json", env=env, cwd=tmp_path)
    assert process.returncode == 1, process.stdout
    tracks, failed = parse_result(process.stdout)
    assert {path: bucket.get(track["path"]) for path, track in tracks.items()} == {
        "album/a.mp3": audio(b"a"), "album/linked.mp3": audio(b"b"),
    }  # fmt: skip
    assert {os.path.basename(failure["file"]): failure["error"] for failure in failed} == {
        "empty.mp3": "The file is empty.",
        "broken.mp3": "The link is broken.",
        "linked": "Links to folders are not followed; pass the folder itself.",
        "pipe.mp3": "Not a regular file.",
    }
    for failure in failed:
        os.unlink(failure["file"])
    resumed = processes.run(*COMMAND, "album", "--collection", COLLECTION, "--resume", env=env, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stdout


def test_uploads_a_hidden_file_passed_by_name(env, tmp_path, processes):
    """Upload a hidden file that is passed itself, though folders are searched without hidden files."""
    (tmp_path / ".hidden.mp3").write_bytes(audio())
    process = processes.run(*COMMAND, ".hidden.mp3", "--collection", COLLECTION, "--json", env=env, cwd=tmp_path)
    assert process.returncode == 0, process.stdout
    assert list(parse_result(process.stdout)[0]) == [".hidden.mp3"]


def test_reports_files_in_a_folder_without_search_permission(env, tmp_path, monkeypatch):
    """Report each file of a folder that can be listed but not entered, and upload the others."""
    # Simulated, as a privileged user can read everything.
    os_stat = os.stat
    for folder in ("open", "closed"):
        (tmp_path / "album" / folder).mkdir(parents=True)
        (tmp_path / "album" / folder / "a.mp3").write_bytes(audio())

    def stat_without_closed(path, *args, **kwargs):
        if str(path).endswith("closed/a.mp3"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return os_stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", stat_without_closed)
    arguments = [str(tmp_path / "album"), "--collection", COLLECTION, "--json"]
    result = CliRunner(env=env).invoke(upload, arguments)
    assert result.exit_code == 1, result.output
    tracks, (failure,) = parse_result(result.stdout)
    assert list(tracks) == ["album/open/a.mp3"]
    path = str(tmp_path / "album/closed/a.mp3")
    assert failure == {"file": path, "error": "The file cannot be read.", "code": "file_error"}


@pytest.mark.parametrize("key", ["full", "none"])
def test_resume_sends_a_missing_cover(env, make_client, tmp_path, bucket, key, processes):
    """Fail again for a track without its cover; with a full API key, `--resume` sends the corrected cover."""
    (tmp_path / "a.mp3").write_bytes(audio())
    (tmp_path / "a.png").write_bytes(b"no picture")
    client = make_client(API_KEYS=KEY)
    command = (*COMMAND, "a.mp3", "a.png", "--collection", COLLECTION, "--json")

    def resume(status):
        process = processes.run(*command, "--resume", env=env, cwd=tmp_path)
        assert process.returncode == status, process.stdout
        return parse_result(process.stdout)

    with serve(client.application) as url:
        env |= {"LOADBAY_SERVER": url} | ({"LOADBAY_KEY": KEY} if key == "full" else {})
        process = processes.run(*command, env=env, cwd=tmp_path)
        assert process.returncode == 1, process.stdout
        _, (failure,) = resume(1)
        assert "without its cover" in failure["error"]
        (tmp_path / "a.png").write_bytes(png())
        tracks, failed = resume(0 if key == "full" else 1)
    if key == "none":
        assert "requires a full API key" in failed[0]["error"]
        return
    assert bucket.get(tracks["a.mp3"]["cover"]["path"]) == png()
    assert (failed, state_files(tmp_path)) == ([], [])


def test_resume_registers_a_failed_multipart_file_anew(env, tmp_path, client, processes):
    """Upload a file that failed verification in parts as a new track, and report the reason both times."""
    (tmp_path / "a.mp3").write_bytes(HTML + bytes(2 * 2**20))
    command = (*COMMAND, "a.mp3", "--collection", COLLECTION, "--json", "--multipart-threshold", "1")
    process = processes.run(*command, env=env, cwd=tmp_path)
    assert process.returncode == 1, process.stdout
    _, (first,) = parse_result(process.stdout)
    assert re.match("Track failed. .*audio", first["error"])
    _, (second,) = parse_result(processes.run(*command, "--resume", env=env, cwd=tmp_path).stdout)
    assert second == first
    (state_file,) = state_files(tmp_path)
    (session_id,) = json.loads(state_file.read_text())["sessions"]
    tracks = client.get(f"/v1/upload/{session_id}/track").json["tracks"]
    assert [track["status"] for track in tracks] == ["failed", "failed"]


def test_options_override_the_environment(env, make_client, tmp_path, bucket, processes):
    """Prefer `--server` and `--key` to LOADBAY_SERVER and LOADBAY_KEY, and never print the key."""
    (tmp_path / "a.mp3").write_bytes(audio())
    other = {**env, "LOADBAY_SERVER": "http://127.0.0.1:9", "LOADBAY_KEY": "loadbay_full_wrong"}
    with serve(make_client(ALLOW_ANONYMOUS="", API_KEYS=KEY).application) as url:
        options = ("--collection", COLLECTION, "--server", url, "--key", KEY, "--json")
        process = processes.run(*COMMAND, "a.mp3", *options, env=other, cwd=tmp_path)
    assert process.returncode == 0, process.stdout
    assert KEY not in process.stdout
    tracks, _ = parse_result(process.stdout)
    assert bucket.get(tracks["a.mp3"]["path"]) == audio()


@pytest.mark.parametrize("option", ["--json", "--parallel=2"])
def test_uploads_a_file_whose_name_is_not_utf8(env, tmp_path, option, processes):
    """Replace bytes that are not UTF-8 in the registered and printed names."""
    folder = tmp_path / os.fsdecode(b"No\xebl")
    folder.mkdir()
    (folder / os.fsdecode(b"\xe9t\xe9.mp3")).write_bytes(audio())
    process = processes.run(*COMMAND, str(folder), "--collection", COLLECTION, option, env=env)
    assert process.returncode == 0, process.stdout
    assert "No\ufffdl/\ufffdt\ufffd.mp3" in process.stdout


def test_reports_files_that_the_service_rejects(env, tmp_path, processes):
    """Report a file with an invalid name, upload the others, and exit with status 1."""
    good, invalid = tmp_path / "good.mp3", tmp_path / "   "
    for path in (good, invalid):
        path.write_bytes(audio())
    process = processes.run(*COMMAND, str(good), str(invalid), "--collection", COLLECTION, "--json", env=env)
    assert process.returncode == 1, process.stdout
    tracks, (failure,) = parse_result(process.stdout)
    assert list(tracks) == ["good.mp3"]
    assert failure["file"] == str(invalid)
    assert "file_name" in failure["error"]
    invalid.rename(tmp_path / "better.mp3")
    process = processes.run(*COMMAND, str(good), str(tmp_path / "better.mp3"), "--collection", COLLECTION, env=env)
    assert process.returncode == 0, process.stdout


def test_prints_names_that_the_output_cannot_encode(env, tmp_path, processes):
    """Replace forbidden characters in registered names, and escape those that the output's encoding lacks."""
    for name in ("a\u202eb.mp3", "日本 🎵.mp3"):
        (tmp_path / name).write_bytes(audio())
    paths = sorted(map(str, tmp_path.glob("*.mp3")))
    ascii_env = {**env, "PYTHONIOENCODING": "ascii"}
    process = processes.run(*COMMAND, *paths, "--collection", COLLECTION, "--json", env=ascii_env)
    assert process.returncode == 0, process.stdout
    tracks, failed = parse_result(process.stdout)
    assert failed == []
    assert sorted(track["file_name"] for track in tracks.values()) == ["a_b.mp3", "日本 🎵.mp3"]
    table = processes.run(*COMMAND, *paths, "--collection", COLLECTION, env=ascii_env)
    assert table.returncode == 0, table.stdout
    assert "\\u65e5\\u672c" in table.stdout


def test_uploads_without_a_writable_state_folder(env, tmp_path, processes):
    """Report once that `--resume` will not work if the state cannot be written, and upload everything."""
    (tmp_path / "a.mp3").write_bytes(audio())
    (tmp_path / "file").write_text("not a folder")
    env["XDG_STATE_HOME"] = str(tmp_path / "file")
    process = processes.run(*COMMAND, str(tmp_path / "a.mp3"), "--collection", COLLECTION, "--json", env=env)
    assert process.returncode == 0, process.stdout
    assert process.stdout.count("--resume will not be possible") == 1
    assert len(parse_result(process.stdout)[0]) == 1


def test_reports_a_cover_that_the_store_rejects(env, make_client, tmp_path, bucket, processes):
    """Upload the file of a track whose cover is too large for the object store, and report the missing cover."""
    with serve(make_client(MAX_COVER_BYTES="1000").application) as url:
        (tmp_path / "a.mp3").write_bytes(audio())
        (tmp_path / "a.png").write_bytes(png() + bytes(2000))
        env["LOADBAY_SERVER"] = url
        process = processes.run(
            *COMMAND, str(tmp_path / "a.mp3"), str(tmp_path / "a.png"), "--collection", COLLECTION, env=env
        )
        assert process.returncode == 1, process.stdout
        assert "Track uploaded without its cover. The object store rejected the upload" in process.stdout
        session_id = json.loads(state_files(tmp_path)[0].read_text())["sessions"][0]
        (track,) = requests.get(f"{url}/v1/upload/{session_id}/track", timeout=10).json()["tracks"]
    assert (track["status"], bucket.get(track["path"])) == ("uploaded", audio())


def test_invalid_key_is_reported_without_repeating_it(env, make_client, tmp_path, processes):
    """Exit with a hint at LOADBAY_KEY, without a traceback and without the key."""
    (tmp_path / "a.mp3").write_bytes(audio())
    with serve(make_client(ALLOW_ANONYMOUS="").application) as url:
        invalid = {**env, "LOADBAY_SERVER": url, "LOADBAY_KEY": "loadbay_full_wrong"}
        process = processes.run(*COMMAND, str(tmp_path / "a.mp3"), "--collection", COLLECTION, env=invalid)
    assert process.returncode == 1
    assert "LOADBAY_KEY" in process.stdout
    assert "loadbay_full_wrong" not in process.stdout
    assert "Traceback" not in process.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("nowhere.mp3",), 2, "does not exist"),
        (("--collection", COLLECTION), 2, "Missing argument"),
        ((".",), 2, "Missing option '--collection'"),
        ((".", "--server", ""), 2, "Missing option '--server'"),
        ((".", "--collection", "no-uuid"), 2, "not a valid UUID"),
        ((".", "--server", "example.com"), 2, "must be an HTTP URL"),
        (("empty", "--collection", COLLECTION), 1, "No files to upload"),
    ],
)
def test_invalid_arguments_are_rejected(env, tmp_path, arguments, status, message, processes):
    """Exit before any upload with a message about the argument."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.mp3").write_bytes(audio())
    process = processes.run(*COMMAND, *arguments, env=env, cwd=tmp_path)
    assert process.returncode == status, process.stdout
    assert message in process.stdout


def run_in_terminal(command, env):
    """Run a command in a terminal of 30 x 100 characters; return its exit status and output."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for descriptor in (0, 1, 2):
            os.dup2(terminal, descriptor)
        os.execve(command[0], command, {**os.environ, **env})
    os.close(terminal)
    output = bytearray()
    while chunk := read_terminal(controller):
        output += chunk
    os.close(controller)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode()


def read_terminal(controller):
    """Return the next output of a terminal, empty at its end, which Linux reports as an error."""
    try:
        return os.read(controller, 65536)
    except OSError:
        return b""


def test_terminal_shows_progress_bars(env, album):
    """Show a bar for the whole upload that ends at 100 %, and one for each running file."""
    status, output = run_in_terminal([*COMMAND, str(album), "--collection", COLLECTION], env)
    assert status == 0
    assert "Total" in output
    assert "100%" in output
    assert "149.mp3" in output


# --- Options ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path):
    """Folder with files of several types, each with a cover, and one that is empty."""
    folder = tmp_path / "library"
    (folder / "demos").mkdir(parents=True)
    for name in ("a.mp3", "b.wav", "demos/c.mp3"):
        (folder / name).write_bytes(audio())
        (folder / name).with_suffix(".png").write_bytes(png())
    (folder / "empty.mp3").touch()
    return folder


def plan(processes, tmp_path, *options, env=None):
    """Return the files and the failures that `--dry-run --json` prints, and its exit status."""
    command = (*COMMAND, "library", "--dry-run", "--json", *options)
    result = processes.run(*command, env={"PYTHONPATH": str(ROOT), **(env or {})}, cwd=tmp_path)
    printed = json.loads(result.stdout[result.stdout.index("{\n") :])
    return {item["file"]: item["cover"] for item in printed["files"]}, printed["failed"], result.returncode


def test_dry_run_lists_files_without_a_server(library, tmp_path, processes):
    """List the files with their covers and those that cannot be uploaded; no server, key or collection is needed."""
    files, failed, status = plan(processes, tmp_path)
    assert files == {"library/a.mp3": "a.png", "library/b.wav": "b.png", "library/demos/c.mp3": "c.png"}
    assert ([item["error"] for item in failed], status) == (["The file is empty."], 1)
    (library / "empty.mp3").unlink()
    table = processes.run(*COMMAND, "library", "--dry-run", env={"PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    assert table.returncode == 0
    assert "3 files with 612 bytes would be uploaded." in table.stdout


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--include", "*.mp3"), ["a.mp3", "demos/c.mp3"]),
        (("--include", "*.wav", "--include", "a.*"), ["a.mp3", "b.wav"]),
        (("--exclude", "library/demos/*"), ["a.mp3", "b.wav"]),
        (("--include", "*.mp3", "--exclude", "c.*"), ["a.mp3"]),
    ],
)
def test_include_and_exclude_select_files(library, tmp_path, processes, options, names):
    """Select files by patterns of their name or path; pictures go with their files unless they are excluded."""
    (library / "empty.mp3").unlink()
    files, _, _ = plan(processes, tmp_path, *options)
    assert list(files) == [f"library/{name}" for name in names]
    assert None not in files.values()
    without_covers, _, _ = plan(processes, tmp_path, *options, "--exclude", "*.png")
    assert set(without_covers.values()) == {None}


def test_quiet_prints_errors_only(env, library, tmp_path, processes):
    """Print nothing if all is well, only the errors otherwise, and the result with `--json`."""
    command = (*COMMAND, "library", "--collection", COLLECTION, "--quiet")
    failing = processes.run(*command, env=env, cwd=tmp_path)
    assert failing.returncode == 1
    assert failing.stdout.splitlines() == [
        "Some files failed. The session stays open; run again with --resume to retry them."
    ]
    (library / "empty.mp3").unlink()
    succeeding = processes.run(*command, env=env, cwd=tmp_path)
    assert (succeeding.returncode, succeeding.stdout) == (0, "")
    result = processes.run(*command, "--json", env=env, cwd=tmp_path)
    assert len(json.loads(result.stdout)["tracks"]) == 3


def test_uploader_key_needs_no_collection(app, env, tmp_path, processes):
    """An uploader's key has a collection of its own."""
    key = create_key(app, "--role", "uploader", "--collection", COLLECTION)
    (tmp_path / "a.mp3").write_bytes(audio())
    process = processes.run(*COMMAND, "a.mp3", "--json", env={**env, "LOADBAY_KEY": key}, cwd=tmp_path)
    assert process.returncode == 0, process.stdout
    assert parse_result(process.stdout)[0]["a.mp3"]["collection_id"] == COLLECTION


@pytest.mark.parametrize("answers", [False, True])
def test_unreachable_server_is_reported_soon(env, tmp_path, processes, answers):
    """Say within five seconds that a server refuses connections, or accepts them and never responds."""
    (tmp_path / "a.mp3").write_bytes(audio())
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        if not answers:
            server.close()
        command = (*COMMAND, "a.mp3", "--collection", COLLECTION, "--server", url)
        started = time.monotonic()
        process = processes.run(*command, env=env, cwd=tmp_path)
    assert process.returncode == 1
    assert f"{url} cannot be reached" in process.stdout
    assert "--resume" not in process.stdout, "Nothing is uploaded yet."
    assert time.monotonic() - started < 5 + START_SECONDS


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_completes_options(shell, processes):
    """`loadbay completion SHELL` prints the script of the shell, which asks the command for its options."""
    env = {"PYTHONPATH": str(ROOT)}
    script = processes.run(*COMMAND[:-1], "completion", shell, env=env)
    assert script.returncode == 0
    assert "_LOADBAY_COMPLETE" in script.stdout
    assert (
        subprocess.run(["bash", "-n"], input=script.stdout, text=True, check=False).returncode == 0 or shell != "bash"
    )
    request = {"COMP_WORDS": "loadbay upload --dr", "COMP_CWORD": "2", "_LOADBAY_COMPLETE": "bash_complete"}
    assert processes.run(*COMMAND[:-1], env={**env, **request}).stdout == "plain,--dry-run\n"


def test_help_and_version_need_no_settings(processes):
    """`loadbay --help` and `--version` need neither a server nor anything of the service."""
    env = {"PYTHONPATH": str(ROOT)}
    assert processes.run(*COMMAND[:-1], "--version", env=env).stdout == f"loadbay, version {__version__}\n"
    assert "upload" in processes.run(*COMMAND[:-1], "--help", env=env).stdout
