"""The commands: what prepares, runs and stops the service, as processes of their own."""

from __future__ import annotations

import signal
import socket
import sys
import time
from contextlib import contextmanager

import pytest
import requests

from dev.store import free_port, port_is_taken
from support.api import COLLECTION
from support.processes import TIMEOUT, running_ids, wait_until

KEY = "a-key-for-the-tests-0123"


@pytest.fixture
def ports(tmp_path):
    """What moves `make run` to free ports and a folder of its own."""
    return {"PORT": str(free_port()), "STORE_PORT": str(free_port()), "DATA_DIR": str(tmp_path / "data")}


def dev_run(processes, ports, tmp_path):
    """`make run` without make."""
    return processes.start(sys.executable, "-m", "dev.run", env=ports, log=tmp_path / "log")


@contextmanager
def listening():
    """A port that somebody else has."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield s.getsockname()[1]


def test_prepare_twice(settings, make_database, processes):
    """`flask prepare` makes the tables; the second time there is nothing to do."""
    settings["DATABASE_URL"] = make_database(empty=True)
    env = {**settings, "CREATE_MISSING": "0"}
    first, second = (processes.run("flask", "--app", "app", "prepare", env=env) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stdout + second.stdout
    assert "Applied migration 0001" in first.stdout
    assert second.stdout == "Nothing to do.\n"


def test_prepare_without_store(settings, processes):
    """A release fails, with a sentence, when the bucket cannot be made sure of."""
    done = processes.run(
        "flask", "--app", "app", "prepare", env={**settings, "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    )
    assert done.returncode != 0
    assert "Error: The object store is unreachable." in done.stdout
    assert "Traceback" not in done.stdout


def test_bad_setting(processes):
    """A bad setting stops the start with a sentence that names it."""
    done = processes.run(
        "gunicorn", "--check-config", "wsgi:app", env={"S3_ENDPOINT": "nonsense", "S3_BUCKET": "tracks"}
    )
    assert done.returncode != 0
    assert "S3_ENDPOINT must be a URL" in done.stdout


@pytest.mark.parametrize("arguments", [("--help",), ("prepare",), ("run",)])
def test_flask_without_settings_prints_no_traceback(processes, arguments):
    """A missing setting is one line of `flask`, and its help is shown all the same."""
    done = processes.run("flask", "--app", "app", *arguments, env={"FLASK_SKIP_DOTENV": "1"})
    assert "S3_ENDPOINT must be set." in done.stdout
    assert "Traceback" not in done.stdout
    assert ("shell" in done.stdout) == (arguments == ("--help",))


def test_flask_run_without_store(settings, tmp_path, processes):
    """`flask run` alone comes up, serves what needs no store, and says how to start one."""
    port = str(free_port())
    env = {**settings, "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    with processes.start("flask", "--app", "app", "run", "--port", port, env=env, log=tmp_path / "log") as service:
        service.wait_for_output("make store", "make run", "Running on")
        response = requests.post(
            f"http://127.0.0.1:{port}/v1/upload_session", json={"collection_id": COLLECTION}, timeout=10
        )
    assert response.status_code == 200, response.text


def test_run_stop_run_again(ports, tmp_path, processes):
    """`make run` comes up, ends with Ctrl-C and all that came from it, and has what was uploaded when it is back."""
    base = f"http://127.0.0.1:{ports['PORT']}"
    with dev_run(processes, ports, tmp_path) as first:
        first.wait_for_output(f"Loadbay is running at {base}", f"curl -sS {base}/v1/upload_session")
        payload = {"collection_id": COLLECTION, "track": {"file_name": "kept.bin"}}
        created = requests.post(f"{base}/v1/upload_session", json=payload, timeout=10).json()
        assert requests.put(created["track_upload"]["upload_url"], data=b"kept", timeout=10).status_code == 200
        family = first.process_ids()
        assert len(family) >= 3, family
        assert first.stop(signal.SIGINT) == 0, first.output()
    assert not running_ids(family), first.output()
    with dev_run(processes, ports, tmp_path) as second:
        second.wait_for_output(f"Loadbay is running at {base}")
        read = requests.get(f"{base}/v1/upload_session/{created['upload_session_id']}", timeout=10)
        assert read.status_code == 200, read.text
        url = f"{base}/v1/upload/{created['upload_session_id']}/track/{created['track_id']}/complete"
        # A store that has just come up may not find its volumes for a moment; until then the answer is a 503, or late.
        wait_until(lambda: requests.post(url, timeout=TIMEOUT).status_code == 200, "The upload is not found again.")
        track = requests.post(url, timeout=10).json()["track"]
        assert (track["status"], track["size"]) == ("uploaded", 4)
        family = second.process_ids()
        assert second.stop(signal.SIGTERM) == 0, second.output()
    assert not running_ids(family), second.output()
    assert not any(port_is_taken(int(ports[name])) for name in ("PORT", "STORE_PORT"))


@pytest.mark.parametrize("after", [0.0, 0.3, 0.7])
def test_stop_at_once(ports, tmp_path, after, processes):
    """Ctrl-C while everything is about to start leaves nothing behind either."""
    with dev_run(processes, ports, tmp_path) as begun:
        wait_until(lambda: "started" in begun.output(), "Nothing was started.")
        time.sleep(after)
        family = begun.process_ids()
        begun.stop(signal.SIGINT)
    wait_until(lambda: not running_ids(family), begun.output())
    assert not port_is_taken(int(ports["STORE_PORT"]))


@pytest.mark.parametrize("name", ["PORT", "STORE_PORT"])
def test_port_is_taken(ports, name, processes):
    """Nothing is started where a port is taken; the sentence names it and says what to do."""
    with listening() as port:
        done = processes.run(sys.executable, "-m", "dev.run", env={**ports, name: str(port)})
    assert done.returncode == 1
    assert f"Port {port} for the " in done.stdout
    assert f"make run {name}=" in done.stdout
    assert "started" not in done.stdout


def test_store_that_dies_stops_the_run(ports, tmp_path, processes):
    """When the store ends, so does the run, with a failure."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store").write_text("not a folder")
    done = processes.run(sys.executable, "-m", "dev.run", env=ports)
    assert done.returncode != 0


def test_gunicorn_is_closed_by_default(settings, tmp_path, processes):
    """Without keys, gunicorn serves, creating a session is 401, and the log says how to make a key."""
    port = str(free_port())
    env = {**settings, "ALLOW_ANONYMOUS": "", "PORT": port, "WEB_CONCURRENCY": "1"}
    with processes.start("gunicorn", "wsgi:app", env=env, log=tmp_path / "log") as service:
        service.wait_for_http(f"http://127.0.0.1:{port}/")
        response = requests.post(f"http://127.0.0.1:{port}/v1/upload_session", json={}, timeout=10)
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
        assert "flask --app app create-key" in service.output()
        assert service.stop(signal.SIGTERM) == 0


def test_gunicorn_with_a_key(settings, tmp_path, processes):
    """With a key, gunicorn takes it, and its log keeps quiet about keys."""
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
