"""Firefox and WebKitGTK, driven by the commands of WebDriver: https://www.w3.org/TR/webdriver2/

Firefox takes them from Marionette, which is part of it; WebKitGTK from WebKitWebDriver. Debian has both browsers, and
no geckodriver.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from dev.store import free_port

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key of an element's id, as the standard says."""

TIMEOUT = 60
PREFERENCES = {
    "app.update.disabledForTesting": True,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "intl.accept_languages": "en-GB, en",
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "remote.prefs.recommended": True,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


class WebDriverError(Exception):
    """The browser refused a command."""


class Browser:
    """A browser with one window. Elements are those that scripts return."""

    def command(self, name: str, **parameters: Any) -> Any:
        """Send a command, such as "Navigate", and return its value."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop the browser."""
        raise NotImplementedError

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def visit(self, url: str) -> None:
        """Go to a page."""
        self.command("Navigate", url=url)

    def run(self, script: str, *args: Any) -> Any:
        """Return what the body of a function returns. Its arguments are `arguments`."""
        return self.command("ExecuteScript", script=script, args=list(args))

    def choose(self, element: dict[str, str], *paths: Path) -> None:
        """Choose files in a file input, as the file dialog does."""
        self.command("ElementSendKeys", id=element[ELEMENT], text="\n".join(map(str, paths)))

    def click(self, element: dict[str, str]) -> None:
        """Click on an element as a mouse does."""
        self.command("ElementClick", id=element[ELEMENT])

    def wait(self, script: str, *args: Any, seconds: float = TIMEOUT) -> Any:
        """Return what a function's body returns, as soon as that is not nothing."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := self.run(script, *args):
                return value
            time.sleep(0.1)
        raise AssertionError(f"Not in {seconds} s: {script} {args}. The page has: {self.run(PAGE_TEXT)}")


PAGE_TEXT = "return document.querySelector('loadbay-uploader')?.shadowRoot.textContent"


class Firefox(Browser):
    """Firefox, without a window on the screen."""

    def __init__(self, program: str) -> None:
        self.folder, port = Path(tempfile.mkdtemp(prefix="loadbay-firefox-")), free_port()
        preferences = {**PREFERENCES, "marionette.port": port}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in preferences.items()]
        (self.folder / "user.js").write_text("\n".join(lines))
        command = [program, "--headless", "--marionette", "--no-remote", "--profile", str(self.folder)]
        self.process = start(command, HOME=str(self.folder))
        self.socket = connect(port, self.process)
        self.received, self.count = b"", 0
        self.read()
        self.command("NewSession", capabilities={"alwaysMatch": {}})

    def command(self, name: str, **parameters: Any) -> Any:
        """Send a command to Marionette: https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html"""
        self.count += 1
        message = json.dumps([0, self.count, f"WebDriver:{name}", parameters]).encode()
        self.socket.sendall(str(len(message)).encode() + b":" + message)
        _, _, error, value = self.read()
        if error:
            raise WebDriverError(f"{name}: {error['error']}: {error['message']}")
        return value["value"] if isinstance(value, dict) and set(value) == {"value"} else value

    def read(self) -> Any:
        """Return the next message."""
        while b":" not in self.received:
            self.received += self.receive()
        length, _, self.received = self.received.partition(b":")
        while len(self.received) < int(length):
            self.received += self.receive()
        message, self.received = self.received[: int(length)], self.received[int(length) :]
        return json.loads(message)

    def receive(self) -> bytes:
        """Return further bytes."""
        data = self.socket.recv(65536)
        if not data:
            raise WebDriverError("Firefox has ended.")
        return data

    def close(self) -> None:
        """Stop Firefox and remove its profile."""
        self.socket.close()
        stop(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)


class WebKitGTK(Browser):
    """WebKitGTK's MiniBrowser, on a screen of its own that nobody sees."""

    METHODS = {
        "Navigate": ("POST", "url"),
        "ExecuteScript": ("POST", "execute/sync"),
        "ElementSendKeys": ("POST", "element/{id}/value"),
        "ElementClick": ("POST", "element/{id}/click"),
    }

    def __init__(self, program: str, browser: str) -> None:
        port, self.folder = free_port(), Path(tempfile.mkdtemp(prefix="loadbay-webkit-"))
        self.url, self.session = f"http://127.0.0.1:{port}", requests.Session()
        screen = [shutil.which("xvfb-run") or "xvfb-run", "--auto-servernum", program, f"--port={port}"]
        # Its sandbox needs namespaces, which containers may lack.
        sandbox = {"WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1", "LIBGL_ALWAYS_SOFTWARE": "1"}
        self.process = start(
            screen, HOME=str(self.folder), XDG_RUNTIME_DIR=str(self.folder), LANG="en_GB.UTF-8", **sandbox
        )
        connect(port, self.process).close()
        options = {"binary": browser, "args": ["--automation"]}
        capabilities = {"alwaysMatch": {"webkitgtk:browserOptions": options}}
        self.url += f"/session/{self.send('POST', 'session', capabilities=capabilities)['sessionId']}"

    def command(self, name: str, **parameters: Any) -> Any:
        """Send a command over HTTP."""
        method, path = self.METHODS[name]
        return self.send(method, path.format(**parameters), **parameters)

    def send(self, method: str, path: str, **parameters: Any) -> Any:
        """Return the value of a response."""
        response = self.session.request(method, f"{self.url}/{path}", json=parameters, timeout=TIMEOUT)
        value = response.json()["value"]
        if not response.ok:
            raise WebDriverError(f"{path}: {value['error']}: {value['message']}")
        return value

    def close(self) -> None:
        """Stop the browser, its driver and its screen."""
        try:
            self.session.request("DELETE", self.url, timeout=TIMEOUT)
        finally:
            stop(self.process)
            shutil.rmtree(self.folder, ignore_errors=True)


def start(command: list[str], **environment: str) -> subprocess.Popen[bytes]:
    """Start a program and its children as one group."""
    log = tempfile.TemporaryFile()  # noqa: SIM115
    return subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=log,
        stderr=log,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program and its children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def connect(port: int, process: subprocess.Popen[bytes]) -> socket.socket:
    """Connect to a program that was started, as soon as it listens."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise WebDriverError(f"{process.args!r} does not listen.")


def find_firefox() -> Callable[[], Browser] | None:
    """Return what starts Firefox, or None if it is not installed."""
    program = os.environ.get("FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")
    return (lambda: Firefox(program)) if program else None


def find_webkit() -> Callable[[], Browser] | None:
    """Return what starts WebKitGTK, or None if it is not installed."""
    program = shutil.which("WebKitWebDriver")
    browsers = sorted(Path("/usr/lib").glob("*/webkit2gtk-*/MiniBrowser"))
    return (
        (lambda: WebKitGTK(program, str(browsers[-1]))) if program and browsers and shutil.which("xvfb-run") else None
    )
