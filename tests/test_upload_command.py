"""`flask upload`: folders in, a manifest out, and nothing lost on the way."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import signal
import stat
import struct
import sys
import termios
import time

import pytest
import requests
from click.testing import CliRunner

from conftest import COLLECTION
from loadbay_client.cli import upload
from support.live_server import serve
from support.processes import ROOT, Running, run
from support.sample_files import HTML, png

pytestmark = pytest.mark.sqlite

KEY = "a-key-of-16-characters-or-more"
COMMAND = (sys.executable, "-m", "loadbay_client", "upload")


@pytest.fixture
def server(app):
    """The address of a service that runs."""
    with serve(app) as url:
        yield url


@pytest.fixture
def env(server, tmp_path):
    """The environment of the command."""
    return {"PYTHONPATH": str(ROOT), "LOADBAY_SERVER": server, "XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def album(tmp_path):
    """A folder of many files."""
    folder = tmp_path / "album"
    folder.mkdir()
    for number in range(150):
        (folder / f"{number:03}.mp3").write_bytes(b"ID3" + bytes([number]) * 200_000)
    return folder


def arrived(output):
    """The manifest that the command has printed at its end, by each file's place."""
    found = json.loads(output[output.index("\n{\n") :] if not output.startswith("{") else output)
    return {track["metadata"]["path"]: track for track in found["tracks"]}, found["failed"]


def state(tmp_path):
    """What the command has left to go on with."""
    return list((tmp_path / "state").rglob("*.json"))


def test_folders(env, tmp_path, bucket):
    """Folders and files arrive with their places and covers; a picture that is no cover is told of."""
    folder = tmp_path / "album"
    (folder / "disc 2").mkdir(parents=True)
    names = ("01 one.mp3", "02 🎵.mp3", "disc 2/01 one.mp3", "single.wav")
    for name in names:
        where = folder / name if name != "single.wav" else tmp_path / name
        where.write_bytes((b"RIFF\0\0\0\0WAVE" if name.endswith("wav") else b"ID3") + name.encode() * 1000)
    (folder / "Cover.png").write_bytes(png(3, 3))
    (folder / "01 one.png").write_bytes(png(4, 4))
    (folder / "disc 2" / "booklet.png").write_bytes(png(5, 5))
    (folder / ".hidden.mp3").write_bytes(b"ID3")
    (folder / "Thumbs.db").write_bytes(b"x")
    done = run(*COMMAND, "album", "single.wav", "--collection", COLLECTION, "--json", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    tracks, failed = arrived(done.stdout)
    assert failed == []
    assert set(tracks) == {*(f"album/{name}" for name in names[:3]), "single.wav"}
    for place, track in tracks.items():
        assert bucket.get(track["path"]) == (tmp_path / place).read_bytes()
    covers = {place: track["cover"] and bucket.get(track["cover"]["path"]) for place, track in tracks.items()}
    assert covers.pop("album/01 one.mp3") == png(4, 4)
    assert covers.pop("album/02 🎵.mp3") == png(3, 3)
    assert set(covers.values()) == {None}
    assert re.findall("Left out: .*", done.stdout) == ["Left out: booklet.png: a picture that is no track's cover."]
    assert state(tmp_path) == []


def test_table_of_flask(env, settings, tmp_path, album):
    """`flask upload` prints a table with a line for each file."""
    command = ("flask", "--app", "app", "upload", str(album), "--collection", COLLECTION)
    done = run(*command, env={**settings, **env})
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("\nuploaded  ") == 150
    assert "album/149.mp3" in done.stdout


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(env, tmp_path, album, bucket, sign):
    """After Ctrl-C or a crash, `--resume` sends what is missing, and every file is there once."""
    command = (*COMMAND, str(album), "--collection", COLLECTION, "--json")
    with Running(*command, env=env, log=tmp_path / "log") as uploading:
        uploading.wait_for("[5/150]")
        started = time.monotonic()
        status = uploading.stop(sign)
    assert time.monotonic() - started < 5
    assert status == (130 if sign == signal.SIGINT else -signal.SIGKILL), uploading.output()
    if sign == signal.SIGINT:
        assert "--resume" in uploading.output()
    (kept,) = state(tmp_path)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    done = run(*command, "--resume", env=env)
    assert done.returncode == 0, done.stdout
    assert "of 150 have arrived already" in done.stdout
    tracks, failed = arrived(done.stdout)
    assert failed == []
    assert len(tracks) == 150
    for place, track in tracks.items():
        assert bucket.get(track["path"]) == (tmp_path / place).read_bytes()
    assert state(tmp_path) == []


def interrupted(command, env, tmp_path, seen):
    """Run the command, and stop it once its output has `seen`."""
    with Running(*command, env=env, log=tmp_path / "log") as uploading:
        uploading.wait_for(seen)
        uploading.stop()


def test_changed_since(env, tmp_path, album, bucket):
    """A file that is changed after an interruption, and after another one, is uploaded as it is at last."""
    command = (*COMMAND, str(album), "--collection", COLLECTION, "--json")
    interrupted(command, env, tmp_path, "[40/150]")
    for path in album.iterdir():
        path.write_bytes(path.read_bytes() + b"more")
    # Some are registered as they are now, and few of these have arrived: as they were, many have.
    interrupted((*command, "--resume"), env, tmp_path, "[1/150]")
    done = run(*command, "--resume", env=env)
    assert done.returncode == 0, done.stdout
    tracks, failed = arrived(done.stdout)
    assert (len(tracks), failed) == (150, [])
    assert all(bucket.get(track["path"]) == (tmp_path / place).read_bytes() for place, track in tracks.items())


def test_session_is_over(env, tmp_path, album, client, bucket):
    """Where the session ended meanwhile, the rest goes into a new one, and what has arrived is not sent again."""
    command = (*COMMAND, str(album), "--collection", COLLECTION, "--json")
    interrupted(command, env, tmp_path, "[5/150]")
    (kept,) = state(tmp_path)
    (first,) = json.loads(kept.read_text())["sessions"]
    client.post(f"/v1/upload_session/{first}/close")
    interrupted((*command, "--resume"), env, tmp_path, "[5/")
    sessions = json.loads(kept.read_text())["sessions"]
    done = run(*command, "--resume", env=env)
    assert done.returncode == 0, done.stdout
    tracks, failed = arrived(done.stdout)
    assert (len(tracks), failed, len(sessions), sessions[0]) == (150, [], 2, first)
    assert all(bucket.get(track["path"]) == (tmp_path / place).read_bytes() for place, track in tracks.items())
    counts = [client.get(f"/v1/upload_session/{each}").json["upload_session"]["tracks"] for each in sessions]
    assert sum(count["uploaded"] for count in counts) == 150
    assert all(count["uploaded"] >= 5 for count in counts)


def test_unreadable(env, tmp_path, monkeypatch, album):
    """A file and a folder that cannot be read are failures; the others arrive."""
    # Whoever runs the tests may be allowed to read everything.
    access, scandir = os.access, os.scandir
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "closed").mkdir()
    (tmp_path / "more" / "a.mp3").write_bytes(b"ID3 bytes")

    def scan(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(os, "access", lambda path, mode: "003" not in str(path) and access(path, mode))
    paths = [str(album), str(tmp_path / "more"), "--collection", COLLECTION, "--json"]
    done = CliRunner(env=env).invoke(upload, paths)
    assert done.exit_code == 1, done.output
    tracks, failed = arrived(done.stdout)
    assert len(tracks) == 150
    assert sorted(each["file"] for each in failed) == [str(album / "003.mp3"), str(tmp_path / "more" / "closed")]
    assert {each["error"] for each in failed} == {"It cannot be read."}


def test_what_cannot_be_sent(env, tmp_path, bucket):
    """What was asked for and cannot be sent is told of with the reason, and the status is 1; the rest arrives."""
    folder, elsewhere = tmp_path / "album", tmp_path / "elsewhere"
    for each in (folder, elsewhere):
        each.mkdir()
    (elsewhere / "b.mp3").write_bytes(b"ID3 b")
    (folder / "a.mp3").write_bytes(b"ID3 a")
    (folder / "empty.mp3").touch()
    (folder / "gone.mp3").symlink_to("nowhere")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "linked.mp3").symlink_to(elsewhere / "b.mp3")
    os.mkfifo(folder / "pipe.mp3")
    done = run(*COMMAND, "album", "--collection", COLLECTION, "--json", env=env, cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    tracks, failed = arrived(done.stdout)
    assert {place: bucket.get(track["path"]) for place, track in tracks.items()} == {
        "album/a.mp3": b"ID3 a", "album/linked.mp3": b"ID3 b",
    }  # fmt: skip
    assert {os.path.basename(each["file"]): each["error"] for each in failed} == {
        "empty.mp3": "It is empty.",
        "gone.mp3": "It is a link that leads nowhere.",
        "linked": "It is a link to a folder; name that folder itself.",
        "pipe.mp3": "It is not a file.",
    }
    for name in ("empty.mp3", "gone.mp3", "linked", "pipe.mp3"):
        (folder / name).unlink()
    again = run(*COMMAND, "album", "--collection", COLLECTION, "--resume", env=env, cwd=tmp_path)
    assert again.returncode == 0, again.stdout


def test_hidden_file_by_name(env, tmp_path, bucket):
    """A hidden file that is named is meant."""
    (tmp_path / ".hidden.mp3").write_bytes(b"ID3 bytes")
    done = run(*COMMAND, ".hidden.mp3", "--collection", COLLECTION, "--json", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert list(arrived(done.stdout)[0]) == [".hidden.mp3"]


def test_folder_that_only_lists(env, tmp_path, monkeypatch):
    """In a folder that tells its names and opens nothing, each file is a failure; the others arrive."""
    # Whoever runs the tests may be allowed to read everything.
    look = os.stat
    for folder in ("open", "closed"):
        (tmp_path / "album" / folder).mkdir(parents=True)
        (tmp_path / "album" / folder / "a.mp3").write_bytes(b"ID3 bytes")

    def refuse(path, *args, **kwargs):
        if str(path).endswith("closed/a.mp3"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", refuse)
    done = CliRunner(env=env).invoke(upload, [str(tmp_path / "album"), "--collection", COLLECTION, "--json"])
    assert done.exit_code == 1, done.output
    tracks, (failure,) = arrived(done.stdout)
    assert list(tracks) == ["album/open/a.mp3"]
    assert failure == {"file": str(tmp_path / "album/closed/a.mp3"), "error": "It cannot be read."}


@pytest.mark.parametrize("key", ["full", "none"])
def test_cover_that_never_came(env, make_client, tmp_path, bucket, key):
    """A track without its cover is no success the next time either; with a full key, the cover is sent again."""
    (tmp_path / "a.mp3").write_bytes(b"ID3 bytes")
    (tmp_path / "a.png").write_bytes(b"no picture")
    client = make_client(API_KEYS=KEY)
    command = (*COMMAND, "a.mp3", "a.png", "--collection", COLLECTION, "--json")

    def again(status):
        done = run(*command, "--resume", env=env, cwd=tmp_path)
        assert done.returncode == status, done.stdout
        return arrived(done.stdout)

    with serve(client.application) as url:
        env |= {"LOADBAY_SERVER": url} | ({"LOADBAY_KEY": KEY} if key == "full" else {})
        done = run(*command, env=env, cwd=tmp_path)
        assert done.returncode == 1, done.stdout
        _, (failure,) = again(1)
        assert "without its cover" in failure["error"]
        (tmp_path / "a.png").write_bytes(png())
        tracks, failed = again(0 if key == "full" else 1)
    if key == "none":
        assert "only a full API key" in failed[0]["error"]
        return
    assert bucket.get(tracks["a.mp3"]["cover"]["path"]) == png()
    assert (failed, state(tmp_path)) == ([], [])


def test_failed_in_parts(env, tmp_path, client):
    """A file in parts that was found to be at fault is sent anew, and told of with the reason."""
    (tmp_path / "a.mp3").write_bytes(HTML + bytes(2 * 2**20))
    command = (*COMMAND, "a.mp3", "--collection", COLLECTION, "--json", "--multipart-from", "1")
    done = run(*command, env=env, cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    _, (first,) = arrived(done.stdout)
    assert "not audio" in first["error"]
    _, (second,) = arrived(run(*command, "--resume", env=env, cwd=tmp_path).stdout)
    assert second == first
    (kept,) = state(tmp_path)
    (session_id,) = json.loads(kept.read_text())["sessions"]
    found = client.get(f"/v1/upload/{session_id}/track").json["tracks"]
    assert [track["status"] for track in found] == ["failed", "failed"]


def test_options(env, make_client, tmp_path, bucket):
    """`--server` and `--key` do what their variables do, and go before them."""
    (tmp_path / "a.mp3").write_bytes(b"ID3 bytes")
    other = {**env, "LOADBAY_SERVER": "http://127.0.0.1:9", "LOADBAY_KEY": "loadbay_full_wrong"}
    with serve(make_client(ALLOW_ANONYMOUS="", API_KEYS=KEY).application) as url:
        done = run(
            *COMMAND,
            "a.mp3",
            "--collection",
            COLLECTION,
            "--server",
            url,
            "--key",
            KEY,
            "--json",
            env=other,
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stdout
    assert KEY not in done.stdout
    tracks, _ = arrived(done.stdout)
    assert bucket.get(tracks["a.mp3"]["path"]) == b"ID3 bytes"


@pytest.mark.parametrize("how", ["--json", "--parallel=2"])
def test_name_that_is_no_text(env, tmp_path, bucket, how):
    """A file whose name is not UTF-8 arrives under what can be said of it."""
    folder = tmp_path / os.fsdecode(b"No\xebl")
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.mp3")).write_bytes(b"ID3 bytes")
    done = run(*COMMAND, str(folder), "--collection", COLLECTION, how, env=env)
    assert done.returncode == 0, done.stdout
    assert "No\ufffdl/caf\ufffd.mp3" in done.stdout


def test_some_failed(env, tmp_path, bucket):
    """A file that the service refuses is told of with the reason; the others arrive, and the status is 1."""
    good, bad = tmp_path / "good.mp3", tmp_path / "   "
    for path in (good, bad):
        path.write_bytes(b"ID3 bytes")
    done = run(*COMMAND, str(good), str(bad), "--collection", COLLECTION, "--json", env=env)
    assert done.returncode == 1, done.stdout
    tracks, (failure,) = arrived(done.stdout)
    assert list(tracks) == ["good.mp3"]
    assert failure["file"] == str(bad)
    assert "file_name" in failure["error"]
    bad.rename(tmp_path / "better.mp3")
    again = run(*COMMAND, str(good), str(tmp_path / "better.mp3"), "--collection", COLLECTION, env=env)
    assert again.returncode == 0, again.stdout


def test_odd_names(env, tmp_path):
    """Marks in a name that the service does not take are replaced, and letters that the output lacks are spelt."""
    for name in ("a\u202eb.mp3", "日本 🎵.mp3"):
        (tmp_path / name).write_bytes(b"ID3 bytes")
    paths = sorted(map(str, tmp_path.glob("*.mp3")))
    lacking = {**env, "PYTHONIOENCODING": "ascii"}
    done = run(*COMMAND, *paths, "--collection", COLLECTION, "--json", env=lacking)
    assert done.returncode == 0, done.stdout
    tracks, failed = arrived(done.stdout)
    assert failed == []
    assert sorted(track["file_name"] for track in tracks.values()) == ["a_b.mp3", "日本 🎵.mp3"]
    table = run(*COMMAND, *paths, "--collection", COLLECTION, env=lacking)
    assert table.returncode == 0, table.stdout
    assert "\\u65e5\\u672c" in table.stdout


def test_record_that_cannot_be_kept(env, tmp_path):
    """Where nothing can be kept to go on with, that is told of once, and all arrives."""
    (tmp_path / "a.mp3").write_bytes(b"ID3")
    (tmp_path / "file").write_text("no folder")
    env["XDG_STATE_HOME"] = str(tmp_path / "file")
    done = run(*COMMAND, str(tmp_path / "a.mp3"), "--collection", COLLECTION, "--json", env=env)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("No record can be kept for --resume") == 1
    assert len(arrived(done.stdout)[0]) == 1


def test_refused_cover(env, make_client, tmp_path, bucket):
    """A track whose cover the store refuses has arrived all the same, and what is missing is told of by name."""
    with serve(make_client(MAX_COVER_BYTES="1000").application) as url:
        (tmp_path / "a.mp3").write_bytes(b"ID3")
        (tmp_path / "a.png").write_bytes(png() + bytes(2000))
        env["LOADBAY_SERVER"] = url
        done = run(*COMMAND, str(tmp_path / "a.mp3"), str(tmp_path / "a.png"), "--collection", COLLECTION, env=env)
        assert done.returncode == 1, done.stdout
        assert "without its cover" in done.stdout
        assert "The store refused" in done.stdout
        session_id = json.loads(state(tmp_path)[0].read_text())["sessions"][0]
        (track,) = requests.get(f"{url}/v1/upload/{session_id}/track", timeout=10).json()["tracks"]
    assert (track["status"], bucket.get(track["path"])) == ("uploaded", b"ID3")


def test_wrong_key(env, make_client, tmp_path):
    """A key that is none ends it with a sentence that does not repeat it."""
    (tmp_path / "a.mp3").write_bytes(b"ID3")
    with serve(make_client(ALLOW_ANONYMOUS="").application) as url:
        wrong = {**env, "LOADBAY_SERVER": url, "LOADBAY_KEY": "loadbay_full_wrong"}
        done = run(*COMMAND, str(tmp_path / "a.mp3"), "--collection", COLLECTION, env=wrong)
    assert done.returncode == 1
    assert "LOADBAY_KEY" in done.stdout
    assert "loadbay_full_wrong" not in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("nowhere.mp3",), 2, "does not exist"),
        (("--collection", COLLECTION), 2, "Missing argument"),
        ((".", "--collection", "no-uuid"), 2, "not a valid UUID"),
        (("empty",), 1, "nothing to upload"),
    ],
)
def test_wrong_use(env, tmp_path, arguments, status, said):
    """What makes no sense is told before anything is sent."""
    (tmp_path / "empty").mkdir()
    done = run(*COMMAND, *arguments, env=env, cwd=tmp_path)
    assert done.returncode == status, done.stdout
    assert said in done.stdout


def test_bars(env, tmp_path, album):
    """A terminal shows a bar for the whole, which ends full, and one for each file on its way."""
    service, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for number in (0, 1, 2):
            os.dup2(there, number)
        command = [*COMMAND, str(album), "--collection", COLLECTION]
        os.execve(sys.executable, command, {**os.environ, **env})
    os.close(there)
    shown = bytearray()
    while True:
        try:
            piece = os.read(service, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(service)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    text = shown.decode()
    assert "Total" in text
    assert "100%" in text
    assert "149.mp3" in text
