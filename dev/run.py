"""`make run`: the store, the service and the worker, until Ctrl-C. Missing tables and buckets are created.

Procfile.dev lists the processes. PORT and STORE_PORT set the ports, DATA_DIR the folder for all data.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from secrets import token_urlsafe
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from flask.cli import load_dotenv
from honcho.environ import parse_procfile
from honcho.manager import Manager

from dev.store import port_is_taken

ROOT = Path(__file__).resolve().parent.parent
README_URL = "http://127.0.0.1:5000"


class Runner(Manager):  # type: ignore[misc]
    """honcho's manager, which can also be stopped before all of its processes have started."""

    def terminate(self) -> None:
        """Stop all processes, once they have started."""
        if self._all_started():
            super().terminate()
        else:
            threading.Timer(0.05, self.terminate).start()


def environment() -> dict[str, str]:
    """Return the processes' environment: .env and .flaskenv as `flask` reads them, with this run's ports and folder."""
    load_dotenv()
    env = {"PORT": "5000", **os.environ}
    env["STORE_PORT"] = env.get("STORE_PORT") or str(urlsplit(env["S3_ENDPOINT"]).port or 8333)
    env["S3_ENDPOINT"] = f"http://127.0.0.1:{env['STORE_PORT']}"
    env["FLASK_RUN_PORT"] = env["PORT"]
    # The store notifies the service of uploads; see dev/store.py.
    env["STORE_EVENT_URL"] = f"http://127.0.0.1:{env['PORT']}/v1/store_event"
    env["STORE_EVENT_SECRET"] = env.get("STORE_EVENT_SECRET") or token_urlsafe(32)
    if folder := env.get("DATA_DIR"):
        env |= {"STORE_DATA": f"{folder}/store", "DATABASE_URL": f"sqlite:///{folder}/loadbay.db"}
    # For Procfile.dev to find the programs of this virtual environment, and to show their output line by line.
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"
    env["PYTHONUNBUFFERED"] = "1"
    return env


def find_conflict(env: dict[str, str]) -> str | None:
    """Return why the run cannot start, or None."""
    for name, program in (("STORE_PORT", "store"), ("PORT", "service")):
        port = env[name]
        if not port.isdecimal() or not 0 < int(port) < 65536:
            return f"{name} must be a port number, not '{port}'."
        if port_is_taken(int(port)):
            return (
                f"Port {port} for the {program} is in use. Stop what listens there, or choose another port: "
                f"'make run {name}={int(port) + 1}'."
            )
    if env["PORT"] == env["STORE_PORT"]:
        return "PORT and STORE_PORT must differ."
    return None


def tour(base: str) -> str:
    """Return the README's curl tour, for a service at `base`."""
    block = re.search(r"<!-- tour -->\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None, "README.md has no tour."
    return block[1].replace(README_URL, base).strip()


def responds(url: str) -> bool:
    """Return whether an HTTP server responds at `url`, with any status."""
    try:
        with urlopen(url, timeout=1):
            return True
    except HTTPError:
        return True
    except OSError:
        return False


def print_banner(base: str) -> None:
    """Wait for the service, which waits for the store, then print its URLs."""
    while not responds(base):
        time.sleep(0.1)
    print(
        f"\nLoadbay is running at {base} (Ctrl-C stops it; uploads are kept).\n\n"
        f"  POST {base}/v1/upload_session\n"
        f"  GET  {base}/v1/upload_session/UPLOAD_SESSION_ID\n"
        f"  POST {base}/v1/upload/UPLOAD_SESSION_ID/track\n"
        f"  All endpoints: {base}/docs\n\n"
        f"To upload in a browser, open {base}.\n\n"
        f"To try the API, paste this into another terminal:\n\n{tour(base)}\n",
        flush=True,
    )


def main() -> int:
    """Run all processes until a signal arrives or one of them exits. Return the exit status."""
    os.chdir(ROOT)
    env = environment()
    if message := find_conflict(env):
        print(message, file=sys.stderr)
        return 1
    runner = Runner()
    for name, command in parse_procfile(Path("Procfile.dev").read_text()).processes.items():
        runner.add_process(name, command, env=env)
    # Closing the terminal counts as Ctrl-C.
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    threading.Thread(target=print_banner, args=(f"http://127.0.0.1:{env['PORT']}",), daemon=True).start()
    runner.loop()
    # honcho reports SIGINT and SIGTERM, a regular stop, as 130 and 143.
    return 0 if runner.returncode in (130, 143) else runner.returncode or 1


if __name__ == "__main__":
    sys.exit(main())
