"""Commands that prepare, run and stop the service, as processes of their own."""

from __future__ import annotations

import re
import signal
import socket
import sys
import time
from contextlib import contextmanager
from uuid import uuid4

import pytest
import requests

from dev.store import free_port, port_is_taken
from support.api import COLLECTION
from support.processes import TIMEOUT, running_ids, wait_until

KEY = "a-key-for-the-tests-0123"


@pytest.fixture
def dev_settings(tmp_path):
    """Settings that move `make run` to free ports and a folder of its own."""
    return {"PORT": str(free_port()), "STORE_PORT": str(free_port()), "DATA_DIR": str(tmp_path / "data")}


def start_dev_run(processes, dev_settings, tmp_path):
    """Return `make run` as a process, without make."""
    return processes.start(sys.executable, "-m", "dev.run", env=dev_settings, log=tmp_path / "log")


def is_verified(url):
    """Return whether a track can be completed now, with the status `uploaded`."""
    response = requests.post(url, timeout=TIMEOUT)
    return response.status_code == 200 and response.json()["track"]["status"] == "uploaded"


@contextmanager
def occupied_port():
    """Listen on a free port, and yield it."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield s.getsockname()[1]


def test_prepare_creates_the_tables_once(settings, make_database, processes):
    """`flask prepare` creates the tables; the second time there is nothing to do."""
    settings["DATABASE_URL"] = make_database(empty=True)
    # Of objects that are there already, a new database knows nothing, and `prepare` says so.
    env = {**settings, "CREATE_MISSING": "0", "S3_PREFIX": f"{uuid4()}/"}
    first, second = (processes.run("flask", "--app", "app", "prepare", env=env) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stdout + second.stdout
    assert "Applied migration 0001" in first.stdout
    assert second.stdout == "Nothing to do.\n"


def test_prepare_fails_without_the_store(settings, processes):
    """A release fails with an error if the bucket cannot be created."""
    result = processes.run(
        "flask", "--app", "app", "prepare", env={**settings, "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    )
    assert result.returncode != 0
    assert "Error: The object store is unreachable." in result.stdout
    assert "Traceback" not in result.stdout


def test_invalid_setting_aborts_the_start(processes):
    """An invalid setting aborts the start with an error that names it."""
    result = processes.run(
        "gunicorn", "--check-config", "wsgi:app", env={"S3_ENDPOINT": "nonsense", "S3_BUCKET": "tracks"}
    )
    assert result.returncode != 0
    assert "S3_ENDPOINT must be a URL" in result.stdout


@pytest.mark.parametrize("arguments", [("--help",), ("prepare",), ("run",)])
def test_flask_without_settings_prints_no_traceback(processes, arguments):
    """A missing setting is one line of `flask`, and its help is shown all the same."""
    result = processes.run("flask", "--app", "app", *arguments, env={"FLASK_SKIP_DOTENV": "1"})
    assert "S3_ENDPOINT must be set." in result.stdout
    assert "Traceback" not in result.stdout
    assert ("shell" in result.stdout) == (arguments == ("--help",))


def test_help_lists_the_commands(settings, processes):
    """`flask --help` has a line for each command, and `flask worker --help` the command's options."""
    env = {**settings, "CREATE_MISSING": "0"}
    listing = processes.run("flask", "--app", "app", "--help", env=env).stdout
    assert re.search(r"^  worker +Deliver webhooks, notice uploads", listing, re.MULTILINE), listing
    assert re.findall(r"^  ([a-z]+-[a-z]+) +\S", listing, re.MULTILINE) == [
        "copy-database", "create-key", "list-keys", "revoke-key"
    ]  # fmt: skip
    help_text = processes.run("flask", "--app", "app", "worker", "--help", env=env).stdout
    assert help_text.startswith("Usage: flask worker [OPTIONS]")
    assert "--no-sweep" in help_text


@pytest.mark.parametrize(
    ("line", "completions"),
    [("flask --app app worker --no-s", ["--no-sweep"]), ("flask --app app webhooks re", ["remove", "replay"])],
)
def test_shell_completes_commands_and_options(settings, processes, line, completions):
    """The shell's completion of `flask` knows the options of a command, and the commands of a group."""
    request = {"COMP_WORDS": line, "COMP_CWORD": "4", "_FLASK_COMPLETE": "bash_complete", "CREATE_MISSING": "0"}
    completed = processes.run("flask", env={**settings, **request}).stdout
    assert completed == "".join(f"plain,{name}\n" for name in completions)


def test_flask_run_starts_without_the_store(settings, tmp_path, processes):
    """`flask run` starts without the store, serves requests that need none, and tells how to start one."""
    port = str(free_port())
    env = {**settings, "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    with processes.start("flask", "--app", "app", "run", "--port", port, env=env, log=tmp_path / "log") as service:
        service.wait_for_output("make store", "make run", "Running on")
        response = requests.post(
            f"http://127.0.0.1:{port}/v1/upload_session", json={"collection_id": COLLECTION}, timeout=10
        )
    assert response.status_code == 200, response.text


def test_make_run_keeps_its_data(dev_settings, tmp_path, processes):
    """`make run` stops with Ctrl-C and all its processes, and has its data when it is started again."""
    base = f"http://127.0.0.1:{dev_settings['PORT']}"
    with start_dev_run(processes, dev_settings, tmp_path) as first:
        first.wait_for_output(f"Loadbay is running at {base}", f"curl -sS {base}/v1/upload_session")
        payload = {"collection_id": COLLECTION, "track": {"file_name": "track.bin"}}
        created = requests.post(f"{base}/v1/upload_session", json=payload, timeout=10).json()
        assert requests.put(created["track_upload"]["upload_url"], data=b"data", timeout=10).status_code == 200
        process_ids = first.process_ids()
        assert len(process_ids) >= 3, process_ids
        assert first.stop(signal.SIGINT) == 0, first.output()
    assert not running_ids(process_ids), first.output()
    with start_dev_run(processes, dev_settings, tmp_path) as second:
        second.wait_for_output(f"Loadbay is running at {base}")
        session = requests.get(f"{base}/v1/upload_session/{created['upload_session_id']}", timeout=10)
        assert session.status_code == 200, session.text
        url = f"{base}/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/complete"
        # A store that has just started may not find its volumes yet; until then the response is a 503, or late.
        wait_until(lambda: is_verified(url), "The upload is not verified.")
        assert requests.post(url, timeout=10).json()["track"]["size"] == 4
        process_ids = second.process_ids()
        assert second.stop(signal.SIGTERM) == 0, second.output()
    assert not running_ids(process_ids), second.output()
    assert not any(port_is_taken(int(dev_settings[name])) for name in ("PORT", "STORE_PORT"))


@pytest.mark.parametrize("delay", [0.0, 0.3, 0.7])
def test_early_stop_leaves_no_processes(dev_settings, tmp_path, delay, processes):
    """Ctrl-C during the start leaves no processes."""
    with start_dev_run(processes, dev_settings, tmp_path) as process:
        wait_until(lambda: "started" in process.output(), "Nothing is started.")
        time.sleep(delay)
        process_ids = process.process_ids()
        process.stop(signal.SIGINT)
    wait_until(lambda: not running_ids(process_ids), process.output())
    assert not port_is_taken(int(dev_settings["STORE_PORT"]))


@pytest.mark.parametrize("name", ["PORT", "STORE_PORT"])
def test_occupied_port_is_reported(dev_settings, name, processes):
    """If a port is in use, nothing is started, and the error names the port and a solution."""
    with occupied_port() as port:
        result = processes.run(sys.executable, "-m", "dev.run", env={**dev_settings, name: str(port)})
    assert result.returncode == 1
    assert f"Port {port} for the " in result.stdout
    assert f"make run {name}=" in result.stdout
    assert "started" not in result.stdout


def test_failed_store_stops_the_run(dev_settings, tmp_path, processes):
    """If the store exits, the run fails."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store").write_text("not a folder")
    result = processes.run(sys.executable, "-m", "dev.run", env=dev_settings)
    assert result.returncode != 0


def test_gunicorn_rejects_sessions_without_a_key(settings, tmp_path, processes):
    """Without keys, creating a session is 401, and the log tells how to create a key."""
    port = str(free_port())
    env = {**settings, "ALLOW_ANONYMOUS": "", "PORT": port, "WEB_CONCURRENCY": "1"}
    with processes.start("gunicorn", "wsgi:app", env=env, log=tmp_path / "log") as service:
        service.wait_for_http(f"http://127.0.0.1:{port}/")
        response = requests.post(f"http://127.0.0.1:{port}/v1/upload_session", json={}, timeout=10)
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
        assert "flask --app app create-key" in service.output()
        assert service.stop(signal.SIGTERM) == 0


def test_gunicorn_accepts_a_key(settings, tmp_path, processes):
    """A key of API_KEYS is accepted, and is not in the log."""
    port = str(free_port())
    env = {**settings, "ALLOW_ANONYMOUS": "", "API_KEYS": KEY, "PORT": port, "WEB_CONCURRENCY": "1"}
    with processes.start("gunicorn", "wsgi:app", env=env, log=tmp_path / "log") as service:
        service.wait_for_http(f"http://127.0.0.1:{port}/")
        response = requests.post(
            f"http://127.0.0.1:{port}/v1/upload_session",
            json={"collection_id": COLLECTION},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=10,
        )
        assert response.status_code == 200, response.text
        assert "API_KEYS" not in service.output()
        assert KEY not in service.output()
